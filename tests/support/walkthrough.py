"""Follows a page of the documentation to the letter: its files, its commands, what they print."""

import asyncio
import os
import re
import shlex
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import attrs

from tests.support.processes import ROOT, default_signals, free_port

STEP = re.compile(
    r"^<!-- (?P<what>[^\n]+?) -->\n(?:```(?P<language>\w+)\n(?P<text>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
MAKES_THE_ENVIRONMENT = ("python3 -m venv", "source .venv", "pip install")
"""What the environment of the tests is in place of."""


@attrs.frozen
class Step:
    """A comment of the page, and the block below it."""

    what: str
    text: str


def steps_of(page: Path, replaced: Mapping[str, str]) -> list[Step]:
    """What is to be done, in order; `replaced` are ports, which on a machine may be taken."""
    text = page.read_text()
    for old, new in replaced.items():
        text = text.replace(old, new)
    return [Step(found["what"], found["text"] or "") for found in STEP.finditer(text)]


class Terminal:
    """A shell that stays, with its folder and its variables, as a reader's does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shell: asyncio.subprocess.Process | None = None
        self._commands = 0
        self._begin = 0
        self.output = ""

    async def run(self, commands: str) -> str:
        """Run them, and give what they print."""
        await self.begin(commands)
        return await self._end_of_command()

    async def begin(self, commands: str) -> None:
        """Run them, and do not wait."""
        if self._shell is None:
            self._shell = await asyncio.create_subprocess_exec(
                "bash", cwd=self._folder, start_new_session=True, preexec_fn=default_signals,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=os.environ | {
                    "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1",
                    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                },
            )  # fmt: skip
            await self._write("trap : INT")  # Ctrl-C ends what runs in a shell, and not the shell
        self._commands += 1
        self._begin = len(self.output)
        await self._write(f"{commands}\necho; echo end-{self._commands}-$?")

    async def until(self, words: str) -> None:
        """Wait for words in what the last commands print."""
        while words not in self.output[self._begin :]:
            await self._read()

    async def interrupt(self) -> None:
        """Ctrl-C, and wait for the end of what ran."""
        assert self._shell is not None
        os.killpg(self._shell.pid, signal.SIGINT)
        await self._end_of_command()

    async def aclose(self) -> None:
        if self._shell is not None:
            os.killpg(self._shell.pid, signal.SIGKILL)
            await self._shell.communicate()

    async def _end_of_command(self) -> str:
        end = f"\nend-{self._commands}-"
        await self.until(end)
        return self.output[self._begin :].partition(end)[0]

    async def _write(self, text: str) -> None:
        assert self._shell is not None
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{text}\n".encode())
        await self._shell.stdin.drain()

    async def _read(self) -> None:
        assert self._shell is not None
        assert self._shell.stdout is not None
        line = await self._shell.stdout.readline()
        assert line, f"the shell has ended: {self.output}"
        self.output += line.decode()


class Walkthrough:
    """A reader with several terminals, who does what the comments of a page say.

    `file NAME` writes the block to a file; `terminal 2` runs it; `terminal 1, until "words"`
    leaves it running when it says so; `terminal 1 shows` waits for each line of the block in what
    that terminal prints; `prints` compares with what the last commands printed, and `prints,
    sooner or later` gives them again until they print it; `stop terminal 1` is Ctrl-C there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._terminals: dict[str, Terminal] = {}
        self._last: tuple[Terminal, str] | None = None
        self._printed = ""
        self.done: list[str] = []

    async def follow(self, step: Step) -> None:
        match shlex.split(step.what.replace(",", " ")):
            case ["install"]:
                self._check_install(step.text)
            case ["file", name]:
                (self._folder / name).write_text(step.text)
            case ["terminal", number, "until", words]:
                await self._terminal(number).begin(step.text)
                await self._terminal(number).until(words)
            case ["terminal", number, "shows"]:
                for line in step.text.splitlines():
                    await self._terminal(number).until(f"{line}\n")
            case ["terminal", number]:
                terminal = self._terminal(number)
                self._printed = await terminal.run(step.text)
                self._last = terminal, step.text
            case ["stop", "terminal", number]:
                await self._terminal(number).interrupt()
            case ["prints"]:
                assert has_lines(self._printed, step.text), self._printed
            case ["prints", "sooner", "or", "later"]:
                assert self._last is not None
                terminal, commands = self._last
                while not has_lines(await terminal.run(commands), step.text):
                    pass
            case _:
                raise AssertionError(f"what is to be done here? {step.what}")
        self.done.append(step.what)

    def _terminal(self, number: str) -> Terminal:
        return self._terminals.setdefault(number, Terminal(self._folder))

    def _check_install(self, commands: str) -> None:
        folder, *rest = commands.splitlines()
        assert folder == f"mkdir {self._folder.name} && cd {self._folder.name}"
        assert all(line.startswith(MAKES_THE_ENVIRONMENT) for line in rest)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        for terminal in self._terminals.values():
            await terminal.aclose()


def has_lines(printed: str, wanted: str) -> bool:
    """Whether each wanted line was printed."""
    return set(wanted.splitlines()) <= set(printed.splitlines())


async def follow(page: Path, folder: Path) -> int:
    """Follow a page in a folder, on ports that are free, with a Flip that does not let one wait.

    Returns:
        How many steps there were.
    """
    replaced = {"8080": str(free_port()), "8000": str(free_port()), "every-s 20": "every-s 1"}
    async with Walkthrough(folder) as walkthrough:
        for step in steps_of(page, replaced):
            await walkthrough.follow(step)
        return len(walkthrough.done)


def main() -> None:
    """Follow the page that is named: `python -m tests.support.walkthrough PAGE`."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "flip-backend"
        folder.mkdir()
        print(asyncio.run(follow(Path(sys.argv[1]), folder)), "steps, each as the page shows it")


if __name__ == "__main__":
    main()
