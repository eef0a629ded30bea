"""What lies below the auth: connections, TLS, proxies [E1], [E6], [E7], [A13]."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from flip_async import Environment, FlipClient, Retries, SandboxClient, errors
from flip_async._clock import SystemClock
from flip_async._endpoint import Method
from flip_async._transport._pool import ConnectionPool, proxy_for
from flip_async._transport._reading import decode
from tests.support import ManualClock, settle
from tests.support.processes import Process

URL = "http://localhost:9/v1/sites"
NOT_FOR_EVER_S = 20.0
FIRST_CALL = """
import asyncio, sys, threading

import httpx
from flip_async import SandboxClient

importer = {}

class Watch:
    def find_spec(name, path, target=None):
        importer[name] = threading.current_thread().name

sys.meta_path.insert(0, Watch)

async def main():
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=[]))
    async with SandboxClient(api_key="fl_your_api_key", transport=transport) as flip:
        await flip.sites.list()

asyncio.run(main())
for name in ("httpcore", "anyio._backends._asyncio", "opentelemetry.trace"):
    print(f"{name}: {importer[name]}")
"""


class Body(httpx.AsyncByteStream):
    """Comes in two pieces, the second of which waits."""

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"["
        network = self.connection.network
        await network.body_gate.wait()
        if network.breaks == "body":
            raise httpx.ReadError("lost")
        yield b"]"

    async def aclose(self) -> None:
        self.connection.is_out = False
        if self.connection.network.breaks == "close":
            raise OSError("already gone")


class Network:
    """What connections there were, and how many of them carried a request at once."""

    def __init__(self) -> None:
        self.opened: list[Connection] = []
        self.most = 0
        self.breaks = ""
        self.is_mock = False
        self.gate, self.body_gate = asyncio.Event(), asyncio.Event()

    def answers(self) -> None:
        self.gate.set()
        self.body_gate.set()

    @property
    def open(self) -> int:
        return sum(not connection.is_closed for connection in self.opened)

    @property
    def inside(self) -> int:
        return sum(connection.is_out for connection in self.opened)


class Connection(httpx.AsyncBaseTransport):
    def __init__(self, network: Network) -> None:
        network.opened.append(self)
        self.network = network
        self.is_closed = self.is_out = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert not self.is_closed
        assert not self.is_out
        network = self.network
        self.is_out = True
        network.most = max(network.most, network.inside)
        await network.gate.wait()
        if network.breaks == "headers":
            raise httpx.ReadError("lost")
        if network.is_mock:
            self.is_out = False
            return httpx.Response(200, json=[])
        return httpx.Response(200, stream=Body(self))

    async def aclose(self) -> None:
        self.is_out = False
        await asyncio.sleep(0)
        self.is_closed = True


@pytest.fixture
async def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """In the place of httpx's connections."""
    network = Network()
    monkeypatch.setattr(httpx, "AsyncHTTPTransport", lambda **_: Connection(network))
    return network


PROXIES = [
    variable
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for variable in (name, name.upper())
]


@pytest.fixture
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "REQUEST_METHOD", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.delenv(name, raising=False)


def client_on(pool: ConnectionPool, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=pool, trust_env=False, **options)


def pool_of(slots: int) -> ConnectionPool:
    return ConnectionPool(httpx.URL(URL), clock=SystemClock(), max_connections=slots)


# Slots


async def test_only_so_many_connections_are_out_at_once(network: Network) -> None:
    """Whatever the number of callers."""
    async with client_on(pool_of(3)) as http:
        requests = [asyncio.create_task(http.get(URL)) for _ in range(20)]
        await settle()
        assert network.inside == 3
        network.answers()
        answers = await asyncio.gather(*requests)

    assert [answer.json() for answer in answers] == [[]] * 20
    assert network.most == len(network.opened) == 3
    assert network.open == 0


async def test_a_slot_is_held_until_the_answer_is_read(network: Network) -> None:
    """Not only until its headers are there."""
    network.gate.set()
    async with client_on(pool_of(1)) as http:
        first, second = (asyncio.create_task(http.get(URL)) for _ in range(2))
        await settle()
        assert (network.inside, len(network.opened)) == (1, 1)

        network.body_gate.set()
        assert (await first).json() == (await second).json() == []

    assert network.most == 1


