"""Take the picture of `flip demo`: run it after a change to what the demo prints.

    python docs/_demo.py

It runs the demo, and draws what it prints as a terminal. A test compares the words of the picture
with those of a run; numbers are luck.
"""

import html
import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

TARGET = Path(__file__).parent / "demo.svg"
WIDTH = 126


def run() -> str:
    """What the demo prints on a terminal, with its colours."""
    done = subprocess.run(
        [sys.executable, "-m", "flip_async", "demo"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ
        | {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": str(WIDTH), "LINES": "60"},
    )
    return done.stdout


def draw(printed: str) -> str:
    """The picture of it."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi("$ flip demo\n" + printed), soft_wrap=False)
    svg = console.export_svg(title="flip demo", theme=DIMMED_MONOKAI, unique_id="demo")
    # No font from the network: whoever sees the page would tell its owner so.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")


def words_of_picture(svg: str) -> list[str]:
    """The words of its lines, with no numbers."""
    lines = re.findall(r"<text class=\"demo-r\d+\"[^>]*>(.*?)</text>", svg)
    return words_of(" ".join(html.unescape(line) for line in lines))


def words_of(printed: str) -> list[str]:
    """Its words in order: no colours, no numbers, and no matter where lines end."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", printed).replace("\xa0", " ")
    return re.sub(r"[0-9.:]+", "", plain).split()


if __name__ == "__main__":
    TARGET.write_text(draw(run()), encoding="utf-8")
    print(TARGET)
