"""A small call over a loopback socket ÷ a GET by hand with httpx at one caller.

Blocks take turns in one process; the server is a process of its own. httpx at many callers has
two modes and is no measure, so that every figure is compared with one caller of httpx.
"""

import asyncio
import contextlib
import gc
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

import aiohttp
import attrs
import httpx
import httpx2
from authlib.integrations.httpx_client import AsyncOAuth2Client

from flip_async import ApiKeyAuth, Environment, FlipClient
from flip_async.aiohttp import AiohttpTransport
from flip_async.httpx2 import Httpx2Transport
from tests.benchmarks._compare import show, tell
from tests.benchmarks._server import serving

KEY = "fl_your_api_key"
PATH = "/v1/commands"
CALLERS = (1, 10, 100, 500)
BASE = "httpx by hand, 1"
TAKES_S = 0.02

Call = Callable[[], Awaitable[object]]


@attrs.frozen
class Block:
    """What a number of calls came to: CPU for each in µs, and how long each took in ms."""

    cpu_us: float
    delays_ms: list[float]


async def block(call: Call, callers: int, calls: int) -> Block:
    left = iter(range(calls))
    delays: list[float] = []

    async def caller() -> None:
        for _ in left:
            began = time.perf_counter()
            await call()
            delays.append((time.perf_counter() - began) * 1e3)

    gc.collect()
    began = time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return Block((time.process_time() - began) / calls * 1e6, sorted(delays))


class Ways:
    """Clients of all kinds, for one server."""

    def __init__(self, url: str, stack: contextlib.AsyncExitStack) -> None:
        self._url = url
        self._here = Environment(name="bench", api_url=url, oauth_url=url)
        self._stack = stack

    async def flip(self, *, traced: bool = False, **options: object) -> FlipClient:
        flip = FlipClient(environment=self._here, api_key=KEY, **options)  # type: ignore[arg-type]
        await self._stack.enter_async_context(flip)
        if not traced:
            # As where OpenTelemetry's API is not installed, which it is here.
            await flip._session.runtime.get_ready()
            flip._session.runtime.tracing = None
        return flip

    async def by_hand(self) -> Call:
        auth = ApiKeyAuth(KEY, origins=[self._url])
        http = httpx.AsyncClient(
            base_url=self._url, auth=auth, timeout=60, limits=httpx.Limits(max_connections=100)
        )
        await self._stack.enter_async_context(http)

        async def call() -> object:
            return (await http.get(PATH)).json()

        return call

    async def by_httpx2(self) -> Call:
        headers = {"Authorization": f"Bearer {KEY}"}
        http = httpx2.AsyncClient(base_url=self._url, headers=headers, timeout=60)
        await self._stack.enter_async_context(http)

        async def call() -> object:
            return (await http.get(PATH)).json()

        return call

    async def by_authlib(self) -> Call:
        token = {"access_token": "opaque", "token_type": "Bearer", "expires_in": 3600}
        http = AsyncOAuth2Client("id", "secret", token=token, timeout=60)
        await self._stack.enter_async_context(http)

        async def call() -> object:
            return (await http.get(self._url + PATH)).json()

        return call

    async def by_aiohttp(self) -> Call:
        http = aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"})
        await self._stack.enter_async_context(http)

        async def call() -> object:
            async with http.get(self._url + PATH) as answer:
                return await answer.json()

        return call


def typed(flip: FlipClient) -> Call:
    async def call() -> object:
        return await flip.commands.list()

    return call


def patch(flip: FlipClient) -> Call:
    return lambda: flip.commands.update_status("c1", "OK")


def untyped(flip: FlipClient) -> Call:
    return lambda: flip.request("GET", PATH)


