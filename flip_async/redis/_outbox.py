"""An outbox in Redis, which many processes share."""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Literal, get_args
from urllib.parse import quote

import attrs
import msgspec

from flip_async._aio._tasks import Signal, detached
from flip_async._checks import check_clock, check_count, check_one_of, check_seconds
from flip_async._clock import Clock, SystemClock
from flip_async.errors import (
    ClientClosedError,
    ConfigurationError,
    FlipError,
    OutboxFullError,
    StorageError,
)
from flip_async.models.telemetry import LARGEST_BATCH
from flip_async.redis._chunks import (
    Chunk,
    ClaimedChunks,
    GivenChunk,
    Points,
    how_many_fit,
    in_lanes,
)
from flip_async.redis._client import Argument, RedisClient, Script
from flip_async.redis._metrics import measure_queue, watch
from flip_async.redis._trips import SharedTrips
from flip_async.telemetry import OutboxDraft, OutboxEntry, PutResult, QueueDepth

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

WhenFull = Literal["wait", "raise"]
_Answer = tuple[Sequence[int], Sequence[Sequence[bytes | int]]]
"""What there is, and what was claimed."""

logger: Final = logging.getLogger("flip_async.redis")

_PUT: Final = Script.load("outbox_put")
_CLAIMS: Final = Script.load("outbox_claims")
# A part of the format: a device's lane is its hash, and nobody looks into a lane beyond these.
_LANES: Final = 16
_RENEW_S: Final = 5.0
_ROOM_LOOK_S: Final = 0.25
_CUTS: Final = 5  # each because others put points between two trips

_KEYS_OF_PUT: Final = ("counts", "chunks", "facts", "trips")
_KEYS_OF_CLAIMS: Final = (
    "counts", "chunks", "facts", "claims", "leases", "refused", "dead_letters", "trips", "owners",
)  # fmt: skip


