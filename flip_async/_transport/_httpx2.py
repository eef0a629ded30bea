"""httpx2 below an httpx transport: its pool, or a client of the user's [E5].

Requests, answers and exceptions are httpx's on one side and httpx2's on the other; they meet
here and nowhere else. Nothing but the rim and a `http_client=` of httpx2's loads this module.
"""

import importlib.util
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Final, Protocol, TypeVar, cast

import attrs
import httpcore2
import httpx
import httpx2

from flip_async._aio._per_loop import PerLoop
from flip_async._checks import check_count, check_flag, check_kind_or_none, check_seconds
from flip_async._clock import SystemClock
from flip_async._secret import scrub, secrets_of
from flip_async._transport._attempt import HttpClientClosedError
from flip_async._transport._engines import check_proxy, check_verify
from flip_async._transport._pool import (
    KEEPALIVE_S,
    MAX_CONNECTIONS,
    Stack,
    proxy_for,
    tls_context,
)
from flip_async._transport._progress import AS_IT_IS, EXTENSION, Progress
from flip_async._transport._reading import as_it_came
from flip_async._transport._roads import leaving, slots_of
from flip_async._transport._slots import Slots
from flip_async._version import __version__
from flip_async.errors import ConfigurationError

T = TypeVar("T")
_Send = Callable[[httpx.Request], Awaitable[httpx.Response]]
_Origin = tuple[bytes, bytes, int | None]


class Httpx2Transport(httpx.AsyncBaseTransport):
    """Carries requests over httpx2, for a client of ours or any `httpx.AsyncClient`.

    For example::

        async with SandboxClient(transport=Httpx2Transport(http2=True)) as flip:
            await flip.sites.list().collect()

    Without a client it uses the connection pool that httpx2 has, and keeps every connection
    whose answer was read to its end. With one, requests go through that client: its hooks,
    mounts, proxies, headers, params and cookies count, its `auth`, its redirects and its
    `base_url` do not, and it is not closed.

    Args:
        client: An `httpx2.AsyncClient`; all that follows is then its business.
        verify: Whom to trust, and which certificate to show; by default what all clients of
            this process use: the certificates of certifi, or of `SSL_CERT_FILE`.
        proxy: For all requests. By default the proxy that the environment names, and none for
            loopback.
        http2: Offer HTTP/2 to https servers; needs the package h2.
        max_connections: How many may be open in an event loop; with HTTP/2, to an origin.
        keepalive_s: How long a connection may be idle, in seconds.

    Raises:
        InvalidArgumentError: An argument cannot be what it is.
        ConfigurationError: Two arguments contradict one another, or a package is missing.
    """

    def __init__(
        self,
        client: httpx2.AsyncClient | None = None,
        *,
        verify: ssl.SSLContext | None = None,
        proxy: str | httpx.Proxy | None = None,
        http2: bool = False,
        max_connections: int = MAX_CONNECTIONS,
        keepalive_s: float = KEEPALIVE_S,
    ) -> None:
        check_kind_or_none(client, httpx2.AsyncClient, field="client")
        check_verify(verify)
        check_flag(http2, field="http2")
        check_count(max_connections, field="max_connections")
        options = _Options(
            verify=verify,
            proxy=check_proxy(proxy),
            http2=http2,
            max_connections=max_connections,
            keepalive_s=check_seconds(keepalive_s, field="keepalive_s"),
        )
        self._pools: Final = PerLoop(partial(_Pools, options), _Pools.aclose)
        self._through: Final[_Send] = (
            self._through_pools if client is None else partial(_through_client, client)
        )
        if client is not None:
            _refuse_beside_client(options)
        elif http2 and importlib.util.find_spec("h2") is None:
            raise ConfigurationError("http2=True needs the package h2: pip install 'httpx2[http2]'")

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; its answer streams.

        Args:
            request: What to send.

        Returns:
            The answer, which holds its connection until it is closed.

        Raises:
            httpx.TransportError: As httpx's own transport does, whichever it is.
            ConfigurationError: A variable of the environment makes it impossible.
        """
        return await self._through(request)

    async def _through_pools(self, request: httpx.Request) -> httpx.Response:
        return await self._pools.get().send(request)

    async def aclose(self) -> None:
        """Close the connections of the running loop, and let other loops close theirs."""
        await self._pools.aclose()


# Through pools of our own


@attrs.frozen(kw_only=True)
class _Options:
    verify: ssl.SSLContext | None
    proxy: httpx.Proxy | None = attrs.field(repr=False)
    http2: bool
    max_connections: int
    keepalive_s: float


_DEFAULTS: Final = _Options(
    verify=None,
    proxy=None,
    http2=False,
    max_connections=MAX_CONNECTIONS,
    keepalive_s=KEEPALIVE_S,
)


def _refuse_beside_client(options: _Options) -> None:
    for name, default in attrs.asdict(_DEFAULTS, recurse=False).items():
        if getattr(options, name) != default:
            raise ConfigurationError(
                f"client= and {name}= given: keep one of them, or give {name} to the client"
            )


class _Sockets(httpcore2.AsyncNetworkBackend):
    """Opens sockets, and can close each of them.

    httpcore2 cleans up after a failure, not after a native cancellation: a TLS handshake that is
    cut off would leave its socket to the garbage collector.
    """

    def __init__(self) -> None:
        # To a type checker it may be the class that says that anyio is not installed.
        self._anyio: Final = cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())
        self._opened: list[httpcore2.AsyncNetworkStream] = []

    async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore2.AsyncNetworkStream:  # noqa: ANN401
        """Open one."""
        stream = await self._anyio.connect_tcp(*args, **kwargs)
        self._opened = [one for one in self._opened if not _is_closed(one)]
        self._opened.append(stream)
        return stream

    async def aclose(self) -> None:
        """Close all that there are."""
        while self._opened:
            await self._opened.pop().aclose()


def _is_closed(stream: httpcore2.AsyncNetworkStream) -> bool:
    opened = stream.get_extra_info("socket")
    return opened is None or opened.fileno() < 0


class _Pool(httpcore2.AsyncConnectionPool):
    """A pool that leaves no socket behind."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401  # as httpcore2 types them
        self._sockets: Final = _Sockets()
        super().__init__(network_backend=self._sockets, **options)

    async def aclose(self) -> None:
        try:
            await super().aclose()
        finally:
            await self._sockets.aclose()