@pytest.mark.parametrize(
    "how", ["answer", "mock", "headers", "body", "close", "cancel", "cancel the body", "deadline"]
)
async def test_a_slot_always_comes_back(network: Network, how: str) -> None:
    """And its connection is used again only where the answer was read to its end [E1]."""
    network.breaks = how
    network.is_mock = how == "mock"
    async with client_on(pool_of(1)) as http:
        for _ in range(3):
            request = asyncio.create_task(http.get(URL, timeout=None))
            if "cancel" not in how and how != "deadline":
                network.answers()
            elif how != "cancel":
                network.gate.set()
            await settle()
            if how == "deadline":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(request, 0)
            elif "cancel" in how:
                assert not request.done()
                request.cancel()
            await asyncio.gather(request, return_exceptions=True)
            network.gate.clear()
            network.body_gate.clear()

        network.breaks = ""
        network.answers()
        async with asyncio.timeout(NOT_FOR_EVER_S):
            assert (await http.get(URL)).json() == []

    assert len(network.opened) == (1 if how == "answer" else 4) or how == "mock"
    assert network.open == network.inside == 0


async def test_what_is_given_up_while_it_waits_takes_no_slot(network: Network) -> None:
    """Nor when it is given up in the very turn in which its slot came."""
    async with client_on(pool_of(1)) as http:
        first, second, third = (asyncio.create_task(http.get(URL)) for _ in range(3))
        await settle()
        network.answers()
        while not first.done():
            await asyncio.sleep(0)
        second.cancel()
        async with asyncio.timeout(NOT_FOR_EVER_S):
            answers = await asyncio.gather(first, second, third, return_exceptions=True)
            last = await http.get(URL)

    assert isinstance(answers[2], httpx.Response)
    assert last.status_code == 200


async def test_those_who_wait_are_served_in_turn(network: Network) -> None:
    served: list[int] = []

    async def ask(http: httpx.AsyncClient, number: int) -> None:
        await http.get(URL)
        served.append(number)

    async with client_on(pool_of(1)) as http:
        requests = [asyncio.create_task(ask(http, number)) for number in range(5)]
        await settle()
        network.answers()
        await asyncio.gather(*requests)

    assert served == [0, 1, 2, 3, 4]


async def test_the_wait_for_a_slot_is_bound_by_the_pool_timeout(network: Network) -> None:
    """As the wait for a connection is in httpx."""
    timeout = httpx.Timeout(None, pool=0.01)
    async with client_on(pool_of(1), timeout=timeout) as http:
        first = asyncio.create_task(http.get(URL))
        await settle()
        with pytest.raises(httpx.PoolTimeout, match="no free connection within 0.01 s"):
            await http.get(URL)
        network.answers()
        assert (await first).status_code == (await http.get(URL)).status_code == 200


# Connections


async def test_a_connection_is_opened_late_and_used_again(network: Network) -> None:
    """With the first request, however many there are."""
    network.answers()
    async with client_on(pool_of(10)) as http:
        assert network.opened == []
        for _ in range(10):
            await http.get(URL)

    assert len(network.opened) == 1
    assert network.open == 0


async def test_a_connection_that_was_idle_too_long_is_closed(network: Network) -> None:
    """When another is given back: the oldest lie at the bottom of the stack."""
    clock = ManualClock()
    pool = ConnectionPool(httpx.URL(URL), clock=clock, max_connections=5, keepalive_s=5)
    async with client_on(pool) as http:
        requests = [asyncio.create_task(http.get(URL)) for _ in range(3)]
        await settle()
        network.answers()
        await asyncio.gather(*requests)
        clock.move(4)
        await http.get(URL)
        await settle()
        assert network.open == 3

        clock.move(4)
        await http.get(URL)
        await settle()

        assert network.open == 1
        assert len(network.opened) == 3


async def test_what_is_out_while_the_pool_closes_is_closed_when_it_is_back(
    network: Network,
) -> None:
    pool = pool_of(3)
    http = client_on(pool)
    request = asyncio.create_task(http.get(URL))
    await settle()

    await pool.aclose()
    network.answers()
    await request
    await settle()

    assert network.open == 0


