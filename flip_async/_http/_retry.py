"""What an outcome is worth: a pause before the next attempt, or none."""

import math
from collections.abc import Collection
from typing import Final

import attrs

from flip_async._backoff import Backoff
from flip_async._endpoint import Endpoint
from flip_async.errors import ConfigurationError, FlipError

_TENTHS: Final = 10  # a success gives back one of them
_REPEATED_POST: Final = frozenset({429, 503})
"""Statuses that say that a POST was not carried out."""


@attrs.frozen
class Answered:
    """The server answered with an error.

    Attributes:
        status: HTTP status.
        retry_after_s: What it asks to wait, in seconds.
    """

    status: int
    retry_after_s: float | None = None


@attrs.frozen
class NoAnswer:
    """No answer came.

    Attributes:
        reason: What httpx says of it.
        sent: Whether the request may have reached the server.
        final: Another attempt would end the same way.
        timed_out: A timeout of httpx ended it.
    """

    reason: str
    sent: bool
    final: bool = False
    timed_out: bool = False


Outcome = Answered | NoAnswer


def _statuses(value: Collection[int]) -> frozenset[int]:
    return frozenset(value)


def _names(value: Collection[str]) -> frozenset[str]:
    return frozenset(value)


@attrs.frozen(kw_only=True)
class Retries:
    """How often, how long, and after what a request is sent again.

    Attributes:
        max_attempts: How often a request is sent at most; 1 for never again.
        base_s: Upper end of the first pause, in seconds; it doubles with each attempt,
            and the pause is drawn from 0 up to it.
        cap_s: Upper end of every pause, in seconds.
        retry_after_cap_s: Longest `Retry-After` that is waited for, in seconds; a longer
            one is raised at once.
        statuses: Answers that are tried again: of these, and of 500, only 429 and 503
            are for a POST, since they say that it was not carried out.
        safe_to_repeat: POSTs that do no harm when they are carried out twice, such as
            `"POST /v1/commission"`. Flip's reference does not say it of any.
        budget: How many retries all calls of a client may make together before others
            succeed; each success gives a tenth of one back.

    Raises:
        ConfigurationError: A number is out of range.

    Source:
        RFC 9110 section 9.2.2 and 10.2.3.
    """

    max_attempts: int = 4
    base_s: float = 0.5
    cap_s: float = 8.0
    retry_after_cap_s: float = 60.0
    statuses: frozenset[int] = attrs.field(
        default=frozenset({429, 500, 502, 503, 504}), converter=_statuses
    )
    safe_to_repeat: frozenset[str] = attrs.field(default=frozenset(), converter=_names)
    budget: int = 100

    def __attrs_post_init__(self) -> None:
        if self.max_attempts < 1 or self.max_attempts != int(self.max_attempts):
            raise ConfigurationError("Retries: max_attempts is a whole number of at least 1")
        for name in ("base_s", "cap_s", "retry_after_cap_s", "budget"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigurationError(f"Retries: {name} is at least 0 and finite")

    def may_repeat(self, endpoint: Endpoint[object]) -> bool:
        """Whether sending a request twice does no harm."""
        return endpoint.idempotent or f"{endpoint.method} {endpoint.path}" in self.safe_to_repeat

    def pause_s(
        self, outcome: Outcome, *, attempt: int, repeatable: bool, luck: float
    ) -> float | None:
        """How long to wait before the next attempt.

        Args:
            outcome: What became of the last one.
            attempt: Its number, from 1.
            repeatable: Whether carrying it out twice does no harm.
            luck: A number from 0 up to 1.

        Returns:
            Seconds, or `None` where there is no next attempt.
        """
        if attempt >= self.max_attempts or not self._is_worth_it(outcome, repeatable):
            return None
        pause_s = Backoff(base_s=self.base_s, cap_s=self.cap_s).delay_s(attempt, luck)
        asked_s = outcome.retry_after_s if isinstance(outcome, Answered) else None
        if asked_s is None:
            return pause_s
        return max(asked_s, pause_s) if asked_s <= self.retry_after_cap_s else None

    def _is_worth_it(self, outcome: Outcome, repeatable: bool) -> bool:
        match outcome:
            case Answered(status):
                return status in self.statuses and (repeatable or status in _REPEATED_POST)
            case NoAnswer(sent=sent, final=final):
                return not final and (repeatable or not sent)


class RetryBudget:
    """Retries that are left to all calls of a client together.

    A server that is down is then hit by a bounded number of retries, whatever the number
    of tasks. One event loop uses it; it takes no lock.
    """

    def __init__(self, size: int) -> None:
        self._size: Final = size * _TENTHS
        self._left = self._size

    def take(self) -> bool:
        """Use one, if there is one."""
        if self._left < _TENTHS:
            return False
        self._left -= _TENTHS
        return True

    def succeeded(self) -> None:
        """A request was answered well: a tenth of a retry comes back."""
        self._left = min(self._size, self._left + 1)


def retry_after_s(error: FlipError) -> float | None:
    """What the server asks to wait, in seconds, if it does."""
    asked: float | None = getattr(error, "retry_after_s", None)
    return asked
