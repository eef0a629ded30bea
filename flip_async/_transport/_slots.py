"""Who may use a connection: a bounded number, in order."""

import asyncio
from collections import deque
from typing import Final

import httpx

from flip_async._aio._tasks import resolve, running_loop


class Slots:
    """Places of one event loop, which alone may touch them.

    What changes: how many are free, and who waits for one. A place is given back by whoever took
    it, in the same function.
    """

    def __init__(self, number: int) -> None:
        self._number: Final = number
        self._free = number
        self._waiters: Final[deque[asyncio.Future[bool]]] = deque()

    @property
    def taken(self) -> int:
        """How many are in use."""
        return self._number - self._free

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return sum(not waiter.done() for waiter in self._waiters)

    async def take(self, request: httpx.Request) -> None:
        """Take a place, in turn; the request's pool timeout bounds the wait.

        Raises:
            httpx.PoolTimeout: None was free in time.
        """
        if self._free:
            self._free -= 1
            return
        loop = running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        seconds = request.extensions.get("timeout", {}).get("pool")
        timer = None if seconds is None else loop.call_later(seconds, resolve, waiter, False)
        self._waiters.append(waiter)
        try:
            has_place = await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.result():
                self.give_back()  # given and cancelled at once: it is the next one's
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if not has_place:
            raise httpx.PoolTimeout(f"no free connection within {seconds} s", request=request)

    def give_back(self) -> None:
        """A place is free: it goes to whoever waits longest."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(True)
                return
        self._free += 1
