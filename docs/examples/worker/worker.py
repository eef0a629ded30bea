"""A worker without webhooks: it lists commands, does them, and reports what batteries measure.

The batteries stand in `BATTERIES`, separated by spaces; the credential is found as everywhere.
"""

import asyncio
import logging
import os

from batteries import Batteries

from flip_async import SandboxClient, run_worker
from flip_async.commands import CommandProcessor
from flip_async.models import TelemetryPoint
from flip_async.telemetry import SqliteOutbox, TelemetryUploader

MEASURE_EVERY_S = float(os.environ.get("MEASURE_EVERY_S", "300"))
LIST_EVERY_S = float(os.environ.get("LIST_EVERY_S", "60"))
LEASE_S = float(os.environ.get("LEASE_S", "30"))


def refused(point: TelemetryPoint, reason: str) -> None:
    """Flip does not want it, and never will."""
    print("refused", point.device_id, reason, flush=True)


async def report(batteries: Batteries, uploader: TelemetryUploader[TelemetryPoint]) -> None:
    """Measure again and again; a point that `add_many` took is in the file."""
    while True:
        points = batteries.measure(MEASURE_EVERY_S)
        await uploader.add_many(points)
        print("kept", len(points), flush=True)
        await asyncio.sleep(MEASURE_EVERY_S)


async def main() -> None:
    """Work until SIGTERM or Ctrl-C, and then leave in order."""
    batteries = Batteries(os.environ["BATTERIES"].split())
    processor = CommandProcessor(batteries.obey, poll_every_s=LIST_EVERY_S)
    outbox = SqliteOutbox("points.db", lease_s=LEASE_S)
    async with (
        SandboxClient() as flip,
        flip.telemetry.uploader(outbox=outbox, on_rejected=refused, close_timeout_s=10) as uploader,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(processor.run(flip))
        group.create_task(report(batteries, uploader))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    run_worker(main)
