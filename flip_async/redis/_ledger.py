"""A ledger of commands in Redis, for the processors of a fleet."""

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import Final, Self, final

import attrs
from redis.asyncio import Redis, RedisCluster

from flip_async._checks import check_count, check_seconds
from flip_async.commands import Holder, LedgerEntry
from flip_async.errors import FlipError, StorageError
from flip_async.redis._client import RedisClient, Script
from flip_async.redis._metrics import watch
from flip_async.redis._trips import SharedTrips

_READ: Final = Script.load("ledger_read")
_WRITE_FIRST: Final = Script.load("ledger_write")
_WRITE: Final = _WRITE_FIRST.that_may_run_when_full()
_RENEW: Final = Script.load("ledger_renew")
_LEAD: Final = Script.load("lock_acquire")
_RESIGN: Final = Script.load("lock_release")

_AT_ONCE: Final = 200
_HOLDERS: Final = (Holder.NOBODY, Holder.US, Holder.OTHERS)


@attrs.frozen
class _Question:
    command_id: str
    owner: str


@attrs.frozen
class _Change:
    command_id: str
    entry: LedgerEntry
    owner: str
    holds: bool
    keep_s: float


@final
class RedisCommandLedger:
    """Lets each version of a command be handled once, by one processor of a fleet.

    A processor that dies is replaced when its lease is over, by whoever was offered the same
    version, or is offered it then. What was handled is remembered until a day after the command's
    end. A ledger object belongs to one processor, in one event loop at a time.

    Args:
        redis: A URL, such as `redis://localhost:6379/0`, or a client of `redis.asyncio` of your
            own, which is not closed.
        namespace: What all key names begin with; processors share commands where it is the same.
        lease_s: How long a command that is not renewed stays in a processor's hands, in seconds.
        max_commands: How many are remembered; those that end first go first.

    Raises:
        ConfigurationError: The URL or client is of no use.
        InvalidArgumentError: An argument is none, or out of range.
    """

    def __init__(
        self,
        redis: str | Redis | RedisCluster,
        *,
        namespace: str = "flip",
        lease_s: float = 30.0,
        max_commands: int = 1_000_000,
    ) -> None:
        check_seconds(lease_s, field="lease_s")
        check_count(max_commands, field="max_commands")
        self._client: Final = RedisClient(redis, namespace=namespace, name="commands")
        self._lease_s: Final = lease_s
        self._most: Final = max_commands
        self._claimed = 0
        entries, holders, leases, ends, self._leader = (
            self._client.key("commands", part)
            for part in ("entries", "holders", "leases", "ends", "leader")
        )
        self._to_read: Final = (entries, holders, leases)
        self._to_write: Final = (entries, holders, leases, ends)
        self._reads: SharedTrips[_Question, LedgerEntry] = SharedTrips(
            self._read_all, most=_AT_ONCE
        )
        # A full server takes no new commands, and lets those that it knows come to their end.
        self._firsts: SharedTrips[_Change, bool] = SharedTrips(
            lambda changes: self._write_all(_WRITE_FIRST, changes), most=_AT_ONCE
        )
        self._changes: SharedTrips[_Change, bool] = SharedTrips(
            lambda changes: self._write_all(_WRITE, changes), most=_AT_ONCE
        )
        watch(self, "commands")

    @property
    def is_degraded(self) -> bool:
        """Whether the last command to Redis failed."""
        return self._client.is_degraded

    @property
    def claims(self) -> int:
        """How many commands the processor had in hand when it last renewed them."""
        return self._claimed

    def measure(self) -> Mapping[str, float]:
        """What OpenTelemetry is told, where its API is installed."""
        return {
            "flip_async.queue.claimed": self._claimed,
            "flip_async.store.degraded": float(self.is_degraded),
        }

    @property
    def lease_s(self) -> float:
        """How long a claim holds that is not renewed, in seconds."""
        return self._lease_s

    async def open(self) -> None:
        """Look whether the server may be trusted; see `CommandLedger`."""
        try:
            await self._client.check_server(self._leader, keeps="which commands were handled")
        except BaseException:
            await self.aclose()
            raise

    async def read(self, command_id: str, *, owner: str) -> LedgerEntry:
        """What there is of a command; see `CommandLedger`."""
        return await self._reads.send(_Question(command_id, owner))

    async def _read_all(self, questions: Sequence[_Question]) -> Sequence[LedgerEntry | FlipError]:
        entries: list[LedgerEntry | FlipError] = []
        for owner, group in groupby(questions, lambda question: question.owner):
            ids = [question.command_id for question in group]
            answer = await self._client.run(_READ, self._to_read, [owner, *ids])
            rows = zip(answer[::2], answer[1::2], strict=True)
            entries += [_entry(content, held) for content, held in rows]
        return entries

    async def write(
        self, command_id: str, entry: LedgerEntry, *, owner: str, holds: bool, keep_s: float
    ) -> bool:
        """Write what there is of a command; see `CommandLedger`."""
        trips = self._changes if entry.revision else self._firsts
        return await trips.send(_Change(command_id, entry, owner, holds, keep_s))

    async def _write_all(
        self, script: Script, changes: Sequence[_Change]
    ) -> Sequence[bool | FlipError]:
        written: list[bool | FlipError] = []
        for owner, group in groupby(changes, lambda change: change.owner):
            arguments: list[str | bytes | int] = [owner, self._lease_ms, self._most]
            for change in group:
                entry = change.entry
                arguments += [change.command_id, entry.revision, entry.content]
                arguments += [int(change.holds), int(change.keep_s * 1000)]
            answer = await self._client.run(script, self._to_write, arguments)
            written += [was_written == 1 for was_written in answer]
        return written

    @property
    def _lease_ms(self) -> int:
        return max(1, int(self._lease_s * 1000))

    async def renew(
        self, held: Mapping[str, int], awaited: Mapping[str, int], *, owner: str
    ) -> Collection[str]:
        """Renew claims, and look whether anything happened; see `CommandLedger`."""
        arguments: list[str | int] = [owner, self._lease_ms, len(held)]
        for commands in (held, awaited):
            for command_id, revision in commands.items():
                arguments += [command_id, revision]
        self._claimed = len(held)
        news = await self._client.run(_RENEW, self._to_read, arguments)
        return {command_id.decode() for command_id in news}

    async def lead(self, *, owner: str, for_s: float) -> bool:
        """Become the one that lists commands for all; see `CommandLedger`."""
        lease_ms = max(1, int(for_s * 1000))
        return bool(await self._client.run(_LEAD, [self._leader], [owner, lease_ms]))

    async def resign(self, *, owner: str) -> None:
        """Let another one list commands; see `CommandLedger`."""
        await self._client.run(_RESIGN, [self._leader], [owner])

    async def aclose(self) -> None:
        """Let what is under way arrive, and close what is open."""
        self._claimed = 0
        for trips in (self._reads, self._firsts, self._changes):
            await trips.aclose()
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<RedisCommandLedger {self._client.where}>"


def _entry(content: bytes | None, held: int) -> LedgerEntry:
    if content is None:
        return LedgerEntry(holder=_HOLDERS[held])
    revision, colon, rest = content.partition(b":")
    if not colon or not revision.isdigit():
        raise StorageError("something else is kept under the ledger's keys")
    return LedgerEntry(int(revision), rest, _HOLDERS[held])
