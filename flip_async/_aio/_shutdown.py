"""Last work that is done although somebody cancels."""

import asyncio
from collections.abc import Collection, Coroutine

import anyio

from flip_async._aio._tasks import attached


class GracefulShutdown:
    """Waits on through one cancellation, and gives up the work at the next one.

    Ctrl-C cancels the main task once: then there is time to send what is left. Whoever
    presses it again has no time, and all that is not sent is reported at once. A scope of
    anyio cancels at every wait, which counts as once.

    Attributes:
        cancelled: The last cancellation that came meanwhile: to be raised when all is done.
    """

    def __init__(self, *, is_cancelled_already: bool) -> None:
        self.cancelled: asyncio.CancelledError | None = None
        self._cancellations = int(is_cancelled_already)

    async def until_done(self, job: Coroutine[object, object, None]) -> None:
        """Run a job to its end, or until it is given up."""
        task = attached(job)
        await self.until_ended([task])
        if not task.cancelled():
            task.result()

    async def until_ended(self, tasks: Collection[asyncio.Task[None]]) -> None:
        """Wait until tasks have ended, whichever way."""
        while any(not task.done() for task in tasks):
            try:
                with anyio.CancelScope(shield=True):
                    await asyncio.wait(tasks)
            except asyncio.CancelledError as error:
                self.cancelled = error
                self._cancellations += 1
                if self._cancellations > 1:
                    for task in tasks:
                        task.cancel()
