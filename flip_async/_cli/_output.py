"""What subcommands print: tables for people, JSON for programs, and one line for an error."""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")


def plain(value: object) -> str:
    """A value as one line that a terminal shows and does not obey; nothing for `None`."""
    return "" if value is None else _CONTROL.sub(" ", str(value))


def complain(text: str) -> None:
    """Say on standard error, in one line, what went wrong."""
    print(plain(text), file=sys.stderr, flush=True)


def print_json(document: object) -> None:
    """Print one document."""
    print(json.dumps(document, indent=2))


def print_json_line(document: object) -> None:
    """Print one of many documents, a line each, at once."""
    print(json.dumps(document), flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows; whole and without a frame where nobody but a program reads them."""
    texts = [[plain(cell) for cell in row] for row in rows]
    console = Console(highlight=False)
    if console.is_terminal:
        table = Table(*columns, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for row in texts:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)
        return
    for line in aligned([list(columns), *texts]):
        print(line)


def print_facts(facts: Mapping[str, object]) -> None:
    """Print names and values, a line each; what has no value is left out."""
    for line in aligned(
        [[name, plain(value)] for name, value in facts.items() if value not in _NO]
    ):
        print(line)


_NO: Final = (None, "")


def aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Rows as lines whose columns begin at the same place."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
