"""A small typed GET over a loopback socket ÷ the same by hand with httpx at one caller, in CPU.

Blocks take turns in one process; the server is a process of its own. httpx at many callers has
two modes and is no measure, so that every figure is compared with one caller of httpx.
"""

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable

import httpx

from flip_async import ApiKeyAuth, Environment, FlipClient
from tests.benchmarks._server import serving

KEY = "fl_your_api_key"
CALLS, BLOCKS = 400, 15


async def block(call: Callable[[], Awaitable[object]], callers: int) -> float:
    left = iter(range(CALLS))

    async def caller() -> None:
        for _ in left:
            await call()

    gc.collect()
    began = time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return (time.process_time() - began) / CALLS * 1e6


async def measure(url: str) -> None:
    environment = Environment(name="bench", api_url=url, oauth_url=url)
    auth = ApiKeyAuth(KEY, origins=[url])
    async with (
        httpx.AsyncClient(base_url=url, auth=auth) as by_hand,
        FlipClient(environment=environment, api_key=KEY) as flip,
    ):

        async def httpx_call() -> object:
            return (await by_hand.get("/v1/commands")).json()

        async def typed() -> object:
            return await flip.commands.list()

        async def untyped() -> object:
            return await flip.request("GET", "/v1/commands")

        ways = {
            "httpx by hand, 1 caller": (httpx_call, 1),
            "typed, 1 caller": (typed, 1),
            "flip.request, 1 caller": (untyped, 1),
            "typed, 10 callers": (typed, 10),
            "typed, 100 callers": (typed, 100),
            "typed, 500 callers": (typed, 500),
        }
        took: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(BLOCKS + 1):
            for name, (call, callers) in ways.items():
                cpu = await block(call, callers)
                if number:  # the first is for warming up
                    took[name].append(cpu)
    base = statistics.median(took["httpx by hand, 1 caller"])
    print("\nA small GET over a socket")
    for name, values in took.items():
        value = statistics.median(values)
        print(f"  {name:<28} {value:8.0f} µs CPU  {value / base:5.2f}")


def main() -> None:
    with serving() as url:
        asyncio.run(measure(url))


if __name__ == "__main__":
    main()
