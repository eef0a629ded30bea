"""Rows of a file in blocks of points, and where to note what is refused."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Final

import attrs

from flip_async import errors
from flip_async._cli._columns import Columns, RowError
from flip_async._cli._rows import Row
from flip_async.models import TelemetryPoint
from flip_async.telemetry import check_point

Key = tuple[str, object]


@attrs.frozen
class Block:
    """Some rows, made into points that can be sent.

    Attributes:
        end: Number of the last row, from 1.
        points: What can be sent.
        bad: What cannot: number, row, and why.
        rows: Where each point comes from.
    """

    end: int
    points: Sequence[TelemetryPoint]
    bad: Sequence[tuple[int, Row, str]]
    rows: dict[Key, tuple[int, Row]]


def key_of(point: TelemetryPoint) -> Key:
    """What tells a point from others of its file."""
    return point.device_id, point.start_time


def blocks(
    rows: Iterable[Row], columns: Columns, *, skip: int, size: int, strict: bool
) -> Iterator[Block]:
    """Read rows block by block.

    Raises:
        FileError: The file cannot be read, or its columns are not known.
    """
    numbered = enumerate(rows, start=1)
    is_first = True
    while block := list(islice(numbered, size)):
        if is_first:
            columns.check_header(block[0][1])
            is_first = False
        if block[-1][0] > skip:
            yield _block([(number, row) for number, row in block if number > skip], columns, strict)


def _block(numbered: Sequence[tuple[int, Row]], columns: Columns, strict: bool) -> Block:
    points: list[TelemetryPoint] = []
    bad: list[tuple[int, Row, str]] = []
    origin: dict[Key, tuple[int, Row]] = {}
    for number, row in numbered:
        try:
            point = columns.point(row)
            check_point(point, strict=strict)
        except (RowError, errors.InvalidArgumentError) as error:
            bad.append((number, row, str(error).removeprefix("point.")))
        else:
            points.append(point)
            origin[key_of(point)] = (number, row)
    return Block(numbered[-1][0], points, bad, origin)


async def next_block(found: Iterator[Block]) -> Block | None:
    """Read a block beside the event loop; `None` at the end.

    In a thread that nobody waits for: it may sit at a pipe for ever, and Ctrl-C ends it.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Block | None] = loop.create_future()

    def tell(block: Block | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(block)
        else:
            done.set_exception(error)

    def work() -> None:
        block, problem = None, None
        try:
            block = next(found, None)
        except Exception as error:  # raised where it is awaited
            problem = error
        with contextlib.suppress(RuntimeError):  # the loop is over
            loop.call_soon_threadsafe(tell, block, problem)

    threading.Thread(target=work, daemon=True).start()
    return await done


class Refused(AbstractContextManager["Refused"]):
    """A file of rows that were refused, with reasons; it is made with the first of them.

    Attributes:
        count: How many there are.
    """

    def __init__(self, path: Path, *, goes_on: bool) -> None:
        self.count = 0
        self.path: Final = path
        self._mode: Final = "a" if goes_on else "w"
        self._file: IO[str] | None = None

    def note(self, number: int | None, row: object, reason: str) -> None:
        """Write one down."""
        if self._file is None:
            self._file = self.path.open(self._mode, encoding="utf-8")
        self.count += 1
        self._file.write(
            json.dumps({"row": number, "reason": reason, "values": row}, default=str) + "\n"
        )
        self._file.flush()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
