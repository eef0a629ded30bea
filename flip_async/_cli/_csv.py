"""CSV in the dialects of the trade, and strict: a row has the header's shape, or is none."""

import csv
import re
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final

from flip_async._cli._rows import Broken, FileError, Numbered, Rows
from flip_async._cli._text import Text, broken
from flip_async._cli._units import FIELDS

_BLANK: Final = " \r\n\x1a"  # the last is how DOS ends a text
_SEPARATORS: Final = (",", ";", "\t", "|")
_SEP_LINE: Final = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_LINES_IN_A_CELL: Final = 1000
_LONGEST_CELL: Final = 4_000_000


class CsvRows(Rows):
    """Rows of CSV."""

    def __init__(self, text: Text, separator: str | None) -> None:
        csv.field_size_limit(sys.maxsize)
        self._text: Final = text
        self._lines: Iterator[tuple[int, str]] = text.lines()
        self._ahead: Final[deque[tuple[int, str]]] = deque()
        self._given: Final = separator
        self._separator = separator
        self._columns: tuple[str, ...] | None = None
        self._ends_unnamed = False
        self._record: re.Pattern[str] | None = None

    @property
    def separator(self) -> str | None:
        return self._separator

    @property
    def is_stream(self) -> bool:
        return self._text.is_stream

    @property
    def fraction(self) -> float | None:
        return self._text.fraction

    # The header

    def header(self) -> Sequence[str]:
        if self._columns is None:
            self._columns = self._read_header()
        return self._columns

    def _read_header(self) -> tuple[str, ...]:
        first = self._first_line()
        if first is None:
            return ()
        number, line = first
        told = _SEP_LINE.fullmatch(line)
        if told is not None:
            if self._given is None:
                self._separator = told[1]
            number, line = self._first_line() or (number + 1, "")
        elif self._separator is None:
            self._separator = _separator_of(line)
        assert self._separator is not None
        self._record = _record(self._separator)
        reason = self._text.unreadable(line)
        if reason is not None:
            raise FileError(f"line {number:,}, the header, {reason}")
        cells = line.rstrip("\r\n").split(self._separator)
        if '"' in line:
            found = self._quoted(number, line, width=0)
            if isinstance(found, Broken):
                raise FileError(f"line {number:,}, the header, {found.reason}")
            cells = found
        return self._named([cell.strip() for cell in cells])

    def _first_line(self) -> tuple[int, str] | None:
        for number, line in self._lines:
            if line.strip(_BLANK):
                return number, line
        if self._text.is_stream:
            return None  # nothing came, and nothing is wrong
        raise FileError(f"{self._text.name} is empty: it has no header")

    def _named(self, names: list[str]) -> tuple[str, ...]:
        # Many a logger ends each line with a separator.
        self._ends_unnamed = len(names) > 1 and not names[-1]
        if self._ends_unnamed:
            names.pop()
        return tuple(name or f"column {n}" for n, name in enumerate(names, start=1))

    # Rows

    def __iter__(self) -> Iterator[Numbered]:
        columns = self.header()
        separator = self._separator
        width = len(columns) + self._ends_unnamed
        unreadable = self._text.unreadable
        for number, line in self._all_lines():
            if not line.isascii() or "\0" in line:
                reason = unreadable(line)
                if reason is not None:
                    yield number, broken(reason, line)
                    continue
            if '"' in line:
                found = self._quoted(number, line, width)
                if isinstance(found, Broken):
                    yield number, found
                    continue
                cells = found
            else:
                text = line.rstrip("\r\n")
                if not text.strip(_BLANK):
                    continue
                cells = text.split(separator)
            if len(cells) != width:
                yield number, broken(self._ragged(len(cells), width), line)
            elif self._ends_unnamed and cells[-1]:
                yield number, broken("has a value in a column without a name, the last", line)
            else:
                yield number, dict(zip(columns, cells, strict=False))

    def _all_lines(self) -> Iterator[tuple[int, str]]:
        while True:
            if self._ahead:
                yield self._ahead.popleft()
                continue
            for numbered in self._lines:
                yield numbered
                if self._ahead:
                    break
            else:
                return

    def _ragged(self, cells: int, width: int) -> str:
        hint = ""
        if cells > width and self._separator == ",":
            hint = ": has it a decimal comma that is not in quotes?"
        return f"has {cells} cells, and the header {width}{hint}"

    def _quoted(self, number: int, line: str, width: int) -> list[str] | Broken:
        """The cells of a line with quotes in it; one cell may go on over the next lines."""
        assert self._record is not None
        if self._record.fullmatch(line):
            return self._split(line)
        if not self._is_open(line):
            return broken("has a quote in the middle of a cell", line)
        taken: list[tuple[int, str]] = []
        text = line
        for following in self._following():
            taken.append(following)
            text += following[1]
            if len(taken) > _LINES_IN_A_CELL or len(text) > _LONGEST_CELL:
                break
            if '"' not in following[1]:
                # What looks like a row is one: the quote was never closed.
                if self._holds_a_row(following[1], width):
                    break
            elif self._record.fullmatch(text):
                cells = self._split(text)
                if any("\n" in cell and self._cell_holds_a_row(cell, width) for cell in cells):
                    break
                reason = self._text.unreadable(text)
                return cells if reason is None else broken(reason, text)
            elif not self._is_open(text):
                break
        self._ahead.extendleft(reversed(taken))
        return broken(f"has a quote that is not closed (line {number:,})", line)

    def _following(self) -> Iterator[tuple[int, str]]:
        while self._ahead:
            yield self._ahead.popleft()
        for numbered in self._lines:  # noqa: UP028  # `yield from` would close it with this one
            yield numbered

    def _split(self, text: str) -> list[str]:
        assert self._separator is not None
        return next(csv.reader([text], delimiter=self._separator, strict=True))

    def _is_open(self, text: str) -> bool:
        assert self._separator is not None
        try:
            next(csv.reader([text], delimiter=self._separator, strict=True))
        except csv.Error as error:
            return "unexpected end" in str(error)
        return False

    def _holds_a_row(self, text: str, width: int) -> bool:
        assert self._separator is not None
        return width > 1 and text.count(self._separator) >= width - 1

    def _cell_holds_a_row(self, cell: str, width: int) -> bool:
        return any(self._holds_a_row(part, width) for part in cell.splitlines()[1:])

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._text.close()


def _separator_of(line: str) -> str:
    """The separator that finds the most names of fields in a header, or else the most cells."""

    def found(separator: str) -> tuple[int, int]:
        try:
            cells = next(csv.reader([line], delimiter=separator))
        except csv.Error:
            cells = line.split(separator)
        return sum(cell.strip() in FIELDS for cell in cells), len(cells)

    return max(_SEPARATORS, key=found)


def _record(separator: str) -> re.Pattern[str]:
    """Cells that are quoted as a whole, or have no quote in them."""
    sep = re.escape(separator)
    cell = rf'(?:"[^"]*(?:""[^"]*)*"|[^"{sep}\r\n]*)'
    return re.compile(rf"{cell}(?:{sep}{cell})*(?:\r\n|\r|\n)?")
