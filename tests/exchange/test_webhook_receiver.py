"""What a webhook is answered, and how often its handler runs, without an inbox [W2]."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from flip_async import SANDBOX, FlipClient, errors
from flip_async._aio import _work
from flip_async.commands import CommandProcessor
from flip_async.webhooks import (
    CommandEvent,
    EnrollmentEvent,
    Handlers,
    ReceiverStats,
    Reply,
    SettingsEvent,
    UnknownEvent,
    WebhookReceiver,
)
from flip_async.webhooks._deduplicator import Deduplicator
from tests.exchange.test_command_processor import CommandFlip, Device
from tests.support import ManualClock, settle
from tests.support.webhooks import OTHER_SECRET, SECRET, MemoryInbox, body_of, example, signed

ENROLLED = body_of("enrollment.updated", example("enrollment.updated")["event_object"])


class Recorder:
    """A handler that does as it is told."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.gate: asyncio.Event | None = None
        self.fail_times = 0
        self.trouble: BaseException = ValueError("the handler's own trouble")
        self.cancelled = 0

    async def __call__(self, event: EnrollmentEvent) -> None:
        self.seen.append(event.webhook_id)
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if self.fail_times:
            self.fail_times -= 1
            raise self.trouble


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def handlers(recorder: Recorder) -> Handlers:
    handlers = Handlers()
    handlers.on("enrollment.updated")(recorder)
    return handlers


@pytest.fixture
async def receiver(handlers: Handlers, clock: ManualClock) -> AsyncIterator[WebhookReceiver]:
    async with make(handlers, clock) as receiver:
        yield receiver


def make(handlers: Handlers, clock: ManualClock, **options: Any) -> WebhookReceiver:
    options = {"answer_within_s": 0.05, "shutdown_timeout_s": 0.05} | options
    return WebhookReceiver(handlers, secret=SECRET, clock=clock, **options)


async def deliver(receiver: WebhookReceiver, webhook_id: str = "a") -> Reply:
    return await receiver.receive(ENROLLED, signed(ENROLLED, webhook_id))


async def test_success_is_answered_when_the_handler_has_finished(
    receiver: WebhookReceiver, recorder: Recorder
) -> None:
    recorder.gate = asyncio.Event()
    answer = asyncio.create_task(deliver(receiver))
    await settle()
    assert not answer.done()

    recorder.gate.set()

    assert await answer == Reply(204)
    assert recorder.seen == ["a"]


async def test_a_webhook_that_comes_again_is_answered_and_not_handled(
    receiver: WebhookReceiver, recorder: Recorder
) -> None:
    for _ in range(5):
        assert (await deliver(receiver)).status == 204
    assert (await deliver(receiver, "b")).status == 204

    assert recorder.seen == ["a", "b"]


async def test_deliveries_that_overlap_share_one_run_and_its_outcome(
    receiver: WebhookReceiver, recorder: Recorder
) -> None:
    recorder.gate, recorder.fail_times = asyncio.Event(), 1
    answers = [asyncio.create_task(deliver(receiver)) for _ in range(10)]
    await settle()
    recorder.gate.set()

    replies = await asyncio.gather(*answers)

    assert {reply.status for reply in replies} == {500}
    assert recorder.seen == ["a"]