@attrs.define
class _Shared:
    """A pool for HTTP/2, and how many requests are on it."""

    pool: _Pool
    requests: int = 0


class _Pools:
    """The connections of one event loop, which alone may touch them.

    HTTP/1.1: a stack of pools of one connection each, as in `_pool`. httpcore2 2.16 loses none
    to a cancellation, but where one falls into the closing of an answer it keeps the request for
    ever, the token in it; what is never put back keeps nothing.

    HTTP/2: many requests share a connection. httpcore2 never resets a stream that was given up,
    and what such streams leave behind stops the connection after a hundred of them. So a pool in
    which a request ended otherwise than by a body read to its end gets no new one, and is closed
    when its last request is over.

    What changes: the stack, which origins have a pool, and which of them speak no HTTP/2.
    """

    def __init__(self, options: _Options) -> None:
        self._options: Final = options
        self._stack: Final[Stack[_Pool]] = Stack(
            options.max_connections, options.keepalive_s, SystemClock()
        )
        self._shared: Final[dict[_Origin, _Shared]] = {}
        self._without_http2: Final[set[_Origin]] = set()

    async def send(self, request: httpx.Request) -> httpx.Response:
        _waits(request)  # httpcore2 tells when it leaves
        origin = _origin_of(request.url)
        if self._may_share(origin):
            return await self._by_shared(request, origin)
        return await self._by_stack(request, origin)

    def _may_share(self, origin: _Origin) -> bool:
        return self._options.http2 and origin[0] == b"https" and origin not in self._without_http2

    async def _by_stack(self, request: httpx.Request, origin: _Origin) -> httpx.Response:
        stack = self._stack
        await stack.slots.take(request)
        pool: _Pool | None = None
        try:
            pool = stack.take_warm(origin)
            if pool is None:
                pool = await self._open(request.url, connections=1)
            response = await renamed(pool.handle_async_request(_core_request(request)), request)
        except BaseException:
            stack.give_back(pool, is_whole=False)
            raise
        return _answer(request, response, partial(stack.give_back, pool, origin=origin))

    async def _by_shared(self, request: httpx.Request, origin: _Origin) -> httpx.Response:
        shared = self._shared.get(origin)
        if shared is None:
            pool = await self._open(request.url, connections=self._options.max_connections)
            shared = self._shared.setdefault(origin, _Shared(pool))  # another may have been faster
        shared.requests += 1
        try:
            core = _core_request(request)
            response = await renamed(shared.pool.handle_async_request(core), request)
        except BaseException:
            self._leave(shared, origin, is_whole=False)
            raise
        if response.extensions.get("http_version") != b"HTTP/2":
            self._without_http2.add(origin)
        return _answer(request, response, partial(self._leave, shared, origin))

    def _leave(self, shared: _Shared, origin: _Origin, *, is_whole: bool) -> None:
        shared.requests -= 1
        is_in_use = self._shared.get(origin) is shared
        if is_in_use and not (is_whole and self._may_share(origin)):
            del self._shared[origin]
            is_in_use = False
        if not is_in_use and not shared.requests:
            self._stack.close(shared.pool)

    async def _open(self, url: httpx.URL, *, connections: int) -> _Pool:
        """Make a pool for an origin.

        Raises:
            ConfigurationError: A variable of the environment makes it impossible.
        """
        options = self._options
        http2 = self._may_share(_origin_of(url))
        proxy = proxy_for(url) if options.proxy is None else options.proxy
        context = options.verify
        if context is None and url.scheme == "https":
            context = await tls_context(http2=http2)
        return _Pool(
            ssl_context=context,
            proxy=None if proxy is None else await _core_proxy(proxy),
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=options.keepalive_s,
            http2=http2,
        )

    async def aclose(self) -> None:
        while self._shared:
            self._stack.close(self._shared.popitem()[1].pool)
        await self._stack.aclose()


