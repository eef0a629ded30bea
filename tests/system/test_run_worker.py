"""A program that is told to stop leaves in order: real signals to real processes."""

import asyncio
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from flip_async import errors, run_worker
from tests.support.processes import Process

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are sent by number")
both = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)

IN_ORDER = """
import asyncio
from flip_async import run_worker

async def main():
    try:
        print("works", flush=True)
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.1)
        print("left in order", flush=True)

try:
    run_worker(main)
finally:
    print("and so does what is around it", flush=True)
"""
STUBBORN = """
import asyncio, contextlib
from flip_async import run_worker

async def main():
    print("works", flush=True)
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        print("stays", flush=True)

run_worker(main)
"""
REPORTS = """
import asyncio
from flip_async import run_worker

async def main():
    try:
        print("works", flush=True)
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        print("last work", flush=True)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("reports", flush=True)
            raise

run_worker(main)
"""
IN_BACKGROUND = (
    """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
"""
    + IN_ORDER
)


def program(folder: Path, text: str) -> Process:
    path = folder / "program.py"
    path.write_text(text)
    return Process(str(path))


@both
async def test_a_signal_lets_the_program_leave_in_order(
    tmp_path: Path, number: signal.Signals
) -> None:
    """The status is the shell's: 128 and the number of the signal."""
    async with program(tmp_path, IN_ORDER) as process:
        await process.until_it_says("works")

        assert await process.end(number) == 128 + number

    assert "left in order\nand so does what is around it" in process.output
    assert "Traceback" not in process.output


@both
async def test_a_second_signal_ends_what_does_not_end(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with program(tmp_path, STUBBORN) as process:
        await process.until_it_says("works")
        process.send(number)
        await process.until_it_says("stays")
        began_at = time.monotonic()

        assert await process.end(signal.SIGTERM) == 128 + signal.SIGTERM

    assert time.monotonic() - began_at < 10


async def test_a_second_signal_leaves_time_to_report_what_is_lost(tmp_path: Path) -> None:
    async with program(tmp_path, REPORTS) as process:
        await process.until_it_says("works")
        process.send(signal.SIGTERM)
        await process.until_it_says("last work")

        assert await process.end(signal.SIGTERM) == 128 + signal.SIGTERM

    assert "reports" in process.output


async def test_what_a_shell_lets_a_background_job_ignore_stays_ignored(tmp_path: Path) -> None:
    async with program(tmp_path, IN_BACKGROUND) as process:
        await process.until_it_says("works")
        process.send(signal.SIGINT)

        assert await process.end(signal.SIGTERM) == 128 + signal.SIGTERM

    assert process.output.count("left in order") == 1


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]


def test_a_program_that_ends_by_itself_gives_its_result_and_the_signals_back() -> None:
    before = handlers()
    seen: list[list[Any]] = []

    async def main() -> str:
        seen.append(handlers())
        return "done"

    async def fail() -> None:
        raise ValueError("my own")

    assert run_worker(main) == "done"
    assert handlers() == before
    assert seen != [before]
    with pytest.raises(ValueError, match="my own"):
        run_worker(fail)
    assert handlers() == before


def test_what_a_program_raises_as_it_leaves_comes_out() -> None:
    async def main() -> None:
        signal.raise_signal(signal.SIGTERM)
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("cannot leave")

    with pytest.raises(ValueError, match="cannot leave"):
        run_worker(main)


def test_a_program_that_has_just_finished_is_stopped_all_the_same() -> None:
    async def main() -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(SystemExit) as caught:
        run_worker(main)
    assert caught.value.code == 130


def test_a_cancellation_that_is_no_signal_comes_out_as_it_is() -> None:
    async def main() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run_worker(main)


def test_only_the_main_thread_can_have_it() -> None:
    found: list[BaseException] = []

    async def main() -> None: ...

    def work() -> None:
        try:
            run_worker(main)
        except errors.ConfigurationError as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert "main thread" in str(found[0])


async def test_within_a_loop_it_is_refused() -> None:
    async def main() -> None: ...

    with pytest.raises(errors.ConfigurationError, match="an event loop runs here"):
        run_worker(main)


@pytest.mark.parametrize("main", [None, print, lambda: None])
def test_what_is_no_program_is_refused(main: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="main: is an `async def`"):
        run_worker(main)
