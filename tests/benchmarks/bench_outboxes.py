"""What an outbox costs a process: `SqliteOutbox` beside `RedisOutbox`, in one run.

Points are put by fifty, then claimed and settled by a thousand. What is counted is the CPU of
this process, all threads of it, and beside it that of the Redis server. `python -m
tests.benchmarks.bench_outboxes [POINTS]`, on a `redis-server` of its own.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

from flip_async.redis import RedisOutbox
from flip_async.telemetry import Outbox, OutboxDraft, SqliteOutbox
from flip_async.telemetry._completeness import Completeness
from flip_async.telemetry._points import intervals
from tests.support.redis_server import RedisServer
from tests.support.telemetry import point

BY = 50
ROUNDS = 7


def drafts(count: int) -> list[OutboxDraft]:
    draft = intervals(Completeness(), strict=False).draft
    return [
        draft(point(number, device_id=f"inv-{number % 200}"), "point") for number in range(count)
    ]


async def put_all(outbox: Outbox, some: list[OutboxDraft]) -> None:
    for begin in range(0, len(some), BY):
        await outbox.put(some[begin : begin + BY])


async def put_at_once(outbox: Outbox, some: list[OutboxDraft]) -> None:
    """Twenty callers that each put fifty: they share trips, or a commit."""
    for begin in range(0, len(some), 20 * BY):
        batch = some[begin : begin + 20 * BY]
        parts = [batch[at : at + BY] for at in range(0, len(batch), BY)]
        await asyncio.gather(*(outbox.put(part) for part in parts))


async def take_all(outbox: Outbox, count: int) -> None:
    while entries := await outbox.claim(1000):
        await outbox.settle(entries)
        count -= len(entries)
    assert count == 0


def server_cpu_s(server: RedisServer) -> float:
    with server.admin() as admin:
        used = admin.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


async def cost(work: Awaitable[None], count: int, server: RedisServer) -> tuple[float, float]:
    there, here = server_cpu_s(server), time.process_time()
    await work
    here = time.process_time() - here
    return here / count * 1e6, (server_cpu_s(server) - there) / count * 1e6


async def main(count: int, server: RedisServer, folder: Path) -> None:
    some = drafts(count)
    print(f"{count:,} points a round, bodies of {len(some[0].body)} bytes, {ROUNDS} rounds")
    for in_order in (False, True):
        outboxes: dict[str, Outbox] = {
            "SqliteOutbox": SqliteOutbox(folder / f"{in_order}.db"),
            "RedisOutbox": RedisOutbox(server.url),
        }
        for outbox in outboxes.values():
            endpoint = "BATTERY_COUNTER" if in_order else "BATTERY"
            await outbox.open(origin="https://x", endpoint=endpoint, in_order=in_order)
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for _ in range(ROUNDS):
            for name, outbox in outboxes.items():
                for what, put in (("by 50", put_all), ("20 times 50 at once", put_at_once)):
                    putting = await cost(put(outbox, some), count, server)
                    taking = await cost(take_all(outbox, count), count, server)
                    found.setdefault((name, f"put {what}"), []).append(putting)
                    found.setdefault((name, f"claim + settle after {what}"), []).append(taking)
        show(found, "in order" if in_order else "in any order")
        for outbox in outboxes.values():
            await outbox.aclose()


def show(found: dict[tuple[str, str], list[tuple[float, float]]], title: str) -> None:
    print(f"\n{title}: µs of CPU a point, medians")
    for what in dict.fromkeys(what for _, what in found):
        here = {
            name: statistics.median(own for own, _ in found[name, what])
            for name in ("SqliteOutbox", "RedisOutbox")
        }
        there = statistics.median(other for _, other in found["RedisOutbox", what])
        print(
            f"  {what:<40} SqliteOutbox {here['SqliteOutbox']:6.2f}  "
            f"RedisOutbox {here['RedisOutbox']:6.2f}  "
            f"ratio {here['RedisOutbox'] / here['SqliteOutbox']:5.2f}  (server {there:5.2f})"
        )


if __name__ == "__main__":
    redis_server = RedisServer().start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(
                main(int(sys.argv[1]) if sys.argv[1:] else 20_000, redis_server, Path(folder))
            )
    finally:
        redis_server.close()
