"""Drives the life cycle of a token, and owns what runs for it.

Theory of operation. `Lifecycle` decides and is shared by all loops and threads, under a guard.
Each loop has a `SingleFlight`, whose task fetches for all who wait there; a waiter that finds
the flight lost begins another, and the third loss in a row is a failure with back-off, so that
nothing makes waiters ask without a pause. Closing is asked for at every turn of a wait.
"""

import asyncio
import logging
import math
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Final

import attrs

from flip_async._aio._callbacks import UserCodeError, notify_soon, run_user_code
from flip_async._aio._per_loop import PerLoop, call_in
from flip_async._auth._decisions import (
    Age,
    Failure,
    GiveUp,
    Obtained,
    Pause,
    Policy,
    Refuse,
    Route,
    TokenSource,
    Use,
    Wait,
)
from flip_async._auth._lifecycle import ANY_GENERATION, Lifecycle
from flip_async._auth._single_flight import Lost, Outcome, Run, SingleFlight
from flip_async._auth._store import StoredTokens
from flip_async._auth._token import Token
from flip_async._clock import Clock, Timer
from flip_async.errors import ClientClosedError, FlipError, TokenUnavailableError

logger: Final = logging.getLogger("flip_async.auth")

OnRefresh = Callable[["RefreshEvent"], Awaitable[None] | None]
_LOST_AT_MOST: Final = 2
_SHORTEST_ATTEMPT_S: Final = 0.1


@attrs.frozen
class RefreshEvent:
    """One try to get a token, for metrics.

    Attributes:
        duration_s: How long it took, in seconds.
        error: Why it failed, or `None`; a copy without traceback and cause.
    """

    duration_s: float
    error: FlipError | None


