"""What becomes of each accepted point: one place that counts, tells and forgets.

An accepted point is at each moment in one of three places: it waits in the outbox, a live
delivery has claimed it, or it is settled with a reason. So

    accepted = sent + rejected + undelivered + waiting + claimed

holds between any two steps of the event loop, for an outbox that is used by one uploader alone.
A point counts as settled before anybody is told, in the same step: however the telling ends
(it is cut off, it raises), the point is told no second time.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Generic, Literal, TypeVar

import attrs

from flip_async._aio._callbacks import notify
from flip_async.errors import FlipError
from flip_async.telemetry._outbox import OutboxEntry, PutResult

P = TypeVar("P")
OnRejected = Callable[[P, str], Awaitable[None] | None]
OnUndelivered = Callable[[Sequence[P], FlipError], Awaitable[None] | None]

logger: Final = logging.getLogger("flip_async.telemetry")

_KEPT: Final = 1_000_000
"""So many undelivered points are kept for the error at the end, however long it lives."""


@attrs.frozen
class PointOutcome:
    """What became of a point.

    Attributes:
        status: `sent`, `rejected` by Flip, or `undelivered`: it could not be sent, or nobody
            knows whether it arrived.
        reason: Why it was not sent; `None` where it was.
        error: What stood against it, where it is undelivered.
    """

    status: Literal["sent", "rejected", "undelivered"]
    reason: str | None = None
    error: FlipError | None = None


_SENT: Final = PointOutcome("sent")


class Settlement(Generic[P]):
    """Counts what was accepted and what became of it, and tells the user.

    One event loop touches it.

    Attributes:
        accepted: Points that were taken.
        sent: Points that Flip accepted.
        rejected: Points that Flip refused.
        undelivered: Points that were given up, or lost.
        given_up: Those of them that are points still.
        retried: Points that were sent again, each time counted.
    """

    def __init__(
        self,
        restore: Callable[[bytes], P],
        *,
        on_rejected: OnRejected[P] | None,
        on_undelivered: OnUndelivered[P] | None,
    ) -> None:
        self.accepted = self.sent = self.rejected = self.undelivered = self.retried = 0
        self.given_up = 0
        self._restore: Final = restore
        self._on_rejected: Final = on_rejected
        self._on_undelivered: Final = on_undelivered
        self._kept: Final[list[OutboxEntry]] = []  # undelivered, for the error at the end
        self._watched: Final[dict[int, PointOutcome | None]] = {}

    def takes(self, put: PutResult) -> None:
        """Points were accepted."""
        self.accepted += put.count

    def has_sent(self, entries: Sequence[OutboxEntry]) -> None:
        """Flip accepted points."""
        self.sent += len(entries)
        for entry in entries if self._watched else ():
            self._note(entry, _SENT)

    def has_rejected(self, entry: OutboxEntry, why: str) -> None:
        """Flip refused a point; `tell_rejected` follows."""
        self.rejected += 1
        self._note(entry, PointOutcome("rejected", why))

    async def tell_rejected(self, entry: OutboxEntry, why: str) -> None:
        """Tell the user of a point that was refused."""
        if self._on_rejected is not None and (point := self._read(entry)) is not None:
            await notify(logger, self._on_rejected, point, why)

    def log_rejected(self, rejected: Sequence[tuple[OutboxEntry, str]]) -> None:
        """Say that points were refused, where nobody else is told."""
        if rejected and self._on_rejected is None:
            text = "%d points were rejected, the first of them: %s"
            logger.warning(text, len(rejected), rejected[0][1])

    def has_lost(self, entries: Sequence[OutboxEntry], why: str) -> None:
        """Nobody can read points any more: there is nothing to tell a user of but their number."""
        self.undelivered += len(entries)
        names = ", ".join(f"{entry.id} of {entry.device}" for entry in entries)
        logger.error("points are lost (%s): %s", why, names)

    def has_given_up(self, entries: Sequence[OutboxEntry], error: FlipError) -> None:
        """Points cannot be sent, or nobody knows what became of them; `tell_given_up` follows."""
        self.undelivered += len(entries)
        self.given_up += len(entries)
        self._kept.extend(entries[: _KEPT - len(self._kept)])
        logger.error("%d points are given up: %s", len(entries), error)
        for entry in entries:
            self._note(entry, PointOutcome("undelivered", str(error), error))

    async def tell_given_up(self, entries: Sequence[OutboxEntry], error: FlipError) -> None:
        """Tell the user of points that were given up."""
        if self._on_undelivered is None:
            return
        points = [point for entry in entries if (point := self._read(entry)) is not None]
        if points:
            await notify(logger, self._on_undelivered, points, error)

    def kept(self) -> tuple[P, ...]:
        """The points that were given up, for the error at the end."""
        return tuple(point for entry in self._kept if (point := self._read(entry)) is not None)

    def _read(self, entry: OutboxEntry) -> P | None:
        try:
            return self._restore(entry.body)
        except Exception:  # a disk may give back anything
            logger.exception("point %d of %s cannot be read", entry.id, entry.device)
            return None

    # For those who wait for the outcome of points of their own

    def watch(self, ids: Iterable[int]) -> None:
        """Keep what becomes of points, until `unwatch`."""
        self._watched.update((entry_id, None) for entry_id in ids)

    def _note(self, entry: OutboxEntry, outcome: PointOutcome) -> None:
        if entry.id in self._watched:
            self._watched[entry.id] = outcome

    def outcome(self, entry_id: int) -> PointOutcome | None:
        """What became of a point that is watched; `None` where that is not known yet."""
        return self._watched[entry_id]

    def unwatch(self, ids: Iterable[int]) -> None:
        """Keep nothing of points any more."""
        for entry_id in ids:
            self._watched.pop(entry_id, None)
