"""`flip telemetry`: history from files, and points as they come."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final, Literal

import attrs
from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from flip_async import PRODUCTION, SANDBOX, FlipClient, errors
from flip_async._cli._blocks import Block, Refused, blocks, key_of, next_block
from flip_async._cli._columns import Columns
from flip_async._cli._journal import Journal
from flip_async._cli._rows import FileError, FileFormat, Rows, open_rows
from flip_async.models import TelemetryPoint
from flip_async.telemetry import TelemetryUploader, UploaderStats

telemetry: Final = App(name="telemetry", help="Send telemetry from files.")

BLOCK: Final = 4000  # rows between two notes in the journal
CLOSE_TIMEOUT_S: Final = 5.0
_LOOK_S: Final = 0.2
_SHOWN: Final = 5
_HOPELESS: Final = (
    errors.AuthenticationError,
    errors.PermissionDeniedError,
    errors.TokenRequestError,
    errors.ConfigurationError,
)
_ENVIRONMENTS: Final = {"production": PRODUCTION, "sandbox": SANDBOX}


@Parameter(name="*", negative="")
@attrs.frozen(kw_only=True)
class Reading:
    """How to read the file.

    Attributes:
        format: csv, jsonl or parquet; by default as the name ends.
        column: FIELD=COLUMN, for a field whose column has another name; may be repeated.
        set: FIELD=VALUE, for a field that the file does not have; may be repeated.
        time_zone: Zone of times that have none, such as Europe/Berlin.
        ignore_unknown: Pass over columns that are no field.
        strict: Refuse rows that lack a value while the device is online, or have one while it is
            offline.
        rejected: Where to write the rows that are refused; by default beside the file.
    """

    format: FileFormat | None = None
    column: tuple[str, ...] = ()
    set: tuple[str, ...] = ()
    time_zone: str | None = None
    ignore_unknown: bool = False
    strict: bool = False
    rejected: Path | None = None

    def columns(self) -> Columns:
        return Columns.parse(
            self.column, self.set, self.time_zone, ignores_unknown=self.ignore_unknown
        )


Environment = Annotated[
    Literal["production", "sandbox"] | None,
    Parameter(help="Where to; by default FLIP_ENVIRONMENT, or FLIP_API_URL."),
]


@telemetry.command
def backfill(
    file: Path,
    *,
    reading: Reading = Reading(),  # frozen
    environment: Environment = None,
    concurrency: int = 4,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    restart: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Send the history in a file, and go on where an earlier run was interrupted.

    How far it came stands in FILE.flip-progress: another run goes on behind it. Rows that are
    refused go to FILE.rejected.jsonl. After Ctrl-C nothing is sent twice; after a crash up to
    8,000 rows may be.

    Parameters
    ----------
    file
        CSV, JSON Lines or Parquet, of any size.
    concurrency
        How many requests may run at once.
    dry_run
        Read and check all rows, and send nothing.
    restart
        Begin with the first row, whatever an earlier run has sent.
    """
    console = Console(stderr=True)

    async def work() -> int:
        if dry_run:
            return await _check(file, reading, console)
        flip = _client(environment)
        journal = Journal.beside(file, repr(reading), flip.environment.api_url)
        if restart:
            journal.forget()
        done = journal.rows_done()
        if done:
            console.print(f"going on after row {done:,}")
        return await _send(
            flip, file, reading, console, concurrency=concurrency, journal=journal, skip=done
        )

    return _run(console, work, way_on="; run the same command again to go on")


@telemetry.command
def send(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)],
    *,
    reading: Reading = Reading(),  # frozen
    environment: Environment = None,
    concurrency: int = 4,
) -> int:
    """Send points as they come, from a file or from standard input, and keep no journal.

    Parameters
    ----------
    file
        CSV, JSON Lines or Parquet; - for standard input.
    concurrency
        How many requests may run at once.
    """
    console = Console(stderr=True)
    path = None if file == "-" else Path(file)

    async def work() -> int:
        return await _send(_client(environment), path, reading, console, concurrency=concurrency)

    return _run(console, work)


def _client(environment: str | None) -> FlipClient:
    return FlipClient(environment=None if environment is None else _ENVIRONMENTS[environment])


def _run(console: Console, work: Callable[[], Awaitable[int]], *, way_on: str = "") -> int:
    async def main() -> int:
        return await work()

    try:
        return asyncio.run(main())
    except KeyboardInterrupt:
        console.print(f"stopped{way_on}")
        return 130
    except (FileError, errors.FlipError, OSError) as error:
        console.print(f"{type(error).__name__}: {error}", style="red", markup=False)
        return 2


