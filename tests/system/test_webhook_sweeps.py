"""Cancelled or failed at every turn: each webhook is handled or kept, each command acknowledged
or comes again [W2], [W4], [B1], [B12].
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from flip_async import SANDBOX, FlipClient, errors
from flip_async.commands import CommandFailed, CommandProcessor
from flip_async.models import Command, DeviceStatus
from flip_async.webhooks import Handlers, Inbox, SettingsEvent, SqliteInbox, WebhookReceiver
from tests.exchange.test_command_processor import CommandFlip
from tests.support import FastClock, ManualClock
from tests.support.sweeps import How, Scenario, Trap, becomes, sweep, sweep_calls
from tests.support.webhooks import SECRET, MemoryInbox, body_of, command_row, signed
from tests.system.test_sweeps import both, both_errors, one_or_all

FROM_WITHIN = "let a CancelledError out"


class Home:
    """Handles settings, and counts how often each came to its end."""

    def __init__(self, clock: Any, at: Callable[[str], object] = lambda call: None) -> None:
        self.clock = clock
        self.at = at
        self.handled: Counter[str] = Counter()
        self.answered: list[str] = []
        self.given_up: list[str] = []

    async def on_settings(self, event: SettingsEvent) -> None:
        await asyncio.sleep(0)
        self.at("handler")
        await asyncio.sleep(0)
        self.handled[event.webhook_id] += 1

    def on_given_up(self, letter: object, error: Exception) -> None:
        self.at("on_given_up")
        self.given_up.append(str(error))

    def receiver(self, inbox: Inbox | None, **options: Any) -> WebhookReceiver:
        handlers = Handlers()
        handlers.on("settings.apply")(self.on_settings)
        options = {"clock": self.clock, "on_given_up": self.on_given_up, **options}
        return WebhookReceiver(handlers, secret=SECRET, inbox=inbox, **options)

    async def deliver(self, receiver: WebhookReceiver, webhook_id: str) -> int:
        body = body_of("settings.apply", {"id": webhook_id})
        headers = signed(body, webhook_id, at_s=self.clock.wall())
        reply = await receiver.receive(body, headers)
        if reply.status == 204:
            self.answered.append(webhook_id)
        return reply.status

    def is_kept(self) -> bool:
        """Whether all that was answered with success was handled."""
        return set(self.answered) <= set(self.handled)


# Deliveries


@both
@one_or_all
async def test_a_request_that_is_cut_off_costs_nobody_the_outcome(how: How, victims: int) -> None:
    """Without an inbox: handled once, for all that deliver it, and for the next one."""

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        home = Home(ManualClock())
        async with home.receiver(None) as receiver:

            async def act() -> None:
                assert await home.deliver(receiver, "a") == 204

            async def check() -> None:
                assert await home.deliver(receiver, "a") == 204
                assert home.handled == {"a": 1}
                assert receiver.stats.in_hand == 0

            yield Scenario(act=act, check=check, callers=4, victims=victims)

    (await sweep(arrange, how)).assert_clean(at_least=3)


@both
async def test_a_receiver_without_an_inbox_that_is_cut_off_lets_flip_come_again(how: How) -> None:
    """In its whole life: what it answered with success is handled, the rest comes again."""

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        home = Home(ManualClock())
        receiver = home.receiver(None)

        async def act() -> None:
            async with receiver:
                await asyncio.gather(*(home.deliver(receiver, one) for one in "ab"))

        async def check() -> None:
            assert home.is_kept()
            async with receiver:
                for one in "ab":
                    assert await home.deliver(receiver, one) == 204
            assert home.handled == {"a": 1, "b": 1}

        yield Scenario(act=act, check=check)

    (await sweep(arrange, how)).assert_clean(at_least=4)


@both
async def test_a_receiver_on_disk_that_is_cut_off_keeps_what_it_answered(
    how: How, tmp_path: Path
) -> None:
    """From before the file is open until after it is closed; no thread stays behind."""
    runs = 0

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        nonlocal runs
        runs += 1
        home, path = Home(FastClock()), tmp_path / f"{runs}.db"

        def receiver() -> WebhookReceiver:
            return home.receiver(SqliteInbox(path, lease_s=1e6, clock=home.clock))

        async def act() -> None:
            async with receiver() as one:
                await asyncio.gather(*(home.deliver(one, webhook_id) for webhook_id in "ab"))

        async def check() -> None:
            async with receiver() as one:
                for webhook_id in "ab":
                    assert await home.deliver(one, webhook_id) == 204
                assert await becomes(home.is_kept)
            assert max(home.handled.values()) <= 2  # twice only where it was cut off in the middle

        yield Scenario(act=act, check=check)

    (await sweep(arrange, how, step=61)).assert_clean(at_least=10)


@both_errors
async def test_whatever_an_inbox_or_a_handler_raises_nothing_is_lost(
    make_error: Callable[[], BaseException],
) -> None:
    """At each call of either: it is tried again, and a webhook that was not kept is no success."""

    @asynccontextmanager
    async def arrange(trap: Trap) -> AsyncIterator[Scenario]:
        clock = FastClock()
        home, inbox = Home(clock, at=trap), MemoryInbox(clock, at=trap)
        receiver = home.receiver(inbox)

        async def act() -> None:
            async with receiver:
                while await home.deliver(receiver, "a") != 204:
                    await asyncio.sleep(0)
                while len(inbox.settled) < 1:
                    await asyncio.sleep(0.001)

        async def check() -> None:
            assert not inbox.claimed
            assert not inbox.is_open
            assert inbox.settled == (["a"] if trap.where != "open" else [])
            if trap.where not in {None, "open"}:
                says = str(receiver.stats.last_error)
                assert says in {"RuntimeError: of a user's", f"UserCodeError: {FROM_WITHIN}"}

        yield Scenario(act=act, check=check, may_raise=(RuntimeError, errors.StorageError))

    (await sweep_calls(arrange, make_error)).assert_clean(at_least=6)


@both_errors
async def test_what_is_given_up_is_told_and_written_down_whatever_fails(
    make_error: Callable[[], BaseException],
) -> None:
    @asynccontextmanager
    async def arrange(trap: Trap) -> AsyncIterator[Scenario]:
        clock = FastClock()
        told: list[str] = []

        def bury(call: str) -> None:
            if call == "dead_letter":
                trap(call)

        inbox = MemoryInbox(clock, at=bury)

        async def on_given_up(letter: object, error: Exception) -> None:
            await asyncio.sleep(0)
            trap("on_given_up")
            told.append(str(error))

        def fail(call: str) -> None:
            raise ValueError("never")

        receiver = Home(clock, at=fail).receiver(inbox, on_given_up=on_given_up, give_up_after_s=5)

        async def act() -> None:
            async with receiver:
                home = Home(clock)
                assert await home.deliver(receiver, "a") == 204
                while not inbox.dead:
                    await asyncio.sleep(0.001)

        async def check() -> None:
            assert inbox.dead == [("a", "ValueError: never")]
            assert told == ([] if trap.where == "on_given_up" else ["never"])
            assert receiver.stats.given_up == 1

        yield Scenario(act=act, check=check)

    (await sweep_calls(arrange, make_error)).assert_clean(at_least=2)


# Commands


class Device:
    """A device, and a Flip that lists one command for it."""

    def __init__(self, at: Callable[[str], object] = lambda call: None) -> None:
        self.clock = FastClock()
        self.server = CommandFlip(ManualClock())
        self.row = self.server.change(
            ends_at="2999-01-01T00:00:00Z", updated_at=_iso(self.clock.wall())
        )
        self.at = at
        self.handled = 0
        self.told = 0

    async def on_command(self, command: Command) -> None:
        await asyncio.sleep(0)
        self.at("on_command")
        await asyncio.sleep(0)
        self.handled += 1

    def on_unacknowledged(
        self, command: Command, status: DeviceStatus, error: errors.FlipError
    ) -> None:
        self.at("on_unacknowledged")
        self.told += 1

    def processor(self, **options: Any) -> CommandProcessor:
        return CommandProcessor(
            self.on_command, on_unacknowledged=self.on_unacknowledged, clock=self.clock, **options
        )

    def client(self) -> FlipClient:
        return FlipClient(environment=SANDBOX, api_key="fl_your_api_key", transport=self.server)

    @property
    def is_acknowledged(self) -> bool:
        return bool(self.server.rows["c"]["device_status"] == "OK")


def _iso(at_s: float) -> str:
    from flip_async.emulator._grid import iso

    return iso(at_s)


@both
@pytest.mark.parametrize("source", ["a list", "a message queue"])
async def test_a_processor_that_is_cut_off_acknowledges_or_it_comes_again(
    source: str, how: How
) -> None:
    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        device = Device()
        polled = source == "a list"
        processor = device.processor(poll_every_s=60 if polled else None)

        async def act() -> None:
            async with device.client() as flip, processor.running(flip):
                if polled:
                    while not device.is_acknowledged:
                        await asyncio.sleep(0)
                else:
                    await processor.process(_command(device.row))

        async def check() -> None:
            if not device.is_acknowledged:
                await act()
            assert device.is_acknowledged
            assert device.handled <= 2
            assert device.told == 0
            assert processor.stats.in_hand == 0

        yield Scenario(act=act, check=check)

    (await sweep(arrange, how)).assert_clean(at_least=8)


@both
async def test_a_command_of_an_inbox_is_acknowledged_or_comes_again_whatever_is_cut_off(
    how: How, tmp_path: Path
) -> None:
    """While Flip is down too: client, processor and receiver are left in order, and begun anew."""
    runs = 0

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        nonlocal runs
        runs += 1
        device, path = Device(), tmp_path / f"{runs}.db"
        device.server.next_answers.append(httpx.Response(503))
        home = Home(device.clock)

        async def live(*, until: Callable[[], bool]) -> None:
            handlers, processor = Handlers(), device.processor(poll_every_s=None)
            processor.register(handlers)
            inbox = SqliteInbox(path, lease_s=1e6, clock=device.clock)
            receiver = WebhookReceiver(
                handlers, secret=SECRET, inbox=inbox, clock=device.clock, shutdown_timeout_s=5
            )
            async with device.client() as flip, processor.running(flip), receiver:
                body = body_of("command.created", device.row)
                headers = signed(body, "a", at_s=device.clock.wall())
                if (await receiver.receive(body, headers)).status == 204:
                    home.answered.append("a")
                while not until():
                    await asyncio.sleep(0)

        async def check() -> None:
            if home.answered:
                await live(until=lambda: device.is_acknowledged)
            assert device.told == 0

        yield Scenario(act=lambda: live(until=lambda: device.handled > 0), check=check)

    (await sweep(arrange, how, step=89)).assert_clean(at_least=10)


@both_errors
async def test_whatever_functions_of_a_user_raise_a_command_is_acknowledged_or_told(
    make_error: Callable[[], BaseException],
) -> None:
    @asynccontextmanager
    async def arrange(trap: Trap) -> AsyncIterator[Scenario]:
        device = Device(at=trap)
        lost = Device(at=trap)
        lost.server.next_answers.append(httpx.Response(404))

        async def act() -> None:
            for one in (device, lost):
                processor = one.processor(poll_every_s=None)
                async with one.client() as flip, processor.running(flip):
                    await processor.process(_command(one.row))
                    assert processor.stats.in_hand == 0

        async def check() -> None:
            assert device.is_acknowledged
            assert (device.handled, lost.handled) == (1, 1)
            assert lost.told == (trap.where != "on_unacknowledged")

        yield Scenario(act=act, check=check)

    (await sweep_calls(arrange, make_error)).assert_clean(at_least=3)


async def test_a_failure_of_the_device_is_acknowledged_at_each_turn() -> None:
    """A `CommandFailed` is an outcome like any other, also while the processor is left."""

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        device = Device()

        def fail(call: str) -> None:
            raise CommandFailed("FAILED_OFFLINE", "no contact")

        device.at = fail
        processor = device.processor(poll_every_s=None)

        async def act() -> None:
            async with device.client() as flip, processor.running(flip):
                await processor.process(_command(device.row))

        async def check() -> None:
            if not device.server.acknowledged:
                await act()
            assert set(device.server.acknowledged) == {("c", "FAILED_OFFLINE", "no contact")}

        yield Scenario(act=act, check=check)

    (await sweep(arrange, How.NATIVE)).assert_clean(at_least=5)


def _command(row: dict[str, Any]) -> Command:
    import msgspec

    return msgspec.convert(command_row() | row, Command)
