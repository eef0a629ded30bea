"""Connections of our own: one for each slot, whose fate is ours.

Theory of operation. httpcore's pool loses a connection for good in about one of a hundred
native cancellations, and searches all connections and all waiting requests at every step. So
a slot here is a transport with a pool of exactly one connection. A request takes the one that
was used last, or opens one while fewer than `max_connections` are out. Where its body was read
to its end the transport goes back on the stack; every other way out closes it beside the next
request. What is never put back cannot be lost.

A stack belongs to an event loop of a process; the pool has one for each [E1], [E6].
"""

import asyncio
import contextlib
import functools
import importlib.util
import os
import ssl
import threading
import urllib.request
from datetime import timedelta
from typing import Final, Generic, Protocol, TypeVar

import anyio
import httpx

from flip_async._aio._per_loop import PerLoop
from flip_async._aio._tasks import detached, in_thread
from flip_async._clock import Clock
from flip_async._environment import is_loopback
from flip_async._transport._progress import EXTENSION, Progress
from flip_async._transport._reading import (
    LARGEST_ANSWER,
    UnreadableError,
    close_quietly,
    decode,
    read_raw,
)
from flip_async._transport._roads import arrived, leaving
from flip_async._transport._slots import Slots
from flip_async.errors import ConfigurationError

MAX_CONNECTIONS: Final = 100
KEEPALIVE_S: Final = 5.0
_CLOSING_TAKES_AT_MOST_S: Final = 5.0


# TLS: one context for a process, built once [E7]

_tls_guard: Final = threading.Lock()
_tls_contexts: Final[dict[bool, ssl.SSLContext]] = {}  # by whether it is for HTTP/2


def _build_tls_context(*, http2: bool) -> ssl.SSLContext:
    with _tls_guard:  # loops in two threads may both come first
        if http2 not in _tls_contexts:
            _tls_contexts[http2] = _checked_tls_context()
        return _tls_contexts[http2]


def _checked_tls_context() -> ssl.SSLContext:
    folder = os.environ.get("SSL_CERT_DIR")
    if folder and not os.environ.get("SSL_CERT_FILE") and not os.path.isdir(folder):  # noqa: PTH112
        raise ConfigurationError("SSL_CERT_DIR names no folder")
    try:
        return httpx.create_ssl_context()
    except (OSError, ValueError) as error:
        reason = type(error).__name__
    raise ConfigurationError(f"no TLS with {_variable_to_blame()}: {reason}")


def _variable_to_blame() -> str:
    file = os.environ.get("SSL_CERT_FILE")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except (OSError, ValueError, TypeError):
        if file:
            return "SSL_CERT_FILE"
    return "SSLKEYLOGFILE" if os.environ.get("SSLKEYLOGFILE") else "the certificates of certifi"


async def tls_context(*, http2: bool = False) -> ssl.SSLContext:
    """The TLS context of the process: at hand, or built in a thread, for tens of milliseconds.

    Args:
        http2: Give the one for HTTP/2, since a context holds the protocols that it offers.

    Raises:
        ConfigurationError: A variable of the environment makes it impossible; names it.
    """
    if http2 in _tls_contexts:
        return _tls_contexts[http2]
    return await in_thread(functools.partial(_build_tls_context, http2=http2), name="TLS")


