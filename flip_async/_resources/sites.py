"""`flip.sites`: all sites of the organisation."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Final, Unpack

import attrs

from flip_async._endpoint import Endpoint
from flip_async._http._pages import PAGE_SIZE, Pages
from flip_async._http._session import Session
from flip_async._options import CallOptions
from flip_async.models._base import UNSET, UnsetType
from flip_async.models.commissioning import Commission, CommissionResult
from flip_async.models.devices import DeviceCreate
from flip_async.models.enrollments import EnrollmentCreate
from flip_async.models.sites import CommissionSite, Site

LIST: Final = Endpoint(method="GET", path="/v1/sites", token="client", returns=list[Site])
COMMISSION: Final = Endpoint(
    method="POST", path="/v1/commission", token="client", returns=CommissionResult
)


@attrs.frozen
class Sites:
    """All sites of the organisation, and new ones."""

    _session: Session

    def list(
        self,
        *,
        skip: int = 0,
        limit: int = PAGE_SIZE,
        max_items: int | None = None,
        **options: Unpack[CallOptions],
    ) -> Pages[Site]:
        """List the sites.

        Args:
            skip: How many to leave out at the beginning.
            limit: How many to ask for in one request; the server may give fewer.
            max_items: How many to give at most, over all pages.
            **options: What every method takes.

        Returns:
            An async iterator over sites; `.pages()` gives whole pages, `await` a list.

        Raises:
            InvalidArgumentError: A number is out of range.

        Source:
            https://docs.flip.energy/api-8500053
        """
        return self._session.pages(
            LIST, key=attrgetter("id"), skip=skip, limit=limit, max_items=max_items, **options
        )

    async def commission(
        self,
        site: CommissionSite,
        devices: Sequence[DeviceCreate],
        *,
        can_auto_enroll: bool | UnsetType = UNSET,
        enrollment: EnrollmentCreate | UnsetType = UNSET,
        **options: Unpack[CallOptions],
    ) -> CommissionResult:
        """Create a site and its devices at Flip.

        Flip's reference does not say what commissioning the same site twice does, so this
        is not repeated where it may have been carried out.

        Args:
            site: The site; all but its id may come later.
            devices: Its devices, at least one; their `site_id` is filled in.
            can_auto_enroll: Whether Flip may enroll the site in programs that allow it;
                the homeowner must have agreed.
            enrollment: An enrollment to be made in the same call.
            **options: What every method takes.

        Returns:
            The programs that the devices are eligible for, and the enrollment, if any.

        Raises:
            InvalidArgumentError: A field breaks its rule; no request was made.
            UnprocessableEntityError: Flip refuses a field.
            OutcomeUnknownError: It was sent and no answer came.

        Source:
            https://docs.flip.energy/api-6038136
        """
        body = Commission(
            site=site,
            devices=_of_site(devices, site),
            can_auto_enroll=can_auto_enroll,
            enrollment=enrollment,
        )
        return await self._session.call(COMMISSION, body=body, **options)


def _of_site(devices: Sequence[DeviceCreate], site: CommissionSite) -> Sequence[DeviceCreate]:
    """Fill in the site's id; whatever is no device, the check of the body names."""
    if not isinstance(devices, list | tuple) or not isinstance(site, CommissionSite):
        return devices
    return [
        attrs.evolve(device, site_id=site.id)
        if isinstance(device, DeviceCreate) and device.site_id is UNSET
        else device
        for device in devices
    ]
