"""Points in, batches out."""

import asyncio
import inspect
import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Final, Generic, Literal, Self, TypeVar

import anyio
import attrs

from flip_async._aio._shutdown import GracefulShutdown
from flip_async._aio._tasks import Signal, within
from flip_async._checks import (
    check_callback,
    check_count,
    check_seconds,
    check_seconds_or_none,
    refuse,
)
from flip_async._clock import Clock
from flip_async.errors import (
    ClientClosedError,
    ConfigurationError,
    DeadlineError,
    FlipError,
    UndeliveredTelemetryError,
)
from flip_async.models.telemetry import LARGEST_BATCH, TelemetryResult
from flip_async.telemetry._batcher import Batcher
from flip_async.telemetry._circuit_breaker import CircuitBreaker
from flip_async.telemetry._delivery import Post, Send
from flip_async.telemetry._memory import MemoryOutbox
from flip_async.telemetry._outbox import Outbox, OutboxDraft, OutboxEntry, PutResult
from flip_async.telemetry._points import PointKind
from flip_async.telemetry._settlement import OnRejected, OnUndelivered, PointOutcome, Settlement
from flip_async.telemetry._worker import TelemetryWorker

P = TypeVar("P")

logger: Final = logging.getLogger("flip_async.telemetry")

_LOOK_WHILE_FLUSHING_S: Final = 0.25
_POINTS_IN_A_ROW: Final = 200  # then others may run: about a millisecond
State = Literal["new", "open", "closing", "closed"]


@attrs.frozen(kw_only=True)
class UploaderStats:
    """What an uploader does at this moment, and has done since it was opened.

    Attributes:
        accepted: Points that were added.
        queued: Points that wait; of a shared outbox, as of the last look.
        in_flight: Points that are being sent.
        sent: Points that Flip accepted.
        rejected: Points that Flip refused.
        undelivered: Points that were given up: told to `on_undelivered`, or in the error at the
            end.
        retried: Points that were sent again, each time counted.
        oldest_age_s: How long the oldest point waits, in seconds; `None` without one.
        blocked_by: What holds everything up, if something does: Flip, or the outbox.
    """

    accepted: int
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
        if inspect.iscoroutinefunction(self.retry_point):
            refuse("retry_point", "a function that is not async", self.retry_point)