@functools.cache
def _no_tls() -> ssl.SSLContext:
    """What httpx wants without TLS too: this one trusts nobody, and costs nothing."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


# Proxies


def proxy_for(url: httpx.URL, *, why_no_socks: str | None = None) -> httpx.Proxy | None:
    """The proxy that the environment variables name for a URL; never one for loopback [A13].

    Args:
        url: Where a request goes.
        why_no_socks: Why a proxy for SOCKS cannot be used, if it cannot.

    Raises:
        ConfigurationError: It cannot work; names the variable, and not what is in it.
    """
    if is_loopback(url.host) or urllib.request.proxy_bypass(url.host):
        return None
    proxies = urllib.request.getproxies()
    kind = url.scheme if proxies.get(url.scheme) else "all"
    text = proxies.get(kind)
    if not text:
        return None
    proxy = read_proxy(text if "://" in text else f"http://{text}", why_no_socks)
    if isinstance(proxy, str):
        raise ConfigurationError(f"{_variable_named(kind)} cannot be used as a proxy: {proxy}")
    return proxy


def read_proxy(given: str | httpx.Proxy, why_no_socks: str | None = None) -> httpx.Proxy | str:
    """A proxy, or why it is none; shows nothing of what was given."""
    try:
        proxy = given if isinstance(given, httpx.Proxy) else httpx.Proxy(given)
    except (ValueError, httpx.InvalidURL):
        return "it is no http://, https:// or socks5:// URL"
    if not proxy.url.host or not 0 < (proxy.url.port or 1) <= 65535:
        return "it is no URL with a host and a port"
    if proxy.url.scheme.startswith("socks"):
        if why_no_socks is None and importlib.util.find_spec("socksio") is None:
            why_no_socks = "SOCKS needs the package socksio: pip install 'httpx[socks]'"
        return why_no_socks or proxy
    return proxy


def _variable_named(kind: str) -> str:
    names = (f"{kind}_proxy", f"{kind}_PROXY".upper())
    return next((name for name in names if os.environ.get(name)), f"the system's {kind} proxy")


async def open_transport(
    url: httpx.URL, *, keepalive_s: float = KEEPALIVE_S
) -> httpx.AsyncHTTPTransport:
    """Make a transport of one connection, for one origin.

    Raises:
        ConfigurationError: A variable of the environment makes it impossible.
    """
    return httpx.AsyncHTTPTransport(
        verify=await tls_context() if url.scheme == "https" else _no_tls(),
        proxy=proxy_for(url),
        limits=httpx.Limits(
            max_connections=1, max_keepalive_connections=1, keepalive_expiry=keepalive_s
        ),
    )


# The pool


class ConnectionPool(httpx.AsyncBaseTransport):
    """Connections to one origin, for any number of event loops; gives answers read whole.

    Args:
        url: The origin.
        clock: Time.
        max_connections: How many may be open in an event loop.
        keepalive_s: How long one may be idle, in seconds.
        most: How many bytes an answer may have.
    """

    def __init__(
        self,
        url: httpx.URL,
        *,
        clock: Clock,
        max_connections: int = MAX_CONNECTIONS,
        keepalive_s: float = KEEPALIVE_S,
        most: int = LARGEST_ANSWER,
    ) -> None:
        self._url: Final = url
        self._clock: Final = clock
        self._keepalive_s: Final = keepalive_s
        self._most: Final = most
        self._stacks: Final[PerLoop[Stack[httpx.AsyncHTTPTransport]]] = PerLoop(
            lambda: Stack(max_connections, keepalive_s, clock), Stack.aclose
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and read its answer to the end."""
        stack = self._stacks.get()
        progress: Progress | None = request.extensions.get(EXTENSION)
        if progress is not None:
            progress.waits()
        await stack.slots.take(request)
        connection: httpx.AsyncHTTPTransport | None = None
        raw: bytes | UnreadableError | None = None
        is_whole = False
        try:
            connection = stack.take_warm()
            if connection is None:
                connection = await open_transport(self._url, keepalive_s=self._keepalive_s)
            leaving(request)
            began_s = self._clock.monotonic()
            response = await connection.handle_async_request(request)
            response.request = request
            if not response.is_closed:  # a mock's answer comes whole
                raw = await read_raw(response, most=self._most)
                is_whole = await close_quietly(response) and isinstance(raw, bytes)
        finally:
            stack.give_back(connection, is_whole=is_whole)
        if raw is not None:
            response = decode(response, raw, most=self._most)
        response.elapsed = timedelta(seconds=self._clock.monotonic() - began_s)
        arrived(response, progress)
        return response

    async def aclose(self) -> None:
        """Close the connections of the running loop, and let other loops close theirs."""
        await self._stacks.aclose()


class Connection(Protocol):
    """What has one connection, of whichever engine."""

    async def aclose(self) -> None:
        """Close it."""


_C = TypeVar("_C", bound=Connection)


class Stack(Generic[_C]):
    """The connections of one event loop, which alone may touch it.

    What changes: the idle connections (the one used last on top), and what is being closed.

    Args:
        number: How many may be open.
        keepalive_s: How long one may be idle, in seconds.
        clock: Time.
    """

    def __init__(self, number: int, keepalive_s: float, clock: Clock) -> None:
        self.slots: Final = Slots(number)
        self._number: Final = number
        self._keepalive_s: Final = keepalive_s
        self._clock: Final = clock
        self._idle: Final[list[tuple[_C, float, object]]] = []
        self._closing: Final[set[asyncio.Task[None]]] = set()
        self._is_closed = False

    def take_warm(self, origin: object = None) -> _C | None:
        """The connection to an origin that was used last; for whoever holds a slot.

        Where there is none he opens one, and there is room for it.
        """
        for index in range(len(self._idle) - 1, -1, -1):
            if self._idle[index][2] == origin:
                return self._idle.pop(index)[0]
        while len(self._idle) + self.slots.taken > self._number:
            self.close(self._idle.pop(0)[0])
        return None

    def give_back(self, connection: _C | None, *, is_whole: bool, origin: object = None) -> None:
        """A request is over, and its slot free; its connection, if whole, is the next one's."""
        if connection is not None:
            now_s = self._clock.monotonic()
            if is_whole and not self._is_closed:
                self._idle.append((connection, now_s, origin))
            else:
                self.close(connection)
            # The oldest lie at the bottom.
            while self._idle and self._idle[0][1] < now_s - self._keepalive_s:
                self.close(self._idle.pop(0)[0])
        self.slots.give_back()

    def close(self, connection: _C) -> None:
        """Close a connection beside the next request."""
        task = detached(close_within_limit(connection))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close what is idle, and wait for what is being closed."""
        self._is_closed = True
        while self._idle:
            self.close(self._idle.pop()[0])
        if self._closing:
            await asyncio.wait(set(self._closing))


async def close_within_limit(connection: Connection) -> None:
    """Close one for nobody in particular."""
    with anyio.move_on_after(_CLOSING_TAKES_AT_MOST_S, shield=True):
        with contextlib.suppress(Exception):  # nobody is left to be told
            await connection.aclose()
