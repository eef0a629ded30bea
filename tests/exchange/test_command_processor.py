"""From a command to its acknowledgement [W3], [W4]: in virtual time, against a Flip of our own."""

import asyncio
import contextlib
import contextvars
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import msgspec
import pytest

from flip_async import SANDBOX, FlipClient, Retries, errors
from flip_async._aio import _work
from flip_async.commands import CommandFailed, CommandProcessor, ProcessorStats
from flip_async.commands._workers import FAULT_REASON
from flip_async.models import Command, DeviceStatus
from flip_async.webhooks import CommandEvent, Handlers, verify
from flip_async.webhooks._deliveries import leaving
from tests.support import START, ManualClock, settle
from tests.support.webhooks import SECRET, body_of, command_row, iso, signed


class CommandFlip(httpx.AsyncBaseTransport):
    """Flip's commands: lists them, takes acknowledgements, and fails as told."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.rows: dict[str, dict[str, Any]] = {}
        self.acknowledged: list[tuple[str, str, str | None]] = []
        self.lists = 0
        self.next_list_answers: deque[httpx.Response | BaseException] = deque()
        self.next_answers: deque[httpx.Response | BaseException] = deque()
        self.patch_gate: asyncio.Event | None = None
        self.when_patched: Callable[[dict[str, Any]], None] | None = None
        self.whole_seconds = False

    def now(self) -> str:
        after_s = self.clock.wall() - START.wall_s
        return iso(after_s // 1).replace(".000Z", "Z") if self.whole_seconds else iso(after_s)

    def change(self, command_id: str = "c", **fields: Any) -> dict[str, Any]:
        known = self.rows.get(command_id) or command_row(id=command_id)
        self.rows[command_id] = (
            known | {"updated_at": self.now(), "device_status": "PENDING"} | fields
        )
        return dict(self.rows[command_id])

    def cancel(self, command_id: str = "c") -> dict[str, Any]:
        return self.change(command_id, status="CANCELED")

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        if request.method == "GET":
            self.lists += 1
            if self.next_list_answers:
                return self._give(self.next_list_answers.popleft())
            return httpx.Response(200, json=list(self.rows.values()))
        await request.aread()
        return await self._patch(request.url.path.rsplit("/")[-1], json.loads(request.content))

    async def _patch(self, command_id: str, body: dict[str, Any]) -> httpx.Response:
        status, reason = body["device_status"], body.get("device_status_reason")
        self.acknowledged.append((command_id, status, reason))
        if self.patch_gate is not None:
            await self.patch_gate.wait()
        if self.next_answers:
            return self._give(self.next_answers.popleft())
        row = self.rows[command_id]
        if self.when_patched is not None:
            self.when_patched(row)
            row = self.rows[command_id]
        row |= {
            "device_status": status,
            "device_status_reason": reason,
            "updated_at": self.now(),
        }
        return httpx.Response(200, json=row)

    @staticmethod
    def _give(answer: httpx.Response | BaseException) -> httpx.Response:
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Device:
    """What a device maker writes, under the control of a test."""

    def __init__(self) -> None:
        self.handled: list[tuple[str, str]] = []
        self.next_errors: deque[BaseException] = deque()
        self.always: BaseException | None = None
        self.gate: asyncio.Event | None = None
        self.running = self.most_at_once = 0

    async def __call__(self, command: Command) -> None:
        self.handled.append((command.id, str(command.status)))
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.running -= 1
        if self.next_errors:
            raise self.next_errors.popleft()
        if self.always is not None:
            raise self.always


@pytest.fixture
def server(clock: ManualClock) -> CommandFlip:
    return CommandFlip(clock)


@pytest.fixture
async def flip(server: CommandFlip) -> AsyncIterator[FlipClient]:
    async with FlipClient(
        environment=SANDBOX,
        api_key="fl_your_api_key",
        transport=server,
        retries=Retries(max_attempts=1),
    ) as client:
        yield client


@pytest.fixture
def device() -> Device:
    return Device()


def make(device: Device, clock: ManualClock, **options: Any) -> CommandProcessor:
    options = {"poll_every_s": None, "shutdown_timeout_s": 0.05} | options
    return CommandProcessor(device, clock=clock, **options)


def event(row: dict[str, Any], event_type: str = "command.created", webhook_id: str = "w") -> Any:
    body = body_of(event_type, row | {"object_type": "command"})
    found = verify(body, signed(body, webhook_id), SECRET, now=START.wall_s)
    assert isinstance(found, CommandEvent)
    return found


class Delivery:
    """A webhook's way from a receiver that may close."""

    def __init__(self) -> None:
        self._left: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def begin(self, processor: CommandProcessor, row: dict[str, Any]) -> asyncio.Task[None]:
        context = contextvars.copy_context()
        context.run(leaving.set, self._left)
        return asyncio.create_task(processor.handle(event(row)), context=context)

    def leave(self) -> None:
        self._left.set_result(True)


