"""Processes that send points from one outbox in Redis, and are killed; see the tests.

Each worker has points of its own, adds them a batch at a time, and writes down how far it got: a
number is accepted when it was written. One that was killed is started again where it stood; what
was in the batch that nobody wrote down is added a second time, and may arrive twice for that.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import attrs
import msgspec

from flip_async import Environment, FlipClient
from flip_async.redis import RedisOutbox
from tests.support.processes import Process
from tests.support.telemetry import number_of, point

LEASE_S = 2.0
DEVICES = 100


@attrs.frozen(kw_only=True)
class Outcome:
    """What came of it.

    Attributes:
        lost: Accepted points that never arrived.
        twice: Points that arrived more than once.
        added_twice: Points that may have been added more than once, since nobody wrote them down.
        disorder: How often a point arrived for the first time after a later one of its device.
        kills: How many workers were killed.
        took_s: Seconds, the start of the processes included.
    """

    lost: int
    twice: int
    added_twice: int
    disorder: int
    kills: int
    took_s: float


# The server: it answers at once, and counts.


async def serve(count: int) -> None:
    arrived = bytearray(count)
    last: dict[str, int] = {}
    disorder = 0

    def take(row: dict[str, Any]) -> None:
        nonlocal disorder
        number = int(row["timestamp"]) if "timestamp" in row else number_of(row)
        if not arrived[number]:
            disorder += number < last.get(row["device_id"], -1)
            last[row["device_id"]] = number
        arrived[number] = min(255, arrived[number] + 1)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                rows = msgspec.json.decode(await reader.readexactly(length))["telemetry"]
                for row in rows:
                    take(row)
                body = b"[" + b",".join([b'{"status":"OK","message":""}'] * len(rows)) + b"]"
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                    b"content-length: %d\r\n\r\n%b" % (len(body), body)
                )
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=1 << 20)
    print(f"port {server.sockets[0].getsockname()[1]}", flush=True)
    ended = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set_result, None)
    await ended
    twice = sum(times > 1 for times in arrived)
    missing = [number for number, times in enumerate(arrived) if not times]
    print(json.dumps({"missing": len(missing), "twice": twice, "disorder": disorder}), flush=True)


# A worker


async def work(redis_url: str, api_url: str, kind: str, begin: int, end: int) -> None:
    environment = Environment(name="fleet", api_url=api_url, oauth_url=api_url)
    outbox = RedisOutbox(redis_url, lease_s=LEASE_S)
    async with FlipClient(environment=environment, api_key="fl_your_api_key") as flip:
        make = flip.telemetry.uploader if kind == "intervals" else flip.telemetry.counter_uploader
        async with make(outbox=outbox, max_delay_s=0.05, close_timeout_s=300) as uploader:
            while begin < end:
                batch = range(begin, min(end, begin + random.randint(1, 1000)))
                # A batch that is cut off by a kill has to be known whole.
                os.write(1, b"adds %d\n" % batch[-1])
                await uploader.add_many([made(kind, number) for number in batch])
                begin = batch[-1] + 1
                os.write(1, b"has %d\n" % begin)
    os.write(1, b"done\n")


def made(kind: str, number: int) -> Any:
    device = f"inv-{number // 1_000}-{number % DEVICES}"  # of one worker alone
    if kind == "counters":
        return {"device_id": device, "timestamp": number}
    return point(number, device_id=device)


# Who starts and kills them


@attrs.define
class Worker:
    """One of them, over all its lives."""

    command: Sequence[str]
    begin: int
    end: int
    tried: int = 0  # one more than the last number that it began to add
    added_twice: int = 0
    is_done: bool = False
    process: Process | None = None
    reader: "asyncio.Task[None] | None" = None

    async def start(self) -> None:
        self.added_twice += max(0, self.tried - self.begin)
        self.process = Process(*self.command, str(self.begin), str(self.end))
        await self.process.start()
        self.reader = asyncio.create_task(self._read(self.process))

    async def _read(self, process: Process) -> None:
        assert process._process is not None
        assert process._process.stdout is not None
        async for line in process._process.stdout:
            word, _, number = line.decode().partition(" ")
            if word == "has":
                self.begin = int(number)
            elif word == "adds":
                self.tried = int(number) + 1
            elif word == "done\n":
                self.is_done = True
            else:
                process.output += line.decode()

    async def kill(self) -> None:
        """End it, if it has begun and not ended."""
        if self.process is None or self.process._process is None:
            return
        if self.process._process.returncode is None:
            self.process.send(signal.SIGKILL)
        await self.ended()

    async def ended(self) -> None:
        assert self.process is not None
        assert self.process._process is not None
        assert self.reader is not None
        await self.reader
        await self.process._process.wait()  # no signal: that would reap it beside the loop


async def run(
    redis_url: str, *, count: int, workers: int, rounds: int, kind: str = "intervals"
) -> Outcome:
    """Send points from several processes, of which two are killed in each round."""
    began = time.monotonic()
    async with _server(count) as (api_url, told):
        # A device is of one worker alone: shares are whole thousands.
        share = count // workers // 1_000 * 1_000
        bounds = [*(number * share for number in range(workers)), count]
        command = ("-m", "tests.support.points_fleet", "work", redis_url, api_url, kind)
        crew = [Worker(command, *bounds[at : at + 2]) for at in range(workers)]
        try:
            kills = await _send_and_kill(crew, count, rounds, bounds)
        finally:
            for worker in crew:
                await worker.kill()
        result = await told()
    return Outcome(
        lost=result["missing"],
        twice=result["twice"],
        added_twice=sum(worker.added_twice for worker in crew),
        disorder=result["disorder"],
        kills=kills,
        took_s=time.monotonic() - began,
    )


async def _send_and_kill(
    crew: Sequence[Worker], count: int, rounds: int, bounds: Sequence[int]
) -> int:
    """Let them send all there is; gives how many were killed."""
    kills = 0
    for worker in crew:
        await worker.start()
    for number in range(rounds):
        await _until_accepted(crew, count * (number + 1) // (rounds + 1), bounds)
        for worker in random.sample(crew, 2):
            if not worker.is_done:
                await worker.kill()
                kills += 1
                await worker.start()
    for worker in crew:
        await worker.ended()
        assert worker.process is not None
        assert worker.is_done, worker.process.output
    return kills


@contextlib.asynccontextmanager
async def _server(count: int) -> AsyncIterator[tuple[str, Any]]:
    async with Process("-m", "tests.support.points_fleet", "serve", str(count)) as server:
        await server.until_it_says("port ")
        port = int(server.output.split()[-1])

        async def told() -> dict[str, int]:
            await server.end(signal.SIGTERM)
            result: dict[str, int] = json.loads(server.output.splitlines()[-1])
            return result

        yield f"http://127.0.0.1:{port}", told


async def _until_accepted(crew: Sequence[Worker], count: int, bounds: Sequence[int]) -> None:
    def accepted() -> int:
        return sum(one.begin - begin for one, begin in zip(crew, bounds, strict=False))

    while accepted() < count:
        _check(crew)
        await asyncio.sleep(random.uniform(0.0, 0.05))


def _check(crew: Sequence[Worker]) -> None:
    for worker in crew:
        assert worker.reader is not None
        assert worker.process is not None
        assert not worker.reader.done() or worker.is_done, worker.process.output


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    if what == "serve":
        asyncio.run(serve(int(arguments[0])))
    else:
        redis_url, api_url, kind, begin, end = arguments
        asyncio.run(work(redis_url, api_url, kind, int(begin), int(end)))