async def test_a_handler_that_fails_runs_again_with_the_re_delivery(
    receiver: WebhookReceiver, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.fail_times = 2

    statuses = [(await deliver(receiver)).status for _ in range(4)]

    assert statuses == [500, 500, 204, 204]
    assert recorder.seen == ["a"] * 3
    assert caplog.text.count("ValueError: the handler's own trouble") == 2
    assert (await deliver(receiver)).reason is None


async def test_a_cancelled_error_from_within_is_a_failure_of_the_handler(
    receiver: WebhookReceiver, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """The receiver is not closing, and nobody gave the handler up [B1]."""
    recorder.fail_times, recorder.trouble = 1, asyncio.CancelledError()

    assert await deliver(receiver) == Reply(500, "the handler failed")
    assert "webhook a (enrollment.updated): its handler failed" in caplog.text
    assert (await deliver(receiver)).status == 204


async def test_a_reply_does_not_show_what_the_handler_raised(
    receiver: WebhookReceiver, recorder: Recorder
) -> None:
    recorder.fail_times = 1

    assert (await deliver(receiver)).reason == "the handler failed"


async def test_a_handler_that_is_busy_goes_on_and_the_re_delivery_joins_it(
    receiver: WebhookReceiver, recorder: Recorder
) -> None:
    recorder.gate = asyncio.Event()
    assert (await deliver(receiver)).status == 503

    again = asyncio.create_task(deliver(receiver))
    await settle()
    recorder.gate.set()

    assert (await again).status == 204
    assert recorder.seen == ["a"]


async def test_a_re_delivery_gets_the_outcome_of_a_handler_that_has_finished_meanwhile(
    receiver: WebhookReceiver, recorder: Recorder
) -> None:
    recorder.gate = asyncio.Event()
    assert (await deliver(receiver)).status == 503
    recorder.gate.set()
    await settle()

    assert (await deliver(receiver)).status == 204
    assert recorder.seen == ["a"]


async def test_a_busy_handler_that_fails_is_logged_and_runs_again(
    receiver: WebhookReceiver, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.gate, recorder.fail_times = asyncio.Event(), 1
    assert (await deliver(receiver)).status == 503
    recorder.gate.set()
    await settle()
    assert "webhook a (enrollment.updated): its handler failed" in caplog.text

    assert (await deliver(receiver)).status == 204
    assert recorder.seen == ["a", "a"]


async def test_a_request_that_goes_away_does_not_take_the_handler_with_it(
    receiver: WebhookReceiver, recorder: Recorder
) -> None:
    recorder.gate = asyncio.Event()
    answer = asyncio.create_task(deliver(receiver))
    await settle()
    answer.cancel()
    await settle()
    recorder.gate.set()
    await settle()

    assert recorder.cancelled == 0
    assert (await deliver(receiver)).status == 204
    assert recorder.seen == ["a"]


async def test_successes_are_remembered_for_a_day(
    receiver: WebhookReceiver, recorder: Recorder, clock: ManualClock
) -> None:
    async def deliver_now() -> None:
        headers = signed(ENROLLED, "a", at_s=clock.wall())
        assert (await receiver.receive(ENROLLED, headers)).status == 204

    await deliver_now()
    clock.move(24 * 3600 - 1)
    await deliver_now()
    assert recorder.seen == ["a"]

    clock.move(2)
    await deliver_now()

    assert recorder.seen == ["a", "a"]


async def test_so_many_are_remembered_and_the_oldest_goes_first(clock: ManualClock) -> None:
    runs: list[str] = []
    once = Deduplicator(clock, at_most=2)

    async def begin(key: str) -> None:
        async def job() -> None:
            runs.append(key)

        work = once.begin(key, job)
        if work is not None:
            await work.task

    for key in "abcbca":
        await begin(key)

    assert "".join(runs) == "abca"


# Refusals


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({"Webhook-Id": ""}, 400, "Webhook-Id is not there"),
        ({"Webhook-Timestamp": "soon"}, 400, "Webhook-Timestamp"),
        (signed(b"another body"), 401, "no signature fits"),
        (signed(ENROLLED, at_s=1_700_000_000), 401, "ago"),
    ],
)
async def test_what_is_not_flips_is_refused_and_says_why(
    receiver: WebhookReceiver,
    recorder: Recorder,
    headers: dict[str, str],
    status: int,
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    reply = await receiver.receive(ENROLLED, signed(ENROLLED) | headers)

    assert reply.status == status
    assert reply.reason is not None
    assert words in reply.reason
    assert words in caplog.text
    assert recorder.seen == []


async def test_a_body_that_was_decoded_is_a_mistake_of_ours(receiver: WebhookReceiver) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="body"):
        await receiver.receive("{}", signed(b"{}"))  # type: ignore[arg-type]


async def test_a_webhook_of_flips_that_cannot_be_read_is_an_error_in_the_log(
    receiver: WebhookReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    body = body_of("enrollment.updated", {"id": 5})

    reply = await receiver.receive(body, signed(body))

    assert reply.status == 400
    assert [r.levelname for r in caplog.records] == ["ERROR"]
    assert "$.event_object.id" in caplog.text


async def test_an_event_that_nobody_takes_is_answered_with_success(
    receiver: WebhookReceiver, recorder: Recorder
) -> None:
    for event_type in ("event.created", "something.new"):
        body = body_of(event_type, example("event.created")["event_object"])
        assert (await receiver.receive(body, signed(body, event_type))).status == 204

    assert recorder.seen == []


# Life


async def test_closing_waits_for_handlers_that_run(
    handlers: Handlers, recorder: Recorder, clock: ManualClock
) -> None:
    recorder.gate = asyncio.Event()
    async with make(handlers, clock, shutdown_timeout_s=30) as receiver:
        assert (await deliver(receiver)).status == 503
        asyncio.get_running_loop().call_later(0.05, recorder.gate.set)

    assert recorder.cancelled == 0
    assert (await deliver(receiver, "b")).status == 503


async def test_closing_gives_up_what_takes_too_long_and_names_it(
    handlers: Handlers, recorder: Recorder, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.gate = asyncio.Event()
    async with make(handlers, clock) as receiver:
        replies = await asyncio.gather(deliver(receiver, "one"), deliver(receiver, "two"))
    assert [reply.status for reply in replies] == [503, 503]

    assert recorder.cancelled == 2
    assert "given up: webhooks one, two" in caplog.text


async def test_whoever_waits_for_a_handler_that_is_given_up_is_told_to_come_again(
    handlers: Handlers, recorder: Recorder, clock: ManualClock
) -> None:
    recorder.gate = asyncio.Event()
    async with make(handlers, clock, answer_within_s=30) as receiver:
        answer = asyncio.create_task(deliver(receiver))
        await settle()

    assert await answer == Reply(503, "closing")


async def test_closing_that_is_cancelled_still_ends_everything(
    handlers: Handlers, recorder: Recorder, clock: ManualClock
) -> None:
    recorder.gate = asyncio.Event()

    async def serve() -> None:
        async with make(handlers, clock, shutdown_timeout_s=3600) as receiver:
            assert (await deliver(receiver)).status == 503

    serving = asyncio.create_task(serve())
    while not recorder.seen:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    for _ in range(2):
        serving.cancel()
        await settle()

    with pytest.raises(asyncio.CancelledError):
        await serving
    assert recorder.cancelled == 1


async def test_closing_that_is_cancelled_after_an_error_of_the_body_is_cancelled(
    handlers: Handlers, recorder: Recorder, clock: ManualClock
) -> None:
    """A cancellation is never swallowed, whatever else went wrong [B1]."""
    recorder.gate = asyncio.Event()

    async def serve() -> None:
        async with make(handlers, clock, shutdown_timeout_s=3600) as receiver:
            assert (await deliver(receiver)).status == 503
            raise ValueError("the body's own")

    serving = asyncio.create_task(serve())
    while not recorder.seen:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    serving.cancel()
    await settle()
    recorder.gate.set()

    with pytest.raises(asyncio.CancelledError):
        await serving
    assert recorder.cancelled == 0


async def test_a_handler_that_ignores_its_end_does_not_keep_the_receiver(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_work, "_ENDS_WITHIN_S", 0.05)
    free, handlers = asyncio.Event(), Handlers()

    @handlers.on("enrollment.updated")
    async def stubborn(event: EnrollmentEvent) -> None:
        while not free.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await free.wait()

    async with make(handlers, clock) as receiver:
        assert (await deliver(receiver)).status == 503

    assert "1 of these handlers do not end though they are cancelled" in caplog.text
    free.set()
    await settle()


async def test_closing_does_not_wait_for_a_command_between_two_tries(
    clock: ManualClock, recorder: Recorder
) -> None:
    """Flip shall come again; the processor, which may be another application's, goes on."""
    server, handlers = CommandFlip(clock), Handlers()
    server.next_answers.append(httpx.Response(503))
    processor = CommandProcessor(Device(), poll_every_s=None, clock=clock)
    processor.register(handlers)
    body = body_of("command.created", server.change())
    async with (
        FlipClient(environment=SANDBOX, api_key="fl_a_b", transport=server) as flip,
        processor.running(flip),
    ):
        slow = {"answer_within_s": 3600, "shutdown_timeout_s": 3600}
        async with make(handlers, clock, **slow) as receiver:
            answer = asyncio.create_task(receiver.receive(body, signed(body)))
            await settle()
        assert (await answer).status == 503
        async with make(handlers, clock) as receiver:
            again = asyncio.create_task(receiver.receive(body, signed(body)))
            await clock.pass_time(5)
            assert (await again).status == 204

    assert server.acknowledged == [("c", "OK", None)] * 2


async def test_a_processor_that_stops_first_lets_flip_come_again(
    clock: ManualClock, recorder: Recorder
) -> None:
    server, handlers = CommandFlip(clock), Handlers()
    server.next_answers.append(httpx.Response(503))
    processor = CommandProcessor(Device(), poll_every_s=None, clock=clock)
    processor.register(handlers)
    body = body_of("command.created", server.change())
    async with (
        FlipClient(environment=SANDBOX, api_key="fl_a_b", transport=server) as flip,
        make(handlers, clock, answer_within_s=3600) as receiver,
    ):
        async with processor.running(flip):
            answer = asyncio.create_task(receiver.receive(body, signed(body)))
            await settle()
        assert (await answer).status == 503
        assert (await receiver.receive(body, signed(body))).status == 503
        async with processor.running(flip):
            assert (await receiver.receive(body, signed(body))).status == 204

    assert server.acknowledged == [("c", "OK", None)] * 2


async def test_what_is_released_and_claimed_again_at_once_is_handled(clock: ManualClock) -> None:
    """Though the task that released it has a last step to go: else nobody would have it."""

    class Eager(MemoryInbox):
        async def _call(self, name: str) -> None:
            self._at(name)

    handlers, calls, inbox = Handlers(), list[str](), Eager(clock)

    @handlers.on("enrollment.updated")
    async def handler(event: EnrollmentEvent) -> None:
        calls.append(event.webhook_id)
        if len(calls) == 1:
            raise errors.ClientClosedError("closed")

    async with make(handlers, clock, inbox=inbox) as receiver:
        assert (await deliver(receiver)).status == 204
        await clock.pass_time(2)

        assert calls == ["a", "a"]
        assert inbox.settled == ["a"]


async def test_stats_tell_what_became_of_webhooks(
    receiver: WebhookReceiver, recorder: Recorder
) -> None:
    recorder.fail_times = 1
    await deliver(receiver)
    await deliver(receiver)
    recorder.gate = asyncio.Event()
    await deliver(receiver, "b")

    assert receiver.stats == ReceiverStats(
        waiting=0,
        in_hand=1,
        handled=1,
        failed=1,
        given_up=0,
        last_error="ValueError: the handler's own trouble",
    )


async def test_a_receiver_that_was_not_entered_says_so(
    handlers: Handlers, clock: ManualClock
) -> None:
    with pytest.raises(errors.ConfigurationError, match="lifespan"):
        await deliver(make(handlers, clock))


async def test_a_receiver_is_entered_once_at_a_time_and_may_be_used_again(
    handlers: Handlers, clock: ManualClock, recorder: Recorder
) -> None:
    receiver = make(handlers, clock)
    async with receiver:
        with pytest.raises(errors.ConfigurationError, match="open already"):
            await receiver.__aenter__()
        await deliver(receiver)
    async with receiver:
        await deliver(receiver)

    assert recorder.seen == ["a"]
    assert repr(receiver) == "<WebhookReceiver closed>"


# Settings


def test_the_signing_key_comes_from_the_environment(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(errors.ConfigurationError, match="FLIP_WEBHOOK_SECRET"):
        WebhookReceiver(handlers)
    monkeypatch.setenv("FLIP_WEBHOOK_SECRET", f"{OTHER_SECRET} {SECRET}\n")
    assert len(WebhookReceiver(handlers)._keys.now._keys) == 2
    monkeypatch.setenv("FLIP_WEBHOOK_SECRET", "whsec_no!key")
    with pytest.raises(errors.ConfigurationError, match="FLIP_WEBHOOK_SECRET") as caught:
        WebhookReceiver(handlers)
    assert "no!key" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["answer_within_s", "shutdown_timeout_s", "give_up_after_s", "tolerance_s"]
)
@pytest.mark.parametrize("value", [-1, None, "4", True])
def test_a_number_out_of_range_is_named(handlers: Handlers, name: str, value: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=name):
        WebhookReceiver(handlers, secret=SECRET, **{name: value})


def test_handlers_are_handlers() -> None:
    with pytest.raises(errors.InvalidArgumentError, match="handlers"):
        WebhookReceiver({}, secret=SECRET)  # type: ignore[arg-type]


# The registry


async def test_each_type_has_one_handler_and_unknown_ones_their_own() -> None:
    handlers, seen = Handlers(), []

    @handlers.on("command.created")
    async def created(event: CommandEvent) -> None:
        seen.append(event.event_object.device_id)

    @handlers.on_unknown
    async def unknown(event: UnknownEvent) -> None:
        seen.append(event.event_type)

    async with WebhookReceiver(handlers, secret=SECRET, clock=ManualClock()) as receiver:
        for number, event_type in enumerate(("command.created", "new.thing", "command.ended")):
            body = body_of(event_type, example("command.created")["event_object"])
            await receiver.receive(body, signed(body, str(number)))

    assert seen == ["inv-77301", "new.thing"]
    with pytest.raises(errors.ConfigurationError, match=r"command\.created has a handler.*created"):
        handlers.on("command.created")(created)
    with pytest.raises(errors.ConfigurationError, match="unknown events have a handler"):
        handlers.on_unknown(unknown)
    assert repr(handlers) == "<Handlers command.created>"


async def test_registries_of_several_modules_make_one() -> None:
    """What they are given later counts too, and they stay as they are."""
    homes, grid, seen = Handlers(), Handlers(), list[str]()
    together = Handlers(homes, grid)

    @homes.on("enrollment.updated")
    async def enrolled(event: EnrollmentEvent) -> None:
        seen.append("homes")

    @grid.on("command.created")
    async def created(event: CommandEvent) -> None:
        seen.append("grid")

    @together.on_unknown
    async def unknown(event: UnknownEvent) -> None:
        seen.append("unknown")

    async with WebhookReceiver(together, secret=SECRET, clock=ManualClock()) as receiver:
        for event_type in ("command.created", "enrollment.updated", "new.thing"):
            body = (
                body_of(event_type, example(event_type)["event_object"])
                if (event_type != "new.thing")
                else body_of(event_type, {})
            )
            await receiver.receive(body, signed(body, event_type))

    assert seen == ["grid", "homes", "unknown"]
    assert together.event_types == {"command.created", "enrollment.updated", "*"}
    assert homes.event_types == {"enrollment.updated"}


async def test_two_functions_for_one_type_are_refused_by_name_whenever_they_come() -> None:
    one, two = Handlers(), Handlers()
    later = Handlers(one, two)

    @one.on("settings.apply")
    async def first(event: SettingsEvent) -> None: ...

    assert Handlers(one, Handlers(one)).event_types == {"settings.apply"}  # one by two ways
    with pytest.raises(errors.ConfigurationError, match="first.*call .*first.* from there"):
        later.on("settings.apply")(first)

    @two.on("settings.apply")
    async def second(event: SettingsEvent) -> None: ...

    says = "settings.apply has two handlers, .*first and .*second: keep one"
    with pytest.raises(errors.ConfigurationError, match=says):
        Handlers(one, two)
    with pytest.raises(errors.ConfigurationError, match=says):
        async with WebhookReceiver(later, secret=SECRET):
            raise AssertionError
    with pytest.raises(errors.InvalidArgumentError, match="others"):
        Handlers({})  # type: ignore[arg-type]


def test_a_type_that_is_not_documented_is_refused() -> None:
    with pytest.raises(errors.ConfigurationError, match=r"command\.made.*command\.created"):
        Handlers().on("command.made")  # type: ignore[call-overload]


def test_a_handler_that_would_block_is_refused() -> None:
    import functools

    def blocking(event: object) -> None: ...

    async def fine(event: object, more: int) -> None: ...

    for wrong in (blocking, functools.partial(blocking), 5, Recorder):
        with pytest.raises(errors.InvalidArgumentError, match="async def"):
            Handlers().on("enrollment.updated")(wrong)  # type: ignore[type-var]
        with pytest.raises(errors.InvalidArgumentError, match="async def"):
            Handlers().on_unknown(wrong)  # type: ignore[type-var]
    assert Handlers().on("enrollment.updated")(functools.partial(fine, more=1))


async def test_a_success_is_nothing_for_the_log(
    receiver: WebhookReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await deliver(receiver)

    assert caplog.records == []
