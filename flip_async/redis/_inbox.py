"""An inbox in Redis, which processes on many machines share.

What Redis does stands in the scripts. Here is what one process adds: its calls share trips, and
it knows what it has claimed, and names that when it renews.

A claim has a name of its own. Whoever asks for one and hears nothing does not know what was
given, and does not renew it: it ends with its lease, though its owner lives.
"""

import asyncio
import itertools
import logging
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

import anyio
import attrs
from redis.asyncio import Redis, RedisCluster

from flip_async._aio._tasks import detached
from flip_async._checks import check_clock, check_count, check_seconds
from flip_async._claim_queue import QueueDepth
from flip_async._clock import Clock, SystemClock
from flip_async.errors import ConfigurationError, FlipError, StorageError
from flip_async.redis._client import RedisClient
from flip_async.redis._inbox_scripts import (
    AT_ONCE,
    QUEUES,
    US,
    Claimed,
    End,
    InboxScripts,
    Put,
    Release,
    kind_of,
    packed,
)
from flip_async.redis._metrics import measure_queue, watch
from flip_async.redis._trips import SharedTrips
from flip_async.webhooks._inbox import InboxEntry, InboxHome, Letter

logger: Final = logging.getLogger("flip_async.webhooks")

T = TypeVar("T")
R = TypeVar("R")

_TRIP_BYTES: Final = 1_000_000
_PUT_BYTES: Final = 1_000
"""What a put weighs beside its body, so that a trip of small ones is no endless script."""
_RENEW_S: Final = 5.0
_CLOSE_S: Final = 3.0
_DAMAGED: Final = "damaged: it cannot be read"


class _Claim(NamedTuple):
    """What this process knows of a claim on a webhook."""

    name: str
    kind: str


