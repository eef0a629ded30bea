"""Flip over httpx2's connections, beside what every engine must hold: HTTP/2, its clients [E5]."""

import asyncio
import os
import random
import ssl
from collections.abc import Iterator
from typing import Any

import httpcore2
import httpx
import httpx2
import pytest

from flip_async import Environment, FlipClient, Retries, errors
from flip_async.emulator import Emulator
from flip_async.httpx2 import Httpx2Transport, for_httpx2
from flip_async.models import CommissionSite
from tests.support.http2_server import Http2Server
from tests.support.proxy import Proxy
from tests.system.test_connections import (
    CONNECTIONS_AT_MOST,
    NOT_FOR_EVER_S,
    Child,
    Server,
    answers,
    client_of,
    cut_off_and_ask,
    expected,
    has_fork,
    until,
)
from tests.system.test_story import battery

PROXIES = [
    variable
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for variable in (name, name.upper())
]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


class Tls:
    """Both sides of it, with an authority that nobody else knows."""

    def __init__(self) -> None:
        trustme = pytest.importorskip("trustme", reason="trustme is not installed")
        authority = trustme.CA()
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self.server)
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(self.client)


@pytest.fixture
def tls() -> Tls:
    return Tls()


def over(server: Server, **options: Any) -> FlipClient:
    return client_of(server, transport=Httpx2Transport(**options))


def emulated(emulator: Emulator, **options: Any) -> FlipClient:
    credential = {"client_id": emulator.client_id, "client_secret": emulator.client_secret}
    here = Environment(name="local", api_url=emulator.api_url, oauth_url=emulator.oauth_url)
    return FlipClient(environment=here, **credential, **options)


# The whole road


async def test_the_api_works_over_it(socket_emulator: Emulator) -> None:
    """Token requests to the OAuth host's origin too, and site tokens."""
    async with emulated(socket_emulator, transport=Httpx2Transport()) as flip:
        await flip.sites.commission(CommissionSite(id="hh-1042"), [battery("inv-77301")])
        async for site in flip.sites.list():
            assert site.id == "hh-1042"
        assert (await flip.site("hh-1042").get()).id == "hh-1042"
        with pytest.raises(errors.NotFoundError) as caught:
            await flip.site("nobody").get()

    assert type(caught.value.response) is httpx.Response


async def test_the_api_works_through_a_client_of_httpx2(socket_emulator: Emulator) -> None:
    async with (
        httpx2.AsyncClient() as http,
        emulated(socket_emulator, http_client=http) as flip,
    ):
        await flip.sites.commission(CommissionSite(id="hh-1042"), [battery("inv-77301")])
        assert [site.id for site in await flip.sites.list()] == ["hh-1042"]
        async with httpx2.AsyncClient(auth=for_httpx2(flip.auth)) as mine:
            answer = await mine.get(f"{socket_emulator.api_url}/v1/sites")

    assert answer.status_code == 200


async def test_an_answer_says_what_it_came_over(server: Server) -> None:
    async with over(server) as flip:
        answer = await flip.request("GET", "/v1/x")

    assert answer.http_version == "HTTP/1.1"
    assert isinstance(answer.extensions["network_stream"], httpcore2.AsyncNetworkStream)
    assert answer.elapsed.total_seconds() > 0
    assert answer.request.url.path == "/v1/x"


async def test_connections_are_bounded_and_used_again(server: Server) -> None:
    """To each origin the last one first, and to all together no more than the limit."""
    async with httpx.AsyncClient(transport=Httpx2Transport(max_connections=3)) as http:
        with Server() as other:
            for _ in range(5):
                for one in (server, other):
                    urls = [f"{one.environment.api_url}/v1/{number}" for number in range(20)]
                    found = await asyncio.gather(*map(http.get, urls))
                    assert [answer.json()["path"] for answer in found] == [
                        f"/v1/{number}" for number in range(20)
                    ]
                    assert await asyncio.to_thread(until, lambda: server.open + other.open <= 3)
            for _ in range(5):
                await http.get(server.environment.api_url)
                await http.get(other.environment.api_url)
            accepted = server.accepted + other.accepted
            for _ in range(5):
                await http.get(server.environment.api_url)
                await http.get(other.environment.api_url)
            assert server.accepted + other.accepted == accepted

    assert await asyncio.to_thread(until, lambda: server.open == 0)


async def test_what_breaks_the_connection_is_an_error_of_httpx(tls: Tls) -> None:
    """With the original as its cause, and the request."""
    async with httpx.AsyncClient(transport=Httpx2Transport()) as http:
        with pytest.raises(httpx.UnsupportedProtocol):
            await Httpx2Transport().handle_async_request(httpx.Request("GET", "ftp://127.0.0.1"))
        with Server(tls.server) as server:
            url = server.environment.api_url
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED") as caught:
                await http.get(url)
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get(url.replace("https", "http"))

    assert type(caught.value.__cause__).__module__ == "httpcore2"
    assert caught.value.request.url == url


# Cancellations


async def test_1000_requests_that_are_cut_off_stop_no_client_of_httpx2() -> None:
    with Server(takes_s=0.01) as server:
        async with (
            httpx2.AsyncClient() as http,
            client_of(server, http_client=http, retries=Retries(max_attempts=1)) as flip,
        ):
            seen = await cut_off_and_ask(flip, cut_off=1000)

    assert seen["answered"] == 60


# TLS and HTTP/2