class Refresher:
    """Gives tokens to any number of requests, event loops and threads.

    What changes: the life cycle (under the guard), whether it is closed, and each loop's flight
    and timer (in that loop alone).

    Args:
        source: Where tokens come from.
        owner: What to call it in logs and errors.
        clock: Time and luck.
        policy: Numbers of the rules.
        stored: Its place in a store, if there is one.
        keep_fresh: Refresh without a request's asking [A22].
        on_refresh: Called after every try.
    """

    def __init__(
        self,
        source: TokenSource,
        *,
        owner: str,
        clock: Clock,
        policy: Policy,
        stored: StoredTokens | None,
        keep_fresh: bool,
        on_refresh: OnRefresh | None,
    ) -> None:
        self.life: Final = Lifecycle(policy)
        self._budget_s: Final = policy.budget_s
        self._source: Final = source
        self._owner: Final = owner
        self._clock: Final = clock
        self._stored: Final = stored
        self._keep_fresh: Final = keep_fresh
        self._on_refresh: Final = on_refresh
        self._guard: Final = threading.Lock()  # around the life cycle's changes, see there
        self._flights: Final = PerLoop(lambda: SingleFlight(self._refresh, self._clock))
        self._timers: Final = PerLoop(lambda: _RefreshTimer(self))
        self._closed = False

    # What requests ask for

    async def acquire(self) -> Token:
        """A valid token: the one at hand, or a new one."""
        while True:
            self._check_open()
            decision = self.life.decide(self._clock.now())
            if isinstance(decision, Use):
                if decision.refresh:
                    self._flights.get().start()
                self._tend()
                return decision.token
            if isinstance(decision, Refuse):
                raise decision.error.again()
            flight = self._flights.get()
            outcome = await flight.join()
            if isinstance(outcome, Token):
                return outcome
            self._raise_unless_lost(outcome, flight)

    async def renew(self) -> Token:
        """A new token, whatever the one at hand is worth [A21]."""
        with self._guard:
            self.life.forgive()
        while True:
            self._check_open()
            flight = self._flights.get()
            outcome = await flight.force()
            if isinstance(outcome, Token):
                return outcome
            self._raise_unless_lost(outcome, flight)

    def replace_if_dropped(self) -> None:
        """Begin a refresh that nobody waits for, where requests to come would wait [A14]."""
        if isinstance(self.life.decide(self._clock.now()), Wait):
            self._flights.get().start()

    def invalidate(self) -> None:
        """Drop the token at hand, and end every waiting period."""
        with self._guard:
            self.life.invalidate(self._clock.now())

    def rejected(self, token: Token, route: Route) -> bool:
        """The API answered 401 to `token`: is the request worth sending again?"""
        with self._guard:
            return self.life.rejected(token, route, self._clock.now())

    def retried(self, route: Route, *, accepted: bool) -> None:
        """What became of a request that was sent again [A7]."""
        with self._guard:
            if accepted:
                self.life.retry_accepted(route)
            else:
                self.life.retry_rejected(route, self._clock.now())

    @property
    def trouble(self) -> FlipError | None:
        """Why there is no valid token at hand, if the last try for one failed."""
        error = self.life.trouble(self._clock.now())
        return None if error is None else error.for_others()

    @property
    def is_busy(self) -> bool:
        """Whether a token is being fetched."""
        return any(flight.is_busy for _, flight in self._flights.items())

    @property
    def is_idle(self) -> bool:
        """Whether it has no valid token at hand, and none is being fetched."""
        age = self.life.age(self._clock.now())
        return age in (Age.ABSENT, Age.EXPIRED) and not self.is_busy

    def _raise_unless_lost(self, outcome: Exception | Lost, flight: SingleFlight) -> None:
        self._check_open()
        if isinstance(outcome, FlipError):
            raise outcome.again()
        if flight.lost_in_a_row > _LOST_AT_MOST:
            raise self._lost_too_often(flight).again()
        if isinstance(outcome, Exception):
            raise RuntimeError("a refresh ended with a bug") from outcome

    def _lost_too_often(self, flight: SingleFlight) -> FlipError:
        times, flight.lost_in_a_row = flight.lost_in_a_row, 0
        error = TokenUnavailableError(f"{times} refreshes in a row were ended by somebody else")
        logger.warning("no token: %s", error.message)
        self._failed(Failure(error, retryable=False), began=-math.inf, asked_for=False)
        return error

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosedError(f"this {self._owner} is closed")

    # The refresh, a task of its own

    async def _refresh(self, run: Run) -> Outcome:
        outcome: Outcome
        try:
            outcome = await self._attempts(run)
        except Exception as error:
            logger.exception("a refresh ended with a bug")
            outcome = error
        self._tend(anew=True)
        return outcome

    async def _attempts(self, run: Run) -> Outcome:
        began = self._clock.now().monotonic_s
        attempt = 0
        generation: int | None = None if run.forced else ANY_GENERATION
        while True:
            async with run.lock:
                # Another run, or another thread's loop, may have been first.
                ready = self.life.fresh_since(generation, self._clock.now())
                if ready is not None:
                    return ready
                attempt += 1
                generation = ANY_GENERATION if not run.forced else self.life.generation
                result = await self._attempt(self._left_s(began, run))
            if isinstance(result, Obtained):
                return result.token
            next_step = self._failed(result, began=began, asked_for=run.forced)
            if isinstance(next_step, GiveUp):
                logger.warning("no token (attempt %d): %s", attempt, result.error)
                result.error.attempts = attempt
                return result.error
            logger.warning(
                "no token (attempt %d, the next in %.1f s): %s",
                attempt,
                next_step.seconds,
                result.error,
            )
            await run.pause(next_step.seconds, wakeable=next_step.wakeable)

    def _left_s(self, began: float, run: Run) -> float:
        """What is left of the budget: all attempts that somebody waits for share it."""
        with self._guard:
            waited_s = self.life.waited_s(began, self._clock.now(), asked_for=run.forced)
        return max(_SHORTEST_ATTEMPT_S, self._budget_s - waited_s)

    def _failed(self, failure: Failure, *, began: float, asked_for: bool) -> Pause | GiveUp:
        with self._guard:
            return self.life.failed(
                failure,
                began=began,
                now=self._clock.now(),
                luck=self._clock.random(),
                asked_for=asked_for,
            )

    async def _attempt(self, within_s: float) -> Obtained | Failure:
        began = self._clock.now()
        result = await self._obtain(within_s)
        now = self._clock.now()
        duration_s = now.monotonic_s - began.monotonic_s
        if isinstance(result, Obtained) and not self._closed:
            with self._guard:
                self.life.refreshed(result.token, result.issued, now)
            if math.isfinite(result.token.lifetime_s):
                logger.info(
                    "%s: new token after %.3f s, good for %.0f s",
                    self._owner,
                    duration_s,
                    result.token.lifetime_s,
                )
        if self._on_refresh is not None:
            error = result.error.for_others() if isinstance(result, Failure) else None
            notify_soon(logger, self._on_refresh, RefreshEvent(duration_s, error))
        return result

    async def _obtain(self, within_s: float) -> Obtained | Failure:
        try:
            return await run_user_code(self._fetch, within_s)
        except UserCodeError:
            pass  # a failure like any other
        return Failure(TokenUnavailableError("a CancelledError came from within"), retryable=True)

    async def _fetch(self, within_s: float) -> Obtained | Failure:
        if self._stored is None:
            return await self._source.fetch(within_s)
        return await self._stored.obtain(
            self._source.fetch, replaced=self.life.replaced, within_s=within_s
        )

    # keep_fresh

    def _tend(self, *, anew: bool = False) -> None:
        """See to it that a timer of this loop begins the next refresh [A22]."""
        if not self._keep_fresh or self._closed:
            return
        keeper = self._timers.get()
        if anew or not keeper.is_set:
            keeper.set(self.life.unasked_refresh_in_s(self._clock.now()))

    # Closing

    async def aclose(self) -> None:
        """Drop the token and end what runs; whoever waits gets a `ClientClosedError`."""
        self._closed = True
        self.invalidate()
        here = asyncio.get_running_loop()
        for loop, timer in self._timers.items():
            if loop is here:
                timer.set(None)
        for loop, flight in self._flights.items():
            if loop is here:
                await asyncio.gather(*flight.abandon(), return_exceptions=True)
            elif not loop.is_closed():
                call_in(loop, flight.abandon)
        if self._stored is not None:  # a script that ends now shall leave its token to the next
            await self._stored.finish()


class _RefreshTimer:
    """One event loop's timer for the next refresh; it keeps neither loop nor refresher alive."""

    def __init__(self, refresher: Refresher) -> None:
        self._refresher: Final = weakref.ref(refresher)
        self._timer: Timer | None = None

    @property
    def is_set(self) -> bool:
        return self._timer is not None

    def set(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        refresher = self._refresher()
        if seconds is not None and refresher is not None:
            self._timer = refresher._clock.call_later(seconds, self._due)

    def _due(self) -> None:
        self._timer = None
        refresher = self._refresher()
        if refresher is not None and not refresher._closed:
            refresher._flights.get().start()
