"""Connections by aiohttp, for programs that make hundreds of calls a second [E4].

Theory of operation. Requests, answers and errors are httpx's; aiohttp carries the bytes. There
is a session for each event loop, with places of ours before it, so that nobody waits within its
pool: the wait has a limit of its own, and a request that waits is known not to be sent. What was
sent and got no answer is an unknown outcome, whatever aiohttp calls it.
"""

import asyncio
import base64
import importlib
import math
import ssl
from collections.abc import AsyncIterable, AsyncIterator
from contextvars import ContextVar
from functools import lru_cache
from types import SimpleNamespace
from typing import Final, final

import anyio
import httpx

try:
    importlib.import_module("aiohttp")
except ImportError as _error:
    raise ImportError(
        "flip_async.aiohttp needs aiohttp: pip install 'flip-async[aiohttp]'"
    ) from _error

import aiohttp
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from multidict import CIMultiDict
from yarl import URL

from flip_async._aio._per_loop import PerLoop
from flip_async._aio._tasks import is_from_within
from flip_async._checks import check_count, check_seconds
from flip_async._transport._engines import check_proxy, check_verify
from flip_async._transport._pool import KEEPALIVE_S, MAX_CONNECTIONS, proxy_for, tls_context
from flip_async._transport._progress import EXTENSION, Progress
from flip_async._transport._slots import Slots
from flip_async.errors import ConfigurationError

__all__ = ["AiohttpTransport"]

_OF_AIOHTTP: Final = frozenset({"accept", "accept-encoding", "content-type", "user-agent"})
"""Headers that it adds, where it is not told not to."""

_NO_SOCKS: Final = "it is for SOCKS, which aiohttp does not speak"
_PIECE: Final = 64 * 1024
_LONGEST_HEADER: Final = 100 * 1024  # as h11, httpx's own
_SHORTEST_S: Final = 0.001  # 0 is none at all for aiohttp


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Carries requests over aiohttp, for half of the CPU that httpx needs, or less.

    It goes into a client of ours, or into any `httpx.AsyncClient`::

        async with SandboxClient(transport=AiohttpTransport()) as flip:
            ...

    The client closes it. It works in one event loop after another, and in several threads.
    What aiohttp does not have: HTTP/2, SOCKS proxies, and being caught by respx.

    Args:
        verify: TLS context; by default the process's, with the certificates of certifi.
        proxy: `http://` or `https://` URL, or an `httpx.Proxy`, for all requests; by default
            what the environment names, and none for loopback.
        max_connections: How many requests may be out in an event loop; the next ones wait as
            long as the pool part of their timeout says.
        keepalive_s: How long a connection may be idle, in seconds.

    Raises:
        InvalidArgumentError: An argument cannot be what it is.
        ConfigurationError: The proxy cannot be used.
    """

    def __init__(
        self,
        *,
        verify: ssl.SSLContext | None = None,
        proxy: str | httpx.Proxy | None = None,
        max_connections: int = MAX_CONNECTIONS,
        keepalive_s: float = KEEPALIVE_S,
    ) -> None:
        check_verify(verify)
        check_count(max_connections, field="max_connections")
        idle_s = check_seconds(keepalive_s, field="keepalive_s")
        self._verify: Final = verify
        self._proxy: Final = _usable(check_proxy(proxy, why_no_socks=_NO_SOCKS), "proxy=")
        self._loops: Final = PerLoop(lambda: _Sessions(max_connections, idle_s), _Sessions.aclose)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; its answer's body is read from the connection.

        Raises:
            httpx.TransportError: As over httpx's own connections.
            ConfigurationError: A variable of the environment makes a connection impossible.
        """
        sessions = self._loops.get()
        progress: Progress | None = request.extensions.get(EXTENSION)
        if progress is not None:
            progress.waits()
        await sessions.slots.take(request)
        try:
            return await self._send(sessions, request, progress)
        except BaseException:
            sessions.slots.give_back()
            raise

    async def _send(
        self, sessions: "_Sessions", request: httpx.Request, progress: Progress | None
    ) -> httpx.Response:
        content = _content_of(request)
        if content is not None and len(content) <= _PIECE:
            return await self._exchange(sessions, request, progress, content or None)
        upload = _Upload(request, content)
        before = _uploads.set(upload)
        try:
            with upload.scope:
                response = await self._exchange(sessions, request, progress, upload.pieces())
                upload.is_answered = True
                return response
        except httpx.TransportError:
            if upload.failure is None:
                raise
        finally:
            _uploads.reset(before)
            upload.abandon()
        raise upload.failure or httpx.WriteTimeout("the server takes no more of the body")

    async def _exchange(
        self,
        sessions: "_Sessions",
        request: httpx.Request,
        progress: Progress | None,
        data: bytes | AsyncIterator[bytes] | None,
    ) -> httpx.Response:
        context = None
        if request.url.scheme == "https":
            context = self._verify or await tls_context()
        proxy = sessions.proxy(self._proxy, request.url)
        if progress is not None:
            await _let_the_loop_look()
        failure: Exception
        try:
            answer = await sessions.session(progress).request(
                request.method,
                _url_of(request.url),
                data=data,
                headers=_headers_of(request, proxy),
                skip_auto_headers=_OF_AIOHTTP - request.headers.keys(),
                allow_redirects=False,
                timeout=_timeout_of(request),
                ssl=True if context is None else context,
                server_hostname=request.extensions.get("sni_hostname"),
                proxy=None if proxy is None else URL(str(proxy.url)),
                proxy_headers=None if proxy is None else _proxy_headers(proxy),
                trace_request_ctx=progress,
            )
            return _response_of(answer, sessions.slots)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = _as_httpx(error)
        except asyncio.CancelledError:
            if not is_from_within():
                raise
            failure = httpx.ConnectError("the transport was closed meanwhile")  # it looks up names
        # Left before it is raised: an error of aiohttp's has the request's headers in it.
        raise failure

    async def aclose(self) -> None:
        """Close the connections of the running loop, and let other loops close theirs."""
        await self._loops.aclose()


