"""One batch, until each of its points is sent, rejected or reported, or nothing passes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

import attrs

from flip_async._aio._callbacks import run_user_code
from flip_async._aio._tasks import Signal
from flip_async._clock import Clock
from flip_async.errors import FlipError, StorageError
from flip_async.models.telemetry import TelemetryResult, TelemetryStatus
from flip_async.telemetry._bisection import Bisection
from flip_async.telemetry._circuit_breaker import CircuitBreaker
from flip_async.telemetry._outbox import Outbox, OutboxEntry
from flip_async.telemetry._points import PointKind
from flip_async.telemetry._settlement import Settlement
from flip_async.telemetry._verdict import BugError, OddAnswerError, Verdict, judge, named_points

P = TypeVar("P")
Send = Callable[[bytes], Awaitable[object]]
"""Sends a request's body in one attempt and gives the answer."""

logger: Final = logging.getLogger("flip_async.telemetry")

_TRIES: Final = 3
_AGAIN_AFTER_S: Final = 1.0
_STORE_S: Final = 5.0


@attrs.frozen(kw_only=True)
class Post(Generic[P]):
    """What all deliveries of an uploader share.

    Attributes:
        may_send: Wakes those whom the circuit breaker holds.
    """

    kind: PointKind[P]
    send: Send
    outbox: Outbox
    breaker: CircuitBreaker
    may_send: Signal
    clock: Clock
    settlement: Settlement[P]
    retry_point: Callable[[P, TelemetryResult], bool] | None

    def failed(self, error: FlipError, verdict: Verdict) -> float:
        """Tell the circuit breaker of a failure; gives how long its batch has to wait."""
        now_s, luck = self.clock.monotonic(), self.clock.random()
        pause_s = self.breaker.failed(error, verdict, now_s=now_s, luck=luck)
        self.may_send.wake()
        return pause_s

    def gave_up(self) -> None:
        """Tell it that a request ended without an outcome."""
        self.breaker.gave_up()
        self.may_send.wake()


