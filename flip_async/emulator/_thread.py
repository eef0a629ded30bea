"""An event loop in a thread of its own, so that a test without one has an emulator too."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable
from typing import Final, ParamSpec, TypeVar

import httpx

P = ParamSpec("P")
T = TypeVar("T")


class LoopThread:
    """Runs an event loop until it is stopped.

    A daemon: a test that is ended by Ctrl-C is not held up by it.
    """

    def __init__(self, name: str) -> None:
        self._loop: Final = asyncio.new_event_loop()
        self._thread: Final = threading.Thread(
            target=self._loop.run_forever, name=name, daemon=True
        )

    def start(self) -> None:
        """Run from now on."""
        self._thread.start()

    def is_here(self) -> bool:
        """Whether this is its thread."""
        return threading.current_thread() is self._thread

    def run(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that is async there; gives or raises what comes of it here."""

        async def call() -> T:
            return await function(*args, **kwargs)

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    async def run_async(
        self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `run`, and the event loop here goes on meanwhile."""

        async def call() -> T:
            return await function(*args, **kwargs)

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call(), self._loop))

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function there; gives or raises what comes of it here."""
        if self.is_here():
            return function(*args, **kwargs)
        done: concurrent.futures.Future[T] = concurrent.futures.Future()

        def act() -> None:
            try:
                done.set_result(function(*args, **kwargs))
            except BaseException as error:
                done.set_exception(error)

        self._loop.call_soon_threadsafe(act)
        return done.result()

    def stop(self) -> None:
        """End it, when nothing of it is wanted any more."""
        self.run(_cancel_all)
        self.run(self._loop.shutdown_asyncgens)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class ThreadTransport(httpx.AsyncBaseTransport):
    """Hands requests to a transport that lives in another thread's event loop.

    It has no connections: who asks through it may do so in any event loop, and has nothing to
    close there.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, thread: LoopThread) -> None:
        self._inner: Final = inner
        self._thread: Final = thread

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()  # here, where its body comes from
        return await self._thread.run_async(self._inner.handle_async_request, request)
