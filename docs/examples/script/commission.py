"""Commission the homes of a CSV file that Flip does not know yet.

    python commission.py homes.csv

It may be run again after it was stopped or some homes failed. The exit code is 1 where a home
could not be commissioned.
"""

import asyncio
import csv
import sys
from datetime import UTC, datetime
from pathlib import Path

from flip_async import SandboxClient, errors
from flip_async.models import CommissionSite, DeviceBatteryAttributes, DeviceCreate

AT_ONCE = 10

Row = dict[str, str]


def battery(row: Row) -> DeviceCreate:
    """The battery of a row."""
    power_w = int(row["power_w"])
    return DeviceCreate(
        id=row["battery"],
        manufacturer_name="Example Batteries",
        product_name="Wall 10",
        serial_number=row["battery"],
        attributes=DeviceBatteryAttributes(
            battery_capacity_wh=int(row["capacity_wh"]),
            battery_power_input_w=power_w,
            battery_power_output_w=power_w,
        ),
        install_date=datetime.now(UTC),
    )


async def commission(flip: SandboxClient, row: Row) -> str:
    """Commission one, and say what came of it.

    Raises:
        FlipError: It was refused, here or by Flip, or nobody knows what came of it.
    """
    site = CommissionSite(id=row["home"], zip_code=row["zip_code"])
    result = await flip.sites.commission(site, [battery(row)])
    return f"{row['home']}: {len(result.programs)} programs"


async def commission_all(rows: list[Row]) -> int:
    """Commission what is not known yet, some at once; gives how many failed."""
    failed = 0
    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(row: Row) -> None:
        nonlocal failed
        try:
            async with at_once:
                print(await commission(flip, row))
        except errors.OutcomeUnknownError as error:
            failed += 1
            print(f"{row['home']}: run this again, to see if it was done: {error}")
        except errors.FlipError as error:
            failed += 1
            print(f"{row['home']}: {error}")

    async with SandboxClient() as flip:
        known = {site.id async for site in flip.sites.list()}
        print(f"{len(known)} homes are known")
        async with asyncio.TaskGroup() as group:
            for row in rows:
                if row["home"] not in known:
                    group.create_task(one(row))
    return failed


def main() -> int:
    """Gives the exit code."""
    with Path(sys.argv[1]).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return 1 if asyncio.run(commission_all(rows)) else 0


if __name__ == "__main__":
    sys.exit(main())
