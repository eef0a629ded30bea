"""What is aiohttp's own, beside what every engine must hold (tests/engines) [E4]."""

import asyncio
import subprocess
import sys

import aiohttp
import httpx
import pytest

from flip_async import SANDBOX, FlipClient, Retries, errors
from flip_async.aiohttp import AiohttpTransport
from tests.support.wire import Exchange, Wire

httpx_aiohttp = pytest.importorskip("httpx_aiohttp", reason="httpx-aiohttp is not installed")
KEY = "fl_your_api_key"


async def _cut(exchange: Exchange) -> None:
    exchange.cut()


async def test_httpx_aiohttp_still_says_that_nothing_was_sent_where_it_was() -> None:
    """As long as this holds it is refused: where this test fails, look whether it may be let in."""
    async with (
        Wire(_cut) as wire,
        httpx.AsyncClient(transport=httpx_aiohttp.AiohttpTransport()) as http,
    ):
        with pytest.raises(httpx.ConnectTimeout):
            await http.post(f"{wire.origin}/v1/commission", json={})

    assert len(wire.asked) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"transport": httpx_aiohttp.AiohttpTransport()},
        lambda: {"transport": type("Mine", (httpx_aiohttp.AiohttpTransport,), {})()},
        lambda: {"http_client": httpx_aiohttp.HttpxAiohttpClient()},
        lambda: {"http_client": httpx.AsyncClient(transport=httpx_aiohttp.AiohttpTransport())},
        lambda: {
            "http_client": httpx.AsyncClient(mounts={"all://": httpx_aiohttp.AiohttpTransport()})
        },
    ],
    ids=["transport", "subclass", "its client", "in a client", "mounted"],
)
async def test_httpx_aiohttp_is_refused_with_the_reason(make: object) -> None:
    assert callable(make)
    options = make()
    with pytest.raises(errors.ConfigurationError, match=r"carried out several times.*instead"):
        FlipClient(environment=SANDBOX, api_key=KEY, **options)
    for given in options.values():
        await given.aclose()


async def test_an_error_holds_nothing_of_the_request() -> None:
    """Aiohttp's own has the headers in it, and the credential with them [B10]."""

    async def no_http(exchange: Exchange) -> None:
        await exchange.write(b"no HTTP at all\r\n\r\n")
        exchange.cut()

    async with Wire(no_http) as wire, httpx.AsyncClient(transport=AiohttpTransport()) as http:
        with pytest.raises(httpx.RemoteProtocolError) as found:
            await http.get(wire.origin, headers={"Authorization": f"Bearer {KEY}"})

    assert found.value.__cause__ is None
    assert found.value.__context__ is None
    assert KEY not in repr(found.value)
    frame = found.value.__traceback__
    while frame is not None:
        if "flip_async" in frame.tb_frame.f_code.co_filename:
            assert KEY not in repr(frame.tb_frame.f_locals)
        frame = frame.tb_next


@pytest.mark.parametrize(
    "headers",
    [{"X-Own": "a\r\nX-More: b"}, [(b"X-Own", b"\xe9")]],
    ids=["a line break", "no UTF-8"],
)
async def test_a_header_that_cannot_be_sent_is_our_mistake(headers: object) -> None:
    """And not weather: it is not tried again."""
    async with Wire() as wire, httpx.AsyncClient(transport=AiohttpTransport()) as http:
        with pytest.raises(httpx.LocalProtocolError):
            await http.get(wire.origin, headers=headers)  # type: ignore[arg-type]
        assert (await http.get(wire.origin)).json() == {}

    assert len(wire.asked) == 1


async def test_two_spellings_of_a_header_are_both_sent() -> None:
    async with Wire() as wire, httpx.AsyncClient(transport=AiohttpTransport()) as http:
        await http.get(wire.origin, headers=[("X-Own", "1"), ("x-own", "2"), ("X-Own", "3")])

    own = [value for name, value in wire.asked[0].headers if name.lower() == "x-own"]
    assert own == ["1", "2", "3"]


async def test_headers_as_long_as_httpx_takes_are_read() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(headers=(f"X-Long: {'x' * 50_000}",))

    async with Wire(answer) as wire, httpx.AsyncClient(transport=AiohttpTransport()) as http:
        response = await http.get(wire.origin)

    assert len(response.headers["X-Long"]) == 50_000


async def test_a_credential_in_the_url_is_httpx_business() -> None:
    """Aiohttp would write a header of its own from it."""
    async with Wire() as wire, httpx.AsyncClient(transport=AiohttpTransport()) as http:
        await http.get(wire.origin.replace("http://", "http://user:secret@"))

    assert wire.asked[0].header("Authorization") == "Basic dXNlcjpzZWNyZXQ="
    assert wire.asked[0].header("Host") == wire.origin.removeprefix("http://")


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "socks5h://127.0.0.1:1080"])
def test_a_socks_proxy_is_refused(proxy: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="aiohttp does not speak"):
        AiohttpTransport(proxy=proxy)


async def test_a_socks_proxy_of_the_environment_is_told_by_the_first_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALL_PROXY", "socks5://user:secret@127.0.0.1:1080")
    async with FlipClient(
        environment=SANDBOX, api_key=KEY, retries=Retries(), transport=AiohttpTransport()
    ) as flip:
        with pytest.raises(errors.ConfigurationError, match="aiohttp does not speak") as found:
            await flip.request("GET", "/v1/sites")

    assert "secret" not in str(found.value)


async def test_respx_does_not_see_an_engine() -> None:
    """So the how-to says to make the client without `transport=` in tests [E3]."""
    import respx

    async with (
        Wire() as wire,
        FlipClient(environment=wire.environment, api_key=KEY, transport=AiohttpTransport()) as flip,
    ):
        with respx.mock():
            assert (await flip.request("GET", "/v1/sites")).json() == {}


async def test_a_transport_that_is_closed_while_a_name_is_looked_up_cancels_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Aiohttp cancels its own look-up, and lets that cancellation out (B1)."""
    asked = asyncio.Event()

    async def never(*arguments: object, **options: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never)
    transport = AiohttpTransport()
    request = asyncio.create_task(
        transport.handle_async_request(httpx.Request("GET", "http://flip.invalid/v1/sites"))
    )
    await asked.wait()
    await transport.aclose()

    with pytest.raises(httpx.ConnectError, match="closed"):
        await request


def test_nothing_else_loads_aiohttp() -> None:
    """It takes longer than all the rest [E8]."""
    code = "import sys, flip_async, flip_async.fastapi; sys.exit('aiohttp' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_aiohttp_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['aiohttp'] = None\n"
        "try: import flip_async.aiohttp\n"
        "except ImportError as error: sys.exit(0 if 'flip-async[aiohttp]' in str(error) else 1)\n"
        "sys.exit(2)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_request_is_repeated_by_nobody_but_us() -> None:
    """The name is not public: where it goes, GET, PUT and DELETE are sent twice by aiohttp."""
    assert "_retry_connection" in aiohttp.ClientSession.ATTRS
