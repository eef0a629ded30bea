"""`flip.sessions`: sessions of the white-label portal."""

from collections.abc import Sequence
from typing import Final, Unpack

import attrs

from flip_async._endpoint import Endpoint
from flip_async._http._session import Session
from flip_async._options import CallOptions
from flip_async.models._base import UNSET, UnsetType
from flip_async.models.devices import DeviceCreate
from flip_async.models.sessions import PortalSession, SessionCreate
from flip_async.models.sites import CommissionSite

CREATE: Final = Endpoint(method="POST", path="/v1/sessions", token="client", returns=PortalSession)


@attrs.frozen
class Sessions:
    """Sessions of the white-label portal."""

    _session: Session

    async def create(
        self,
        site: CommissionSite | str,
        *,
        devices: Sequence[DeviceCreate] | UnsetType = UNSET,
        **options: Unpack[CallOptions],
    ) -> PortalSession:
        """Make a session that opens the portal for a site, once.

        A site that does not exist is commissioned, so this is not repeated where it may
        have been carried out.

        Args:
            site: The site, or your id of one that exists.
            devices: Its devices, for a site that is new.
            **options: What every method takes.

        Returns:
            The session. Its `token` opens the portal, once, as the query parameter of
            `/auth/session_token` at `<your-subdomain>.flip.energy`.

        Raises:
            InvalidArgumentError: A field breaks its rule; no request was made.

        Source:
            https://docs.flip.energy/api-16007610
        """
        if isinstance(site, str):
            site = CommissionSite(id=site)
        body = SessionCreate(site=site, devices=devices)
        return await self._session.call(CREATE, body=body, **options)
