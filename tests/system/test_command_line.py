"""`flip`, as a shell runs it."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from flip_async import SandboxClient
from flip_async._cli import _demo, app
from tests.support.processes import default_signals


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


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from flip_async import __version__

    app("--version")

    assert __version__ in capsys.readouterr().out
    assert httpx.__version__
