"""Units of columns, and columns that look as if they had another one."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_async._cli._columns import Source
from flip_async._cli._suspicion import Suspicion
from flip_async._cli._units import FIELDS, is_number, scaled, symbol_of, units_of
from flip_async.models import TelemetryPoint
from tests.support.history import START, outcomes

SOC = "battery_last_state_of_charge_percentage"
SOLAR = "solar_last_power_w"
HOME = "home_total_energy_wh"


@pytest.mark.parametrize(
    ("field", "unit", "cell", "expected"),
    [
        (SOLAR, "kW", "2.2", 2200.0),
        (SOLAR, "MW", "0.001", 1000.0),
        (SOLAR, "W", "5", 5.0),
        (HOME, "kWh", "0.125", 125.0),
        (HOME, "MWh", "0.5", 500_000.0),
        (HOME, "J", "7200", 2.0),
        (HOME, "MJ", "3.6", 1000.0),
        (SOC, "ratio", "0.57", 57.0),
        (SOC, "%", "57", 57.0),
        ("duration_s", "min", "5", 300.0),
        ("duration_s", "ms", "300000", 300.0),
        ("duration_s", "h", "0.25", 900.0),
    ],
)
def test_a_column_in_another_unit_is_scaled(
    tmp_path: Path, field: str, unit: str, cell: str, expected: float
) -> None:
    """In the file's own columns, under a name with a colon, and in JSON."""
    path = tmp_path / "h.csv"
    base = "" if field == "duration_s" else ",duration_s"
    values = "" if field == "duration_s" else ",300"
    path.write_text(f"device_id,start_time,x:y{base}\nb0,2025-01-01T00:00:00Z,{cell}{values}\n")

    points, refused = outcomes(path, column=(f"{field}=x:y:{unit}",))

    assert refused == {}
    assert getattr(points[2], field) == expected


@given(st.sampled_from([field for field in FIELDS if is_number(field)]), st.floats(0, 1e6))
def test_each_unit_counts_in_the_field_s_own(field: str, value: float) -> None:
    for unit, scale in units_of(field).items():
        assert scaled(value, scale) == pytest.approx(value * scale, abs=1e-9)
        assert Source.parse(field, f"a:b:{unit}") == Source("a:b", unit)
        assert Source.parse(field, f":{unit}") == Source(field, unit)
    assert units_of(field)[symbol_of(field)] == 1.0


def test_a_name_with_a_colon_is_a_name() -> None:
    assert Source.parse(SOLAR, "Power: total") == Source("Power: total")


def warnings(unit: str | None = None, **values: float) -> list[str]:
    suspicion = Suspicion()
    for share in (0.5, 1.0):
        fields = {name: value * share for name, value in values.items()}
        point = {"device_id": "b0", "start_time": START, "duration_s": 300} | fields
        suspicion.look([TelemetryPoint(**point)])  # type: ignore[arg-type]
    return suspicion.warnings({name: Source("x", unit) for name in FIELDS})


@pytest.mark.parametrize(
    ("field", "most", "switch"),
    [
        (SOC, 0.85, f"--column {SOC}=x:ratio"),
        (SOC, 1.0, ":ratio"),
        (SOLAR, 11.2, f"--column {SOLAR}=x:kW"),
        ("home_last_power_w", 4.2, ":kW"),
        (HOME, 0.058, ":kWh"),
        ("battery_last_capacity_energy_wh", 13.5, ":kWh"),
        ("duration_s", 5.0, ":min"),
        ("duration_s", 300_000.0, ":ms"),
    ],
)
def test_a_column_that_is_odd_throughout_is_warned_of_with_the_switch(
    field: str, most: float, switch: str
) -> None:
    (found,) = warnings(**{field: most})

    assert switch in found


@pytest.mark.parametrize(
    ("field", "most"),
    [(SOC, 1.5), (SOC, 0.0), (SOLAR, 2200.0), (SOLAR, 0.0), (HOME, 58.0), ("duration_s", 300.0)],
)
def test_a_column_as_it_should_be_is_not(field: str, most: float) -> None:
    assert warnings(**{field: most}) == []


def test_a_switch_too_much_is_warned_of() -> None:
    (found,) = warnings("kW", **{SOLAR: 2_200_000.0})

    assert "is x in kW, as --column says?" in found
