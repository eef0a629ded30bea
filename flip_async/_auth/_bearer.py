"""Drives the life cycle inside httpx's auth flow."""

import asyncio
import contextlib
import logging
import math
import threading
import weakref
from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from types import TracebackType
from typing import Final, NoReturn, Self

import attrs
import httpx

from flip_async._auth._flight import Crashed, Flight, Lost, Outcome, Run
from flip_async._auth._lifecycle import (
    ANY_GENERATION,
    Age,
    Failure,
    GiveUp,
    Lifecycle,
    Policy,
    Refuse,
    Route,
    Use,
    Wait,
)
from flip_async._auth._per_loop import PerLoop
from flip_async._auth._store import Obtained, StoredTokens
from flip_async._auth._token import Token
from flip_async._clock import Clock, SystemClock, Timer
from flip_async._environment import FLIP_API_ORIGINS, Origin, parse_origin
from flip_async._send_state import EXTENSION, NOTE, SendState
from flip_async.errors import ClientClosedError, ConfigurationError, FlipError

logger: Final = logging.getLogger("flip_async.auth")

NOT_REPLAYABLE: Final = (
    "not sent again: its body is a stream that can be read only once; pass bytes instead"
)
"""Why a 401 was not followed by a second attempt [A14]."""


@attrs.frozen
class RefreshEvent:
    """One try to get a token, for metrics.

    Attributes:
        duration_s: How long it took, in seconds.
        error: Why it failed, or `None`.
    """

    duration_s: float
    error: FlipError | None


@attrs.frozen(kw_only=True)
class BearerOptions:
    """What every bearer auth is made with; the public classes document each.

    Attributes:
        origins: API origins that the bearer may go to; `None` for Flip's own.
        insecure_http: Allow `http` origins beyond loopback.
        any_loopback: Allow any origin on this machine.
        keep_fresh: Refresh without a request's asking [A22].
        on_refresh: Called after every try.
        clock: Time and luck.
    """

    origins: Iterable[str] | None = None
    insecure_http: bool = False
    any_loopback: bool = False
    keep_fresh: bool = False
    on_refresh: Callable[[RefreshEvent], object] | None = None
    clock: Clock = attrs.field(factory=SystemClock)

    def allowed_origins(self) -> frozenset[tuple[object, ...]]:
        if self.origins is None:
            return frozenset(FLIP_API_ORIGINS)
        if isinstance(self.origins, str):
            raise ConfigurationError("origins is a list of origins, not a str")
        return frozenset(
            parse_origin(url, field="origins", insecure_http=self.insecure_http)
            for url in self.origins
        )


