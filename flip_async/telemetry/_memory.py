"""An outbox in memory."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final, Protocol, final

from flip_async._aio._tasks import running_loop
from flip_async._checks import check_count
from flip_async._claim_queue import QueueDepth
from flip_async._clock import Clock, SystemClock
from flip_async.errors import ClientClosedError, ConfigurationError, OutboxFullError
from flip_async.telemetry._outbox import OutboxDraft, OutboxEntry, PutResult


class _Queue(Protocol):
    """Points that wait."""

    def add(self, entry: OutboxEntry) -> None: ...
    def take(self, most: int) -> list[OutboxEntry]: ...
    def settle(self, entry: OutboxEntry) -> None: ...
    def release(self, entries: Sequence[OutboxEntry]) -> None: ...
    def head(self) -> OutboxEntry | None: ...


@final
class _AnyOrder:
    """First come, first served; what was refused comes behind what was not."""

    def __init__(self) -> None:
        self._fresh: Final[deque[OutboxEntry]] = deque()
        self._refused: Final[deque[OutboxEntry]] = deque()

    def add(self, entry: OutboxEntry) -> None:
        self._fresh.append(entry)

    def take(self, most: int) -> list[OutboxEntry]:
        refused = min(len(self._refused), max(most // 2, most - len(self._fresh)))
        fresh = min(len(self._fresh), most - refused)
        taken = [self._fresh.popleft() for _ in range(fresh)]
        return taken + [self._refused.popleft() for _ in range(refused)]

    def settle(self, entry: OutboxEntry) -> None:
        pass

    def release(self, entries: Sequence[OutboxEntry]) -> None:
        self._refused.extend(entry for entry in entries if entry.was_refused)
        self._fresh.extendleft(entry for entry in reversed(entries) if not entry.was_refused)

    def head(self) -> OutboxEntry | None:
        heads = [line[0] for line in (self._fresh, self._refused) if line]
        return min(heads, default=None)


@final
class _OrderByDevice:
    """A line for each device; a device of which points are being sent stands aside."""

    def __init__(self) -> None:
        self._ready: Final[OrderedDict[str, deque[OutboxEntry]]] = OrderedDict()
        self._aside: Final[dict[str, deque[OutboxEntry]]] = {}
        self._being_sent: Final[dict[str, int]] = {}

    def add(self, entry: OutboxEntry) -> None:
        lines = self._aside if entry.device in self._being_sent else self._ready
        lines.setdefault(entry.device, deque()).append(entry)

    def take(self, most: int) -> list[OutboxEntry]:
        taken: list[OutboxEntry] = []
        while self._ready and len(taken) < most:
            device, line = self._ready.popitem(last=False)
            part = min(len(line), most - len(taken))
            taken += [line.popleft() for _ in range(part)]
            self._being_sent[device] = part
            self._aside[device] = line
        return taken

    def settle(self, entry: OutboxEntry) -> None:
        device = entry.device
        self._being_sent[device] -= 1
        if not self._being_sent[device]:
            del self._being_sent[device]
            line = self._aside.pop(device)
            if line:
                self._ready[device] = line  # behind the others

    def release(self, entries: Sequence[OutboxEntry]) -> None:
        for entry in reversed(entries):
            self._aside[entry.device].appendleft(entry)
        for entry in entries:
            self.settle(entry)

    def head(self) -> OutboxEntry | None:
        return next(iter(self._ready.values()))[0] if self._ready else None


class MemoryOutbox:
    """Keeps points in memory, for as long as the process lives.

    Args:
        max_points: How many at most; `add` waits while it is full.
        clock: Time, for tests.

    Raises:
        InvalidArgumentError: The number is out of range.
    """

    def __init__(self, *, max_points: int = 100_000, clock: Clock | None = None) -> None:
        check_count(max_points, field="max_points")
        self._max: Final = max_points
        self._clock: Final = SystemClock() if clock is None else clock
        self._last_id = 0
        self._entries: Final[OrderedDict[int, OutboxEntry]] = OrderedDict()  # all of them
        self._claimed = 0
        self._takes_no_more = False
        self._queue: _Queue | None = None
        self._waiters: Final[deque[asyncio.Future[None]]] = deque()

    @property
    def is_durable(self) -> bool:
        """Points are gone with the process."""
        return False

    @property
    def renew_every_s(self) -> float | None:
        """Nobody else uses it."""
        return None

    @property
    def depth(self) -> QueueDepth:
        """How much waits."""
        if self._queue is None:
            return QueueDepth()
        head = self._queue.head()
        return QueueDepth(
            waiting=len(self._entries) - self._claimed,
            oldest_at=None if head is None else head.accepted_at,
            first_id=next(iter(self._entries), None),
            is_full=self._room <= 0,
        )

    async def open(self, *, origin: str, endpoint: str, in_order: bool) -> None:
        """Get ready; see `Outbox`."""
        if self._queue is not None:
            raise ConfigurationError("this outbox has an uploader already: make another one")
        self._queue = _OrderByDevice() if in_order else _AnyOrder()

    async def put(self, drafts: Sequence[OutboxDraft]) -> PutResult:
        """Keep points; see `Outbox`."""
        if self._room <= 0 or self._waiters:  # those who wait already come first
            await self._wait_for_room()
        if self._takes_no_more:
            raise ClientClosedError("this uploader is closed")
        room = self._room
        count = min(len(drafts), room)
        for draft in drafts if count == len(drafts) else drafts[:count]:
            self._keep(draft)
        return PutResult(count, self._last_id, count == room)

    def put_nowait(self, draft: OutboxDraft) -> PutResult:
        """Keep a point at once; see `Outbox`."""
        if self._room <= 0 or self._waiters:
            raise OutboxFullError(f"{len(self._entries):,} points wait, as many as may")
        self._keep(draft)
        return PutResult(1, self._last_id, self._room <= 0)

    def _keep(self, draft: OutboxDraft) -> None:
        self._last_id += 1
        entry = OutboxEntry(self._last_id, draft.device, draft.body, self._clock.wall())
        self._entries[entry.id] = entry
        self._line.add(entry)

    @property
    def _line(self) -> _Queue:
        assert self._queue is not None  # an uploader opens it first
        return self._queue

    def stop_taking(self) -> None:
        """Take no more points; see `Outbox`."""
        self._takes_no_more = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    @property
    def _room(self) -> int:
        return self._max - len(self._entries)

    async def _wait_for_room(self) -> None:
        while True:
            waiter = running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                else:
                    self._wake()  # woken and cancelled at once: the room is the next one's
                raise
            if self._room > 0 or self._takes_no_more:
                return

    def _wake(self) -> None:
        woken = 0
        while self._waiters and woken < self._room:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                woken += 1

    async def claim(self, most: int) -> Sequence[OutboxEntry]:
        """Take points to send; see `Outbox`."""
        taken = self._line.take(most)
        self._claimed += len(taken)
        return taken

    async def settle(self, entries: Sequence[OutboxEntry]) -> None:
        """Forget points; see `Outbox`."""
        for entry in entries:
            self._line.settle(self._entries.pop(entry.id))
        self._claimed -= len(entries)
        self._wake()

    async def dead_letter(self, entries: Sequence[OutboxEntry], reason: str) -> None:
        """Forget points: nothing here outlives the process, to be looked at."""
        await self.settle(entries)

    async def release(self, entries: Sequence[OutboxEntry], *, was_refused: bool = False) -> None:
        """Let points wait again; see `Outbox`."""
        entries = sorted(entries)
        if was_refused:
            entries = [entry._replace(was_refused=True) for entry in entries]
            self._entries.update((entry.id, entry) for entry in entries)
        self._line.release(entries)
        self._claimed -= len(entries)

    async def renew(self) -> QueueDepth:
        """What is there; see `Outbox`."""
        return self.depth

    async def aclose(self) -> None:
        """There is nothing to close."""
