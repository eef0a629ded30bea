"""The life of a token as a state machine with no I/O, which is told the time.

A token is *absent*, *fresh*, *stale* (past `refresh_ratio` of its life) or *expired*.
`decide()` says what a request does now; the other methods tell what happened.
Whether a refresh is running is not known here: that belongs to an event loop, and
loops end, while this is shared by all of them.

The one keeper of what changes is the object itself. It takes no lock: whoever shares
it between threads holds one around every method but `decide()`, which reads each
attribute once and may run at any time.
"""

import math
from typing import Final

import attrs

from flip_async._auth._cooldown import Cooldown
from flip_async._auth._decisions import (
    Age,
    Failure,
    GiveUp,
    Pause,
    Policy,
    Refuse,
    Route,
    Use,
    Wait,
)
from flip_async._auth._token import Token
from flip_async._backoff import doubled
from flip_async._clock import Instant
from flip_async._secret import Secret
from flip_async.errors import FlipError

LONGEST_RETRY_AFTER_S: Final = 60.0  # how long a server may forbid a try [A4]
REFUSED_WHILE_VALID_S: Final = 60.0  # a refused refresh beside a valid token is tried again [A10]
ANY_GENERATION: Final = -1


@attrs.frozen
class Held:
    """The token at hand, with its header and the moments that end its ages."""

    token: Token
    authorization: str = attrs.field(repr=False)
    stale_at: Instant
    expired_at: Instant
    generation: int

    def age(self, now: Instant) -> Age:
        if not self.stale_at.reached(now):
            return Age.FRESH
        return Age.EXPIRED if self.expired_at.reached(now) else Age.STALE


@attrs.frozen
class _Trouble:
    """What became of the last attempts, since the last one that worked."""

    error: FlipError
    failures: int
    due_at: float  # monotonic: no try that nobody waits for before this
    final: bool  # nobody is trying any more: requests fail until it is due
    forbidden_until: float  # monotonic: the server asked for this much quiet
    refused_s: float | None  # length of the while after the last refusal