async def test_a_certificate_that_nobody_vouches_for_is_told_after_one_attempt(tls: Tls) -> None:
    """On the token's road too (C14)."""
    with Server(tls.server) as server:
        for http2 in (False, True):
            async with over(server, http2=http2) as flip:
                with pytest.raises(errors.TokenUnavailableError, match="CERTIFICATE_VERIFY"):
                    await flip.request("GET", "/v1/sites")
            async with FlipClient(
                environment=server.environment,
                api_key="fl_your_api_key",
                transport=Httpx2Transport(http2=http2),
            ) as flip:
                with pytest.raises(errors.ConnectionFailedError) as caught:
                    await flip.request("GET", "/v1/sites")
                assert caught.value.attempts == 1

    assert server.asked == 0


async def test_http2_carries_many_requests_on_one_connection(tls: Tls) -> None:
    with Http2Server(tls.server, takes_s=0.02) as server:
        transport = Httpx2Transport(verify=tls.client, http2=True)
        async with httpx.AsyncClient(transport=transport) as http:
            found = await asyncio.gather(*(http.get(f"{server.url}/{n}") for n in range(50)))
            async with http.stream("GET", f"{server.url}/streamed") as response:
                assert (await response.aread()).strip() == b'{"path": "/streamed"}'

        assert server.accepted == 1
        assert await asyncio.to_thread(until, lambda: server.open == 0)

    assert [answer.json()["path"] for answer in found] == [f"/{n}" for n in range(50)]
    assert {answer.http_version for answer in found} == {"HTTP/2"}


async def test_http2_is_only_an_offer(tls: Tls) -> None:
    """A server that knows HTTP/1.1 alone is served as if nobody had offered."""
    with Server(tls.server) as server:
        async with over(server, verify=tls.client, http2=True) as flip:
            for turn in range(3):
                numbers = range(turn * 20, turn * 20 + 20)
                assert await answers(flip, numbers) == expected(numbers)
            assert (await flip.request("GET", "/v1/x")).http_version == "HTTP/1.1"

        assert await asyncio.to_thread(until, lambda: server.open == 0)


async def test_the_context_of_the_process_offers_no_http2(tls: Tls) -> None:
    """Who wants HTTP/2 has another one, or a server would answer a default client in it [E7]."""
    from flip_async._transport._pool import tls_context

    plain, http2 = await tls_context(), await tls_context(http2=True)

    assert plain is not http2
    assert http2 is await tls_context(http2=True)


async def test_1000_http2_requests_that_are_cut_off_stop_no_connection(tls: Tls) -> None:
    """A stream that was given up is never reset; after a hundred its connection would stand."""
    luck, begun = random.Random(7), 0

    async def worker(http: httpx.AsyncClient, url: str) -> None:
        nonlocal begun
        while begun < 1000:
            begun += 1
            task = asyncio.create_task(http.get(url))
            asyncio.get_running_loop().call_later(luck.uniform(0.001, 0.1), task.cancel)
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # others on a connection may go down with it

    with Http2Server(tls.server, takes_s=0.02, length=200_000) as server:
        transport = Httpx2Transport(verify=tls.client, http2=True)
        async with httpx.AsyncClient(transport=transport, timeout=NOT_FOR_EVER_S) as http:
            async with asyncio.timeout(NOT_FOR_EVER_S):
                await asyncio.gather(*(worker(http, server.url) for _ in range(20)))
                found = await asyncio.gather(*(http.get(server.url) for _ in range(100)))

            assert {answer.status_code for answer in found} == {200}
            assert await asyncio.to_thread(until, lambda: server.open <= CONNECTIONS_AT_MOST)
        assert await asyncio.to_thread(until, lambda: server.open == 0)


# Proxies


@pytest.mark.parametrize("how", ["str", "httpx.Proxy", "client"])
@pytest.mark.parametrize("is_tunnel", [False, True])
async def test_a_proxy_carries_all_requests(tls: Tls, how: str, is_tunnel: bool) -> None:
    """Those for tokens too; its password goes to it alone."""
    with Server(tls.server if is_tunnel else None) as server:
        async with Proxy() as proxy:
            given: Any = httpx.Proxy(proxy.url) if how == "httpx.Proxy" else proxy.url
            if how == "client":
                http = httpx2.AsyncClient(proxy=given, verify=tls.client)
                transport = Httpx2Transport(http)
            else:
                http = httpx2.AsyncClient()
                transport = Httpx2Transport(proxy=given, verify=tls.client)
            async with http, client_of(server, transport=transport) as flip:
                paths = await answers(flip, range(5))

    assert [httpx.URL(path).path for path in paths] == expected(range(5))
    assert len(proxy.asked) >= 2
    assert all("Proxy-Authorization: Basic" in head for head in proxy.asked)
    assert all(head.startswith("CONNECT ") == is_tunnel for head in proxy.asked)


# Loops, threads, forks


def test_http2_works_in_ten_loops(tls: Tls) -> None:
    with Http2Server(tls.server) as server:
        transport = Httpx2Transport(verify=tls.client, http2=True)

        async def ask() -> str:
            # Nobody closes it: the loop does.
            answer = await transport.handle_async_request(httpx.Request("GET", server.url))
            await answer.aread()
            return answer.http_version

        assert [asyncio.run(ask()) for _ in range(10)] == ["HTTP/2"] * 10
        assert until(lambda: server.open == 0)


@has_fork
async def test_a_child_that_is_forked_within_a_loop_shares_no_connection(server: Server) -> None:
    async with over(server) as flip:
        await answers(flip, range(10))
        child = Child(lambda: asyncio.run(answers(flip, range(100, 110))))
        beside = await answers(flip, range(200, 210))
        in_child = await asyncio.to_thread(child.said)

    assert beside == expected(range(200, 210))
    assert in_child == expected(range(100, 110))
    assert os.getpid() != child.pid
