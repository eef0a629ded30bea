"""`flip.site(site_id)`: one site, with its own token."""

from typing import Final, Unpack

import attrs

from flip_async._endpoint import Endpoint
from flip_async._http._session import Session
from flip_async._options import CallOptions
from flip_async._resources.site_devices import SiteDevices
from flip_async._resources.site_enrollments import SiteEnrollments
from flip_async._resources.site_events import SiteEvents
from flip_async._resources.site_programs import SitePrograms
from flip_async.models._base import UNSET, UnsetType
from flip_async.models.sites import Site, SiteUpdate

GET: Final = Endpoint(method="GET", path="/v1/site/{siteId}", token="site", returns=Site)
UPDATE: Final = Endpoint(method="PATCH", path="/v1/site/{siteId}", token="site", returns=Site)


@attrs.frozen
class SiteView:
    """One site. Its requests carry the site's token, which is taken when first needed.

    Attributes:
        id: Your id of the site.
    """

    _session: Session
    id: str

    @property
    def devices(self) -> SiteDevices:
        """Its devices."""
        return SiteDevices(self._session, self.id)

    @property
    def programs(self) -> SitePrograms:
        """The programs that it may take part in."""
        return SitePrograms(self._session, self.id)

    @property
    def enrollments(self) -> SiteEnrollments:
        """Its enrollments."""
        return SiteEnrollments(self._session, self.id)

    @property
    def events(self) -> SiteEvents:
        """The events that it takes part in."""
        return SiteEvents(self._session, self.id)

    async def get(self, **options: Unpack[CallOptions]) -> Site:
        """Read the site.

        Args:
            **options: What every method takes.

        Returns:
            The site.

        Raises:
            NotFoundError: Flip does not know the site.

        Source:
            https://docs.flip.energy/api-6038149
        """
        return await self._session.call(GET, self.id, **options)

    async def update(
        self,
        *,
        first_name: str | UnsetType | None = UNSET,
        last_name: str | UnsetType | None = UNSET,
        company_name: str | UnsetType | None = UNSET,
        email: str | UnsetType | None = UNSET,
        state_code: str | UnsetType | None = UNSET,
        city: str | UnsetType | None = UNSET,
        zip_code: str | UnsetType | None = UNSET,
        street_address: str | UnsetType | None = UNSET,
        street_address2: str | UnsetType | None = UNSET,
        **options: Unpack[CallOptions],
    ) -> Site:
        """Change fields of the site: what is not given stays, `None` empties a field.

        Args:
            first_name: Given name of the participant.
            last_name: Family name of the participant.
            company_name: For companies only.
            email: Address of the participant.
            state_code: One of `flip_async.models.STATE_CODES`.
            city: City.
            zip_code: In the sandbox, 88800, 88801 and 88802 match test programs.
            street_address: First line of the address.
            street_address2: Second line of the address.
            **options: What every method takes.

        Returns:
            The site as it is now.

        Raises:
            InvalidArgumentError: A field breaks its rule; no request was made.
            UnprocessableEntityError: Flip refuses a field.

        Source:
            https://docs.flip.energy/api-6038149
        """
        body = SiteUpdate(
            first_name=first_name,
            last_name=last_name,
            company_name=company_name,
            email=email,
            state_code=state_code,
            city=city,
            zip_code=zip_code,
            street_address=street_address,
            street_address2=street_address2,
        )
        return await self._session.call(UPDATE, self.id, body=body, **options)
