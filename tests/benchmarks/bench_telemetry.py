"""Telemetry by the thousand, beside a hand-written loop of `httpx.post(json=…)`.

The server is a process of its own that answers at once with 1,000 times OK; what is counted is
the CPU of the client, and how long its event loop stood still at most.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import httpx

from flip_async import Environment, FlipClient
from flip_async._wire import encode
from flip_async.models import TelemetryBatch
from flip_async.telemetry import MemoryOutbox, SqliteOutbox
from tests.benchmarks._compare import compare, show, tell
from tests.benchmarks._stall import longest_stall
from tests.benchmarks.bench_codec import ANSWER, DICTS, POINTS, row_of

KEY = "fl_your_api_key"
BATCHES = 100
PATH = "/v1/telemetry/BATTERY"


async def serve() -> None:
    """Read a request by its length, answer, and so on; nothing but the bytes of it."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    answer = head % len(ANSWER) + ANSWER

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while headers := await reader.readuntil(b"\r\n\r\n"):
                length = int(headers.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                writer.write(answer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with asyncio.timeout(600):
        await server.serve_forever()


async def one_batch(url: str, flip: FlipClient, http: httpx.AsyncClient) -> None:
    async def by_hand() -> object:
        return (await http.post(PATH, json={"telemetry": DICTS})).json()

    async def ours() -> object:
        return await flip.telemetry.send(POINTS)

    async def by_hand_from_objects() -> object:
        rows = [row_of(point) for point in POINTS]
        return (await http.post(PATH, json={"telemetry": rows})).json()

    ways = {
        "by hand: httpx.post(json=…), dicts at hand": by_hand,
        "by hand: from the same attrs objects": by_hand_from_objects,
        "flip.telemetry.send(points)": ours,
    }
    show("1,000 points, one request", await compare(ways, calls=5), base=next(iter(ways)))


async def many_batches(url: str, flip: FlipClient, http: httpx.AsyncClient) -> None:
    async def by_hand() -> None:
        for _ in range(BATCHES):
            (await http.post(PATH, json={"telemetry": DICTS})).json()

    async def in_memory() -> None:
        async with flip.telemetry.uploader(outbox=MemoryOutbox(max_points=20_000)) as uploader:
            for _ in range(BATCHES):
                for point in POINTS:
                    await uploader.add(point)

    async def on_disk() -> None:
        with tempfile.TemporaryDirectory() as folder:
            outbox = SqliteOutbox(Path(folder) / "outbox.db")
            async with flip.telemetry.uploader(outbox=outbox, close_timeout_s=120) as uploader:
                for _ in range(BATCHES):
                    await uploader.add_many(POINTS)

    count = BATCHES * len(POINTS)
    ways: dict[str, Callable[[], Awaitable[None]]] = {
        "a loop of httpx.post(json=…)": by_hand,
        "uploader in memory": in_memory,
        "uploader on disk": on_disk,
    }
    spent: dict[str, float] = {}
    for name, way in ways.items():
        await way()
        cpu = time.process_time()
        await way()
        spent[name] = (time.process_time() - cpu) / count * 1e6
    title = f"{count:,} points, one by one into an uploader (on disk by the thousand), for each"
    show(title, spent, base=next(iter(ways)))


async def stalls(url: str, flip: FlipClient, http: httpx.AsyncClient) -> None:
    began = time.perf_counter()
    for _ in range(50):
        encode(TelemetryBatch(telemetry=POINTS))
    print(f"\nto check and encode one batch: {(time.perf_counter() - began) / 50 * 1e3:.1f} ms")
    worst = []
    for _ in range(9):
        async with longest_stall() as found, flip.telemetry.uploader() as uploader:
            for _ in range(20):
                for point in POINTS:
                    await uploader.add(point)
        worst.append(found[0])
    tell(
        "Longest stall of the event loop, 20 batches through an uploader",
        {f"median of {len(worst)} runs": sorted(worst)[len(worst) // 2]},
        unit="ms",
    )


async def main(url: str) -> None:
    environment = Environment(name="bench", api_url=url, oauth_url=url)
    headers = {"Authorization": f"Bearer {KEY}"}
    async with (
        FlipClient(environment=environment, api_key=KEY) as flip,
        httpx.AsyncClient(base_url=url, headers=headers) as http,
    ):
        for measure in (one_batch, many_batches, stalls):
            await measure(url, flip, http)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
    else:
        command = [sys.executable, "-m", "tests.benchmarks.bench_telemetry", "serve"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            try:
                asyncio.run(main(f"http://127.0.0.1:{int(server.stdout.readline())}"))
            finally:
                server.kill()
