"""Commands that change, arrive in any order and twice, and acknowledgements that fail [W3], [W4].

Whatever happens on the way: in the end the device does what Flip last said, Flip has an
acknowledgement of just that, and no two handlers of one command ever ran at the same time.
"""

import asyncio
import itertools
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flip_async import SANDBOX, FlipClient, Retries
from flip_async.commands import CommandProcessor, MemoryCommandLedger
from flip_async.models import Command
from tests.exchange.test_command_processor import CommandFlip, event
from tests.support import START, ManualClock, settle
from tests.support.webhooks import iso

COMMANDS = ["one", "two"]
steps = st.one_of(
    st.tuples(
        st.just("change"),
        st.sampled_from(COMMANDS),
        st.sampled_from(["OK", "CANCELED", "OPT_OUT"]),
    ),
    st.tuples(st.just("deliver"), st.integers(0, 20), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.3, 2.0, 40.0]), st.none()),
    st.tuples(st.just("handler fails"), st.integers(1, 3), st.none()),
    st.tuples(st.just("answer is lost"), st.sampled_from([503, 429, None]), st.none()),
    st.tuples(st.just("hold answers"), st.booleans(), st.none()),
)


class Home:
    """The devices, and what they were last told."""

    def __init__(self) -> None:
        self.plan: dict[str, str] = {}
        self.busy: set[str] = set()
        self.failures = 0

    async def __call__(self, command: Command) -> None:
        assert command.id not in self.busy, "two handlers of one command at once"
        self.busy.add(command.id)
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if self.failures:
                self.failures -= 1
                raise ValueError("not now")
            self.plan[command.id] = str(command.status)
        finally:
            self.busy.discard(command.id)


class Weather:
    """Plays steps, and keeps what was not delivered yet."""

    def __init__(self, *, whole_seconds: bool, processors: int = 1) -> None:
        self.clock = ManualClock()
        self.server = CommandFlip(self.clock)
        self.home = Home()
        self.server.whole_seconds = whole_seconds
        self.undelivered: list[Any] = []
        self.delivering: list[asyncio.Task[None]] = []
        ledger = MemoryCommandLedger(clock=self.clock)
        self.processors = [
            CommandProcessor(self.home, ledger=ledger, poll_every_s=None, clock=self.clock)
            for _ in range(processors)
        ]
        self.deliveries = itertools.count()

    def change(self, command_id: str, status: str) -> None:
        known = self.server.rows.get(command_id)
        if known is None:
            status = "OK"
        elif known["status"] == status or known["status"] != "OK":
            return  # canceled is canceled: that it comes back is not documented
        row = self.server.change(command_id, status=status)
        event_type = "command.created" if known is None else "command.updated"
        webhook_id = f"{command_id}{len(self.undelivered)}{self.clock.monotonic_s}"
        self.undelivered.append(event(row, event_type, webhook_id))

    def deliver(self, number: int, *, keep: bool) -> None:
        if self.undelivered:
            number %= len(self.undelivered)
            found = self.undelivered[number] if keep else self.undelivered.pop(number)
            # To each of them in turn, as behind a load balancer.
            processor = self.processors[next(self.deliveries) % len(self.processors)]
            self.delivering.append(asyncio.create_task(processor.handle(found)))

    async def play(self, step: tuple[str, Any, Any]) -> None:
        match step:
            case "change", command_id, status:
                self.change(command_id, status)
            case "deliver", number, keep:
                self.deliver(number, keep=keep)
            case "wait", seconds, _:
                await self.clock.pass_time(seconds)
            case "handler fails", times, _:
                self.home.failures = times
            case "answer is lost", status, _:
                lost = httpx.ReadTimeout("lost") if status is None else httpx.Response(status)
                self.server.next_answers.append(lost)
            case "hold answers", hold, _:
                gate, self.server.patch_gate = self.server.patch_gate, None
                if gate is not None:
                    gate.set()
                if hold:
                    self.server.patch_gate = asyncio.Event()
        await settle()

    async def clear_up(self) -> None:
        """The weather ends: what is on its way arrives, and nothing fails any more."""
        await self.play(("hold answers", False, None))
        self.server.next_answers.clear()
        self.home.failures = 0
        while self.undelivered:
            self.deliver(0, keep=False)
            await settle()
        await self.clock.pass_time(300)
        await asyncio.gather(*self.delivering)


async def live_through(
    played: list[tuple[str, Any, Any]], *, whole_seconds: bool, processors: int = 1
) -> Weather:
    weather = Weather(whole_seconds=whole_seconds, processors=processors)
    async with (
        FlipClient(
            environment=SANDBOX,
            api_key="fl_your_api_key",
            transport=weather.server,
            retries=Retries(max_attempts=1),
        ) as flip,
        AsyncExitStack() as stack,
    ):
        for processor in weather.processors:
            await stack.enter_async_context(processor.running(flip))
        for step in played:
            await weather.play(step)
        await weather.clear_up()
    return weather


@pytest.mark.parametrize("processors", [1, 3])
@pytest.mark.parametrize("whole_seconds", [False, True])
@settings(max_examples=150)
@given(played=st.lists(steps, max_size=25))
def test_the_device_ends_with_what_flip_last_said_and_flip_knows(
    whole_seconds: bool, processors: int, played: list[tuple[str, Any, Any]]
) -> None:
    weather = asyncio.run(live_through(played, whole_seconds=whole_seconds, processors=processors))

    for command_id, row in weather.server.rows.items():
        assert weather.home.plan[command_id] == row["status"]
        assert row["device_status"] == "OK"


def test_the_weather_has_what_it_promises() -> None:
    """Else the test above would hold for a processor that does nothing."""
    weather = asyncio.run(
        live_through(
            [
                ("change", "one", "OK"),
                ("deliver", 0, True),
                ("hold answers", True, None),
                ("change", "one", "CANCELED"),
                ("deliver", 1, True),
                ("answer is lost", None, None),
                ("handler fails", 2, None),
                ("wait", 2.0, None),
            ],
            whole_seconds=True,
        )
    )

    assert weather.home.plan == {"one": "CANCELED"}
    assert len(weather.server.acknowledged) >= 3
    assert weather.server.rows["one"]["updated_at"] > iso(-START.wall_s)
