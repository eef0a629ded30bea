"""Puts that wait at the same time share one trip to Redis."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

import attrs

from flip_async._aio._tasks import detached, running_loop
from flip_async.errors import FlipError

I = TypeVar("I")  # noqa: E741  # an item
R = TypeVar("R")


@attrs.define
class _Passenger(Generic[I, R]):
    item: I
    weight: int
    arrived: "asyncio.Future[R | FlipError]"


class SharedTrips(Generic[I, R]):
    """Sends items, as many at once as wait; one trip at a time.

    An item whose caller is cancelled before its trip began is not sent; one that is under way
    may have been kept, and nobody is told.

    What changes: the line of those who wait, and the task that sends while there are some.
    Only one event loop touches it.

    Args:
        send: Sends items, and gives what came of each, in their order.
        most: The most weight of one trip; an item that is heavier goes alone.
    """

    def __init__(
        self, send: Callable[[Sequence[I]], Awaitable[Sequence[R | FlipError]]], *, most: int
    ) -> None:
        self._send: Final = send
        self._most: Final = most
        self._line: Final[deque[_Passenger[I, R]]] = deque()
        self._driver: asyncio.Task[None] | None = None

    async def send(self, item: I, *, weight: int = 1) -> R:
        """Send an item with the next trip, and wait for what comes of it.

        Raises:
            FlipError: What `send` gave or raised for it.
        """
        passenger: _Passenger[I, R] = _Passenger(item, weight, running_loop().create_future())
        self._line.append(passenger)
        if self._driver is None:
            self._start()
        outcome = await passenger.arrived
        if isinstance(outcome, FlipError):
            raise outcome
        return outcome

    async def aclose(self) -> None:
        """Let what waits come to its end."""
        while self._driver is not None:
            await asyncio.wait({self._driver})

    def _start(self) -> None:
        self._driver = detached(self._drive())
        self._driver.add_done_callback(self._stopped)

    def _stopped(self, _: "asyncio.Task[None]") -> None:
        self._driver = None
        if self._line:  # it was cancelled by foreign code, perhaps: those who wait are not
            self._start()

    async def _drive(self) -> None:
        while passengers := self._board():
            try:
                outcomes = await self._send([one.item for one in passengers])
            except FlipError as error:
                outcomes = [error.again() for _ in passengers]
            except BaseException:
                for one in passengers:
                    one.arrived.cancel()  # a bug, which the task's end tells, or a cancellation
                raise
            for one, outcome in zip(passengers, outcomes, strict=True):
                if not one.arrived.done():
                    one.arrived.set_result(outcome)

    def _board(self) -> list[_Passenger[I, R]]:
        passengers: list[_Passenger[I, R]] = []
        weight = 0
        while self._line and (not passengers or weight + self._line[0].weight <= self._most):
            one = self._line.popleft()
            if not one.arrived.done():
                passengers.append(one)
                weight += one.weight
        return passengers
