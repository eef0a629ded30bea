"""Whether a request may go out now: one place that all batches of an uploader ask."""

from typing import Final

from flip_async._aio._tasks import Signal
from flip_async._backoff import Backoff
from flip_async._clock import Clock
from flip_async.errors import FlipError
from flip_async.telemetry._verdict import Verdict

_BACK_OFF: Final = Backoff(base_s=0.5, cap_s=30.0)
_STOPPED: Final = Backoff(base_s=4.0, cap_s=60.0)
_LONGEST_ASKED_S: Final = 300.0
_FAILURES_TO_CLOSE: Final = 3


class Gate:
    """Lets requests through, or holds them while the server cannot or will not take them.

    A failure now and then holds its own batch alone. Failures in a row, a `Retry-After`, and
    a server that refuses everything hold all of them; then one request goes first.

    Attributes:
        blocked_by: What holds everything up, if something does.
    """

    def __init__(self, clock: Clock) -> None:
        self.blocked_by: FlipError | None = None
        self._clock: Final = clock
        self._failures = 0
        self._closed_until_s: float | None = None
        self._has_scout = False
        self._changed: Final = Signal(clock)

    @property
    def holds_for_s(self) -> float | None:
        """Seconds until a request may go; 0 where it may now, `None` while one tries."""
        if self._closed_until_s is None:
            return 0.0
        if self._has_scout:
            return None
        return max(0.0, self._closed_until_s - self._clock.monotonic())

    async def enter(self) -> None:
        """Wait until a request may go out."""
        while (wait_s := self.holds_for_s) != 0.0:
            await self._changed.wait(wait_s)
        if self._closed_until_s is not None:
            self._has_scout = True

    def passed(self) -> None:
        """A request was answered: the way is free."""
        self._failures = 0
        self.blocked_by = None
        self._has_scout = False
        self._closed_until_s = None
        self._changed.wake()

    def failed(self, error: FlipError, verdict: Verdict, *, luck: float) -> float:
        """A request failed.

        Args:
            error: How.
            verdict: What that means.
            luck: A number from 0 up to 1.

        Returns:
            How long its own batch has to wait, in seconds.
        """
        self._failures += 1
        back_off = _STOPPED if verdict is Verdict.STOP else _BACK_OFF
        pause_s = back_off.patient_delay_s(self._failures, luck)
        asked_s = error.retry_after_s
        if asked_s is not None:
            pause_s = max(pause_s, min(asked_s, _LONGEST_ASKED_S))
        is_shared = asked_s is not None or verdict is Verdict.STOP
        if is_shared or self._failures >= _FAILURES_TO_CLOSE:
            self.blocked_by = error
            until_s = self._clock.monotonic() + pause_s
            self._closed_until_s = max(until_s, self._closed_until_s or 0.0)
        self._has_scout = False
        self._changed.wake()
        return pause_s

    def gave_up(self) -> None:
        """A request ended without an outcome: the next one may try."""
        self._has_scout = False
        self._changed.wake()
