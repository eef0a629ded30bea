"""What httpx sees: sets the header, and sends a request once more after a 401."""

import logging
from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from types import TracebackType
from typing import Final, NoReturn, Self

import attrs
import httpx

from flip_async._auth._decisions import Failure, Policy, Route
from flip_async._auth._refresher import RefreshEvent, Supply
from flip_async._auth._store import Obtained, StoredTokens
from flip_async._auth._token import Token
from flip_async._clock import Clock, SystemClock
from flip_async._environment import FLIP_API_ORIGINS, Origin, parse_origin
from flip_async._transport._progress import EXTENSION, NOTE, SendState
from flip_async.errors import ConfigurationError, FlipError

logger: Final = logging.getLogger("flip_async.auth")

NOT_REPLAYABLE: Final = (
    "not sent again: its body is a stream that can be read only once; pass bytes instead"
)
"""Why a 401 was not followed by a second attempt [A14]."""


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
        self._keep_fresh: Final = options.keep_fresh
        self._renewable: Final = renewable
        self._supply: Final = Supply(
            self._fetch,
            owner=type(self).__name__,
            clock=options.clock,
            policy=policy,
            stored=stored,
            keep_fresh=options.keep_fresh,
            on_refresh=options.on_refresh,
        )
        # Bound here: every request asks these three.
        self._fresh: Final = self._supply.life.fresh
        self._monotonic: Final = options.clock.monotonic
        self._wall: Final = options.clock.wall

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
        held = self._fresh(self._monotonic(), self._wall())
        if held is not None and not self._keep_fresh:
            token = held.token
            request.headers["Authorization"] = held.authorization
        else:
            token = await self._supply.acquire()
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

        self._supply.retried(_route(request), accepted=response.status_code != 401)

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
        supply, route = self._supply, _route(request)
        if not supply.rejected(token, route):
            return None
        if not isinstance(request.stream, httpx.ByteStream):
            supply.replace_if_dropped()  # for the requests that follow
            response.extensions[NOTE] = NOT_REPLAYABLE
            logger.warning("%s %s: 401, %s", request.method, request.url.path, NOT_REPLAYABLE)
            return None
        # Until it is read, the answer holds a connection that the token request may need.
        await response.aread()
        try:
            successor = await supply.acquire()
        except FlipError as error:
            error.add_note("the API had answered 401 to the token at hand")
            raise
        if supply.life.retry_is_worth_it(token, successor):
            return successor
        supply.retried(route, accepted=False)
        return None

    # Tokens

    @property
    @abstractmethod
    def identity(self) -> str:
        """Tells this credential from others, with no secret in it."""

    @property
    def trouble(self) -> FlipError | None:
        """Why there is no valid token at hand, if the last try for one failed."""
        return self._supply.trouble

    @property
    def is_busy(self) -> bool:
        """Whether a token is being fetched."""
        return self._supply.is_busy

    @property
    def is_idle(self) -> bool:
        """Whether it has no valid token at hand, and none is being fetched."""
        return self._supply.is_idle

    async def token(self) -> Token:
        """A valid token: the one at hand, or a new one.

        Raises:
            TokenError: None can be had.
            ClientClosedError: `aclose()` was called.
        """
        return await self._supply.acquire()

    async def refresh(self) -> Token:
        """Take a new token, whatever the one at hand is worth; ends every waiting period.

        Raises:
            TokenError: None can be had; a valid one at hand stays in use.
            ClientClosedError: `aclose()` was called.
        """
        return await self._supply.renew()

    def invalidate(self) -> None:
        """Drop the token at hand and end every waiting period; the next request takes a new one."""
        self._supply.invalidate()

    async def aclose(self) -> None:
        """Drop the token and end what runs; whoever waits gets a `ClientClosedError`."""
        await self._supply.aclose()

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


def _route(request: httpx.Request) -> Route:
    return request.method, request.url.raw_path.partition(b"?")[0]
