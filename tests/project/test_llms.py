"""What is written for assistants says what the pages say."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from tests.support.pages import pages_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def llms() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "_llms.py"))


def test_llms_txt_has_a_line_for_each_page(llms: dict[str, Any]) -> None:
    text = llms["short"]()

    links = re.findall(r"^- \[[^\]]+\]\(_sources/([^)]+)\.txt\)", text, re.MULTILINE)
    pages = {str(page.relative_to(DOCS)) for page in pages_of(DOCS)} - {"index.md"}
    assert sorted(links) == sorted(pages)
    assert text.startswith("# flip_async\n\n> ")
    assert "Untitled" not in text


def test_the_one_file_has_every_page_and_its_programs(llms: dict[str, Any]) -> None:
    text = llms["full"]()

    for page in pages_of(DOCS):
        if page.name != "index.md":
            assert f"<!-- {page.relative_to(DOCS)} -->" in text
        for block in re.findall(
            r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL
        ):
            assert block in text
    for path in (DOCS / "examples").rglob("*.py"):
        assert path.read_text() in text


def test_the_one_file_is_plain_markdown(llms: dict[str, Any]) -> None:
    """No directive, no hidden block, no address in memory; links lead to its pages."""
    text = llms["full"]()

    assert "```{" not in text
    assert ".. auto" not in text
    assert "invisible-code-block" not in text
    assert not re.search(r"0x[0-9a-f]{8}", text)
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", outside):
        assert (DOCS / target).exists() or target.startswith("../"), target


def test_the_one_file_says_what_a_public_class_takes(llms: dict[str, Any]) -> None:
    text = llms["full"]()

    assert "**`flip_async.Retries(" in text
    assert "max_attempts" in text


def test_an_html_build_has_both(llms: dict[str, Any], tmp_path: Path) -> None:
    llms["write"](tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == {"llms.txt", "llms-full.txt"}
