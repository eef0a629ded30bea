"""`flip.telemetry`: what devices measure."""

from collections.abc import Sequence
from typing import Final, Unpack

import attrs

from flip_async._endpoint import Endpoint
from flip_async._options import CallOptions
from flip_async._session import Session
from flip_async.models.telemetry import TelemetryBatch, TelemetryPoint, TelemetryResult

SEND: Final = Endpoint(
    method="POST", path="/v1/telemetry/BATTERY", token="client", returns=list[TelemetryResult]
)


@attrs.frozen
class Telemetry:
    """What devices measure."""

    _session: Session

    async def send(
        self, points: Sequence[TelemetryPoint], **options: Unpack[CallOptions]
    ) -> list[TelemetryResult]:
        """Send points of batteries, 1 to 1,000 in one request.

        Flip's reference does not say what sending the same point twice does, so this is
        not repeated where it may have been carried out.

        Args:
            points: What was measured.
            **options: What every method takes.

        Returns:
            What became of each point, in the same order. A point that is `FAILED` is no
            error: correct it and send it again.

        Raises:
            InvalidArgumentError: A field breaks its rule; no request was made.
            OutcomeUnknownError: It was sent and no answer came.

        Source:
            https://docs.flip.energy/api-16287258
        """
        return await self._session.call(SEND, body=TelemetryBatch(telemetry=points), **options)
