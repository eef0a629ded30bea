"""What becomes of connections, whatever makes them: cancellations, loops, TLS, proxies [E10]."""

import asyncio
import gc
import json
import os
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from flip_async import (
    SANDBOX,
    ClientCredentialsAuth,
    Environment,
    FlipClient,
    Retries,
    errors,
)
from tests.engines.engines import ENGINES, MakeOptions
from tests.support.echo_server import (
    CONNECTIONS_AT_MOST,
    NOT_FOR_EVER_S,
    Server,
    answers,
    client_of,
    cut_off_and_ask,
    expected,
    until,
)
from tests.support.processes import Process
from tests.support.proxy import Proxy
from tests.support.sweeps import How, Scenario, SocketFlip, sweep
from tests.support.wire import Exchange, Wire, becomes

KEY = "fl_your_api_key"
ONCE = Retries(max_attempts=1)


# Requests that are cut off


async def test_1000_requests_that_are_cut_off_lose_no_connection(engine: MakeOptions) -> None:
    """Native cancellations and deadlines at random moments; then all is as before [B8]."""
    with Server(takes_s=0.01) as server:
        async with client_of(server, deadline_s=NOT_FOR_EVER_S, retries=ONCE, **engine()) as flip:
            seen = await cut_off_and_ask(flip, cut_off=1000)

        assert seen["begun"] >= 1000
        assert seen["answered"] == 60
        assert seen["open"] <= CONNECTIONS_AT_MOST
        assert await asyncio.to_thread(until, lambda: server.open == 0)


@pytest.mark.parametrize("how", [How.NATIVE, How.SCOPE], ids=["natively", "by a scope"])
async def test_a_call_that_is_cut_off_at_any_turn_gives_its_place_back(
    transports: MakeOptions, how: How
) -> None:
    """There is one place: if it were lost, the next call would wait for ever [B1], [B12]."""

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        async def act() -> None:
            await flip.request("POST", "/v1/commission", body={"a": 1})

        async def check() -> None:
            assert await flip.commands.list() == []
            assert len(fake.accepted) <= 3

        async with SocketFlip() as fake:
            async with fake.client(retries=ONCE, **transports(max_connections=1)) as flip:
                await flip.commands.list()
                yield Scenario(act=act, check=check, callers=3, victims=2)
            await becomes(lambda: not fake.open)

    (await sweep(arrange, how)).assert_clean(at_least=3)


# Closing


async def test_closing_ends_what_runs_and_closes_all_connections(
    engine: MakeOptions,
) -> None:
    async def never(exchange: Exchange) -> None:
        await exchange.reader.read()  # to its end, which is the client's to make

    async with Wire(never) as wire:
        flip = FlipClient(environment=wire.environment, api_key=KEY, **engine())
        calls = [asyncio.create_task(flip.request("GET", "/v1/sites")) for _ in range(5)]
        await becomes(lambda: len(wire.asked) == 5)
        await flip.aclose()
        ends = await asyncio.gather(*calls, return_exceptions=True)

        assert [type(end) for end in ends] == [errors.ClientClosedError] * 5
        await becomes(lambda: wire.open == 0)


async def test_a_closed_client_has_no_connection_left(engine: MakeOptions) -> None:
    with Server() as server:
        async with client_of(server, **engine()) as flip:
            await answers(flip, range(20))

        assert await asyncio.to_thread(until, lambda: server.open == 0)


# Loops, threads, forks


def test_one_client_works_in_ten_loops_one_after_another(engine: MakeOptions) -> None:
    """Each loop closes what was its own, and nothing is left to the collector [E6]."""
    with Server() as server:
        flip = client_of(server, **engine())
        for turn in range(10):
            numbers = range(turn * 10, turn * 10 + 10)
            assert asyncio.run(answers(flip, numbers)) == expected(numbers)
            assert until(lambda: server.open == 0)
        asyncio.run(flip.aclose())
    gc.collect()  # a ResourceWarning is an error


