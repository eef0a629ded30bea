"""Tasks, waits, threads, what belongs to a loop, and functions of users [B1], [B8], [B9]."""

import asyncio
import contextvars
import gc
import logging
import threading
import weakref
from collections.abc import Awaitable, Callable

import anyio
import pytest

from flip_async._aio._callbacks import UserCodeError, limited, notify, notify_soon
from flip_async._aio._per_loop import PerLoop
from flip_async._aio._shutdown import GracefulShutdown
from flip_async._aio._tasks import Signal, attached, detached, in_thread, running_loop
from flip_async.errors import ConfigurationError
from tests.support import ManualClock, settle

NOT_FOR_EVER_S = 20.0
LOGGER = logging.getLogger("flip_async.test")
mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="none")


async def seen_mark() -> str:
    await asyncio.sleep(0)
    return mark.get()


# Tasks


def test_a_detached_task_starts_under_a_task_factory_that_knows_no_context() -> None:
    """As such factories were written before Python 3.11, and many still are."""

    async def main() -> tuple[str, str]:
        asyncio.get_running_loop().set_task_factory(
            lambda loop, coro: asyncio.Task(coro, loop=loop)
        )
        mark.set("of a request")
        return await detached(seen_mark()), await attached(seen_mark())

    assert asyncio.run(main()) == ("none", "of a request")


async def test_a_detached_task_belongs_to_no_request_and_an_attached_one_to_its_callers() -> None:
    """Its context is empty: it is a part of nobody's trace."""
    mark.set("of a request")

    assert await detached(seen_mark()) == "none"
    assert await attached(seen_mark()) == "of a request"


async def test_a_task_that_nobody_keeps_lives_to_its_end() -> None:
    """Of asyncio's own, a collection may take what waits for nobody but itself."""
    futures: weakref.WeakSet[asyncio.Future[None]] = weakref.WeakSet()
    ended: list[str] = []

    async def job() -> None:
        waiter = asyncio.get_running_loop().create_future()
        futures.add(waiter)
        await waiter
        ended.append("ended")

    detached(job())
    await settle()
    gc.collect()
    for future in futures:
        future.set_result(None)
    await settle()

    assert ended == ["ended"]


def test_without_a_loop_the_error_names_asyncio() -> None:
    """A word that helps, not asyncio's own RuntimeError."""
    with pytest.raises(ConfigurationError, match="needs asyncio"):
        running_loop()


def test_under_trio_the_error_names_asyncio() -> None:
    trio = pytest.importorskip("trio", reason="trio is not installed")

    async def ask() -> None:
        PerLoop(object).get()

    with pytest.raises(ConfigurationError, match="needs asyncio"):
        trio.run(ask)


# Signal


async def test_a_signal_wakes_those_who_wait_and_lets_through_who_comes(clock: ManualClock) -> None:
    signal = Signal(clock)
    waits = [asyncio.create_task(signal.wait()) for _ in range(3)]
    await settle()

    signal.set()

    assert await asyncio.gather(*waits) == [True] * 3
    assert await signal.wait()


async def test_a_wake_is_for_those_who_wait_now(clock: ManualClock) -> None:
    """Whoever comes later waits for the next one."""
    signal = Signal(clock)
    first = asyncio.create_task(signal.wait())
    await settle()
    signal.wake()
    assert await first

    second = asyncio.create_task(signal.wait())
    await settle()

    assert not second.done()
    signal.set()
    assert await second


async def test_after_clear_whoever_comes_waits(clock: ManualClock) -> None:
    signal = Signal(clock)
    signal.set()
    signal.clear()
    wait = asyncio.create_task(signal.wait(3))

    await clock.pass_time(3)

    assert not await wait


async def test_a_wait_has_an_end_of_its_own(clock: ManualClock) -> None:
    """And leaves no timer behind, whichever way it ends."""
    signal = Signal(clock)
    waits = [asyncio.create_task(signal.wait(seconds)) for seconds in (1, 5, 60)]
    await clock.pass_time(1)
    assert [wait.done() for wait in waits] == [True, False, False]

    waits[2].cancel()
    signal.wake()
    await asyncio.gather(*waits, return_exceptions=True)

    assert [wait.cancelled() or wait.result() for wait in waits] == [False, True, True]
    assert clock.pending == 0


async def test_a_wake_and_a_cancellation_in_the_same_turn_harm_nobody(clock: ManualClock) -> None:
    signal = Signal(clock)
    waits = [asyncio.create_task(signal.wait(1)) for _ in range(2)]
    await settle()

    signal.wake()
    waits[0].cancel()
    await clock.pass_time(2)

    assert waits[0].cancelled()
    assert await waits[1]


# What belongs to a loop


class Thing:
    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.loop = asyncio.get_running_loop()

    async def close(self) -> None:
        assert asyncio.get_running_loop() is self.loop
        await asyncio.sleep(0)
        self.log.append("closed")


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def things(log: list[str]) -> PerLoop[Thing]:
    return PerLoop(lambda: Thing(log), Thing.close)


