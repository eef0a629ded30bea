"""Play it through on this machine: a local Flip, the application, an installer, a call for power.

No account, no network.
"""

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx

from flip_async.emulator import Emulator

HERE = Path(__file__).parent


class Application:
    """The application as a program of its own, in a folder for its files."""

    def __init__(self, flip_local: Emulator, folder: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.port: int = taken.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._variables = flip_local.variables()
        self._folder = folder
        self._program: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        self._program = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(HERE),
            "--port", str(self.port), "--no-access-log",
            cwd=self._folder, env=os.environ | self._variables,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        await self.until_it_says("startup complete")

    async def until_it_says(self, words: str) -> str:
        """Wait for a line with these words."""
        assert self._program is not None
        assert self._program.stdout is not None
        lines = ""
        async for line in self._program.stdout:
            lines += line.decode()
            if words in lines:
                return line.decode().strip()
        sys.exit(f"it ended: {lines}")

    async def stop(self) -> int:
        """Tell it to stop, as systemd and Kubernetes do, and give its exit code."""
        assert self._program is not None
        if self._program.returncode is None:
            self._program.send_signal(signal.SIGTERM)
            await self._program.communicate()
        assert self._program.returncode is not None
        # A program that a signal has ended is 128 and its number for a shell.
        code = self._program.returncode
        return code if code >= 0 else 128 - code


async def until(is_so: Callable[[], bool]) -> None:
    """Look again and again."""
    while not is_so():
        await asyncio.sleep(0.02)


async def play(flip_local: Emulator, application: Application) -> None:
    """All of it, in the order in which it is printed."""
    print("The application starts.")
    await application.start()
    flip_local.register_webhook(f"{application.url}/webhooks/flip")

    async with httpx.AsyncClient(base_url=application.url) as http:
        print("An installer commissions a home.")
        home = {"id": "hh-1042", "zip_code": "88801", "battery_id": "inv-77301"}
        answer = await http.post("/homes", json=home | {"may_be_enrolled": True})
        print(" ", answer.status_code, answer.json()["enrollment"])
        flip_local.review_enrollments()
        print("  the enrollment is approved")

        print("Flip calls for power.")
        (event_id,) = flip_local.dispatch()
        print(" ", await application.until_it_says("DISCHARGE"))
        await acknowledged(flip_local)

        print("The call is canceled.")
        flip_local.cancel_event(event_id)
        await application.until_it_says("forget")
        await acknowledged(flip_local)

        print("The battery reports.")
        await http.post("/readings", json={"battery_id": "inv-77301", "state_of_charge": 74.5})
        await until(lambda: len(flip_local.telemetry) == 1)
        print("  the reading is with Flip")

    print("The application is told to stop.")
    print("  the exit code is", await application.stop())


async def acknowledged(flip_local: Emulator) -> None:
    """Wait for the acknowledgement of the one command, and say what it is."""
    await until(lambda: flip_local.commands[0]["device_status"] != "PENDING")
    print("  the acknowledgement is", flip_local.commands[0]["device_status"])


async def main() -> None:
    """Start the local Flip, and end everything in any case."""
    with tempfile.TemporaryDirectory() as folder:
        async with Emulator() as flip_local:
            application = Application(flip_local, folder)
            try:
                await play(flip_local, application)
            finally:
                await application.stop()


if __name__ == "__main__":
    asyncio.run(main())
