"""One place where a device maker says what a device does with a command."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from typing import Final

from flip_async._aio._callbacks import run_user_code
from flip_async._aio._shutdown import GracefulShutdown
from flip_async._aio._tasks import detached, running_loop
from flip_async._backoff import Backoff
from flip_async._checks import (
    check_async,
    check_callback,
    check_count,
    check_kind,
    check_seconds,
    check_seconds_or_none,
)
from flip_async._clients._oem import FlipClient
from flip_async._clock import Clock, SystemClock
from flip_async._http._retry import Retries
from flip_async.commands._versions import Ledger
from flip_async.commands._workers import CommandJobs, OnCommand, OnUnacknowledged
from flip_async.errors import (
    ClientClosedError,
    ConfigurationError,
    FlipError,
)
from flip_async.models._base import UNSET
from flip_async.models.commands import Command, DeviceStatus
from flip_async.webhooks._deduplicator import Once
from flip_async.webhooks._events import CommandEvent
from flip_async.webhooks._handlers import Handlers
from flip_async.webhooks._receiver import SHUTDOWN_TIMEOUT_S

logger: Final = logging.getLogger("flip_async.commands")

POLL_EVERY_S: Final = 60.0
_LONGEST_ASKED_S: Final = 3600.0
_AFTER_BUG: Final = Backoff(base_s=1.0, cap_s=60.0)


class CommandProcessor:
    """Hands each command to your function, and acknowledges it to Flip.

    Commands come from webhooks (`register`), from polling `GET /v1/commands`, or from both;
    each version of a command is handled once::

        async def on_command(command: Command) -> None:
            if command.status != "OK":
                await inverter.forget(command.id)
            else:
                await inverter.schedule(command)

        processor = CommandProcessor(on_command)
        async with SandboxClient() as flip:
            await processor.run(flip)

    A version is handled when it asks for an acknowledgement (`device_status` is `PENDING`),
    its end is not past, and it is newer than the last one. So a cancelation, and a
    participant who left, is handled and acknowledged anew; `command.status` tells.

    Your function returns where the device has it, which is acknowledged as `OK`. It raises
    `CommandFailed` where the device cannot; that is acknowledged at once. Whatever else it
    raises, and a try that takes too long, is tried again until 12 minutes after the change,
    then acknowledged as `FAILED_FAULT`. While the process lives it is called once for each
    version, around a crash at least once.

    Args:
        on_command: Your function, an `async def`.
        on_started: Is called when a command begins (`command.started`), once for each webhook;
            what it raises lets the webhook come again. Nothing is acknowledged.
        on_ended: Likewise when it is over (`command.ended`).
        on_unacknowledged: Is told the command, the status and the error where Flip could not
            be told; it may be async. All of them are logged.
        poll_every_s: How often to list commands, at the start and then again, in seconds;
            `None` for webhooks alone.
        concurrency: How many of your functions run at once.
        handler_timeout_s: How long one try of your function may take, in seconds.
        shutdown_timeout_s: How long leaving waits for functions that run, in seconds.
        clock: Time and luck, for tests.

    Raises:
        InvalidArgumentError: A function is no `async def`, or a number is out of range.

    Source:
        https://docs.flip.energy/doc-512546
    """

    _jobs: CommandJobs | None = None  # of one that is half made too

    def __init__(
        self,
        on_command: OnCommand,
        *,
        on_started: OnCommand | None = None,
        on_ended: OnCommand | None = None,
        on_unacknowledged: OnUnacknowledged | None = None,
        poll_every_s: float | None = POLL_EVERY_S,
        concurrency: int = 100,
        handler_timeout_s: float = 60.0,
        shutdown_timeout_s: float = SHUTDOWN_TIMEOUT_S,
        clock: Clock | None = None,
    ) -> None:
        check_async(on_command, field="on_command")
        for name, function in (("on_started", on_started), ("on_ended", on_ended)):
            if function is not None:
                check_async(function, field=name)
        check_callback(on_unacknowledged, field="on_unacknowledged")
        check_seconds_or_none(poll_every_s, field="poll_every_s")
        check_seconds(handler_timeout_s, field="handler_timeout_s")
        check_seconds(shutdown_timeout_s, field="shutdown_timeout_s")
        check_count(concurrency, field="concurrency")
        self._on_command: Final = on_command
        self._on_time: Final = {"command.started": on_started, "command.ended": on_ended}
        self._on_unacknowledged: Final = on_unacknowledged
        self._poll_every_s: Final = poll_every_s
        self._concurrency: Final = concurrency
        self._handler_timeout_s: Final = handler_timeout_s
        self._shutdown_timeout_s: Final = shutdown_timeout_s
        self._clock: Final = SystemClock() if clock is None else clock
        self._ledger: Final = Ledger()
        self._once: Final = Once(self._clock)
        self._jobs = None
        self._poller: asyncio.Task[None] | None = None
        self._stopping_since_s: float | None = None

    @property
    def is_running(self) -> bool:
        """Whether it is within `running` or `run`."""
        return self._jobs is not None

    # Where commands come from

    def register(self, handlers: Handlers) -> None:
        """Take all events about commands from a registry.

        Args:
            handlers: The registry.

        Raises:
            ConfigurationError: It has a handler for one of them.
        """
        handlers.on("command.created")(self.handle)
        handlers.on("command.started")(self.handle)
        handlers.on("command.ended")(self.handle)
        handlers.on("command.canceled")(self.handle)
        handlers.on("command.updated")(self.handle)
        handlers.on_winding_down(self.wind_down)

    async def handle(self, event: CommandEvent) -> None:
        """Take an event, and wait until its command is acknowledged or given up.

        Args:
            event: What a webhook told, or a message queue.

        Raises:
            ConfigurationError: The processor does not run.
            ClientClosedError: It was stopped before that; the event should come again.
            Exception: What `on_started` or `on_ended` raises.
        """
        if event.event_type not in self._on_time:
            await self.process(event.event_object)
            return
        self._running_jobs()
        function = self._on_time[event.event_type]
        if function is not None:
            await self._tell_once(function, event)

    async def _tell_once(self, function: OnCommand, event: CommandEvent) -> None:
        async def job() -> None:
            await function(event.event_object)

        task = self._once.begin(event.webhook_id, job)
        if task is None:
            return
        await asyncio.wait({task})  # which leaves it alone if this is cancelled
        if task.cancelled():
            raise ClientClosedError(f"the processor was stopped before webhook {event.webhook_id}")
        task.result()

    async def process(self, command: Command) -> None:
        """Take a version of a command, and wait until it is acknowledged or given up.

        Args:
            command: The command, from wherever you have it.

        Raises:
            ConfigurationError: The processor does not run.
            ClientClosedError: It was stopped before that.
        """
        done = self._running_jobs().offer(command)
        if done is None:
            return
        error = await asyncio.shield(done)
        if isinstance(error, FlipError):
            raise error.again()
        if error is not None:
            raise RuntimeError(f"command {command.id} was not handled") from error

    def _running_jobs(self) -> CommandJobs:
        if self._jobs is None:
            raise ConfigurationError(
                "the command processor does not run: use `async with processor.running(flip)`"
            )
        return self._jobs

    async def _poll(self, flip: FlipClient, jobs: CommandJobs, every_s: float) -> None:
        async def list_once() -> None:
            async for command in flip.commands.list():
                jobs.offer(command)

        bugs = 0
        while True:
            pause_s = every_s
            try:
                await run_user_code(list_once)  # a transport may be a user's
                bugs = 0
            except ClientClosedError:
                raise  # nothing comes any more
            except FlipError as error:
                pause_s = max(every_s, min(error.retry_after_s or 0.0, _LONGEST_ASKED_S))
                logger.warning("commands cannot be listed, again in %g s: %s", pause_s, error)
            except Exception:
                bugs += 1
                pause_s = max(every_s, _AFTER_BUG.patient_delay_s(bugs, self._clock.random()))
                logger.exception("commands cannot be listed, again in %g s", pause_s)
            await self._clock.sleep(pause_s)

    def _poll_ended(self, poller: asyncio.Task[None]) -> None:
        if not poller.cancelled() and (error := poller.exception()) is not None:
            logger.warning("commands are not listed any more: %s", error)

    # Life

    async def run(self, flip: FlipClient) -> None:
        """Work until this is cancelled, as a worker does.

        Args:
            flip: The client to list and acknowledge with.

        Raises:
            ConfigurationError: It runs already.
            InvalidArgumentError: The client is none.
            ClientClosedError: The client was closed.
        """
        async with self.running(flip):
            poller = self._poller
            if poller is not None:
                await asyncio.wait({poller})
                if not poller.cancelled():
                    poller.result()
            await running_loop().create_future()

    @asynccontextmanager
    async def running(self, flip: FlipClient) -> AsyncGenerator[None]:
        """Work as long as this context lasts.

        Leaving it lets functions and acknowledgements that run come to their end, for
        `shutdown_timeout_s` at the most, and waits for nothing else. What was not finished
        comes again: from the inbox, by Flip's re-delivery, or with the next list.

        Args:
            flip: The client to list and acknowledge with; it is not closed.

        Raises:
            ConfigurationError: It runs already.
            InvalidArgumentError: The client is none.
        """
        if self._jobs is not None:
            raise ConfigurationError("this command processor runs already")
        check_kind(flip, FlipClient, field="flip")
        jobs = self._jobs = self._make_jobs(flip)
        self._poller = self._start_polling(flip, jobs)
        leaving_with: BaseException | None = None
        try:
            yield
        except BaseException as error:
            leaving_with = error
            raise
        finally:
            await self._stop(jobs, leaving_with)

    def _make_jobs(self, flip: FlipClient) -> CommandJobs:
        # Acknowledgements are tried again here, for as long as Flip waits: not within a call too.
        once = flip.with_options(retries=Retries(max_attempts=1))

        async def acknowledge(
            command_id: str, device_status: DeviceStatus, reason: str | None, deadline_s: float
        ) -> Command:
            return await once.commands.update_status(
                command_id,
                device_status,
                reason=UNSET if reason is None else reason,
                deadline_s=deadline_s,
            )

        return CommandJobs(
            self._ledger,
            on_command=self._on_command,
            acknowledge=acknowledge,
            on_unacknowledged=self._on_unacknowledged,
            concurrency=self._concurrency,
            handler_timeout_s=self._handler_timeout_s,
            clock=self._clock,
        )

    def _start_polling(self, flip: FlipClient, jobs: CommandJobs) -> asyncio.Task[None] | None:
        if self._poll_every_s is None:
            return None
        poller = detached(self._poll(flip, jobs, self._poll_every_s))
        poller.add_done_callback(self._poll_ended)
        return poller

    def wind_down(self) -> None:
        """Begin nothing more, and end all waits between two tries."""
        if self._stopping_since_s is None:
            self._stopping_since_s = self._clock.monotonic()
        if self._poller is not None:
            self._poller.cancel()
        if self._jobs is not None:
            self._jobs.stop()

    async def _stop(self, jobs: CommandJobs, leaving_with: BaseException | None) -> None:
        self.wind_down()
        tasks = [*jobs.stop(), *self._once.running.values()]
        last = GracefulShutdown(
            is_cancelled_already=isinstance(leaving_with, asyncio.CancelledError)
        )
        if self._poller is not None:
            await last.until_ended([self._poller])
        # Whoever wound down has waited too: both together no longer than one of them.
        waited_s = self._clock.monotonic() - (self._stopping_since_s or 0.0)
        left_s = max(0.0, self._shutdown_timeout_s - waited_s)
        await last.until_done(_wait_for(tasks, left_s))
        for task in tasks:
            task.cancel()
        await last.until_ended(tasks)
        self._jobs = self._poller = self._stopping_since_s = None
        if last.cancelled is not None and leaving_with is None:
            raise last.cancelled

    def __repr__(self) -> str:
        return f"<CommandProcessor {'running' if self.is_running else 'idle'}>"


async def _wait_for(tasks: Collection[asyncio.Task[None]], timeout_s: float) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=timeout_s)
