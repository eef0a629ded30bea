"""Each webhook once: deliveries that overlap share one run, and successes are remembered."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Final

from flip_async._aio._callbacks import run_user_code
from flip_async._aio._tasks import detached
from flip_async._clock import Clock

REMEMBER_S: Final = 24 * 3600.0
REMEMBERED: Final = 100_000


class Once:
    """Runs at most one job for an id at a time, and none after one that succeeded.

    A job belongs to no request: whoever waits for it may leave. Failures are not remembered,
    so that a re-delivery is another try; only what is cut off ends as cancelled. Only one
    event loop may touch it.
    """

    def __init__(
        self, clock: Clock, *, remember_s: float = REMEMBER_S, at_most: int = REMEMBERED
    ) -> None:
        self._clock: Final = clock
        self._remember_s: Final = remember_s
        self._at_most: Final = at_most
        self.running: Final[dict[str, asyncio.Task[None]]] = {}
        self._succeeded: Final[OrderedDict[str, float]] = OrderedDict()

    def begin(
        self, key: str, job: Callable[[], Coroutine[object, object, None]]
    ) -> asyncio.Task[None] | None:
        """Run a job, or find the one that runs.

        Args:
            key: The id.
            job: What to do.

        Returns:
            The task; `None` where one has succeeded already.
        """
        self._forget()
        if key in self._succeeded:
            return None
        task = self.running.get(key)
        if task is None:
            task = self.running[key] = detached(run_user_code(job))
            task.add_done_callback(lambda ended: self._ended(key, ended))
        return task

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        del self.running[key]
        if not task.cancelled() and task.exception() is None:
            self._succeeded[key] = self._clock.monotonic()

    def _forget(self) -> None:
        # The oldest stand first. One look at each as it comes keeps this short.
        before = self._clock.monotonic() - self._remember_s
        while self._succeeded:
            key = next(iter(self._succeeded))
            if len(self._succeeded) <= self._at_most and self._succeeded[key] > before:
                break
            del self._succeeded[key]
