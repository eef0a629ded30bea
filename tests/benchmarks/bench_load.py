"""Many callers at once against a server that takes 20 ms: CPU and delay for each request.

The server is a process of its own on loopback; every way runs in turn, in a process of
its own too, so that one does not pay for another's garbage.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import httpx

from flip_async import ApiKeyAuth, Environment, FlipClient
from tests.benchmarks._server import serving

KEY = "fl_your_api_key"
REQUESTS = 1_000
ROUNDS = 3
TAKES_S = 0.02


async def measure(way: str, url: str, callers: int) -> None:
    if way == "httpx as shipped":
        auth = ApiKeyAuth(KEY, origins=[url])
        http = httpx.AsyncClient(base_url=url, auth=auth, timeout=60)

        async def call() -> object:
            return (await http.get("/v1/sites", params={"skip": 0, "limit": 1})).json()

        result = await load(call, callers)
        await http.aclose()
    else:
        environment = Environment(name="bench", api_url=url, oauth_url=url)
        async with FlipClient(environment=environment, api_key=KEY) as flip:
            result = await load(lambda: _list(flip), callers)
    print(json.dumps(result))


async def _list(flip: FlipClient) -> object:
    return await flip.sites.list(limit=1, max_items=1)


async def load(call: Callable[[], Awaitable[object]], callers: int) -> dict[str, float]:
    delays: list[float] = []
    left = iter(range(REQUESTS))

    async def caller() -> None:
        for _ in left:
            began = time.perf_counter()
            await call()
            delays.append(time.perf_counter() - began)

    await call()
    cpu = time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    cpu = time.process_time() - cpu
    delays.sort()
    return {"cpu_us": cpu / REQUESTS * 1e6, "p99_ms": delays[int(len(delays) * 0.99)] * 1e3}


def run(way: str, url: str, callers: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.bench_load", way, url, str(callers)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    result: dict[str, float] = json.loads(done.stdout)
    return result


def main() -> None:
    with serving(TAKES_S) as url:
        print(
            f"\n{REQUESTS} GETs to a server that takes {TAKES_S * 1e3:.0f} ms (medians of {ROUNDS})"
        )
        for callers in (1, 20, 100, 500):
            ways = {way: [] for way in ("httpx as shipped", "flip_async")}
            for _ in range(ROUNDS if callers > 1 else 1):
                for way, results in ways.items():
                    results.append(run(way, url, callers))
            for way, results in ways.items():
                cpu = statistics.median(result["cpu_us"] for result in results)
                p99 = statistics.median(result["p99_ms"] for result in results)
                print(f"  {callers:4} callers  {way:<18} {cpu:8.0f} µs CPU  p99 {p99:8.1f} ms")


if __name__ == "__main__":
    match sys.argv[1:]:
        case [way, url, callers]:
            asyncio.run(measure(way, url, int(callers)))
        case _:
            main()
