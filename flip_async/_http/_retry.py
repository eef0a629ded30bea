"""What an outcome is worth: a pause before the next attempt, or none."""

import logging
import re
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import attrs

from flip_async._backoff import Backoff
from flip_async._checks import check_count, check_names, check_number, refuse
from flip_async._endpoint import Endpoint
from flip_async._transport._attempt import NoAnswer
from flip_async.errors import InvalidArgumentError

_NAME: Final = re.compile(r"[A-Z]+ /\S+")

logger: Final = logging.getLogger("flip_async.http")

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


Outcome = Answered | NoAnswer


@attrs.frozen(kw_only=True)
class RetryEvent:
    """An attempt that failed and is made again, for metrics.

    Attributes:
        method: HTTP method of the call.
        path: Path of the call.
        attempt: Number of the attempt that failed, from 1.
        reason: Why: an HTTP status, or what there was instead of an answer.
        pause_s: How long the pause before the next attempt is, in seconds.
    """

    method: str
    path: str
    attempt: int
    reason: str
    pause_s: float


OnRetry = Callable[[RetryEvent], Awaitable[None] | None]


def _statuses(value: Collection[int]) -> frozenset[int]:
    if isinstance(value, str | bytes) or not isinstance(value, Collection):
        refuse("statuses", "a collection of HTTP statuses", value)
    for status in value:
        check_count(status, field="statuses", at_least=100, at_most=599)
    return frozenset(value)


def _names(value: Collection[str]) -> frozenset[str]:
    names = frozenset(check_names(value, field="safe_to_repeat"))
    for name in names:
        if _NAME.fullmatch(name) is None:
            raise InvalidArgumentError(
                f"names a method and a path, as 'POST /v1/commission' does, not {name[:80]!r}",
                field="safe_to_repeat",
            )
    return names


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
        InvalidArgumentError: A number is out of range, or a name is none.

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
        check_count(self.max_attempts, field="max_attempts")
        check_count(self.budget, field="budget", at_least=0)
        for name in ("base_s", "cap_s", "retry_after_cap_s"):
            check_number(getattr(self, name), field=name, at_least=0, unit=" of seconds")

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
            case NoAnswer():
                return outcome.is_worth_repeating and (repeatable or not outcome.may_have_arrived)


class RetryBudget:
    """Retries that are left to all calls of a client together.

    A server that is down is then hit by a bounded number of retries, whatever the number
    of tasks. It takes no lock: two threads may both take the last one.
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
