"""In what a column counts, and what a field of telemetry counts in."""

from collections.abc import Mapping
from typing import Final

import attrs

from flip_async.models import TelemetryPoint

FIELDS: Final = tuple(field.name for field in attrs.fields(TelemetryPoint))
TEXTS: Final = ("device_id", "last_mode")
FLAGS: Final = ("last_is_online", "last_is_grid_online")
REQUIRED: Final = ("device_id", "start_time", "duration_s")

_DIGITS: Final = 9  # 0.57 * 100 is 56.99999999999999: nobody measures so exactly

_POWER: Final = {"W": 1.0, "kW": 1e3, "MW": 1e6}
_ENERGY: Final = {"Wh": 1.0, "kWh": 1e3, "MWh": 1e6, "J": 1 / 3600, "kJ": 1 / 3.6, "MJ": 1e3 / 3.6}
_PERCENTAGE: Final = {"%": 1.0, "percent": 1.0, "ratio": 100.0}
_DURATION: Final = {"s": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0}
_EPOCH: Final = {"epoch_s": 1.0, "epoch_ms": 1e-3, "epoch_us": 1e-6, "epoch_ns": 1e-9}
_BY_ENDING: Final[Mapping[str, Mapping[str, float]]] = {
    "_w": _POWER,
    "_wh": _ENERGY,
    "_percentage": _PERCENTAGE,
    "duration_s": _DURATION,
    "start_time": _EPOCH,
}
_EVERY: Final = frozenset(name for units in _BY_ENDING.values() for name in units)


def units_of(field: str) -> Mapping[str, float]:
    """The units in which a column of a field may be, with how many of the field's they are."""
    return next((units for end, units in _BY_ENDING.items() if field.endswith(end)), {})


def is_unit(name: str) -> bool:
    """Whether any field has such a unit."""
    return name in _EVERY


def is_number(field: str) -> bool:
    """Whether a field holds a number."""
    return field != "start_time" and bool(units_of(field))


def symbol_of(field: str) -> str:
    """What a field counts in."""
    return next(iter(units_of(field)), "") if is_number(field) else ""


def scaled(value: float, scale: float) -> float:
    """A number in the field's unit."""
    return value if scale == 1.0 else round(value * scale, _DIGITS)