class _Life:
    """The time between an `open` and the `aclose` after it.

    What changes: what is claimed, by webhook, as far as this process knows; the calls that go on
    though their callers may have left; and at last that it is over. Only one event loop touches
    it.
    """

    def __init__(self, scripts: InboxScripts) -> None:
        async def end(groups: Sequence[Sequence[End]]) -> Sequence[None]:
            await scripts.end([end for group in groups for end in group])
            return [None] * len(groups)

        async def release(groups: Sequence[Sequence[Release]]) -> Sequence[None]:
            await scripts.release([release for group in groups for release in group])
            return [None] * len(groups)

        self.puts: Final = SharedTrips[Put, bool](self._until_over(scripts.put), most=_TRIP_BYTES)
        self.ends: Final = SharedTrips[Sequence[End], None](self._until_over(end), most=AT_ONCE)
        self.releases: Final = SharedTrips[Sequence[Release], None](
            self._until_over(release), most=AT_ONCE
        )
        self.claims: Final[dict[str, _Claim]] = {}
        self._calls: Final[set[asyncio.Task[object]]] = set()
        self._owner: Final = uuid.uuid4().hex
        self._numbers: Final = itertools.count()
        self._is_over = False

    def name(self) -> str:
        """A name that nothing else has, in any process."""
        return f"{self._owner}-{next(self._numbers)}"

    def begin(self, job: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Do something that goes on whoever leaves; closing waits for it."""
        task = detached(job)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return task

    def released(self, release: Release) -> None:
        """It is claimed no more, unless it was claimed again meanwhile."""
        found = self.claims.get(release.webhook_id)
        if found is not None and found.name == release.claim:
            del self.claims[release.webhook_id]

    async def finish(self) -> None:
        """Let what is under way come to its end, for so long.

        Raises:
            StorageError: It did not.
        """
        trips = {detached(trip.aclose()) for trip in (self.puts, self.ends, self.releases)}
        _, late = await asyncio.wait({*trips, *self._calls}, timeout=_CLOSE_S)
        self._is_over = True
        if late:
            raise StorageError(f"Redis did not answer within {_CLOSE_S:g} s")

    def _until_over(self, send: Callable[[T], Awaitable[R]]) -> Callable[[T], Awaitable[R]]:
        async def send_or_fail(items: T) -> R:
            if self._is_over:
                raise _not_open()
            return await send(items)

        return send_or_fail


class RedisInbox:
    """Keeps webhooks in Redis: one that was answered with success survives the process.

    All processes with the same Redis and namespace share it, on whatever machine: each webhook
    is kept once and handled by one of them, and what a dead process had begun by another one
    when its lease is over. A process whose event loop hangs loses its leases too. Times are those
    of Redis's own clock; the clocks of the processes may differ.

    It is as safe as Redis's data: without an append-only file or save points a restart of Redis
    loses what waits, and a failover may lose what was kept in the last moments. A Redis that
    throws keys away is refused, and one that keeps nothing on disk is warned of.

    It has a home: it remembers digests of its receiver's signing keys. A receiver that has none
    of these keys is refused; one that has one of them may bring new ones, so that a key is
    replaced by giving both for a while. Each webhook goes to a receiver that handles its type,
    whatever others share the inbox. One that nobody has handled in the last seven days is passed
    over, by whoever comes.

    Args:
        redis: A URL, or a client of `redis.asyncio`: `Redis` (a Sentinel's too) or
            `RedisCluster`; one that is given is not closed.
        namespace: What the names of all keys begin with.
        lease_s: How long a claim holds that is not renewed, in seconds: as long may webhooks
            wait that a killed process was handling.
        min_replicas: How many replicas must have a webhook before it is answered.
        clock: Time, for tests.

    Raises:
        ConfigurationError: The URL or the client is of no use.
        InvalidArgumentError: A number is out of range, or another argument is of no use.
    """

    def __init__(
        self,
        redis: "str | Redis | RedisCluster",
        *,
        namespace: str = "flip",
        lease_s: float = 30.0,
        min_replicas: int = 0,
        clock: Clock | None = None,
    ) -> None:
        check_seconds(lease_s, field="lease_s")
        check_count(min_replicas, field="min_replicas", at_least=0)
        check_clock(clock)
        self._client: Final = RedisClient(redis, namespace=namespace, name="inbox")
        self._scripts: Final = InboxScripts(
            self._client, min_replicas=min_replicas, lease_s=lease_s
        )
        self._lease_s: Final = lease_s
        self._clock: Final = SystemClock() if clock is None else clock
        # These change with opening and closing, and the depth with each look.
        self._open_life: _Life | None = None
        self._closing: asyncio.Task[None] | None = None
        self._kinds = frozenset(QUEUES)
        self._digests: frozenset[str] = frozenset()
        self._depth = QueueDepth()
        watch(self, "inbox")

    def measure(self) -> Mapping[str, float]:
        """What OpenTelemetry is told, where its API is installed."""
        return measure_queue(self, now=self._clock.wall())

    @property
    def claims(self) -> int:
        """How many webhooks this process has claimed."""
        return 0 if self._open_life is None else len(self._open_life.claims)

    @property
    def is_degraded(self) -> bool:
        """Whether the last command to Redis failed."""
        return self._client.is_degraded

    @property
    def depth(self) -> QueueDepth:
        """How much there is, as of the last look at Redis; see `Inbox`."""
        return self._depth

    @property
    def renew_every_s(self) -> float:
        """Often enough to see what others left, and to keep the lease."""
        return min(_RENEW_S, self._lease_s / 3)

    @property
    def _life(self) -> _Life:
        if self._open_life is None:
            raise _not_open()
        return self._open_life

    # Life

    async def open(self, *, home: InboxHome | None = None) -> None:
        """Look whether Redis can be trusted; see `Inbox`. After `aclose` it may be opened again."""
        if self._open_life is not None:
            raise ConfigurationError("this inbox has a receiver already: make another one")
        self._open_life = _Life(self._scripts)
        self._kinds = frozenset(QUEUES) if home is None else home.event_types
        self._digests = frozenset() if home is None else home.key_digests
        before = self._closing
        try:
            await _ended(before)
            await self._client.check_server(self._client.key("inbox", "home"), keeps="webhooks")
            if self._digests and not await self._scripts.is_home_of(self._digests):
                raise ConfigurationError(
                    f"{self._client.where} keeps webhooks of a receiver with other signing keys, "
                    "the sandbox's perhaps: give this one a namespace of its own. While a key is "
                    "replaced, give both, the new one and the old one"
                )
            await self.renew()
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Let claimed webhooks wait again, for others; where Redis is away, leases end them."""
        life, self._open_life = self._open_life, None
        if life is not None:
            self._closing = detached(self._close(life))
        # Shielded from a scope: it comes back at every wait, and this wait is short.
        with anyio.CancelScope(shield=True):
            await _ended(self._closing)

    async def _close(self, life: _Life) -> None:
        try:
            await life.finish()
            await self._let_go(life)
        except FlipError as error:
            logger.warning("on closing, claims stay until their lease ends: %s", error)
        await self._client.aclose()

    async def _let_go(self, life: _Life) -> None:
        rest = [Release(key, one.kind, one.name, None) for key, one in life.claims.items()]
        for first in range(0, len(rest), AT_ONCE):
            await self._scripts.release(rest[first : first + AT_ONCE])

    async def adopt_keys(self, digests: frozenset[str]) -> None:
        """Its receiver has new signing keys, while it runs.

        Args:
            digests: Digests of the signing keys that there are now.
        """
        self._digests |= digests
        await self._scripts.is_home_of(self._digests)  # which adds them: the old ones are known

    # The queue

    async def put(self, letter: Letter) -> bool:
        """Keep a webhook; see `Inbox`. Those that wait at the same time share a trip."""
        life = self._life
        record = packed(letter, life.name())
        put = Put(letter.webhook_id, kind_of(letter.event_type), record)
        return await life.puts.send(put, weight=_PUT_BYTES + len(record))

    async def claim(self, most: int) -> Sequence[InboxEntry]:
        """Take webhooks that are due; see `Inbox`.

        It gives at most 1,000, and ends after some megabytes; what is left is due at once.
        """
        life = self._life
        claiming = life.begin(self._claim(life, most))
        try:
            await asyncio.wait({claiming})
        except asyncio.CancelledError:
            # Nobody takes what it brings, and nobody else may while it is renewed.
            claiming.add_done_callback(lambda _: self._give_back(life, claiming))
            raise
        return claiming.result()

    async def _claim(self, life: _Life, most: int) -> Sequence[InboxEntry]:
        claim = life.name()
        now_us, pause_us, given = await self._scripts.claim(claim, most, self._kinds)
        self._depth = attrs.evolve(self._depth, next_due_at=self._due_at(pause_us))
        ahead_s = self._clock.wall() - now_us / US  # our clock may be an hour off [F8]
        entries: list[InboxEntry] = []
        damaged: list[Claimed] = []
        for one in given:
            letter = one.letter()
            if letter is None:
                damaged.append(one)
                continue
            accepted_at = one.accepted_us / US + ahead_s
            entries.append(InboxEntry(one.accepted_us, letter, accepted_at, one.failures))
            life.claims[letter.webhook_id] = _Claim(claim, kind_of(letter.event_type))
        if damaged:
            await self._bury(damaged)
        return entries

    async def _bury(self, damaged: Sequence[Claimed]) -> None:
        logger.error(
            "%d webhooks in Redis are damaged: they are given up, and kept to be looked at",
            len(damaged),
        )
        try:
            await self._scripts.end([End(one.webhook_id, QUEUES[-1]) for one in damaged], _DAMAGED)
        except StorageError as error:  # they come again with their lease
            logger.warning("damaged webhooks cannot be given up now: %s", error)

    def _give_back(self, life: _Life, claiming: "asyncio.Task[Sequence[InboxEntry]]") -> None:
        if not claiming.cancelled() and claiming.exception() is None:
            life.begin(self._give_back_quietly(life, claiming.result()))

    async def _give_back_quietly(self, life: _Life, entries: Sequence[InboxEntry]) -> None:
        try:
            await self._release(life, entries, None)
        except StorageError as error:
            logger.warning("claims of nobody stay until closing: %s", error)

    async def settle(self, entries: Sequence[InboxEntry]) -> None:
        """Forget webhooks but for their ids; see `Inbox`."""
        # Also what another process has claimed since: it is handled, and need not be twice.
        life = self._life
        if entries:
            await life.ends.send(_ends(entries), weight=len(entries))
        for entry in entries:
            life.claims.pop(entry.letter.webhook_id, None)

    async def dead_letter(self, entries: Sequence[InboxEntry], reason: str) -> None:
        """Never give webhooks again; they stay as long as their ids; see `Inbox`."""
        life = self._life
        if entries:
            await self._scripts.end(_ends(entries), reason)
        for entry in entries:
            life.claims.pop(entry.letter.webhook_id, None)

    async def release(self, entries: Sequence[InboxEntry], *, due_at: float | None = None) -> None:
        """Let webhooks wait again; see `Inbox`."""
        pause_us = None if due_at is None else int(max(0.0, due_at - self._clock.wall()) * US)
        await self._release(self._life, entries, pause_us)

    async def _release(
        self, life: _Life, entries: Sequence[InboxEntry], pause_us: int | None
    ) -> None:
        keys = [entry.letter.webhook_id for entry in entries]
        held = [(key, life.claims[key]) for key in keys if key in life.claims]
        releases = [Release(key, claim.kind, claim.name, pause_us) for key, claim in held]
        if releases:
            await life.releases.send(releases, weight=len(releases))
        for one in releases:
            life.released(one)

    async def renew(self) -> QueueDepth:
        """Keep own claims, free those that ended, and forget what is old; see `Inbox`."""
        claims = [(key, claim.name) for key, claim in self._life.claims.items()]
        look = await self._scripts.renew(claims, self._kinds, self._digests)
        oldest_at = None
        if look.oldest_us >= 0:
            oldest_at = self._clock.wall() - (look.now_us - look.oldest_us) / US
        next_due_at = self._due_at(look.pause_us)
        self._depth = QueueDepth(waiting=look.waiting, oldest_at=oldest_at, next_due_at=next_due_at)
        return self._depth

    def _due_at(self, pause_us: int) -> float | None:
        """On our own clock, which may be an hour off [F8]."""
        return None if pause_us < 0 else self._clock.wall() + pause_us / US


def _ends(entries: Sequence[InboxEntry]) -> list[End]:
    return [End(entry.letter.webhook_id, kind_of(entry.letter.event_type)) for entry in entries]


def _not_open() -> StorageError:
    return StorageError("the inbox in Redis is not open")


async def _ended(task: "asyncio.Task[None] | None") -> None:
    if task is not None and not task.done():
        await asyncio.wait({task})
