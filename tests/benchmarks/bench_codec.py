"""A telemetry batch of 1,000 points: from objects to bytes, and answers to objects."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import attrs
import httpx

from flip_async import UNSET
from flip_async._wire import decode, encode
from flip_async.models import TelemetryBatch, TelemetryPoint, TelemetryResult
from tests.benchmarks._compare import compare, show

START = datetime(2025, 1, 1, tzinfo=UTC)
POINTS = [
    TelemetryPoint(
        device_id=f"inv-{number % 100}",
        start_time=START + timedelta(minutes=5 * number),
        duration_s=300,
        last_is_online=True,
        last_mode="CHARGE",
        battery_last_power_charge_w=1500.5,
        battery_last_power_discharge_w=0.0,
        battery_total_energy_charge_wh=125.0,
        battery_total_energy_discharge_wh=0.0,
        battery_last_stored_energy_wh=6750.0,
        battery_last_capacity_energy_wh=13500.0,
        battery_last_state_of_charge_percentage=50.0,
        battery_last_state_of_health_percentage=98.5,
        home_last_power_w=700.0,
        solar_last_power_w=2200.0,
    )
    for number in range(1000)
]


def row_of(point: TelemetryPoint) -> dict[str, object]:
    """A point as one would write it out by hand."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in attrs.asdict(point).items()
        if value is not UNSET
    }


DICTS = [row_of(point) for point in POINTS]
ANSWER = json.dumps([{"status": "OK"}] * 1000).encode()


async def main() -> None:
    response = httpx.Response(200, content=ANSWER, request=httpx.Request("POST", "https://x"))

    async def by_hand() -> object:
        return json.dumps({"telemetry": DICTS}).encode()

    async def ours() -> object:
        return encode(TelemetryBatch(telemetry=POINTS))

    async def read_by_hand() -> object:
        return response.json()

    async def read_ours() -> object:
        return decode(response, list[TelemetryResult], method="POST", path="/v1/x")

    writing = {"json.dumps of dicts": by_hand, "flip_async: checked and encoded": ours}
    show("1,000 points to JSON", await compare(writing, calls=5), base=next(iter(writing)))
    reading = {"response.json()": read_by_hand, "flip_async: typed": read_ours}
    show("1,000 results from JSON", await compare(reading, calls=20), base=next(iter(reading)))


if __name__ == "__main__":
    asyncio.run(main())
