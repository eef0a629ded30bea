"""What lies below the auth: the queue, TLS, proxies [R9], [A13]."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator

import httpx
import pytest

from flip_async import Environment, FlipClient, Retries, errors
from flip_async._transport import _pool as _transport
from flip_async._transport._attempt import Broken, exchange
from flip_async._transport._pool import QueueingTransport, open_transport, proxy_for, tls_context
from tests.support import settle

URL = "https://api.flip.energy/v1/sites"


class Body(httpx.AsyncByteStream):
    """An answer that stays open until it is closed."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"x"


class Inner(httpx.AsyncBaseTransport):
    def __init__(self, *, streams: bool = True) -> None:
        self.streams = streams
        self.inside = self.most = self.closed = 0
        self.gate = asyncio.Event()
        self.fails = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self.gate.wait()
        self.inside -= 1
        if self.fails:
            raise httpx.ReadError("lost")
        return httpx.Response(200, stream=Body()) if self.streams else httpx.Response(200)

    async def aclose(self) -> None:
        self.closed += 1


async def test_only_so_many_requests_are_let_through() -> None:
    """Httpcore's pool then stays small, whatever the number of callers."""
    inner = Inner()
    async with httpx.AsyncClient(transport=QueueingTransport(inner, slots=3)) as http:
        requests = [asyncio.create_task(http.get(URL)) for _ in range(20)]
        await settle()
        assert inner.inside == 3
        inner.gate.set()
        await asyncio.gather(*requests)

    assert inner.most == 3
    assert inner.closed == 1


async def test_a_slot_is_held_until_the_answer_is_closed() -> None:
    """Not only until its headers are there."""
    inner = Inner()
    inner.gate.set()
    async with httpx.AsyncClient(transport=QueueingTransport(inner, slots=1)) as http:
        async with http.stream("GET", URL):
            other = asyncio.create_task(http.get(URL))
            await settle()
            assert not other.done()
        assert (await other).status_code == 200


@pytest.mark.parametrize("how", ["error", "cancel", "mock"])
async def test_a_slot_always_comes_back(how: str) -> None:
    """An answer that comes closed, as a mock's does, gives it back at once."""
    inner = Inner(streams=how != "mock")
    inner.fails = how == "error"
    transport = QueueingTransport(inner, slots=1)
    for _ in range(3):
        request = asyncio.create_task(transport.handle_async_request(httpx.Request("GET", URL)))
        await settle()
        if how == "cancel":
            request.cancel()
        inner.gate.set()
        await asyncio.gather(request, return_exceptions=True)
        inner.gate.clear()

    assert not transport._slots.locked()


async def test_a_stream_gives_its_slot_back_once() -> None:
    """Closing twice is no second slot."""
    inner = Inner()
    inner.gate.set()
    transport = QueueingTransport(inner, slots=2)
    response = await transport.handle_async_request(httpx.Request("GET", URL))
    assert isinstance(response.stream, httpx.AsyncByteStream)

    await response.stream.aclose()
    await response.stream.aclose()

    assert transport._slots._value == 2


async def test_the_wait_for_a_slot_is_bound_by_the_pool_timeout() -> None:
    """As the wait for a connection is in httpx."""
    inner = Inner()
    timeout = httpx.Timeout(5, pool=0.01)
    async with httpx.AsyncClient(
        transport=QueueingTransport(inner, slots=1), timeout=timeout
    ) as http:
        first = asyncio.create_task(http.get(URL))
        await settle()
        with pytest.raises(httpx.PoolTimeout, match="no free connection within"):
            await http.get(URL)
        inner.gate.set()
        assert (await first).status_code == 200


async def test_a_transport_is_opened_once_and_late() -> None:
    """With the first request, however many there are."""
    opened = 0

    async def open_one() -> httpx.AsyncBaseTransport:
        nonlocal opened
        opened += 1
        await asyncio.sleep(0)
        return httpx.MockTransport(lambda _: httpx.Response(200))

    transport = QueueingTransport(open_one)
    await transport.aclose()
    async with httpx.AsyncClient(transport=transport) as http:
        assert opened == 0
        await asyncio.gather(*(http.get(URL) for _ in range(10)))

    assert opened == 1


async def test_the_tls_context_is_built_once_for_the_process_and_off_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes tens of milliseconds, which the event loop does not have."""
    threads: list[int] = []
    create = httpx.create_ssl_context

    def spy() -> ssl.SSLContext:
        threads.append(threading.get_ident())
        return create()

    monkeypatch.setattr(httpx, "create_ssl_context", spy)
    _transport._tls_context.cache_clear()

    contexts = await asyncio.gather(*(tls_context() for _ in range(5)))

    assert len({id(context) for context in contexts}) == 1
    assert threads != [threading.get_ident()]
    assert len(threads) == 1
    transport = await open_transport(httpx.URL(URL))
    assert isinstance(transport, httpx.AsyncHTTPTransport)


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://api.flip.energy", "http://proxy.example:3128"),
        ("https://inside.example", None),
        ("http://127.0.0.1:8080", None),
        ("http://localhost:8080", None),
        ("http://[::1]:8080", None),
        ("http://flip.localhost", None),
        ("http://private:80", "http://plain.example"),
    ],
)
def test_the_proxy_variables_count_but_for_loopback(
    monkeypatch: pytest.MonkeyPatch, url: str, proxy: str | None
) -> None:
    """[A13]."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("all_proxy", "plain.example")
    monkeypatch.setenv("no_proxy", "inside.example")

    assert proxy_for(httpx.URL(url)) == proxy


async def test_a_client_for_loopback_ignores_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Token requests and calls alike [A13]."""
    from flip_async.emulator import Emulator

    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with Emulator() as emulator, emulator.client() as flip:
        assert await flip.sites.list() == []


async def _sites(flip: FlipClient) -> list[str]:
    return [site.id for site in await flip.sites.list()]


async def test_a_host_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, or a name that is wrong."""

    async def unknown(*args: object, **kwargs: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    nowhere = Environment(
        name="nowhere", api_url="https://flip.invalid", oauth_url="https://flip.invalid"
    )
    async with FlipClient(
        environment=nowhere, api_key="fl_your_api_key", retries=Retries(base_s=0)
    ) as flip:
        with pytest.raises(errors.ConnectionFailedError, match="GET /v1/sites: ConnectError"):
            await _sites(flip)


async def test_an_exchange_that_breaks_says_why_and_nothing_else() -> None:
    """The request, with the secret in it, is not chained."""

    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.LocalProtocolError("Illegal header value b'Basic c2VjcmV0'")

    request = httpx.Request("POST", URL, content=b"client_secret=x")
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        outcome = await exchange(request, http_client=http, auth=None, within_s=5)

    assert outcome == Broken("LocalProtocolError")


async def test_a_bug_in_an_exchange_is_a_bug() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise RuntimeError("mine")

    request = httpx.Request("POST", URL)
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        with pytest.raises(RuntimeError, match="mine"):
            await exchange(request, http_client=http, auth=None, within_s=5)
