"""Several processors with one ledger: each version is handled and acknowledged once [F7]."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import msgspec
import pytest

from flip_async import SANDBOX, FlipClient
from flip_async._clock import Instant, SystemClock
from flip_async.commands import CommandFailed, CommandLedger, CommandProcessor, MemoryCommandLedger
from flip_async.commands._claims import Claims
from flip_async.commands._records import Step
from flip_async.errors import ClientClosedError, StorageError
from flip_async.models import Command, DeviceStatus
from flip_async.redis import RedisCommandLedger
from tests.exchange.test_command_processor import CommandFlip, Device
from tests.support import START, ManualClock
from tests.support.redis_server import RedisServer
from tests.support.sweeps import How, cut_off

LEASE_S = 0.6


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for something; what never comes, the test's own limit ends."""
    while not is_so():
        await asyncio.sleep(0.002)


class ThenClock(SystemClock):
    """Goes as the real one, from the day on which all is scheduled here."""

    _AHEAD_S = time.time() - START.wall_s

    def wall(self) -> float:
        return super().wall() - self._AHEAD_S

    def now(self) -> Instant:
        return Instant(self.monotonic(), self.wall())


class Fleet:
    """Processors, each with a client of its own, that share a ledger and one Flip."""

    def __init__(self, make_ledger: Callable[[], CommandLedger]) -> None:
        self.server = CommandFlip(ManualClock())
        self.device = Device()
        self.stack = AsyncExitStack()
        self._make_ledger = make_ledger

    async def join(self, on_command: Any = None, **options: Any) -> CommandProcessor:
        flip = await self.stack.enter_async_context(
            FlipClient(environment=SANDBOX, api_key="fl_your_api_key", transport=self.server)
        )
        processor = CommandProcessor(
            on_command or self.device,
            ledger=self._make_ledger(),
            clock=ThenClock(),
            **{"poll_every_s": None, "shutdown_timeout_s": 0.05} | options,
        )
        await self.stack.enter_async_context(processor.running(flip))
        return processor

    def fresh(self, command_id: str = "c", **fields: Any) -> Any:
        row = self.server.change(command_id, **fields)
        return msgspec.convert(row, Command)


@pytest.fixture(params=["memory", "redis"])
async def fleet(request: pytest.FixtureRequest, redis_server: RedisServer) -> AsyncIterator[Fleet]:
    shared = MemoryCommandLedger()

    def make_ledger() -> CommandLedger:
        if request.param == "memory":
            return shared
        return RedisCommandLedger(redis_server.url, lease_s=LEASE_S)

    fleet = Fleet(make_ledger)
    async with fleet.stack:
        yield fleet


async def test_a_version_that_comes_to_all_is_handled_and_acknowledged_once(fleet: Fleet) -> None:
    processors = [await fleet.join() for _ in range(5)]
    fleet.device.gate = asyncio.Event()
    command = fleet.fresh()

    offered = [asyncio.ensure_future(one.process(command)) for one in processors]
    await until(lambda: len(fleet.device.handled) == 1)
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in offered), "nobody says that it is done before it is"
    fleet.device.gate.set()
    await asyncio.gather(*offered)

    assert fleet.device.handled == [("c", "OK")]
    assert fleet.server.acknowledged == [("c", "OK", None)]


async def test_many_versions_that_come_to_all_are_each_handled_once(fleet: Fleet) -> None:
    processors = [await fleet.join() for _ in range(3)]
    commands = [fleet.fresh(f"c{n}") for n in range(40)]

    await asyncio.gather(*(one.process(command) for one in processors for command in commands))

    assert sorted(fleet.device.handled) == sorted((command.id, "OK") for command in commands)
    assert len(fleet.server.acknowledged) == 40


async def test_a_cancelation_elsewhere_waits_for_the_handler_and_is_the_last_word(
    fleet: Fleet,
) -> None:
    """No two handlers of one command at once; what it canceled is not acknowledged."""
    one, other = await fleet.join(), await fleet.join()
    fleet.device.gate = asyncio.Event()
    first = asyncio.ensure_future(one.process(fleet.fresh()))
    await until(lambda: fleet.device.running == 1)
    fleet.server.clock.move(1)
    canceled = msgspec.convert(fleet.server.cancel(), Command)
    second = asyncio.ensure_future(other.process(canceled))
    await asyncio.sleep(0.1)
    assert fleet.device.most_at_once == 1

    fleet.device.gate.set()
    await asyncio.gather(first, second)

    assert fleet.device.handled == [("c", "OK"), ("c", "CANCELED")]
    assert fleet.device.most_at_once == 1
    assert len(fleet.server.acknowledged) == 1