def test_one_client_works_in_four_threads_with_a_loop_each(engine: MakeOptions) -> None:
    with Server() as server:
        flip = client_of(server, **engine())
        seen: dict[int, list[str]] = {}

        def work(first: int) -> None:
            seen[first] = asyncio.run(answers(flip, range(first, first + 40)))

        threads = [
            threading.Thread(target=work, args=(first,), daemon=True)
            for first in range(0, 4000, 1000)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(NOT_FOR_EVER_S)
        asyncio.run(flip.aclose())

        assert seen == {first: expected(range(first, first + 40)) for first in range(0, 4000, 1000)}
        assert until(lambda: server.open == 0)


FORKED = """
import asyncio, os, sys, warnings
from flip_async import Environment, FlipClient
from tests.engines.engines import ENGINES
from tests.support.echo_server import answers, expected

warnings.simplefilter("error", ResourceWarning)
origin, name = sys.argv[1:]
here = Environment(name="loopback", api_url=origin, oauth_url=origin)
flip = FlipClient(environment=here, api_key="fl_your_api_key", **ENGINES[name]())
assert asyncio.run(answers(flip, range(5))) == expected(range(5))
child = os.fork()
numbers = range(100, 105) if child else range(200, 205)
assert asyncio.run(answers(flip, numbers)) == expected(numbers)
asyncio.run(flip.aclose())
if not child:
    os._exit(0)
print("child:", os.waitpid(child, 0)[1], flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
async def test_a_client_works_in_a_child_that_was_forked(
    engine: MakeOptions, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    with Server() as server:
        async with (
            asyncio.timeout(NOT_FOR_EVER_S),
            Process("-c", FORKED, server.environment.api_url, name) as process,
        ):
            await process.until_it_says("child: 0")


# TLS


@pytest.fixture
def authority(tmp_path: Path) -> tuple[Any, str]:
    """A certificate authority, and the file with its certificate."""
    trustme = pytest.importorskip("trustme", reason="trustme is not installed")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    return authority, str(tmp_path / "authority.pem")


def server_side(authority: Any, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


OVER_TLS = """
import asyncio, json, sys
from flip_async import Environment, FlipClient, Retries, errors
from tests.engines.engines import ENGINES
from tests.support.echo_server import cut_off_and_ask

async def main(origin, stranger, name):
    here = Environment(name="loopback", api_url=origin, oauth_url=origin)
    there = Environment(name="stranger", api_url=stranger, oauth_url=stranger)
    once = Retries(max_attempts=1)
    credential = {"client_id": "your_client_id", "client_secret": "your_client_secret"}
    async with FlipClient(
        environment=here, deadline_s=40, retries=once, **credential, **ENGINES[name]()
    ) as flip:
        seen = await cut_off_and_ask(flip, cut_off=400)
    async with FlipClient(environment=there, api_key="fl_your_api_key", **ENGINES[name]()) as flip:
        try:
            await flip.request("POST", "/v1/commission", body={})
        except errors.FlipError as error:
            seen["refused"] = [type(error).__name__, error.attempts, str(error)]
    print(json.dumps(seen))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_tls_is_verified_with_the_authorities_of_the_process(
    engine: MakeOptions, authority: tuple[Any, str], request: pytest.FixtureRequest
) -> None:
    """400 requests that are cut off lose nothing; a stranger's certificate is told at once [E7]."""
    import trustme

    known, file = authority
    name = request.node.callspec.id
    with (
        Server(server_side(known, "127.0.0.1"), takes_s=0.01) as server,
        Server(server_side(trustme.CA(), "127.0.0.1")) as stranger,
    ):
        origins = (server.environment.api_url, stranger.environment.api_url)
        async with (
            asyncio.timeout(NOT_FOR_EVER_S),
            Process("-c", OVER_TLS, *origins, name, SSL_CERT_FILE=file) as process,
        ):
            await process.until_it_says("}")
        assert stranger.asked == 0

    seen = json.loads(process.output.strip().splitlines()[-1])
    kind, attempts, text = seen["refused"]
    assert seen["answered"] == 60
    assert seen["open"] <= CONNECTIONS_AT_MOST
    assert (kind, attempts) == ("ConnectionFailedError", 1)
    assert "CERTIFICATE_VERIFY_FAILED" in text


async def test_verify_is_a_context_of_the_user(
    transports: MakeOptions, authority: tuple[Any, str]
) -> None:
    """As truststore's, which knows a company's own authority."""
    known, file = authority
    mine = ssl.create_default_context(cafile=file)
    async with Wire(tls=server_side(known, "127.0.0.1")) as wire:
        options = transports(verify=mine)
        async with FlipClient(environment=wire.environment, api_key=KEY, **options) as flip:
            assert (await flip.request("GET", "/v1/sites")).json() == {}
        async with FlipClient(
            environment=wire.environment, api_key=KEY, retries=ONCE, **transports()
        ) as flip:
            with pytest.raises(errors.ConnectionFailedError, match="CERTIFICATE_VERIFY_FAILED"):
                await flip.request("GET", "/v1/sites")


# Proxies


@pytest.mark.parametrize("is_tls", [False, True], ids=["http", "a tunnel for https"])
async def test_a_proxy_carries_all_requests(
    transports: MakeOptions, authority: tuple[Any, str], is_tls: bool
) -> None:
    """Also those for tokens; it is shown its own credential, and in a tunnel not ours."""
    known, file = authority
    tls = server_side(known, "127.0.0.1") if is_tls else None
    verify = ssl.create_default_context(cafile=file)
    async with Wire(tls=tls) as wire, Proxy(wire.port) as proxy:
        options = transports(proxy=proxy.url, verify=verify)
        async with FlipClient(
            environment=wire.environment, client_id="id", client_secret="secret", **options
        ) as flip:
            for _ in range(3):
                assert (await flip.request("GET", "/v1/sites")).json() == {}

    assert (wire.tokens, len(wire.asked)) == (1, 3)
    assert all("Proxy-Authorization: Basic dXNlcjpodW50ZXIyMg==" in head for head in proxy.asked)
    assert any(head.startswith("CONNECT ") for head in proxy.asked) is is_tls
    assert not any("Bearer" in head for head in proxy.asked if is_tls)
    if is_tls:
        assert all(exchange.header("Proxy-Authorization") is None for exchange in wire.asked)


async def test_a_proxy_that_refuses_has_sent_nothing(
    transports: MakeOptions, authority: tuple[Any, str]
) -> None:
    known, file = authority
    verify = ssl.create_default_context(cafile=file)
    async with Wire(tls=server_side(known, "127.0.0.1")) as wire, Proxy(wire.port) as proxy:
        proxy.refuses = True
        options = transports(proxy=proxy.url, verify=verify)
        async with FlipClient(
            environment=wire.environment, api_key=KEY, retries=ONCE, **options
        ) as flip:
            with pytest.raises(errors.ConnectionFailedError, match="ProxyError") as found:
                await flip.request("POST", "/v1/commission", body={})

    assert not isinstance(found.value, errors.OutcomeUnknownError)
    assert "hunter22" not in str(found.value)
    assert wire.asked == []


async def test_the_proxy_of_the_environment_is_used_for_other_machines(
    engine: MakeOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And never for loopback [A13]."""
    for name in ("http_proxy", "no_proxy", "NO_PROXY", "REQUEST_METHOD", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    origin = "http://flip.example"
    there = Environment(name="there", api_url=origin, oauth_url=origin, insecure_http=True)
    async with Wire() as wire, Proxy(wire.port) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        async with FlipClient(environment=there, api_key=KEY, **engine()) as flip:
            assert (await flip.request("GET", "/v1/sites")).json() == {}
        assert len(proxy.asked) == 1
        async with FlipClient(environment=wire.environment, api_key=KEY, **engine()) as flip:
            assert (await flip.request("GET", "/v1/sites")).json() == {}

    assert len(proxy.asked) == 1


async def test_a_proxy_variable_that_cannot_work_is_named(
    engine: MakeOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is in it is not shown: there may be a password [B10]."""
    for name in ("https_proxy", "no_proxy", "NO_PROXY", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "gopher://user:secret@proxy")
    async with FlipClient(environment=SANDBOX, api_key=KEY, **engine()) as flip:
        with pytest.raises(errors.ConfigurationError, match="HTTPS_PROXY") as found:
            await flip.request("GET", "/v1/sites")

    assert "secret" not in str(found.value)


@pytest.mark.parametrize("proxy", ["gopher://proxy", "http://", "http://user:secret@:1", ""])
def test_a_proxy_that_is_none_is_refused(transports: MakeOptions, proxy: str) -> None:
    with pytest.raises(errors.ConfigurationError) as found:
        transports(proxy=proxy)

    assert "secret" not in str(found.value)


@pytest.mark.parametrize(
    "options",
    [
        {"verify": "/etc/ssl/ca.pem"},
        {"verify": False},
        {"proxy": 8080},
        {"max_connections": 0},
        {"max_connections": 2.5},
        {"keepalive_s": -1},
        {"keepalive_s": float("nan")},
    ],
    ids=str,
)
def test_an_argument_that_cannot_be_what_it_is_is_named(
    transports: MakeOptions, options: dict[str, Any]
) -> None:
    with pytest.raises(errors.InvalidArgumentError) as found:
        transports(**options)

    assert found.value.field in options


# In a client of the user's


def user_client(options: dict[str, Any], origin: str, **more: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=origin, trust_env=False, **options, **more)


async def test_an_engine_works_in_a_client_of_httpx_with_our_auth(
    wire: Wire, transports: MakeOptions
) -> None:
    """The transport is httpx's business there: cookies and redirects too."""
    auth = ClientCredentialsAuth("id", "secret", token_url=f"{wire.origin}/token")
    async with auth, user_client(transports(), wire.origin, auth=auth) as http:
        response = await http.get("/v1/sites")

    assert response.json() == {}
    assert wire.asked[0].header("Authorization") == "Bearer at_1"


async def test_a_streamed_body_goes_out_as_it_comes(wire: Wire, transports: MakeOptions) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one", b"", b"two", b"x" * 200_000):
            yield piece

    async with user_client(transports(), wire.origin) as http:
        await http.post("/v1/one", content=pieces())
        await http.post("/v1/two", content=pieces(), headers={"Content-Length": "200006"})
        await http.post("/v1/three", files={"file": b"content"}, data={"a": "1"})

    body = b"onetwo" + b"x" * 200_000
    assert [exchange.body for exchange in wire.asked[:2]] == [body, body]
    assert wire.asked[0].header("Transfer-Encoding") == "chunked"
    assert wire.asked[1].header("Transfer-Encoding") is None
    assert b"content" in wire.asked[2].body


async def test_what_a_body_raises_comes_out_as_it_is(wire: Wire, transports: MakeOptions) -> None:
    """It is a bug of the caller's, and looks like one."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        raise KeyError("of the user's")

    async with user_client(transports(max_connections=1), wire.origin) as http:
        for _ in range(3):
            with pytest.raises(KeyError):
                await http.post("/v1/one", content=pieces())
        assert (await http.get("/v1/sites")).json() == {}


async def test_a_body_that_is_left_early_gives_its_place_back(transports: MakeOptions) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await exchange.write(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")

    async with (
        Wire(endless) as wire,
        user_client(transports(max_connections=2), wire.origin) as http,
    ):
        for _ in range(6):
            async with http.stream("GET", "/v1/endless") as response:
                async for _ in response.aiter_bytes():
                    break
        await becomes(lambda: wire.open == 0)


async def test_a_body_is_read_piece_by_piece(wire: Wire, transports: MakeOptions) -> None:
    gate = asyncio.Event()

    async def slowly(exchange: Exchange) -> None:
        await exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await gate.wait()
        await exchange.write(b"3\r\ntwo\r\n0\r\n\r\n")

    wire.answers = slowly
    async with user_client(transports(), wire.origin) as http:
        async with http.stream("GET", "/v1/slow") as response:
            pieces = response.aiter_bytes()
            assert await anext(pieces) == b"one"
            gate.set()
            assert b"".join([piece async for piece in pieces]) == b"two"
        await http.get("/v1/slow")

    assert wire.connections == 1


async def test_a_kept_connection_serves_the_next_request(
    wire: Wire, transports: MakeOptions
) -> None:
    """To each origin one, where requests come one after the other."""
    async with user_client(transports(), wire.origin) as http:
        for _ in range(10):
            assert (await http.get("/v1/sites")).json() == {}

    assert wire.connections == 1


async def test_an_engine_lives_on_after_it_was_closed(wire: Wire, transports: MakeOptions) -> None:
    """As a transport of httpx's does: closing ends connections, not the object."""
    transport = transports()["transport"]
    for _ in range(2):
        async with httpx.AsyncClient(
            transport=transport, base_url=wire.origin, trust_env=False
        ) as http:
            assert (await http.get("/v1/sites")).json() == {}

    await becomes(lambda: wire.open == 0)


def test_each_engine_of_the_list_is_tried() -> None:
    """A new one has a line in it, and then all of this holds for it."""
    assert set(ENGINES) == {"httpx", "aiohttp", "httpx2"}
