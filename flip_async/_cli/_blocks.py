"""Rows of a file in blocks of points."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

import attrs

from flip_async import errors
from flip_async._cli._columns import Columns, Reader, RowError
from flip_async._cli._folds import Made, told_apart
from flip_async._cli._journal import NOTHING, Settled, mark_of
from flip_async._cli._numbers import Decimals
from flip_async._cli._rows import Broken, FileError, Numbered, Row, Rows
from flip_async._cli._suspicion import Suspicion
from flip_async.models import TelemetryPoint
from flip_async.telemetry import check_point

BLOCK: Final = 4000
"""Rows between two notes in the journal."""

_READ_AT_ONCE: Final = 4000
_SWITCH: Final = "pass --"


@attrs.frozen
class Origin:
    """Where something stands in the file.

    Attributes:
        ordinal: The row's number, from 1.
        line: Its line.
        row: The row, or what could be read of it.
    """

    ordinal: int
    line: int
    row: object


@attrs.frozen
class Block:
    """Some rows, made into points that can be sent.

    Attributes:
        points: What can be sent.
        origins: Where each of the points comes from, at the same index.
        bad: What cannot be sent, and why.
    """

    points: Sequence[TelemetryPoint]
    origins: Sequence[Origin]
    bad: Sequence[tuple[Origin, str]]


class Blocks:
    """Reads a file block by block; in one thread at a time.

    Attributes:
        reader: Makes the points.
    """

    def __init__(
        self,
        rows: Rows,
        columns: Columns,
        *,
        strict: bool,
        settled: Settled = NOTHING,
        of_another: str = "",
    ) -> None:
        self._rows: Final = rows
        self._columns: Final = columns
        self._strict: Final = strict
        self._settled: Final = settled
        self._of_another: Final = of_another
        self.reader: Reader | None = None

    def __iter__(self) -> Iterator[Block]:
        """Read.

        Raises:
            FileError: The file cannot be read, or its columns are not known.
        """
        header = self._rows.header()
        if header is not None and not header:
            return
        self.reader = Reader(self._columns, Decimals(self._rows.separator, self._columns.decimal))
        size = 1 if self._rows.is_stream else BLOCK
        made = told_apart(
            self._made(self.reader, header), self._columns.zone, may_wait=not self._rows.is_stream
        )
        wanted = (one for one in made if not self._settled.has(one.ordinal))
        is_first = True
        while found := list(islice(wanted, size)):
            block = _block(found)
            if is_first:
                _check_first(block)
            is_first = False
            yield block

    def warnings(self, suspicion: Suspicion) -> list[str]:
        """What looks odd about the columns and what is in them."""
        if self.reader is None:
            return []
        return [*self.reader.warnings, *suspicion.warnings(self.reader.sources())]

    def _made(self, reader: Reader, header: Sequence[str] | None) -> Iterator[Made]:
        numbered = iter(self._rows)
        at_once = 1 if self._rows.is_stream else _READ_AT_ONCE
        ordinal = 0
        has_begun = False
        while found := list(islice(numbered, at_once)):
            rows = [row for _, row in found if not isinstance(row, Broken)]
            if not has_begun:
                self._begin(reader, header, found, rows)
                has_begun = True
            reader.look(rows)
            for line, row in found:
                ordinal += 1
                if ordinal == self._settled.rows:
                    self._check_mark(line, row)
                # Rows that are done tell of the order of times, and nothing else.
                if self._columns.zone is None and self._settled.has(ordinal):
                    continue
                yield self._one(reader, ordinal, line, row)
        if ordinal < self._settled.rows:
            raise FileError(self._of_another)
        if not has_begun:
            reader.begin(header, [])

    def _check_mark(self, line: int, row: Row | Broken) -> None:
        """A file that has grown, or was mended further down, begins as it was."""
        content = row.values if isinstance(row, Broken) else row
        if self._settled.is_changed and self._settled.mark != mark_of(line, content):
            raise FileError(self._of_another)

    def _begin(
        self,
        reader: Reader,
        header: Sequence[str] | None,
        found: Sequence[Numbered],
        rows: Sequence[Row],
    ) -> None:
        if not rows and len(found) >= _READ_AT_ONCE:
            line, row = found[0]
            assert isinstance(row, Broken)
            raise FileError(
                f"none of the first {len(found):,} rows is one: line {line:,} {row.reason}"
            )
        is_all = len(found) < _READ_AT_ONCE and not self._rows.is_stream
        reader.begin(header, rows, is_all=is_all)

    def _one(self, reader: Reader, ordinal: int, line: int, row: Row | Broken) -> Made:
        if isinstance(row, Broken):
            return Made(ordinal, line, row.values, None, row.reason)
        try:
            point = reader.point(row)
            check_point(point, strict=self._strict)
        except (RowError, errors.InvalidArgumentError) as error:
            return Made(ordinal, line, row, None, str(error).removeprefix("point."))
        return Made(ordinal, line, row, point, None)


def _check_first(block: Block) -> None:
    """Refuse a file of which nothing can be sent, and a switch would mend that.

    Raises:
        FileError: It names the switch.
    """
    if len(block.bad) >= BLOCK and all(_SWITCH in reason for _, reason in block.bad):
        origin, reason = block.bad[0]
        raise FileError(
            f"none of the first {BLOCK:,} rows can be sent: line {origin.line:,}: {reason}"
        )


def _block(found: Sequence[Made]) -> Block:
    points: list[TelemetryPoint] = []
    origins: list[Origin] = []
    bad: list[tuple[Origin, str]] = []
    for made in found:
        origin = Origin(made.ordinal, made.line, made.row)
        if made.point is None:
            bad.append((origin, made.reason or "is no point"))
        else:
            points.append(made.point)
            origins.append(origin)
    return Block(points, origins, bad)
