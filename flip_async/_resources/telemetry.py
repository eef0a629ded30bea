"""`flip.telemetry`: what devices measure."""

from collections.abc import Mapping, Sequence
from typing import Final, Unpack

import attrs

from flip_async._endpoint import ANY_JSON, Endpoint
from flip_async._options import CallOptions
from flip_async._session import Session
from flip_async.models.telemetry import (
    CounterBatch,
    TelemetryBatch,
    TelemetryPoint,
    TelemetryResult,
)

SEND: Final = Endpoint(
    method="POST", path="/v1/telemetry/BATTERY", token="client", returns=list[TelemetryResult]
)
SEND_COUNTERS: Final = Endpoint(
    method="POST", path="/v1/telemetry/BATTERY_COUNTER", token="client", returns=ANY_JSON
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

    async def send_counters(
        self, points: Sequence[Mapping[str, object]], **options: Unpack[CallOptions]
    ) -> object:
        """Send points of batteries that count over their life time. Experimental.

        Of the fields only `timestamp` is documented, and the answer is not: points go and
        the answer comes as they are.

        Args:
            points: What was counted, 1 to 1,000.
            **options: What every method takes.

        Returns:
            The answer as it came.

        Raises:
            InvalidArgumentError: There are none, or too many; no request was made.

        Source:
            https://docs.flip.energy/api-23837912
        """
        body = CounterBatch(telemetry=points)
        return await self._session.call(SEND_COUNTERS, body=body, **options)