def begin(processor: CommandProcessor, row: dict[str, Any], **options: Any) -> asyncio.Task[None]:
    return asyncio.create_task(processor.handle(event(row, **options)))


# Handling and acknowledging


async def test_a_handler_that_returns_is_acknowledged_as_ok(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    async with (processor := make(device, clock)).running(flip):
        assert processor.is_running
        await processor.handle(event(server.change()))

    assert device.handled == [("c", "OK")]
    assert server.acknowledged == [("c", "OK", None)]
    assert not processor.is_running


@pytest.mark.parametrize("status", ["FAILED_OFFLINE", DeviceStatus.FAILED_FAULT])
async def test_a_command_that_failed_is_acknowledged_at_once_with_its_reason(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock, status: str
) -> None:
    device.next_errors.append(CommandFailed(status, "No contact for 40 minutes"))
    async with (processor := make(device, clock)).running(flip):
        await processor.handle(event(server.change()))

    assert server.acknowledged == [("c", status, "No contact for 40 minutes")]
    assert len(device.handled) == 1


@pytest.mark.parametrize("status", ["OK", "PENDING", "FAILED", "", None, 5])
def test_a_command_fails_in_one_of_two_ways(status: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="FAILED_OFFLINE, FAILED_FAULT"):
        CommandFailed(status)
    with pytest.raises(errors.InvalidArgumentError, match="reason"):
        CommandFailed("FAILED_FAULT", 5)  # type: ignore[arg-type]


async def test_any_other_exception_is_tried_again(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    device.next_errors += [ValueError("one"), TimeoutError("two"), asyncio.CancelledError()]
    async with (processor := make(device, clock)).running(flip):
        done = begin(processor, server.change())
        await clock.pass_time(30)
        await done

    assert len(device.handled) == 4
    assert server.acknowledged == [("c", "OK", None)]


async def test_after_twelve_minutes_it_is_a_fault_and_the_exception_stays_here(
    flip: FlipClient,
    server: CommandFlip,
    device: Device,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    device.always = ValueError("at 10.0.0.7: wrong password")
    async with (processor := make(device, clock)).running(flip):
        done = begin(processor, server.change())
        await clock.pass_time(11 * 60)
        assert server.acknowledged == []
        await clock.pass_time(60)
        await done

    assert server.acknowledged == [("c", "FAILED_FAULT", FAULT_REASON)]
    assert "password" not in FAULT_REASON
    assert "wrong password" in caplog.text
    assert 10 < len(device.handled) < 40


async def test_a_late_command_is_tried_once_all_the_same(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    """It was in an inbox while the process was down."""
    row = server.change()
    device.always = ValueError("no")
    clock.move(3000)
    async with (processor := make(device, clock)).running(flip):
        await processor.handle(event(row))

    assert len(device.handled) == 1
    assert server.acknowledged == [("c", "FAILED_FAULT", FAULT_REASON)]


async def test_a_try_that_takes_too_long_is_ended_and_tried_again(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    device.gate = asyncio.Event()
    async with (processor := make(device, clock, handler_timeout_s=0.02)).running(flip):
        done = begin(processor, server.change())
        while device.running or not device.handled:
            await asyncio.sleep(0.005)
        device.gate.set()
        await clock.pass_time(5)
        await done

    assert len(device.handled) == 2
    assert server.acknowledged == [("c", "OK", None)]


async def test_so_many_handlers_run_at_once_and_no_more(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    device.gate = asyncio.Event()
    async with (processor := make(device, clock, concurrency=3)).running(flip):
        done = [begin(processor, server.change(str(n)), webhook_id=str(n)) for n in range(10)]
        await settle()
        assert device.running == 3
        device.gate.set()
        await asyncio.gather(*done)

    assert device.most_at_once == 3
    assert len(server.acknowledged) == 10


async def test_a_command_that_waits_for_its_next_try_takes_no_place(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    device.next_errors.append(ValueError("later"))
    async with (processor := make(device, clock, concurrency=1)).running(flip):
        first = begin(processor, server.change("one"))
        await settle()
        await processor.handle(event(server.change("two")))
        assert server.acknowledged == [("two", "OK", None)]
        await clock.pass_time(5)
        await first


# Versions


async def test_a_version_is_handled_once_from_whichever_side_it_comes(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    row = server.change()
    async with (processor := make(device, clock, poll_every_s=60)).running(flip):
        await asyncio.gather(
            processor.handle(event(row)),
            processor.handle(event(row, webhook_id="again")),
            processor.process(msgspec.convert(row, Command)),
        )
        await clock.pass_time(300)
        await processor.handle(event(row))

    assert server.lists >= 5
    assert device.handled == [("c", "OK")]
    assert server.acknowledged == [("c", "OK", None)]


async def test_a_cancelation_is_handled_and_acknowledged_anew(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    async with (processor := make(device, clock)).running(flip):
        await processor.handle(event(server.change()))
        clock.move(60)
        await processor.handle(event(server.cancel(), "command.canceled"))
        clock.move(60)
        row = server.change(status="OPT_OUT")
        await processor.handle(event(row, "command.updated"))

    assert device.handled == [("c", "OK"), ("c", "CANCELED"), ("c", "OPT_OUT")]
    assert server.acknowledged == [("c", "OK", None)] * 3


async def test_what_is_overtaken_while_it_is_handled_is_not_acknowledged(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    """An acknowledgement names no version: it would count for the cancelation."""
    device.gate = asyncio.Event()
    async with (processor := make(device, clock)).running(flip):
        first = begin(processor, server.change())
        await settle()
        clock.move(1)
        second = begin(processor, server.cancel(), event_type="command.canceled")
        await settle()
        assert device.handled == [("c", "OK")]
        device.gate.set()
        await asyncio.gather(first, second)

    assert device.handled == [("c", "OK"), ("c", "CANCELED")]
    assert server.acknowledged == [("c", "OK", None)]
    assert server.rows["c"]["status"] == "CANCELED"


async def test_a_cancelation_ends_the_tries_of_what_it_cancels(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    device.next_errors += [ValueError("no"), ValueError("no")]
    async with (processor := make(device, clock)).running(flip):
        first = begin(processor, server.change())
        await clock.pass_time(1)
        clock.move(0.1)
        second = begin(processor, server.cancel(), event_type="command.canceled")
        await settle()  # no time passes: it does not wait for the next try
        await asyncio.gather(first, second)

    assert device.handled[-1] == ("c", "CANCELED")
    assert server.acknowledged == [("c", "OK", None)]


async def test_a_cancelation_that_crosses_the_acknowledgement_is_handled_after_all(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    """Flip takes the acknowledgement for one of the cancelation, and the device must know."""
    row = server.change()
    canceled: list[dict[str, Any]] = []

    def cancel_first(row: dict[str, Any]) -> None:
        server.when_patched = None
        clock.move(1)
        canceled.append(server.cancel())
        clock.move(1)

    server.when_patched = cancel_first
    async with (processor := make(device, clock)).running(flip):
        await processor.handle(event(row))
        await processor.handle(event(canceled[0], "command.canceled"))

    assert device.handled == [("c", "OK"), ("c", "CANCELED")]
    assert len(server.acknowledged) == 2


async def test_a_cancelation_that_comes_during_the_acknowledgement_is_handled_next(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    server.patch_gate = asyncio.Event()
    async with (processor := make(device, clock)).running(flip):
        first = begin(processor, server.change())
        await settle()
        assert server.acknowledged == [("c", "OK", None)]
        clock.move(1)
        second = begin(processor, server.cancel(), event_type="command.canceled")
        await settle()
        server.patch_gate.set()
        await asyncio.gather(first, second)

    assert device.handled == [("c", "OK"), ("c", "CANCELED")]
    assert len(server.acknowledged) == 2


async def test_a_change_that_comes_in_the_last_step_of_a_worker_is_handled(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    """The task has ended, and its end was not noticed yet."""
    async with (processor := make(device, clock)).running(flip):
        workers, ledger, loop = processor._workers, processor._versions, asyncio.get_running_loop()
        assert workers is not None
        real = ledger.acknowledged

        def acknowledged(handled: Command, answer: Command) -> Command | None:
            clock.move(1)
            if handled.status == "OK":
                change = msgspec.convert(server.cancel(), Command)
                loop.call_soon(workers.offer, change)
            return real(handled, answer)

        ledger.acknowledged = acknowledged  # type: ignore[method-assign]
        await processor.handle(event(server.change()))
        await settle()

    assert device.handled == [("c", "OK"), ("c", "CANCELED")]
    assert server.rows["c"]["device_status"] == "OK"


async def test_a_server_whose_answers_always_differ_is_not_answered_for_ever(
    flip: FlipClient,
    server: CommandFlip,
    device: Device,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def change(row: dict[str, Any]) -> None:
        clock.move(1)
        server.change(starts_at=iso(clock.wall() - START.wall_s))

    server.when_patched = change
    async with (processor := make(device, clock)).running(flip):
        await processor.handle(event(server.change()))

    assert len(server.acknowledged) == 4
    assert "each answer of Flip's says something else" in caplog.text


@pytest.mark.parametrize(
    "fields",
    [{"device_status": "OK"}, {"device_status": "FAILED"}, {"ends_at": iso(-1)}],
    ids=str,
)
async def test_what_asks_for_nothing_is_left_alone(
    flip: FlipClient,
    server: CommandFlip,
    device: Device,
    clock: ManualClock,
    fields: dict[str, Any],
) -> None:
    async with (processor := make(device, clock)).running(flip):
        await processor.handle(event(server.change() | fields))

    assert device.handled == []
    assert server.acknowledged == []


# Acknowledgements that fail


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.Response(503),
        httpx.Response(429),
        httpx.Response(500),
        httpx.Response(401),
        httpx.Response(403),
        httpx.ConnectError("down"),
        httpx.ReadTimeout("slow"),
    ],
    ids=repr,
)
async def test_an_acknowledgement_is_tried_again(
    flip: FlipClient,
    server: CommandFlip,
    device: Device,
    clock: ManualClock,
    trouble: httpx.Response | Exception,
) -> None:
    server.next_answers.append(trouble)
    async with (processor := make(device, clock)).running(flip):
        done = begin(processor, server.change())
        await clock.pass_time(30)
        await done

    assert len(device.handled) == 1
    assert len(server.acknowledged) == 2


async def test_an_acknowledgement_waits_as_long_as_the_server_asks(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    """And is sent once each time, whatever the client's own retries are."""
    server.next_answers.append(httpx.Response(429, headers={"Retry-After": "100"}))
    stubborn = flip.with_options(retries=Retries(max_attempts=9))
    async with (processor := make(device, clock)).running(stubborn):
        done = begin(processor, server.change())
        await clock.pass_time(99)
        assert len(server.acknowledged) == 1
        await clock.pass_time(2)
        await done

    assert len(server.acknowledged) == 2


class Unacknowledged:
    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []

    def __call__(self, command: Command, status: DeviceStatus, error: errors.FlipError) -> None:
        self.told.append((command.id, str(status), type(error).__name__))


async def test_an_acknowledgement_that_cannot_be_given_is_reported_after_fifteen_minutes(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    told = Unacknowledged()
    server.next_answers.extend(httpx.Response(503) for _ in range(1000))
    async with (processor := make(device, clock, on_unacknowledged=told)).running(flip):
        done = begin(processor, server.change())
        await clock.pass_time(14 * 60)
        assert told.told == []
        await clock.pass_time(60)
        await done
        assert len(device.handled) == 1
        count = len(server.acknowledged)
        await processor.handle(event(server.rows["c"]))

    assert told.told == [("c", "OK", "ServerError")]
    assert len(server.acknowledged) == count


@pytest.mark.parametrize("status", [400, 404, 409, 422])
async def test_an_acknowledgement_that_is_refused_for_good_is_reported_at_once(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock, status: int
) -> None:
    told = Unacknowledged()
    server.next_answers.append(httpx.Response(status))
    async with (processor := make(device, clock, on_unacknowledged=told)).running(flip):
        await processor.handle(event(server.change()))

    assert len(told.told) == 1
    assert len(server.acknowledged) == 1


@pytest.mark.parametrize("bug", [RuntimeError("a bug"), asyncio.CancelledError("a bug")], ids=repr)
async def test_a_bug_of_a_transport_costs_one_try_and_stops_nobody(
    flip: FlipClient,
    server: CommandFlip,
    device: Device,
    clock: ManualClock,
    bug: BaseException,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """[B1], [B3]: nobody was cancelled, and the processor was not stopped."""
    server.next_answers.append(bug)
    async with (processor := make(device, clock)).running(flip):
        done = begin(processor, server.change())
        await clock.pass_time(5)
        await done

    assert len(device.handled) == 1
    assert len(server.acknowledged) == 2
    assert "stopped" not in caplog.text
    assert "a bug while it was acknowledged" in caplog.text


async def test_a_clock_that_jumps_changes_no_window(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    """They are placed when the version arrives [B6]: forward gives nothing up, back prolongs nothing."""
    for jump_s in (3600, -7200):
        device.next_errors += [ValueError("busy")] * 2
        server.next_answers += [httpx.Response(503)] * 2
        async with (processor := make(device, clock)).running(flip):
            done = begin(processor, server.change(str(jump_s)))
            await settle()
            clock.jump_wall(jump_s)
            await clock.pass_time(30)
            await done
    assert [status for _, status, _ in server.acknowledged] == ["OK"] * 6

    device.always = ValueError("no")
    async with (processor := make(device, clock)).running(flip):
        done = begin(processor, server.change())
        await settle()
        clock.jump_wall(-3600)
        await clock.pass_time(12 * 60)
        await done

    assert server.acknowledged[-1] == ("c", "FAILED_FAULT", FAULT_REASON)


async def test_stats_tell_what_became_of_commands_and_of_polling(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    server.next_list_answers += [httpx.Response(503), RuntimeError("a bug")]
    server.next_answers += [httpx.Response(404)]
    async with (processor := make(device, clock, poll_every_s=60)).running(flip):
        await processor.handle(event(server.change("one")))
        await processor.handle(event(server.change("two"), webhook_id="two"))
        assert processor.stats == ProcessorStats(
            in_hand=0,
            acknowledged=1,
            unacknowledged=1,
            last_poll_error="GET /v1/commands: 503 Service Unavailable",
        )
        await clock.pass_time(60)
        assert processor.stats.last_poll_error == "RuntimeError: a bug"
        await clock.pass_time(60)
        assert processor.stats.last_poll_error is None


async def test_without_somebody_to_tell_it_is_in_the_log(
    flip: FlipClient,
    server: CommandFlip,
    device: Device,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.next_answers.append(httpx.Response(404))
    async with (processor := make(device, clock)).running(flip):
        await processor.handle(event(server.change()))

    assert "command c (OK) could not be acknowledged" in caplog.text


async def test_an_answer_that_cannot_be_read_is_an_acknowledgement_all_the_same(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    told = Unacknowledged()
    server.next_answers.append(httpx.Response(200, content=b"fine"))
    async with (processor := make(device, clock, on_unacknowledged=told)).running(flip):
        await processor.handle(event(server.change()))

    assert told.told == []
    assert len(server.acknowledged) == 1


async def test_a_cancelation_ends_the_tries_to_acknowledge_what_it_cancels(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    told = Unacknowledged()
    server.next_answers.append(httpx.Response(503))
    async with (processor := make(device, clock, on_unacknowledged=told)).running(flip):
        first = begin(processor, server.change())
        await settle()
        clock.move(0.1)
        second = begin(processor, server.cancel(), event_type="command.canceled")
        await settle()
        await asyncio.gather(first, second)

    assert device.handled == [("c", "OK"), ("c", "CANCELED")]
    assert told.told == []


# Polling


async def test_commands_are_listed_at_the_start_and_then_once_a_minute(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    server.change("one")
    async with make(device, clock, poll_every_s=60).running(flip):
        await settle()
        assert server.acknowledged == [("one", "OK", None)]
        server.change("two")
        await clock.pass_time(59)
        assert server.lists == 1
        await clock.pass_time(2)
        assert server.lists == 2

    assert [command_id for command_id, _ in device.handled] == ["one", "two"]


async def test_a_list_that_is_older_than_an_acknowledgement_is_no_news(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    old = server.change()
    async with (processor := make(device, clock, poll_every_s=60)).running(flip):
        await processor.handle(event(old))
        clock.move(30)
        server.next_list_answers.append(httpx.Response(200, json=[old]))
        await clock.pass_time(60)

    assert server.lists == 2
    assert len(device.handled) == 1


@pytest.mark.parametrize(
    ("trouble", "pause_s"),
    [
        (httpx.Response(503), 60),
        (httpx.Response(429, headers={"Retry-After": "300"}), 300),
        (httpx.Response(429, headers={"Retry-After": "5"}), 60),
        (httpx.ConnectError("down"), 60),
        (httpx.Response(200, content=b"not json"), 60),
    ],
)
async def test_a_list_that_fails_is_asked_for_again_when_the_server_wants_it(
    flip: FlipClient,
    server: CommandFlip,
    device: Device,
    clock: ManualClock,
    trouble: httpx.Response | Exception,
    pause_s: int,
) -> None:
    server.next_list_answers.append(trouble)
    server.change()
    async with make(device, clock, poll_every_s=60).running(flip):
        await clock.pass_time(pause_s - 1)
        assert server.lists == 1
        await clock.pass_time(2)
        assert server.lists == 2

    assert len(device.handled) == 1


@pytest.mark.parametrize("bug", [RuntimeError("a bug"), asyncio.CancelledError("a bug")], ids=repr)
async def test_a_bug_in_one_list_ends_no_polling_and_is_logged(
    flip: FlipClient,
    server: CommandFlip,
    device: Device,
    clock: ManualClock,
    bug: BaseException,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Only closing ends it [B3]; the pauses grow where polling is quicker than they are."""
    server.next_list_answers += [bug] * 4
    server.change()
    async with make(device, clock, poll_every_s=0.1).running(flip):
        await clock.pass_time(0.6)
        assert server.lists == 1
        await clock.pass_time(0.75 + 1.5 + 3 + 6)
        assert server.lists >= 5

    assert len(device.handled) == 1
    assert caplog.text.count("commands cannot be listed, again in") == 4
    assert f"{type(bug).__name__}: a bug" in caplog.text


async def test_a_worker_runs_until_its_client_is_closed(
    server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    async with FlipClient(
        environment=SANDBOX, api_key="fl_your_api_key", transport=server
    ) as client:
        worker = asyncio.create_task(make(device, clock, poll_every_s=60).run(client))
        await settle()
        assert server.lists == 1
    await clock.pass_time(61)

    with pytest.raises(errors.ClientClosedError):
        await worker


async def test_a_worker_without_polling_runs_until_it_is_cancelled(
    flip: FlipClient, device: Device, clock: ManualClock
) -> None:
    worker = asyncio.create_task(make(device, clock).run(flip))
    await settle()
    assert not worker.done()
    worker.cancel()

    with pytest.raises(asyncio.CancelledError):
        await worker


# Begin and end


async def test_begin_and_end_are_told_once_for_each_webhook_and_not_acknowledged(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    told: list[str] = []

    async def started(command: Command) -> None:
        told.append(f"started {command.id}")

    async def ended(command: Command) -> None:
        told.append(f"ended {command.id}")

    row = command_row(id="c", device_status="OK")
    processor = make(device, clock, on_started=started, on_ended=ended)
    async with processor.running(flip):
        for _ in range(3):
            await processor.handle(event(row, "command.started", "s"))
            await processor.handle(event(row, "command.ended", "e"))

    assert told == ["started c", "ended c"]
    assert device.handled == []
    assert server.acknowledged == []


async def test_what_a_function_for_the_begin_raises_lets_the_webhook_come_again(
    flip: FlipClient, device: Device, clock: ManualClock
) -> None:
    calls: list[str] = []

    async def started(command: Command) -> None:
        calls.append(command.id)
        if len(calls) == 1:
            raise ValueError("not now")

    row = command_row(id="c")
    async with (processor := make(device, clock, on_started=started)).running(flip):
        with pytest.raises(ValueError, match="not now"):
            await processor.handle(event(row, "command.started"))
        await processor.handle(event(row, "command.started"))
        await processor.handle(event(row, "command.ended"))

    assert calls == ["c", "c"]


async def test_a_cancelled_error_from_within_is_a_failure_of_the_function(
    flip: FlipClient, device: Device, clock: ManualClock
) -> None:
    """Whoever waits for it is not cancelled, and must not be told so [B1]."""
    calls: list[str] = []

    async def started(command: Command) -> None:
        calls.append(command.id)
        if len(calls) == 1:
            raise asyncio.CancelledError

    row = command_row(id="c")
    async with (processor := make(device, clock, on_started=started)).running(flip):
        with pytest.raises(Exception, match="let a CancelledError out"):
            await processor.handle(event(row, "command.started"))
        await processor.handle(event(row, "command.started"))

    assert calls == ["c", "c"]


async def test_whoever_waits_for_a_function_that_leaving_cuts_off_is_told_so(
    flip: FlipClient, device: Device, clock: ManualClock
) -> None:
    async def started(command: Command) -> None:
        await asyncio.Event().wait()

    async with (processor := make(device, clock, on_started=started)).running(flip):
        done = begin(processor, command_row(id="c"), event_type="command.started")
        await settle()

    with pytest.raises(errors.ClientClosedError, match="stopped before webhook w"):
        await done


# Life


async def test_leaving_lets_a_handler_that_runs_finish_and_acknowledges_it(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    device.gate = asyncio.Event()
    async with (processor := make(device, clock, shutdown_timeout_s=30)).running(flip):
        done = begin(processor, server.change())
        await settle()
        asyncio.get_running_loop().call_later(0.05, device.gate.set)
    await done

    assert server.acknowledged == [("c", "OK", None)]


async def test_leaving_does_not_wait_for_the_next_try_and_the_event_comes_again(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    device.next_errors.append(ValueError("no"))
    row = server.change()
    async with (processor := make(device, clock, shutdown_timeout_s=3600)).running(flip):
        waiting = [begin(processor, row), begin(processor, row)]
        await settle()
    for one in waiting:
        with pytest.raises(errors.ClientClosedError, match="stopped before command c"):
            await one
    assert server.acknowledged == []

    async with processor.running(flip):
        await processor.handle(event(row))

    assert len(device.handled) == 2
    assert server.acknowledged == [("c", "OK", None)]


async def test_leaving_ends_a_handler_that_takes_too_long(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    device.gate = asyncio.Event()
    async with (processor := make(device, clock)).running(flip):
        done = begin(processor, server.change())
        await settle()

    assert device.running == 0
    with pytest.raises(errors.ClientClosedError):
        await done


async def test_whoever_delivers_and_the_processor_wait_together_no_longer_than_one_of_them(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    device.gate = asyncio.Event()
    delivery = Delivery()
    async with (processor := make(device, clock, shutdown_timeout_s=3600)).running(flip):
        done = delivery.begin(processor, server.change())
        await settle()
        delivery.leave()
        await settle()
        assert not done.done()  # its function runs, and is waited for
        clock.move(3600)  # a receiver has waited for it

    with pytest.raises(errors.ClientClosedError):
        await done
    assert device.running == 0


async def test_an_acknowledgement_that_leaving_cuts_off_comes_again(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    """It is not given up, so nobody is told; and the device has it, so it is not called again."""
    told = Unacknowledged()
    server.patch_gate = asyncio.Event()
    row = server.change()
    processor = make(device, clock, on_unacknowledged=told)
    async with processor.running(flip):
        done = begin(processor, row)
        await settle()
    with pytest.raises(errors.ClientClosedError, match="stopped before command c"):
        await done
    with pytest.raises(errors.ClientClosedError, match="was stopped"):
        await processor.handle(event(row))

    server.patch_gate = None
    async with processor.running(flip):
        await processor.handle(event(row))

    assert told.told == []
    assert len(device.handled) == 1
    assert server.rows["c"]["device_status"] == "OK"


async def test_leaving_does_not_wait_for_the_next_try_to_acknowledge(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    """No time passes, and what is not acknowledged comes again."""
    told = Unacknowledged()
    server.next_answers.append(httpx.Response(503, headers={"Retry-After": "600"}))
    row = server.change()
    processor = make(device, clock, on_unacknowledged=told, shutdown_timeout_s=3600)
    async with processor.running(flip):
        done = begin(processor, row)
        await settle()
        assert processor.stats.in_hand == 1
    with pytest.raises(errors.ClientClosedError):
        await done

    async with processor.running(flip):
        await processor.handle(event(row))

    assert told.told == []
    assert len(device.handled) == 1
    assert server.acknowledged == [("c", "OK", None)] * 2


async def test_a_version_that_was_left_unfinished_and_has_changed_is_handled_anew(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    server.next_answers.append(httpx.Response(503))
    async with (processor := make(device, clock)).running(flip):
        done = begin(processor, server.change())
        await settle()
    with pytest.raises(errors.ClientClosedError):
        await done

    clock.move(1)
    async with processor.running(flip):
        await processor.handle(event(server.cancel()))

    assert device.handled == [("c", "OK"), ("c", "CANCELED")]


async def test_leaving_does_not_wait_for_a_place(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    """Those that wait for one are told at once, and never called."""
    device.gate = gate = asyncio.Event()
    processor = make(device, clock, concurrency=1, shutdown_timeout_s=30)

    async def look_at(first: asyncio.Task[None], *others: asyncio.Task[None]) -> None:
        for other in others:
            with pytest.raises(errors.ClientClosedError):
                await other
        assert not first.done()
        gate.set()

    async with processor.running(flip):
        done = [begin(processor, server.change(name), webhook_id=name) for name in "abc"]
        await settle()
        looking = asyncio.create_task(look_at(*done))
    await looking
    await done[0]

    assert device.handled == [("a", "OK")]


async def test_a_client_that_is_closed_first_costs_no_acknowledgement(
    server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    """Closing order does not matter: with another client it comes again."""
    told, row = Unacknowledged(), server.change()
    device.gate = asyncio.Event()
    processor = make(device, clock, on_unacknowledged=told)
    for _ in range(2):
        flip = FlipClient(environment=SANDBOX, api_key="fl_your_api_key", transport=server)
        async with processor.running(flip):
            done = begin(processor, row)
            await settle()
            if not device.gate.is_set():
                await flip.aclose()
                device.gate.set()
                with pytest.raises(errors.ClientClosedError, match="client was closed before"):
                    await done
            await asyncio.wait([done])
        await flip.aclose()

    assert told.told == []
    assert len(device.handled) == 1
    assert server.acknowledged == [("c", "OK", None)]


async def test_whoever_delivers_and_closes_is_not_kept_by_a_pause(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    """And the processor, which another application runs, goes on."""
    server.next_answers.append(httpx.Response(503))
    delivery = Delivery()
    async with (processor := make(device, clock)).running(flip):
        done = delivery.begin(processor, server.change())
        await settle()
        delivery.leave()
        with pytest.raises(errors.ClientClosedError, match="not acknowledged yet"):
            await done
        await clock.pass_time(5)

    assert server.acknowledged == [("c", "OK", None)] * 2
    assert processor.stats.acknowledged == 1


async def test_whoever_delivers_and_closes_waits_for_a_function_that_runs(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    device.gate = asyncio.Event()
    delivery = Delivery()
    async with (processor := make(device, clock)).running(flip):
        done = delivery.begin(processor, server.change())
        await settle()
        delivery.leave()
        await settle()
        device.gate.set()
        await done

    assert server.acknowledged == [("c", "OK", None)]


async def test_a_function_that_ignores_its_end_does_not_keep_the_processor(
    flip: FlipClient,
    server: CommandFlip,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(_work, "_ENDS_WITHIN_S", 0.05)
    free = asyncio.Event()

    async def stubborn(command: Command) -> None:
        while not free.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await free.wait()

    processor = CommandProcessor(stubborn, poll_every_s=None, shutdown_timeout_s=0.05, clock=clock)
    async with processor.running(flip):
        begin(processor, server.change())
        await settle()

    assert "1 functions do not end though they are cancelled" in caplog.text
    free.set()
    await settle()


async def test_nobody_who_waits_is_disturbed_by_one_who_leaves(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    device.gate = asyncio.Event()
    row = server.change()
    async with (processor := make(device, clock)).running(flip):
        impatient, patient = begin(processor, row), begin(processor, row)
        await settle()
        impatient.cancel()
        await settle()
        device.gate.set()
        await patient

    assert server.acknowledged == [("c", "OK", None)]


async def test_the_body_s_own_error_comes_out_as_it_is(
    flip: FlipClient, device: Device, clock: ManualClock
) -> None:
    with pytest.raises(ValueError, match="my own"):
        async with make(device, clock, poll_every_s=60).running(flip):
            raise ValueError("my own")


async def test_a_processor_that_does_not_run_says_so(
    flip: FlipClient, device: Device, clock: ManualClock
) -> None:
    processor = make(device, clock)
    with pytest.raises(errors.ConfigurationError, match="does not run"):
        await processor.handle(event(command_row()))
    with pytest.raises(errors.ConfigurationError, match="does not run"):
        await processor.handle(event(command_row(), "command.started"))
    async with processor.running(flip):
        with pytest.raises(errors.ConfigurationError, match="runs already"):
            async with processor.running(flip):
                raise AssertionError
    with pytest.raises(errors.InvalidArgumentError, match="flip"):
        async with processor.running("flip"):  # type: ignore[arg-type]
            raise AssertionError
    assert repr(processor) == "<CommandProcessor idle>"


def test_it_works_in_two_event_loops_one_after_the_other(device: Device) -> None:
    clock = ManualClock()
    server = CommandFlip(clock)
    processor = make(device, clock, poll_every_s=60)

    async def work(command_id: str) -> None:
        async with (
            FlipClient(environment=SANDBOX, api_key="fl_your_api_key", transport=server) as flip,
            processor.running(flip),
        ):
            await processor.handle(event(server.change(command_id)))

    for command_id in ("one", "two"):
        asyncio.run(work(command_id))

    assert [command_id for command_id, _, _ in server.acknowledged] == ["one", "two"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"poll_every_s": 0}, "poll_every_s"),
        ({"concurrency": 0}, "concurrency"),
        ({"handler_timeout_s": None}, "handler_timeout_s"),
        ({"shutdown_timeout_s": -1}, "shutdown_timeout_s"),
    ],
)
def test_a_number_out_of_range_is_named(
    device: Device, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=field):
        CommandProcessor(device, **options)


def test_functions_that_would_block_are_refused(device: Device) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="on_command: is an `async def`"):
        CommandProcessor(print)  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidArgumentError, match="on_started"):
        CommandProcessor(device, on_started=print)  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidArgumentError, match="on_unacknowledged"):
        CommandProcessor(device, on_unacknowledged=5)  # type: ignore[arg-type]


async def test_a_registry_hands_it_all_events_about_commands(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    handlers = Handlers()
    processor = make(device, clock)
    processor.register(handlers)
    async with processor.running(flip):
        await handlers.dispatch(event(server.change()))
        clock.move(1)
        await handlers.dispatch(event(server.cancel(), "command.canceled"))
        await handlers.dispatch(event(server.rows["c"], "command.ended"))

    assert device.handled == [("c", "OK"), ("c", "CANCELED")]
    with pytest.raises(errors.ConfigurationError, match="has a handler"):
        processor.register(handlers)


async def test_what_is_given_up_is_told_once_though_leaving_cuts_the_telling_off(
    flip: FlipClient, server: CommandFlip, device: Device, clock: ManualClock
) -> None:
    told: list[str] = []

    async def tell(command: Command, status: DeviceStatus, error: errors.FlipError) -> None:
        told.append(command.id)
        await asyncio.Event().wait()

    server.next_answers.append(httpx.Response(404))
    row = server.change()
    processor = make(device, clock, on_unacknowledged=tell)
    async with processor.running(flip):
        done = begin(processor, row)
        await settle()
    await done
    async with processor.running(flip):
        await processor.handle(event(row))

    assert told == ["c"]
    assert len(server.acknowledged) == 1


async def test_a_callback_that_never_ends_keeps_nobody_waiting(
    flip: FlipClient,
    server: CommandFlip,
    device: Device,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """[B4]: whoever waits for the command waits for it no longer than for a function."""

    async def told(command: Command, status: DeviceStatus, error: errors.FlipError) -> None:
        await asyncio.Event().wait()

    server.next_answers.append(httpx.Response(404))
    processor = make(device, clock, on_unacknowledged=told, handler_timeout_s=0.02)
    async with processor.running(flip):
        await processor.handle(event(server.change()))

    assert "told took longer than 0.02 s" in caplog.text
