"""Compare ways of doing the same in one run, by medians of interleaved rounds."""

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping


async def compare(
    ways: Mapping[str, Callable[[], Awaitable[object]]], *, calls: int, rounds: int = 15
) -> dict[str, float]:
    """CPU per call in µs, the median over rounds that take turns."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        await way()
    for _ in range(rounds):
        for name, way in ways.items():
            gc.collect()
            gc.disable()
            began = time.process_time()
            for _ in range(calls):
                await way()
            took[name].append((time.process_time() - began) / calls * 1e6)
            gc.enable()
            await asyncio.sleep(0)
    return {name: statistics.median(values) for name, values in took.items()}


def show(title: str, medians: Mapping[str, float], *, base: str) -> None:
    print(f"\n{title}")
    for name, value in medians.items():
        print(f"  {name:<46} {value:9.2f} µs  {value / medians[base]:6.2f}")
