"""A program that works until it is told to stop, and then leaves in order."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, TypeVar

from flip_async._checks import check_async
from flip_async.errors import ConfigurationError

T = TypeVar("T")

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_ENDS_WITHIN_S: Final = 1.0
"""How long a second signal leaves for reporting what is lost."""


def run_worker(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a program until it ends, or until SIGTERM or SIGINT (Ctrl-C) stops it in order.

    `asyncio.run` knows Ctrl-C alone: SIGTERM, which systemd, Docker and Kubernetes send, ends
    the process at once, with its handlers in the middle. Here each of the two cancels `main`,
    once, so that every `async with` is left as it wants to be. A second signal cancels it once
    more, which gives up its last work, and ends the process after a second at the latest.

    Args:
        main: The program, an `async def` without arguments; not what it gives when called.

    Returns:
        What `main` returns, where no signal came.

    Raises:
        SystemExit: A signal stopped it; the exit status is 128 and the signal's number, as a
            shell has it: 143 after SIGTERM, 130 after SIGINT. For systemd write
            `SuccessExitStatus=143`.
        ConfigurationError: This is not the main thread, or an event loop runs here.
        InvalidArgumentError: `main` is no `async def`.
        Exception: Whatever `main` raises.
    """
    check_async(main, field="main")
    if threading.current_thread() is not threading.main_thread():
        raise ConfigurationError("run_worker takes signals, which only the main thread can")
    if asyncio._get_running_loop() is not None:  # the one that raises nothing
        raise ConfigurationError("an event loop runs here: await main() in it")
    stop = _Stop()
    with asyncio.Runner() as runner, _taken(stop):
        try:
            result = runner.run(stop.supervise(main))
        except asyncio.CancelledError:
            if stop.number is None:
                raise
        else:
            if stop.number is None:
                return result
    raise SystemExit(128 + stop.number)


class _Stop:
    """What signals do to the main task.

    Attributes:
        number: The signal that came.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._task: asyncio.Task[object] | None = None

    async def supervise(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        self._task = asyncio.current_task()
        if self.number is not None:  # it came while the loop was made
            raise asyncio.CancelledError
        return await main()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Called by Python between any two steps of the main thread."""
        if self.number is not None:
            _end_soon(128 + number)
        self.number = number
        if self._task is not None:
            # Through the loop, which may sleep: this wakes it, on Windows too.
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)


def _end_soon(status: int) -> None:
    # Nothing is raised here, in the middle of anything: the second cancellation lets it report
    # what is lost. It may never end, or block the loop.
    timer = threading.Timer(_ENDS_WITHIN_S, os._exit, [status])
    timer.daemon = True
    timer.start()


@contextmanager
def _taken(stop: _Stop) -> Generator[None]:
    # What is ignored, as by a job in the background of a shell, stays so.
    taken = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            # `None` is a handler that was not installed from Python, and cannot be again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
