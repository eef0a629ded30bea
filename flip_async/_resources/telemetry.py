"""`flip.telemetry`: what devices measure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar, Unpack

import attrs

from flip_async._checks import check_methods, refuse
from flip_async._endpoint import ANY_JSON, Endpoint
from flip_async._http._session import Session
from flip_async._options import CallOptions
from flip_async._wire import Ready, encode
from flip_async.models._base import UNSET
from flip_async.models.telemetry import (
    CounterBatch,
    TelemetryBatch,
    TelemetryPoint,
    TelemetryResult,
)
from flip_async.telemetry._completeness import Completeness
from flip_async.telemetry._memory import MemoryOutbox
from flip_async.telemetry._outbox import Outbox
from flip_async.telemetry._points import PointKind, counters, intervals
from flip_async.telemetry._settlement import OnRejected, OnUndelivered
from flip_async.telemetry._uploader import TelemetryUploader, UploaderOptions

P = TypeVar("P")
_OF_AN_OUTBOX: Final = ("open", "put", "claim", "settle", "release", "renew", "aclose")

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
    _completeness: Completeness = attrs.field(factory=Completeness, init=False)

    async def send(
        self,
        points: Sequence[TelemetryPoint],
        *,
        strict: bool = False,
        **options: Unpack[CallOptions],
    ) -> list[TelemetryResult]:
        """Send points of batteries, 1 to 1,000 in one request.

        Flip's reference does not say what sending the same point twice does, so this is
        not repeated where it may have been carried out.

        Args:
            points: What was measured.
            strict: Refuse what Flip's text does not want and its schema allows: a value that
                is missing while the device is online, or there while it is offline. Else
                it is logged as a WARNING, once for each device.
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
        _check_points(points)
        body = encode(TelemetryBatch(telemetry=points))
        self._completeness.check_all(points, strict=strict)
        return await self._session.call(SEND, body=Ready(body), **options)

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
        _check_points(points)
        body = CounterBatch(telemetry=points)
        return await self._session.call(SEND_COUNTERS, body=body, **options)

    def uploader(
        self,
        *,
        outbox: Outbox | None = None,
        max_delay_s: float = 5.0,
        concurrency: int = 4,
        on_rejected: OnRejected[TelemetryPoint] | None = None,
        on_undelivered: OnUndelivered[TelemetryPoint] | None = None,
        retry_point: Callable[[TelemetryPoint, TelemetryResult], bool] | None = None,
        strict: bool = False,
        close_timeout_s: float = 30.0,
    ) -> TelemetryUploader[TelemetryPoint]:
        """Take points as they come, and send them in batches, losing none.

        ::

            async with flip.telemetry.uploader(on_rejected=tell) as uploader:
                await uploader.add(point)

        A batch goes out when 1,000 points wait, or one has waited for `max_delay_s`.

        Args:
            outbox: Where points wait; by default a `MemoryOutbox`. With a `SqliteOutbox`
                they survive the death of the process.
            max_delay_s: How long a point waits for others, in seconds.
            concurrency: How many batches may be sent at once.
            on_rejected: Is given each point that Flip refuses, and why; may be async.
            on_undelivered: Is given points that could not be sent before closing, or of
                which nobody knows what became of them, and the error; may be async.
            retry_point: Whether to send a point again that came back `FAILED`, at most
                three times; by default it is rejected.
            strict: As of `send`.
            close_timeout_s: How long leaving the context may take to send what is left,
                in seconds.

        Returns:
            The uploader, to be used with `async with`.

        Raises:
            InvalidArgumentError: A number is out of range.

        Source:
            https://docs.flip.energy/doc-456024
        """
        return self._uploader(
            intervals(self._completeness, strict=strict),
            SEND,
            outbox,
            UploaderOptions(
                max_delay_s=max_delay_s,
                concurrency=concurrency,
                close_timeout_s=close_timeout_s,
                on_rejected=on_rejected,
                on_undelivered=on_undelivered,
                retry_point=retry_point,
            ),
        )

    def counter_uploader(
        self,
        *,
        outbox: Outbox | None = None,
        device_field: str = "device_id",
        max_delay_s: float = 5.0,
        concurrency: int = 4,
        on_rejected: OnRejected[Mapping[str, object]] | None = None,
        on_undelivered: OnUndelivered[Mapping[str, object]] | None = None,
        retry_point: None = None,
        close_timeout_s: float = 30.0,
    ) -> TelemetryUploader[Mapping[str, object]]:
        """As `uploader`, for points of batteries that count over their life time. Experimental.

        Flip takes the difference of a reading and the one before, so points of a device
        keep their order: one batch with points of it is sent at a time. The answer is not
        documented: one that does not tell of each point counts as success of all.

        Args:
            outbox: As of `uploader`; a file of its own.
            device_field: The field that tells the device.
            max_delay_s: How long a point waits for others, in seconds; this and the next ones are
                those of `uploader`.
            concurrency: How many batches may be sent at once.
            on_rejected: Is given each point that Flip refuses, and why.
            on_undelivered: Is given points that could not be sent, and the error.
            retry_point: None: a reading that is sent again behind later ones would be out of
                order, and Flip takes differences.
            close_timeout_s: How long leaving the context may take, in seconds.

        Returns:
            The uploader, to be used with `async with`.

        Raises:
            InvalidArgumentError: A number is out of range, or `retry_point` is given.

        Source:
            https://docs.flip.energy/api-23837912
        """
        if retry_point is not None:
            refuse("retry_point", "None, as counters keep their order", retry_point)
        return self._uploader(
            counters(device_field),
            SEND_COUNTERS,
            outbox,
            UploaderOptions(
                max_delay_s=max_delay_s,
                concurrency=concurrency,
                close_timeout_s=close_timeout_s,
                on_rejected=on_rejected,
                on_undelivered=on_undelivered,
                retry_point=None,
            ),
        )

    def _uploader(
        self,
        kind: PointKind[P],
        endpoint: Endpoint[object],
        outbox: Outbox | None,
        options: UploaderOptions[P],
    ) -> TelemetryUploader[P]:
        # One attempt at a time: the uploader knows better what to do with a failure.
        session = attrs.evolve(
            self._session, retries=attrs.evolve(self._session.retries, max_attempts=1)
        )

        async def send(body: bytes) -> object:
            return await session.call(endpoint, body=Ready(body))

        check_methods(outbox, _OF_AN_OUTBOX, field="outbox")
        clock = session.runtime.clock
        return TelemetryUploader(
            kind=kind,
            send=send,
            origin=session.runtime.api_url,
            outbox=MemoryOutbox(clock=clock) if outbox is None else outbox,
            options=options,
            clock=clock,
        )


def _check_points(points: object) -> None:
    # The check of a model passes over what is `UNSET`.
    if points is UNSET:
        refuse("points", "a list of points", points)
