"""What a call comes to, whatever carries the bytes [E10]."""

import asyncio
import contextlib
import gzip
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from flip_async import Environment, FlipClient, Retries, errors
from tests.engines.engines import ENGINES, MakeOptions
from tests.support.wire import Exchange, Wire, becomes

KEY = "fl_your_api_key"
SOON = Retries(base_s=0.0, cap_s=0.0)
ONCE = Retries(max_attempts=1)
SHORT_S = 0.1
"""A limit that is meant to pass."""


def client(wire: Wire, engine: MakeOptions, **options: Any) -> FlipClient:
    options = {"retries": SOON, **options}
    if "client_id" not in options:
        options["api_key"] = KEY
    return FlipClient(environment=wire.environment, **engine(), **options)


def oauth(wire: Wire, engine: MakeOptions, **options: Any) -> FlipClient:
    return client(wire, engine, client_id="your_client_id", client_secret="your_secret", **options)


# Answers


async def test_an_answer_is_httpx_own(wire: Wire, engine: MakeOptions) -> None:
    """With all that belongs to it [E2]."""

    async def answer(exchange: Exchange) -> None:
        await exchange.answer(b'{"a": 1}', headers=("X-One: 1", "X-Two: a", "X-Two: b"))

    wire.answers = answer
    async with client(wire, engine) as flip:
        response = await flip.request("GET", "/v1/sites")

    assert type(response) is httpx.Response
    assert response.json() == {"a": 1}
    assert (response.http_version, response.reason_phrase) == ("HTTP/1.1", "OK")
    assert response.headers.get_list("x-two") == ["a", "b"]
    assert response.headers.raw[0] == (b"X-One", b"1")
    assert response.request.method == "GET"
    assert str(response.url).startswith(wire.origin)
    assert response.elapsed.total_seconds() >= 0
    assert response.history == []
    assert response.is_closed


async def test_an_error_carries_httpx_answer(wire: Wire, engine: MakeOptions) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(b'{"message": "no such site"}', status="404 Not Found")

    wire.answers = answer
    async with client(wire, engine) as flip:
        with pytest.raises(errors.NotFoundError) as found:
            await flip.site("hh-1042").get()

    assert type(found.value.response) is httpx.Response
    assert type(found.value.response.request) is httpx.Request
    assert "no such site" in str(found.value)


async def test_a_401_is_cured_by_one_refresh(wire: Wire, engine: MakeOptions) -> None:
    """For all requests together [A5]."""

    async def answer(exchange: Exchange) -> None:
        is_good = exchange.header("Authorization") == "Bearer at_2"
        await exchange.answer(b"[]", status="200 OK" if is_good else "401 Unauthorized")

    wire.answers = answer
    async with oauth(wire, engine) as flip:
        answers = await asyncio.gather(*(flip.commands.list() for _ in range(20)))

    assert answers == [[]] * 20
    assert wire.tokens == 2


async def test_a_compressed_answer_is_decoded_once(wire: Wire, engine: MakeOptions) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(
            gzip.compress(b"[" + b" " * 10_000 + b"]"), headers=("Content-Encoding: gzip",)
        )

    wire.answers = answer
    async with client(wire, engine) as flip:
        assert await flip.commands.list() == []
        response = await flip.request("GET", "/v1/commands")

    assert len(response.content) == 10_002
    assert response.headers["Content-Encoding"] == "gzip"


async def test_an_answer_that_cannot_be_decoded_was_carried_out(
    wire: Wire, engine: MakeOptions
) -> None:
    """So a POST is not sent again [B2]."""

    async def answer(exchange: Exchange) -> None:
        await exchange.answer(b"no gzip", headers=("Content-Encoding: gzip",))

    wire.answers = answer
    async with client(wire, engine) as flip:
        with pytest.raises(errors.DecodeError) as found:
            await flip.request("POST", "/v1/commission", body={})

    assert found.value.outcome_unknown
    assert len(wire.asked) == 1


