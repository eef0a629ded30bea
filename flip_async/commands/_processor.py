"""One place where a device maker says what a device does with a command."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import attrs

from flip_async._aio._callbacks import run_user_code
from flip_async._aio._shutdown import GracefulShutdown
from flip_async._aio._tasks import running_loop
from flip_async._aio._work import GivenUpError, Work, finish
from flip_async._backoff import Backoff
from flip_async._checks import (
    check_async,
    check_callback,
    check_clock,
    check_count,
    check_kind,
    check_seconds,
    check_seconds_or_none,
)
from flip_async._clients._oem import FlipClient
from flip_async._clock import Clock, SystemClock
from flip_async._http._retry import Retries
from flip_async.commands._ledger import CommandLedger, MemoryCommandLedger, check_ledger
from flip_async.commands._versions import Versions
from flip_async.commands._workers import CommandWorkers, Counts, OnCommand, OnUnacknowledged
from flip_async.errors import ClientClosedError, ConfigurationError, FlipError
from flip_async.models._base import UNSET
from flip_async.models.commands import Command, DeviceStatus
from flip_async.webhooks._deduplicator import Deduplicator
from flip_async.webhooks._deliveries import leaving
from flip_async.webhooks._events import CommandEvent
from flip_async.webhooks._handlers import Handlers
from flip_async.webhooks._receiver import SHUTDOWN_TIMEOUT_S

logger: Final = logging.getLogger("flip_async.commands")

POLL_EVERY_S: Final = 60.0
_LONGEST_ASKED_S: Final = 3600.0
_LEADS_FOR, _LOOKS_EVERY = 1.25, 0.5
"""Of `poll_every_s`: where the processor that lists dies, another one does within two of them."""
_AFTER_BUG: Final = Backoff(base_s=1.0, cap_s=60.0)


@attrs.frozen(kw_only=True)
class ProcessorStats:
    """What a command processor does at this moment, and has done since it was made.

    Attributes:
        in_hand: Commands that are worked on, between two tries too.
        acknowledged: Acknowledgements that Flip took.
        unacknowledged: Those that were given up for good; `on_unacknowledged` was told.
        last_poll_error: Why commands could not be listed the last time; `None` where they
            could.
    """

    in_hand: int
    acknowledged: int
    unacknowledged: int
    last_poll_error: str | None


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

    A command that is not acknowledged when the processor stops, or when its client is closed,
    comes again: from the inbox, by Flip's re-delivery, or with the next list. `stats` tells
    what is going on.

    Args:
        on_command: Your function, an `async def`.
        on_started: Is called when a command begins (`command.started`), once for each webhook;
            what it raises lets the webhook come again. Nothing is acknowledged.
        on_ended: Likewise when it is over (`command.ended`).
        on_unacknowledged: Is told the command, the status and the error where telling Flip was
            given up for good, once; it may be async. All of them are logged.
        ledger: Shares commands out between the processors of a fleet: each version is handled by
            one of them, and one of them lists commands. A `MemoryCommandLedger` of its own where
            none is given.
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

    _workers: CommandWorkers | None = None  # of one that is half made too

    def __init__(
        self,
        on_command: OnCommand,
        *,
        on_started: OnCommand | None = None,
        on_ended: OnCommand | None = None,
        on_unacknowledged: OnUnacknowledged | None = None,
        ledger: CommandLedger | None = None,
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
        check_clock(clock)
        check_ledger(ledger)
        self._on_command: Final = on_command
        self._on_time: Final = {"command.started": on_started, "command.ended": on_ended}
        self._on_unacknowledged: Final = on_unacknowledged
        self._poll_every_s: Final = poll_every_s
        self._concurrency: Final = concurrency
        self._handler_timeout_s: Final = handler_timeout_s
        self._shutdown_timeout_s: Final = shutdown_timeout_s
        self._clock: Final = SystemClock() if clock is None else clock
        # Known for as long as the processor lives; all else belongs to one `running`, in one loop.
        self._versions: Final = Versions()
        self._ledger: Final = MemoryCommandLedger(clock=clock) if ledger is None else ledger
        self._counts: Final = Counts()
        self._notices: Final = Deduplicator(self._clock)
        self._workers = None
        self._poller: Work | None = None
        self._last_poll_error: str | None = None
        self._has_run = False

    @property
    def is_running(self) -> bool:
        """Whether it is within `running` or `run`."""
        return self._workers is not None

    @property
    def stats(self) -> ProcessorStats:
        """What it does now, and has done."""
        return ProcessorStats(
            in_hand=0 if self._workers is None else len(self._workers),
            acknowledged=self._counts.acknowledged,
            unacknowledged=self._counts.unacknowledged,
            last_poll_error=self._last_poll_error,
        )

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
        self._running_workers()
        function = self._on_time[event.event_type]
        if function is not None:
            await self._tell_once(function, event)

    async def _tell_once(self, function: OnCommand, event: CommandEvent) -> None:
        work = self._notices.begin(event.webhook_id, lambda: function(event.event_object))
        if work is None:
            return
        await asyncio.wait({work.task})  # which leaves it alone if this is cancelled
        if isinstance(work.error, GivenUpError):
            raise ClientClosedError(f"the processor was stopped before webhook {event.webhook_id}")
        work.task.result()

    async def process(self, command: Command) -> None:
        """Take a version of a command, and wait until it is acknowledged or given up.

        Args:
            command: The command, from wherever you have it.

        Raises:
            ConfigurationError: The processor does not run.
            ClientClosedError: It was stopped before that, or its client closed.
        """
        worker = self._running_workers().offer(command)
        if worker is None:
            return
        error = await worker.wait(leaving.get())
        if isinstance(error, FlipError):
            raise error.again()
        if error is not None:
            raise RuntimeError(f"command {command.id} was not handled") from error

    def _running_workers(self) -> CommandWorkers:
        if self._workers is not None:
            return self._workers
        if self._has_run:
            raise ClientClosedError("the command processor was stopped")
        raise ConfigurationError(
            "the command processor does not run: use `async with processor.running(flip)`"
        )

    async def _poll(self, flip: FlipClient, workers: CommandWorkers, every_s: float) -> None:
        async def list_once() -> float:
            if not await workers.leads(for_s=every_s * _LEADS_FOR):
                return every_s * _LOOKS_EVERY
            async for command in flip.commands.list():
                _offer(workers, command)
            await workers.leads(for_s=every_s * _LEADS_FOR)  # a list may be long
            return every_s

        bugs = 0
        while True:
            try:
                pause_s = await run_user_code(list_once)  # a transport may be a user's
                bugs, self._last_poll_error = 0, None
            except ClientClosedError:
                raise  # nothing comes any more
            except FlipError as error:
                pause_s = max(every_s, min(error.retry_after_s or 0.0, _LONGEST_ASKED_S))
                self._last_poll_error = str(error)
                logger.warning("commands cannot be listed, again in %g s: %s", pause_s, error)
            except Exception as error:
                bugs += 1
                pause_s = max(every_s, _AFTER_BUG.patient_delay_s(bugs, self._clock.random()))
                self._last_poll_error = f"{type(error).__name__}: {error}"
                logger.exception("commands cannot be listed, again in %g s", pause_s)
            await self._clock.sleep(pause_s)

    def _poll_ended(self, poller: Work) -> None:
        error = poller.error
        if error is not None and not isinstance(error, GivenUpError):
            self._last_poll_error = str(error)
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
                await asyncio.wait({poller.task})
                error = poller.error
                if isinstance(error, FlipError):
                    raise error.again()
            await running_loop().create_future()

    @asynccontextmanager
    async def running(self, flip: FlipClient) -> AsyncGenerator[None]:
        """Work as long as this context lasts.

        Leaving it lets functions and acknowledgements that run come to their end, for
        `shutdown_timeout_s` at the most, and waits for nothing else. What was not finished
        comes again: from the inbox, by Flip's re-delivery, or with the next list.

        Args:
            flip: The client to list and acknowledge with; it is not closed.

        Yields:
            Nothing; it works meanwhile.

        Raises:
            ConfigurationError: It runs already, or the ledger cannot be trusted.
            InvalidArgumentError: The client is none.
            StorageError: The ledger cannot be used.
        """
        check_kind(flip, FlipClient, field="flip")
        if self._workers is None:
            await self._ledger.open()
        if self._workers is not None:
            raise ConfigurationError("this command processor runs already")
        workers = self._workers = self._make_workers(flip)
        self._has_run = True
        self._poller = self._start_polling(flip, workers)
        leaving_with: BaseException | None = None
        try:
            yield
        except BaseException as error:
            leaving_with = error
            raise
        finally:
            await self._stop(workers, leaving_with)

    def _make_workers(self, flip: FlipClient) -> CommandWorkers:
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

        return CommandWorkers(
            self._versions,
            self._ledger,
            on_command=self._on_command,
            acknowledge=acknowledge,
            on_unacknowledged=self._on_unacknowledged,
            concurrency=self._concurrency,
            handler_timeout_s=self._handler_timeout_s,
            counts=self._counts,
            clock=self._clock,
        )

    def _start_polling(self, flip: FlipClient, workers: CommandWorkers) -> Work | None:
        every_s = self._poll_every_s
        if every_s is None:
            return None
        poller = Work(lambda: self._poll(flip, workers, every_s))
        poller.task.add_done_callback(lambda _: self._poll_ended(poller))
        return poller

    async def _stop(self, workers: CommandWorkers, leaving_with: BaseException | None) -> None:
        is_cancelled = isinstance(leaving_with, asyncio.CancelledError)
        last = GracefulShutdown(is_cancelled_already=is_cancelled)
        if self._poller is not None:
            self._poller.give_up()
        works = [*workers.stop(), *self._notices.deliveries.works]
        stubborn = await finish(works, last, within_s=workers.left_s(self._shutdown_timeout_s))
        if stubborn:
            logger.error("%d functions do not end though they are cancelled", len(stubborn))
        if self._poller is not None:
            await finish([self._poller], last, within_s=0)
        await last.until_done(workers.aclose())
        await last.until_done(self._ledger.aclose())
        self._workers = self._poller = None
        if last.cancelled is not None and not is_cancelled:
            raise last.cancelled

    def __repr__(self) -> str:
        return f"<CommandProcessor {'running' if self.is_running else 'idle'}>"


def _offer(workers: CommandWorkers, command: Command) -> None:
    try:
        workers.offer(command)
    except ClientClosedError:
        raise
    except Exception:  # the commands behind it are to be handled all the same
        logger.exception("command %s cannot be taken", command.id)
