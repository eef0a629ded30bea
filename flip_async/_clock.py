"""Time and luck, which everything else is given from outside."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol, final


class Instant(NamedTuple):
    """One moment, on both clocks.

    Attributes:
        monotonic_s: Counts evenly, but may stand still while the machine sleeps.
        wall_s: Unix time; goes on during sleep, but may jump.
    """

    monotonic_s: float
    wall_s: float

    def later(self, seconds: float) -> "Instant":
        """The moment that is `seconds` after this one."""
        return Instant(self.monotonic_s + seconds, self.wall_s + seconds)

    def reached(self, now: "Instant") -> bool:
        """Whether either clock says that this moment has come."""
        return now.monotonic_s >= self.monotonic_s or now.wall_s >= self.wall_s


class Timer(Protocol):
    """Something that will be called back, unless it is cancelled."""

    def cancel(self) -> None:
        """Call nothing back."""
        ...


class Clock(Protocol):
    """What doing code asks for time and luck; tests bring one that they move by hand."""

    def monotonic(self) -> float:
        """Seconds on the monotonic clock."""
        ...

    def wall(self) -> float:
        """Unix time in seconds."""
        ...

    def now(self) -> Instant:
        """The present moment, on both."""
        ...

    def random(self) -> float:
        """A number from 0 up to 1."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` on the running event loop after so many seconds."""
        ...


@final
class SystemClock:
    """The machine's own clocks."""

    # Not wrapped: these two are called in every request.
    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    def now(self) -> Instant:
        return Instant(time.monotonic(), time.time())

    def random(self) -> float:
        return random.random()  # noqa: S311  # jitter, not a secret

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, callback)
