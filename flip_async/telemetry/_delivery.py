"""One batch, until each of its points is sent, rejected, reported or given back."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

import attrs

from flip_async._clock import Clock
from flip_async.errors import FlipError, StorageError
from flip_async.models.telemetry import TelemetryResult, TelemetryStatus
from flip_async.telemetry._bisection import Sieve
from flip_async.telemetry._circuit_breaker import Gate
from flip_async.telemetry._outbox import Entry, Outbox
from flip_async.telemetry._points import PointKind
from flip_async.telemetry._verdict import Verdict, judge, named_points

P = TypeVar("P")
Send = Callable[[bytes], Awaitable[object]]
"""Sends a request's body in one attempt and gives the answer."""

logger: Final = logging.getLogger("flip_async.telemetry")

_TRIES: Final = 3
_AGAIN_AFTER_S: Final = 1.0
_STORE_S: Final = 5.0


@attrs.define
class Tally:
    """What became of points so far; one event loop counts."""

    sent: int = 0
    rejected: int = 0
    undelivered: int = 0
    retried: int = 0


@attrs.frozen(kw_only=True)
class Post(Generic[P]):
    """What all deliveries of an uploader share."""

    kind: PointKind[P]
    send: Send
    outbox: Outbox
    gate: Gate
    clock: Clock
    tally: Tally
    on_rejected: Callable[[Sequence[tuple[P, str]]], Awaitable[None]]
    on_undelivered: Callable[[Sequence[P], FlipError], Awaitable[None]]
    retry_point: Callable[[P, TelemetryResult], bool] | None


class Delivery(Generic[P]):
    """Sees one batch through [T2]."""

    def __init__(self, entries: Sequence[Entry], post: Post[P]) -> None:
        self.oldest_at: Final = min(entry.accepted_at for entry in entries)
        self._left: Final = {entry.id: entry for entry in entries}
        self._post: Final = post
        self._tries: Final[dict[int, int]] = {}
        self._has_sent = False

    @property
    def left(self) -> int:
        """How many points are not settled yet."""
        return len(self._left)

    async def run(self) -> None:
        """Send until nothing is left, or nothing passes.

        Raises:
            ClientClosedError: The client is closed.
        """
        try:
            entries = list(self._left.values())
            while entries:
                await self._sift(entries)
                entries = [entry for entry in entries if entry.id in self._left]
                if entries:  # `retry_point` wants them sent again
                    self._post.tally.retried += len(entries)
                    await self._post.clock.sleep(_AGAIN_AFTER_S)
        finally:
            if self._left:
                # Once, and not until it works: whoever ends this waits for it. A claim that
                # stays ends with its lease, or when the outbox is closed.
                with contextlib.suppress(StorageError):
                    await self._post.outbox.give_back(list(self._left), refused=False)

    async def _sift(self, entries: Sequence[Entry]) -> None:
        post = self._post
        sieve = Sieve(len(entries), in_order=post.kind.in_order, accepted_before=self._has_sent)
        while (group := sieve.next()) is not None:
            part = [entries[point] for point in group]
            outcome = await self._send(part)
            if outcome is None:
                sieve.lost()
            elif isinstance(outcome, FlipError):
                reason = outcome.message
                sieve.refused(reason, named=named_points(outcome), luck=post.clock.random())
                if sieve.is_blocked:
                    post.gate.failed(outcome, Verdict.STOP, luck=post.clock.random())
                    await self._give_back_refused()
                    return
                post.gate.gave_up()
                post.tally.retried += len(part)
            else:
                post.gate.passed()
                sieve.passed()
                await self._read(part, outcome)
            await self._reject(
                [(entries[point], reason) for point, reason in sieve.blame().items()]
            )

    async def _send(self, part: Sequence[Entry]) -> Sequence[TelemetryResult] | FlipError | None:
        """Send until there is an answer that says something of these points.

        Returns:
            What it says of each, or why all are refused; `None` where the points were
            reported, since nobody knows what became of them.
        """
        post = self._post
        body = b'{"telemetry":[%b]}' % b",".join(entry.body for entry in part)
        odd = 0
        while True:
            await post.gate.enter()
            try:
                answer = await post.send(body)
                results = post.kind.read_results(answer, len(part))
                if results is not None:
                    return results
                error: FlipError = FlipError(
                    f"the answer does not have one status for each of {len(part)} points"
                )
                verdict = Verdict.ODD
            except FlipError as raised:
                error, verdict = raised, judge(raised)
            except BaseException:
                post.gate.gave_up()
                raise
            if verdict is Verdict.CLOSED:
                post.gate.gave_up()
                raise error
            if verdict is Verdict.PART:
                return error
            odd += verdict is Verdict.ODD
            pause_s = post.gate.failed(error, verdict, luck=post.clock.random())
            if odd == _TRIES:
                await self._report(part, error)
                return None
            logger.warning(
                "%d points were not taken (%s), again in %.1f s", len(part), error, pause_s
            )
            post.tally.retried += len(part)
            await post.clock.sleep(pause_s)

    async def _read(self, part: Sequence[Entry], results: Sequence[TelemetryResult]) -> None:
        self._has_sent = True
        sent, rejected = [], []
        for entry, result in zip(part, results, strict=True):
            if result.status == TelemetryStatus.OK:
                sent.append(entry.id)
            elif not self._wants_another_try(entry, result):
                rejected.append((entry, _words_of(result)))
        self._post.tally.sent += len(sent)
        await self._settle(sent)
        await self._reject(rejected)

    def _wants_another_try(self, entry: Entry, result: TelemetryResult) -> bool:
        retry_point = self._post.retry_point
        tries = self._tries[entry.id] = self._tries.get(entry.id, 0) + 1
        if retry_point is None or tries > _TRIES:
            return False
        try:
            return retry_point(self._post.kind.restore(entry.body), result)
        except (Exception, asyncio.CancelledError):  # nothing is awaited: it is its own
            logger.exception("retry_point failed: the point counts as rejected")
            return False

    async def _reject(self, rejected: Sequence[tuple[Entry, str]]) -> None:
        if not rejected:
            return
        restore = self._post.kind.restore
        self._post.tally.rejected += len(rejected)
        # Told first: a crash in between tells it twice, the other way round never.
        await self._post.on_rejected([(restore(entry.body), why) for entry, why in rejected])
        await self._settle([entry.id for entry, _ in rejected])

    async def _report(self, part: Sequence[Entry], error: FlipError) -> None:
        restore = self._post.kind.restore
        self._post.tally.undelivered += len(part)
        await self._post.on_undelivered([restore(entry.body) for entry in part], error)
        await self._settle([entry.id for entry in part])

    async def _settle(self, ids: Sequence[int]) -> None:
        if ids:
            await self._keep_trying(lambda: self._post.outbox.settle(ids))
            for entry_id in ids:
                del self._left[entry_id]

    async def _give_back_refused(self) -> None:
        ids = list(self._left)
        await self._keep_trying(lambda: self._post.outbox.give_back(ids, refused=True))
        self._left.clear()

    async def _keep_trying(self, write: Callable[[], Awaitable[None]]) -> None:
        # A disk that is full now may not be later; to forget this would send points twice.
        while True:
            try:
                return await write()
            except StorageError as error:
                logger.error("the outbox cannot be written, again in %g s: %s", _STORE_S, error)
                await self._post.clock.sleep(_STORE_S)


def _words_of(result: TelemetryResult) -> str:
    if result.status == TelemetryStatus.FAILED:
        return result.message or "FAILED, with no message"
    return f"{result.status}: {result.message}" if result.message else str(result.status)
