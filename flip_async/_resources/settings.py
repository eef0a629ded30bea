"""`flip.settings`: settings that devices shall apply."""

from collections.abc import Mapping
from typing import Final, Unpack

import attrs

from flip_async._endpoint import JSON_OBJECT, Endpoint
from flip_async._http._session import Session
from flip_async._options import CallOptions

UPDATE: Final = Endpoint(
    method="PATCH", path="/v1/settings/{settingsRequestId}", token="client", returns=JSON_OBJECT
)


@attrs.frozen
class DeviceSettings:
    """Experimental: settings that devices shall apply."""

    _session: Session

    async def update(
        self, request_id: str, body: Mapping[str, object], **options: Unpack[CallOptions]
    ) -> dict[str, object]:
        """Report what became of a settings request. Experimental.

        The endpoint exists, its fields are not documented: the body goes as it is given.

        Args:
            request_id: Id of the settings request, from the webhook `settings.apply`.
            body: What to send.
            **options: What every method takes.

        Returns:
            The answer as it came.

        Source:
            https://docs.flip.energy/oem/authentication
        """
        return await self._session.call(UPDATE, request_id, body=body, **options)
