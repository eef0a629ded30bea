"""One client over real sockets: loops, threads, forks, and requests that are cut off [B8], [E1]."""

import asyncio
import json
import os
import signal
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import respx

from flip_async import Environment, FlipClient, Retries, errors
from tests.support.echo_server import (
    CONNECTIONS_AT_MOST,
    CUT_OFF,
    NOT_FOR_EVER_S,
    Server,
    answers,
    client_of,
    cut_off_and_ask,
    expected,
    until,
)
from tests.support.processes import Process

has_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


# Loops and threads


def test_one_client_works_in_one_loop_after_another(server: Server) -> None:
    """A script, a task queue, a test client; each loop closes what was its own [E6]."""
    flip = client_of(server)

    for turn in range(5):
        numbers = range(turn * 10, turn * 10 + 10)
        assert asyncio.run(answers(flip, numbers)) == expected(numbers)
        assert until(lambda: server.open == 0)
    asyncio.run(flip.aclose())

    with pytest.raises(errors.ClientClosedError):
        asyncio.run(answers(flip, range(1)))


def test_one_client_works_in_two_threads_with_a_loop_each(server: Server) -> None:
    """At the same time, and each gets its own answers."""
    flip = client_of(server)
    together = threading.Barrier(2)
    seen: dict[int, list[str]] = {}

    def work(first: int) -> None:
        together.wait(NOT_FOR_EVER_S)
        seen[first] = asyncio.run(thrice(first))

    async def thrice(first: int) -> list[str]:
        turns = [range(first + 60 * turn, first + 60 * turn + 60) for turn in range(3)]
        return [path for numbers in turns for path in await answers(flip, numbers)]

    threads = [threading.Thread(target=work, args=(first,), daemon=True) for first in (0, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(NOT_FOR_EVER_S)
    asyncio.run(flip.aclose())

    assert seen == {first: expected(range(first, first + 180)) for first in (0, 1000)}
    assert until(lambda: server.open == 0)


# Forks


class Child:
    """A process that was forked here; it does one thing, and says what came of it."""

    def __init__(self, job: Callable[[], list[str]]) -> None:
        self._read, write = os.pipe()
        with warnings.catch_warnings():
            # There are threads, and there is no other way to see what a fork does to us.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if not self.pid:
            _be_a_child(job, write)
        os.close(write)

    def said(self) -> list[str]:
        """Wait for its end; it has an alarm clock of its own."""
        with os.fdopen(self._read, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0, said
        result: list[str] = json.loads(said)
        return result


def _be_a_child(job: Callable[[], list[str]], write: int) -> None:
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, NOT_FOR_EVER_S)
        result: object = None
        try:
            result = job()
            code = 0
        except BaseException as error:
            result = repr(error)
        os.write(write, json.dumps(result).encode())
    finally:
        os._exit(code)


@has_fork
def test_a_client_lives_on_in_a_child_that_is_forked_after_its_loop(server: Server) -> None:
    """A server that forks its workers once the application is loaded."""
    flip = client_of(server)
    before = asyncio.run(answers(flip, range(5)))

    child = Child(lambda: asyncio.run(answers(flip, range(100, 105))))
    in_child = child.said()
    after = asyncio.run(answers(flip, range(10, 15)))
    asyncio.run(flip.aclose())

    assert before == expected(range(5))
    assert in_child == expected(range(100, 105))
    assert after == expected(range(10, 15))


@has_fork
async def test_a_child_that_is_forked_within_a_running_loop_shares_no_connection(
    server: Server,
) -> None:
    """Its parent's calls go on beside it, and each gets its own answer."""
    server.takes_s = 0.05
    async with client_of(server) as flip:
        await answers(flip, range(30))  # there are connections to be shared by mistake
        going_on = asyncio.create_task(answers(flip, range(100, 130)))
        while server.asked < 40:
            await asyncio.sleep(0.001)

        child = Child(lambda: asyncio.run(answers(flip, range(1000, 1030))))
        beside = [await answers(flip, range(200, 230)) for _ in range(3)]
        in_parent = await going_on
        in_child = await asyncio.to_thread(child.said)
        after = await answers(flip, range(300, 330))

    assert in_child == expected(range(1000, 1030))
    assert in_parent == expected(range(100, 130))
    assert beside == [expected(range(200, 230))] * 3
    assert after == expected(range(300, 330))


# Requests that are cut off


def patient(server: Server) -> FlipClient:
    return client_of(server, deadline_s=NOT_FOR_EVER_S, retries=Retries(max_attempts=1))


async def test_2000_requests_that_are_cut_off_lose_no_connection() -> None:
    """Native cancellations and deadlines, at random moments (C1)."""
    with Server(takes_s=0.01) as server:
        async with patient(server) as flip:
            seen = await cut_off_and_ask(flip)

        assert seen["begun"] >= CUT_OFF
        assert seen["answered"] == 60
        assert seen["open"] <= CONNECTIONS_AT_MOST
        assert await asyncio.to_thread(until, lambda: server.open == 0)


# TLS

OVER_TLS = """
import asyncio, json, sys
from flip_async import Environment, FlipClient, Retries
from tests.support.echo_server import cut_off_and_ask

async def main(origin):
    here = Environment(name="loopback", api_url=origin, oauth_url=origin)
    async with FlipClient(
        environment=here, client_id="your_client_id", client_secret="your_client_secret",
        deadline_s=40, retries=Retries(max_attempts=1),
    ) as flip:
        print(json.dumps(await cut_off_and_ask(flip)))

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, str]:
    """A server's side of TLS, and the file with the authority that vouches for it."""
    trustme = pytest.importorskip("trustme", reason="trustme is not installed")
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    return context, str(tmp_path / "authority.pem")


async def test_2000_tls_requests_that_are_cut_off_lose_no_connection(
    tls: tuple[ssl.SSLContext, str],
) -> None:
    """In a process of its own, since a process has one TLS context [E7]."""
    context, authority = tls
    with Server(context, takes_s=0.01) as server:
        arguments = ("-c", OVER_TLS, server.environment.api_url)
        async with (
            asyncio.timeout(NOT_FOR_EVER_S),
            Process(*arguments, SSL_CERT_FILE=authority) as process,
        ):
            await process.until_it_says("}")

    seen = json.loads(process.output.strip().splitlines()[-1])
    assert seen["begun"] >= CUT_OFF
    assert seen["answered"] == 60
    assert seen["open"] <= CONNECTIONS_AT_MOST


async def test_a_certificate_that_nobody_vouches_for_is_told_at_once(
    tls: tuple[ssl.SSLContext, str],
) -> None:
    """To calls and on the token's road, after one connection each (C14)."""
    context, _ = tls
    with Server(context) as server:
        async with FlipClient(environment=server.environment, api_key="fl_your_api_key") as flip:
            with pytest.raises(errors.ConnectionFailedError, match="CERTIFICATE_VERIFY") as call:
                await flip.request("GET", "/v1/sites")
        async with client_of(server) as flip:
            with pytest.raises(errors.TokenUnavailableError, match="CERTIFICATE_VERIFY"):
                await flip.request("GET", "/v1/sites")

    assert call.value.attempts == 1
    assert server.asked == 0


# Mocks


async def test_respx_catches_every_request_of_a_default_client() -> None:
    """Token requests included [E3]."""
    here = Environment(name="mocked", api_url="http://localhost:9", oauth_url="http://localhost:8")
    with respx.mock() as network:
        token = network.post("http://localhost:8/token").respond(
            json={"access_token": "at_1", "token_type": "Bearer", "expires_in": 3600}
        )
        sites = network.get("http://localhost:9/v1/sites").respond(json=[])
        async with FlipClient(environment=here, client_id="id", client_secret="secret") as flip:
            assert await flip.sites.list() == []
            assert (await flip.request("GET", "/v1/sites")).json() == []

    assert (token.call_count, sites.call_count) == (1, 2)
    assert sites.calls.last.request.headers["Authorization"] == "Bearer at_1"


async def test_a_patched_httpx_transport_catches_a_default_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As pytest-httpx does it: the method of httpx's own class is replaced."""
    seen: list[str] = []

    async def answer(transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        seen.append(request.url.path)
        return httpx.Response(200, json=[])

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", answer)
    here = Environment(name="mocked", api_url="http://localhost:9", oauth_url="http://localhost:8")
    async with FlipClient(environment=here, api_key="fl_your_api_key") as flip:
        assert await flip.sites.list() == []

    assert seen
    assert set(seen) == {"/v1/sites"}
