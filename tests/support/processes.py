"""Servers and workers as real processes."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def default_signals() -> None:
    """For `preexec_fn`: a shell's background job ignores SIGINT, and so would its children."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


class Process:
    """A Python program, ended with the test."""

    def __init__(self, *arguments: str, cwd: Path = ROOT, **environ: str) -> None:
        self._arguments = arguments
        self._cwd = cwd
        self._environ = os.environ | {"PYTHONUNBUFFERED": "1"} | environ
        self._process: asyncio.subprocess.Process | None = None
        self.output = ""

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *self._arguments,
            cwd=self._cwd,
            env=self._environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            preexec_fn=default_signals,
        )

    async def until_it_says(self, words: str) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while words not in self.output:
            line = await self._process.stdout.readline()
            assert line, f"it ended: {self.output}"
            self.output += line.decode()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, and wait for nothing."""
        assert self._process is not None
        self._process.send_signal(number)

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        rest, _ = await self._process.communicate()
        self.output += rest.decode()
        assert self._process.returncode is not None
        return self._process.returncode

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.end(signal.SIGKILL)


class Uvicorn(Process):
    """An application under uvicorn, on a port that stays the same when it is started again."""

    def __init__(
        self, app: str, *, port: int, cwd: Path = ROOT, environ: Mapping[str, str]
    ) -> None:
        super().__init__(
            "-m", "uvicorn", app, "--port", str(port), "--no-access-log", cwd=cwd, **environ
        )  # fmt: skip
        self.url = f"http://127.0.0.1:{port}"

    async def start(self) -> None:
        self.output = ""
        await super().start()
        await self.until_it_says("Uvicorn running on")
