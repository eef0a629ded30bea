"""What is due when: one timer for all of it."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Final

from flip_async._clock import Clock, Timer

_LOOK_AGAIN_S: Final = 60.0
"""The emulator's time is the wall clock's, which may jump while a timer counts."""


class Agenda:
    """Tells when something is due, in order, each with its own time.

    The heap and the timer are touched in the emulator's event loop; a thread that adds
    something wakes it.
    """

    def __init__(
        self, clock: Clock, now: Callable[[], float], act: Callable[[str, float], None]
    ) -> None:
        self._clock: Final = clock
        self._now: Final = now
        self._act: Final = act
        self._numbers: Final = itertools.count()
        self._heap: Final[list[tuple[float, int, str]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: Timer | None = None

    def add(self, due_s: float, key: str) -> None:
        """Tell about `key` at that time; what is told may be out of date by then."""
        entry = (due_s, next(self._numbers), key)
        heapq.heappush(self._heap, entry)
        if self._heap[0] is entry:
            self._arm()

    def pass_time(self) -> None:
        """Tell what is due by now."""
        try:
            while self._heap and self._heap[0][0] <= self._now():
                due_s, _, key = heapq.heappop(self._heap)
                self._act(key, due_s)
        finally:
            self._arm()

    def clear(self) -> None:
        """Forget everything."""
        self._heap.clear()
        self._arm()

    def start(self) -> None:
        """Tell by itself from now on, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._arm()

    def stop(self) -> None:
        """Tell nothing by itself any more."""
        self._loop = None
        self._disarm()

    def _arm(self) -> None:
        if self._loop is None:
            return
        if not _runs_here(self._loop):
            self._loop.call_soon_threadsafe(self._arm)
            return
        self._disarm()
        if self._heap:
            pause_s = min(max(0.0, self._heap[0][0] - self._now()), _LOOK_AGAIN_S)
            self._timer = self._clock.call_later(pause_s, self.pass_time)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:  # none does
        return False
