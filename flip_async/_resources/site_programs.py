"""`flip.site(site_id).programs`."""

from operator import attrgetter
from typing import Final, Unpack

import attrs

from flip_async._endpoint import Endpoint
from flip_async._http._pages import PAGE_SIZE, Pages
from flip_async._http._session import Session
from flip_async._options import CallOptions
from flip_async.models.devices import DeviceType
from flip_async.models.programs import Program

LIST: Final = Endpoint(
    method="GET", path="/v1/site/{siteId}/programs", token="site", returns=list[Program]
)
GET: Final = Endpoint(
    method="GET", path="/v1/site/{siteId}/program/{id}", token="site", returns=Program
)


@attrs.frozen
class SitePrograms:
    """The programs that a site may take part in."""

    _session: Session
    _site_id: str

    def list(
        self,
        *,
        zip_code: str,
        device_type: DeviceType | str,
        skip: int = 0,
        limit: int = PAGE_SIZE,
        max_items: int | None = None,
        **options: Unpack[CallOptions],
    ) -> Pages[Program]:
        """List the programs for a zip code and a type of device.

        Args:
            zip_code: In the sandbox, 88800, 88801 and 88802 match test programs.
            device_type: `BATTERY` or `EV_CHARGER`.
            skip: How many to leave out at the beginning.
            limit: How many to ask for in one request.
            max_items: How many to give at most, over all pages.
            **options: What every method takes.

        Returns:
            An async iterator over programs; `.pages()` gives whole pages, `await` a list.

        Source:
            https://docs.flip.energy/api-6038147
        """
        return self._session.pages(
            LIST,
            self._site_id,
            key=attrgetter("id"),
            skip=skip,
            limit=limit,
            max_items=max_items,
            query={"zip_code": zip_code, "device_type": device_type},
            **options,
        )

    async def get(self, program_id: str, **options: Unpack[CallOptions]) -> Program:
        """Read a program.

        Args:
            program_id: Flip's id of the program.
            **options: What every method takes.

        Returns:
            The program.

        Source:
            https://docs.flip.energy/api-6038146
        """
        return await self._session.call(GET, self._site_id, program_id, **options)