def test_each_loop_has_its_own_and_closes_them_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody has to [E6]."""
    networks: list[Network] = []
    monkeypatch.setattr(httpx, "AsyncHTTPTransport", lambda **_: Connection(networks[-1]))
    pool = pool_of(3)

    async def ask() -> None:
        networks.append(Network())
        networks[-1].answers()
        await pool.handle_async_request(httpx.Request("GET", URL))

    for _ in range(3):
        asyncio.run(ask())

    assert [len(network.opened) for network in networks] == [1, 1, 1]
    assert [network.open for network in networks] == [0, 0, 0]


# TLS

ONE_CONTEXT = """
import asyncio, json, threading
import anyio, httpx
from flip_async._transport._pool import tls_context

made = []
create = httpx.create_ssl_context
httpx.create_ssl_context = lambda: (made.append(threading.current_thread()), create())[1]
contexts = []

async def ask():
    limiter = anyio.to_thread.current_default_thread_limiter()
    for _ in range(int(limiter.total_tokens)):
        limiter.acquire_on_behalf_of_nowait(object())  # its forty threads are all taken
    async with asyncio.timeout(20):
        contexts.extend(await asyncio.gather(*(tls_context() for _ in range(5))))

threads = [threading.Thread(target=asyncio.run, args=(ask(),)) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
asyncio.run(ask())
seen = {
    "contexts": len(set(map(id, contexts))),
    "asked": len(contexts),
    "made": len(made),
    "in a loop": any(thread in [*threads, threading.main_thread()] for thread in made),
}
print(json.dumps(seen))
"""


async def test_the_tls_context_is_built_once_for_the_process_and_off_the_loop() -> None:
    """In none of anyio's threads either: callers who wait for it may hold all forty [B9]."""
    async with asyncio.timeout(NOT_FOR_EVER_S), Process("-c", ONE_CONTEXT) as process:
        await process.until_it_says("}")

    seen = json.loads(process.output.strip().splitlines()[-1])
    assert seen == {"contexts": 1, "asked": 15, "made": 1, "in a loop": False}


ON_BOTH_ROADS = """
import asyncio
from flip_async import Environment, FlipClient, errors
HERE = Environment(name="nowhere", api_url="https://flip.invalid", oauth_url="https://flip.invalid")

async def ask(**credential):
    async with FlipClient(environment=HERE, deadline_s=20, **credential) as flip:
        try:
            await flip.request("GET", "/v1/sites")
        except errors.FlipError as error:
            return f"{type(error).__name__}: {error.message}"

print(asyncio.run(ask(api_key="fl_your_api_key")))
print(asyncio.run(ask(client_id="your_client_id", client_secret="your_client_secret")))
print("over")
"""


@pytest.mark.usefixtures("_bare_environment")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SSL_CERT_FILE", "/nowhere/ca.pem"),
        ("SSL_CERT_DIR", "/nowhere"),
        ("SSLKEYLOGFILE", "/nowhere/keys"),
        ("HTTPS_PROXY", "http://user:hunter22@proxy:port"),
        ("https_proxy", "ftp://127.0.0.1:1"),
        ("ALL_PROXY", "socks://127.0.0.1:1"),
    ],
)
async def test_a_variable_that_makes_it_impossible_is_named(name: str, value: str) -> None:
    """On the token's road too, where it is final [E7]."""
    async with asyncio.timeout(NOT_FOR_EVER_S):
        async with Process("-c", ON_BOTH_ROADS, **{name: value}) as process:
            await process.until_it_says("over")

    said = process.output.splitlines()[:2]
    assert [line.startswith("ConfigurationError") for line in said] == [True, True], said
    assert all(name in line for line in said)
    assert "hunter22" not in process.output


# Proxies


@pytest.mark.usefixtures("_bare_environment")
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
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("all_proxy", "plain.example")
    monkeypatch.setenv("no_proxy", "inside.example")

    found = proxy_for(httpx.URL(url))

    assert (found and str(found.url)) == proxy


