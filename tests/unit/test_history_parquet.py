"""Parquet as warehouses and pandas write it."""

import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from flip_async._cli._rows import FileError
from tests.support.history import outcomes

pa = pytest.importorskip("pyarrow")

SECOND = 1_735_689_600
AT = datetime(2025, 1, 1, tzinfo=UTC)
SOC = "battery_last_state_of_charge_percentage"
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def written(path: Path, **columns: Any) -> Path:
    from pyarrow import parquet

    table = pa.table({"device_id": ["b0"], "start_time": [AT], "duration_s": [300], **columns})
    parquet.write_table(table, path)
    return path


@pytest.mark.parametrize("unit", PER_SECOND)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "+02:00", None])
def test_a_timestamp_of_every_unit_is_its_instant(
    tmp_path: Path, unit: str, zone: str | None
) -> None:
    times = pa.array([SECOND * PER_SECOND[unit]], pa.timestamp(unit, zone))
    path = written(tmp_path / "h.parquet", start_time=times)

    points, refused = outcomes(path, time_zone="UTC" if zone is None else None)

    assert refused == {}
    assert points[1].start_time == AT


@pytest.mark.parametrize(
    ("columns", "field", "expected"),
    [
        ({SOC: pa.array([Decimal("50.50")], pa.decimal128(10, 2))}, SOC, 50.5),
        ({SOC: pa.array([50.1], pa.float32())}, SOC, 50.1),
        ({SOC: pa.array([50.5], pa.float32()).cast(pa.float16())}, SOC, 50.5),
        ({SOC: pa.array([50], pa.int8())}, SOC, 50),
        ({SOC: pa.array([float("nan")])}, SOC, None),
        ({SOC: pa.array([None], pa.null())}, SOC, None),
        ({"duration_s": pa.array([timedelta(minutes=5)], pa.duration("ns"))}, "duration_s", 300),
        ({"device_id": [12345]}, "device_id", "12345"),
        ({"device_id": [12345.0]}, "device_id", "12345"),
        ({"device_id": [b"b1"]}, "device_id", "b1"),
        ({"device_id": pa.array([Decimal(7)], pa.decimal128(5, 0))}, "device_id", "7"),
        ({"device_id": pa.array(["b1"]).dictionary_encode()}, "device_id", "b1"),
        ({"last_is_online": [1]}, "last_is_online", True),
        ({"last_is_online": [0.0]}, "last_is_online", False),
        ({"start_time": ["2025-01-01T00:00:00Z"]}, "start_time", AT),
    ],
)
def test_a_value_is_what_its_type_means(
    tmp_path: Path, columns: dict[str, Any], field: str, expected: object
) -> None:
    points, refused = outcomes(written(tmp_path / "h.parquet", **columns))

    assert refused == {}
    assert getattr(points[1], field) == expected
    assert type(getattr(points[1], field)) in (type(expected), float, int)


@pytest.mark.skipif(not hasattr(pa, "uuid"), reason="pyarrow before 18 has no type for UUIDs")
def test_an_id_may_be_a_uuid(tmp_path: Path) -> None:
    ids = pa.array([uuid.UUID(int=5).bytes], pa.uuid())

    points, _ = outcomes(written(tmp_path / "h.parquet", device_id=ids))

    assert points[1].device_id == str(uuid.UUID(int=5))


def test_raw_data_may_be_nested(tmp_path: Path) -> None:
    kind = pa.struct(
        [
            ("at", pa.timestamp("ns", "UTC")),
            ("local", pa.timestamp("ns")),
            ("amount", pa.decimal128(5, 2)),
            ("parts", pa.list_(pa.struct([("x", pa.float64())]))),
            ("day", pa.date32()),
        ]
    )
    raw = {
        "at": SECOND * 10**9 + 123,
        "local": SECOND * 10**9 + 123,
        "amount": Decimal("1.50"),
        "parts": [{"x": float("nan")}],
        "day": date(2025, 1, 1),
    }

    points, refused = outcomes(written(tmp_path / "h.parquet", oem_raw_data=pa.array([raw], kind)))

    assert refused == {}
    assert points[1].oem_raw_data == {
        "at": AT,
        "local": "2025-01-01T00:00:00",
        "amount": 1.5,
        "parts": [{"x": None}],
        "day": "2025-01-01",
    }


def test_a_time_out_of_range_costs_its_row_alone(tmp_path: Path) -> None:
    times = pa.array([SECOND, SECOND * 1000], pa.timestamp("s", "UTC"))
    path = written(
        tmp_path / "h.parquet", device_id=["b0"] * 2, start_time=times, duration_s=[300] * 2
    )

    points, refused = outcomes(path)

    assert list(points) == [1]
    assert "start_time: is out of range" in refused[2]


def test_what_is_passed_over_may_be_unreadable(tmp_path: Path) -> None:
    extra = pa.array([SECOND * 1000], pa.timestamp("s", "UTC"))

    points, _ = outcomes(written(tmp_path / "h.parquet", extra=extra), ignore_unknown=True)

    assert list(points) == [1]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"start_time": [date(2025, 1, 1)]}, "is a date-time, not date"),
        ({"start_time": [SECOND]}, ":epoch_s"),
        ({"start_time": pa.array([SECOND], pa.timestamp("s"))}, "--time-zone"),
        ({"device_id": [1.5]}, "is a text"),
        ({"device_id": [b"\xff"]}, "no UTF-8"),
        ({"last_is_online": [2]}, "true or false"),
        ({"oem_raw_data": ["no json"]}, "no JSON"),
        ({SOC: [True]}, "is a number, not bool"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_column(
    tmp_path: Path, columns: dict[str, Any], reason: str
) -> None:
    points, refused = outcomes(written(tmp_path / "h.parquet", **columns))

    assert points == {}
    assert refused[1].startswith(next(iter(columns)))
    assert reason in refused[1]


def test_a_zone_that_nobody_knows_is_a_message(tmp_path: Path) -> None:
    times = pa.array([SECOND], pa.timestamp("s", "Mars/Olympus"))

    with pytest.raises(FileError, match="the column start_time is in the time zone Mars/Olympus"):
        outcomes(written(tmp_path / "h.parquet", start_time=times))


def test_two_columns_of_one_name_are_a_message(tmp_path: Path) -> None:
    from pyarrow import parquet

    columns = [pa.array(["b0"]), pa.array([AT]), pa.array([300]), pa.array([1.0]), pa.array([2.0])]
    names = ["device_id", "start_time", "duration_s", SOC, SOC]
    parquet.write_table(pa.Table.from_arrays(columns, names=names), tmp_path / "h.parquet")

    with pytest.raises(FileError, match="columns 4 and 5"):
        outcomes(tmp_path / "h.parquet")


def test_a_file_that_is_damaged_within_says_how_far_it_came(tmp_path: Path) -> None:
    path = written(tmp_path / "h.parquet")
    content = path.read_bytes()
    path.write_bytes(content[:10] + b"\xff" * 60 + content[70:])

    with pytest.raises(FileError, match="cannot read .* behind row 0"):
        outcomes(path)
