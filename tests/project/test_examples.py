"""The example projects do what their READMEs say; that of a fleet has tests of its own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT, default_signals

EXAMPLES = ROOT / "docs" / "examples"
PLAYED = ("backend", "script", "worker")
PRINTED = re.compile(r"It prints\n\n```text\n(.*?)```", re.DOTALL)


def run_in_copy(name: str, folder: Path, *command: str) -> str:
    """Run a command in a copy of an example, and give what it prints."""
    copy = folder / name
    shutil.copytree(EXAMPLES / name, copy, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, *command],
        cwd=copy, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        preexec_fn=default_signals,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", PLAYED)
def test_an_example_prints_what_its_readme_shows(name: str, tmp_path: Path) -> None:
    printed = run_in_copy(name, tmp_path, "run.py")

    shown = PRINTED.search((EXAMPLES / name / "README.md").read_text())
    assert shown is not None
    assert printed == shown[1]


def test_the_tests_of_the_backend_pass(tmp_path: Path) -> None:
    """As its README says to run them."""
    printed = run_in_copy("backend", tmp_path, "-m", "pytest", "-q", "-p", "no:randomly")

    assert re.search(r"\d+ passed", printed)


@pytest.mark.parametrize("name", [*PLAYED, "fleet"])
def test_a_readme_names_every_file_of_its_example(name: str) -> None:
    readme = (EXAMPLES / name / "README.md").read_text()

    for path in (EXAMPLES / name).iterdir():
        if path.is_file() and path.name != "README.md":
            assert f"`{path.name}`" in readme, path.name