class BearerAuth(httpx.Auth):
    """Base of the public auth classes: sets the header, and lives through a 401.

    One object may serve any number of requests, clients, event loops and threads.
    """

    def __init__(
        self,
        options: BearerOptions,
        policy: Policy | None = None,
        *,
        renewable: bool = True,
        stored: StoredTokens | None = None,
    ) -> None:
        self._origins: Final = options.allowed_origins()
        self._any_loopback: Final = options.any_loopback
        self._clock: Final = options.clock
        self._monotonic: Final = options.clock.monotonic
        self._wall: Final = options.clock.wall
        self._on_refresh: Final = options.on_refresh
        self._keep_fresh: Final = options.keep_fresh
        self._renewable: Final = renewable
        self._stored: Final = stored
        self._life: Final = Lifecycle(policy)
        self._guard: Final = threading.Lock()  # around the life cycle's changes, see there
        self._flights: Final = PerLoop(self._new_flight)
        self._timers: Final[PerLoop[_Keeper]] = PerLoop(lambda: _Keeper(self))
        self._closed = False

    @abstractmethod
    async def _fetch(self) -> Obtained | Failure:
        """Ask for a token, once."""

    # The flow

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        """Refuse: a sync client would wait for an event loop that it does not run [A16]."""
        raise ConfigurationError(
            f"{type(self).__name__} works in an httpx.AsyncClient only, not in an httpx.Client"
        )

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Set the header; on a 401 take a newer token and send the request once more."""
        url = request.url
        if (url.scheme, url.raw_host, url.port) not in self._origins:
            self._check_origin(url)
        held = self._life.fresh(self._monotonic(), self._wall())
        if held is not None and not self._keep_fresh:
            token = held.token
            request.headers["Authorization"] = held.authorization
        else:
            token = await self._acquire()
            request.headers["Authorization"] = token.authorization()
        state: SendState | None = request.extensions.get(EXTENSION)
        if state is not None:
            state.leaves()

        response = yield request

        if response.status_code != 401 or not self._is_ours(response, request):
            return
        if state is not None:
            state.waits()  # a refused request was not carried out
        successor = await self._after_401(request, response, token)
        if successor is None:
            return
        request.headers["Authorization"] = successor.authorization()
        if state is not None:
            state.leaves()

        response = yield request

        with self._guard:
            if response.status_code == 401:
                self._life.retry_rejected(_route(request), self._clock.now())
            else:
                self._life.retry_accepted(_route(request))

    def _check_origin(self, url: httpx.URL) -> None:
        origin = Origin.of(url)
        if self._any_loopback and origin.is_loopback:
            return
        allowed = ", ".join(sorted(str(origin) for origin in self._origins))
        raise ConfigurationError(
            f"the credential does not go to {origin}, only to {allowed}: "
            "pass auth=None for requests elsewhere, or origins= to the auth"
        )

    def _is_ours(self, response: httpx.Response, request: httpx.Request) -> bool:
        # httpx shows the flow the end of a redirect chain, which may be a foreign host's.
        return self._renewable and Origin.of(response.url) == Origin.of(request.url)

    async def _after_401(
        self, request: httpx.Request, response: httpx.Response, token: Token
    ) -> Token | None:
        """The token to send the request again with, or `None` where it is not sent again."""
        route = _route(request)
        with self._guard:
            worth_it = self._life.rejected(token, route, self._clock.now())
        if not worth_it:
            return None
        if not isinstance(request.stream, httpx.ByteStream):
            if isinstance(self._life.decide(self._clock.now()), Wait):
                self._flights.get().start()  # for the requests that follow
            response.extensions[NOTE] = NOT_REPLAYABLE
            logger.warning("%s %s: 401, %s", request.method, request.url.path, NOT_REPLAYABLE)
            return None
        # Until it is read, the answer holds a connection that the token request may need.
        await response.aread()
        try:
            successor = await self._acquire()
        except FlipError as error:
            error.add_note("the API had answered 401 to the token at hand")
            raise
        if self._life.retry_is_worth_it(token, successor):
            return successor
        with self._guard:
            self._life.retry_rejected(route, self._clock.now())
        return None

    # Tokens

    @property
    @abstractmethod
    def identity(self) -> str:
        """Tells this credential from others, with no secret in it."""

    @property
    def is_busy(self) -> bool:
        """Whether a token is being fetched."""
        return any(flight.is_busy for _, flight in self._flights.items())

    @property
    def trouble(self) -> FlipError | None:
        """Why there is no valid token at hand, if the last try for one failed."""
        return self._life.trouble(self._clock.now())

    @property
    def is_idle(self) -> bool:
        """Whether it has no valid token at hand, and none is being fetched."""
        age = self._life.age(self._clock.now())
        return age in (Age.ABSENT, Age.EXPIRED) and not self.is_busy

    async def token(self) -> Token:
        """A valid token: the one at hand, or a new one.

        Raises:
            TokenError: None can be had.
            ClientClosedError: `aclose()` was called.
        """
        return await self._acquire()

    async def refresh(self) -> Token:
        """Take a new token, whatever the one at hand is worth; ends every waiting period.

        Raises:
            TokenError: None can be had; a valid one at hand stays in use.
            ClientClosedError: `aclose()` was called.
        """
        self._check_open()
        with self._guard:
            self._life.forgive()
        while True:
            outcome = await self._flights.get().force()
            if isinstance(outcome, Token):
                return outcome
            self._raise_unless_lost(outcome)

    def invalidate(self) -> None:
        """Drop the token at hand and end every waiting period; the next request takes a new one."""
        with self._guard:
            self._life.invalidate(self._clock.now())

    async def _acquire(self) -> Token:
        while True:
            self._check_open()
            decision = self._life.decide(self._clock.now())
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

    def _raise_unless_lost(self, outcome: FlipError | Lost | Crashed) -> None:
        if isinstance(outcome, FlipError):
            raise outcome.again()
        if isinstance(outcome, Crashed):
            raise RuntimeError("a refresh ended with a bug") from outcome.error

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosedError(f"this {type(self).__name__} is closed")

    # The refresh, a task of its own

    def _new_flight(self) -> Flight:
        return Flight(self._refresh, self._clock)

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
                ready = self._life.fresh_since(generation, self._clock.now())
                if ready is not None:
                    return ready
                attempt += 1
                generation = ANY_GENERATION if not run.forced else self._life.generation
                result = await self._attempt()
            if isinstance(result, Obtained):
                return result.token
            now = self._clock.now()
            with self._guard:
                next_step = self._life.failed(
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
            result = await self._stored.obtain(self._fetch, replaced=self._life.replaced)
        now = self._clock.now()
        duration_s = now.monotonic_s - began.monotonic_s
        if isinstance(result, Obtained) and not self._closed:
            with self._guard:
                self._life.refreshed(result.token, result.issued, now)
            if math.isfinite(result.token.lifetime_s):
                logger.info(
                    "%s: new token after %.3f s, good for %.0f s",
                    type(self).__name__,
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
            keeper.set(self._life.unasked_refresh_in_s(self._clock.now()))

    # Closing

    async def aclose(self) -> None:
        """Drop the token and end what runs; whoever waits gets a `ClientClosedError`."""
        self._closed = True
        self.invalidate()
        here = asyncio.get_running_loop()
        for loop, keeper in self._timers.items():
            if loop is here:
                keeper.set(None)
        for loop, flight in self._flights.items():
            if loop is here:
                await asyncio.gather(*flight.abandon(), return_exceptions=True)
            elif not loop.is_closed():
                _call_in(loop, flight.abandon)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is not pickled: make one in each process")


class _Keeper:
    """One event loop's timer for the next refresh; it keeps neither loop nor auth alive."""

    def __init__(self, auth: BearerAuth) -> None:
        self._auth: Final = weakref.ref(auth)
        self._timer: Timer | None = None

    @property
    def is_set(self) -> bool:
        return self._timer is not None

    def set(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        auth = self._auth()
        if seconds is not None and auth is not None:
            self._timer = auth._clock.call_later(seconds, self._due)

    def _due(self) -> None:
        self._timer = None
        auth = self._auth()
        if auth is not None and not auth._closed:
            auth._flights.get().start()


def _call_in(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    # Closed between the question and the call: nothing runs there any more.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback)


def _route(request: httpx.Request) -> Route:
    return request.method, request.url.raw_path.partition(b"?")[0]
