"""What one processor has in hand of the commands that a ledger shares out.

A claim is taken before the handler is called, looked at before each acknowledgement, and ends when
the command is done, or let go. A lease is renewed by the event loop that runs the handlers, so
that a blocked one loses it. One task looks at the ledger, as long as there is something to look
for: it renews what is held, and sees what became of what others have.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import attrs

from flip_async._aio._callbacks import run_user_code
from flip_async._aio._tasks import Signal, detached, resolve, running_loop
from flip_async._aio._work import Work
from flip_async._backoff import doubled
from flip_async._clock import Clock
from flip_async.commands._ledger import CommandLedger, Holder, LedgerEntry
from flip_async.commands._records import Record, Step, decide, finished, keep_s
from flip_async.commands._versions import Outcome
from flip_async.errors import FlipError, StorageError
from flip_async.models.commands import Command

logger: Final = logging.getLogger("flip_async.commands")
T = TypeVar("T")

_LOOK_S: Final = 0.5
"""How often to look what became of commands that others have in hand."""
_LONGEST_LOOK_S: Final = 10.0
_LET_GO_S: Final = 5.0
"""For all commands in hand together, when a processor ends: the ledger may be away."""


@attrs.frozen
class Taken:
    """What came of taking a version.

    Attributes:
        step: Whether it was taken.
        outcome: What a handler has made of it already, in whatever process.
    """

    step: Step
    outcome: Outcome | None = None


@attrs.define
class _Held:
    """A command in hand.

    Attributes:
        revision: Of its entry, as far as is known.
        sure_until_s: On the monotonic clock; until then nobody else can have it.
        has_news: Somebody has changed the entry, or taken the command.
    """

    revision: int
    sure_until_s: float
    has_news: bool = False


@attrs.define
class _Awaited:
    revision: int
    news: "asyncio.Future[bool]"


class Claims:
    """Takes commands from a ledger, in one event loop.

    What changes: the commands that are held or awaited, by the tasks of their workers and by the
    one that looks; and the tasks that let commands go.

    Args:
        ledger: Shares the commands out.
        clock: Time.
        on_news: Is told of a command in hand whose entry somebody else has changed.
    """

    def __init__(
        self, ledger: CommandLedger, *, clock: Clock, on_news: Callable[[str], None]
    ) -> None:
        self.owner: Final = os.urandom(8).hex()
        self._ledger: Final = ledger
        self._clock: Final = clock
        self._on_news: Final = on_news
        self._held: Final[dict[str, _Held]] = {}
        self._awaited: Final[dict[str, _Awaited]] = {}
        self._letting_go: Final[set[asyncio.Task[None]]] = set()
        self._wake: Final = Signal(clock)
        self._looked_at_s = clock.monotonic()
        self._looker: Work | None = None
        self._has_led = False

    # For the worker of a command

    async def take(self, command: Command) -> Taken:
        """Take a version in hand, where nobody has it and it is not done.

        Raises:
            StorageError: The ledger does not say.
        """
        while True:
            entry = await self._read(command.id)
            record = Record.of(entry)
            decision = decide(record, command, entry.holder)
            if decision.step is Step.LEAVE:
                await self._leave(command, entry, record)
                return Taken(Step.LEAVE)
            holds = decision.step is Step.TAKE
            written = decision.record
            if written is not None and not await self._write(command, entry, written, holds=holds):
                continue
            if not holds:
                self._held.pop(command.id, None)
                self._await(command.id, entry.revision + (written is not None))
            return Taken(decision.step, None if written is None else written.outcome)

    async def _leave(self, command: Command, entry: LedgerEntry, record: Record | None) -> None:
        """Have it no more in hand: it was overtaken by a version that another was offered."""
        if entry.holder is Holder.US and record is not None:
            await self._write(command, entry, record, holds=False)
        self._held.pop(command.id, None)

    async def wait(self, command: Command) -> None:
        """Wait until something becomes of a command that another one has in hand."""
        awaited = self._awaited.get(command.id)
        if awaited is None:
            return
        try:
            await awaited.news
        finally:
            self._awaited.pop(command.id, None)

    def has_news(self, command: Command) -> bool:
        """Whether somebody else was offered a newer version, or has taken the command."""
        held = self._held.get(command.id)
        return held is None or held.has_news

    def is_surely_ours(self, command: Command) -> bool:
        """Whether nobody else can have taken it, whatever the ledger says by now."""
        held = self._held.get(command.id)
        return held is not None and self._clock.monotonic() < held.sure_until_s

    async def keep(self, command: Command, outcome: Outcome) -> bool:
        """Write down what a handler made of a version, if it is in hand still.

        Returns:
            Whether it is, and may be acknowledged.

        Raises:
            StorageError: The ledger does not say.
        """
        while True:
            entry = await self._read(command.id)
            record = Record.of(entry)
            if entry.holder is not Holder.US or record is None or not record.is_still(command):
                return False
            kept = attrs.evolve(record, outcome=outcome)
            if await self._write(command, entry, kept, holds=True):
                return True

    async def done(self, command: Command) -> None:
        """Write down that a command was acknowledged, or given up, and let it go.

        Args:
            command: The command as Flip has it now.

        Raises:
            StorageError: It is not written down.
        """
        while True:
            entry = await self._read(command.id)
            record = finished(Record.of(entry), command)
            if await self._write(command, entry, record, holds=False):
                return

    def let_go(self, command: Command) -> None:
        """Let others have a command that was not seen through; nobody waits for that."""
        self._awaited.pop(command.id, None)
        if self._held.pop(command.id, None) is not None:
            task = detached(self._let_go(command))
            self._letting_go.add(task)
            task.add_done_callback(self._letting_go.discard)

    async def _let_go(self, command: Command) -> None:
        try:
            while command.id not in self._held:
                entry = await self._read(command.id)
                record = Record.of(entry)
                if entry.holder is not Holder.US or record is None:
                    return
                if await self._write(command, entry, record, holds=False):
                    return
        except StorageError as error:
            logger.info("command %s: others have it when its lease is over: %s", command.id, error)

    async def leads(self, *, for_s: float) -> bool:
        """Whether this one lists commands for all, for so long.

        Raises:
            StorageError: The ledger does not say.
        """
        self._has_led = await _asked(lambda: self._ledger.lead(owner=self.owner, for_s=for_s))
        return self._has_led

    # The ledger, which may be a user's

    async def _read(self, command_id: str) -> LedgerEntry:
        return await _asked(lambda: self._ledger.read(command_id, owner=self.owner))

    async def _write(
        self, command: Command, entry: LedgerEntry, record: Record, *, holds: bool
    ) -> bool:
        now = self._clock.now()
        changed = attrs.evolve(entry, content=record.to_bytes())
        keep = keep_s(command, now.wall_s)
        was_written = await _asked(
            lambda: self._ledger.write(
                command.id, changed, owner=self.owner, holds=holds, keep_s=keep
            )
        )
        if was_written and holds:
            self._held[command.id] = _Held(entry.revision + 1, self._sure_until_s(now.monotonic_s))
            self._see_to_it()
        elif was_written:
            self._held.pop(command.id, None)
        return was_written

    def _sure_until_s(self, asked_at_s: float) -> float:
        lease_s = self._ledger.lease_s
        return float("inf") if lease_s is None else asked_at_s + lease_s

    def _await(self, command_id: str, revision: int) -> None:
        self._awaited[command_id] = _Awaited(revision, running_loop().create_future())
        self._see_to_it()

    # The task that looks

    def _see_to_it(self) -> None:
        if self._every_s() is None:
            return
        if self._looker is None:
            self._looker = Work(self._look_for_ever)
        elif len(self._awaited) + len(self._held) == 1:
            self._wake.set()

    def _every_s(self) -> float | None:
        """How often to look; `None` where there is nothing to look for."""
        lease_s = self._ledger.lease_s
        renew_s = lease_s / 3 if self._held and lease_s is not None else None
        if self._awaited:
            return _LOOK_S if renew_s is None else min(_LOOK_S, renew_s)
        return renew_s

    async def _look_for_ever(self) -> None:
        failed_for_s: float | None = None
        while True:
            left_s = self._left_s(failed_for_s)
            if left_s is None or left_s > 0:
                self._wake.clear()
                await self._wake.wait(left_s)
                continue
            try:
                await self._look()
                failed_for_s = None
            except Exception as error:  # the ledger may be a user's [B3]
                if failed_for_s is None:
                    logger.warning("commands in hand cannot be renewed: %s", error)
                failed_for_s = doubled(failed_for_s, first_s=_LOOK_S, cap_s=self._longest_s)
            self._looked_at_s = self._clock.monotonic()

    def _left_s(self, failed_for_s: float | None) -> float | None:
        every_s = self._every_s()
        if every_s is None:
            return None
        at_s = self._looked_at_s + (every_s if failed_for_s is None else failed_for_s)
        return max(0.0, at_s - self._clock.monotonic())

    @property
    def _longest_s(self) -> float:
        lease_s = self._ledger.lease_s
        return _LONGEST_LOOK_S if lease_s is None else max(_LOOK_S, lease_s / 3)

    async def _look(self) -> None:
        asked_at_s = self._clock.monotonic()
        held = {command_id: one.revision for command_id, one in self._held.items()}
        awaited = {command_id: one.revision for command_id, one in self._awaited.items()}
        news = await _asked(lambda: self._ledger.renew(held, awaited, owner=self.owner))
        for command_id, revision in held.items():
            one = self._held.get(command_id)
            if one is None or one.revision != revision:
                continue  # it was written, or let go, meanwhile
            if command_id in news:
                one.has_news = True
                self._on_news(command_id)
            else:
                one.sure_until_s = self._sure_until_s(asked_at_s)
        for command_id in awaited.keys() & set(news):
            if command_id in self._awaited:
                resolve(self._awaited[command_id].news, True)

    async def aclose(self) -> None:
        """Look no more, and wait until what was let go is."""
        if self._looker is not None:
            self._looker.give_up()
        if self._letting_go:
            _, late = await asyncio.wait(self._letting_go, timeout=_LET_GO_S)
            for task in late:  # the leases of what they hold end by themselves
                task.cancel()
        if self._has_led:
            with contextlib.suppress(StorageError):  # it ends by itself
                await _asked(lambda: self._ledger.resign(owner=self.owner))


async def _asked(question: Callable[[], Awaitable[T]]) -> T:
    """Ask the ledger; whatever a user's own raises is a `StorageError` too."""
    try:
        return await run_user_code(question)
    except FlipError:
        raise
    except Exception as error:
        raise StorageError(f"the ledger failed with {type(error).__name__}") from error
