"""Files of telemetry, as a device maker's database gives them."""

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

START = datetime(2025, 1, 1, tzinfo=UTC)
FIELDS = [
    "device_id", "start_time", "duration_s", "last_is_online", "last_mode",
    "battery_last_power_charge_w", "battery_last_power_discharge_w",
    "battery_total_energy_charge_wh", "battery_total_energy_discharge_wh",
    "battery_last_stored_energy_wh", "battery_last_capacity_energy_wh",
    "battery_last_state_of_charge_percentage", "battery_last_state_of_health_percentage",
    "last_is_grid_online", "home_total_energy_wh", "home_last_power_w",
    "solar_total_energy_wh", "solar_last_power_w",
]  # fmt: skip


def rows(devices: int, intervals: int) -> Iterator[dict[str, Any]]:
    for interval in range(intervals):
        start = START + timedelta(minutes=5 * interval)
        for device in range(devices):
            values = (
                f"inv-{device}", start, 300, True, "CHARGE", 1500.5, 0.0, 125.0, 0.0, 6750.0,
                13500.0, (interval % 100) + 0.5, 98.5, True, 58.3, 700.0, 183.3, 2200.0,
            )  # fmt: skip
            yield dict(zip(FIELDS, values, strict=True))


def write_csv(path: Path, devices: int, intervals: int) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for row in rows(devices, intervals):
            writer.writerow(row | {"start_time": row["start_time"].isoformat()})


def write_jsonl(path: Path, devices: int, intervals: int) -> None:
    with path.open("w") as file:
        for row in rows(devices, intervals):
            file.write(json.dumps(row | {"start_time": row["start_time"].isoformat()}) + "\n")


def write_parquet(path: Path, devices: int, intervals: int) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.Table.from_pylist(list(rows(devices, intervals)))
    parquet.write_table(table, path, row_group_size=50_000)


def outcomes(path: Path, **reading: Any) -> tuple[dict[int, Any], dict[int, str]]:
    """What `flip telemetry backfill` makes of a file: points and reasons, by their lines."""
    from flip_async._cli._telemetry import Reading

    points: dict[int, Any] = {}
    refused: dict[int, str] = {}
    with Reading(**reading).opened(path) as (_, blocks):
        for block in blocks:
            points |= {
                origin.line: point
                for origin, point in zip(block.origins, block.points, strict=True)
            }
            refused |= {origin.line: reason for origin, reason in block.bad}
    return points, refused
