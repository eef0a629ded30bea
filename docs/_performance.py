"""Draw the figures of the last benchmark, and write its tables: run it after a run.

    nox -s bench -- --json docs/performance.json
    python docs/_performance.py

A test compares the page and the pictures with what this makes of the file.
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
FIGURES = DOCS / "performance.json"
PAGE = DOCS / "performance.md"
BEGIN, END = "<!-- by docs/_performance.py -->\n", "<!-- its end -->\n"

CPU = "CPU of a small call"
DELAYS = ("p50 at a server", "p99 at a server", "CPU at a server")
CALLERS = ("1", "10", "100", "500")
COLOURS = ("#8a8f98", "#3b6ea5", "#2f8f5b", "#b7791f", "#9b4f96")
PICTURES = ("performance-cpu.svg", "performance-latency.svg", "performance-refresh.svg")

Table = dict[str, Any]


def tables_of(document: Mapping[str, Any], *starts: str) -> list[Table]:
    """Tables whose title begins so, in the order of the names."""
    return [
        table
        for start in starts
        for table in document["tables"]
        if table["title"].startswith(start)
    ]


def by_callers(table: Table) -> dict[str, dict[str, float]]:
    """Name and number of callers, which stand in one text, as two keys."""
    found: dict[str, dict[str, float]] = {}
    for text, value in table["values"].items():
        name, _, callers = text.rpartition(", ")
        found.setdefault(name, {})[callers] = value
    return found


# Pictures


def svg(width: int, height: int, title: str, parts: Iterable[str]) -> str:
    style = (
        "<style>text{font-family:sans-serif;font-size:12px;fill:#222}"
        ".title{font-size:14px;font-weight:bold}.small{fill:#555}"
        "line{stroke:#ddd}.axis{stroke:#888}path{fill:none;stroke-width:2}</style>"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
            f'aria-label="{title}">',
            style,
            f'<rect x="0" y="0" width="{width}" height="{height}" rx="8" fill="#fff"/>',
            f'<text x="20" y="26" class="title">{title}</text>',
            *parts,
            "</svg>\n",
        ]
    )


def draw_cpu(document: Mapping[str, Any]) -> str:
    """A bar for each way of calling; 1 is httpx by hand at one caller."""
    (table,) = tables_of(document, CPU)
    base = table["values"][table["base"]]
    rows = [(name, value / base) for name, value in table["values"].items()]
    most = max(ratio for _, ratio in rows)
    parts = []
    for number, (name, ratio) in enumerate(rows):
        y, length = 44 + 20 * number, 400 * ratio / most
        colour = COLOURS[0] if "by hand" in name or "raw" in name else COLOURS[1]
        colour = COLOURS[2] if "over aiohttp" in name else colour
        parts += [
            f'<text x="290" y="{y + 12}" text-anchor="end">{name}</text>',
            f'<rect x="300" y="{y}" width="{length:.1f}" height="15" fill="{colour}"/>',
            f'<text x="{306 + length:.1f}" y="{y + 12}" class="small">{ratio:.2f}</text>',
        ]
    title = "CPU of a small call, and how many callers: httpx by hand at one caller is 1"
    return svg(780, 60 + 20 * len(rows), title, parts)


def draw_latency(document: Mapping[str, Any]) -> str:
    """A line for each way: how long the slowest hundredth takes, by the number of callers."""
    (table,) = tables_of(document, "p99 at a server")
    ways = by_callers(table)
    values = [value for way in ways.values() for value in way.values()]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))

    def y_of(value: float) -> float:
        return 300 - 240 * (math.log10(value) - low) / (high - low)

    xs = {callers: 90 + 150 * number for number, callers in enumerate(CALLERS)}
    parts = []
    for power in range(low, high + 1):
        y = y_of(10**power)
        parts += [
            f'<line x1="80" x2="560" y1="{y:.1f}" y2="{y:.1f}"/>',
            f'<text x="72" y="{y + 4:.1f}" text-anchor="end">{10**power:g} ms</text>',
        ]
    parts += [
        f'<text x="{x}" y="322" text-anchor="middle">{callers}</text>' for callers, x in xs.items()
    ]
    for number, (name, way) in enumerate(ways.items()):
        points = [f"{xs[callers]} {y_of(value):.1f}" for callers, value in way.items()]
        y, colour = 70 + 20 * number, COLOURS[number]
        parts += [
            f'<path d="M {" L ".join(points)}" stroke="{colour}"/>',
            f'<rect x="590" y="{y}" width="14" height="4" fill="{colour}"/>',
            f'<text x="612" y="{y + 6}">{name}</text>',
        ]
    parts.append('<text x="315" y="342" text-anchor="middle" class="small">callers at once</text>')
    return svg(780, 355, "p99 of a request to a server that takes 20 ms", parts)


def draw_refresh(document: Mapping[str, Any]) -> str:
    """The longest request of each tenth of a second, while tokens are replaced."""
    tables = tables_of(document, "Longest request by second")
    series = {
        table["title"].rpartition(", ")[2]: {
            float(second): value for second, value in table["values"].items()
        }
        for table in tables
    }
    last = max(second for line in series.values() for second in line)
    most = max(value for line in series.values() for value in line.values())
    parts = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        y, value = 260 - 200 * share, most * share
        parts += [
            f'<line x1="80" x2="740" y1="{y:.1f}" y2="{y:.1f}"/>',
            f'<text x="72" y="{y + 4:.1f}" text-anchor="end">{value:.0f} ms</text>',
        ]
    for number, (name, line) in enumerate(series.items()):
        points = [
            f"{80 + 660 * second / last:.1f} {260 - 200 * value / most:.1f}"
            for second, value in sorted(line.items())
        ]
        x, colour = 80 + 130 * number, COLOURS[number]
        parts += [
            f'<path d="M {" L ".join(points)}" stroke="{colour}"/>',
            f'<rect x="{x}" y="290" width="14" height="4" fill="{colour}"/>',
            f'<text x="{x + 20}" y="296">{name}</text>',
        ]
    parts += [
        f'<text x="{80 + 660 * second / last:.1f}" y="278" text-anchor="middle">{second} s</text>'
        for second in range(0, math.floor(last) + 1, 2)
    ]
    return svg(780, 310, "The longest request of each tenth of a second", parts)


# Tables


def number_of(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def rows(header: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    names = list(header)
    text = [f"| {' | '.join(names)} |", f"| --- |{' ---: |' * (len(names) - 1)}"]
    text += [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join(text) + "\n"


def callers_table(table: Table, *, is_ratio: bool) -> str:
    base = table["values"][table["base"]] if is_ratio else 1
    lines = [
        [name, *(number_of(way[one] / base) if one in way else "" for one in CALLERS)]
        for name, way in by_callers(table).items()
    ]
    what = "÷ httpx by hand at 1" if is_ratio else table["unit"]
    return rows([f"{what}, callers:", *CALLERS], lines)


def plain_table(table: Table) -> str:
    unit, base = table["unit"], table["base"]
    header = [table["title"], unit or "number"] + (["ratio"] if base else [])
    lines = [
        [name, number_of(value), *([f"{value / table['values'][base]:.2f}"] if base else [])]
        for name, value in table["values"].items()
    ]
    return rows(header, lines)


def write(document: Mapping[str, Any]) -> str:
    """The part of the page that holds the figures."""
    machine = document["machine"]
    packages = [name for name in machine if name not in ABOUT_THE_MACHINE]
    (cpu,) = tables_of(document, CPU)
    base = cpu["values"][cpu["base"]]
    text = [
        f"The machine: {machine['processor']}, {machine['cores']} cores, shared with others, "
        f"{machine['system']}; Python {machine['python']}; "
        + ", ".join(f"{name} {machine[name]}" for name in packages)
        + ".\n",
        "### A small call\n",
        "![CPU of a small call](performance-cpu.svg)\n",
        f"httpx by hand took {base:,.0f} µs of CPU a call there.\n",
        callers_table(cpu, is_ratio=True),
        "### A server that takes 20 ms\n",
        "![p99 by the number of callers](performance-latency.svg)\n",
    ]
    for table in tables_of(document, *DELAYS):
        text += [f"{table['title'].partition(' at ')[0]}:\n", callers_table(table, is_ratio=False)]
    text += [
        "### While tokens are replaced\n",
        "![The longest requests while tokens are replaced](performance-refresh.svg)\n",
    ]
    shown = (CPU, *DELAYS, "Longest request by second")
    rest = [table for table in document["tables"] if not table["title"].startswith(shown)]
    refresh = [table for table in rest if table["title"].startswith("Requests while")]
    text += [plain_table(table) for table in refresh]
    text.append("### The rest\n")
    text += [plain_table(table) for table in rest if table not in refresh]
    return "\n".join(text) + "\n"


ABOUT_THE_MACHINE = ("processor", "cores", "system", "python")


def page_of(text: str, document: Mapping[str, Any]) -> str:
    """The page, with the figures in their place."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n" + write(document) + END + after


def made() -> dict[Path, str]:
    """Every file that this writes, and what stands in it."""
    document = json.loads(FIGURES.read_text(encoding="utf-8"))
    drawn = (draw_cpu(document), draw_latency(document), draw_refresh(document))
    pictures = {DOCS / name: text for name, text in zip(PICTURES, drawn, strict=True)}
    return {PAGE: page_of(PAGE.read_text(encoding="utf-8"), document), **pictures}


if __name__ == "__main__":
    for path, text in made().items():
        path.write_text(text, encoding="utf-8")
        print(path)