async def taken(things: PerLoop[Thing]) -> Thing:
    thing = things.get()
    await asyncio.sleep(0)
    assert things.get() is thing
    return thing


def test_each_loop_has_its_own_which_ends_with_it(things: PerLoop[Thing], log: list[str]) -> None:
    """Nobody has to close anything: `asyncio.run()` does [E6]."""
    seen = [asyncio.run(taken(things)) for _ in range(3)]

    assert len(set(map(id, seen))) == 3
    assert log == ["closed"] * 3
    assert things.items() == []


def test_each_of_several_threads_has_its_own(things: PerLoop[Thing], log: list[str]) -> None:
    """Loops that run at the same time."""
    together = threading.Barrier(4)
    seen: list[Thing] = []

    async def meet() -> None:
        thing = await taken(things)
        await in_thread(lambda: together.wait(NOT_FOR_EVER_S), name="barrier")
        assert things.get() is thing
        seen.append(thing)

    threads = [threading.Thread(target=asyncio.run, args=(meet(),), daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(NOT_FOR_EVER_S)

    assert len(set(map(id, seen))) == 4
    assert log == ["closed"] * 4


def test_closing_closes_the_running_loops_at_once_and_lets_others_close_theirs(
    things: PerLoop[Thing], log: list[str]
) -> None:
    """Each in its own loop."""
    taken_there, closed_here = threading.Event(), threading.Event()
    left: list[str] = []

    async def elsewhere() -> None:
        things.get()
        taken_there.set()
        async with asyncio.timeout(NOT_FOR_EVER_S):
            while len(log) < 2:
                await asyncio.sleep(0.001)
        left.extend(log)
        await in_thread(lambda: closed_here.wait(NOT_FOR_EVER_S), name="closed")

    async def here() -> None:
        things.get()
        await things.aclose()
        assert log
        closed_here.set()

    thread = threading.Thread(target=asyncio.run, args=(elsewhere(),), daemon=True)
    thread.start()
    assert taken_there.wait(NOT_FOR_EVER_S)
    asyncio.run(here())
    thread.join(NOT_FOR_EVER_S)

    assert left == ["closed"] * 2
    assert log == ["closed"] * 2


async def test_after_closing_another_is_made(things: PerLoop[Thing], log: list[str]) -> None:
    first = things.get()
    await things.aclose()
    await things.aclose()

    second = things.get()
    await things.aclose()

    assert first is not second
    assert log == ["closed"] * 2


def test_a_loop_that_was_closed_with_no_ceremony_is_forgotten(log: list[str]) -> None:
    """No runner: its generators were never shut down, and nothing holds the loop."""
    things = PerLoop(lambda: Thing(log))
    for _ in range(3):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(taken(things))
        loop.close()

    asyncio.run(taken(things))

    assert len(things.items()) == 1


# Threads


async def test_a_thread_gives_what_its_function_returns_or_raises() -> None:
    """In the context of the caller, and in none of anyio's threads [B9]."""
    mark.set("of a request")

    def fail() -> None:
        raise KeyError("mine")

    def look() -> tuple[str, str]:
        return mark.get(), threading.current_thread().name

    assert await in_thread(look, name="look") == ("of a request", "flip_async look")
    with pytest.raises(KeyError, match="mine"):
        await in_thread(fail, name="fail")


async def test_no_thread_of_anyios_is_needed() -> None:
    """Forty callers that wait for us may hold them all [B9]."""
    limiter = anyio.to_thread.current_default_thread_limiter()
    callers = [object() for _ in range(int(limiter.available_tokens))]
    for caller in callers:
        limiter.acquire_on_behalf_of_nowait(caller)
    try:
        async with asyncio.timeout(NOT_FOR_EVER_S):
            assert await in_thread(lambda: "done", name="work") == "done"
    finally:
        for caller in callers:
            limiter.release_on_behalf_of(caller)


async def test_whoever_is_cancelled_leaves_the_thread_to_its_end() -> None:
    goes_on, ended = threading.Event(), threading.Event()

    def work() -> None:
        goes_on.wait(NOT_FOR_EVER_S)
        ended.set()

    waits = asyncio.create_task(in_thread(work, name="work"))
    await settle()
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)

    assert waits.cancelled()
    goes_on.set()
    assert await in_thread(lambda: ended.wait(NOT_FOR_EVER_S), name="ended")


def test_a_thread_that_outlives_its_loop_harms_nobody() -> None:
    goes_on = threading.Event()
    threads: list[threading.Thread] = []

    def work() -> None:
        threads.append(threading.current_thread())
        goes_on.wait(NOT_FOR_EVER_S)

    async def begin() -> None:
        waits = asyncio.create_task(in_thread(work, name="work"))
        await settle()
        waits.cancel()

    asyncio.run(begin())
    goes_on.set()
    for thread in threads:
        thread.join(NOT_FOR_EVER_S)

    assert threads
    assert not threads[0].is_alive()


# Functions of users


async def somebody_elses_cancellation() -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0)
    task.cancel()
    await task


def at_once() -> None:
    raise asyncio.CancelledError


def broken() -> None:
    raise RuntimeError("a bug of the user")


