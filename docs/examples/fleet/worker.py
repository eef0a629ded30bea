"""A worker that measures batteries, and sends what all processes have put into the outbox."""

import asyncio
import os
from datetime import UTC, datetime

from application import make_tokens

from flip_async import SandboxClient, run_worker
from flip_async.models import TelemetryPoint
from flip_async.redis import RedisOutbox

DEVICES = os.environ.get("DEVICES", "").split()
EVERY_S = float(os.environ.get("MEASURE_EVERY_S", "300"))


def measure(device_id: str) -> TelemetryPoint:
    """Here you would ask the inverter."""
    return TelemetryPoint(
        device_id=device_id,
        start_time=datetime.now(UTC),
        duration_s=max(1, int(EVERY_S)),
        last_is_online=True,
        battery_last_state_of_charge_percentage=50.0,
    )


async def main() -> None:
    """Measure until the worker is told to stop; what is accepted is sent by whoever comes next."""
    outbox = RedisOutbox(os.environ["REDIS_URL"], lease_s=float(os.environ.get("LEASE_S", "30")))
    async with (
        SandboxClient(token_store=make_tokens()) as flip,
        flip.telemetry.uploader(outbox=outbox) as uploader,
    ):
        print("the worker measures", len(DEVICES), "batteries", flush=True)
        while True:
            for device_id in DEVICES:
                await uploader.add(measure(device_id))
            await asyncio.sleep(EVERY_S)


if __name__ == "__main__":
    run_worker(main)
