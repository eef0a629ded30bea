"""Play it through on this machine: a local Flip, the worker, an outage and a death.

No account, no network.
"""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from flip_async.emulator import Emulator
from flip_async.models import CommissionSite, DeviceBatteryAttributes, DeviceCreate

HERE = Path(__file__).parent
BATTERIES = ["inv-1", "inv-2", "inv-3"]
TELEMETRY = "/v1/telemetry/BATTERY"


class Worker:
    """The worker as a program of its own, in a folder for its file."""

    def __init__(self, flip_local: Emulator, folder: str) -> None:
        self._variables = flip_local.variables() | {
            "BATTERIES": " ".join(BATTERIES),
            "MEASURE_EVERY_S": "0.2", "LIST_EVERY_S": "0.2", "LEASE_S": "2",
        }  # fmt: skip
        self._folder = folder
        self._program: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self.lines: list[str] = []

    async def start(self) -> None:
        """Start it; what it prints is kept."""
        self._program = await asyncio.create_subprocess_exec(
            sys.executable, str(HERE / "worker.py"),
            cwd=self._folder, env=os.environ | self._variables,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self._reader = asyncio.create_task(self._read(self._program))

    async def _read(self, program: asyncio.subprocess.Process) -> None:
        assert program.stdout is not None
        async for line in program.stdout:
            self.lines.append(line.decode().strip())

    async def end(self, number: signal.Signals) -> int:
        """Send it a signal, and give its exit code."""
        assert self._program is not None
        assert self._reader is not None
        if self._program.returncode is None:
            self._program.send_signal(number)
        await self._reader
        return await self._program.wait()

    @property
    def kept(self) -> int:
        """How many points it has told to be in its file."""
        return sum(int(line.split()[1]) for line in self.lines if line.startswith("kept"))


def arrived(flip_local: Emulator) -> int:
    """How many points Flip has; one that came twice, around a death, counts once."""
    return len({(point["device_id"], point["start_time"]) for point in flip_local.telemetry})


async def until(is_so: Callable[[], bool]) -> None:
    """Look again and again."""
    while not is_so():
        await asyncio.sleep(0.02)


async def commission(flip_local: Emulator) -> None:
    """A home with batteries, which takes part in a program."""
    devices = [
        DeviceCreate(
            id=device_id,
            manufacturer_name="Example Batteries",
            product_name="Wall 10",
            serial_number=device_id,
            attributes=DeviceBatteryAttributes(
                battery_capacity_wh=10_000,
                battery_power_input_w=5_000,
                battery_power_output_w=5_000,
            ),
            install_date=datetime(2025, 6, 1, tzinfo=UTC),
        )
        for device_id in BATTERIES
    ]
    async with flip_local.client() as flip:
        site = CommissionSite(id="hh-1042", zip_code="88801")
        await flip.sites.commission(site, devices, can_auto_enroll=True)
    flip_local.review_enrollments()


async def play(flip_local: Emulator, worker: Worker) -> None:
    """All of it, in the order in which it is printed."""
    print("The worker starts.")
    await worker.start()
    await until(lambda: arrived(flip_local) >= len(BATTERIES))
    print("  points arrive")

    print("Flip calls for power.")
    flip_local.dispatch()
    await until(lambda: {one["device_status"] for one in flip_local.commands} == {"OK"})
    scheduled = {line.split()[1] for line in worker.lines if line.startswith("schedule")}
    print(f"  each of {len(scheduled)} batteries has its command, and Flip knows")

    print("Flip is down, and the worker is killed.")
    flip_local.fail_next(None, path=TELEMETRY, status=503)
    before = worker.kept
    await until(lambda: worker.kept > before + 10)
    await worker.end(signal.SIGKILL)
    assert arrived(flip_local) < worker.kept
    print("  what it measured in between is not with Flip")

    print("Flip is back, and the worker starts again.")
    flip_local.behave()
    kept = worker.kept
    await worker.start()
    await until(lambda: worker.kept > kept and arrived(flip_local) >= worker.kept)
    print("  all that it measured is with Flip")

    print("The worker is told to stop.")
    print("  the exit code is", await worker.end(signal.SIGTERM))


async def main() -> None:
    """Start the local Flip, and end everything in any case."""
    with tempfile.TemporaryDirectory() as folder:
        async with Emulator() as flip_local:
            await commission(flip_local)
            worker = Worker(flip_local, folder)
            try:
                await play(flip_local, worker)
            finally:
                await worker.end(signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(main())
