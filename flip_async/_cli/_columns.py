"""Rows of a file to points: which column is which field, and what its cells mean."""

import difflib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

import attrs

from flip_async import errors
from flip_async._cli import _values
from flip_async._cli._numbers import Decimals, Mark
from flip_async._cli._rows import FileError, Row, Unreadable, listed, shown
from flip_async._cli._times import Times
from flip_async._cli._units import (
    FIELDS,
    FLAGS,
    REQUIRED,
    TEXTS,
    is_number,
    is_unit,
    scaled,
    units_of,
)
from flip_async.models import TelemetryPoint
from flip_async.telemetry import check_point

Read = Callable[[object], object]


class RowError(Exception):
    """A row is no point; says which column and why."""


@attrs.frozen
class Source:
    """Where the values of a field come from.

    Attributes:
        column: The name of a column.
        unit: In what it counts, or `None` for the field's own.
    """

    column: str
    unit: str | None = None

    @classmethod
    def parse(cls, field: str, text: str) -> "Source":
        """Read `NAME`, `NAME:UNIT` or `:UNIT`.

        Raises:
            FileError: The field has no such unit.
        """
        name, colon, unit = text.rpartition(":")
        if not colon or not is_unit(unit):
            return cls(text)
        units = units_of(field)
        if unit not in units:
            own = f"its units are {', '.join(units)}" if units else "it has none"
            raise FileError(f"--column {field}={text}: {unit} is no unit of {field}; {own}")
        return cls(name or field, unit)


@attrs.frozen(kw_only=True)
class Columns:
    """What the command line says of columns.

    Attributes:
        sources: The column of a field, where it has another name or another unit.
        constants: Values of fields that the file does not have, as text.
        zone: Zone of times that have none.
        time_format: How times are written, where it is not ISO 8601.
        decimal: The decimal mark of numbers that are text.
        ignores_unknown: Pass over columns that are no field.
    """

    sources: Mapping[str, Source] = attrs.field(factory=dict[str, Source])
    constants: Mapping[str, str] = attrs.field(factory=dict[str, str])
    zone: ZoneInfo | None = None
    time_format: str | None = None
    decimal: Mark | None = None
    ignores_unknown: bool = False

    @classmethod
    def parse(
        cls,
        columns: Sequence[str],
        constants: Sequence[str],
        *,
        time_zone: str | None = None,
        time_format: str | None = None,
        decimal: Mark | None = None,
        ignores_unknown: bool = False,
    ) -> "Columns":
        """Read what the command line says.

        Raises:
            FileError: It makes no sense.
        """
        try:
            zone = None if time_zone is None else ZoneInfo(time_zone)
        except (OSError, ValueError, KeyError):  # KeyError: ZoneInfoNotFoundError
            raise FileError(
                f"--time-zone {shown(time_zone)} is not known: try Europe/Berlin"
            ) from None
        pairs = _pairs(columns, "--column")
        made = cls(
            sources={field: Source.parse(field, text) for field, text in pairs.items()},
            constants=_pairs(constants, "--set"),
            zone=zone,
            time_format=time_format,
            decimal=decimal,
            ignores_unknown=ignores_unknown,
        )
        both = [field for field in made.constants if field in made.sources]
        if both:
            raise FileError(f"{both[0]} has both --column and --set: leave one out")
        Reader(made, Decimals(None, None)).check_constants()
        return made


