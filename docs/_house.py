"""Draw the house, whose floors are the layers of import-linter: run it after a change to them.

    python docs/_house.py

The floors and their order are those of `pyproject.toml`, which `lint-imports` holds the code to;
only the words beside them are from here. A test compares the file with what this draws.
"""

import tomllib
from pathlib import Path

DOCS = Path(__file__).parent
TARGET = DOCS / "explanation" / "house.svg"
WHAT = {
    "__main__": "the command flip",
    "_cli": "its subcommands",
    "testing": "fixtures for pytest, and webhooks to sign",
    "emulator": "a local Flip, and adapters, each behind its extra",
    "commands": "commands are handled once, and acknowledged",
    "_clients": "arguments and environment become a client",
    "_resources": "a method for each endpoint",
    "_http": "one call: build, send, retry, read",
    "webhooks": "signatures, events, inboxes",
    "telemetry": "batches, outboxes",
    "_auth": "the life of tokens",
    "_transport": "one request: connections; files of SQLite",
    "_claim_queue": "what is done once; options; JSON",
    "_endpoint": "the API as a table; what it sends and takes",
    "_environment": "where Flip is, and where secrets are",
    "_aio": "tasks and timers",
    "_checks": "every argument is checked here",
    "errors": "all that is raised",
    "_error_body": "what Flip says of an error",
    "_backoff": "the ground: time, luck, secrets",
}
FLOOR, LEFT, WIDTH = 30, 20, 420


def floors() -> list[list[str]]:
    """The modules of each layer, from the top."""
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    return [layer.replace(" ", "").split("|") for layer in layers]


def words(modules: list[str]) -> str:
    """What is said of a floor."""
    return next((WHAT[module] for module in modules if module in WHAT), "")


def draw() -> str:
    """The picture."""
    layers = floors()
    height = 50 + FLOOR * len(layers)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 {height}" role="img" '
        'aria-label="The modules of flip_async in layers; imports go down">',
        "<style>text{font-family:sans-serif;font-size:12px;fill:#222}"
        ".module{font-family:monospace;text-anchor:middle}.public{fill:#dbe9f7}.private{fill:#f3f3f3}"
        ".room{stroke:#3b6ea5}.small{fill:#555}path{stroke:#3b6ea5;fill:none}</style>",
        f'<rect x="0" y="0" width="800" height="{height}" rx="8" fill="#fff"/>',
        f'<path d="M 10 20 L 10 {height - 40} M 5 {height - 48} L 10 {height - 38} '
        f'L 15 {height - 48}"/>',
    ]
    for number, modules in enumerate(layers):
        y, width = 12 + FLOOR * number, WIDTH / len(modules)
        for place, module in enumerate(modules):
            x = LEFT + place * width
            kind = "private" if module.startswith("_") else "public"
            parts += [
                f'<rect x="{x:.1f}" y="{y}" width="{width - 4:.1f}" height="{FLOOR - 5}" rx="4" '
                f'class="room {kind}"/>',
                f'<text x="{x + width / 2 - 2:.1f}" y="{y + 17}" class="module">{module}</text>',
            ]
        parts.append(
            f'<text x="{LEFT + WIDTH + 12}" y="{y + 17}" class="small">{words(modules)}</text>'
        )
    parts += [
        f'<text x="{LEFT}" y="{height - 14}" class="small">A module imports from floors below its '
        "own alone. Blue ones are public.</text>",
        "</svg>\n",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    TARGET.write_text(draw(), encoding="utf-8")
    print(TARGET)