class TelemetryUploader(Generic[P]):
    """Takes points as they come and sends them in batches; made by `flip.telemetry`.

    A point that `add` accepted is sent, or handed to `on_rejected` or `on_undelivered`, or
    it stays in an outbox on disk. Use it with `async with`: leaving sends what
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
        self._breaker: Final = CircuitBreaker()
        self._settlement: Final = Settlement(
            kind.restore, on_rejected=options.on_rejected, on_undelivered=options.on_undelivered
        )
        post = Post(
            kind=kind,
            send=send,
            outbox=outbox,
            breaker=self._breaker,
            may_send=Signal(clock),
            clock=clock,
            settlement=self._settlement,
            retry_point=options.retry_point,
        )
        batcher = Batcher(max_delay_s=options.max_delay_s, concurrency=options.concurrency)
        self._worker: Final = TelemetryWorker(post, batcher)
        self._closed: asyncio.Future[None] | None = None
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
        await self._put(await self._drafts(points))

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

    async def deliver(self, points: Iterable[P]) -> Sequence[PointOutcome]:
        """Accept points, and wait until each is settled.

        Where this is cancelled, those that were accepted are sent all the same. Closing the
        uploader ends it: what is not sent then is `undelivered`.

        Args:
            points: What was measured; all of them are checked before the first is accepted.

        Returns:
            What became of each point, in the same order.

        Raises:
            ConfigurationError: The outbox is shared with others, who may send them.
            FlipError: As of `add_many`.
        """
        self._check_open()
        if not isinstance(self._outbox, MemoryOutbox):
            raise ConfigurationError(
                "deliver needs a MemoryOutbox: points in another one may be sent by others"
            )
        drafts = await self._drafts(points)
        ids: list[int] = []
        try:
            await self._put(drafts, ids)
            self._worker.flushing += 1
            self._worker.hurry()
            try:
                return await self._outcomes(ids)
            finally:
                self._worker.flushing -= 1
        finally:
            self._settlement.unwatch(ids)

    async def _outcomes(self, ids: Sequence[int]) -> Sequence[PointOutcome]:
        left = list(ids)
        while left := [i for i in left if self._settlement.outcome(i) is None]:
            if self._state == "closed":  # and the report of what was left was cut off
                break
            await self._worker.wait_for_progress(None)
        closed = ClientClosedError("this uploader was closed")
        unknown = PointOutcome("undelivered", str(closed), closed)
        return [self._settlement.outcome(i) or unknown for i in ids]

    async def _drafts(self, points: Iterable[P]) -> Sequence[OutboxDraft]:
        drafts: list[OutboxDraft] = []
        for index, point in enumerate(points):
            drafts.append(self._kind.draft(point, f"points[{index}]"))
            if len(drafts) % _POINTS_IN_A_ROW == 0:
                await asyncio.sleep(0)
        return drafts

    async def _put(self, drafts: Sequence[OutboxDraft], ids: list[int] | None = None) -> None:
        begin = 0
        while begin < len(drafts):
            try:
                kept = await self._outbox.put(drafts[begin : begin + LARGEST_BATCH])
            except FlipError as error:
                if begin:
                    error.add_note(f"the first {begin} points were accepted")
                raise
            begin += kept.count
            if ids is not None:
                taken = range(kept.last_id - kept.count + 1, kept.last_id + 1)
                ids.extend(taken)
                self._settlement.watch(taken)
            self._accepted(kept)
            self._since_yield += kept.count
            if self._since_yield >= _POINTS_IN_A_ROW:
                # Memory has room for long: without this, nobody else would run till then.
                self._since_yield = 0
                await asyncio.sleep(0)

    def _accepted(self, put: PutResult) -> None:
        self._last_id = max(self._last_id, put.last_id)
        self._settlement.takes(put)
        self._worker.accepted(put)

    def _check_open(self) -> None:
        if self._worker.closed is not None:
            raise self._worker.closed.again()
        if self._state == "new":
            raise ConfigurationError("use the uploader with `async with`")
        if self._state != "open":
            raise ClientClosedError("this uploader is closed: make another one")

    # What it does

    @property
    def stats(self) -> UploaderStats:
        """What it does at this moment, and has done."""
        depth, settled = self._outbox.depth, self._settlement
        deliveries = [delivery for delivery in self._worker.deliveries.values() if delivery.left]
        began_at = [delivery.oldest_at for delivery in deliveries]
        if depth.oldest_at is not None:
            began_at.append(depth.oldest_at)
        return UploaderStats(
            accepted=settled.accepted,
            queued=depth.waiting,
            in_flight=sum(len(delivery.left) for delivery in deliveries),
            sent=settled.sent,
            rejected=settled.rejected,
            undelivered=settled.undelivered,
            retried=settled.retried,
            oldest_age_s=max(0.0, self._clock.wall() - min(began_at)) if began_at else None,
            blocked_by=self._breaker.blocked_by or self._worker.trouble,
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
            StorageError: The outbox, a file or Redis, does not say what is left; sending goes on.
        """
        check_seconds_or_none(timeout_s, field="timeout_s")
        self._check_open()
        await self._flush(self._last_id or None, timeout_s)

    async def _flush(self, last_id: int | None, timeout_s: float | None) -> None:
        # A scope, since the outbox may wait for a file much longer [B11].
        with within(timeout_s, self._clock) as limit:
            await self._until_sent(last_id)
        if limit.cancelled_caught:
            raise self._too_late(timeout_s)

    async def _until_sent(self, last_id: int | None) -> None:
        is_shared = self._outbox.renew_every_s is not None  # another process may send them
        self._worker.flushing += 1
        self._worker.hurry()
        try:
            while self._state != "closed":
                first_id = (await self._outbox.renew()).first_id
                if first_id is None or (last_id is not None and first_id > last_id):
                    return
                if self._worker.closed is not None:
                    raise self._worker.closed.again()
                await self._worker.wait_for_progress(_LOOK_WHILE_FLUSHING_S if is_shared else None)
        finally:
            self._worker.flushing -= 1
        raise ClientClosedError("this uploader was closed before all points were sent")

    def _too_late(self, timeout_s: float | None) -> DeadlineError:
        blocked_by = self._breaker.blocked_by or self._worker.trouble
        why = "" if blocked_by is None else f"; what holds them up: {blocked_by}"
        error = DeadlineError(f"not all points were sent within {timeout_s or 0:g} s{why}")
        error.__cause__ = blocked_by
        return error

    # Life

    async def __aenter__(self) -> Self:
        if self._state != "new":
            raise ConfigurationError("an uploader is used once: make another one")
        await self._outbox.open(
            origin=self._origin, endpoint=self._kind.endpoint, in_order=self._kind.in_order
        )
        self._state = "open"
        self._worker.start()
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

        A second call waits for the first.

        Raises:
            UndeliveredTelemetryError: Points could not be sent, and no disk keeps them.
        """
        await self._close(None)

    async def _close(self, body_error: BaseException | None) -> None:
        if self._closed is not None:
            with anyio.CancelScope(shield=True):
                await asyncio.wait([self._closed])
            return
        if self._state != "open":
            return
        self._state = "closing"
        self._closed = asyncio.get_running_loop().create_future()
        last = GracefulShutdown(is_cancelled_already=isinstance(body_error, asyncio.CancelledError))
        try:
            await self._end(last)
        finally:
            self._state = "closed"
            self._closed.set_result(None)
            self._worker.wake_all()  # those who flush
        self._raise(last.cancelled or body_error, is_new=last.cancelled is not None)

    async def _end(self, last: GracefulShutdown) -> None:
        await last.until_done(self._drain())
        self._outbox.stop_taking()  # else whoever waits for room would add after the report
        await last.until_ended(self._worker.stop())
        await last.until_done(self._worker.give_back())
        if not self._outbox.is_durable:
            await last.until_done(self._report_what_is_left())
        await last.until_done(self._outbox.aclose())

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

    def _undelivered(self) -> UndeliveredTelemetryError | None:
        count = self._settlement.given_up
        if not count:
            return None
        error = UndeliveredTelemetryError(
            f"{count} accepted points could not be sent", points=self._settlement.kept()
        )
        error.__cause__ = self._worker.closed or self._breaker.blocked_by
        return error

    async def _drain(self) -> None:
        try:
            await self._flush(self._last_id, self._options.close_timeout_s)
        except Exception as error:  # the outbox may be a user's
            kept = "; the outbox keeps them" if self._outbox.is_durable else ""
            logger.warning("on closing: %s: %s%s", type(error).__name__, error, kept)

    async def _report_what_is_left(self) -> None:
        left: list[OutboxEntry] = []
        while entries := await self._outbox.claim(LARGEST_BATCH):
            left += entries
            await self._outbox.settle(entries)
        if left:
            error = self._worker.closed or self._too_late(self._options.close_timeout_s)
            self._settlement.has_given_up(left, error)
            await self._settlement.tell_given_up(left, error)

    def __repr__(self) -> str:
        return f"<TelemetryUploader {self._kind.endpoint} {self._origin} {self._state}>"

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if self._state == "open":
            _warn(
                "unclosed TelemetryUploader: use `async with`, or `await uploader.aclose()`",
                ResourceWarning,
                source=self,
            )