async def test_an_answer_that_is_too_large_is_cut_off(wire: Wire, engine: MakeOptions) -> None:
    """And its connection with it, since nobody reads the rest."""

    async def answer(exchange: Exchange) -> None:
        if exchange.target == "/v1/large":
            await exchange.answer(b"x" * 3_000_000)
        else:
            await exchange.answer(b"[]")

    wire.answers = answer
    async with client(wire, engine, max_response_bytes=1_000_000) as flip:
        with pytest.raises(errors.DecodeError, match="1,000,000 bytes"):
            await flip.request("GET", "/v1/large")
        assert await flip.commands.list() == []

    await becomes(lambda: wire.open == 0)


@pytest.mark.parametrize("status", ["204 No Content", "200 OK"])
async def test_an_answer_without_a_body_leaves_its_connection_usable(
    wire: Wire, engine: MakeOptions, status: str
) -> None:
    async def answer(exchange: Exchange) -> None:
        if status.startswith("204"):
            await exchange.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            await exchange.answer(b"")

    wire.answers = answer
    async with client(wire, engine) as flip:
        for _ in range(5):
            assert (await flip.request("POST", "/v1/commission", body={})).content == b""

    assert wire.connections == 1


async def test_a_redirect_is_not_followed(wire: Wire, engine: MakeOptions) -> None:
    """The credential would go along."""

    async def answer(exchange: Exchange) -> None:
        await exchange.answer(status="302 Found", headers=(f"Location: {wire.origin}/elsewhere",))

    wire.answers = answer
    async with client(wire, engine) as flip:
        with pytest.raises(errors.StatusError):
            await flip.request("GET", "/v1/sites")

    assert [exchange.target for exchange in wire.asked] == ["/v1/sites"]


# Requests


async def test_a_request_is_sent_as_httpx_wrote_it(wire: Wire, engine: MakeOptions) -> None:
    """Names as they are spelled, nothing added, and a URL as it is quoted [E4]."""
    path = "/v1/site/a%2Fb%7Ec~%C3%A9/x;y=1"
    for make in (ENGINES["httpx"], engine):
        async with client(wire, make) as flip:
            await flip.request("GET", path, query={"q": "a b+c/d~é", "twice": ["1", "2"]})
            await flip.request("POST", "/v1/empty")
            await flip.request("POST", "/v1/body", body={"a": "é"}, extra_headers={"x-OwN": "1"})
            await flip.request("DELETE", "/v1/gone")

    for plain, carried in zip(wire.asked[:4], wire.asked[4:], strict=True):
        assert carried.head.split(b"\r\n")[0] == plain.head.split(b"\r\n")[0]
        assert _written(carried) == _written(plain)
        assert carried.body == plain.body


def _written(exchange: Exchange) -> list[tuple[str, str]]:
    # Without the length of no body, which some write and some do not: it says nothing.
    said = {("Content-Length", "0"), ("Connection", "keep-alive")}
    return sorted(pair for pair in exchange.headers if pair not in said)