async def ways_of(url: str, stack: contextlib.AsyncExitStack) -> dict[str, tuple[Call, int]]:
    """Each way of calling, with its number of callers."""
    ways = Ways(url, stack)
    plain, traced = await ways.flip(), await ways.flip(traced=True)
    over_aiohttp = await ways.flip(transport=AiohttpTransport())
    over_httpx2 = await ways.flip(transport=Httpx2Transport())
    user_http = await stack.enter_async_context(httpx2.AsyncClient(timeout=60))
    through_httpx2 = await ways.flip(http_client=user_http)
    found: dict[str, tuple[Call, int]] = {BASE: (await ways.by_hand(), 1)}

    def add(name: str, call: Call, callers: tuple[int, ...] = CALLERS) -> None:
        found.update({f"{name}, {number}": (call, number) for number in callers})

    add("typed", typed(plain))
    add("typed, with OpenTelemetry's API", typed(traced), (1, 100))
    add("flip.request", untyped(plain), (1, 100))
    add("typed PATCH", patch(plain), (1, 100))
    add("typed over aiohttp", typed(over_aiohttp))
    add("typed over httpx2", typed(over_httpx2), (1, 100))
    add("typed through an httpx2.AsyncClient", typed(through_httpx2), (1,))
    add("authlib by hand", await ways.by_authlib(), (1,))
    add("httpx2 by hand", await ways.by_httpx2(), (1,))
    add("raw aiohttp", await ways.by_aiohttp())
    return found


async def cpu(url: str, *, calls: int = 60, rounds: int = 40) -> None:
    async with contextlib.AsyncExitStack() as stack:
        ways = await ways_of(url, stack)
        took: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name, (call, callers) in ways.items():
                one = await block(call, callers, max(calls, 2 * callers))
                if number:  # the first is for warming up
                    took[name].append(one.cpu_us)
    show(
        f"CPU of a small call, by the number of callers ({rounds} rounds of short blocks)",
        _within_rounds(took),
        base=BASE,
    )


def _within_rounds(took: dict[str, list[float]]) -> dict[str, float]:
    """Medians of what each is to the base in the same round, times the base's own median.

    A machine that is shared is now fast and now slow; within a round it is one or the other.
    """
    base = took[BASE]
    usual = statistics.median(base)
    return {
        name: usual * statistics.median(one / by for one, by in zip(values, base, strict=True))
        for name, values in took.items()
    }


async def delay(url: str, *, calls: int = 600, rounds: int = 3) -> None:
    async with contextlib.AsyncExitStack() as stack:
        ways = Ways(url, stack)
        calls_of: dict[str, Call] = {
            "httpx by hand": await ways.by_hand(),
            "typed": typed(await ways.flip()),
            "typed over aiohttp": typed(await ways.flip(transport=AiohttpTransport())),
            "typed over httpx2": typed(await ways.flip(transport=Httpx2Transport())),
        }
        p50: dict[str, list[float]] = {}
        p99: dict[str, list[float]] = {}
        spent: dict[str, list[float]] = {}
        for _ in range(rounds):
            for callers in CALLERS:
                for name, call in calls_of.items():
                    one = await block(call, callers, calls if callers > 1 else calls // 10)
                    key = f"{name}, {callers}"
                    p50.setdefault(key, []).append(one.delays_ms[len(one.delays_ms) // 2])
                    p99.setdefault(key, []).append(one.delays_ms[len(one.delays_ms) * 99 // 100])
                    spent.setdefault(key, []).append(one.cpu_us)
    what = f"a server that takes {TAKES_S * 1e3:.0f} ms, by the number of callers"
    tell(f"p50 at {what}", _medians(p50), unit="ms")
    tell(f"p99 at {what}", _medians(p99), unit="ms")
    tell(f"CPU at {what}", _medians(spent), unit="µs")


def _medians(lists: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in lists.items()}


def main() -> None:
    is_quick = "quick" in sys.argv[1:]
    with serving() as url:
        asyncio.run(cpu(url, calls=50, rounds=1) if is_quick else cpu(url))
    with serving(TAKES_S) as url:
        asyncio.run(delay(url, calls=100, rounds=1) if is_quick else delay(url))


if __name__ == "__main__":
    main()
