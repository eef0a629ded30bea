"""Parquet, with the types that warehouses and pandas write."""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias
from zoneinfo import ZoneInfo

from flip_async._cli._rows import FileError, Numbered, Rows, Unreadable, shown, why

# pyarrow has no types.
Array: TypeAlias = Any
DataType: TypeAlias = Any
Field: TypeAlias = Any
Scalar: TypeAlias = Any
Schema: TypeAlias = Any

_ROWS_AT_ONCE: Final = 1000
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001  # of times without a zone
_EPOCH_UTC: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = {"s": (1_000_000, 1), "ms": (1000, 1), "us": (1, 1), "ns": (1, 1000)}
_OFFSET: Final = re.compile(r"[+-]\d\d:?\d\d")


class ParquetRows(Rows):
    """Rows of Parquet; their lines are their numbers."""

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ModuleNotFoundError:
            raise FileError("Parquet needs pyarrow: pip install 'flip-async[parquet]'") from None
        self._read = 0
        self._failures: Final = (OSError, pa.ArrowException)
        try:
            self._file = parquet.ParquetFile(path)
            self._schema: Schema = self._file.schema_arrow
        except self._failures as error:
            raise FileError(f"cannot read {path}: {shown(why(error), 200)}") from None
        self._path: Final = path

    @property
    def separator(self) -> str | None:
        return None

    @property
    def is_stream(self) -> bool:
        return False

    @property
    def fraction(self) -> float | None:
        count: int = self._file.metadata.num_rows
        return self._read / count if count else 1.0

    def header(self) -> Sequence[str]:
        names: list[str] = list(self._schema.names)
        for field in self._schema:
            _check_zone(field)
        return names

    def __iter__(self) -> Iterator[Numbered]:
        names = self.header()
        batches = iter(self._file.iter_batches(batch_size=_ROWS_AT_ONCE))
        while True:
            try:
                batch = next(batches, None)
            except self._failures as error:
                raise FileError(
                    f"cannot read {self._path} behind row {self._read:,}: "
                    f"{shown(why(error), 200)}; write the file anew, and run again"
                ) from None
            if batch is None:
                return
            for values in zip(*map(_values, batch.columns), strict=True):
                self._read += 1
                yield self._read, dict(zip(names, values, strict=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()


def _check_zone(field: Field) -> None:
    import pyarrow as pa

    zone = field.type.tz if pa.types.is_timestamp(field.type) else None
    if zone is None or _OFFSET.fullmatch(zone):
        return
    try:
        ZoneInfo(zone)
    except (OSError, ValueError, KeyError):  # KeyError: ZoneInfoNotFoundError
        raise FileError(
            f"the column {shown(field.name)} is in the time zone {shown(zone)}, which is not "
            "known: write it in UTC (or pip install tzdata, if the zone exists)"
        ) from None


def _values(column: Array) -> Sequence[object]:
    """The cells of a column as Python has them, whatever else is installed."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_timestamp(kind):
        return _moments(column, kind.unit, has_zone=kind.tz is not None)
    if pa.types.is_float16(kind):
        column, kind = column.cast(pa.float32()), pa.float32()
    if pa.types.is_float32(kind):
        # By way of text: 50.1 is meant, not 50.099998474121094.
        texts: list[str | None] = column.cast(pa.string()).to_pylist()
        return [None if text is None else float(text) for text in texts]
    try:
        return _cells(column)
    except Exception:  # of any library that a type belongs to: some cell is to blame
        return [_cell(scalar) for scalar in column]


def _cells(column: Array) -> Sequence[object]:
    import pyarrow as pa

    if pa.types.is_duration(column.type):
        scale, divisor = _US[column.type.unit]
        whole: list[int | None] = column.cast(pa.int64()).to_pylist()
        return [
            None if value is None else timedelta(microseconds=value * scale // divisor)
            for value in whole
        ]
    coarser = _coarser(column.type)
    if coarser != column.type:
        column = column.cast(coarser, safe=False)
    cells: list[object] = column.to_pylist()
    return cells


def _coarser(kind: DataType) -> DataType:
    """A type without nanoseconds, for which Python has no value."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_coarser(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_coarser(kind.value_type)))
    return kind


def _cell(scalar: Scalar) -> object:
    try:
        value: object = scalar.as_py()
        return value
    except Exception as error:  # as above
        return Unreadable(f"cannot be read: {shown(why(error), 100)}")


def _moments(column: Array, unit: str, *, has_zone: bool) -> Sequence[object]:
    import pyarrow as pa

    epoch = _EPOCH_UTC if has_zone else _EPOCH
    scale, divisor = _US[unit]
    whole: list[int | None] = column.cast(pa.int64()).to_pylist()
    make: Callable[[int], object] = _moment_of(epoch)
    return [None if value is None else make(value * scale // divisor) for value in whole]


def _moment_of(epoch: datetime) -> Callable[[int], object]:
    def make(microseconds: int) -> object:
        try:
            return epoch + timedelta(microseconds=microseconds)
        except OverflowError:
            return Unreadable("is out of range: no year from 1 to 9999")

    return make
