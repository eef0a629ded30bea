"""A million points from 10,000 devices, through an emulator that misbehaves at random.

Every accepted point has to arrive or be reported. The emulator is a process of its own, on
loopback; it counts what arrives. `python -m tests.benchmarks.soak_telemetry [POINTS]`.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flip_async import Environment, FlipClient
from flip_async.emulator import Emulator
from flip_async.models import TelemetryPoint
from tests.support.telemetry import commission_batteries, number_of, point

DEVICES = 10_000
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


def main(count: int) -> int:
    command = [sys.executable, "-m", "tests.benchmarks.soak_telemetry", "serve", str(count)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        where = json.loads(server.stdout.readline())
        asyncio.run(upload(where["url"], where["key"], count))
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
        sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 1_000_000))
