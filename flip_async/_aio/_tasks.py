"""Tasks that belong to no request, waits with an end, and work in a thread."""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import Final, TypeVar, final

import anyio

from flip_async._clock import Clock
from flip_async.errors import ConfigurationError

T = TypeVar("T")

_held: Final[set[asyncio.Task[object]]] = set()


def running_loop() -> asyncio.AbstractEventLoop:
    """The event loop that runs here.

    Raises:
        ConfigurationError: None of asyncio's does.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        pass
    # A forked child still runs its parent's code, and asyncio knows that the loop is not its own.
    raise ConfigurationError(
        "no asyncio event loop runs here: flip_async needs asyncio (trio has none of its own), and "
        "a process that was forked within a running loop needs an asyncio.run() of its own"
    )


def detached(job: Coroutine[object, object, T]) -> asyncio.Task[T]:
    """Run a job as a task that belongs to no request, and keep it alive to its end.

    Its context is empty: it must not keep alive what a request holds, nor be taken for a part
    of its trace.
    """
    # Not `create_task(context=)`: a task factory from before Python 3.11 knows no such thing.
    task = contextvars.Context().run(running_loop().create_task, job)
    return _keep(task)


def attached(job: Coroutine[object, object, T]) -> asyncio.Task[T]:
    """Run a job as a task in the caller's context, whose trace it is a part of."""
    return _keep(running_loop().create_task(job))


def _keep(task: asyncio.Task[T]) -> asyncio.Task[T]:
    _held.add(task)
    task.add_done_callback(_held.discard)
    return task


def is_from_within() -> bool:
    """Whether a `CancelledError` is another task's, let out by code of a user.

    It looks the same either way; the running task knows whether somebody cancels it.
    """
    task = asyncio.current_task()
    return task is not None and not task.cancelling()


@final
class Signal:
    """Wakes those who wait for it; a wait may have an end of its own.

    Only code that runs in its event loop may touch it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock: Final = clock
        self._waiters: Final[set[asyncio.Future[bool]]] = set()
        self._is_set = False

    def set(self) -> None:
        """Wake all who wait, and let through who comes, until `clear`."""
        self._is_set = True
        self.wake()

    def clear(self) -> None:
        """From now on, whoever comes waits."""
        self._is_set = False

    def wake(self) -> None:
        """Wake those who wait now, and nobody else."""
        for waiter in self._waiters:
            resolve(waiter, True)

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is set, for so long at the most; whether it was."""
        if self._is_set:
            return True
        waiter: asyncio.Future[bool] = running_loop().create_future()
        timer = None
        if seconds is not None:
            timer = self._clock.call_later(seconds, lambda: resolve(waiter, False))
        self._waiters.add(waiter)
        try:
            return await waiter
        finally:
            self._waiters.discard(waiter)
            if timer is not None:
                timer.cancel()


@contextlib.contextmanager
def within(seconds: float | None, clock: Clock) -> Generator[anyio.CancelScope]:
    """Bound what is done in this context; `cancelled_caught` of the scope tells whether it was cut.

    A scope, as our own limits are [B1]; on the clock that everything else counts on.
    """
    with anyio.CancelScope() as scope:
        timer = None if seconds is None else clock.call_later(max(0.0, seconds), scope.cancel)
        try:
            yield scope
        finally:
            if timer is not None:
                timer.cancel()


def resolve(waiter: asyncio.Future[bool], value: bool) -> None:
    """Give a waiter its outcome, unless it has one."""
    if not waiter.done():
        waiter.set_result(value)


async def in_thread(function: Callable[[], T], *, name: str) -> T:
    """Call a function that blocks in a thread of its own, and wait for it.

    Not in one of anyio's forty: callers in those may be what waits for it [B9]. Whoever is
    cancelled leaves the thread to its end; it keeps no process alive.
    """
    loop = running_loop()
    done: asyncio.Future[Callable[[], T]] = loop.create_future()
    context = contextvars.copy_context()

    def give(outcome: Callable[[], T]) -> None:
        if not done.done():
            done.set_result(outcome)

    def work() -> None:
        outcome = _outcome_of(context, function)
        try:
            loop.call_soon_threadsafe(give, outcome)
        except RuntimeError:
            return  # the loop is over, and nobody waits

    threading.Thread(target=work, name=f"flip_async {name}", daemon=True).start()
    return (await done)()


def _outcome_of(context: contextvars.Context, function: Callable[[], T]) -> Callable[[], T]:
    try:
        result = context.run(function)
    except BaseException as error:  # raised again where it is waited for
        caught = error

        def fail() -> T:
            raise caught

        return fail
    return lambda: result
