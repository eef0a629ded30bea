"""Readings: what batteries measure, on its way to Flip."""

from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from flip_async.models import TelemetryPoint
from flip_async.telemetry import TelemetryUploader

router = APIRouter()


class Reading(BaseModel):
    """What a battery sends every five minutes."""

    battery_id: str
    state_of_charge: float
    charging_w: float = 0
    discharging_w: float = 0


def refused(point: TelemetryPoint, reason: str) -> None:
    """Flip does not want it, and never will."""
    print(f"refused: {point.device_id}: {reason}", flush=True)


@router.post("/readings", status_code=202)
async def take(reading: Reading, request: Request) -> Response:
    """Answer when the reading is on disk; it is sent a moment later."""
    uploader: TelemetryUploader[TelemetryPoint] = request.app.state.uploader
    await uploader.add(
        TelemetryPoint(
            device_id=reading.battery_id,
            start_time=datetime.now(UTC),
            duration_s=300,
            last_is_online=True,
            battery_last_state_of_charge_percentage=reading.state_of_charge,
            battery_last_power_charge_w=reading.charging_w,
            battery_last_power_discharge_w=reading.discharging_w,
        )
    )
    return Response(status_code=202)


@router.get("/readings")
async def count(request: Request) -> dict[str, int]:
    """What became of them since the application was started."""
    stats = request.app.state.uploader.stats
    waiting = stats.queued + stats.in_flight
    return {"waiting": waiting, "sent": stats.sent, "refused": stats.rejected}
