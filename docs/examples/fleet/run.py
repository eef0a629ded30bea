"""Play it through on this machine: a local Flip, Redis, four processes, a worker, a dispatch.

It needs `redis-server` or `valkey-server` on the path, or `REDIS_URL`; no account, no network.
One process of the application and the worker are killed on the way, and nothing is lost.
"""

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
from commission import SITE_ID, commission

from flip_async import FlipClient
from flip_async.emulator import Emulator

HERE = Path(__file__).parent
DEVICES = [f"inv-{number}" for number in range(30)]
LEASE_S = "2"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


class Programs:
    """The programs that run, which end with this one; what they print is kept."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._running: list[asyncio.subprocess.Process] = []
        self._readers: list[asyncio.Task[None]] = []

    async def start(self, *command: str, **variables: str) -> asyncio.subprocess.Process:
        """Start one, in this folder."""
        program = await asyncio.create_subprocess_exec(
            *command,
            cwd=HERE,
            env=os.environ | variables,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        self._running.append(program)
        self._readers.append(asyncio.create_task(self._read(program)))
        return program

    async def _read(self, program: asyncio.subprocess.Process) -> None:
        assert program.stdout is not None
        async for line in program.stdout:
            self.lines.append(line.decode(errors="replace").rstrip())

    async def aclose(self) -> None:
        """End them all, in order, and if need be not."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            alive = [program for program in self._running if program.returncode is None]
            for program in alive:
                os.killpg(program.pid, number)
            if alive:
                await asyncio.wait(
                    [asyncio.ensure_future(program.wait()) for program in alive], timeout=20
                )
        await asyncio.gather(*self._readers)


async def start_redis(programs: Programs, folder: str) -> str:
    """Gives its URL."""
    if "REDIS_URL" in os.environ:
        return os.environ["REDIS_URL"]
    server = shutil.which("redis-server") or shutil.which("valkey-server")
    if server is None:
        sys.exit("no redis-server on the path: install one, or set REDIS_URL")
    port = free_port()
    await programs.start(
        server, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--appendonly", "yes"
    )
    return f"redis://127.0.0.1:{port}/0"


async def until(what: str, is_so: object, programs: Programs) -> None:
    """Wait for something, and say so."""
    assert callable(is_so)
    begun = time.monotonic()
    while not is_so():
        await asyncio.sleep(0.05)
        if time.monotonic() - begun > 120:
            print(*programs.lines, sep="\n")
            sys.exit(f"it did not come to this: {what}")
    print(f"  {what}")


async def play() -> None:
    """All of it, in the order in which it is printed."""
    programs, port = Programs(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        try:
            async with Emulator() as flip_local, flip_local.client() as flip:
                await play_with(
                    flip_local, flip, programs, await start_redis(programs, folder), port
                )
        finally:
            await programs.aclose()


async def play_with(
    flip_local: Emulator, flip: FlipClient, programs: Programs, redis_url: str, port: int
) -> None:
    """Four processes and a worker, a dispatch, two deaths, and what came of it."""
    await commission(flip, DEVICES)
    flip_local.review_enrollments()
    variables = flip_local.variables() | {
        "REDIS_URL": redis_url, "LEASE_S": LEASE_S,
        "DEVICES": " ".join(DEVICES), "MEASURE_EVERY_S": "0.2",
    }  # fmt: skip
    flip_local.forget_counts()

    print("Four processes of an application and a worker start.")
    await programs.start(
        sys.executable, "-m", "uvicorn", "--factory", "application:make_app", "--workers", "4",
        "--port", str(port), "--no-access-log", **variables,
    )  # fmt: skip
    worker = await programs.start(sys.executable, "worker.py", **variables)
    await until(
        "all are there",
        lambda: sum("startup complete" in line for line in programs.lines) == 4,
        programs,
    )
    await until("points arrive", lambda: len(flip_local.telemetry) >= len(DEVICES), programs)
    async with httpx.AsyncClient() as http:
        home = await http.get(f"http://127.0.0.1:{port}/homes/{SITE_ID}")
        print(f"  a home is {home.json()['id']}")
    print(f"  {flip_local.count('POST', '/token')} token request for all of them")

    print("Flip dispatches, and tells each command twice.")
    flip_local.register_webhook(f"http://127.0.0.1:{port}/webhooks/flip", copies=2)
    flip_local.dispatch()
    await until(
        "every command is acknowledged",
        lambda: {command["device_status"] for command in flip_local.commands} == {"OK"},
        programs,
    )
    told(programs)

    print("The worker and one process are killed; another one goes on.")
    worker.kill()
    victim = next(
        int(line.rsplit(" ", 1)[1]) for line in programs.lines if line.startswith("schedule")
    )
    os.kill(victim, signal.SIGKILL)
    await programs.start(sys.executable, "worker.py", **variables)
    before = len(flip_local.telemetry)
    flip_local.dispatch()
    await until(
        "every command is acknowledged",
        lambda: {command["device_status"] for command in flip_local.commands} == {"OK"},
        programs,
    )
    await until("points go on", lambda: len(flip_local.telemetry) > before, programs)
    told(programs)


def told(programs: Programs) -> None:
    """How often the devices were told of a command, and by whom."""
    schedules = [line.split() for line in programs.lines if line.startswith("schedule ")]
    commands = Counter(words[1] for words in schedules)
    processes = {words[-1] for words in schedules}
    more = sum(times - 1 for times in commands.values())
    print(f"  {len(commands)} commands handled by {len(processes)} processes, {more} of them twice")


if __name__ == "__main__":
    asyncio.run(play())
