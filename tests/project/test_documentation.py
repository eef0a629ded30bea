"""Every snippet of README and docs runs, and every picture and link is true."""

import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

from flip_async import FlipClient, errors
from flip_async.emulator import Emulator
from flip_async.models import CommissionSite
from tests.support.pages import pages_of
from tests.system.test_story import battery

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *pages_of(ROOT / "docs")]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FILE = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"<!-- the (\w+) command -->\n```shell\n(.*)\n```")


@pytest.fixture
def local_flip(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Flip that knows one site, and the variables that point at it."""
    import asyncio

    async def commission() -> None:
        async with FlipClient() as flip:
            await flip.sites.commission(CommissionSite(id="hh-1042"), [battery("inv-77301")])

    with Emulator() as emulator:
        for name, value in emulator.variables().items():
            monkeypatch.setenv(name, value)
        asyncio.run(commission())
        yield


@pytest.mark.usefixtures("local_flip")
@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_snippet_of_the_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in FILE.findall(page.read_text()):  # which others of the page may import
        (tmp_path / name).write_text(text)
        monkeypatch.delitem(sys.modules, Path(name).stem, raising=False)
        monkeypatch.syspath_prepend(tmp_path)
    document = Sybil(parsers=[PythonCodeBlockParser()], patterns=["*.md"]).parse(page)
    written = page.read_text().count("```python")

    ran = 0
    for example in document.examples():
        example.evaluate()
        ran += 1

    assert ran >= written


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_readme_has_two_commands_of_one_line() -> None:
    commands = dict(COMMAND.findall((ROOT / "README.md").read_text()))

    assert set(commands) == {"demo", "test"}
    assert all("\n" not in command and "--without-pip" in command for command in commands.values())


@pytest.mark.parametrize("script", ["_life_diagram.py", "_timeline.py", "_house.py"])
def test_a_picture_is_what_the_code_says(script: str) -> None:
    drawn = runpy.run_path(str(ROOT / "docs" / script))

    assert drawn["TARGET"].read_text(encoding="utf-8") == drawn["draw"](), f"run docs/{script}"


def test_the_picture_of_the_demo_says_what_the_demo_says() -> None:
    """But for its numbers, which are luck."""
    demo = runpy.run_path(str(ROOT / "docs" / "_demo.py"))

    printed = demo["words_of"]("$ flip demo " + demo["run"]())

    picture = demo["TARGET"].read_text(encoding="utf-8")
    assert demo["words_of_picture"](picture) == printed, "run docs/_demo.py"
    assert "@font-face" not in picture, "a picture loads nothing from elsewhere"


def test_the_figures_of_the_performance_page_are_those_of_the_last_run() -> None:
    drawn = runpy.run_path(str(ROOT / "docs" / "_performance.py"))

    for path, text in drawn["made"]().items():
        assert path.read_text(encoding="utf-8") == text, f"run docs/_performance.py: {path.name}"


def test_every_error_has_a_row_with_what_to_do() -> None:
    page = (ROOT / "docs" / "reference" / "errors.md").read_text()
    for name, thing in vars(errors).items():
        if isinstance(thing, type) and issubclass(thing, errors.FlipError) and name != "FlipError":
            assert re.search(rf"^\| [^|]*`{name}`[^|]*\| [^|]+ \| [^|]+ \|$", page, re.MULTILINE), (
                name
            )
