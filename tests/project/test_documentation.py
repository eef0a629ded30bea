"""Every snippet of README and docs runs, and every picture and link is true."""

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

from flip_async import FlipClient, errors
from flip_async.models import CommissionSite
from tests.support.pages import pages_of
from tests.support.threads import ThreadedEmulator
from tests.system.test_story import battery

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *pages_of(ROOT / "docs")]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
COMMAND = re.compile(r"<!-- the (\w+) command -->\n```shell\n(.*)\n```")


@pytest.fixture
def local_flip(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Flip that knows one site, and the variables that point at it."""
    import asyncio

    async def commission() -> None:
        async with FlipClient() as flip:
            await flip.sites.commission(CommissionSite(id="hh-1042"), [battery("inv-77301")])

    with ThreadedEmulator() as emulator:
        for name, value in emulator.variables().items():
            monkeypatch.setenv(name, value)
        asyncio.run(commission())
        yield


@pytest.mark.usefixtures("local_flip")
@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_snippet_of_the_page_runs(page: Path) -> None:
    document = Sybil(parsers=[PythonCodeBlockParser()], patterns=["*.md"]).parse(page)
    written = page.read_text().count("```python")

    ran = 0
    for example in document.examples():
        example.evaluate()
        ran += 1

    assert ran >= written


def test_the_fixtures_that_users_copy_work_with_pytest(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "test-with-the-emulator.md").read_text()
    for name, title in (("conftest.py", "the fixtures"), ("test_mine.py", "a test with them")):
        found = re.search(rf"<!-- {title} -->\n```python\n(.*?)```", page, re.DOTALL)
        assert found is not None
        (tmp_path / name).write_text(found[1])
    with (tmp_path / "test_mine.py").open("a") as file:
        file.write(
            "\nasync def test_variables(flip_variables):\n"
            "    from flip_async import SandboxClient\n"
            "    async with SandboxClient() as flip:\n"
            "        assert await flip.sites.list() == []\n"
        )

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-o", "asyncio_mode=auto", "-p", "no:randomly", "."],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip

    assert "2 passed" in done.stdout, done.stdout


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
