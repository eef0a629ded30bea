"""`flip`, as a shell runs it."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from flip_async import SandboxClient
from flip_async._cli import _demo, app
from tests.support.processes import ROOT, Process, default_signals


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flip_async", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environ,
    )


def test_the_demo_tells_its_story_and_ends_well() -> None:
    """Exit code 0 only if every step did what it should."""
    done = run("demo")

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("✓") == len(_demo.STEPS)
    assert "Every step did what it should." in done.stdout


def test_a_step_that_goes_wrong_is_told_by_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def wrong(story: _demo.Story) -> str:
        return _demo._expect("a step", answer=(41, 42))

    monkeypatch.setattr(_demo, "STEPS", (("Go wrong", wrong),))

    assert _demo.demo() == 1
    assert "answer: 41, expected 42" in capsys.readouterr().out


async def test_the_emulator_is_given_its_credentials_or_a_seed() -> None:
    async def printed(*options: str) -> dict[str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "flip_async", "emulator", "--port", "0", *options,
            stdout=asyncio.subprocess.PIPE, env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert process.stdout is not None
        found: dict[str, str] = {}
        while "FLIP_WEBHOOK_SECRET" not in found:
            line = (await process.stdout.readline()).decode()
            assert line, "it ended"
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").strip().partition("=")
                found[name] = value
        process.kill()
        await process.wait()
        return found

    once, again = await printed("--seed", "1"), await printed("--seed", "1", "--client-id", "me")
    assert once["FLIP_CLIENT_SECRET"] == again["FLIP_CLIENT_SECRET"]
    assert once["FLIP_WEBHOOK_SECRET"] == again["FLIP_WEBHOOK_SECRET"]
    assert (once["FLIP_CLIENT_ID"], again["FLIP_CLIENT_ID"]) == ("emulator", "me")


async def started(*options: str) -> tuple[Process, dict[str, str]]:
    """An emulator as a process, and the variables that it printed."""
    process = Process("-m", "flip_async", "emulator", "--port", "0", *options)
    await process.start()
    await process.until_it_says("FLIP_WEBHOOK_SECRET")
    lines = [line for line in process.output.splitlines() if line.startswith("export ")]
    pairs = (line.removeprefix("export ").partition("=") for line in lines)
    return process, {name: value for name, _, value in pairs}


async def test_the_emulator_keeps_its_credentials_in_a_file(tmp_path: Path) -> None:
    """And what is given wins over the file, and is kept."""
    path = tmp_path / "credentials.json"
    secrets: list[str] = []
    for options in ((), (), ("--client-secret", "mine_all_mine"), ()):
        process, variables = await started("--credentials", str(path), *options)
        assert await process.end(signal.SIGTERM) == 143
        assert "stopped by SIGTERM" in process.output
        secrets.append(variables["FLIP_CLIENT_SECRET"])

    assert secrets[0] == secrets[1]
    assert secrets[2:] == ["mine_all_mine"] * 2
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["[]", "{", '{"api_key": 1}', '{"password": "pass_word"}'])
def test_a_file_that_holds_no_credentials_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(content)

    done = run("emulator", "--port", "0", "--credentials", str(path))

    assert done.returncode == 2
    assert "holds no credentials of a local Flip" in done.stderr
    assert "pass_word" not in done.stderr
    assert path.read_text() == content


def test_credentials_that_cannot_be_kept_are_told() -> None:
    done = run("emulator", "--port", "0", "--credentials", "/nowhere/credentials.json")

    assert done.returncode == 2
    assert "cannot be written" in done.stderr


@pytest.mark.parametrize("seed", [("--seed",), ("--seed", "7")])
async def test_a_seeded_emulator_begins_with_an_enrolled_site(
    monkeypatch: pytest.MonkeyPatch, seed: tuple[str, ...]
) -> None:
    process, variables = await started(*seed)
    async with process_ended(process):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        async with SandboxClient() as flip:
            sites = await flip.sites.list()
            enrollments = await flip.site("home-1").enrollments.list()

    assert [site.id for site in sites] == ["home-1"]
    assert [(one.status, one.device_ids) for one in enrollments] == [("ACTIVE", ["battery-1"])]


@contextlib.asynccontextmanager
async def process_ended(process: Process) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await process.end(signal.SIGKILL)


async def test_a_failed_delivery_is_logged_unless_it_is_quiet() -> None:
    options = ("--seed", "--dispatch-every-s", "0.05", "--webhook-url", "http://127.0.0.1:1/")

    loud, _ = await started(*options)
    await loud.until_it_says("failed with ConnectError")
    await loud.end(signal.SIGKILL)
    quiet, _ = await started(*options, "--quiet")
    await quiet.until_it_says("dispatched 1 events\n" * 3)
    await quiet.end(signal.SIGKILL)

    assert "failed with" not in quiet.output


def test_an_emulator_with_a_credential_that_is_none_says_so() -> None:
    done = run("emulator", "--webhook-secret", "whsec_?")

    assert done.returncode == 2
    assert "webhook_secret" in done.stderr
    assert "Traceback" not in done.stderr
    assert "whsec_?" not in done.stderr


async def test_the_emulator_prints_variables_that_work_until_ctrl_c(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "flip_async", "emulator", "--port", "0",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        preexec_fn=default_signals,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    found = 0
    while found < 4:
        line = (await process.stdout.readline()).decode()
        assert line, "it ended"
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").strip().partition("=")
            monkeypatch.setenv(name, value)
            found += 1

    async with SandboxClient() as flip:
        assert await flip.sites.list() == []
    process.send_signal(signal.SIGINT)
    _, stderr = await process.communicate()

    assert process.returncode == 0
    assert b"Traceback" not in stderr


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("emulator", "--port", str(taken.getsockname()[1]))

    assert done.returncode == 1
    assert "try --port 0" in done.stderr


@pytest.mark.parametrize("missing", ["cyclopts", "starlette", "fastapi"])
def test_without_its_extra_it_says_which_one_to_install(tmp_path: Path, missing: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules[{missing!r}] = None\n")

    done = run("demo", PYTHONPATH=str(tmp_path))

    assert done.returncode == 2
    assert "pip install 'flip-async[cli,emulator,fastapi]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_telemetry_needs_neither_the_emulator_nor_fastapi(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys; sys.modules |= dict.fromkeys(['fastapi', 'starlette', 'uvicorn'])\n"
    )

    done = run("telemetry", "backfill", "--help", PYTHONPATH=str(tmp_path))

    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_the_emulator_without_its_extra_says_which_one(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['uvicorn'] = None\n")

    done = subprocess.run(
        [sys.executable, "-c", "import flip_async.emulator"],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip

    assert "pip install 'flip-async[emulator]'" in done.stderr


@pytest.mark.parametrize("missing", ["cyclopts", "rich"])
def test_the_version_is_told_without_an_extra(tmp_path: Path, missing: str) -> None:
    from flip_async import __version__

    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules[{missing!r}] = None\n")

    done = run("--version", PYTHONPATH=f"{tmp_path}:{ROOT}")

    assert (done.returncode, done.stdout) == (0, f"{__version__}\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_subcommands(tmp_path: Path, shell: str) -> None:
    done = run("--install-completion", "--shell", shell, HOME=str(tmp_path), SHELL=f"/bin/{shell}")

    assert done.returncode == 0, done.stderr
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert any("commission" in text for text in written)


def test_nobody_pays_for_the_emulator_who_does_not_use_it() -> None:
    code = "import sys, flip_async._cli; print([n for n in ('uvicorn', 'fastapi', 'pyarrow') if n in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from flip_async import __version__

    app("--version")

    assert __version__ in capsys.readouterr().out
    assert httpx.__version__
