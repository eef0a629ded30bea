"""What the command line says, and how it ends."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable
from typing import Final

from rich.console import Console

from flip_async import errors
from flip_async._cli._rows import FileError

TERMINATED: Final = 128 + signal.SIGTERM
"""Exit code after SIGTERM."""


def say(console: Console, text: str, *, style: str | None = None) -> None:
    """Print a line as it is, and whole: whoever reads a log searches for words."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def until_stopped(work: Callable[[], Awaitable[int]]) -> int:
    """Run something in an event loop, to its end or until a signal cancels it.

    Raises:
        KeyboardInterrupt: Ctrl-C ended it.
        CancelledError: SIGTERM ended it.
    """

    async def main() -> int:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()

        def leave() -> None:
            loop.remove_signal_handler(signal.SIGTERM)  # a second one ends it at once
            task.cancel()

        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows has none
            loop.add_signal_handler(signal.SIGTERM, leave)
        return await work()

    return asyncio.run(main())


def run(console: Console, work: Callable[[], Awaitable[int]], way_on: Callable[[], str]) -> int:
    """Run something that can be stopped, in order, by Ctrl-C or SIGTERM.

    Args:
        console: Where to say how it ended.
        work: Gives the exit code.
        way_on: What to say of going on, where it did not end by itself.

    Returns:
        The exit code.
    """
    try:
        return until_stopped(work)
    except KeyboardInterrupt:
        say(console, f"stopped{way_on()}")
        return 130
    except asyncio.CancelledError:
        say(console, f"stopped by SIGTERM{way_on()}")
        return TERMINATED
    except (FileError, errors.FlipError, OSError) as error:
        say(console, f"{type(error).__name__}: {error}{way_on()}", style="red")
        return 2