async def test_a_failing_handler_is_tried_no_more_when_a_newer_version_is_elsewhere(
    fleet: Fleet,
) -> None:
    fleet.device.next_errors.extend([ValueError("busy")])
    one, other = await fleet.join(), await fleet.join()
    first = asyncio.ensure_future(one.process(fleet.fresh()))
    await until(lambda: fleet.device.handled == [("c", "OK")] and not fleet.device.running)
    fleet.server.clock.move(1)

    await other.process(msgspec.convert(fleet.server.cancel(), Command))
    await first

    assert fleet.device.handled[-1] == ("c", "CANCELED")
    assert len(fleet.server.acknowledged) == 1


async def test_what_was_made_of_a_command_is_known_to_whoever_takes_over(fleet: Fleet) -> None:
    """Its acknowledgement is left to do, and the device hears of it once."""
    gate = fleet.server.patch_gate = asyncio.Event()
    async with AsyncExitStack() as stack:
        fleet.stack, kept = stack, fleet.stack
        fleet.device.always = CommandFailed(DeviceStatus.FAILED_OFFLINE, "asleep")
        dying = await fleet.join()
        offered = asyncio.ensure_future(dying.process(command := fleet.fresh()))
        await until(lambda: len(fleet.server.acknowledged) == 1)
    fleet.stack = kept
    with pytest.raises(ClientClosedError):
        await offered
    gate.set()

    await (await fleet.join()).process(command)

    assert fleet.device.handled == [("c", "OK")]
    assert fleet.server.acknowledged[-1] == ("c", "FAILED_OFFLINE", "asleep")


async def test_one_lists_commands_for_all_and_another_one_when_it_ends(fleet: Fleet) -> None:
    async with AsyncExitStack() as stack:
        fleet.stack, kept = stack, fleet.stack
        await fleet.join(poll_every_s=0.2)
        await until(lambda: fleet.server.lists == 1)
        fleet.stack = kept
        await fleet.join(poll_every_s=0.2)
        await until(lambda: fleet.server.lists >= 4)
        lists = fleet.server.lists
        fleet.fresh("late")
        await until(lambda: len(fleet.server.acknowledged) == 1)
    lists = fleet.server.lists

    await until(lambda: fleet.server.lists > lists + 1)


# Redis's own


@pytest.fixture
async def redis_fleet(own_redis: RedisServer) -> AsyncIterator[Fleet]:
    fleet = Fleet(lambda: RedisCommandLedger(own_redis.url, lease_s=LEASE_S))
    async with fleet.stack:
        yield fleet


async def take_and_die(url: str, command: Command) -> None:
    """As a worker does that is killed while its handler runs: its claim is renewed by nobody."""
    async with RedisCommandLedger(url, lease_s=LEASE_S) as ledger:
        claims = Claims(ledger, clock=ThenClock(), on_news=lambda _: None)
        assert (await claims.take(command)).step is Step.TAKE
        await claims.aclose()


async def test_a_command_of_a_dead_worker_is_taken_over_with_polling_off(
    redis_fleet: Fleet, own_redis: RedisServer
) -> None:
    """Whoever was offered it takes it when the lease is over."""
    command = redis_fleet.fresh()
    await take_and_die(own_redis.url, command)
    survivor = await redis_fleet.join()

    await survivor.process(command)

    assert redis_fleet.device.handled == [("c", "OK")]
    assert len(redis_fleet.server.acknowledged) == 1


async def test_a_worker_that_has_lost_its_claim_acknowledges_nothing(
    redis_fleet: Fleet, own_redis: RedisServer
) -> None:
    """It was away for longer than its lease, as where its event loop is blocked."""
    gate = redis_fleet.device.gate = asyncio.Event()
    asleep = await redis_fleet.join()
    offered = asyncio.ensure_future(asleep.process(command := redis_fleet.fresh()))
    await until(lambda: redis_fleet.device.running == 1)
    with own_redis.admin() as admin:
        admin.delete("flip:{commands}:leases")  # as after its lease
    redis_fleet.device.gate = None
    await take_and_die(own_redis.url, command)
    gate.set()
    awake = await redis_fleet.join()

    await asyncio.gather(offered, awake.process(command))

    assert len(redis_fleet.server.acknowledged) == 1


async def test_a_redis_that_is_away_while_a_handler_runs_costs_no_acknowledgement(
    redis_fleet: Fleet, own_redis: RedisServer
) -> None:
    gate = redis_fleet.device.gate = asyncio.Event()
    processor = await redis_fleet.join()
    offered = asyncio.ensure_future(processor.process(command := redis_fleet.fresh()))
    await until(lambda: redis_fleet.device.running == 1)
    own_redis.stop()
    gate.set()
    await asyncio.sleep(LEASE_S)
    own_redis.start()  # and has forgotten everything

    await offered

    assert redis_fleet.device.handled == [("c", "OK")]
    assert len(redis_fleet.server.acknowledged) == 1
    await processor.process(command)
    assert redis_fleet.device.handled == [("c", "OK")]


