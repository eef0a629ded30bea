"""Sees each command through: its handler, then its acknowledgement."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, Protocol

import attrs

from flip_async._aio._callbacks import notify, run_user_code
from flip_async._aio._tasks import Signal, detached, running_loop
from flip_async._backoff import Backoff
from flip_async._checks import check_one_of, check_text
from flip_async._clock import Clock
from flip_async.commands._versions import Ledger, Verdict, Window
from flip_async.errors import (
    BadRequestError,
    ClientClosedError,
    ConfigurationError,
    ConflictError,
    DecodeError,
    FlipError,
    InvalidArgumentError,
    NotFoundError,
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
    ClientClosedError,
    ConfigurationError,
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    UnprocessableEntityError,
)
_FAILURES: Final = (DeviceStatus.FAILED_OFFLINE, DeviceStatus.FAILED_FAULT)
_CHANGES_IN_A_ROW: Final = 3
_LONGEST_CALL_S, _SHORTEST_CALL_S = 60.0, 5.0


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


@attrs.frozen
class _Outcome:
    device_status: DeviceStatus
    reason: str | None = None


class _StoppedError(Exception):
    """The work on a command ends here, unfinished."""


class _Job:
    """The work on one command, through all its versions.

    Attributes:
        newest: The version to be handled.
        done: Is given `None`, or why the work ended unfinished.
        wake: Ends a pause.
    """

    def __init__(self, command: Command, window: Window, clock: Clock) -> None:
        self.newest = command
        self.window = window
        self.done: Final[asyncio.Future[Exception | None]] = running_loop().create_future()
        self.wake: Final = Signal(clock)

    def replace(self, command: Command, window: Window) -> None:
        self.newest, self.window = command, window
        self.wake.set()


class CommandJobs:
    """One task for each command that is worked on, in one event loop.

    While a version is worked on a newer one may come. The handler is never interrupted by
    that, but what it made of the older version is not acknowledged: Flip's acknowledgements
    name no version, and it would count for the newer one.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        on_command: OnCommand,
        acknowledge: Acknowledge,
        on_unacknowledged: OnUnacknowledged | None,
        concurrency: int,
        handler_timeout_s: float,
        clock: Clock,
    ) -> None:
        self._ledger: Final = ledger
        self._on_command: Final = on_command
        self._acknowledge: Final = acknowledge
        self._on_unacknowledged: Final = on_unacknowledged
        self._places: Final = asyncio.Semaphore(concurrency)
        self._handler_timeout_s: Final = handler_timeout_s
        self._clock: Final = clock
        self._jobs: Final[dict[str, _Job]] = {}
        self._tasks: Final[dict[asyncio.Task[None], _Job]] = {}
        self._is_stopping = False

    def offer(self, command: Command) -> "asyncio.Future[Exception | None] | None":
        """Work on a version of a command, if it is new.

        Returns:
            What to wait for (shielded); `None` where there is nothing to wait for.
        """
        if self._is_stopping:
            raise ClientClosedError("the command processor is being stopped")
        now_s = self._clock.wall()
        verdict = self._ledger.take(command, datetime.fromtimestamp(now_s, UTC))
        job = self._jobs.get(command.id)
        if verdict is Verdict.HANDLE:
            window = Window.of(command, now_s)
            if job is None:
                job = self._begin(command, window)
            else:
                logger.info("command %s has changed while it was handled", command.id)
                job.replace(command, window)
        elif verdict is Verdict.OVER:
            logger.info("command %s is over and not handled", command.id)
        elif verdict is Verdict.NOT_ASKED:
            return None
        return None if job is None else job.done

    def _begin(self, command: Command, window: Window) -> _Job:
        job = self._jobs[command.id] = _Job(command, window, self._clock)
        task = detached(self._work(job))
        self._tasks[task] = job
        task.add_done_callback(self._ended)
        return job

    def _ended(self, task: asyncio.Task[None]) -> None:
        job = self._tasks.pop(task)
        command_id = job.newest.id
        del self._jobs[command_id]
        error = ClientClosedError("was cut off") if task.cancelled() else task.exception()
        if error is None:
            job.done.set_result(None)
            return
        # It was not handled, or not to the end: when it comes again it is new.
        self._ledger.forget(command_id)
        if isinstance(error, _StoppedError | ClientClosedError):
            logger.warning("command %s is left unfinished: the processor is stopped", command_id)
            error = ClientClosedError(f"the processor was stopped before command {command_id}")
        else:
            logger.critical("command %s: a bug", command_id, exc_info=error)
        job.done.set_result(error if isinstance(error, Exception) else RuntimeError(repr(error)))

    # The task of a command

    async def _work(self, job: _Job) -> None:
        changes = 0
        while True:
            command, window = job.newest, job.window
            outcome = await self._handle(job, command, window)
            if outcome is None or job.newest is not command:
                continue
            answer = await self._tell_flip(job, command, window, outcome)
            if job.newest is not command:
                continue
            change = None if answer is None else self._ledger.acknowledged(command, answer)
            if change is None:
                return
            changes += 1
            if changes > _CHANGES_IN_A_ROW:
                logger.error("command %s: each answer of Flip's says something else", command.id)
                return
            logger.warning("command %s was changed while it was acknowledged", command.id)
            job.replace(change, Window.of(change, self._clock.wall()))

    async def _handle(self, job: _Job, command: Command, window: Window) -> _Outcome | None:
        """Try the handler until it says something; `None` where a newer version has come."""
        attempt = 0
        while True:
            attempt += 1
            async with self._places:
                if job.newest is not command:
                    return None
                if self._is_stopping:
                    raise _StoppedError
                outcome = await self._try(command, window, attempt)
            if outcome is not None or job.newest is not command:
                return outcome
            pause_s = self._pause_s(_TRY_AGAIN, attempt)
            if not window.may_handle(self._clock.wall() + pause_s):
                logger.error("command %s: its handler failed %d times", command.id, attempt)
                return _Outcome(DeviceStatus.FAILED_FAULT, FAULT_REASON)
            if not await self._pause(job, command, pause_s):
                if job.newest is command:
                    raise _StoppedError
                return None

    async def _try(self, command: Command, window: Window, attempt: int) -> _Outcome | None:
        seconds = window.try_s(self._clock.wall(), self._handler_timeout_s)
        timer = asyncio.timeout(seconds)
        try:
            async with timer:
                await run_user_code(self._on_command, command)
            return _Outcome(DeviceStatus.OK)
        except CommandFailed as failed:
            logger.info("command %s: %s", command.id, failed.device_status)
            return _Outcome(failed.device_status, failed.reason)
        except Exception as error:
            why = f"took longer than {seconds:g} s" if timer.expired() else "failed"
            text = "command %s: its handler %s (try %d)"
            logger.warning(text, command.id, why, attempt, exc_info=error)
            return None

    async def _tell_flip(
        self, job: _Job, command: Command, window: Window, outcome: _Outcome
    ) -> Command | None:
        """Acknowledge until Flip has it; `None` where there is nothing more to learn or do."""
        attempt = 0
        while True:
            attempt += 1
            result = await self._tell_flip_once(command, window, outcome)
            if isinstance(result, Command | None) or job.newest is not command:
                return None if isinstance(result, FlipError) else result
            pause_s = max(self._pause_s(_TELL_AGAIN, attempt), result.retry_after_s or 0.0)
            is_late = not window.may_acknowledge(self._clock.wall() + pause_s)
            if isinstance(result, _FINAL) or is_late:
                await self._report(command, outcome, result)
                return None
            logger.warning(
                "command %s is not acknowledged (%s), again in %.1f s", command.id, result, pause_s
            )
            if not await self._pause(job, command, pause_s):
                if job.newest is command:
                    await self._report(command, outcome, result)
                return None

    async def _tell_flip_once(
        self, command: Command, window: Window, outcome: _Outcome
    ) -> Command | FlipError | None:
        left_s = window.left_to_acknowledge_s(self._clock.wall())
        deadline_s = min(_LONGEST_CALL_S, max(_SHORTEST_CALL_S, left_s))
        try:
            return await self._acknowledge(
                command.id, outcome.device_status, outcome.reason, deadline_s
            )
        except DecodeError as error:
            logger.warning("command %s: %s", command.id, error)
            return None  # Flip has it, whatever the answer looks like
        except FlipError as error:
            return error
        except asyncio.CancelledError:
            await self._report(command, outcome, ClientClosedError("the processor was stopped"))
            raise

    async def _report(self, command: Command, outcome: _Outcome, error: FlipError) -> None:
        status = outcome.device_status
        logger.error("command %s (%s) could not be acknowledged: %s", command.id, status, error)
        if self._on_unacknowledged is not None:
            await notify(logger, self._on_unacknowledged, command, status, error)

    def _pause_s(self, back_off: Backoff, attempt: int) -> float:
        return back_off.patient_delay_s(attempt, self._clock.random())

    async def _pause(self, job: _Job, command: Command, seconds: float) -> bool:
        """Wait; whether there is anything left to try for."""
        if self._is_stopping:
            return False
        job.wake.clear()
        await job.wake.wait(seconds)
        return job.newest is command and not self._is_stopping

    # Ending

    def stop(self) -> list[asyncio.Task[None]]:
        """Begin nothing more, and end all pauses.

        Returns:
            The tasks whose handler or acknowledgement still runs.
        """
        self._is_stopping = True
        for job in self._jobs.values():
            job.wake.set()
        return list(self._tasks)
