"""`flip telemetry`: history from files, and points as they come."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Final

import attrs
from cyclopts import App, Parameter
from rich.console import Console

from flip_async import FlipClient
from flip_async._cli._blocks import Blocks
from flip_async._cli._client import EnvironmentName, TokenFile, make_client
from flip_async._cli._columns import Columns
from flip_async._cli._console import run, say
from flip_async._cli._journal import NOTHING, Journal, Settled
from flip_async._cli._numbers import Mark
from flip_async._cli._preview import preview
from flip_async._cli._refused import Refused
from flip_async._cli._rows import Dialect, FileError, FileFormat, Rows, open_rows
from flip_async._cli._sending import Sending, progress_bar

telemetry: Final = App(name="telemetry", help="Send telemetry from files.")


@Parameter(name="*", negative="")
@attrs.frozen(kw_only=True)
class Reading:
    """How to read the file.

    Attributes:
        format: csv, jsonl, json or parquet; by default as the name ends, before a .gz.
        column: FIELD=COLUMN, for a field whose column has another name, and FIELD=COLUMN:UNIT
            where it counts in another unit: kW, kWh, ratio, min, epoch_s, epoch_ms and others;
            may be repeated.
        set: FIELD=VALUE, for a field that the file does not have; may be repeated.
        time_zone: Zone of times that have none, such as Europe/Berlin.
        time_format: How times are written, where it is not ISO 8601, such as "%d.%m.%Y %H:%M".
        decimal: Decimal mark of numbers in CSV; by default as the cells tell.
        separator: What stands between the cells of CSV, or tab; by default as the header tells.
        encoding: Character encoding of text; by default UTF-8, or as a byte order mark tells.
        ignore_unknown: Pass over columns that are no field.
        strict: Refuse rows that lack a value while the device is online, or have one while it is
            offline.
        rejected: Where to write the rows that are refused; by default beside the file.
    """

    format: FileFormat | None = None
    column: tuple[str, ...] = ()
    set: tuple[str, ...] = ()
    time_zone: str | None = None
    time_format: str | None = None
    decimal: Mark | None = None
    separator: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    encoding: str | None = None
    ignore_unknown: bool = False
    strict: bool = False
    rejected: Path | None = None

    def columns(self) -> Columns:
        """What is said of columns."""
        return Columns.parse(
            self.column,
            self.set,
            time_zone=self.time_zone,
            time_format=self.time_format,
            decimal=self.decimal,
            ignores_unknown=self.ignore_unknown,
        )

    @contextmanager
    def opened(
        self,
        path: Path | None,
        settled: Settled = NOTHING,
        of_another: str = "",
    ) -> Generator[tuple[Rows, Blocks]]:
        """Open the file.

        Args:
            path: Where it is.
            settled: The rows that are not wanted any more.
            of_another: What to say where these are of another file.
        """
        columns = self.columns()
        dialect = Dialect(encoding=self.encoding, separator=self.separator)
        with open_rows(path, self.format, dialect) as rows:
            blocks = Blocks(
                rows, columns, strict=self.strict, settled=settled, of_another=of_another
            )
            yield rows, blocks

    def list_beside(self, path: Path | None) -> Path:
        """Where refused rows are listed.

        Raises:
            FileError: It is the file itself.
        """
        where = self.rejected or Path(f"{path or 'telemetry'}.rejected.jsonl")
        if path is not None and where.exists() and where.samefile(path):
            raise FileError(f"--rejected {where} is the file that is sent: name another one")
        return where


@telemetry.command
def backfill(
    file: Path,
    *,
    reading: Reading = Reading(),  # frozen
    environment: EnvironmentName = None,
    token_file: TokenFile = None,
    concurrency: int = 4,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    restart: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Send the history in a file, and go on where an earlier run was interrupted.

    How far it came stands in FILE.flip-progress: another run goes on behind it. Rows that are
    refused go to FILE.rejected.jsonl. After Ctrl-C nothing is sent twice; after a crash up to
    4,000 rows may be. It ends with 0 when all rows were sent, 1 when some were refused and
    listed, 2 when it could not go on, 130 after Ctrl-C, 143 after SIGTERM.

    Parameters
    ----------
    file
        CSV, JSON Lines, a JSON array or Parquet, of any size; text may be compressed (.gz).
    concurrency
        How many requests may run at once.
    dry_run
        Read and check all rows, show the first ones as they would be sent, and send nothing.
    restart
        Begin with the first row, whatever an earlier run has sent.
    """
    console = Console(stderr=True)
    kept: list[Journal] = []

    async def work() -> int:
        if dry_run:
            with reading.opened(file) as (rows, blocks):
                return await preview(rows, blocks, console)
        flip = make_client(environment, token_file)
        journal = Journal.beside(file, repr(reading), flip.environment.api_url)
        settled = NOTHING if restart else journal.settled()
        if settled.count:
            say(console, f"going on {settled.where()}")
        with reading.opened(file, settled, journal.of_another()) as (rows, blocks):
            # Tried before the first row goes out: what cannot be noted would go out again.
            journal.save(settled)
            kept.append(journal)
            return await _send(
                flip, rows, blocks, reading.list_beside(file), console,
                concurrency=concurrency, journal=journal, settled=settled,
            )  # fmt: skip

    return run(console, work, lambda: _way_on(kept))


def _way_on(journals: list[Journal]) -> str:
    if not journals:
        return ""
    settled = journals[0].settled()
    return f"; run the same command again: it goes on {settled.where()}" if settled.count else ""


@telemetry.command
def send(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)],
    *,
    reading: Reading = Reading(),  # frozen
    environment: EnvironmentName = None,
    token_file: TokenFile = None,
    concurrency: int = 4,
) -> int:
    """Send points as they come, from a file or from standard input, and keep no journal.

    Rows that are refused go to FILE.rejected.jsonl, and those that could not be delivered too:
    of standard input, to telemetry.rejected.jsonl.

    Parameters
    ----------
    file
        CSV, JSON Lines, a JSON array or Parquet; - for standard input.
    concurrency
        How many requests may run at once.
    """
    console = Console(stderr=True)
    path = None if file == "-" else Path(file)

    async def work() -> int:
        flip = make_client(environment, token_file)
        with reading.opened(path) as (rows, blocks):
            where = reading.list_beside(path)
            return await _send(
                flip, rows, blocks, where, console,
                concurrency=concurrency, journal=None, settled=NOTHING,
            )  # fmt: skip

    return run(console, work, lambda: "")


async def _send(
    flip: FlipClient,
    rows: Rows,
    blocks: Blocks,
    where: Path,
    console: Console,
    *,
    concurrency: int,
    journal: Journal | None,
    settled: Settled,
) -> int:
    with ExitStack() as open_files:
        refused = open_files.enter_context(Refused(where, kept_bytes=settled.listed_bytes))
        progress = open_files.enter_context(progress_bar(console))
        sending = Sending(
            rows, blocks, refused, console, progress, journal=journal, settled=settled
        )
        await sending.all_of(flip, concurrency=concurrency)
    say(console, sending.summary())
    return 1 if refused.count or settled.refused else 0
