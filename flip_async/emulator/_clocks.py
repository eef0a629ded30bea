"""Clocks for tests: one that stands still until it is moved, and one whose luck repeats."""

import asyncio
import heapq
import itertools
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from flip_async._checks import check_kind, check_number
from flip_async._clock import Clock, Instant, Timer
from flip_async.emulator._random_source import RandomSource
from flip_async.errors import InvalidArgumentError

_BEGINS_AT: Final = datetime(2025, 7, 1, 12, tzinfo=UTC)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # none does
        return None


class _Timer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback: Callable[[], object] | None = callback
        self._loop: Final = _running_loop()

    def cancel(self) -> None:
        self._callback = None

    @property
    def is_wanted(self) -> bool:
        gone = self._loop is not None and self._loop.is_closed()
        return self._callback is not None and not gone

    def fire(self) -> None:
        """Call back: in the event loop that asked for it, which may run in another thread."""
        loop = self._loop
        if loop is None or loop is _running_loop() or not loop.is_running():
            self._act()
        else:
            # Nobody waits for it here: that loop may wait for this thread.
            loop.call_soon_threadsafe(self._act)

    def _act(self) -> None:
        if self._callback is not None:
            self._callback()


class ManualClock:
    """A clock that stands still until a test moves it.

    Whatever takes `clock=` may share it: the emulator, a client, a `CommandProcessor`, a
    `webhook_router`. They then agree on the time, and whoever pauses by it, such as a client
    between two tries or a webhook before it is sent again, goes on when it is moved::

        clock = ManualClock(datetime(2025, 7, 1, 17, tzinfo=UTC))
        async with Emulator(in_process=True, clock=clock) as flip_local:
            clock.advance(3600)

    Args:
        now: The time that it begins with; it has a time zone.
        luck: What it says where chance decides, such as the jitter of a pause: from 0 up to 1.

    Raises:
        InvalidArgumentError: The time has no zone, or luck is out of range.
    """

    # Moved by `advance` alone, in one thread at a time. Timers are added by whoever asks, in its
    # own thread, which the heap's functions bear; each is called back where it was asked for.

    def __init__(self, now: datetime = _BEGINS_AT, *, luck: float = 0.5) -> None:
        check_kind(now, datetime, field="now")
        if now.utcoffset() is None:
            raise InvalidArgumentError("has no time zone: give it one", field="now")
        most = math.nextafter(1, 0)
        self._luck: Final = check_number(luck, field="luck", at_least=0, at_most=most)
        self._wall_s = now.timestamp()
        self._monotonic_s = 1000.0
        self._numbers: Final = itertools.count()
        self._timers: Final[list[tuple[float, int, _Timer]]] = []

    def advance(self, seconds: float) -> None:
        """Let time pass: whoever waits is woken in order, each at its own time.

        Args:
            seconds: How much.

        Raises:
            InvalidArgumentError: It would go back.
        """
        check_number(seconds, field="seconds", at_least=0, unit=" of seconds")
        end_s = self._monotonic_s + seconds
        while self._timers and self._timers[0][0] <= end_s:
            due_s, _, timer = heapq.heappop(self._timers)
            if timer.is_wanted:
                self._move_to(due_s)
                timer.fire()
        self._move_to(end_s)

    def _move_to(self, monotonic_s: float) -> None:
        passed_s = max(0.0, monotonic_s - self._monotonic_s)
        self._monotonic_s += passed_s
        self._wall_s += passed_s

    def monotonic(self) -> float:
        """Seconds since no particular moment.

        Returns:
            The seconds.
        """
        return self._monotonic_s

    def wall(self) -> float:
        """Unix time in seconds.

        Returns:
            The seconds since 1970.
        """
        return self._wall_s

    def now(self) -> Instant:
        """Both together.

        Returns:
            The moment, with `monotonic_s` and `wall_s`.
        """
        return Instant(self._monotonic_s, self._wall_s)

    def random(self) -> float:
        """What `luck` says."""
        return self._luck

    async def sleep(self, seconds: float) -> None:
        """Return when the clock was moved by so much.

        Args:
            seconds: How much.
        """
        woken = asyncio.Event()
        timer = self.call_later(seconds, woken.set)
        try:
            await woken.wait()
        finally:
            timer.cancel()

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` when the clock was moved by so much.

        Args:
            seconds: How much.
            callback: Called without arguments, in the event loop's thread.

        Returns:
            What cancels it.
        """
        timer = _Timer(callback)
        entry = (self._monotonic_s + seconds, next(self._numbers), timer)
        heapq.heappush(self._timers, entry)
        return timer


class SeededClock:
    """Another clock, with luck that repeats."""

    def __init__(self, clock: Clock, luck: RandomSource) -> None:
        self._clock: Final = clock
        self.monotonic: Final = clock.monotonic
        self.wall: Final = clock.wall
        self.now: Final = clock.now
        self.sleep: Final = clock.sleep
        self.call_later: Final = clock.call_later
        self.random: Final = luck.luck
