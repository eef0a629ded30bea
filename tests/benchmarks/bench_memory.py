"""What 1,000 requests in flight hold: each way in a process of its own, at a server that waits."""

import asyncio
import gc
import json
import statistics
import subprocess
import sys
import tracemalloc

import httpx

from flip_async import Environment, FlipClient
from tests.benchmarks._compare import tell
from tests.benchmarks._server import serving

IN_FLIGHT = 1000
RUNS = 3
WAYS = {
    "httpx": "httpx by hand",
    "ours": "flip_async",
    "aiohttp": "flip_async over aiohttp",
    "httpx2": "flip_async over httpx2",
}


async def hold(way: str, url: str) -> float:
    """KiB for each request that is out or waits for a place."""
    here = Environment(name="bench", api_url=url, oauth_url=url)
    if way == "httpx":
        http = httpx.AsyncClient(base_url=url, timeout=None)
        call, close = (lambda: http.get("/v1/commands")), http.aclose
    else:
        flip = FlipClient(
            environment=here,
            api_key="fl_your_api_key",
            timeout=None,
            deadline_s=None,
            **_options(way),  # type: ignore[arg-type]
        )
        call, close = (lambda: flip.request("GET", "/v1/commands")), flip.aclose
    warm = asyncio.create_task(call())
    await asyncio.sleep(0.5)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tasks = [asyncio.create_task(call()) for _ in range(IN_FLIGHT)]
    await asyncio.sleep(2)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    for task in (warm, *tasks):
        task.cancel()
    await asyncio.gather(warm, *tasks, return_exceptions=True)
    await close()
    return held / IN_FLIGHT / 1024


def _options(way: str) -> dict[str, object]:
    if way == "aiohttp":
        from flip_async.aiohttp import AiohttpTransport

        return {"transport": AiohttpTransport()}
    if way == "httpx2":
        from flip_async.httpx2 import Httpx2Transport

        return {"transport": Httpx2Transport()}
    return {}


def main() -> None:
    found: dict[str, list[float]] = {name: [] for name in WAYS.values()}
    with serving(600.0) as url:
        for _ in range(RUNS):
            for way, name in WAYS.items():
                done = subprocess.run(
                    [sys.executable, "-m", "tests.benchmarks.bench_memory", way, url],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                found[name].append(json.loads(done.stdout))
    medians = {name: statistics.median(values) for name, values in found.items()}
    tell(f"{IN_FLIGHT:,} requests in flight, for each", medians, unit="KiB")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["httpx" | "ours" | "aiohttp" | "httpx2" as way, url]:
            print(json.dumps(asyncio.run(hold(way, url))))
        case _:
            main()
