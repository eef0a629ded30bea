"""Rows of a file to points: which column is which field, and what its text means."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import attrs

from flip_async._cli._rows import FileError, Row
from flip_async.models import TelemetryPoint

FIELDS: Final = tuple(field.name for field in attrs.fields(TelemetryPoint))
_REQUIRED: Final = ("device_id", "start_time", "duration_s")
_TEXTS: Final = ("device_id", "last_mode")
_FLAGS: Final = ("last_is_online", "last_is_grid_online")
_TRUE: Final = frozenset({"true", "t", "yes", "y", "1"})
_FALSE: Final = frozenset({"false", "f", "no", "n", "0"})


class RowError(Exception):
    """A row is no point; says which column and why."""


@attrs.frozen(kw_only=True)
class Columns:
    """How to read a row.

    Attributes:
        column_of: The column of a field, where it has another name.
        constants: Values of fields that the file does not have, as text.
        zone: Zone of times that have none.
        ignores_unknown: Pass over columns that are no field.
    """

    column_of: Mapping[str, str]
    constants: Mapping[str, str]
    zone: ZoneInfo | None
    ignores_unknown: bool

    @classmethod
    def parse(
        cls,
        columns: Sequence[str],
        constants: Sequence[str],
        time_zone: str | None,
        *,
        ignores_unknown: bool,
    ) -> "Columns":
        """Read what the command line says.

        Raises:
            FileError: It makes no sense.
        """
        try:
            zone = None if time_zone is None else ZoneInfo(time_zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise FileError(f"--time-zone {time_zone} is not known: try Europe/Berlin") from None
        return cls(
            column_of=_pairs(columns, "--column"),
            constants=_pairs(constants, "--set"),
            zone=zone,
            ignores_unknown=ignores_unknown,
        )

    def check_header(self, row: Row) -> None:
        """Look at the first row's columns.

        Raises:
            FileError: A column is no field, or a field has no column.
        """
        known = {*FIELDS} - self.column_of.keys() | {*self.column_of.values()}
        unknown = [column for column in row if column not in known]
        if unknown and not self.ignores_unknown:
            raise FileError(
                f"no field of telemetry: {', '.join(unknown)}; name their fields with "
                "--column FIELD=COLUMN, or pass --ignore-unknown"
            )
        for field in _REQUIRED:
            if field not in self.constants and self.column_of.get(field, field) not in row:
                raise FileError(
                    f"no column {field}: pass --column {field}=COLUMN or --set {field}=VALUE"
                )

    def point(self, row: Row) -> TelemetryPoint:
        """Make a point.

        Raises:
            RowError: It cannot be one.
        """
        values: dict[str, object] = {}
        for field in FIELDS:
            column = self.column_of.get(field, field)
            if column in row:
                values[field] = self._value(field, row[column], column)
            elif field in self.constants:
                values[field] = self._value(field, self.constants[field], field)
        for field in _REQUIRED:
            if values.get(field) is None:
                raise RowError(f"{field}: is missing")
        return TelemetryPoint(**values)  # type: ignore[arg-type]  # checked when it is added

    def _value(self, field: str, value: object, column: str) -> object:
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            return None
        try:
            if field == "start_time":
                return self._moment(value)
            if field in _TEXTS or not isinstance(value, str):
                return value
            return _flag(value) if field in _FLAGS else float(value)
        except ValueError as error:
            raise RowError(f"{column}: {error}") from None

    def _moment(self, value: object) -> object:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(moment, datetime):
            raise ValueError(f"is a date-time, not {type(value).__name__}")
        if moment.tzinfo is None:
            if self.zone is None:
                raise ValueError("has no time zone: pass --time-zone")
            return moment.replace(tzinfo=self.zone)
        return moment


def _flag(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("is true or false")


def _pairs(given: Sequence[str], option: str) -> dict[str, str]:
    pairs = {}
    for text in given:
        field, equals, value = text.partition("=")
        if not equals or not value:
            raise FileError(f"{option} {text}: is FIELD=VALUE")
        if field not in FIELDS:
            raise FileError(f"{option} {text}: {field} is no field; they are {', '.join(FIELDS)}")
        pairs[field] = value
    return pairs