@final
class _Sessions:
    """What an event loop has, which alone may touch it: places, connections, proxies it knows.

    There are two sessions on the same connections: watching a request costs a twentieth of it,
    and only one that must not be repeated by guess needs it.
    """

    def __init__(self, max_connections: int, keepalive_s: float) -> None:
        self.slots: Final = Slots(max_connections)
        # Without a limit of its own: the slots are it.
        self._connector: Final = _Connector(limit=0, keepalive_timeout=keepalive_s)
        self._plain: Final = self._make()
        watch = aiohttp.TraceConfig()
        watch.on_request_headers_sent.append(_has_left)
        self._watched: Final = self._make(watch)
        self._proxies: Final[dict[tuple[str, str], httpx.Proxy | None]] = {}

    def _make(self, *watches: aiohttp.TraceConfig) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=self._connector,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trace_configs=list(watches),
            max_line_size=_LONGEST_HEADER,
            max_field_size=_LONGEST_HEADER,
        )
        # It would send GET, PUT and DELETE a second time by itself, and a DELETE that was carried
        # out would come back as 404. Not public; without it our repetition is as before.
        if hasattr(session, "_retry_connection"):
            session._retry_connection = False
        return session

    def session(self, progress: Progress | None) -> aiohttp.ClientSession:
        """The session for a request."""
        if self._connector.closed:
            raise httpx.ConnectError("the transport was closed while the request waited")
        return self._plain if progress is None else self._watched

    def proxy(self, given: httpx.Proxy | None, url: httpx.URL) -> httpx.Proxy | None:
        """The proxy for a URL: what was given, or what the environment has named at first."""
        if given is not None:
            return given
        origin = (url.scheme, url.host)
        if origin not in self._proxies:
            proxy = proxy_for(url, why_no_socks=_NO_SOCKS)
            self._proxies[origin] = _usable(proxy, "the proxy of the environment")
        return self._proxies[origin]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._plain.close()
        await self._watched.close()
        await self._connector.close()