class Reader:
    """Makes points of rows; one for each run, since a file's decimal mark is found on the way.

    Attributes:
        warnings: What looks odd about the columns.
    """

    def __init__(self, columns: Columns, decimals: Decimals) -> None:
        self._columns: Final = columns
        self._decimals: Final = decimals
        self._source: Final = {field: columns.sources.get(field, Source(field)) for field in FIELDS}
        self._known: Final = frozenset(source.column for source in self._source.values())
        self._readers: Final = [
            (field, source.column, self._reader(field, source))
            for field, source in self._source.items()
        ]
        self._constants: Final[dict[str, object]] = {}
        self._header: Sequence[str] | None = None
        self.warnings: Final[list[str]] = []

    # Before the first row

    def check_constants(self) -> None:
        """Read the values of `--set`.

        Raises:
            FileError: One of them is none of its field.
        """
        values = self._constant_values()
        example: dict[str, object] = {
            "device_id": "a", "start_time": datetime(2025, 1, 1, tzinfo=UTC), "duration_s": 0,
        }  # fmt: skip
        try:
            check_point(TelemetryPoint(**(example | values)))  # type: ignore[arg-type]  # it checks
        except errors.InvalidArgumentError as error:
            raise FileError(f"--set: {str(error).removeprefix('point.')}") from None

    def _constant_values(self) -> dict[str, object]:
        try:
            return {
                field: self._reader(field, Source(field))(text)
                for field, text in self._columns.constants.items()
            }
        except ValueError as error:
            raise FileError(
                f"--set {listed([f'{k}={v}' for k, v in self._columns.constants.items()])}: {error}"
            ) from None

    def begin(
        self, header: Sequence[str] | None, first: Sequence[Row], *, is_all: bool = True
    ) -> None:
        """Look at the columns: of the header, or of the first rows where each has its own.

        Args:
            header: The names, or `None`.
            first: The first rows.
            is_all: Whether there are no more of them.

        Raises:
            FileError: A column is no field, a field has no column, or an option names none.
        """
        self._constants.update(self._constant_values())
        present = header if header is not None else list(dict.fromkeys(k for r in first for k in r))
        # A key that only some rows have costs these rows; one that all have is a column.
        common = (
            present if header is not None else [k for k in present if all(k in r for r in first)]
        )
        if header is None and not first:
            return
        self._check_names(present)
        self._check_options(present, may_come=header is None and not is_all)
        self._check_required(present)
        unknown = [column for column in common if column not in self._known]
        if unknown and not self._columns.ignores_unknown:
            raise FileError(
                f"no field of telemetry: {listed(unknown)}; name their fields with "
                "--column FIELD=COLUMN, or pass --ignore-unknown"
            )
        if header is not None:
            self._header = header
            self._readers[:] = [one for one in self._readers if one[1] in header]
            both = [field for field in self._constants if field in header]
            if both:
                raise FileError(f"the file has a column {both[0]}: leave out --set {both[0]}")

    def _check_names(self, present: Sequence[str]) -> None:
        twice = [
            name
            for name, count in Counter(present).items()
            if count > 1 and (name in self._known or not self._columns.ignores_unknown)
        ]
        if twice:
            places = [str(n) for n, name in enumerate(present, start=1) if name == twice[0]]
            raise FileError(
                f"two columns have one name, {listed(twice)} (columns {' and '.join(places)}): "
                "give each a name of its own"
            )

    def _check_options(self, present: Sequence[str], *, may_come: bool) -> None:
        others = {name.lower(): name for name in present if name not in self._known}
        for field, source in self._columns.sources.items():
            if source.column not in present:
                near = difflib.get_close_matches(source.column.lower(), others, n=1)
                if may_come and not near and field not in REQUIRED:
                    # A value that only some rows have, and none of the first.
                    self.warnings.append(f"no row so far has {shown(source.column)}, for {field}")
                    continue
                meant = f" (is it {shown(others[near[0]])}?)" if near else ""
                units = ", ".join(f":{unit}" for unit in units_of(field))
                hint = f"; a unit may be one of {units}" if ":" in source.column and units else ""
                raise FileError(
                    f"--column {field}={shown(source.column)}: no column {shown(source.column)}"
                    f"{meant}{hint}; there are {listed(present)}"
                )

    def _check_required(self, present: Sequence[str]) -> None:
        for field in REQUIRED:
            if field not in self._columns.constants and self._source[field].column not in present:
                raise FileError(
                    f"no column {field}: pass --column {field}=COLUMN or --set {field}=VALUE; "
                    f"there are {listed(present)}"
                )

    # Rows

    def look(self, rows: Sequence[Row]) -> None:
        """Look at rows before they are read: which decimal mark do they have?"""
        if self._decimals.mark is None:
            columns = [column for field, column, _ in self._readers if is_number(field)]
            cells = (row.get(column) for row in rows for column in columns)
            self._decimals.look(cell for cell in cells if isinstance(cell, str))

    def point(self, row: Row) -> TelemetryPoint:
        """Make a point.

        Raises:
            RowError: It cannot be one.
        """
        if self._header is None and not (
            self._columns.ignores_unknown or row.keys() <= self._known
        ):
            unknown = [column for column in row if column not in self._known]
            raise RowError(f"no field of telemetry: {listed(unknown)}")
        values = self._constants.copy()
        for field, column, read in self._readers:
            if column in row:
                try:
                    values[field] = read(row[column])
                except ValueError as error:
                    raise RowError(f"{column}: {error}") from None
                except RecursionError:
                    raise RowError(f"{column}: is too deep") from None
        for field in REQUIRED:
            if values.get(field) is None:
                raise RowError(f"{self._source[field].column}: is missing")
        if values.get("oem_raw_data", 0) is None:
            del values["oem_raw_data"]
        return TelemetryPoint(**values)  # type: ignore[arg-type]  # checked before it is sent

    def _reader(self, field: str, source: Source) -> Read:
        if field == "start_time":
            return self._time_reader(source)
        if field in FLAGS:
            return _guarded(_values.flag)
        if field in TEXTS:
            return _guarded(_values.text)
        if field == "oem_raw_data":
            return _guarded(lambda value: None if _values.is_nothing(value) else _values.raw(value))
        return self._number_reader(field, source)

    def _number_reader(self, field: str, source: Source) -> Read:
        scale = 1.0 if source.unit is None else units_of(field)[source.unit]
        decimals = self._decimals

        def number(value: object) -> object:
            if isinstance(value, str) and decimals.mark == "point":
                # The short way of most cells: 14 of them a row, and millions of rows.
                try:
                    found = float(value)
                except ValueError:
                    pass
                else:
                    if math.isfinite(found) and "_" not in value:
                        return found if scale == 1.0 else scaled(found, scale)
            if isinstance(value, Unreadable):
                raise ValueError(value.reason)
            known = _values.number(value, decimals)
            return known if known is None or scale == 1.0 else scaled(known, scale)

        return number

    def _time_reader(self, source: Source) -> Read:
        times = Times(
            column=source.column,
            epoch=source.unit,
            form=self._columns.time_format,
            zone=self._columns.zone,
        )
        return _guarded(lambda value: None if _values.is_nothing(value) else times.read(value))

    def sources(self) -> Mapping[str, Source]:
        """Which column each field comes from."""
        return self._source


def _guarded(read: Read) -> Read:
    def guarded(value: object) -> object:
        if isinstance(value, Unreadable):
            raise ValueError(value.reason)
        return read(value)

    return guarded


def _pairs(given: Sequence[str], option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given:
        field, equals, value = text.partition("=")
        if not equals or not value:
            raise FileError(f"{option} {shown(text)}: is FIELD=VALUE")
        if field not in FIELDS:
            raise FileError(
                f"{option} {shown(text)}: {shown(field)} is no field; they are {', '.join(FIELDS)}"
            )
        if field in pairs:
            raise FileError(f"{option} {field} is given twice: leave one out")
        pairs[field] = value
    return pairs
