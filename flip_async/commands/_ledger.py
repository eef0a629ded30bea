"""Who handles which command, as far as several processors have to agree on it."""

import enum
from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Final, Protocol, final

import attrs

from flip_async._checks import check_clock, check_count, check_methods
from flip_async._clock import Clock, SystemClock


class Holder(enum.Enum):
    """Who has a command in hand.

    Attributes:
        NOBODY: Nobody, or an owner whose lease is over.
        US: The owner that asks.
        OTHERS: Another owner, whose lease is not over.
    """

    NOBODY = "nobody, or one whose lease is over"
    US = "the owner that asks"
    OTHERS = "another owner, whose lease is not over"


@attrs.frozen
class LedgerEntry:
    """What a ledger has of a command.

    Attributes:
        revision: Grows with every write; 0 where there is nothing.
        content: What was written, which means nothing to the ledger.
        holder: Who has the command in hand.
    """

    revision: int = 0
    content: bytes = b""
    holder: Holder = Holder.NOBODY


class CommandLedger(Protocol):
    """Lets several processors handle each version of a command once.

    It keeps a text for each command, changed only by whoever has read the latest, and a claim of
    at most one owner, which ends with its lease. What the texts say is the processor's business.
    `MemoryCommandLedger` is one, for a process; `flip_async.redis.RedisCommandLedger` one for a
    fleet. A method that fails raises a `StorageError`, in a limited time.
    """

    @property
    def lease_s(self) -> float | None:
        """Seconds that a claim holds that is not renewed; `None` where it ends with its process."""
        ...

    async def open(self) -> None:
        """Get ready; it may be opened again after `aclose`.

        Raises:
            ConfigurationError: It cannot be trusted with that.
            StorageError: It cannot be used.
        """
        ...

    async def read(self, command_id: str, *, owner: str) -> LedgerEntry:
        """What there is of a command.

        Args:
            command_id: Flip's id of it.
            owner: Who asks.
        """
        ...

    async def write(
        self, command_id: str, entry: LedgerEntry, *, owner: str, holds: bool, keep_s: float
    ) -> bool:
        """Write what there is of a command, in one step with a look at its revision.

        Args:
            command_id: Flip's id of it.
            entry: The new content, with the revision that was read; that grows by one.
            owner: Who writes.
            holds: Whether the owner has the command in hand from now on. Where it has not, and
                another owner has, that one keeps it.
            keep_s: How long to remember it, in seconds.

        Returns:
            Whether it was written. It is not where the revision has changed, nor where `holds` is
            true and another owner has the command in hand.
        """
        ...

    async def renew(
        self, held: Mapping[str, int], awaited: Mapping[str, int], *, owner: str
    ) -> Collection[str]:
        """Renew claims, and look whether anything happened.

        Args:
            held: The commands that the owner has in hand, and their revisions.
            awaited: The commands that others have in hand, and their revisions.
            owner: Who asks.

        Returns:
            Those of `held` that are not the owner's any more, those of `awaited` that are
            nobody's, and those of both whose revision has changed.
        """
        ...

    async def lead(self, *, owner: str, for_s: float) -> bool:
        """Become the one that lists commands for all, or stay it.

        Args:
            owner: Who asks.
            for_s: For how long, in seconds.

        Returns:
            Whether it is; no where another one is.
        """
        ...

    async def resign(self, *, owner: str) -> None:
        """Let another one list commands; where another one does, do nothing.

        Args:
            owner: Who led.
        """
        ...

    async def aclose(self) -> None:
        """Close what is open."""
        ...


def check_ledger(ledger: object) -> None:
    """Refuse what is no `CommandLedger`; `None` passes."""
    names = ("open", "read", "write", "renew", "lead", "resign", "aclose")
    check_methods(ledger, names, field="ledger")


@attrs.define
class _Kept:
    revision: int
    content: bytes
    owner: str | None


@final
class MemoryCommandLedger:
    """Lets the processors of one event loop handle each version once.

    Args:
        max_commands: How many are remembered; the oldest that nobody has in hand go first.
        clock: Time, for tests.

    Raises:
        InvalidArgumentError: The number is out of range, or the clock is none.
    """

    def __init__(self, *, max_commands: int = 100_000, clock: Clock | None = None) -> None:
        check_count(max_commands, field="max_commands")
        check_clock(clock)
        self._max: Final = max_commands
        self._clock: Final = SystemClock() if clock is None else clock
        self._kept: Final[OrderedDict[str, _Kept]] = OrderedDict()
        self._leader: tuple[str, float] | None = None  # and until when

    @property
    def lease_s(self) -> None:
        """What it knows ends with the process."""
        return

    async def open(self) -> None:
        """There is nothing to open."""

    async def read(self, command_id: str, *, owner: str) -> LedgerEntry:
        """What there is of a command; see `CommandLedger`."""
        kept = self._kept.get(command_id)
        if kept is None:
            return LedgerEntry()
        return LedgerEntry(kept.revision, kept.content, _holder(kept.owner, owner))

    async def write(
        self, command_id: str, entry: LedgerEntry, *, owner: str, holds: bool, keep_s: float
    ) -> bool:
        """Write what there is of a command; see `CommandLedger`."""
        kept = self._kept.get(command_id) or _Kept(0, b"", None)
        is_others = _holder(kept.owner, owner) is Holder.OTHERS
        if kept.revision != entry.revision or (holds and is_others):
            return False
        holder = kept.owner if is_others else owner if holds else None
        self._kept[command_id] = _Kept(kept.revision + 1, entry.content, holder)
        self._kept.move_to_end(command_id)
        self._forget()
        return True

    def _forget(self) -> None:
        if len(self._kept) > self._max:
            free = (name for name, kept in self._kept.items() if kept.owner is None)
            oldest = next(free, None)
            if oldest is not None:
                del self._kept[oldest]

    async def renew(
        self, held: Mapping[str, int], awaited: Mapping[str, int], *, owner: str
    ) -> Collection[str]:
        """Look whether anything happened; see `CommandLedger`."""
        return {
            name
            for wanted, commands in ((Holder.US, held), (Holder.OTHERS, awaited))
            for name, revision in commands.items()
            if self._is_news(name, revision, owner, wanted)
        }

    def _is_news(self, command_id: str, revision: int, owner: str, wanted: Holder) -> bool:
        kept = self._kept.get(command_id)
        if kept is None or kept.revision != revision:
            return True
        return _holder(kept.owner, owner) is not wanted

    async def lead(self, *, owner: str, for_s: float) -> bool:
        """Become the one that lists commands; see `CommandLedger`."""
        now_s = self._clock.monotonic()
        if self._leader is not None and self._leader[0] != owner and now_s < self._leader[1]:
            return False
        self._leader = (owner, now_s + for_s)
        return True

    async def resign(self, *, owner: str) -> None:
        """Let another one list commands; see `CommandLedger`."""
        if self._leader is not None and self._leader[0] == owner:
            self._leader = None

    async def aclose(self) -> None:
        """There is nothing to close."""


def _holder(kept: str | None, owner: str) -> Holder:
    if kept is None:
        return Holder.NOBODY
    return Holder.US if kept == owner else Holder.OTHERS