async def _check(file: Path, reading: Reading, console: Console) -> int:
    good = bad = 0
    columns = reading.columns()
    with open_rows(file, reading.format) as rows:
        found = blocks(rows, columns, skip=0, size=BLOCK, strict=reading.strict)
        while (block := await next_block(found)) is not None:
            for number, _, reason in block.bad[: max(0, _SHOWN - bad)]:
                console.print(f"row {number:,}: {reason}", markup=False)
            good += len(block.points)
            bad += len(block.bad)
    console.print(f"{good:,} rows can be sent, {bad:,} cannot; nothing was sent")
    return 1 if bad else 0


async def _send(
    flip: FlipClient,
    path: Path | None,
    reading: Reading,
    console: Console,
    *,
    concurrency: int,
    journal: Journal | None = None,
    skip: int = 0,
) -> int:
    columns = reading.columns()
    with ExitStack() as open_files:
        rows = open_files.enter_context(open_rows(path, reading.format))
        name = "telemetry" if path is None else str(path)
        refused = open_files.enter_context(
            Refused(reading.rejected or Path(f"{name}.rejected.jsonl"), goes_on=skip > 0)
        )
        progress = open_files.enter_context(_progress(console))
        run = Sending(rows, refused, journal, progress)
        # A pipe gives a point now and then, and each wants to be sent soon.
        size = BLOCK if path is not None else 1
        found = blocks(rows, columns, skip=skip, size=size, strict=reading.strict)
        async with flip:
            await run.all_of(found, flip, concurrency=concurrency)
    console.print(run.summary(), markup=False)
    return 1 if refused.count else 0


class Sending:
    """One run: blocks go to an uploader, and what is settled is noted."""

    def __init__(
        self, rows: Rows, refused: Refused, journal: Journal | None, progress: Progress
    ) -> None:
        self._rows: Final = rows
        self._refused: Final = refused
        self._journal: Final = journal
        self._progress: Final = progress
        self._bar: Final[TaskID] = progress.add_task("", total=None, told="")
        self._began_s: Final = time.monotonic()
        self._open: Final[list[Block]] = []
        self._sent = 0

    async def all_of(self, found: Iterator[Block], flip: FlipClient, *, concurrency: int) -> None:
        """Send all blocks.

        Raises:
            FlipError: Nothing will pass: the credential is refused, for instance.
        """
        uploader = flip.telemetry.uploader(
            concurrency=concurrency,
            close_timeout_s=CLOSE_TIMEOUT_S,
            on_rejected=self._rejected,
        )
        try:
            async with uploader:
                flushed: asyncio.Task[None] | None = None
                while (block := await next_block(found)) is not None:
                    self._add(block, uploader)
                    # One block is read while the one before is sent.
                    following = asyncio.create_task(uploader.flush())
                    await self._until(flushed, uploader)
                    flushed = following
                await self._until(flushed, uploader, may_stay=0)
        finally:
            self._sent = uploader.stats.sent
            if not uploader.stats.undelivered:  # leaving has sent what was open
                self._settled(may_stay=0)

    def _add(self, block: Block, uploader: TelemetryUploader[TelemetryPoint]) -> None:
        # With no await: after Ctrl-C a block is added or not, and the journal knows which.
        self._open.append(block)
        for number, row, reason in block.bad:
            self._refused.note(number, row, reason)
        for point in block.points:
            uploader.add_nowait(point)

    def _rejected(self, point: TelemetryPoint, reason: str) -> None:
        for block in self._open:
            number, row = block.rows.get(key_of(point), (None, None))
            if number is not None:
                self._refused.note(number, row, reason)
                return

    async def _until(
        self,
        flushed: asyncio.Task[None] | None,
        uploader: TelemetryUploader[TelemetryPoint],
        *,
        may_stay: int = 1,
    ) -> None:
        while flushed is not None and not flushed.done():
            await asyncio.wait([flushed], timeout=_LOOK_S)
            self._show(uploader.stats)
        if flushed is not None:
            flushed.result()
            self._settled(may_stay=may_stay)
        self._show(uploader.stats)

    def _settled(self, *, may_stay: int) -> None:
        while len(self._open) > may_stay:
            block = self._open.pop(0)
            if self._journal is not None:
                self._journal.save(block.end)

    def _show(self, stats: UploaderStats) -> None:
        if isinstance(stats.blocked_by, _HOPELESS):
            raise stats.blocked_by
        rate = stats.sent / max(0.001, time.monotonic() - self._began_s)
        told = f"{stats.sent:,} sent, {self._refused.count:,} refused, {rate:,.0f}/s"
        if stats.blocked_by is not None:
            told += f" - held up: {stats.blocked_by}"
        fraction = self._rows.fraction
        total = None if fraction is None else 1.0
        self._progress.update(self._bar, total=total, completed=fraction or 0.0, told=told)

    def summary(self) -> str:
        """What became of the rows."""
        text = f"{self._sent:,} points sent, {self._refused.count:,} rows refused"
        return f"{text}: see {self._refused.path}" if self._refused.count else text


def _progress(console: Console) -> Progress:
    return Progress(
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[told]}", markup=False),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
