"""A telemetry endpoint that does as it is told, below httpx."""

import asyncio
import contextlib
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from flip_async.emulator import Emulator
from flip_async.models import (
    CommissionSite,
    DeviceBatteryAttributes,
    DeviceCreate,
    TelemetryPoint,
)
from tests.support import Answer, ManualClock

START_TIME = datetime(2025, 1, 1, tzinfo=UTC)
COMPLETE = {
    "last_is_online": True,
    "last_mode": "CHARGE",
    "battery_last_power_charge_w": 1500.5,
    "battery_last_power_discharge_w": 0.0,
    "battery_total_energy_charge_wh": 125.0,
    "battery_total_energy_discharge_wh": 0.0,
    "battery_last_stored_energy_wh": 6750.0,
    "battery_last_capacity_energy_wh": 13500.0,
    "battery_last_state_of_charge_percentage": 50.0,
    "battery_last_state_of_health_percentage": 98.5,
    "last_is_grid_online": True,
    "home_total_energy_wh": 58.0,
    "home_last_power_w": 700.0,
    "solar_total_energy_wh": 183.0,
    "solar_last_power_w": 2200.0,
}


def point(number: int = 0, *, device_id: str = "inv-1", **fields: Any) -> TelemetryPoint:
    start = START_TIME + timedelta(minutes=5 * number)
    values = COMPLETE | fields
    return TelemetryPoint(**{"duration_s": 300} | values, device_id=device_id, start_time=start)


def number_of(row: dict[str, Any]) -> int:
    """The number that `point` was called with."""
    started = datetime.fromisoformat(row["start_time"])
    return int((started - START_TIME).total_seconds() // 300)


@contextlib.asynccontextmanager
async def flowing(clock: ManualClock) -> AsyncIterator[None]:
    """Time goes on by itself, as fast as everybody can act."""

    async def flow() -> None:
        while True:
            await clock.pass_time(0.25)

    task = asyncio.create_task(flow())
    try:
        yield
    finally:
        task.cancel()


async def commission_batteries(emulator: Emulator, device_ids: Sequence[str]) -> None:
    """Let an emulator know batteries, so that it accepts their points."""
    batteries = [
        DeviceCreate(
            id=device_id,
            manufacturer_name="Voltan",
            product_name="Hearth 13",
            serial_number="VH13-1",
            attributes=DeviceBatteryAttributes(
                battery_capacity_wh=13_500,
                battery_power_input_w=5_000,
                battery_power_output_w=5_000,
            ),
            install_date=START_TIME,
        )
        for device_id in device_ids
    ]
    async with emulator.client() as flip:
        await flip.sites.commission(CommissionSite(id="hh-1"), batteries)


class TelemetryServer(httpx.AsyncBaseTransport):
    """Keeps what it was sent; refuses, fails, waits and breaks as told."""

    def __init__(self) -> None:
        self.requests: list[list[dict[str, Any]]] = []
        self.accepted: Counter[tuple[str, int]] = Counter()
        self.in_turn: list[int] = []
        self.next_answers: deque[Answer] = deque()
        self.refuses: Callable[[dict[str, Any]], bool] = lambda row: False
        self.fails: Callable[[dict[str, Any]], str | None] = lambda row: None
        self.gate: asyncio.Event | None = None
        self.at_once = self.most_at_once = 0

    @property
    def sizes(self) -> list[int]:
        return [len(rows) for rows in self.requests]

    def numbers(self) -> list[int]:
        """The numbers of all points that were accepted, each as often as it was."""
        return sorted(number for _, number in self.accepted.elements())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        body = b"".join([part async for part in request.stream])
        rows = json.loads(body)["telemetry"]
        self.requests.append(rows)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.gate is not None:
                await self.gate.wait()
            else:
                await asyncio.sleep(0)
        finally:
            self.at_once -= 1
        if self.next_answers:
            answer = self.next_answers.popleft()
            if isinstance(answer, Exception):
                raise answer
            return answer
        if any(self.refuses(row) for row in rows):
            return httpx.Response(422, json={"code": "VALIDATION", "message": "a point is bad"})
        return httpx.Response(200, json=[self._take(row) for row in rows])

    def _take(self, row: dict[str, Any]) -> dict[str, str]:
        why = self.fails(row)
        if why is not None:
            return {"status": "FAILED", "message": why}
        number = number_of(row) if "start_time" in row else int(row["timestamp"])
        self.accepted[row["device_id"], number] += 1
        self.in_turn.append(number)
        return {"status": "OK", "message": ""}
