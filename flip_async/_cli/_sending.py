"""One run: blocks go to an uploader one after the other, and what is settled is noted."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from flip_async import FlipClient, errors
from flip_async._cli._blocks import BLOCK, Block, Blocks
from flip_async._cli._console import say
from flip_async._cli._journal import Journal, Settled
from flip_async._cli._read_ahead import ReadAhead
from flip_async._cli._refused import Refused
from flip_async._cli._rows import FileError, Rows
from flip_async._cli._suspicion import Suspicion
from flip_async.models import TelemetryPoint
from flip_async.telemetry import PointOutcome, TelemetryUploader, UploaderStats

CLOSE_TIMEOUT_S: Final = 5.0
_LOOK_S: Final = 0.2
_HOPELESS: Final = (
    errors.AuthenticationError,
    errors.PermissionDeniedError,
    errors.TokenRequestError,
    errors.ConfigurationError,
)


class Sending:
    """Sends a file.

    `settled` says which rows are done, and only `_settle` changes it: after the list of refused
    rows is on disk, and before the next block goes out. One block is on its way at a time, so
    that a crash costs no more than that.

    Attributes:
        settled: What is settled, with earlier runs.
        sent: Points that were sent by this run.
    """

    def __init__(
        self,
        rows: Rows,
        blocks: Blocks,
        refused: Refused,
        console: Console,
        progress: Progress,
        *,
        journal: Journal | None,
        settled: Settled,
    ) -> None:
        self._rows: Final = rows
        self._blocks: Final = blocks
        self._refused: Final = refused
        self._console: Final = console
        self._progress: Final = progress
        self._journal: Final = journal
        self._bar: Final[TaskID] = progress.add_task("", total=None, told="")
        self._began_s: Final = time.monotonic()
        self._suspicion: Suspicion | None = Suspicion()
        self.settled = settled
        self.sent = 0

    async def all_of(self, flip: FlipClient, *, concurrency: int) -> None:
        """Send all blocks.

        Raises:
            FlipError: Nothing will pass: the credential is refused, for instance.
            FileError: The file cannot be read on, or rows are left that were not delivered.
        """
        ahead = ReadAhead(self._blocks, is_stream=self._rows.is_stream)
        try:
            async with flip:
                await self._send(ahead, flip, concurrency)
        finally:
            ahead.close()

    async def _send(self, ahead: ReadAhead, flip: FlipClient, concurrency: int) -> None:
        uploader = flip.telemetry.uploader(
            concurrency=concurrency,
            close_timeout_s=CLOSE_TIMEOUT_S,
            on_rejected=lambda point, reason: None,  # the outcomes tell
        )
        block: Block | None = None
        delivery: asyncio.Task[Sequence[PointOutcome]] | None = None
        try:
            async with uploader:
                while (block := await ahead.next()) is not None:
                    self._warn(block)
                    self._note_bad(block)
                    delivery = asyncio.create_task(_deliver(uploader, block.points))
                    await self._until(delivery, uploader)
                    self._settle(block, delivery.result())
                    delivery = None
                self._warn(None)
        except errors.UndeliveredTelemetryError:
            if self._journal is not None:
                raise
            # They are listed, each with its reason.
        finally:
            if delivery is not None and block is not None:
                # Left in the middle: closing has sent what it could.
                self._settle(block, await delivery, is_leaving=True)

    def _warn(self, block: Block | None) -> None:
        """Tell of odd columns, as soon as enough is read and before any of it is sent."""
        suspicion = self._suspicion
        if suspicion is None:
            return
        if block is not None:
            suspicion.look(block.points)
            if self._rows.is_stream and suspicion.count < BLOCK:
                return
        self._suspicion = None
        for text in self._blocks.warnings(suspicion):
            say(self._console, f"WARNING: {text}", style="yellow")

    def _note_bad(self, block: Block) -> None:
        for origin, reason in block.bad:
            self._refused.note(origin.line, origin.row, reason)
        self._refused.save()

    async def _until(
        self,
        delivery: asyncio.Task[Sequence[PointOutcome]],
        uploader: TelemetryUploader[TelemetryPoint],
    ) -> None:
        while not delivery.done():
            self._show(uploader.stats)
            await asyncio.wait([delivery], timeout=_LOOK_S)
        self._show(uploader.stats)

    def _settle(
        self, block: Block, outcomes: Sequence[PointOutcome], *, is_leaving: bool = False
    ) -> None:
        rows = [origin.ordinal for origin, _ in block.bad]
        rejected = len(block.bad)
        left: list[tuple[int, str]] = []
        for origin, outcome in zip(block.origins, outcomes, strict=True):
            reason = outcome.reason or "no reason was given"
            if outcome.status == "sent":
                self.sent += 1
            elif outcome.status == "rejected":
                rejected += 1
                self._refused.note(origin.line, origin.row, reason)
            else:
                left.append((origin.line, reason))
                if self._journal is not None:
                    continue
                self._refused.note(origin.line, origin.row, f"undelivered: {reason}")
            rows.append(origin.ordinal)
        self._save(block, sorted(rows), rejected)
        if left and self._journal is not None and not is_leaving:
            line, reason = left[0]
            raise FileError(
                f"{len(left):,} rows were not delivered, the first of them line {line:,}: {reason}"
            )

    def _save(self, block: Block, rows: Sequence[int], rejected: int) -> None:
        # First the list, then the journal: what is done is listed.
        listed_bytes = self._refused.save()
        if self._journal is None:
            return
        origins = [*block.origins, *(origin for origin, _ in block.bad)]
        read = ((origin.ordinal, origin.line, origin.row) for origin in origins)
        self.settled = self.settled.with_rows(rows, read=read).with_list(rejected, listed_bytes)
        self._journal.save(self.settled)

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
        text = f"{self.sent:,} points sent, {self._refused.count:,} rows refused"
        earlier = self.settled.refused - self._refused.count if self._journal is not None else 0
        if earlier:
            text += f", and {earlier:,} by earlier runs"
        if self._refused.count or earlier:
            return f"{text}: see {self._refused.path}"
        is_empty = not self.sent and not self.settled.rows and not self._rows.is_stream
        return f"{text}: the file has no rows" if is_empty else text


async def _deliver(
    uploader: TelemetryUploader[TelemetryPoint], points: Sequence[TelemetryPoint]
) -> Sequence[PointOutcome]:
    try:
        return await uploader.deliver(points) if points else ()
    except errors.FlipError as error:  # it was closed before it could take them
        return [PointOutcome(status="undelivered", reason=str(error), error=error)] * len(points)


def progress_bar(console: Console) -> Progress:
    """A bar that is gone at the end."""
    return Progress(
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[told]}", markup=False),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
