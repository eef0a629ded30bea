"""What lies below the auth: TLS, proxies, and a small pool with a queue before it."""

import asyncio
import functools
import ssl
import threading
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import anyio.to_thread
import httpx

from flip_async._environment import is_loopback
from flip_async._transport._progress import EXTENSION, SendState

CONNECTIONS: Final = 20
"""How many connections a client keeps.

httpcore's pool looks at every connection and every waiting request at each step, so that
its cost grows with the square of the load; a queue before a small pool keeps it flat.
"""

_tls_guard: Final = threading.Lock()


@functools.cache
def _tls_context() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _guarded_tls_context() -> ssl.SSLContext:
    with _tls_guard:  # loops in two threads may both come first
        return _tls_context()


async def tls_context() -> ssl.SSLContext:
    """The TLS context of the process, built once, in a thread: it takes tens of milliseconds."""
    return await anyio.to_thread.run_sync(_guarded_tls_context)


def proxy_for(url: httpx.URL) -> str | None:
    """The proxy that the environment variables name for a URL; never one for loopback [A13]."""
    if is_loopback(url.host) or urllib.request.proxy_bypass(url.host):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if proxy is None or "://" in proxy:
        return proxy
    return f"http://{proxy}"


async def open_transport(url: httpx.URL) -> httpx.AsyncHTTPTransport:
    """Make a transport for one origin."""
    if url.scheme == "https":
        verify = await tls_context()
    else:
        # httpx makes a context in any case; this one trusts nobody and costs nothing.
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.AsyncHTTPTransport(
        verify=verify,
        proxy=proxy_for(url),
        limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
    )


class QueueingTransport(httpx.AsyncBaseTransport):
    """Lets a bounded number of requests through to another transport, in order.

    A slot is held until the response is closed. The wait for one is bound by the
    request's pool timeout.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport | Callable[[], Awaitable[httpx.AsyncBaseTransport]],
        *,
        slots: int = CONNECTIONS,
    ) -> None:
        self._open_inner: Callable[[], Awaitable[httpx.AsyncBaseTransport]] | None = None
        self._inner: httpx.AsyncBaseTransport | None = None
        if isinstance(inner, httpx.AsyncBaseTransport):
            self._inner = inner
        else:
            self._open_inner = inner
        self._opening: Final = asyncio.Lock()
        self._slots: Final = asyncio.Semaphore(slots)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        state: SendState | None = request.extensions.get(EXTENSION)
        if state is not None:
            state.waits()
        if self._slots.locked():
            await self._wait_for_slot(request)
        else:
            await self._slots.acquire()
        try:
            inner = self._inner or await self._opened()
            if state is not None:
                state.leaves()
            response = await inner.handle_async_request(request)
        except BaseException:
            self._slots.release()
            raise
        if response.is_closed:  # a mock's answer comes whole
            self._slots.release()
        else:
            assert isinstance(response.stream, httpx.AsyncByteStream)
            response.stream = _SlotStream(response.stream, self._slots.release)
        return response

    async def _wait_for_slot(self, request: httpx.Request) -> None:
        seconds = request.extensions.get("timeout", {}).get("pool")
        try:
            async with asyncio.timeout(seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise httpx.PoolTimeout(
                f"no free connection within {seconds} s", request=request
            ) from None

    async def _opened(self) -> httpx.AsyncBaseTransport:
        async with self._opening:
            if self._inner is None:
                assert self._open_inner is not None  # it is one or the other
                self._inner = await self._open_inner()
            return self._inner

    async def aclose(self) -> None:
        if self._inner is not None:
            await self._inner.aclose()


class _SlotStream(httpx.AsyncByteStream):
    """An answer's body that gives its slot back when it is closed, once."""

    def __init__(self, inner: httpx.AsyncByteStream, release: Callable[[], None]) -> None:
        self._inner = inner
        self._release: Callable[[], None] | None = release

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._inner.__aiter__()

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            release, self._release = self._release, None
            if release is not None:
                release()
