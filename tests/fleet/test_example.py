"""The example project of a fleet does what its README says."""

import os
import re
import subprocess
import sys

import pytest

from tests.fleet import test_command_ledgers as ledgers
from tests.fleet import test_redis_inbox as inbox
from tests.fleet import test_redis_outbox as outbox
from tests.fleet import test_redis_tokens as tokens
from tests.support.processes import ROOT, default_signals

FOLDER = ROOT / "docs" / "examples" / "fleet"
ACL = FOLDER / "users.acl"
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


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("RedisTokenStore", tokens.LEAST_ACL),
        ("RedisInbox", inbox.LEAST_ACL),
        ("RedisOutbox", outbox.LEAST_ACL),
        ("RedisCommandLedger", ledgers.LEAST_ACL),
    ],
)
def test_the_documentation_lists_what_the_tests_are_run_with(
    name: str, least: tuple[str, ...]
) -> None:
    page = (ROOT / "docs" / "reference" / "redis.md").read_text()
    row = re.search(rf"^\| `{name}` \| `(~[^`]+)` \| (.*) \|$", page, re.MULTILINE)

    assert row is not None
    assert {row[1], *re.findall(r"`([^`]+)`", row[2])} == set(least)
    rules = set(ACL.read_text().split())
    assert {rule for rule in least if rule.startswith("+")} <= rules
    assert rules - {"user", "default"} <= set(page.split()) | {"off", "\n"}
