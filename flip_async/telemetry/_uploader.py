"""Points in, batches out."""

import asyncio
import logging
import warnings
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Final, Generic, Literal, Self, TypeVar

import attrs

from flip_async._aio._callbacks import notify
from flip_async._aio._shutdown import GracefulShutdown
from flip_async._checks import check_callback, check_count, check_seconds, check_seconds_or_none
from flip_async._clock import Clock
from flip_async.errors import (
    ClientClosedError,
    ConfigurationError,
    DeadlineError,
    FlipError,
    UndeliveredTelemetryError,
)
from flip_async.models.telemetry import LARGEST_BATCH, TelemetryResult
from flip_async.telemetry._batcher import Batching
from flip_async.telemetry._circuit_breaker import Gate
from flip_async.telemetry._delivery import Post, Send, Tally
from flip_async.telemetry._outbox import Draft, Kept, Outbox
from flip_async.telemetry._points import PointKind
from flip_async.telemetry._worker import Pump

P = TypeVar("P")
OnRejected = Callable[[P, str], Awaitable[None] | None]
OnUndelivered = Callable[[Sequence[P], FlipError], Awaitable[None] | None]

logger: Final = logging.getLogger("flip_async.telemetry")

_LOOK_WHILE_FLUSHING_S: Final = 0.25
_POINTS_KEPT: Final = 100_000
_POINTS_IN_A_ROW: Final = 200  # then others may run: about a millisecond
State = Literal["new", "open", "closing", "closed"]


@attrs.frozen(kw_only=True)
class UploaderStats:
    """What an uploader does at this moment, and has done since it was opened.

    Attributes:
        queued: Points that wait; of a shared outbox, as of the last look.
        in_flight: Points that are being sent.
        sent: Points that Flip accepted.
        rejected: Points that Flip refused.
        undelivered: Points of which nobody knows what became of them.
        retried: Points that were sent again, each time counted.
        oldest_age_s: How long the oldest point waits, in seconds; `None` without one.
        blocked_by: What holds everything up, if something does.
    """

    queued: int
    in_flight: int
    sent: int
    rejected: int
    undelivered: int
    retried: int
    oldest_age_s: float | None
    blocked_by: FlipError | None


@attrs.frozen(kw_only=True)
class UploaderOptions(Generic[P]):
    """How an uploader works; `flip.telemetry.uploader` documents it."""

    max_delay_s: float
    concurrency: int
    close_timeout_s: float
    on_rejected: OnRejected[P] | None
    on_undelivered: OnUndelivered[P] | None
    retry_point: Callable[[P, TelemetryResult], bool] | None

    def __attrs_post_init__(self) -> None:
        check_count(self.concurrency, field="concurrency")
        check_seconds(self.max_delay_s, field="max_delay_s")
        check_seconds(self.close_timeout_s, field="close_timeout_s")
        for name in ("on_rejected", "on_undelivered", "retry_point"):
            check_callback(getattr(self, name), field=name)


