"""Whether a request may go out now: one circuit breaker for all batches of an uploader."""

from typing import Final

from flip_async._backoff import Backoff
from flip_async.errors import FlipError
from flip_async.telemetry._verdict import Verdict

_BACK_OFF: Final = Backoff(base_s=0.5, cap_s=30.0)
_STOPPED: Final = Backoff(base_s=4.0, cap_s=60.0)
_LONGEST_ASKED_S: Final = 300.0
_FAILURES_TO_OPEN: Final = 3


class CircuitBreaker:
    """Lets requests through while it is closed; open, it holds them all.

    A failure now and then holds its own batch alone. Failures in a row, a `Retry-After`, and a
    server that refuses everything open it; after a while one request goes first (half-open).
    It only decides; whoever asks waits. The deliveries of one uploader touch it, in its loop.

    Attributes:
        blocked_by: What opened it; `None` while it is closed.
    """

    def __init__(self) -> None:
        self.blocked_by: FlipError | None = None
        self._failures = 0
        self._open_until_s: float | None = None
        self._has_trial = False

    def held_for_s(self, now_s: float) -> float | None:
        """Seconds until a request may go; 0 where it may now, `None` while one is on trial."""
        if self._open_until_s is None:
            return 0.0
        if self._has_trial:
            return None
        return max(0.0, self._open_until_s - now_s)

    def sends(self) -> None:
        """A request goes out, which it let through."""
        self._has_trial = self._open_until_s is not None

    def passed(self) -> None:
        """A request was answered: the way is free."""
        self._failures = 0
        self.blocked_by = None
        self._has_trial = False
        self._open_until_s = None

    def failed(self, error: FlipError, verdict: Verdict, *, now_s: float, luck: float) -> float:
        """A request failed.

        Args:
            error: How.
            verdict: What that means.
            now_s: The present moment.
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
        if is_shared or self._failures >= _FAILURES_TO_OPEN:
            self.blocked_by = error
            self._open_until_s = max(now_s + pause_s, self._open_until_s or 0.0)
        self._has_trial = False
        return pause_s

    def gave_up(self) -> None:
        """A request ended without an outcome: the next one may try."""
        self._has_trial = False
