"""`flip.supplements`."""

from collections.abc import Mapping
from typing import Final, Unpack

import attrs

from flip_async._endpoint import JSON_OBJECT, Endpoint
from flip_async._http._session import Session
from flip_async._options import CallOptions

CREATE: Final = Endpoint(method="POST", path="/v1/supplements", token="client", returns=JSON_OBJECT)


@attrs.frozen
class Supplements:
    """Experimental: supplements."""

    _session: Session

    async def create(
        self, body: Mapping[str, object], **options: Unpack[CallOptions]
    ) -> dict[str, object]:
        """Send a supplement. Experimental.

        The endpoint exists, its fields are not documented: the body goes as it is given.

        Args:
            body: What to send.
            **options: What every method takes.

        Returns:
            The answer as it came.

        Source:
            https://docs.flip.energy/oem/authentication
        """
        return await self._session.call(CREATE, body=body, **options)