async def broken_later() -> None:
    await asyncio.sleep(0)
    broken()


@pytest.mark.parametrize("callback", [somebody_elses_cancellation, at_once, broken, broken_later])
@pytest.mark.parametrize("soon", [False, True])
async def test_whatever_a_callback_raises_is_logged_and_stops_nothing(
    callback: Callable[[], Awaitable[None] | None], soon: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A `CancelledError` from within too [B4]."""
    if soon:
        notify_soon(LOGGER, callback)
        await settle()
    else:
        await notify(LOGGER, callback)

    (record,) = caplog.records
    assert callback.__name__ in record.getMessage()
    assert record.exc_info


async def test_a_callback_is_told_its_arguments_whichever_kind_it_is() -> None:
    told: list[object] = []

    async def later(*arguments: object) -> None:
        await asyncio.sleep(0)
        told.append(arguments)

    await notify(LOGGER, later, 1, 2)
    await notify(LOGGER, lambda *arguments: told.append(arguments), 3)
    notify_soon(LOGGER, later, 4)
    await settle()

    assert told == [(1, 2), (3,), (4,)]


@pytest.mark.parametrize("level", [False, True])
async def test_a_cancellation_of_whoever_tells_passes(
    level: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Native or by a scope: it is not the callback's."""
    passed: list[str] = []
    scopes: list[anyio.CancelScope] = []

    async def forever() -> None:
        await asyncio.Event().wait()

    async def tell() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            try:
                await notify(LOGGER, forever)
            except asyncio.CancelledError:
                passed.append("passed")
                raise

    task = asyncio.create_task(tell())
    await settle()
    if level:
        scopes[0].cancel()
    else:
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert passed == ["passed"]
    assert task.cancelled() is not level
    assert caplog.records == []


async def test_a_cancellation_from_within_is_a_failure_like_any_other() -> None:
    """[B1]."""
    with pytest.raises(UserCodeError, match="CancelledError"):
        await limited(somebody_elses_cancellation, within_s=NOT_FOR_EVER_S)


async def test_code_that_never_ends_has_a_limit() -> None:
    """[B4]."""
    with pytest.raises(UserCodeError, match="longer than 0.01 s"):
        await limited(asyncio.Event().wait, within_s=0.01)


async def test_a_timeout_of_the_users_own_is_no_limit_of_ours() -> None:
    async def gives_up() -> None:
        raise TimeoutError("the vault took too long")

    with pytest.raises(TimeoutError, match="the vault"):
        await limited(gives_up, within_s=NOT_FOR_EVER_S)


async def test_what_users_code_gives_or_raises_passes_a_limit() -> None:
    async def gives() -> str:
        return "value"

    assert await limited(gives, within_s=NOT_FOR_EVER_S) == "value"
    with pytest.raises(RuntimeError, match="a bug of the user"):
        await limited(broken_later, within_s=NOT_FOR_EVER_S)


async def test_a_cancellation_of_whoever_waits_passes_a_limit() -> None:
    waits = asyncio.create_task(limited(asyncio.Event().wait, within_s=NOT_FOR_EVER_S))
    await settle()

    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)

    assert waits.cancelled()


# Last work


class LastWork:
    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.became = "begun"

    async def __call__(self) -> None:
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
            self.became = "done"
        except asyncio.CancelledError:
            self.became = "given up"
            raise


async def test_a_scope_that_cancels_at_every_wait_counts_as_once() -> None:
    """The work is done all the same [B1]."""
    work = LastWork()
    scopes: list[anyio.CancelScope] = []

    async def leave() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            try:
                await anyio.sleep_forever()
            finally:
                await GracefulShutdown(is_cancelled_already=True).until_done(work())

    leaving = asyncio.create_task(leave())
    await settle()
    scopes[0].cancel()
    await settle()
    assert not leaving.done()

    work.gate.set()
    async with asyncio.timeout(NOT_FOR_EVER_S):
        await leaving

    assert work.became == "done"


@pytest.mark.parametrize(
    ("already", "cancellations", "became"),
    [
        (False, 0, "done"),
        (False, 1, "done"),
        (False, 2, "given up"),
        (True, 0, "done"),
        (True, 1, "given up"),
    ],
)
async def test_a_second_native_cancellation_gives_the_work_up(
    already: bool, cancellations: int, became: str
) -> None:
    """Ctrl-C once is time to send what is left; twice is not."""
    work = LastWork()
    shutdown = GracefulShutdown(is_cancelled_already=already)
    leaving = asyncio.create_task(shutdown.until_done(work()))
    await settle()
    for _ in range(cancellations):
        leaving.cancel()
        await settle()

    work.gate.set()
    async with asyncio.timeout(NOT_FOR_EVER_S):
        await asyncio.gather(leaving, return_exceptions=True)

    assert work.became == became
    assert (shutdown.cancelled is not None) is (cancellations > 0)


async def test_what_the_last_work_raises_is_raised() -> None:
    with pytest.raises(RuntimeError, match="a bug of the user"):
        await GracefulShutdown(is_cancelled_already=False).until_done(broken_later())
