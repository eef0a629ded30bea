"""A supply of tokens: drives the life cycle, and owns what runs for it."""

import asyncio
import contextlib
import logging
import math
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Final

import attrs

from flip_async._aio._per_loop import PerLoop
from flip_async._auth._decisions import Age, Failure, GiveUp, Policy, Refuse, Route, Use, Wait
from flip_async._auth._lifecycle import ANY_GENERATION, Lifecycle
from flip_async._auth._single_flight import Crashed, Flight, Lost, Outcome, Run
from flip_async._auth._store import Obtained, StoredTokens
from flip_async._auth._token import Token
from flip_async._clock import Clock, Timer
from flip_async.errors import ClientClosedError, FlipError

logger: Final = logging.getLogger("flip_async.auth")


@attrs.frozen
class RefreshEvent:
    """One try to get a token, for metrics.

    Attributes:
        duration_s: How long it took, in seconds.
        error: Why it failed, or `None`.
    """

    duration_s: float
    error: FlipError | None


class Supply:
    """Gives tokens to any number of requests, event loops and threads.

    Args:
        fetch: Asks for a token, once.
        owner: What to call it in logs and errors.
        clock: Time and luck.
        policy: Numbers of the rules.
        stored: Its place in a store, if there is one.
        keep_fresh: Refresh without a request's asking [A22].
        on_refresh: Called after every try.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Obtained | Failure]],
        *,
        owner: str,
        clock: Clock,
        policy: Policy | None,
        stored: StoredTokens | None,
        keep_fresh: bool,
        on_refresh: Callable[[RefreshEvent], object] | None,
    ) -> None:
        self.life: Final = Lifecycle(policy)
        self._fetch: Final = fetch
        self._owner: Final = owner
        self._clock: Final = clock
        self._stored: Final = stored
        self._keep_fresh: Final = keep_fresh
        self._on_refresh: Final = on_refresh
        self._guard: Final = threading.Lock()  # around the life cycle's changes, see there
        self._flights: Final = PerLoop(lambda: Flight(self._refresh, self._clock))
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
            outcome = await self._flights.get().join()
            if isinstance(outcome, Token):
                return outcome
            self._raise_unless_lost(outcome)

    async def renew(self) -> Token:
        """A new token, whatever the one at hand is worth [A21]."""
        self._check_open()
        with self._guard:
            self.life.forgive()
        while True:
            outcome = await self._flights.get().force()
            if isinstance(outcome, Token):
                return outcome
            self._raise_unless_lost(outcome)

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
        return self.life.trouble(self._clock.now())

    @property
    def is_busy(self) -> bool:
        """Whether a token is being fetched."""
        return any(flight.is_busy for _, flight in self._flights.items())

    @property
    def is_idle(self) -> bool:
        """Whether it has no valid token at hand, and none is being fetched."""
        age = self.life.age(self._clock.now())
        return age in (Age.ABSENT, Age.EXPIRED) and not self.is_busy

    def _raise_unless_lost(self, outcome: FlipError | Lost | Crashed) -> None:
        if isinstance(outcome, FlipError):
            raise outcome.again()
        if isinstance(outcome, Crashed):
            raise RuntimeError("a refresh ended with a bug") from outcome.error

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosedError(f"this {self._owner} is closed")

    # The refresh, a task of its own

    async def _refresh(self, run: Run) -> Outcome:
        try:
            outcome = await self._attempts(run)
        except Exception as error:
            logger.exception("a refresh ended with a bug")
            outcome = Crashed(error)
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
                result = await self._attempt()
            if isinstance(result, Obtained):
                return result.token
            now = self._clock.now()
            with self._guard:
                next_step = self.life.failed(
                    result,
                    began=began,
                    now=now,
                    luck=self._clock.random(),
                    asked_for=run.forced,
                )
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

    async def _attempt(self) -> Obtained | Failure:
        began = self._clock.now()
        if self._stored is None:
            result = await self._fetch()
        else:
            result = await self._stored.obtain(self._fetch, replaced=self.life.replaced)
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
        self._report(
            RefreshEvent(duration_s, result.error if isinstance(result, Failure) else None)
        )
        return result

    def _report(self, event: RefreshEvent) -> None:
        if self._on_refresh is None:
            return
        try:
            self._on_refresh(event)
        except Exception:  # the user's own code: it must not cost a request
            logger.exception("on_refresh raised")

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
                _call_in(loop, flight.abandon)


class _RefreshTimer:
    """One event loop's timer for the next refresh; it keeps neither loop nor supply alive."""

    def __init__(self, supply: Supply) -> None:
        self._supply: Final = weakref.ref(supply)
        self._timer: Timer | None = None

    @property
    def is_set(self) -> bool:
        return self._timer is not None

    def set(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        supply = self._supply()
        if seconds is not None and supply is not None:
            self._timer = supply._clock.call_later(seconds, self._due)

    def _due(self) -> None:
        self._timer = None
        supply = self._supply()
        if supply is not None and not supply._closed:
            supply._flights.get().start()


def _call_in(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    # Closed between the question and the call: nothing runs there any more.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback)