class Lifecycle:
    """Decides; see the module's docstring."""

    def __init__(self, policy: Policy | None = None) -> None:
        self._policy = policy or Policy()
        self._held: Held | None = None
        self._trouble: _Trouble | None = None
        self._unasked_at = -math.inf  # monotonic: no refresh that nobody waits for before this
        self._generation = 0
        self._dropped: Secret | None = None  # the last token, where there is none at hand
        self._dropped_at = -math.inf  # monotonic
        self._dropped_by_401 = False
        self._cooldown: Final = Cooldown()

    # What a request does

    def fresh(self, monotonic_s: float, wall_s: float) -> Held | None:
        """The token at hand, if it is fresh [A1]: all that most requests ask."""
        held = self._held
        if held is None:
            return None
        # Written out rather than asked of age(): this runs in every request.
        mono, wall = held.stale_at
        return held if monotonic_s < mono and wall_s < wall else None

    def decide(self, now: Instant) -> Use | Wait | Refuse:
        """Say what a request does that needs a token now [A1] to [A4], [A9], [A10]."""
        held = self._held
        if held is not None:
            age = held.age(now)
            if age is Age.FRESH:
                return Use(held.token)
            if age is Age.STALE:
                return Use(held.token, refresh=self._refresh_is_due(now.monotonic_s))
        trouble = self._trouble
        if trouble is not None and self._refuses(trouble, now.monotonic_s):
            return Refuse(trouble.error)
        return Wait()

    def age(self, now: Instant) -> Age:
        """How old the token at hand is."""
        held = self._held
        return Age.ABSENT if held is None else held.age(now)

    def trouble(self, now: Instant) -> FlipError | None:
        """What the last attempt came to, where requests have to wait because of it."""
        trouble = self._trouble
        if trouble is None or self.age(now) in (Age.FRESH, Age.STALE):
            return None
        return trouble.error

    def _refresh_is_due(self, mono: float) -> bool:
        trouble = self._trouble
        return mono >= self._unasked_at and (trouble is None or mono >= trouble.due_at)

    def _refuses(self, trouble: _Trouble, mono: float) -> bool:
        if trouble.final:
            return mono < trouble.due_at
        # An attempt may be under way, but the server forbids the next for longer than we wait.
        return mono + self._policy.budget_s < trouble.forbidden_until

    def unasked_refresh_in_s(self, now: Instant) -> float | None:
        """Seconds until a refresh is due that nobody asks for [A22]; `None` where none is."""
        held, trouble = self._held, self._trouble
        due_at = -math.inf if held is None else held.stale_at.monotonic_s
        if trouble is not None:
            due_at = max(due_at, trouble.due_at)
        due_at = max(due_at, self._unasked_at)
        return max(0.0, due_at - now.monotonic_s) if math.isfinite(due_at) else None

    # What became of a refresh

    @property
    def generation(self) -> int:
        """How many tokens there have been."""
        return self._generation

    def fresh_since(self, generation: int | None, now: Instant) -> Token | None:
        """A fresh token that makes a refresh needless.

        Args:
            generation: Only one that came after this; `ANY_GENERATION` for any fresh one,
                `None` where a new one is wanted in any case.
            now: The present moment.
        """
        held = self._held
        if generation is None or held is None or held.generation <= generation:
            return None
        return held.token if held.age(now) is Age.FRESH else None

    @property
    def replaced(self) -> frozenset[Secret]:
        """What a refresh is to replace: a shared store's copy of it counts for nothing [A20]."""
        held = self._held
        replaced = self._dropped if held is None else held.token.access_token
        return frozenset() if replaced is None else frozenset((replaced,))

    def refreshed(self, token: Token, issued: Instant, now: Instant) -> None:
        """A token was obtained; its life began at `issued` [A12]."""
        self._generation += 1
        self._held = Held(
            token=token,
            authorization=token.authorization(),
            stale_at=issued.later(token.lifetime_s * self._policy.refresh_ratio),
            expired_at=issued.later(token.lifetime_s),
            generation=self._generation,
        )
        self._trouble = None
        self._unasked_at = now.monotonic_s + min(10.0, token.lifetime_s * 0.1)
        if self._dropped_by_401 and token.access_token == self._dropped:
            self._cooldown.cured_nothing(now.monotonic_s, self._generation)
        self._dropped, self._dropped_by_401 = None, False

    def failed(
        self, failure: Failure, *, began: float, now: Instant, luck: float, asked_for: bool = False
    ) -> Pause | GiveUp:
        """An attempt failed.

        Args:
            failure: What became of it.
            began: Monotonic time at which this refresh began.
            asked_for: Somebody waits for this refresh although a token may be at hand [A21].
            now: The present moment.
            luck: A number from 0 up to 1.

        Returns:
            Whether this refresh goes on, and after which pause.
        """
        policy, before, mono = self._policy, self._trouble, now.monotonic_s
        failures = 1 if before is None else before.failures + 1
        valid_for_s = 0.0 if asked_for else self._valid_for_s(now)
        refused_s: float | None = None
        forbidden_s = min(failure.retry_after_s or 0.0, LONGEST_RETRY_AFTER_S)
        if failure.retryable:
            delay_s = max(forbidden_s, policy.backoff.delay_s(failures, luck))
        elif valid_for_s > 0:
            delay_s = REFUSED_WHILE_VALID_S
        elif not failure.remembered:
            delay_s = 0.0
        else:
            previous_s = before.refused_s if before else None
            refused_s = doubled(
                previous_s, first_s=policy.refused_first_s, cap_s=policy.refused_cap_s
            )
            delay_s = refused_s
        goes_on = valid_for_s > 0 or (
            failure.retryable
            and mono + delay_s <= self._waited_since(began, now, asked_for) + policy.budget_s
            and (failure.retry_after_s or 0.0) <= policy.budget_s
        )
        self._trouble = _Trouble(
            error=failure.error,
            failures=failures,
            due_at=mono + delay_s,
            final=not goes_on,
            forbidden_until=mono + forbidden_s,
            refused_s=refused_s,
        )
        if not goes_on:
            return GiveUp()
        if valid_for_s <= 0:
            return Pause(delay_s, wakeable=False)
        # At the token's end one try is made at once, unless the server forbids it [A4].
        return Pause(max(min(delay_s, valid_for_s), forbidden_s), wakeable=forbidden_s <= 0)

    def _valid_for_s(self, now: Instant) -> float:
        held = self._held
        if held is None or held.expired_at.reached(now):
            return 0.0
        return held.expired_at.monotonic_s - now.monotonic_s

    def waited_s(self, began: float, now: Instant, *, asked_for: bool) -> float:
        """For how long a refresh that began then keeps somebody waiting."""
        if not asked_for and self._valid_for_s(now) > 0:
            return 0.0
        return now.monotonic_s - self._waited_since(began, now, asked_for)

    def _waited_since(self, began: float, now: Instant, asked_for: bool) -> float:
        """Monotonic time since when this refresh keeps somebody waiting."""
        if asked_for:
            return began
        held = self._held
        without_since = self._dropped_at if held is None else held.expired_at.monotonic_s
        return max(began, min(without_since, now.monotonic_s))

    # What became of a request

    def rejected(self, token: Token, route: Route, now: Instant) -> bool:
        """The API answered 401 to a request that carried `token` [A5].

        Returns:
            Whether the request is worth sending again, with the token that `decide()`
            or the refresh after it gives.
        """
        held = self._held
        if held is None or held.token.access_token != token.access_token:
            # A late 401 must not throw away the successor that another request has fetched.
            return True
        if self._cooldown.holds(route, now.monotonic_s):
            return False
        self._drop(held, now)
        self._dropped_by_401 = True
        return True

    def retry_is_worth_it(self, rejected: Token, successor: Token) -> bool:
        """Whether a request is sent again with `successor` after a 401 to `rejected`."""
        return self._policy.repeat_same or rejected.access_token != successor.access_token

    def retry_accepted(self, route: Route) -> None:
        """A request that was sent again with a newer token was not answered 401 [A7]."""
        self._cooldown.accepted(route)

    def retry_rejected(self, route: Route, now: Instant) -> None:
        """A request that was sent again with a newer token was answered 401 [A7]."""
        self._cooldown.rejected(route, now.monotonic_s, self._generation)

    # What the user asks for

    def invalidate(self, now: Instant) -> None:
        """Drop the token and end every while [A21]."""
        if self._held is not None:
            self._drop(self._held, now)
        self.forgive()

    def forgive(self) -> None:
        """End every while of [A7], [A9] and [A10]."""
        self._trouble = None
        self._cooldown.end()

    def _drop(self, held: Held, now: Instant) -> None:
        self._held = None
        self._dropped = held.token.access_token
        self._dropped_at = now.monotonic_s
        self._dropped_by_401 = False
