"""Rows of a file: what they are, and which reader a file wants."""

import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Literal, Protocol, get_args

import attrs

FileFormat = Literal["csv", "jsonl", "json", "parquet"]
Row = Mapping[str, object]

_BY_SUFFIX: Final[dict[str, FileFormat]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_SEPARATORS: Final = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}
_SHOWN: Final = 60


class FileError(Exception):
    """A file cannot be read or written; says why and what to do."""


@attrs.frozen
class Broken:
    """What stands where a row should be.

    Attributes:
        reason: Why it is none.
        values: What could be read of it.
    """

    reason: str
    values: object


@attrs.frozen
class Unreadable:
    """A cell that Python has no value for.

    Attributes:
        reason: Why not.
    """

    reason: str


Numbered = tuple[int, Row | Broken]
"""A row with its line; in Parquet, which has no lines, with its number from 1."""


class Rows(AbstractContextManager["Rows"], Protocol):
    """Rows of a file, read in constant memory."""

    @property
    def separator(self) -> str | None:
        """What stands between the cells, where they are text; known behind the header."""
        ...

    @property
    def is_stream(self) -> bool:
        """Whether rows come when they come, so that nobody should wait for the next."""
        ...

    @property
    def fraction(self) -> float | None:
        """How much of the file is read, from 0 to 1; `None` where its end is not known."""
        ...

    def header(self) -> Sequence[str] | None:
        """The names of the columns; `None` where each row has its own.

        Raises:
            FileError: It cannot be read.
        """
        ...

    def __iter__(self) -> Iterator[Numbered]: ...


def _separator(text: str | None) -> str | None:
    separator = text if text is None else _SEPARATORS.get(text, text)
    if separator is not None and (len(separator) != 1 or separator in '"\r\n'):
        raise FileError("--separator is one character, or tab")
    return separator


@attrs.frozen(kw_only=True)
class Dialect:
    """What is told of a file of text, where it does not tell itself.

    Attributes:
        encoding: Its character encoding.
        separator: What stands between the cells of CSV.
    """

    encoding: str | None = None
    separator: str | None = attrs.field(default=None, converter=_separator)


def open_rows(path: Path | None, given: FileFormat | None, dialect: Dialect) -> Rows:
    """Open a file of rows; `None` is standard input.

    Raises:
        FileError: It is not there, or its format is not known.
    """
    form = given or (None if path is None else _by_name(path.name))
    if form is None:
        allowed = ", ".join(get_args(FileFormat))
        raise FileError(f"the name does not tell the format: pass --format, one of {allowed}")
    if form == "parquet":
        from flip_async._cli._parquet import ParquetRows

        if path is None or not is_regular(path):
            raise FileError("Parquet is no stream: give it as a file")
        return ParquetRows(path)
    from flip_async._cli._text import Text

    text = Text(path, dialect.encoding)
    if form == "csv":
        from flip_async._cli._csv import CsvRows

        return CsvRows(text, dialect.separator)
    from flip_async._cli._json import JsonRows

    return JsonRows(text)


def _by_name(name: str) -> FileFormat | None:
    name = name.lower().removesuffix(".gz")
    return _BY_SUFFIX.get(Path(name).suffix)


def is_regular(path: Path) -> bool:
    """Whether it is a file on disk, not a pipe.

    Raises:
        FileError: It is not there, or is a folder.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise FileError(f"cannot read {path}: {why(error)}") from None
    if stat.S_ISDIR(mode):
        raise FileError(f"cannot read {path}: it is a folder")
    return stat.S_ISREG(mode)


def why(error: Exception) -> str:
    """An error of the system in its own words."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def shown(value: object, at_most: int = _SHOWN) -> str:
    """Something out of a file for a message: short, and of characters that print."""
    text = str(value)
    text = text if len(text) <= at_most else f"{text[:at_most]}…"
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def listed(names: Sequence[str], at_most: int = 25) -> str:
    """Names out of a file for a message."""
    text = ", ".join(shown(name) or "(no name)" for name in names[:at_most])
    return text if len(names) <= at_most else f"{text} and {len(names) - at_most:,} more"