class TelemetryUploader(Generic[P]):
    """Takes points as they come and sends them in batches; made by `flip.telemetry`.

    A point that `add` accepted is sent, or handed to `on_rejected` or `on_undelivered`, or
    it stays in an outbox on disk [T1] to [T4]. Use it with `async with`: leaving sends what
    is left. It works in the event loop in which it is entered.

    After an unknown outcome it sends again, so that a point may arrive twice: Flip's
    reference does not say what becomes of the second.
    """

    _state: State = "new"  # of one that is half made too

    def __init__(
        self,
        *,
        kind: PointKind[P],
        send: Send,
        origin: str,
        outbox: Outbox,
        options: UploaderOptions[P],
        clock: Clock,
    ) -> None:
        self._kind: Final = kind
        self._origin: Final = origin
        self._outbox: Final = outbox
        self._options: Final = options
        self._clock: Final = clock
        self._gate: Final = Gate(clock)
        self._tally: Final = Tally()
        post = Post(
            kind=kind,
            send=send,
            outbox=outbox,
            gate=self._gate,
            clock=clock,
            tally=self._tally,
            on_rejected=self._tell_rejected,
            on_undelivered=self._tell_undelivered,
            retry_point=options.retry_point,
        )
        batching = Batching(
            max_delay_s=options.max_delay_s,
            concurrency=options.concurrency,
            look_every_s=outbox.look_every_s,
        )
        self._pump: Final = Pump(post, batching)
        self._unreported: Final[list[P]] = []  # nobody listens: for the error at the end
        self._state = "new"
        self._last_id = 0
        self._since_yield = 0

    # Points in

    async def add(self, point: P) -> None:
        """Accept a point; waits while the outbox is full.

        If it is cancelled, the point may have been accepted.

        Args:
            point: What was measured.

        Raises:
            InvalidArgumentError: A field breaks its rule; the point was not accepted.
            OutboxFullError: The outbox is full and was told not to wait.
            StorageError: It cannot be kept on disk.
            ClientClosedError: The uploader or its client is closed.
        """
        self._check_open()
        await self._put([self._kind.draft(point, "point")])

    async def add_many(self, points: Iterable[P]) -> None:
        """Accept points; all of them are checked before the first is accepted.

        Args:
            points: What was measured; of a generator, all of it is read first.

        Raises:
            InvalidArgumentError: A field of one breaks its rule: none was accepted.
            FlipError: As of `add`; a note tells how many were accepted before.
        """
        self._check_open()
        drafts: list[Draft] = []
        for index, point in enumerate(points):
            drafts.append(self._kind.draft(point, f"points[{index}]"))
            if len(drafts) % _POINTS_IN_A_ROW == 0:
                await asyncio.sleep(0)
        await self._put(drafts)

    def add_nowait(self, point: P) -> None:
        """Accept a point at once, from code that cannot wait.

        Args:
            point: What was measured.

        Raises:
            InvalidArgumentError: A field breaks its rule.
            OutboxFullError: There is no room.
            ConfigurationError: The outbox is on disk, where nothing is safe at once.
            ClientClosedError: The uploader or its client is closed.
        """
        self._check_open()
        self._accepted(self._outbox.put_nowait(self._kind.draft(point, "point")))

    async def _put(self, drafts: Sequence[Draft]) -> None:
        begin = 0
        while begin < len(drafts):
            try:
                kept = await self._outbox.put(drafts[begin : begin + LARGEST_BATCH])
            except FlipError as error:
                if begin:
                    error.add_note(f"the first {begin} points were accepted")
                raise
            begin += kept.count
            self._accepted(kept)
            self._since_yield += kept.count
            if self._since_yield >= _POINTS_IN_A_ROW:
                # Memory has room for long: without this, nobody else would run till then.
                self._since_yield = 0
                await asyncio.sleep(0)

    def _accepted(self, kept: Kept) -> None:
        self._last_id = max(self._last_id, kept.last_id)
        self._pump.accepted(kept)

    def _check_open(self) -> None:
        if self._pump.failure is not None:
            raise self._why_it_stopped()
        if self._state == "new":
            raise ConfigurationError("use the uploader with `async with`")
        if self._state != "open":
            raise ClientClosedError("this uploader is closed: make another one")

    def _why_it_stopped(self) -> Exception:
        failure = self._pump.failure
        if isinstance(failure, FlipError):
            return failure.again()
        error = RuntimeError("the uploader stopped: see the cause")
        error.__cause__ = failure
        return error

    # What it does

    @property
    def stats(self) -> UploaderStats:
        """What it does at this moment, and has done."""
        depth = self._outbox.depth
        deliveries = [sending for sending in self._pump.deliveries.values() if sending.left]
        began_at = [delivery.oldest_at for delivery in deliveries]
        if depth.oldest_at is not None:
            began_at.append(depth.oldest_at)
        return UploaderStats(
            queued=depth.waiting,
            in_flight=sum(delivery.left for delivery in deliveries),
            sent=self._tally.sent,
            rejected=self._tally.rejected,
            undelivered=self._tally.undelivered,
            retried=self._tally.retried,
            oldest_age_s=max(0.0, self._clock.wall() - min(began_at)) if began_at else None,
            blocked_by=self._gate.blocked_by,
        )

    async def flush(self, *, timeout_s: float | None = None) -> None:
        """Wait until all points that were added before are sent, rejected or reported.

        Points of other processes in the same file that were added earlier count too; where
        nothing was added here, all that are in it.

        Args:
            timeout_s: For how long at most, in seconds; `None` for ever.

        Raises:
            DeadlineError: The time is over; sending goes on.
            ClientClosedError: The uploader or its client is closed.
        """
        check_seconds_or_none(timeout_s, field="timeout_s")
        self._check_open()
        await self._flush(self._last_id or None, timeout_s)

    async def _flush(self, last_id: int | None, timeout_s: float | None) -> None:
        end_s = None if timeout_s is None else self._clock.monotonic() + timeout_s
        self._pump.flushing += 1
        self._pump.hurry()
        try:
            while (first_id := await self._outbox.look()) is not None:
                if last_id is not None and first_id > last_id:
                    return
                if self._pump.failure is not None:
                    raise self._why_it_stopped()
                left_s = None if end_s is None else end_s - self._clock.monotonic()
                if left_s is not None and left_s <= 0:
                    raise self._too_late(timeout_s)
                if self._outbox.look_every_s is not None:  # another process may send them
                    left_s = min(_LOOK_WHILE_FLUSHING_S, left_s or _LOOK_WHILE_FLUSHING_S)
                await self._pump.wait_for_progress(left_s)
        finally:
            self._pump.flushing -= 1

    def _too_late(self, timeout_s: float | None) -> DeadlineError:
        blocked_by = self._gate.blocked_by
        why = "" if blocked_by is None else f"; what holds them up: {blocked_by}"
        error = DeadlineError(f"not all points were sent within {timeout_s:g} s{why}")
        error.__cause__ = blocked_by
        return error

    # What the user is told

    async def _tell_rejected(self, rejected: Sequence[tuple[P, str]]) -> None:
        on_rejected = self._options.on_rejected
        if on_rejected is None:
            text = "%d points were rejected, the first of them: %s"
            logger.warning(text, len(rejected), rejected[0][1])
            return
        for point, why in rejected:
            await notify(logger, on_rejected, point, why)

    async def _tell_undelivered(self, points: Sequence[P], error: FlipError) -> None:
        logger.error("%d points are given up: %s", len(points), error)
        self._unreported.extend(points[: _POINTS_KEPT - len(self._unreported)])
        if self._options.on_undelivered is not None:
            await notify(logger, self._options.on_undelivered, points, error)

    # Life

    async def __aenter__(self) -> Self:
        if self._state != "new":
            raise ConfigurationError("an uploader is used once: make another one")
        await self._outbox.open(
            origin=self._origin, endpoint=self._kind.endpoint, in_order=self._kind.in_order
        )
        self._state = "open"
        self._pump.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close(exc_value)

    async def aclose(self) -> None:
        """Send what is left within `close_timeout_s`, report the rest, and stop.

        Raises:
            UndeliveredTelemetryError: Points could not be sent, and no disk keeps them.
        """
        await self._close(None)

    async def _close(self, body_error: BaseException | None) -> None:
        if self._state != "open":
            return
        self._state = "closing"
        last = GracefulShutdown(is_cancelled_already=isinstance(body_error, asyncio.CancelledError))
        await last.until_done(self._drain())
        self._outbox.stop_taking()  # else whoever waits for room would add after the report
        await last.until_ended(self._pump.stop())
        if not self._outbox.is_durable:
            await self._report_what_is_left()
        await last.until_done(self._outbox.aclose())
        self._state = "closed"
        self._raise(last.cancelled or body_error, is_new=last.cancelled is not None)

    def _raise(self, leaving_with: BaseException | None, *, is_new: bool) -> None:
        """End with what the caller has to know."""
        error = self._undelivered()
        if leaving_with is not None:
            if error is not None:
                logger.error("%s", error)
                leaving_with.add_note(str(error))
            if is_new:
                raise leaving_with
        elif error is not None:
            raise error
        elif self._pump.failure is not None:
            raise self._why_it_stopped()

    def _undelivered(self) -> UndeliveredTelemetryError | None:
        if not self._unreported:
            return None
        error = UndeliveredTelemetryError(
            f"{len(self._unreported)} accepted points could not be sent",
            points=tuple(self._unreported),
        )
        error.__cause__ = self._pump.failure or self._gate.blocked_by
        return error

    async def _drain(self) -> None:
        try:
            await self._flush(self._last_id, self._options.close_timeout_s)
        except (FlipError, RuntimeError) as error:
            logger.warning("on closing: %s", error)

    async def _report_what_is_left(self) -> None:
        left: list[P] = []
        while entries := await self._outbox.claim(LARGEST_BATCH):
            left += [self._kind.restore(entry.body) for entry in entries]
            await self._outbox.settle([entry.id for entry in entries])
        if left:
            self._tally.undelivered += len(left)
            failure = self._pump.failure
            error = failure if isinstance(failure, FlipError) else None
            await self._tell_undelivered(
                left, error or self._too_late(self._options.close_timeout_s)
            )

    def __repr__(self) -> str:
        return f"<TelemetryUploader {self._kind.endpoint} {self._origin} {self._state}>"

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if self._state == "open":
            _warn(
                "unclosed TelemetryUploader: use `async with`, or `await uploader.aclose()`",
                ResourceWarning,
                source=self,
            )
