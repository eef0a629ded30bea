"""What httpx sees: sets the header, and sends a request once more after a 401."""

import logging
from collections.abc import AsyncGenerator, Generator, Iterable
from types import TracebackType
from typing import Final, NoReturn, Self

import httpx

from flip_async._auth._decisions import Policy, Route, TokenSource
from flip_async._auth._refresher import OnRefresh, Refresher
from flip_async._auth._store import StoredTokens, TokenStore, check_store
from flip_async._auth._token import Token
from flip_async._checks import check_callback, check_clock, check_flag
from flip_async._clock import Clock
from flip_async._environment import FLIP_API_ORIGINS, Origin, parse_origin
from flip_async._transport._attempt import Send
from flip_async._transport._progress import NOTE
from flip_async.errors import ConfigurationError, FlipError

logger: Final = logging.getLogger("flip_async.auth")

NOT_REPLAYABLE: Final = (
    "not sent again: its body is a stream that can be read only once; pass bytes instead"
)
"""Why a 401 was not followed by a second attempt [A14]."""


class BearerAuth(httpx.Auth):
    """Base of the public auth classes: sets the header, and lives through a 401.

    One object may serve any number of requests, clients, event loops and threads. It has a
    source of tokens, and what refreshes them.
    """

    def __init__(
        self,
        source: TokenSource,
        policy: Policy,
        *,
        renewable: bool = True,
        origins: Iterable[str] | None,
        insecure_http: bool,
        any_loopback: bool = False,
        keep_fresh: bool = False,
        token_store: TokenStore | None = None,
        on_refresh: OnRefresh | None = None,
        clock: Clock,
    ) -> None:
        check_callback(on_refresh, field="on_refresh")
        check_store(token_store)
        check_clock(clock)
        self._source: Final = source
        self._origins: Final = _allowed_origins(origins, insecure_http)
        self._any_loopback: Final = any_loopback
        self._allowed_url: httpx.URL | None = None
        self._keep_fresh: Final = keep_fresh
        self._renewable: Final = renewable
        self._refresher: Final = Refresher(
            source,
            owner=type(self).__name__,
            clock=clock,
            policy=policy,
            stored=None
            if token_store is None
            else StoredTokens(token_store, source.identity, clock),
            keep_fresh=keep_fresh,
            on_refresh=on_refresh,
        )
        # Bound here: every request asks these three.
        self._fresh: Final = self._refresher.life.fresh
        self._monotonic: Final = clock.monotonic
        self._wall: Final = clock.wall

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
        token = self._sign_at_once(request) or await self._sign(request)

        response = yield request

        if response.status_code != 401 or not self._is_ours(response, request):
            return
        successor = await self._after_401(request, response, token)
        if successor is None:
            return
        request.headers["Authorization"] = successor.authorization()

        response = yield request

        self._refresher.retried(_route(request), accepted=response.status_code != 401)

    async def send_signed(self, request: httpx.Request, send: Send) -> httpx.Response:
        """Do what the flow does, with no generator: our own clients send this way [E2]."""
        token = self._sign_at_once(request) or await self._sign(request)
        response = await send(request)
        if response.status_code != 401 or not self._is_ours(response, request):
            return response
        successor = await self._after_401(request, response, token)
        if successor is None:
            return response
        request.headers["Authorization"] = successor.authorization()
        response = await send(request)
        self._refresher.retried(_route(request), accepted=response.status_code != 401)
        return response

    def _sign_at_once(self, request: httpx.Request) -> Token | None:
        """Set the header from a fresh token [A1]: nothing is awaited, and no lock is taken."""
        if request.url is not self._allowed_url:  # a client of ours has one object for a path
            self._check_url(request.url)
        held = self._fresh(self._monotonic(), self._wall())
        if held is None or self._keep_fresh:
            return None
        request.headers["Authorization"] = held.authorization
        return held.token

    async def _sign(self, request: httpx.Request) -> Token:
        token = await self._refresher.acquire()
        request.headers["Authorization"] = token.authorization()
        return token

    def _check_url(self, url: httpx.URL) -> None:
        if (url.scheme, url.raw_host, url.port) not in self._origins:
            self._check_origin(url)
        self._allowed_url = url

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
        refresher, route = self._refresher, _route(request)
        if not refresher.rejected(token, route):
            return None
        if not _can_be_sent_again(request):
            refresher.replace_if_dropped()  # for the requests that follow
            response.extensions[NOTE] = NOT_REPLAYABLE
            logger.warning("%s %s: 401, %s", request.method, request.url.path, NOT_REPLAYABLE)
            return None
        # Until it is read, the answer holds a connection that the token request may need.
        await response.aread()
        try:
            successor = await refresher.acquire()
        except FlipError as error:
            error.add_note("the API had answered 401 to the token at hand")
            raise
        if refresher.life.retry_is_worth_it(token, successor):
            return successor
        refresher.retried(route, accepted=False)
        return None

    # Tokens

    @property
    def identity(self) -> str:
        """Tells this credential from others, in stores too, with no secret in it."""
        return self._source.identity

    @property
    def trouble(self) -> FlipError | None:
        """Why there is no valid token at hand, if the last try for one failed."""
        return self._refresher.trouble

    @property
    def is_busy(self) -> bool:
        """Whether a token is being fetched."""
        return self._refresher.is_busy

    @property
    def is_idle(self) -> bool:
        """Whether it has no valid token at hand, and none is being fetched."""
        return self._refresher.is_idle

    async def token(self) -> Token:
        """A valid token: the one at hand, or a new one.

        Raises:
            TokenError: None can be had.
            ClientClosedError: `aclose()` was called.
        """
        return await self._refresher.acquire()

    async def refresh(self) -> Token:
        """Take a new token, whatever the one at hand is worth; ends every waiting period.

        Returns:
            The new token.

        Raises:
            TokenError: None can be had; a valid one at hand stays in use.
            ClientClosedError: `aclose()` was called.
        """
        return await self._refresher.renew()

    def invalidate(self) -> None:
        """Drop the token at hand and end every waiting period; the next request takes a new one."""
        self._refresher.invalidate()

    async def aclose(self) -> None:
        """Drop the token and end what runs; whoever waits gets a `ClientClosedError`."""
        await self._refresher.aclose()

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


def _can_be_sent_again(request: httpx.Request) -> bool:
    try:
        _ = request.content
    except RuntimeError:  # RequestNotRead, of httpx or of httpx2: this is their common base
        return False
    return True


def _route(request: httpx.Request) -> Route:
    return request.method, request.url.raw_path.partition(b"?")[0]


def _allowed_origins(
    origins: Iterable[str] | None, insecure_http: bool
) -> frozenset[tuple[object, ...]]:
    check_flag(insecure_http, field="insecure_http")
    if origins is None:
        return frozenset(FLIP_API_ORIGINS)
    if isinstance(origins, str) or not isinstance(origins, Iterable):
        raise ConfigurationError("origins is a list of origins")
    return frozenset(
        parse_origin(url, field="origins", insecure_http=insecure_http) for url in origins
    )
