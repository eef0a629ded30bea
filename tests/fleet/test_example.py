"""The example project of a fleet does what its README says."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.processes import ROOT, default_signals

FOLDER = ROOT / "docs" / "examples" / "fleet"
PRINTED = re.compile(r"```text\n(.*?)```", re.DOTALL)


def shape(text: str) -> list[str]:
    """The lines but for their numbers: how many processes take part is luck."""
    return [re.sub(r"\d+", "N", line) for line in text.splitlines()]


def test_it_prints_what_its_readme_shows() -> None:
    done = subprocess.run(
        [sys.executable, "run.py"],
        cwd=FOLDER, capture_output=True, text=True, check=False, timeout=250,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        preexec_fn=default_signals,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    shown = PRINTED.search((FOLDER / "README.md").read_text())
    assert shown is not None
    assert shape(done.stdout) == shape(shown[1])
    assert "  1 token request for all of them" in done.stdout
    assert re.search(r"30 commands handled by \d processes, 0 of them twice", done.stdout)


def test_the_user_in_its_acl_may_do_what_the_documentation_lists() -> None:
    page = (ROOT / "docs" / "reference" / "redis.md").read_text()
    rules = Path(FOLDER / "users.acl").read_text()

    for rule in re.findall(r"\+[a-z|]+", page):
        assert rule in rules.split(), rule