async def test_no_cookie_of_an_answer_is_sent_with_another_credential(
    wire: Wire, engine: MakeOptions
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(b"[]", headers=("Set-Cookie: session=someone; Path=/",))

    wire.answers = answer
    origin = f"http://localhost:{wire.port}"  # a jar may take none from an address
    here = Environment(name="wire", api_url=origin, oauth_url=origin)
    async with FlipClient(environment=here, api_key=KEY, **engine()) as flip:
        await flip.commands.list()
        await flip.with_options(api_key="fl_another_key").commands.list()

    assert [exchange.header("Cookie") for exchange in wire.asked] == [None, None]


async def test_a_large_body_arrives_whole(wire: Wire, engine: MakeOptions) -> None:
    body = {"text": "x" * 3_000_000}
    async with client(wire, engine) as flip:
        await flip.request("POST", "/v1/commission", body=body)

    assert json.loads(wire.asked[0].body) == body
    assert wire.asked[0].header("Content-Length") == str(len(wire.asked[0].body))
    assert wire.asked[0].header("Transfer-Encoding") is None


# No answer


CutOff = Callable[[Exchange], Any]


async def _in_the_head(exchange: Exchange) -> None:
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Le")
    exchange.cut()


async def _in_the_body(exchange: Exchange) -> None:
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
    exchange.cut()


async def _in_a_chunk(exchange: Exchange) -> None:
    await exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{")
    exchange.cut()


async def _before_it(exchange: Exchange) -> None:
    exchange.cut()


async def _reset(exchange: Exchange) -> None:
    exchange.reset()


async def _no_http(exchange: Exchange) -> None:
    await exchange.write(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n\r\n")
    exchange.cut()


async def _bad_length(exchange: Exchange) -> None:
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: nine\r\n\r\n{}")
    exchange.cut()


cut_off = pytest.mark.parametrize(
    "cut", [_before_it, _reset, _in_the_head, _in_the_body, _in_a_chunk, _no_http, _bad_length]
)


@cut_off
async def test_a_get_whose_answer_is_lost_is_made_again(
    wire: Wire, engine: MakeOptions, cut: CutOff
) -> None:
    async def answer(exchange: Exchange) -> None:
        await (cut(exchange) if len(wire.asked) == 2 else exchange.answer(b"[]"))

    wire.answers = answer
    async with client(wire, engine) as flip:
        for _ in range(3):  # the second is cut, on a connection that was used before
            assert await flip.commands.list() == []

    assert len(wire.asked) == 4


@cut_off
@pytest.mark.parametrize("is_warm", [False, True], ids=["new connection", "used connection"])
async def test_a_post_whose_answer_is_lost_is_sent_once(
    wire: Wire, engine: MakeOptions, cut: CutOff, is_warm: bool
) -> None:
    """Its outcome is unknown; to send it again is not ours to decide [E4]."""

    async def answer(exchange: Exchange) -> None:
        await (exchange.answer(b"[]") if exchange.method == "GET" else cut(exchange))

    wire.answers = answer
    async with client(wire, engine) as flip:
        if is_warm:
            await flip.commands.list()
        with pytest.raises(errors.OutcomeUnknownError):
            await flip.request("POST", "/v1/commission", body={"a": 1})

    assert [exchange.method for exchange in wire.asked].count("POST") == 1


async def test_a_delete_whose_answer_was_lost_is_done(wire: Wire, engine: MakeOptions) -> None:
    """The repetition is ours, so that its 404 is no error (an engine's own would hide it)."""
    is_there = True

    async def answer(exchange: Exchange) -> None:
        nonlocal is_there
        if exchange.method == "GET":
            await exchange.answer(b"[]")
        elif is_there:
            is_there = False
            exchange.cut()
        else:
            await exchange.answer(status="404 Not Found")

    wire.answers = answer
    async with client(wire, engine) as flip:
        await flip.commands.list()
        await flip.request("DELETE", "/v1/site/hh-1042/device/battery-1")

    assert [exchange.method for exchange in wire.asked] == ["GET", "DELETE", "DELETE"]


async def test_a_connection_that_the_server_closed_meanwhile_carries_no_post(
    wire: Wire, engine: MakeOptions
) -> None:
    """Also where the loop had no time to look: its outcome would be unknown for nothing."""

    async def answer(exchange: Exchange) -> None:
        await exchange.answer(b"[]")
        if exchange.method == "GET":
            exchange.cut()

    wire.answers = answer
    async with client(wire, engine) as flip:
        for _ in range(20):
            await flip.commands.list()
            await flip.request("POST", "/v1/commission", body={})

    assert len(wire.asked) == 40


async def test_a_post_that_is_refused_was_not_sent(engine: MakeOptions) -> None:
    async with Wire() as nobody:
        here = nobody.environment
    async with FlipClient(environment=here, api_key=KEY, retries=SOON, **engine()) as flip:
        with pytest.raises(errors.ConnectionFailedError) as found:
            await flip.request("POST", "/v1/commission", body={})

    assert not isinstance(found.value, errors.OutcomeUnknownError)
    assert found.value.attempts == 4


async def test_a_host_that_nobody_knows_is_no_unknown_outcome(
    engine: MakeOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(*arguments: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    origin = "https://flip.invalid"
    here = Environment(name="nowhere", api_url=origin, oauth_url=origin)
    async with FlipClient(environment=here, api_key=KEY, retries=SOON, **engine()) as flip:
        with pytest.raises(errors.ConnectionFailedError) as found:
            await flip.request("POST", "/v1/commission", body={})

    assert not isinstance(found.value, errors.OutcomeUnknownError)
    assert found.value.attempts == 4


# Limits of time


async def _never(exchange: Exchange) -> None:
    await asyncio.Event().wait()


async def _never_whole(exchange: Exchange) -> None:
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
    await asyncio.Event().wait()


never = pytest.mark.parametrize("answer", [_never, _never_whole], ids=["no answer", "half of one"])


@never
async def test_the_read_timeout_ends_an_attempt(
    wire: Wire, engine: MakeOptions, answer: CutOff
) -> None:
    """A GET is made again; of a POST the outcome is unknown."""
    wire.answers = answer
    async with client(wire, engine, timeout=SHORT_S, retries=Retries(max_attempts=2)) as flip:
        with pytest.raises(errors.DeadlineError) as found:
            await flip.commands.list()
        assert found.value.attempts == 2
        with pytest.raises(errors.OutcomeUnknownError):
            await flip.request("POST", "/v1/commission", body={})

    assert len(wire.asked) == 3


@never
async def test_the_deadline_ends_a_call(wire: Wire, engine: MakeOptions, answer: CutOff) -> None:
    wire.answers = answer
    async with client(wire, engine) as flip:
        with pytest.raises(errors.DeadlineError):
            await flip.request("GET", "/v1/sites", deadline_s=SHORT_S)
        with pytest.raises(errors.OutcomeUnknownError):
            await flip.request("POST", "/v1/commission", body={}, deadline_s=SHORT_S)
        wire.answers = Exchange.answer
        assert (await flip.request("GET", "/v1/sites")).json() == {}

    assert len(wire.asked) == 3


async def test_a_server_that_reads_no_more_is_not_waited_for_for_ever(
    engine: MakeOptions,
) -> None:
    """The write timeout; the request may have been carried out as far as it came."""
    async with Wire(_never, reads_bodies=False) as wire:
        timeout = httpx.Timeout(60.0, write=SHORT_S)
        async with client(wire, engine, timeout=timeout, deadline_s=None) as flip:
            with pytest.raises(errors.OutcomeUnknownError):
                await flip.request("POST", "/v1/commission", body={"a": "x" * 20_000_000})

    assert len(wire.asked) == 1


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no list of open files here")
async def test_a_body_that_nobody_takes_leaves_no_socket_open(engine: MakeOptions) -> None:
    """Its connection would stay until the server is gone."""
    async with Wire(_never, reads_bodies=False) as wire:
        async with client(wire, engine, retries=ONCE) as flip:
            for _ in range(3):
                with pytest.raises(errors.OutcomeUnknownError):
                    await flip.request(
                        "POST", "/v1/commission", body={"a": "x" * 20_000_000}, deadline_s=SHORT_S
                    )
            await becomes(lambda: sockets_to(wire.port) == 0)
        assert wire.connections == 3


def sockets_to(port: int) -> int:
    """How many sockets of this process are connected to a port of this machine."""
    inodes = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the list itself is one of them
            inodes.add(str(entry.readlink()).removeprefix("socket:[").removesuffix("]"))
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[9] in inodes for row in rows)


async def test_a_post_that_waits_for_a_place_was_not_sent(
    wire: Wire, transports: MakeOptions
) -> None:
    """Whether its own limit ends the wait, or the deadline of the call."""
    gate = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await gate.wait()
        await exchange.answer(b"[]")

    wire.answers = answer
    options = transports(max_connections=1)
    async with FlipClient(
        environment=wire.environment, api_key=KEY, retries=ONCE, **options
    ) as flip:
        before = asyncio.create_task(flip.request("GET", "/v1/commands"))
        await becomes(lambda: bool(wire.asked))
        timeout = httpx.Timeout(60.0, pool=SHORT_S)
        with pytest.raises(errors.DeadlineError, match="no free connection") as of_pool:
            await flip.request("POST", "/v1/commission", body={}, timeout=timeout)
        with pytest.raises(errors.DeadlineError) as of_call:
            await flip.request("POST", "/v1/commission", body={}, deadline_s=SHORT_S)
        gate.set()
        await before
        await flip.request("POST", "/v1/commission", body={})

    assert not isinstance(of_pool.value, errors.OutcomeUnknownError)
    assert not isinstance(of_call.value, errors.OutcomeUnknownError)
    assert [exchange.method for exchange in wire.asked] == ["GET", "POST"]