class _Connector(aiohttp.TCPConnector):
    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        upload = _uploads.get()
        if upload is not None:
            upload.connection = connection.transport
        return connection


async def _has_left(
    session: aiohttp.ClientSession, context: SimpleNamespace, parameters: object
) -> None:
    progress: Progress = context.trace_request_ctx
    progress.leaves()


async def _let_the_loop_look() -> None:
    """Let the loop notice which connections the server has closed meanwhile.

    A request on one of those has an unknown outcome. The first turn asks the sockets, the second
    one tells their connections.
    """
    await asyncio.sleep(0)
    await asyncio.sleep(0)


# The request


def _url_of(url: httpx.URL) -> URL:
    # From its parts: with no credential in it, and quoted as it is.
    host, path = url.netloc.decode("ascii"), url.raw_path.decode("ascii")
    return URL(f"{url.scheme}://{host}{path}", encoded=True)


def _headers_of(request: httpx.Request, proxy: httpx.Proxy | None) -> CIMultiDict[str]:
    names: dict[str, str] = {}
    headers: CIMultiDict[str] = CIMultiDict()
    for raw_name, raw_value in request.headers.raw:
        name = raw_name.decode("ascii")
        # Of two spellings of a name aiohttp keeps the second alone.
        headers.add(names.setdefault(name.lower(), name), raw_value.decode())
    headers.popall("Transfer-Encoding", None)  # aiohttp sets its own
    if proxy is not None and request.url.scheme == "http" and proxy.raw_auth is not None:
        headers["Proxy-Authorization"] = _basic(proxy.raw_auth)  # there is no tunnel
    return headers


def _proxy_headers(proxy: httpx.Proxy) -> CIMultiDict[str]:
    pairs = [(name.decode("ascii"), value.decode()) for name, value in proxy.headers.raw]
    if proxy.raw_auth is not None:
        pairs.append(("Proxy-Authorization", _basic(proxy.raw_auth)))
    return CIMultiDict(pairs)


def _basic(pair: tuple[bytes, bytes]) -> str:
    return f"Basic {base64.b64encode(b':'.join(pair)).decode('ascii')}"


def _usable(proxy: httpx.Proxy | None, name: str) -> httpx.Proxy | None:
    if proxy is not None and proxy.ssl_context is not None:
        raise ConfigurationError(
            f"{name} has a TLS context of its own, which aiohttp does not take: pass verify="
        )
    return proxy


def _timeout_of(request: httpx.Request) -> aiohttp.ClientTimeout:
    parts = request.extensions.get("timeout", {})
    return _client_timeout(parts.get("connect"), parts.get("read"))


@lru_cache(maxsize=64)
def _client_timeout(connect_s: float | None, read_s: float | None) -> aiohttp.ClientTimeout:
    if read_s is not None:
        read_s = max(read_s, _SHORTEST_S)
    if connect_s is not None:
        connect_s = max(connect_s, _SHORTEST_S)
    # `connect` bounds all of it: name, address, proxy and handshakes; the wait for a place is ours.
    return aiohttp.ClientTimeout(
        total=None, connect=connect_s, sock_connect=connect_s, sock_read=read_s
    )


def _content_of(request: httpx.Request) -> bytes | None:
    """The body, where it is at hand."""
    try:
        return request.content
    except httpx.RequestNotRead:
        return None


