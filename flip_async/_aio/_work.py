"""Work that goes on by itself, until it ends or is given up."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final, final

import anyio

from flip_async._aio._callbacks import run_user_code
from flip_async._aio._shutdown import GracefulShutdown
from flip_async._aio._tasks import detached

_ENDS_WITHIN_S: Final = 5.0
"""How long what was given up may take to clean up; it may be code of a user's that never ends."""


class GivenUpError(Exception):
    """The work was cut off: whoever owns it is closing."""


@final
class Work:
    """A task that belongs to no request, and is given up by a scope of anyio [B1].

    Attributes:
        task: Ends with `GivenUpError` where it was given up, with `UserCodeError` where
            somebody else's `CancelledError` came out of the job.
    """

    def __init__(self, job: Callable[[], Awaitable[None]]) -> None:
        self._is_given_up = False
        self._scope: anyio.CancelScope | None = None  # anyio makes one in a task alone
        self.task: Final = detached(self._run(job))
        self.task.add_done_callback(_retrieve)

    async def _run(self, job: Callable[[], Awaitable[None]]) -> None:
        self._scope = anyio.CancelScope()
        if not self._is_given_up:
            with self._scope:
                await run_user_code(job)
                return
        raise GivenUpError

    def give_up(self) -> None:
        """Cut it off, also where it has not begun."""
        self._is_given_up = True
        if self._scope is not None:
            self._scope.cancel()

    @property
    def was_given_up(self) -> bool:
        """Whether it was cut off, or is being."""
        if not self.task.done():
            return self._is_given_up
        return isinstance(self.error, GivenUpError)

    @property
    def error(self) -> Exception | None:
        """Why it did not end well, when it has ended."""
        if self.task.cancelled():
            return GivenUpError()
        error = self.task.exception()
        return error if error is None or isinstance(error, Exception) else GivenUpError()


def _retrieve(task: asyncio.Task[None]) -> None:
    # Looked at by whoever wants to know; nobody needs to, and asyncio shall not complain.
    if not task.cancelled():
        task.exception()


async def finish(works: Collection[Work], last: GracefulShutdown, *, within_s: float) -> list[Work]:
    """Let work come to its end for so long, then give it up.

    Returns:
        What was given up and does not end, whatever is done.
    """
    tasks = [work.task for work in works]
    if not tasks:
        return []
    await last.until_done(_wait_for(tasks, within_s))
    for work in works:
        work.give_up()
    await last.until_done(_wait_for(tasks, _ENDS_WITHIN_S))
    return [work for work in works if not work.task.done()]


async def _wait_for(tasks: Collection[asyncio.Task[None]], timeout_s: float) -> None:
    await asyncio.wait(tasks, timeout=timeout_s)