@pytest.mark.usefixtures("_bare_environment")
def test_a_proxy_is_asked_with_its_user_and_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://user:hunter22@proxy.example:3128")

    found = proxy_for(httpx.URL("https://api.flip.energy"))

    assert found is not None
    assert found.raw_auth == (b"user", b"hunter22")
    assert str(found.url) == "http://proxy.example:3128"


@pytest.mark.usefixtures("_bare_environment")
@pytest.mark.parametrize(
    "value",
    [
        "http://user:hunter22@proxy:port",
        "ftp://hunter22@proxy",
        "http://:hunter22@",
        "http://p:99999",
    ],
)
def test_a_proxy_that_cannot_work_is_told_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """And not by what is in it, which may be a password."""
    monkeypatch.setenv("HTTPS_PROXY", value)

    with pytest.raises(errors.ConfigurationError, match="HTTPS_PROXY") as caught:
        proxy_for(httpx.URL("https://api.flip.energy"))

    assert "hunter22" not in str(caught.value)


async def test_a_client_for_loopback_ignores_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Token requests and calls alike [A13]."""
    from flip_async.emulator import Emulator

    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with Emulator() as emulator, emulator.client() as flip:
        assert await flip.sites.list() == []


# Imports


def test_what_a_first_call_loads_is_loaded_off_the_loop() -> None:
    """It takes tens of milliseconds: other tasks go on meanwhile."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST_CALL], capture_output=True, text=True, check=False
    )

    assert done.stdout.split("\n")[:-1] == [
        "httpcore: flip_async imports",
        "anyio._backends._asyncio: flip_async imports",
        "opentelemetry.trace: flip_async imports",
    ], done.stderr


# Requests and answers


@pytest.mark.parametrize("body", [None, {"name": "é"}])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_a_request_is_as_httpx_would_make_it(method: Method, body: object) -> None:
    """Its headers and its content; where an empty body's length stands is all one [E2]."""
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json=[])

    transport = httpx.MockTransport(answer)
    async with SandboxClient(api_key="fl_your_api_key", transport=transport) as flip:
        await flip.request(method, "/v1/sites", body=body)

    (request,) = sent
    added = {b"Host", b"Content-Length"}
    own = [pair for pair in request.headers.raw if pair[0] not in added | {b"Authorization"}]
    like = httpx.Request(method, request.url, headers=own, content=request.content or None)
    signed = [*like.headers.raw, (b"Authorization", b"Bearer fl_your_api_key")]
    assert request.headers.raw[0] == (b"Host", b"api-sandbox.flip.energy")
    assert sorted(request.headers.raw) == sorted(signed)
    assert request.content == (b"" if body is None else '{"name":"é"}'.encode())
    assert [part async for part in request.stream] == [request.content]


async def test_an_answer_is_as_httpx_leaves_one_that_was_read(network: Network) -> None:
    """Nothing is left of its connection [E2]."""
    network.answers()
    request = httpx.Request("GET", URL)

    answer = await pool_of(1).handle_async_request(request)

    assert (answer.content, answer.text, answer.json()) == (b"[]", "[]", [])
    assert answer.num_bytes_downloaded == 2
    assert answer.is_closed
    assert answer.is_stream_consumed
    assert answer.elapsed.total_seconds() >= 0
    assert (answer.request, answer.history) == (request, [])
    assert isinstance(answer.stream, httpx.ByteStream)
    assert await answer.aread() == b"[]"
    assert [part async for part in answer.aiter_bytes()] == [b"[]"]


async def test_an_httpx_that_keeps_its_content_elsewhere_reads_it_itself() -> None:
    class Later(httpx.Response):
        _kept: bytes

        def read(self) -> bytes:
            self._kept = b"".join(self.iter_raw())
            return self._kept

        @property
        def content(self) -> bytes:
            if not hasattr(self, "_kept"):
                raise httpx.ResponseNotRead
            return self._kept

    later = Later(200, stream=httpx.ByteStream(b"[]"))

    answer = decode(later, b"[]", most=2)

    assert (answer.content, answer.is_closed) == (b"[]", True)


# Names


@pytest.mark.usefixtures("_bare_environment")
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
            await flip.sites.list()