@final
class _Upload:
    """A body that goes out in pieces, each of which the server must take in time.

    aiohttp knows no limit for writing: it would wait for ever for a server that reads no more.

    And where a request is cut off, aiohttp leaves its connection open until the body is taken:
    what may never be. So it is ended here.

    Attributes:
        scope: Ends the request where a piece is not taken.
        failure: What the body has raised, where it is a stream of the user's.
        connection: What the body goes out on.
        is_answered: Whether an answer has come.
    """

    def __init__(self, request: httpx.Request, content: bytes | None) -> None:
        parts = request.extensions.get("timeout", {})
        self._write_s: Final[float | None] = parts.get("write")
        self._read_s: Final[float | None] = parts.get("read")
        self._body: Final = request.stream if content is None else _cut(content)
        self.scope: Final = anyio.CancelScope()
        self.failure: Exception | None = None
        self.connection: asyncio.BaseTransport | None = None
        self.is_answered = False

    def abandon(self) -> None:
        """End the connection, unless there is an answer on it."""
        if not self.is_answered and isinstance(self.connection, asyncio.Transport):
            self.connection.abort()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, piece by piece; aiohttp asks for the next one when it has sent the last."""
        assert isinstance(self._body, AsyncIterable)
        try:
            async for piece in self._body:
                self._may_take(self._write_s)
                yield piece
                self._may_take(None)  # a stream of the user's takes its own time
        except Exception as error:
            self.failure = error
            raise
        # The last piece is on its way; what comes then has the limit for reading.
        both = (self._write_s, self._read_s)
        self._may_take(None if None in both else sum(part or 0 for part in both))

    def _may_take(self, seconds: float | None) -> None:
        self.scope.deadline = math.inf if seconds is None else anyio.current_time() + seconds


_uploads: Final[ContextVar[_Upload | None]] = ContextVar("uploads", default=None)


async def _cut(content: bytes) -> AsyncIterator[bytes]:
    for begin in range(0, len(content), _PIECE):
        yield content[begin : begin + _PIECE]


# The answer


def _response_of(answer: aiohttp.ClientResponse, slots: Slots) -> httpx.Response:
    version = answer.version
    return httpx.Response(
        answer.status,
        headers=list(answer.raw_headers),
        stream=_Body(answer, slots),
        extensions={
            "http_version": b"HTTP/1.1" if version is None else b"HTTP/%d.%d" % version[:2],
            "reason_phrase": (answer.reason or "").encode("ascii", "ignore"),
        },
    )


@final
class _Body(httpx.AsyncByteStream):
    """The body of an answer as it comes; whoever closes it gives the place back."""

    def __init__(self, answer: aiohttp.ClientResponse, slots: Slots) -> None:
        self._answer: Final = answer
        self._slots: Final = slots
        self._is_closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        failure: Exception
        try:
            piece = await self._answer.content.readany()
            if piece:
                return piece
            failure = StopAsyncIteration()
        except (aiohttp.ClientError, OSError) as error:
            failure = _as_httpx(error)
        raise failure

    async def aclose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            # Read to its end its connection is another's by now, and this closes nothing.
            self._answer.close()
            self._slots.give_back()


# Errors


def _as_httpx(error: Exception) -> Exception:
    """An error of aiohttp's by the name that it has in httpx.

    Only what comes before a connection is there says that nothing was sent.
    """
    match error:
        case aiohttp.ClientHttpProxyError():
            return httpx.ProxyError(f"{error.status} {error.message}")
        case aiohttp.ClientConnectorCertificateError():
            return _caused(httpx.ConnectError(str(error)), error.certificate_error)
        case aiohttp.ClientConnectorError():
            return _caused(httpx.ConnectError(str(error)), error.os_error)
        case aiohttp.ConnectionTimeoutError():
            return httpx.ConnectTimeout("no connection in time")
        case TimeoutError():
            return httpx.ReadTimeout("no answer in time")
        case aiohttp.ServerDisconnectedError():
            return httpx.RemoteProtocolError("the server disconnected without sending an answer")
        case aiohttp.ClientPayloadError() | aiohttp.ClientResponseError():
            return httpx.RemoteProtocolError(_first_line(error))
        case aiohttp.InvalidURL():
            return httpx.UnsupportedProtocol("aiohttp cannot send to this URL")
        case aiohttp.ClientError() | OSError():
            return httpx.ReadError(_first_line(error))
        case _:
            return httpx.LocalProtocolError(_first_line(error))


def _caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def _first_line(error: Exception) -> str:
    # Of an answer that is no HTTP the text has its bytes, and the URL of the request.
    text = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return text.partition("\n")[0].rstrip(": ")
