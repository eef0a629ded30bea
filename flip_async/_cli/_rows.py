"""Files of telemetry, read row by row in constant memory."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Literal, Protocol, Self, get_args

FileFormat = Literal["csv", "jsonl", "parquet"]
Row = Mapping[str, object]
_BY_SUFFIX: Final[dict[str, FileFormat]] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_ROWS_AT_ONCE: Final = 1000


class FileError(Exception):
    """A file cannot be read; says why and what to do."""


class Rows(AbstractContextManager["Rows"], Protocol):
    """Rows of a file, with how far it is read."""

    def __iter__(self) -> Iterator[Row]: ...

    @property
    def fraction(self) -> float | None:
        """How much of the file is read, from 0 to 1; `None` where its end is not known."""
        ...


def open_rows(path: Path | None, given: FileFormat | None) -> Rows:
    """Open a file of rows; `None` is standard input.

    Raises:
        FileError: It is not there, or its format is not known.
    """
    form = given or _BY_SUFFIX.get("" if path is None else path.suffix.lower())
    if form is None:
        allowed = ", ".join(get_args(FileFormat))
        raise FileError(f"the name does not tell the format: pass --format, one of {allowed}")
    if form == "parquet":
        if path is None:
            raise FileError("Parquet is no stream: give it as a file")
        return _ParquetRows(path)
    try:
        # Not sys.stdin: a thread that waits for it would hold a lock when Python ends.
        raw: IO[bytes] = open(0, "rb", closefd=False) if path is None else path.open("rb")  # noqa: SIM115
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from None
    size = None if path is None else path.stat().st_size
    return _CsvRows(raw, size) if form == "csv" else _JsonRows(raw, size)


class _TextRows(Rows):
    """What CSV and JSON Lines have in common."""

    def __init__(self, raw: IO[bytes], size: int | None) -> None:
        self._raw: Final = raw
        self._size: Final = size
        self._text: Final = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")

    @property
    def fraction(self) -> float | None:
        if self._size is None:
            return None
        return self._raw.tell() / self._size if self._size else 1.0

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._size is not None:
            self._text.close()


class _CsvRows(_TextRows):
    def __iter__(self) -> Iterator[Row]:
        try:
            yield from csv.DictReader(self._text, restkey="", restval="")
        except (csv.Error, UnicodeDecodeError) as error:
            raise FileError(f"this is no CSV: {error}") from None


class _JsonRows(_TextRows):
    def __iter__(self) -> Iterator[Row]:
        for number, line in enumerate(self._lines(), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise FileError(f"line {number} is no JSON: {error}") from None
            if not isinstance(row, dict):
                raise FileError(f"line {number} is no JSON object")
            yield row

    def _lines(self) -> Iterator[str]:
        try:
            yield from self._text
        except UnicodeDecodeError as error:
            raise FileError(f"this is no JSON Lines: {error}") from None


class _ParquetRows(Rows):
    def __init__(self, path: Path) -> None:
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ModuleNotFoundError:
            raise FileError("Parquet needs pyarrow: pip install 'flip-async[parquet]'") from None
        self._read = 0
        try:
            self._file = parquet.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            raise FileError(f"cannot read {path}: {error}") from None

    def __iter__(self) -> Iterator[Row]:
        for batch in self._file.iter_batches(batch_size=_ROWS_AT_ONCE):
            for row in batch.to_pylist():
                self._read += 1
                yield row

    @property
    def fraction(self) -> float | None:
        count: int = self._file.metadata.num_rows
        return self._read / count if count else 1.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
