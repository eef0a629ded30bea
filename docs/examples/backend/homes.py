"""Homes: commission them, and read what Flip knows of them."""

from datetime import UTC, datetime

from fastapi import APIRouter
from pydantic import BaseModel

from flip_async.fastapi import FlipDependency
from flip_async.models import CommissionSite, DeviceBatteryAttributes, DeviceCreate, Site

router = APIRouter()


class NewHome(BaseModel):
    """What the installer's form sends."""

    id: str
    zip_code: str
    battery_id: str
    may_be_enrolled: bool = False


class Commissioned(BaseModel):
    """What the installer sees."""

    programs: list[str]
    enrollment: str | None


@router.post("/homes", status_code=201)
async def commission(home: NewHome, flip: FlipDependency) -> Commissioned:
    """Tell Flip of a home and its battery."""
    battery = DeviceCreate(
        id=home.battery_id,
        manufacturer_name="Example Batteries",
        product_name="Wall 10",
        serial_number=home.battery_id,
        attributes=DeviceBatteryAttributes(
            battery_capacity_wh=10_000, battery_power_input_w=5_000, battery_power_output_w=5_000
        ),
        install_date=datetime.now(UTC),
    )
    site = CommissionSite(id=home.id, zip_code=home.zip_code)
    result = await flip.sites.commission(site, [battery], can_auto_enroll=home.may_be_enrolled)
    return Commissioned(
        programs=[program.name for program in result.programs],
        enrollment=None if result.enrollment is None else str(result.enrollment.status),
    )


@router.get("/homes/{home_id}")
async def home(home_id: str, flip: FlipDependency) -> Site:
    """What Flip knows; it asks with the home's own token."""
    return await flip.site(home_id).get()
