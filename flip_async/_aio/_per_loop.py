"""Something of which each event loop has its own."""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, Generic, TypeVar

from flip_async._aio._tasks import detached, running_loop

_T = TypeVar("_T")

_of_parents: Final[list[object]] = []
"""What a forked child has of its parent: never used, and never let go, since a connection that
is collected closes itself in the selector that both share."""


class PerLoop(Generic[_T]):
    """Makes a thing when a loop of this process first asks [E6].

    What belongs to a loop is closed when that loop ends: every runner shuts down the
    asynchronous generators of its loop, and one of ours waits there.

    Args:
        make: Makes one.
        close: Closes one, in its own loop; `None` where there is nothing to close.
    """

    def __init__(
        self, make: Callable[[], _T], close: Callable[[_T], Awaitable[None]] | None = None
    ) -> None:
        self._make: Final = make
        self._close: Final = close
        # Read without the guard by every request, and changed under it.
        self._things: Final[dict[asyncio.AbstractEventLoop, _T]] = {}
        self._keepers: Final[dict[asyncio.AbstractEventLoop, AsyncGenerator[None]]] = {}
        self._guard = threading.Lock()
        self._pid = os.getpid()

    def get(self) -> _T:
        """The running loop's own.

        Raises:
            ConfigurationError: No loop of asyncio runs here.
        """
        loop = running_loop()
        if self._pid != os.getpid():
            self._leave_to_parent()
        thing = self._things.get(loop)
        return self._new(loop) if thing is None else thing

    def _new(self, loop: asyncio.AbstractEventLoop) -> _T:
        with self._guard:
            # Not a weak dictionary: what is kept here refers to its loop.
            for other in [loop for loop in self._things if loop.is_closed()]:
                del self._things[other]
                self._keepers.pop(other, None)
            thing = self._things[loop] = self._make()
        if self._close is not None:
            keeper = self._keepers[loop] = self._keep(loop, thing, self._close)
            with contextlib.suppress(StopIteration):  # it runs up to its `yield`
                keeper.__anext__().send(None)
        return thing

    async def _keep(
        self, loop: asyncio.AbstractEventLoop, thing: _T, close: Callable[[_T], Awaitable[None]]
    ) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            if self._things.get(loop) is thing:
                del self._things[loop]
            await close(thing)

    def _leave_to_parent(self) -> None:
        # Nobody else runs in a child that was just forked, and the guard may be held for ever.
        _of_parents.extend((dict(self._things), dict(self._keepers)))
        self._things.clear()
        self._keepers.clear()
        self._guard = threading.Lock()
        self._pid = os.getpid()

    def items(self) -> list[tuple[asyncio.AbstractEventLoop, _T]]:
        """All that there are in this process, with their loops."""
        if self._pid != os.getpid():
            self._leave_to_parent()
        with self._guard:
            return list(self._things.items())

    async def aclose(self) -> None:
        """Close the running loop's, and let other loops that run close theirs."""
        here = running_loop()
        mine: AsyncGenerator[None] | None = None
        for loop in dict(self.items()):
            keeper = self._keepers.pop(loop, None)
            if keeper is None or loop.is_closed():
                continue
            if loop is here:
                mine = keeper
            else:
                call_in(loop, _closing(keeper))
        if mine is not None:
            await mine.aclose()


def _closing(keeper: AsyncGenerator[None]) -> Callable[[], object]:
    async def close() -> None:
        await keeper.aclose()

    return lambda: detached(close())


def call_in(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    """Call something in another loop, if that still runs."""
    # Closed between the question and the call: nothing runs there any more.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback)
