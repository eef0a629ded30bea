"""50,000 calls that are cut off natively at random moments: is anything lost?

python -m tests.benchmarks.bench_cancellations [CALLS]

The calls are cancelled by `task.cancel()` and by `asyncio.timeout` in turn, at a server that takes
up to 10 ms. Afterwards 100 calls at once must be answered, the sockets be bounded, and the server
see all connections closed.
"""

import asyncio
import itertools
import random
import sys
import time
from pathlib import Path

from flip_async import FlipClient, Retries
from flip_async.aiohttp import AiohttpTransport
from flip_async.httpx2 import Httpx2Transport
from tests.benchmarks._compare import tell
from tests.support.echo_server import Server, answers, expected, until

CALLS = 50_000
AT_ONCE = 60
ENDS_WITHIN_S = 600.0


def descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


async def cut_off(flip: FlipClient, calls: int) -> dict[str, float]:
    luck = random.Random(11)
    cut = answered = peak = 0
    numbers = itertools.count()

    async def one(number: int) -> None:
        nonlocal cut, answered
        moment_s = luck.uniform(0.0002, 0.2)  # many in the middle, some too late
        try:
            if number % 2:
                async with asyncio.timeout(moment_s):
                    await flip.request("GET", "/v1/cut")
            else:
                task = asyncio.create_task(flip.request("GET", "/v1/cut"))
                asyncio.get_running_loop().call_later(moment_s, task.cancel)
                await task
            answered += 1
        except (TimeoutError, asyncio.CancelledError):
            cut += 1

    async def worker() -> None:
        nonlocal peak
        while (number := next(numbers)) < calls:
            await one(number)
            if number % 500 == 0:
                peak = max(peak, descriptors())

    async with asyncio.timeout(ENDS_WITHIN_S):
        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        paths = await answers(flip, range(100))
    assert paths == expected(range(100)), "a connection was lost, or an answer mixed up"
    return {"cut off": cut, "answered": answered, "answered afterwards, of 100": len(paths),
            "file descriptors at the peak, server included": peak}  # fmt: skip


async def measure(name: str, options: dict[str, object], calls: int) -> None:
    with Server(takes_s=0.01) as server:
        began = time.perf_counter()
        flip = FlipClient(
            environment=server.environment,
            api_key="fl_your_api_key",
            retries=Retries(max_attempts=1),
            **options,  # type: ignore[arg-type]
        )
        async with flip:
            values = await cut_off(flip, calls)
            values["open connections"] = server.open
        assert await asyncio.to_thread(until, lambda: server.open == 0), "a socket was left open"
        values["open when the client is closed"] = server.open
        values["seconds"] = time.perf_counter() - began
    tell(f"{calls:,} calls that are cancelled natively, {name}", values, unit="")


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else CALLS
    asyncio.run(measure("default", {}, calls))
    asyncio.run(measure("over aiohttp", {"transport": AiohttpTransport()}, calls // 5))
    asyncio.run(measure("over httpx2", {"transport": Httpx2Transport()}, calls // 5))


if __name__ == "__main__":
    main()