def _origin_of(url: httpx.URL) -> _Origin:
    return url.raw_scheme, url.raw_host, url.port


def _waits(request: httpx.Request) -> None:
    progress: Progress | None = request.extensions.get(EXTENSION)
    if progress is not None:
        progress.waits()


def _core_request(request: httpx.Request) -> httpcore2.Request:
    url = request.url
    assert isinstance(request.stream, httpx.AsyncByteStream)
    return httpcore2.Request(
        request.method,
        httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        content=request.stream,
        extensions=request.extensions,
    )


async def _core_proxy(proxy: httpx.Proxy) -> httpcore2.Proxy:
    context = proxy.ssl_context
    if context is None and proxy.url.scheme == "https":
        context = await tls_context()  # or httpcore2 would make one in the event loop
    url = proxy.url
    return httpcore2.Proxy(
        httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        auth=proxy.raw_auth,
        headers=proxy.headers.raw,
        ssl_context=context,
    )


# Answers


class _GiveBack(Protocol):
    def __call__(self, *, is_whole: bool) -> None: ...


def _answer(
    request: httpx.Request,
    response: httpcore2.Response | httpx2.Response,
    give_back: _GiveBack,
    *,
    is_ours: bool = True,
) -> httpx.Response:
    if isinstance(response, httpcore2.Response):
        status, headers = response.status, response.headers
    else:
        status, headers = response.status_code, response.headers.raw
    body = _Body(request, response, give_back, is_ours=is_ours)
    return httpx.Response(status, headers=headers, stream=body, extensions=response.extensions)


class _Body(httpx.AsyncByteStream):
    """The bytes of an answer as they come; its end gives the connection back.

    What changes: whether it was read to its end, and whether it was closed.
    """

    def __init__(
        self,
        request: httpx.Request,
        response: httpcore2.Response | httpx2.Response,
        give_back: _GiveBack,
        *,
        is_ours: bool,
    ) -> None:
        self._request: Final = request
        self._response: Final = response
        self._give_back: Final = give_back
        self._is_ours: Final = is_ours
        self._is_whole = self._is_over = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        response = self._response
        try:
            parts = (
                response.aiter_stream()
                if isinstance(response, httpcore2.Response)
                else response.aiter_raw()
            )
            async for part in parts:
                yield part
            self._is_whole = True
            return
        except Exception as error:
            found = as_httpx(error, self._request)
            if found is None:
                raise
        raise found

    async def aclose(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        is_whole = False
        try:
            # A connection of ours that was left early is closed by whoever takes it back.
            if self._is_whole or not self._is_ours:
                await renamed(self._response.aclose(), self._request)
                is_whole = self._is_whole
        finally:
            self._give_back(is_whole=is_whole)


# Exceptions


async def renamed(call: Awaitable[T], request: httpx.Request) -> T:
    """Wait for something of httpx2's; what it raises is httpx's."""
    try:
        return await call
    except Exception as error:
        found = as_httpx(error, request)
        if found is None:
            raise
    raise found


def as_httpx(error: Exception, request: httpx.Request) -> Exception | None:
    """The exception of httpx that has the same name, or `None` where there is none.

    Its cause is the original, but where that shows a secret of the request.
    """
    kind = _namesake(type(error))
    if kind is None or isinstance(error, kind):
        return None
    plain = str(error)
    text = scrub(plain, *secrets_of(request.headers.get("Authorization", "")))
    if issubclass(kind, httpx.RequestError):
        found: Exception = kind(text, request=request)
    else:
        found = kind.__new__(kind)  # some take no text, and tell what the caller did
        found.args = (text,)
    found.__cause__ = error if text == plain else None
    return found


def _namesake(kind: type[BaseException]) -> type[Exception] | None:
    if kind.__module__ == "h2.exceptions":
        return httpx.RemoteProtocolError  # httpcore2 lets some of them out
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] in ("httpcore2", "httpx2"):
            found: object = getattr(httpx, base.__name__, None)
            if isinstance(found, type) and issubclass(found, Exception):
                return found
    return None