class Delivery(Generic[P]):
    """Sees one batch through [T2].

    It gives nothing back where it is cancelled, perhaps before its first step: its worker does,
    out of these two.

    Attributes:
        left: Points that are not settled yet, by id.
        settled: Points that are, and stand in the outbox still.
    """

    def __init__(self, entries: Sequence[OutboxEntry], post: Post[P]) -> None:
        self.oldest_at: Final = min(entry.accepted_at for entry in entries)
        self.left: Final = {entry.id: entry for entry in entries}
        self.settled: Final[dict[int, OutboxEntry]] = {}
        self._post: Final = post
        self._tries: Final[dict[int, int]] = {}
        self._has_sent = False

    async def run(self) -> None:
        """Send until nothing is left, or nothing passes.

        Raises:
            ClientClosedError: The client is closed.
        """
        await self._bury_what_is_damaged()
        while entries := list(self.left.values()):
            await self._bisect(entries)
            if self.left:  # `retry_point` wants them sent again
                self._post.settlement.retried += len(self.left)
                await self._post.clock.sleep(_AGAIN_AFTER_S)

    async def _bury_what_is_damaged(self) -> None:
        # One body that is no JSON would spoil the request for all of its batch.
        if not self._post.outbox.is_durable:
            return
        damaged = self._post.kind.damaged(list(self.left.values()))
        if damaged:
            why = "the outbox gave back what is no JSON"
            self._settle(damaged)
            self._post.settlement.has_lost(damaged, why)
            await self._write(lambda: self._post.outbox.dead_letter(damaged, why))
            self._forget(damaged)

    async def _bisect(self, entries: Sequence[OutboxEntry]) -> None:
        post = self._post
        parts = Bisection(len(entries), in_order=post.kind.in_order, accepted_before=self._has_sent)
        while (group := parts.next()) is not None:
            part = [entries[point] for point in group]
            outcome = await self._send(part)
            if outcome is None:
                parts.lost()
            elif isinstance(outcome, FlipError):
                reason = outcome.message
                parts.refused(reason, named=named_points(outcome), luck=post.clock.random())
                if parts.is_blocked:
                    self._post.failed(outcome, Verdict.STOP)
                    await self._release_refused()
                    return
                self._post.gave_up()
                post.settlement.retried += len(part)
            else:
                post.breaker.passed()
                post.may_send.wake()
                parts.passed()
                await self._read(part, outcome)
            blamed = parts.blame().items()
            await self._reject([(entries[point], reason) for point, reason in blamed])

    # Sending

    async def _send(
        self, part: Sequence[OutboxEntry]
    ) -> Sequence[TelemetryResult] | FlipError | None:
        """Send until there is an answer that says something of these points.

        Returns:
            What it says of each, or why all are refused; `None` where the points were
            reported, since nobody knows what became of them.
        """
        odd = 0
        while True:
            outcome = await self._send_once(part)
            if not isinstance(outcome, FlipError):
                return outcome
            verdict = judge(outcome)
            if verdict is Verdict.CLOSED:
                self._post.gave_up()
                raise outcome
            if verdict is Verdict.PART:
                return outcome
            odd += verdict is Verdict.ODD
            pause_s = self._post.failed(outcome, verdict)
            if odd == _TRIES:
                await self._report(part, outcome)
                return None
            text = "%d points were not taken (%s), again in %.1f s"
            logger.warning(text, len(part), outcome, pause_s)
            self._post.settlement.retried += len(part)
            await self._post.clock.sleep(pause_s)

    async def _send_once(
        self, part: Sequence[OutboxEntry]
    ) -> Sequence[TelemetryResult] | FlipError:
        post = self._post
        await self._until_it_may_go()
        post.breaker.sends()
        body = b'{"telemetry":[%b]}' % b",".join(entry.body for entry in part)
        try:
            answer = await run_user_code(post.send, body)
        except FlipError as error:
            return error
        except asyncio.CancelledError:
            self._post.gave_up()
            raise
        except Exception as bug:
            # In a transport or a hook of a user's: it costs these points a try, and no others.
            logger.exception("%d points were not sent", len(part))
            return BugError(bug)
        results = post.kind.read_results(answer, len(part))
        return OddAnswerError(len(part)) if results is None else results

    async def _until_it_may_go(self) -> None:
        post = self._post
        while (wait_s := post.breaker.held_for_s(post.clock.monotonic())) != 0.0:
            await post.may_send.wait(wait_s)

    # What became of them

    async def _read(self, part: Sequence[OutboxEntry], results: Sequence[TelemetryResult]) -> None:
        self._has_sent = True
        sent: list[OutboxEntry] = []
        rejected: list[tuple[OutboxEntry, str]] = []
        for entry, result in zip(part, results, strict=True):
            if result.status == TelemetryStatus.OK:
                sent.append(entry)
            elif not self._wants_another_try(entry, result):
                rejected.append((entry, _words_of(result)))
        if sent:
            self._settle(sent)
            self._post.settlement.has_sent(sent)
            await self._write_off(sent)
        await self._reject(rejected)

    def _wants_another_try(self, entry: OutboxEntry, result: TelemetryResult) -> bool:
        retry_point = self._post.retry_point
        tries = self._tries[entry.id] = self._tries.get(entry.id, 0) + 1
        if retry_point is None or tries > _TRIES:
            return False
        try:
            return bool(retry_point(self._post.kind.restore(entry.body), result))
        except (Exception, asyncio.CancelledError):  # nothing is awaited: it is its own
            logger.exception("retry_point failed: the point counts as rejected")
            return False

    async def _reject(self, rejected: Sequence[tuple[OutboxEntry, str]]) -> None:
        self._post.settlement.log_rejected(rejected)
        # Told before they leave the outbox: a crash in between tells it twice, the other way
        # round never.
        for entry, why in rejected:
            self._settle([entry])
            self._post.settlement.has_rejected(entry, why)
            await self._post.settlement.tell_rejected(entry, why)
        await self._write_off([entry for entry, _ in rejected])

    async def _report(self, part: Sequence[OutboxEntry], error: FlipError) -> None:
        self._settle(part)
        self._post.settlement.has_given_up(part, error)
        await self._post.settlement.tell_given_up(part, error)
        await self._write_off(part)

    def _settle(self, entries: Sequence[OutboxEntry]) -> None:
        for entry in entries:
            self.settled[entry.id] = self.left.pop(entry.id)

    async def _write_off(self, entries: Sequence[OutboxEntry]) -> None:
        if entries:
            await self._write(lambda: self._post.outbox.settle(entries))
            self._forget(entries)

    def _forget(self, entries: Sequence[OutboxEntry]) -> None:
        for entry in entries:
            del self.settled[entry.id]

    async def _release_refused(self) -> None:
        entries = list(self.left.values())
        await self._write(lambda: self._post.outbox.release(entries, was_refused=True))
        self.left.clear()

    async def _write(self, write: Callable[[], Awaitable[None]]) -> None:
        # A disk that is full now may not be later; to forget this would send points twice.
        while True:
            try:
                return await run_user_code(write)
            except StorageError as error:
                logger.error("the outbox cannot be written, again in %g s: %s", _STORE_S, error)
            except Exception:  # the outbox may be a user's [B3]
                logger.exception("the outbox cannot be written, again in %g s", _STORE_S)
            await self._post.clock.sleep(_STORE_S)


def _words_of(result: TelemetryResult) -> str:
    if result.status == TelemetryStatus.FAILED:
        return result.message or "FAILED, with no message"
    return f"{result.status}: {result.message}" if result.message else str(result.status)
