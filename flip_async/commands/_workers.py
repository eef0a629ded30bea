"""Sees each command through: its handler, then its acknowledgement.

There is one task for each command that is worked on. It goes round: the version is taken from the
ledger, or it waits until whoever has it is done or dies; the handler is tried until it says
something, then Flip is told until it has it. Between two tries, and while all places for
handlers are taken, the worker *rests*: a newer version ends a pause, stopping ends any rest at
once, and whoever delivered the command and is about to close waits for no rest. What is left
before its acknowledgement is taken for new when it comes again; what the handler made of it stands
in the ledger.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import anyio
import attrs

from flip_async._aio._callbacks import limited, notify_within, run_user_code
from flip_async._aio._tasks import Signal, running_loop
from flip_async._aio._work import GivenUpError, Work
from flip_async._backoff import Backoff
from flip_async._checks import check_one_of, check_text
from flip_async._clock import Clock
from flip_async.commands._claims import Claims, Taken
from flip_async.commands._ledger import CommandLedger
from flip_async.commands._records import Step
from flip_async.commands._versions import Outcome, Verdict, Versions, Window
from flip_async.errors import (
    BadRequestError,
    ClientClosedError,
    ConfigurationError,
    ConflictError,
    DecodeError,
    FlipError,
    InvalidArgumentError,
    NotFoundError,
    StorageError,
    UnprocessableEntityError,
)
from flip_async.models.commands import Command, DeviceStatus

logger: Final = logging.getLogger("flip_async.commands")

OnCommand = Callable[[Command], Awaitable[None]]
OnUnacknowledged = Callable[[Command, DeviceStatus, FlipError], Awaitable[None] | None]

FAULT_REASON: Final = "The command could not be handed to the device"
"""Says nothing of the exception, whose text is for the log alone."""

_TRY_AGAIN: Final = Backoff(base_s=1.0, cap_s=60.0)
_TELL_AGAIN: Final = Backoff(base_s=1.0, cap_s=30.0)
_FINAL: Final = (
    BadRequestError,
    ConfigurationError,
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    UnprocessableEntityError,
)
_FAILURES: Final = (DeviceStatus.FAILED_OFFLINE, DeviceStatus.FAILED_FAULT)
_CHANGES_IN_A_ROW: Final = 3
_LONGEST_CALL_S, _SHORTEST_CALL_S = 60.0, 5.0
_LEDGER_AGAIN_S: Final = 2.0
_LAST_CALL_S: Final = 30.0


class CommandFailed(Exception):  # noqa: N818  # what became of a command, not what went wrong
    """Raised by a handler: the device cannot do it, and trying again is of no use.

    Attributes:
        device_status: `FAILED_OFFLINE` or `FAILED_FAULT`.
        reason: Why, for people at Flip.

    Raises:
        InvalidArgumentError: The status is none of the two, or the reason is no text.
    """

    device_status: DeviceStatus
    reason: str | None

    def __init__(self, device_status: DeviceStatus | str, reason: str | None = None) -> None:
        check_one_of(device_status, _FAILURES, field="device_status")
        if reason is not None:
            check_text(reason, field="reason")
        super().__init__(device_status, reason)
        self.device_status = DeviceStatus(device_status)
        self.reason = reason


class Acknowledge(Protocol):
    """Tells Flip what became of a command; gives the command as Flip has it then."""

    def __call__(
        self, command_id: str, device_status: DeviceStatus, reason: str | None, deadline_s: float
    ) -> Awaitable[Command]: ...


class _StoppedError(Exception):
    """The work on a command ends here, unfinished."""


class _NotOursError(Exception):
    """Another one has the command by now, or was offered a newer version."""


@attrs.define
class Counts:
    """What has been done so far; the workers of one processor count, and nobody else."""

    acknowledged: int = 0
    unacknowledged: int = 0


class Worker:
    """The work on one command, through all its versions.

    Only its own task and `CommandWorkers` change it, in one event loop.

    Attributes:
        newest: The version to be handled.
        window: Its window.
        outcome: What the handler made of it, if it got so far.
        is_over: Flip has it; or will not be told, and `on_unacknowledged` is, or was.
        done: Is given `None`, or why the work ended unfinished.
        left_at_s: When whoever delivered it began to close, on the monotonic clock.
    """

    def __init__(self, command: Command, window: Window, clock: Clock) -> None:
        self.newest = command
        self.window = window
        self.outcome: Outcome | None = None
        self.is_over = False
        self.done: Final[asyncio.Future[Exception | None]] = running_loop().create_future()
        self.left_at_s: float | None = None
        self._clock: Final = clock
        self._rest: anyio.CancelScope | None = None
        self._rests_for_newer = False
        self._changed: Final = Signal(clock)

    def replace(self, command: Command, window: Window) -> None:
        """A newer version has come."""
        self.newest, self.window, self.outcome = command, window, None
        self.is_over = False
        self.look_again()

    def look_again(self) -> None:
        """Something has changed: end a pause."""
        if not self._rests_for_newer:
            self.rouse()

    async def rest(self, wait: Callable[[], Awaitable[object]], *, for_newer: bool = False) -> bool:
        """Wait for something; whether that came.

        Args:
            wait: Waits for it.
            for_newer: A newer version waits for it too.
        """
        self._rests_for_newer = for_newer
        self._rest = anyio.CancelScope()
        self._changed.wake()
        with self._rest:
            await wait()
            self._rest = None
            return True
        self._rest = None
        return False

    def rouse(self) -> None:
        """End a rest."""
        if self._rest is not None:
            self._rest.cancel()

    def end(self, error: Exception | None) -> None:
        """Tell all who wait."""
        self.done.set_result(error)
        self._changed.wake()

    async def wait(self, leaving: "asyncio.Future[bool] | None") -> Exception | None:
        """Wait for the end; gives what `done` is given.

        Args:
            leaving: Is done when whoever waits is about to close.

        Raises:
            ClientClosedError: That was so, and the worker rests.
        """
        ends: list[asyncio.Future[Any]] = [self.done]
        if leaving is not None:
            ends.append(leaving)
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        while not self.done.done():
            self.left_at_s = self.left_at_s or self._clock.monotonic()
            if self._rest is not None:
                raise ClientClosedError(
                    f"command {self.newest.id} is not acknowledged yet, and whoever delivered it "
                    "is closing"
                )
            await self._changed.wait()
        return self.done.result()


class CommandWorkers:
    """One worker for each command that is worked on, in one event loop.

    While a version is worked on a newer one may come. The handler is never interrupted by
    that, but what it made of the older version is not acknowledged: Flip's acknowledgements
    name no version, and it would count for the newer one.
    """

    def __init__(
        self,
        versions: Versions,
        ledger: CommandLedger,
        *,
        on_command: OnCommand,
        acknowledge: Acknowledge,
        on_unacknowledged: OnUnacknowledged | None,
        concurrency: int,
        handler_timeout_s: float,
        counts: Counts,
        clock: Clock,
    ) -> None:
        self._versions: Final = versions
        self._claims: Final = Claims(ledger, clock=clock, on_news=self._has_news)
        self._on_command: Final = on_command
        self._acknowledge: Final = acknowledge
        self._on_unacknowledged: Final = on_unacknowledged
        self._places: Final = asyncio.Semaphore(concurrency)
        self._handler_timeout_s: Final = handler_timeout_s
        self._counts: Final = counts
        self._clock: Final = clock
        # A worker and its task come and go together; `_ended` is called when the task has ended.
        self._workers: Final[dict[str, Worker]] = {}
        self._works: Final[dict[str, Work]] = {}
        self._is_stopping = False

    def __len__(self) -> int:
        return len(self._workers)

    def offer(self, command: Command) -> Worker | None:
        """Work on a version of a command, if it is new.

        Returns:
            Who works on the command; `None` where there is nothing to wait for.
        """
        if self._is_stopping:
            raise ClientClosedError("the command processor is being stopped")
        now = self._clock.now()
        verdict = self._versions.take(command, datetime.fromtimestamp(now.wall_s, UTC))
        worker = self._workers.get(command.id)
        if verdict is Verdict.HANDLE:
            window = Window.of(command, now)
            # One whose task has ended, as `_ended` is about to be told, would see no change.
            if worker is None or self._works[command.id].task.done():
                return self._begin(command, window)
            logger.info("command %s has changed while it was handled", command.id)
            worker.replace(command, window)
        elif verdict is Verdict.OVER:
            logger.info("command %s is over and not handled", command.id)
        elif verdict is Verdict.NOT_ASKED:
            return None
        return worker

    def _begin(self, command: Command, window: Window) -> Worker:
        worker = self._workers[command.id] = Worker(command, window, self._clock)
        work = self._works[command.id] = Work(lambda: self._see_through(worker))
        work.task.add_done_callback(lambda _: self._ended(worker, work))
        return worker

    def _ended(self, worker: Worker, work: Work) -> None:
        command_id = worker.newest.id
        self._claims.let_go(worker.newest)  # where it is not done
        has_successor = self._workers[command_id] is not worker
        if not has_successor:
            del self._workers[command_id], self._works[command_id]
        error = work.error
        if error is None or worker.is_over:  # cut off while it was told: once is enough
            worker.end(None)
            return
        # It was not handled, or not to the end: when it comes again it is new.
        if not has_successor:
            self._versions.leave(worker.newest)
        if isinstance(error, ClientClosedError | GivenUpError | _StoppedError):
            who = (
                "client was closed"
                if isinstance(error, ClientClosedError)
                else "processor was stopped"
            )
            error = ClientClosedError(f"the {who} before command {command_id} was acknowledged")
            logger.warning("%s: it comes again", error)
        elif isinstance(error, StorageError):
            logger.error("command %s is left, and comes again: %s", command_id, error)
        else:
            logger.critical("command %s: a bug", command_id, exc_info=error)
        worker.end(error)

    # The task of a worker

    async def _see_through(self, worker: Worker) -> None:
        changes = 0
        while True:
            command, window = worker.newest, worker.window
            try:
                taken = await self._take(worker, command)
                if taken.step is Step.LEAVE and worker.newest is command:
                    return
                if taken.step is not Step.TAKE or worker.newest is not command:
                    continue
                change = await self._see_through_once(worker, command, window, taken.outcome)
            except _NotOursError:
                logger.info("command %s has changed, or another one has it", command.id)
                continue
            if worker.newest is not command:
                continue
            if change is None:
                return
            changes += 1
            if changes > _CHANGES_IN_A_ROW:
                logger.error("command %s: each answer of Flip's says something else", command.id)
                return
            logger.warning("command %s was changed while it was acknowledged", command.id)
            worker.replace(change, Window.of(change, self._clock.now()))

    async def _take(self, worker: Worker, command: Command) -> Taken:
        """Take a version, or wait until something becomes of it where another one has it."""
        taken = await self._claims.take(command)
        if taken.step is Step.AWAIT:
            await self._rest(worker, lambda: self._claims.wait(command))
        return taken

    async def _see_through_once(
        self, worker: Worker, command: Command, window: Window, outcome: Outcome | None
    ) -> Command | None:
        """Handle and acknowledge one version; gives what is to be handled after all."""
        outcome = worker.outcome or outcome or await self._handle(worker, command, window)
        if worker.newest is not command:
            return None
        if outcome is None:
            raise _NotOursError
        worker.outcome = outcome
        answer = await self._tell_flip(worker, command, window, outcome)
        if worker.newest is not command:
            return None
        change = None if answer is None else self._versions.acknowledged(command, answer)
        if change is None:
            worker.is_over = True
            await self._write_down(worker, answer or command, window)
        return change

    async def _handle(self, worker: Worker, command: Command, window: Window) -> Outcome | None:
        """Try the handler until it says something; `None` where a newer version has come."""
        attempt = 0
        while True:
            attempt += 1
            await self._rest(worker, self._places.acquire, for_newer=True)
            try:
                if self._is_overtaken(worker, command):
                    return None
                if self._is_stopping:
                    raise _StoppedError
                outcome = await self._try(command, window, attempt)
            finally:
                self._places.release()
            if outcome is not None or worker.newest is not command:
                return outcome
            pause_s = _TRY_AGAIN.patient_delay_s(attempt, self._clock.random())
            if not window.may_handle(self._clock.monotonic() + pause_s):
                logger.error("command %s: its handler failed %d times", command.id, attempt)
                return Outcome(DeviceStatus.FAILED_FAULT, FAULT_REASON)
            await self._pause(worker, pause_s)
            if self._is_overtaken(worker, command):
                return None

    def _is_overtaken(self, worker: Worker, command: Command) -> bool:
        """Whether a newer version has come, here or to somebody else."""
        return worker.newest is not command or self._claims.has_news(command)

    async def _try(self, command: Command, window: Window, attempt: int) -> Outcome | None:
        seconds = window.try_s(self._clock.monotonic(), self._handler_timeout_s)
        try:
            await limited(lambda: self._on_command(command), within_s=seconds)
            return Outcome(DeviceStatus.OK)
        except CommandFailed as failed:
            logger.info("command %s: %s", command.id, failed.device_status)
            return Outcome(failed.device_status, failed.reason)
        except Exception as error:
            text = "command %s: its handler failed (try %d): %s"
            logger.warning(text, command.id, attempt, error, exc_info=error)
            return None

    async def _tell_flip(
        self, worker: Worker, command: Command, window: Window, outcome: Outcome
    ) -> Command | None:
        """Acknowledge until Flip has it; `None` where there is nothing more to learn or do."""
        attempt = 0
        while True:
            attempt += 1
            if attempt == 1 or self._claims.has_news(command):
                await self._make_sure(worker, command, window, outcome)
            if worker.newest is not command:
                return None
            result = await self._tell_flip_once(command, window, outcome)
            if not isinstance(result, FlipError):
                self._counts.acknowledged += 1
                return result
            if worker.newest is not command:
                return None
            pause_s = max(
                _TELL_AGAIN.patient_delay_s(attempt, self._clock.random()),
                result.retry_after_s or 0.0,
            )
            is_late = not window.may_acknowledge(self._clock.monotonic() + pause_s)
            if isinstance(result, _FINAL) or is_late:
                worker.is_over = True
                await self._give_up(command, outcome, result)
                return None
            logger.warning(
                "command %s is not acknowledged (%s), again in %.1f s", command.id, result, pause_s
            )
            await self._pause(worker, pause_s)
            if worker.newest is not command:
                return None

    async def _make_sure(
        self, worker: Worker, command: Command, window: Window, outcome: Outcome
    ) -> None:
        """See that the command is in hand still; the outcome then stands in the ledger.

        Where the ledger does not say, nobody else can have it for as long as the lease is known
        to hold. After that it is asked until it is almost too late: an acknowledgement twice is
        better than none.
        """
        while True:
            try:
                if not await self._claims.keep(command, outcome):
                    raise _NotOursError
                return
            except StorageError as error:
                is_late = not window.may_acknowledge(self._clock.monotonic() + _LAST_CALL_S)
                if is_late or self._claims.is_surely_ours(command):
                    logger.warning("command %s is acknowledged all the same: %s", command.id, error)
                    return
            await self._pause(worker, _LEDGER_AGAIN_S)
            if worker.newest is not command:
                return

    async def _write_down(self, worker: Worker, command: Command, window: Window) -> None:
        """Let the ledger know that it is over, as soon as it can."""
        version = worker.newest
        while worker.newest is version:
            try:
                await self._claims.done(command)
                return
            except StorageError as error:
                text = "command %s is acknowledged, which the ledger does not take: %s"
                logger.warning(text, command.id, error)
                if not window.may_acknowledge(self._clock.monotonic()):
                    return
            await self._pause(worker, _LEDGER_AGAIN_S)

    async def _tell_flip_once(
        self, command: Command, window: Window, outcome: Outcome
    ) -> Command | FlipError | None:
        left_s = window.left_to_acknowledge_s(self._clock.monotonic())
        deadline_s = min(_LONGEST_CALL_S, max(_SHORTEST_CALL_S, left_s))
        status, reason = outcome.device_status, outcome.reason
        try:
            return await run_user_code(
                lambda: self._acknowledge(command.id, status, reason, deadline_s)
            )
        except DecodeError as error:
            logger.warning("command %s: %s", command.id, error)
            return None  # Flip has it, whatever the answer looks like
        except ClientClosedError:
            raise  # with another client it comes again
        except FlipError as error:
            return error
        except Exception as error:  # a transport may be a user's: it costs this try alone [B3]
            logger.exception("command %s: a bug while it was acknowledged", command.id)
            return FlipError(f"a bug: {type(error).__name__}: {error}")

    async def _give_up(self, command: Command, outcome: Outcome, error: FlipError) -> None:
        status = outcome.device_status
        self._counts.unacknowledged += 1
        logger.error("command %s (%s) could not be acknowledged: %s", command.id, status, error)
        if self._on_unacknowledged is not None:
            told = self._on_unacknowledged
            await notify_within(self._handler_timeout_s, logger, told, command, status, error)

    # Rests

    async def _pause(self, worker: Worker, seconds: float) -> None:
        await self._rest(worker, lambda: self._clock.sleep(seconds))

    async def _rest(
        self, worker: Worker, wait: Callable[[], Awaitable[object]], *, for_newer: bool = False
    ) -> None:
        if not self._is_stopping and await worker.rest(wait, for_newer=for_newer):
            return
        if self._is_stopping:
            raise _StoppedError

    def _has_news(self, command_id: str) -> None:
        if command_id in self._workers:
            self._workers[command_id].look_again()

    # Polling

    async def leads(self, *, for_s: float) -> bool:
        """Whether it is this processor that lists commands, and nobody else, for so long."""
        return await self._claims.leads(for_s=for_s)

    # Ending

    async def aclose(self) -> None:
        """Let others have what is in hand, after all has ended."""
        await self._claims.aclose()

    def stop(self) -> list[Work]:
        """Begin nothing more, and end all rests.

        Returns:
            What still runs.
        """
        self._is_stopping = True
        for worker in self._workers.values():
            worker.rouse()
        return list(self._works.values())

    def left_s(self, shutdown_timeout_s: float) -> float:
        """How long to wait for what still runs, less what whoever delivered it has waited."""
        now_s = self._clock.monotonic()
        waited = [
            0.0 if worker.left_at_s is None else now_s - worker.left_at_s
            for worker in self._workers.values()
        ]
        return max(0.0, shutdown_timeout_s - min(waited, default=0.0))
