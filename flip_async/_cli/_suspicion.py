"""Columns whose numbers look as if they were in another unit."""

from collections.abc import Iterable, Mapping
from typing import Final

from flip_async._cli._columns import Source
from flip_async._cli._units import FIELDS, is_number, symbol_of
from flip_async.models import TelemetryPoint

_KILO: Final = {"W": "kW", "Wh": "kWh"}
_TOO_MUCH: Final = 1e6  # watts or watt-hours of one household
# Below which a greatest value is odd, in the field's unit.
_POWER: Final = 50.0
_ENERGY_OF_AN_INTERVAL: Final = 1.0
_ENERGY_OF_A_BATTERY: Final = 200.0
_RATIO: Final = 1.0
_MINUTES: Final = 60.0
_A_DAY: Final = 86_400.0
_BATTERY: Final = ("battery_last_stored_energy_wh", "battery_last_capacity_energy_wh")


class Suspicion:
    """Looks at points, field by field, and tells what looks odd in all of them."""

    def __init__(self) -> None:
        self._greatest: Final[dict[str, float]] = {}
        self._fields: Final = [field for field in FIELDS if is_number(field)]
        self.count = 0

    def look(self, points: Iterable[TelemetryPoint]) -> None:
        """Look at points."""
        greatest = self._greatest
        for point in points:
            self.count += 1
            for field in self._fields:
                value = getattr(point, field)
                if value.__class__ in (int, float) and value > greatest.get(field, 0):
                    greatest[field] = value

    def warnings(self, sources: Mapping[str, Source]) -> list[str]:
        """What looks odd, with the switch that mends it."""
        found = []
        for field, most in self._greatest.items():
            unit = _meant(field, most)
            source = sources[field]
            if unit is not None and source.unit is None:
                found.append(
                    f"{field} is at most {most:g} {symbol_of(field)} in {self.count:,} rows: "
                    f"if it is in {unit}, stop and pass --column {field}={source.column}:{unit}"
                )
            elif source.unit is not None and most > _TOO_MUCH and symbol_of(field) in _KILO:
                found.append(
                    f"{field} is up to {most:g} {symbol_of(field)}: is {source.column} in "
                    f"{source.unit}, as --column says?"
                )
        return found


def _meant(field: str, most: float) -> str | None:
    """The unit that a column is in, perhaps, whose greatest value is this one."""
    symbol = symbol_of(field)
    if symbol == "%":
        return "ratio" if most <= _RATIO else None
    if symbol == "W":
        return "kW" if most < _POWER else None
    if symbol == "Wh":
        least = _ENERGY_OF_A_BATTERY if field in _BATTERY else _ENERGY_OF_AN_INTERVAL
        return "kWh" if most < least else None
    if field == "duration_s":
        return "min" if most < _MINUTES else "ms" if most > _A_DAY else None
    return None
