"""A million points from 10,000 devices, through an emulator that misbehaves at random.

Every accepted point has to arrive or be reported. The emulator is a process of its own, on
loopback; it counts what arrives. `python -m tests.benchmarks.soak_telemetry [POINTS]`.

With `restarts` as a second argument the uploader is left and made anew in the middle, 40 times:
by cancellation, natively or by a scope, at random moments, with points in memory and on disk in
turn. What was reported as undelivered is added again, as its user would.
"""

import asyncio
import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio

from flip_async import Environment, FlipClient
from flip_async.emulator import Emulator
from flip_async.errors import UndeliveredTelemetryError
from flip_async.models import TelemetryPoint
from flip_async.telemetry import MemoryOutbox, SqliteOutbox
from tests.support.telemetry import commission_batteries, number_of, point

DEVICES = 10_000
RESTARTS = 40
FAULTS: list[dict[str, Any]] = [
    {"status": 429, "retry_after": "1"},
    {"status": 500},
    {"status": 503},
    {"cut": "before"},
    {"cut": "in"},
    {"cut": "after"},
    {"delay_s": 0.5},
]


async def serve(count: int) -> None:
    """Emulate until standard input ends, then tell what arrived."""
    arrived = bytearray(count)

    def take(row: dict[str, object]) -> None:
        index = number_of(row) * DEVICES + int(str(row["device_id"])[4:])
        arrived[index] = min(255, arrived[index] + 1)

    async with Emulator(on_telemetry=take) as emulator:
        await commission_batteries(emulator, [f"inv-{number}" for number in range(DEVICES)])
        print(json.dumps({"url": emulator.api_url, "key": emulator.api_key}), flush=True)
        ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        faults = 0
        while not ended.done():
            emulator.fail_next(path="/v1/telemetry/BATTERY", **random.choice(FAULTS))
            faults += 1
            while emulator._app._faults and not ended.done():
                await asyncio.sleep(0.02)
            await asyncio.sleep(random.uniform(0.1, 0.6))
    print(
        json.dumps(
            {
                "missing": arrived.count(0),
                "faults": faults,
                "extra": sum(arrived) - count + arrived.count(0),
            }
        )
    )


def points(count: int) -> Iterator[TelemetryPoint]:
    for interval in range(count // DEVICES):
        for device in range(DEVICES):
            yield point(interval, device_id=f"inv-{device}")


def memory_mb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


async def upload(url: str, key: str, count: int) -> None:
    environment = Environment(name="soak", api_url=url, oauth_url=url)
    rejected, undelivered, memory = 0, 0, []

    def on_rejected(point: TelemetryPoint, why: str) -> None:
        nonlocal rejected
        rejected += 1

    def on_undelivered(points: object, error: object) -> None:
        nonlocal undelivered
        undelivered += len(points)  # type: ignore[arg-type]

    began, cpu = time.monotonic(), time.process_time()
    async with (
        FlipClient(environment=environment, api_key=key) as flip,
        flip.telemetry.uploader(
            on_rejected=on_rejected, on_undelivered=on_undelivered, close_timeout_s=300
        ) as uploader,
    ):
        for number, one in enumerate(points(count)):
            await uploader.add(one)
            if number % (count // 10) == 0:
                memory.append(memory_mb())
        await uploader.flush()
        stats = uploader.stats
        memory.append(memory_mb())
    took, cpu = time.monotonic() - began, time.process_time() - cpu
    print(
        f"{count:,} points in {took:.0f} s: {count / took:,.0f} points/s, "
        f"{cpu / count * 1e6:.1f} µs CPU/point (making the point included)"
    )
    print(
        f"sent {stats.sent:,}, rejected {rejected}, undelivered {undelivered}, "
        f"sent again {stats.retried:,}"
    )
    print(f"memory at each tenth, MB: {memory}")


class Lives:
    """One user's points through many uploaders, each of which is left in the middle."""

    def __init__(self, flip: FlipClient, path: Path, count: int) -> None:
        self._flip = flip
        self._path = path
        self._left = points(count)
        self._batch: list[TelemetryPoint] = []  # being added
        self._again: deque[TelemetryPoint] = deque()  # reported as undelivered

    async def live(self, *, on_disk: bool, close_timeout_s: float) -> None:
        uploader = self._flip.telemetry.uploader(
            outbox=SqliteOutbox(self._path) if on_disk else MemoryOutbox(),
            on_undelivered=lambda points, _: self._again.extend(points),
            close_timeout_s=close_timeout_s,
        )
        async with uploader:
            while batch := self._next_batch():
                await uploader.add_many(batch)
                self._batch.clear()  # where that was cancelled, some are added twice
            await uploader.flush()

    def _next_batch(self) -> list[TelemetryPoint]:
        if not self._batch:
            again = [self._again.popleft() for _ in range(min(1000, len(self._again)))]
            self._batch.extend(again or itertools.islice(self._left, 1000))
        return self._batch


async def upload_with_restarts(url: str, key: str, count: int) -> None:
    environment = Environment(name="soak", api_url=url, oauth_url=url)
    ways = Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        async with FlipClient(environment=environment, api_key=key) as flip:
            lives = Lives(flip, Path(folder) / "outbox.db", count)
            for number in range(RESTARTS):
                life = lives.live(
                    on_disk=number % 2 == 1, close_timeout_s=random.choice([0.0001, 0.2, 5])
                )
                way, after_s = random.choice(["natively", "by a scope"]), random.uniform(0.05, 1.0)
                ways[way] += 1
                with contextlib.suppress(TimeoutError, UndeliveredTelemetryError):
                    if way == "natively":
                        await asyncio.wait_for(life, after_s)
                    else:
                        with anyio.move_on_after(after_s):
                            await life
            await lives.live(on_disk=True, close_timeout_s=300)
    print(f"left {dict(ways)}, then to its end")


def main(count: int, *, restarts: bool) -> int:
    command = [sys.executable, "-m", "tests.benchmarks.soak_telemetry", "serve", str(count)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        where = json.loads(server.stdout.readline())
        run = upload_with_restarts if restarts else upload
        asyncio.run(run(where["url"], where["key"], count))
        result = json.loads(server.communicate()[0])
    print(
        f"{result['faults']} faults; {result['missing']} points missing, "
        f"{result['extra']} arrived more than once"
    )
    return 1 if result["missing"] else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(int(sys.argv[2])))
    else:
        count = int(sys.argv[1]) if sys.argv[1:] else 1_000_000
        sys.exit(main(count, restarts="restarts" in sys.argv))
