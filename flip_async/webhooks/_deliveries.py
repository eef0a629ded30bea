"""The webhooks in hand: a task for each, which belongs to no request."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final

import attrs

from flip_async._aio._shutdown import GracefulShutdown
from flip_async._aio._tasks import resolve, running_loop
from flip_async._aio._work import Work, finish

logger: Final = logging.getLogger("flip_async.webhooks")

leaving: Final[ContextVar[asyncio.Future[bool] | None]] = ContextVar("leaving", default=None)
"""Within a delivery: is done when whoever delivers is about to close. A handler that only waits,
as a command does between two tries, need not be waited for then."""


@attrs.frozen(eq=False)
class _InHand:
    work: Work
    leaving: asyncio.Future[bool]


class Deliveries:
    """At most one job for an id at a time.

    A job belongs to no request: whoever waits for it may leave. Only one event loop may touch
    it; the dictionary changes when a job begins, and in the callback of its end.
    """

    def __init__(self) -> None:
        self._in_hand: Final[dict[str, _InHand]] = {}

    def __len__(self) -> int:
        return len(self._in_hand)

    @property
    def works(self) -> list[Work]:
        """What is done now."""
        return [one.work for one in self._in_hand.values()]

    def get(self, key: str) -> Work | None:
        """What is done for an id now."""
        found = self._in_hand.get(key)
        return None if found is None else found.work

    def begin(
        self,
        key: str,
        job: Callable[[], Awaitable[None]],
        ended: Callable[[Work], None] = lambda work: None,
    ) -> Work:
        """Do a job for an id that has none, or one that is about to end.

        Args:
            key: The id.
            job: What to do.
            ended: Is told when it has ended, before whoever waits for it.
        """
        left: asyncio.Future[bool] = running_loop().create_future()

        async def run() -> None:
            leaving.set(left)
            await job()

        work = Work(run)
        in_hand = self._in_hand[key] = _InHand(work, left)

        def end(task: asyncio.Task[None]) -> None:
            if self._in_hand.get(key) is in_hand:
                del self._in_hand[key]
            ended(work)

        work.task.add_done_callback(end)
        return work

    def leave(self) -> None:
        """Tell those that only wait that nobody waits for them any more."""
        for one in self._in_hand.values():
            resolve(one.leaving, True)

    async def finish(self, last: GracefulShutdown, *, within_s: float) -> None:
        """Let all come to their end for so long, then give them up, and name them in the log."""
        self.leave()
        works = {key: one.work for key, one in self._in_hand.items()}
        stubborn = await finish(works.values(), last, within_s=within_s)
        given_up = [key for key, work in works.items() if work.was_given_up]
        if given_up:
            logger.error("handlers still ran and were given up: webhooks %s", ", ".join(given_up))
        if stubborn:
            logger.error("%d of these handlers do not end though they are cancelled", len(stubborn))