class RedisOutbox:
    """Keeps points in Redis: what `add` accepted survives the death of any process.

    Many processes share it, on as many machines: points are claimed with a lease, and what a
    dead process had claimed is sent by another one when the lease is over. Key names hold the
    API's origin and the endpoint, so that points of the sandbox and of production never meet.

    Where order matters, it is kept for each device over all processes: devices are dealt out to
    sixteen lanes, and a lane of which a batch is being sent gives no other one.

    What changes: `_claimed` has what is in this process's hands, `_in_vain` the claims whose
    answer nobody got, `_depth`, `_seen_id` and `_puts` what is known of how much there is. One
    event loop touches them.

    Args:
        redis: A URL, or a client of `redis.asyncio`: `Redis` (a Sentinel's too) or
            `RedisCluster`. Redis 7, or Valkey.
        namespace: What all key names begin with.
        max_points: How many at most.
        max_bytes: How many bytes of points as JSON at most; Redis needs some more.
        when_full: `wait` lets `add` wait for room; `raise` lets it raise an `OutboxFullError`.
        lease_s: How long a claim holds that is not renewed, in seconds: as long may points
            that a killed process was sending wait. The event loop renews it: one that is blocked
            for longer loses what it has claimed to others, and points arrive twice.
        min_replicas: How many replicas must have a point before it is accepted.
        clock: Time, for tests.

    Raises:
        ConfigurationError: The client or URL is of no use.
        InvalidArgumentError: A number is out of range, or another argument is of no use.
    """

    def __init__(
        self,
        redis: "str | Redis | RedisCluster",
        *,
        namespace: str = "flip",
        max_points: int = 10_000_000,
        max_bytes: int | None = None,
        when_full: WhenFull = "wait",
        lease_s: float = 30.0,
        min_replicas: int = 0,
        clock: Clock | None = None,
    ) -> None:
        check_count(max_points, field="max_points")
        if max_bytes is not None:
            check_count(max_bytes, field="max_bytes")
        check_one_of(when_full, get_args(WhenFull), field="when_full")
        check_seconds(lease_s, field="lease_s")
        check_count(min_replicas, field="min_replicas", at_least=0)
        check_clock(clock)
        self._redis: Final = RedisClient(redis, namespace=namespace, name="outbox")
        self._clock: Final[Clock] = SystemClock() if clock is None else clock
        self._max: Final = max_points
        self._max_bytes: Final = max_bytes
        self._waits: Final = when_full == "wait"
        self._lease_s: Final = lease_s
        self._lease_us: Final = max(1, round(lease_s * 1e6))
        self._min_replicas: Final = min_replicas
        self._owner: Final = secrets.token_hex(8)
        self._names = 0
        self._lanes = 1
        self._keys_of_put: list[str] = []
        self._keys_of_claims: list[str] = []
        self._was_opened = False
        self._is_known = False  # perhaps, in Redis
        self._takes_no_more = False
        self._closing: asyncio.Task[None] | None = None
        self._trips: Final[SharedTrips[Sequence[OutboxDraft], PutResult]] = SharedTrips(
            self._send, most=LARGEST_BATCH
        )
        self._line: Final = asyncio.Lock()  # those who wait for room; the first looks for all
        self._room: Final = Signal(self._clock)
        self._claimed: Final = ClaimedChunks()
        self._in_vain: Final[set[str]] = set()
        self._depth = QueueDepth()
        self._seen_id = 0
        self._puts: Final[deque[PutResult]] = deque()  # own ones that no look has seen
        watch(self, "outbox")

    def measure(self) -> Mapping[str, float]:
        """What OpenTelemetry is told, where its API is installed."""
        return measure_queue(self, now=self._clock.wall())

    @property
    def is_degraded(self) -> bool:
        """Whether the last command to Redis failed."""
        return self._redis.is_degraded

    @property
    def is_durable(self) -> bool:
        """Points outlive the process; what Redis may lose of them is its configuration's."""
        return True

    @property
    def renew_every_s(self) -> float:
        """Others may add and leave points, and claims end unless they are renewed."""
        return min(_RENEW_S, self._lease_s / 3)

    @property
    def depth(self) -> QueueDepth:
        """How much waits, of all processes, as of the last look."""
        return self._depth

    @property
    def claims(self) -> int:
        """How many points this process has claimed."""
        return len(self._claimed)

    async def open(self, *, origin: str, endpoint: str, in_order: bool) -> None:
        """See whether the server can be trusted, and what it holds; see `Outbox`.

        Raises:
            ConfigurationError: It has an uploader already; or the server is too old, or throws
                keys away when it is full.
            StorageError: It cannot be reached, or refuses.
        """
        if self._was_opened:
            raise ConfigurationError("this outbox has an uploader already: make another one")
        self._was_opened = True
        self._lanes = _LANES if in_order else 1
        self._name_keys(f"outbox:{quote(origin, safe=':/.-_~')}:{quote(endpoint, safe='')}")
        try:
            await self._redis.check_server(self._keys_of_put[0], keeps="points")
            self._is_known = True
            await self.renew()
        except BaseException:
            await self.aclose()
            raise

    def _name_keys(self, tag: str) -> None:
        waiting, claimed = (
            [f"{part}:{lane}" for lane in range(1, self._lanes + 1)]
            for part in ("waiting", "claimed")
        )
        parts = (*_KEYS_OF_PUT, *waiting)
        self._keys_of_put = [self._redis.key(tag, part) for part in parts]
        parts = (*_KEYS_OF_CLAIMS, *waiting, *claimed)
        self._keys_of_claims = [self._redis.key(tag, part) for part in parts]

    # Points in

    async def put(self, drafts: Sequence[OutboxDraft]) -> PutResult:
        """Keep points; see `Outbox`. Those that wait at the same time share a trip to Redis.

        Raises:
            OutboxFullError: There is no room, or never will be: a point is larger than
                `max_bytes`.
            StorageError: They cannot be kept; where no answer came, they may be there.
            ClientClosedError: It takes no more.
        """
        drafts = drafts[:LARGEST_BATCH]
        if self._max_bytes is not None and len(drafts[0].body) > self._max_bytes:
            raise OutboxFullError(f"a point is larger than {self._max_bytes:,} bytes")
        # Those who come while others wait for room stand behind them.
        kept = PutResult(0, 0, is_full=True) if self._line.locked() else await self._insert(drafts)
        if not kept.count:
            if not self._waits:
                raise OutboxFullError(f"the outbox in Redis is full: {self._limits()}")
            kept = await self._insert_when_there_is_room(drafts)
        return kept

    def _limits(self) -> str:
        in_bytes = "" if self._max_bytes is None else f", or {self._max_bytes:,} bytes"
        return f"{self._max:,} points{in_bytes}"

    async def _insert(self, drafts: Sequence[OutboxDraft]) -> PutResult:
        self._check_taking()
        kept = await self._trips.send(drafts, weight=len(drafts))
        if kept.count:
            self._has_put(kept)
        return kept

    def _check_taking(self) -> None:
        if self._takes_no_more:
            raise ClientClosedError("this uploader is closed")

    async def _insert_when_there_is_room(self, drafts: Sequence[OutboxDraft]) -> PutResult:
        async with self._line:
            while not (kept := await self._insert_if_there_is_room(drafts)).count:
                self._depth = attrs.evolve(self._depth, is_full=True)
                await self._room.wait(_ROOM_LOOK_S)  # another process may make some
            return kept

    async def _insert_if_there_is_room(self, drafts: Sequence[OutboxDraft]) -> PutResult:
        # Asked first: not each look need carry a thousand points.
        self._check_taking()
        answer = await self._ask_to_keep(())
        if not how_many_fit(drafts, room=answer[1], room_bytes=self._room_bytes(answer)):
            return PutResult(0, 0, is_full=True)
        return await self._insert(drafts)

    async def _send(self, puts: Sequence[Sequence[OutboxDraft]]) -> Sequence[PutResult | FlipError]:
        self._check_taking()
        base, count, is_full = await self._keep(list(chain.from_iterable(puts)))
        results: list[PutResult | FlipError] = []
        begin = 0
        for drafts in puts:
            kept = min(len(drafts), max(0, count - begin))
            begin += len(drafts)
            last_id = base + min(begin, count) - 1 if kept else 0
            results.append(PutResult(kept, last_id, is_full and begin >= count))
        return results

    async def _keep(self, drafts: Sequence[OutboxDraft]) -> tuple[int, int, bool]:
        """Keep as many points as there is room for; gives base, count, and whether it is full."""
        for _ in range(_CUTS):
            answer = await self._ask_to_keep(drafts)
            if answer[0]:
                return answer[1], len(drafts), answer[2] == 1
            room_bytes = self._room_bytes(answer)
            drafts = drafts[: how_many_fit(drafts, room=answer[1], room_bytes=room_bytes)]
            if not drafts:
                break
        return 0, 0, True

    def _room_bytes(self, answer: Sequence[int]) -> int | None:
        return None if self._max_bytes is None else answer[2]

    async def _ask_to_keep(self, drafts: Sequence[OutboxDraft]) -> Sequence[int]:
        chunks = list(in_lanes(drafts, self._lanes)) if drafts else []
        trip = self._name()
        rows = [
            (f"{self._owner}.{trip}.{lane}", lane, *points.arguments()) for lane, points in chunks
        ]
        most_bytes = -1 if self._max_bytes is None else self._max_bytes
        size = sum(points.size for _, points in chunks)
        arguments: list[Argument] = [self._owner, trip, self._max, most_bytes, len(drafts), size]
        arguments.extend(chain.from_iterable(rows))
        self._check_open()
        answer: Sequence[int] = await self._redis.run(
            _PUT, self._keys_of_put, arguments, min_replicas=self._min_replicas if drafts else 0
        )
        return answer

    def _has_put(self, kept: PutResult) -> None:
        if kept.last_id <= self._seen_id:
            return  # a look that came back before has them
        self._puts.append(kept)
        self._depth = attrs.evolve(
            self._depth,
            waiting=self._depth.waiting + kept.count,
            oldest_at=self._depth.oldest_at or self._clock.wall(),
            is_full=kept.is_full,
        )

    def put_nowait(self, draft: OutboxDraft) -> PutResult:
        """A point is safe when Redis has it, which takes time.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(
            "add_nowait cannot promise what is not in Redis yet: await add(), or use a MemoryOutbox"
        )

    def stop_taking(self) -> None:
        """Take no more points; see `Outbox`."""
        self._takes_no_more = True
        self._room.wake()

    # Points out

    async def claim(self, most: int) -> Sequence[OutboxEntry]:
        """Take points to send, in whole chunks as they were put; see `Outbox`."""
        claim = f"{self._owner}.{self._name()}.{self._lease_us}"
        try:
            look, rows = await self._ask("claim", claim, most, *self._claimed.claims)
            self._looked(look)
            given = [GivenChunk.read(row) for row in rows]
            entries, chunks = await self._receive(given, claim, self._clock_is_ahead_s(look))
        except BaseException:
            self._in_vain.add(claim)  # nobody has what it gave, if it gave something
            raise
        for chunk in chunks:
            self._claimed.take(chunk)
        return entries

    async def _receive(
        self, given: Sequence[GivenChunk], claim: str, clock_is_ahead_s: float
    ) -> tuple[list[OutboxEntry], list[Chunk]]:
        """Read what was claimed; what was not wanted goes back, what cannot be read aside."""
        entries: list[OutboxEntry] = []
        chunks: list[Chunk] = []
        changes: list[Argument] = []
        for one in given:
            found = one.entries(clock_is_ahead_s)
            if found is None:
                changes += self._bury_unread(one)
                continue
            wanted = found[: one.wanted]
            if len(wanted) < len(found):
                kept, rest = (
                    Points.of_entries(some, one.base) for some in (wanted, found[one.wanted :])
                )
                changes += self._part(one.name, claim, kept, rest, was_refused=False)
            entries += wanted
            chunks.append(Chunk(one.name, claim, one.base, {entry.id: entry for entry in wanted}))
        if changes:
            await self._change(changes, entries)
        return entries, chunks

    def _bury_unread(self, one: GivenChunk) -> list[Argument]:
        why = "the outbox gave back what cannot be read"
        logger.error("points are lost (%s); they are kept among the dead letters", why)
        record = msgspec.msgpack.encode({"reason": why, "payload": one.payload})
        return ["dead", one.name, record, "drop", one.name]

    def _part(
        self, name: str, claim: str, kept: Points, rest: Points, *, was_refused: bool
    ) -> list[Argument]:
        new_name = f"{self._owner}.{self._name()}"
        refused = int(was_refused)
        return [
            "part", name, claim, refused, *kept.arguments(), new_name, *rest.arguments(),
        ]  # fmt: skip

    async def settle(self, entries: Sequence[OutboxEntry]) -> None:
        """Forget points; see `Outbox`."""
        # Also what another process has claimed since: it is sent, and need not be twice.
        parts = self._claimed.parts(entries)
        await self._settle(parts, [])

    async def _settle(
        self, parts: Mapping[Chunk, Collection[int]], letters: Sequence[Argument]
    ) -> None:
        changes = list(letters)
        for chunk, ids in parts.items():
            rest = chunk.rest(ids)
            if rest is None:
                changes += ["drop", chunk.name]
            else:
                changes += ["keep", chunk.name, chunk.claim, *rest.arguments()]
        await self._change(changes)
        self._claimed.done(parts)
        self._room.wake()

    async def dead_letter(self, entries: Sequence[OutboxEntry], reason: str) -> None:
        """Put points where they stay, in the hash `dead_letters`; see `Outbox`."""
        parts = self._claimed.parts(entries)
        known = {entry_id for ids in parts.values() for entry_id in ids}
        letters: list[Argument] = []
        for entry in entries:
            if entry.id in known:
                letters += ["dead", entry.id, _dead_letter(entry, reason)]
        await self._settle(parts, letters)

    async def release(self, entries: Sequence[OutboxEntry], *, was_refused: bool = False) -> None:
        """Let points wait again, at their place by id; see `Outbox`."""
        parts = self._claimed.parts(entries)
        changes: list[Argument] = []
        for chunk, ids in parts.items():
            changes += self._given_back(chunk, ids, was_refused=was_refused)
        await self._change(changes, entries)
        self._claimed.done(parts)

    def _given_back(
        self, chunk: Chunk, ids: Collection[int], *, was_refused: bool
    ) -> list[Argument]:
        kept = chunk.rest(ids)
        if kept is None:
            return ["back", chunk.name, chunk.claim, int(was_refused)]
        rest = Points.of_entries([chunk.left[entry_id] for entry_id in sorted(ids)], chunk.base)
        return self._part(chunk.name, chunk.claim, kept, rest, was_refused=was_refused)

    async def _change(
        self, changes: Sequence[Argument], given_back: Sequence[OutboxEntry] = ()
    ) -> None:
        if not changes:
            return
        more: int = await self._run_claims("change", changes)
        oldest_at = min((entry.accepted_at for entry in given_back), default=None)
        self._depth = attrs.evolve(
            self._depth,
            waiting=max(0, self._depth.waiting + more),
            oldest_at=self._depth.oldest_at or oldest_at,
        )

    # What there is

    async def renew(self) -> QueueDepth:
        """Keep own claims, free what dead processes left, and find out what is there."""
        in_vain = list(self._in_vain)
        kept = self._claimed.claims
        look, _ = await self._ask("renew", self._owner, 0, len(kept), *kept, *in_vain)
        self._in_vain.difference_update(in_vain)
        self._looked(look)
        return self._depth

    async def _ask(self, what: str, *arguments: Argument) -> _Answer:
        look, given = await self._run_claims(what, arguments)
        return look, given

    async def _run_claims(self, what: str, arguments: Sequence[Argument]) -> Any:  # noqa: ANN401
        self._check_open()
        arguments = [what, self._lease_us, *arguments]
        return await self._redis.run(_CLAIMS, self._keys_of_claims, arguments)

    def _check_open(self) -> None:
        if self._closing is not None:
            raise StorageError("this outbox is closed: make another one")

    def _clock_is_ahead_s(self, look: Sequence[int]) -> float:
        return self._clock.wall() - look[5] / 1e6

    def _looked(self, look: Sequence[int]) -> None:
        waiting, oldest_us, first_id, points, size, _, last_id = look
        self._seen_id = last_id
        while self._puts and self._puts[0].last_id <= last_id:
            self._puts.popleft()
        # Puts that came to Redis after this look, and back before it: they wait too.
        waiting += sum(put.count for put in self._puts)
        oldest_at = oldest_us / 1e6 + self._clock_is_ahead_s(look) if oldest_us else None
        if self._puts and oldest_at is None:
            oldest_at = self._clock.wall()
        is_full = points >= self._max or (self._max_bytes is not None and size >= self._max_bytes)
        self._depth = QueueDepth(
            waiting=waiting,
            oldest_at=oldest_at,
            first_id=first_id or None,
            is_full=is_full and self._line.locked(),
        )

    def _name(self) -> str:
        """A name that nobody in this outbox has; for chunks nobody at all, with the owner's."""
        self._names += 1
        return str(self._names)

    # The end

    async def aclose(self) -> None:
        """Let claimed points wait again, for others, and close what is open.

        It takes a few seconds at most: where Redis is away, claims end with their lease.
        """
        if self._closing is None:
            self.stop_taking()
            self._closing = detached(self._close())
        # Whoever is cancelled here leaves it to its end.
        await asyncio.wait({self._closing})

    async def _close(self) -> None:
        await self._trips.aclose()
        await self._redis.until_idle()  # a claim that was cut off, and is under way still
        if self._is_known:
            await self._leave()
        await self._redis.aclose()

    async def _leave(self) -> None:
        own = [*self._claimed.claims, *self._in_vain]
        arguments: list[Argument] = ["renew", self._lease_us, self._owner, 1, 0, *own]
        try:
            await self._redis.run(_CLAIMS, self._keys_of_claims, arguments)
        except (StorageError, ConfigurationError) as error:
            if own:
                logger.warning("what is claimed is free when its lease is over: %s", error)


def _dead_letter(entry: OutboxEntry, reason: str) -> bytes:
    return msgspec.msgpack.encode(
        {
            "device": entry.device, "body": entry.body, "accepted_at": entry.accepted_at,
            "reason": reason,
        }
    )  # fmt: skip
