"""What a file would be sent as, without sending it."""

import json
from collections.abc import Mapping
from typing import Final

import msgspec
from rich.console import Console

from flip_async._cli._blocks import Blocks, Origin
from flip_async._cli._columns import Source
from flip_async._cli._console import say
from flip_async._cli._read_ahead import ReadAhead
from flip_async._cli._rows import Rows, shown
from flip_async._cli._suspicion import Suspicion
from flip_async._cli._units import FIELDS, symbol_of
from flip_async.models import TelemetryPoint

_POINTS: Final = 3
_REASONS: Final = 5


async def preview(rows: Rows, blocks: Blocks, console: Console) -> int:
    """Read and check all rows, and show the first of them as they would be sent.

    Returns:
        The exit code.
    """
    good = bad = 0
    suspicion = Suspicion()
    ahead = ReadAhead(blocks, is_stream=rows.is_stream)
    try:
        while (block := await ahead.next()) is not None:
            assert blocks.reader is not None
            shown_now = zip(block.origins, block.points, strict=True)
            for (origin, point), _ in zip(shown_now, range(_POINTS - good), strict=False):
                _show(console, origin, point, blocks.reader.sources())
            for origin, reason in block.bad[: max(0, _REASONS - bad)]:
                say(console, f"line {origin.line:,} is refused: {reason}")
            suspicion.look(block.points)
            good += len(block.points)
            bad += len(block.bad)
    finally:
        ahead.close()
    for text in blocks.warnings(suspicion):
        say(console, f"WARNING: {text}", style="yellow")
    say(console, f"{good:,} rows can be sent, {bad:,} cannot; nothing was sent")
    return 1 if bad else 0


def _show(
    console: Console, origin: Origin, point: TelemetryPoint, sources: Mapping[str, Source]
) -> None:
    say(console, f"line {origin.line:,} would be sent as")
    sent: dict[str, object] = msgspec.json.decode(msgspec.json.encode(point))
    for field in FIELDS:
        if field in sent:
            value = json.dumps(sent[field], ensure_ascii=False)
            symbol = symbol_of(field) if sent[field] is not None else ""
            source = sources[field]
            comes_from = ""
            if isinstance(origin.row, Mapping) and source.column in origin.row:
                unit = f" in {source.unit}" if source.unit else ""
                comes_from = f"from {shown(source.column)} = "
                comes_from += f"{shown(origin.row[source.column], 40)}{unit}"
            text = f"  {field:<41} {shown(value, 60) + ' ' + symbol:<24} {comes_from}"
            say(console, text.rstrip())
