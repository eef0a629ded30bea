"""Compare ways of doing the same in one run, by medians of interleaved rounds."""

import asyncio
import gc
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path


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


def show(title: str, medians: Mapping[str, float], *, base: str, unit: str = "µs") -> None:
    """Print a table, each line with its ratio to one of them."""
    print(f"\n{title}")
    for name, value in medians.items():
        print(f"  {name:<46} {value:9.2f} {unit}  {value / medians[base]:6.2f}")
    record(title, unit, medians, base=base)


def tell(title: str, values: Mapping[str, float], *, unit: str) -> None:
    """Print figures that are compared with nothing."""
    print(f"\n{title}")
    for name, value in values.items():
        print(f"  {name:<46} {value:9.2f} {unit}")
    record(title, unit, values)


def record(title: str, unit: str, values: Mapping[str, float], *, base: str | None = None) -> None:
    """Keep a table as a line of JSON, where somebody collects them."""
    target = os.environ.get("BENCH_FIGURES")
    if target:
        table = {"title": title, "unit": unit, "base": base, "values": dict(values)}
        with Path(target).open("a", encoding="utf-8") as file:
            file.write(json.dumps(table, ensure_ascii=False) + "\n")
