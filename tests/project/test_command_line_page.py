"""The page of the command line says what the command line does."""

import asyncio
import json
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cyclopts import App

from flip_async._cli import app
from flip_async.emulator import Emulator
from flip_async.webhooks import sign
from tests.support.command_line import CommandLine
from tests.support.processes import ROOT, default_signals, free_port
from tests.support.small_server import SmallServer
from tests.support.webhooks import DATA, SECRET

DOCS = ROOT / "docs"
REFERENCE = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
DOCTOR = (DOCS / "how-to" / "find-out-what-is-wrong.md").read_text(encoding="utf-8")
SECTIONS = {
    title.removeprefix("flip "): text
    for title, text in re.findall(
        r"^## (flip .+?)\n(.*?)(?=^## |\Z)", REFERENCE, re.MULTILINE | re.DOTALL
    )
}
EXAMPLES = re.findall(
    r"^```console\n\$ (.+?)\n(.*?)^```", REFERENCE + DOCTOR, re.MULTILINE | re.DOTALL
)
OPTION = re.compile(r"--[a-z][a-z-]*")
BODY = DATA / "webhook-command-created.json"


def subcommands(parent: App = app, path: str = "") -> Iterator[str]:
    for name in parent:
        if not name.startswith("-"):
            here = f"{path} {name}".strip()
            children = list(subcommands(parent[name], here))
            yield from children or [here]


def test_each_subcommand_has_a_section_with_an_example() -> None:
    assert list(SECTIONS) == list(dict.fromkeys(SECTIONS))
    assert set(SECTIONS) == set(subcommands())
    for name, text in SECTIONS.items():
        assert f"```console\n$ flip {name}" in text, name


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_has_the_options_that_the_help_has(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = CommandLine(monkeypatch, capsys)(*name.split(), "--help").out
    options = {
        option
        for line in shown.splitlines()
        if line.startswith("  ")
        for option in OPTION.findall(line.partition(":")[0])
    }

    told = re.sub(r"^```.*?^```", "", SECTIONS[name], flags=re.MULTILINE | re.DOTALL)
    told = re.sub(r"`flip [^`]*`|but `--dry-run` and `--restart`", "", told)

    assert set(OPTION.findall(told)) == options - {"--file", "--help"}


def alike(text: str) -> list[str]:
    """Lines without what differs from run to run: numbers, ids, addresses, spaces, the system."""
    text = re.sub(r"export (FLIP_\w+_SECRET)=\S+", r"export \1=…", text)
    text = re.sub(r"msg_\w+|[0-9a-f]{8}-[0-9a-f-]{27}", "ID", text)
    text = re.sub(r"Linux|Darwin|Windows", "SYSTEM", text)
    text = re.sub(r"\d+(\.\d+)*(a\d+|b\d+|rc\d+)?", "0", text)
    return [" ".join(line.split()) for line in text.strip().splitlines()]


def fits(shown: list[str], expected: list[str]) -> bool:
    """Whether lines are those of an example, in which `…` stands for any number of them."""
    if "…" not in expected:
        return shown == expected
    at = expected.index("…")
    end = expected[at + 1 :]
    return shown[:at] == expected[:at] and shown[len(shown) - len(end) :] == end


class Shell:
    """Runs the commands of the page."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        kept = {name: value for name, value in os.environ.items() if "CERT" not in name}
        self._environ = kept | variables | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
        self._environ["FLIP_WEBHOOK_SECRET"] = SECRET
        self._folder = folder

    async def lines(self, command: str, *, ends: bool, at_least: int) -> list[str]:
        """What a command prints; one that does not end is stopped after so many lines."""
        words = shlex.split(command)
        given = [word.partition("=") for word in words[: words.index("flip")]]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "flip_async", *words[words.index("flip") + 1 :],
            cwd=self._folder, env=self._environ | {name: value for name, _, value in given},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            preexec_fn=default_signals,
        )  # fmt: skip
        assert process.stdout is not None
        if ends:
            output, _ = await process.communicate()
            return alike(output.decode())
        shown = b""
        while len(alike(shown.decode())) < at_least:
            line = await process.stdout.readline()
            assert line, f"it ended: {shown.decode()}"
            shown += line
            if line.startswith(b"listening on"):
                await deliver(re.search(r"http://\S+(?=;)", line.decode())[0])  # type: ignore[index]
        process.send_signal(signal.SIGKILL)
        await process.communicate()
        return alike(shown.decode())


async def deliver(url: str) -> None:
    body = BODY.read_bytes()
    headers = sign(body, SECRET, webhook_id="msg_1", timestamp=time.time())
    async with httpx.AsyncClient() as http:
        await http.post(url, content=body, headers=headers)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files that the page names."""
    for name, text in re.findall(
        r"<!-- the file (\S+) -->\n```\w+\n(.*?)```", REFERENCE, re.DOTALL
    ):
        (tmp_path / name).write_text(text)
    body = BODY.read_bytes()
    headers = sign(body, SECRET, webhook_id="msg_1", timestamp=1.7e9)
    head = "".join(f"{name}: {value}\n" for name, value in headers.items())
    (tmp_path / "kept.webhook").write_bytes(head.encode() + b"\n" + body)
    return tmp_path


ENDLESS = ("flip emulator", "flip commands watch", "flip webhooks listen")


@pytest.mark.parametrize(("command", "expected"), EXAMPLES, ids=[one[0] for one in EXAMPLES])
async def test_the_output_of_an_example_is_true(command: str, expected: str, folder: Path) -> None:
    async with Emulator() as emulator:
        emulator.enroll_site("home-1", ["battery-1"])
        emulator.dispatch()
        shell = Shell(folder, emulator.variables())
        wanted = alike(expected)
        ends = not command.startswith(ENDLESS)
        with SmallServer({"/webhooks/flip": None}, statuses={"/webhooks/flip": 204}) as server:
            command = command.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
            if command.startswith(("flip emulator", "flip webhooks listen")):
                command += f" --port {free_port()}"
            shown = await shell.lines(command, ends=ends, at_least=len(wanted))

    assert fits(shown, wanted), "\n".join(shown)


def test_the_file_to_commission_is_one_that_flip_takes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = CommandLine(monkeypatch, capsys)("commission", str(folder / "site.json"), "--dry-run")

    assert ended.code == 0, ended.err
    assert json.loads((folder / "site.json").read_text())["site"]["id"] == "hh-1042"