# Through a client of the user's


async def _through_client(client: httpx2.AsyncClient, request: httpx.Request) -> httpx.Response:
    # It loses no connection to who waits within it, but only here we know that he waits.
    slots = slots_of(client, request)
    if slots is not None:
        _waits(request)
        await slots.take(request)
    place = _Place(slots)
    is_over = True
    try:
        leaving(request)
        answer = await renamed(_send_by(client, _their_request(client, request)), request)
        response = _whole(request, answer)
        if response is None:
            response = _answer(request, answer, place, is_ours=False)
            is_over = False
    finally:
        if is_over:
            place(is_whole=False)
    return response


@attrs.frozen
class _Place:
    """A place before their pool, if we know how large that is."""

    slots: Slots | None

    def __call__(self, *, is_whole: bool) -> None:
        if self.slots is not None:
            self.slots.give_back()


async def _send_by(client: httpx2.AsyncClient, request: httpx2.Request) -> httpx2.Response:
    try:
        return await client.send(request, auth=None, follow_redirects=False, stream=True)
    except httpx2.HTTPStatusError as error:
        return error.response  # a hook's `raise_for_status()`: the answer is ours to judge
    except RuntimeError:
        if not client.is_closed:
            raise
        raise HttpClientClosedError("the httpx2 client is closed") from None


def _whole(request: httpx.Request, answer: httpx2.Response) -> httpx.Response | None:
    """An answer that a hook has read, or that was closed before anybody did."""
    content = b""
    try:
        content = answer.content
    except httpx2.ResponseNotRead:
        if not answer.is_closed:
            return None
    head = httpx.Response(
        answer.status_code,
        headers=answer.headers.raw,
        request=request,
        extensions=answer.extensions,
    )
    return as_it_came(head, content)


def _their_request(client: httpx2.AsyncClient, request: httpx.Request) -> httpx2.Request:
    """The same request, with what their client adds to its own."""
    url, headers, content = str(request.url), request.headers.raw, _content_of(request)
    extensions = dict(request.extensions)
    if AS_IT_IS in extensions:
        return httpx2.Request(
            request.method, url, headers=headers, content=content, extensions=extensions
        )
    if _yields_to(client.headers.get("User-Agent", ""), request.headers.get("User-Agent", "")):
        headers = [pair for pair in headers if pair[0].lower() != b"user-agent"]
    query = request.url.query.decode("ascii")
    theirs = client.build_request(
        request.method,
        url,
        # In the URL it would be replaced by theirs.
        params=httpx2.QueryParams(query) if client.params else None,
        headers=headers,
        content=content,
        extensions=extensions,
    )
    if "Accept-Encoding" not in request.headers:
        theirs.headers.pop("Accept-Encoding", None)  # httpx decodes, and may know fewer
    return theirs


def _yields_to(theirs: str, ours: str) -> bool:
    """Whether a `User-Agent` is nobody's choice, and theirs is."""
    is_choice = not theirs.startswith("python-httpx2/")
    return is_choice and ours.startswith(("python-httpx", f"flip_async/{__version__} "))


def _content_of(request: httpx.Request) -> bytes | AsyncIterator[bytes] | None:
    try:
        return request.content or None
    except httpx.RequestNotRead:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        return _once(request.stream)


async def _once(stream: httpx.AsyncByteStream) -> AsyncIterator[bytes]:
    # As a generator, which httpx2 knows to be readable only once.
    async for part in stream:
        yield part
