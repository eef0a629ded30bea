"""How long the event loop stands still at most, by a probe beside the work."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def longest_stall() -> AsyncIterator[list[float]]:
    """How long the event loop let a task wait that was ready, at most, in ms."""
    found = [0.0]

    async def watch() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            found[0] = max(found[0], (now - last) * 1e3)
            last = now

    task = asyncio.create_task(watch())
    await asyncio.sleep(0)
    try:
        yield found
        await asyncio.sleep(0)
    finally:
        task.cancel()
