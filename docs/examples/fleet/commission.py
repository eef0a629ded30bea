"""Commission a home with batteries, and ask that they take part in a program."""

import asyncio
import os
from datetime import UTC, datetime

from flip_async import FlipClient, SandboxClient
from flip_async.models import (
    CommissionSite,
    DeviceBatteryAttributes,
    DeviceCreate,
    EnrollmentCreate,
)

SITE_ID = "hh-1042"


def battery(device_id: str) -> DeviceCreate:
    """A battery as its maker knows it."""
    return DeviceCreate(
        id=device_id,
        manufacturer_name="Example Batteries",
        product_name="Wall 10",
        serial_number=device_id,
        attributes=DeviceBatteryAttributes(
            battery_capacity_wh=10_000, battery_power_input_w=5_000, battery_power_output_w=5_000
        ),
        install_date=datetime(2025, 6, 1, tzinfo=UTC),
    )


async def commission(flip: FlipClient, device_ids: list[str]) -> None:
    """Commission them, and enroll them in the first program that is open to all."""
    result = await flip.sites.commission(
        CommissionSite(id=SITE_ID, zip_code="88801"), [battery(one) for one in device_ids]
    )
    program = next(one for one in result.programs if one.can_auto_enroll)
    await flip.site(SITE_ID).enrollments.create(
        EnrollmentCreate(device_ids=device_ids, program_id=program.id)
    )


async def main() -> None:
    """Commission what the variable names."""
    async with SandboxClient() as flip:
        await commission(flip, os.environ["DEVICES"].split())


if __name__ == "__main__":
    asyncio.run(main())
