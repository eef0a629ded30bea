"""The tutorial, followed to the letter, and the example that it ends with."""

import re
import shutil
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from tests.support.walkthrough import follow, steps_of

PAGE = ROOT / "docs" / "tutorial" / "backend.md"
EXAMPLE = ROOT / "docs" / "examples" / "backend"
NEEDED = [name for name in ("bash", "curl") if shutil.which(name) is None]


@pytest.mark.skipif(bool(NEEDED), reason=f"the tutorial needs {' and '.join(NEEDED)}")
async def test_whoever_follows_the_tutorial_sees_what_it_shows(tmp_path: Path) -> None:
    """In a fresh folder; the ports are others, the environment of the tests is the reader's, and
    the local Flip calls for power more often, so that nobody waits for it.
    """
    folder = tmp_path / "flip-backend"
    folder.mkdir()

    followed = await follow(PAGE, folder)

    assert followed == PAGE.read_text().count("\n<!-- ")


def test_every_block_of_the_tutorial_is_followed() -> None:
    """A block without its comment above would be text that nobody has tried."""
    page = PAGE.read_text()

    blocks = re.findall(r"^(.*)\n```\w+\n", page, re.MULTILINE)

    assert blocks
    assert all(line.startswith("<!-- ") for line in blocks), blocks


def test_the_tutorial_ends_with_the_example() -> None:
    """Its files, as they are at the end, are those of the example project."""
    files = {step.what: step.text for step in steps_of(PAGE, {}) if step.what.startswith("file ")}
    written = {what.removeprefix("file "): text for what, text in files.items()}

    for path in EXAMPLE.glob("*.py"):
        if path.name not in {"run.py", "test_backend.py"}:
            assert path.read_text() == written[path.name], path.name