async def test_a_command_that_cannot_be_taken_comes_again(
    redis_fleet: Fleet, own_redis: RedisServer
) -> None:
    processor = await redis_fleet.join()
    command = redis_fleet.fresh()
    own_redis.stop()

    with pytest.raises(StorageError, match="cannot be reached"):
        await processor.process(command)
    own_redis.start()
    await processor.process(command)

    assert redis_fleet.device.handled == [("c", "OK")]


async def test_a_redis_that_hangs_costs_no_acknowledgement(
    redis_fleet: Fleet, own_redis: RedisServer
) -> None:
    gate = redis_fleet.device.gate = asyncio.Event()
    processor = await redis_fleet.join()
    offered = asyncio.ensure_future(processor.process(redis_fleet.fresh()))
    await until(lambda: redis_fleet.device.running == 1)
    own_redis.freeze()
    gate.set()
    await asyncio.sleep(0.2)
    own_redis.thaw()

    await offered

    assert redis_fleet.device.handled == [("c", "OK")]
    assert len(redis_fleet.server.acknowledged) == 1


async def test_a_processor_ends_while_redis_hangs_and_its_commands_are_others_after_the_lease(
    redis_fleet: Fleet, own_redis: RedisServer
) -> None:
    redis_fleet.device.gate = asyncio.Event()
    commands = [redis_fleet.fresh(f"c{n}") for n in range(30)]
    async with AsyncExitStack() as stack:
        redis_fleet.stack, kept = stack, redis_fleet.stack
        leaving = await redis_fleet.join()
        offered = [asyncio.ensure_future(leaving.process(command)) for command in commands]
        await until(lambda: redis_fleet.device.running == 30)
        own_redis.freeze()
    redis_fleet.stack = kept
    errors = await asyncio.gather(*offered, return_exceptions=True)
    assert {type(error) for error in errors} == {ClientClosedError}
    own_redis.thaw()
    redis_fleet.device.gate = None
    other = await redis_fleet.join()

    await asyncio.gather(*(other.process(command) for command in commands))

    assert len(redis_fleet.server.acknowledged) == 30


async def test_connections_that_are_cut_cost_nothing(
    redis_fleet: Fleet, own_redis: RedisServer
) -> None:
    processors = [await redis_fleet.join() for _ in range(2)]
    commands = [redis_fleet.fresh(f"c{n}") for n in range(20)]
    left = {(id(one), command.id): (one, command) for one in processors for command in commands}

    async def see_through(one: CommandProcessor, command: Command) -> None:
        while True:
            with suppress(StorageError):
                await one.process(command)
                return

    tasks = [asyncio.ensure_future(see_through(*pair)) for pair in left.values()]
    with own_redis.admin() as admin:
        while not all(task.done() for task in tasks):
            admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await asyncio.sleep(0.02)
    await asyncio.gather(*tasks)

    handled = {command_id for command_id, _ in redis_fleet.device.handled}
    assert handled == {command.id for command in commands}


@pytest.mark.parametrize("how", [How.NATIVE, How.SCOPE])
async def test_wherever_a_caller_is_cut_off_the_command_is_handled_once(
    redis_server: RedisServer, how: How
) -> None:
    """It is not the caller's work: it goes on, and is done once [B12]."""
    for turn in range(0, 60, 3):
        fleet = Fleet(lambda: RedisCommandLedger(redis_server.url, lease_s=LEASE_S))
        async with fleet.stack:
            one, other = await fleet.join(), await fleet.join()
            command = fleet.fresh(f"{how.name}{turn}")
            await cut_off(lambda: one.process(command), how, turn)  # noqa: B023  # it ends first
            await other.process(command)
        assert fleet.device.handled == [(command.id, "OK")]
        assert len(fleet.server.acknowledged) == 1


@pytest.mark.parametrize("how", [How.NATIVE, How.SCOPE])
async def test_wherever_a_processor_is_cut_off_another_one_sees_the_command_through(
    redis_server: RedisServer, how: How
) -> None:
    for turn in range(0, 60, 3):
        fleet = Fleet(lambda: RedisCommandLedger(redis_server.url, lease_s=LEASE_S))
        async with fleet.stack:
            command = fleet.fresh(f"{how.name}{turn}")

            async def live() -> None:
                async with AsyncExitStack() as stack:
                    fleet.stack, kept = stack, fleet.stack  # noqa: B023
                    one = await fleet.join()  # noqa: B023
                    fleet.stack = kept  # noqa: B023
                    await one.process(command)  # noqa: B023

            kept = fleet.stack
            await cut_off(live, how, turn)
            fleet.stack = kept
            await (await fleet.join()).process(command)
        assert set(fleet.device.handled) == {(command.id, "OK")}
        assert fleet.server.rows[command.id]["device_status"] == "OK"
