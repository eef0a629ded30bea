"""Takes batches out of an outbox when they are due, and sees them through.

One task decides: it waits until a batch is due or the outbox wants to be looked at, claims, and
starts a delivery, which is a task of its own. A delivery that ends otherwise than well, or that
was cancelled before its first step, leaves its points in `_unfinished`: here they are given back,
by whoever took them, and never by the delivery itself.
"""

import asyncio
import logging
from typing import Final, Generic, TypeVar

import anyio

from flip_async._aio._callbacks import run_user_code
from flip_async._aio._tasks import Signal, detached
from flip_async._clock import Clock
from flip_async.errors import ClientClosedError, FlipError, StorageError
from flip_async.models.telemetry import LARGEST_BATCH
from flip_async.telemetry._batcher import Batcher
from flip_async.telemetry._delivery import Delivery, Post
from flip_async.telemetry._outbox import PutResult
from flip_async.telemetry._verdict import BugError, Verdict

P = TypeVar("P")

logger: Final = logging.getLogger("flip_async.telemetry")

_STORE_S: Final = 1.0
_GIVE_BACK_S: Final = 2.0


class TelemetryWorker(Generic[P]):
    """One task that decides, and one for each batch that is being sent.

    Only its event loop touches it. `deliveries` has what runs, `_unfinished` what has ended and
    holds points still.

    Attributes:
        closed: The client is closed, and no point will pass any more.
        trouble: Why the outbox cannot be used at this moment.
        deliveries: What is being sent.
        flushing: How many wait for all points to be sent.
    """

    def __init__(self, post: Post[P], batcher: Batcher) -> None:
        self.closed: ClientClosedError | None = None
        self.trouble: FlipError | None = None
        self.deliveries: Final[dict[asyncio.Task[None], Delivery[P]]] = {}
        self.flushing = 0
        self._post: Final = post
        self._clock: Final[Clock] = post.clock
        self._batcher: Final = batcher
        self._unfinished: Final[list[Delivery[P]]] = []
        self._task: asyncio.Task[None] | None = None
        self._wake: Final = Signal(post.clock)
        self._progress: Final = Signal(post.clock)
        self._sleeps_idly = False
        self._renew_at_s = 0.0

    def start(self) -> None:
        """Begin to work, in the running event loop."""
        self._task = detached(self._work())

    def accepted(self, put: PutResult) -> None:
        """There are more points than before."""
        self._batcher.arrived(put.count, now_s=self._clock.monotonic())
        # It need not look at every point: it knows when the first of them is due.
        if self._sleeps_idly or self.flushing or put.is_full or self._batcher.has_a_batch:
            self._wake.set()

    def hurry(self) -> None:
        """Somebody waits for all of them."""
        self._wake.set()

    async def wait_for_progress(self, most_s: float | None) -> None:
        """Wait until a batch has ended, or something else may have changed."""
        await self._progress.wait(most_s)

    def stop(self) -> list[asyncio.Task[None]]:
        """Stop; what its deliveries hold is given back by `give_back`.

        Returns:
            The tasks that are about to end.
        """
        tasks = [*([self._task] if self._task else []), *self.deliveries]
        for task in tasks:
            task.cancel()
        return tasks

    async def give_back(self) -> None:
        """Let go of what is claimed still, after the tasks have ended."""
        with anyio.move_on_after(_GIVE_BACK_S):
            try:
                await self._finish()
            except Exception:  # the outbox may be a user's; closing it ends the claims too
                logger.exception("points are given back by closing the outbox")

    def wake_all(self) -> None:
        """Wake those who wait for progress: it is over."""
        self._progress.wake()

    # The task that decides

    async def _work(self) -> None:
        while True:
            try:
                await run_user_code(self._round)
                self.trouble = None
                continue
            except StorageError as error:
                self.trouble = error
                logger.error("the outbox cannot be used, again in %g s: %s", _STORE_S, error)
            except Exception as error:
                # The outbox may be a user's: what it raises once must not end this [B3].
                self.trouble = StorageError(f"the outbox failed with {type(error).__name__}")
                self.trouble.__cause__ = error
                logger.exception("the outbox cannot be used, again in %g s", _STORE_S)
            self._batcher.changed()
            await self._clock.sleep(_STORE_S)

    async def _round(self) -> None:
        await self._finish()
        if self._until_renewal_s() == 0.0:
            await self._renew()
        depth = self._post.outbox.depth
        now_s = self._clock.monotonic()
        due_s = self._batcher.due_in_s(
            now_s=now_s,
            sending=len(self.deliveries),
            held_for_s=self._post.breaker.held_for_s(now_s),
            is_urgent=self.flushing > 0 or depth.is_full,
        )
        if due_s == 0.0:
            await self._take()
        else:
            await self._rest(due_s)

    async def _finish(self) -> None:
        while self._unfinished:
            delivery = self._unfinished[-1]
            if delivery.settled:
                await self._post.outbox.settle(list(delivery.settled.values()))
                delivery.settled.clear()
            if delivery.left:
                await self._post.outbox.release(list(delivery.left.values()))
                delivery.left.clear()
            self._unfinished.remove(delivery)
            self._looked(anew=True)

    def _until_renewal_s(self) -> float | None:
        if self._post.outbox.renew_every_s is None:
            return None
        return max(0.0, self._renew_at_s - self._clock.monotonic())

    async def _renew(self) -> None:
        await self._post.outbox.renew()
        self._renew_at_s = self._clock.monotonic() + (self._post.outbox.renew_every_s or 0.0)
        self._looked()

    async def _take(self) -> None:
        self._batcher.claims()
        entries = await self._post.outbox.claim(LARGEST_BATCH)
        if not entries:
            return
        self._looked(anew=True)
        delivery = Delivery(entries, self._post)
        task = detached(delivery.run())
        self.deliveries[task] = delivery
        task.add_done_callback(self._ended)

    def _looked(self, *, anew: bool = False) -> None:
        depth, now = self._post.outbox.depth, self._clock.now()
        age_s = 0.0 if depth.oldest_at is None else now.wall_s - depth.oldest_at
        self._batcher.looked(depth.waiting, age_s=age_s, now_s=now.monotonic_s, anew=anew)

    async def _rest(self, due_s: float | None) -> None:
        renewal_s = self._until_renewal_s()
        waits_s = [seconds for seconds in (due_s, renewal_s) if seconds is not None]
        self._wake.clear()
        self._sleeps_idly = due_s is None
        try:
            await self._wake.wait(min(waits_s, default=None))
        finally:
            self._sleeps_idly = False

    def _ended(self, task: asyncio.Task[None]) -> None:
        delivery = self.deliveries.pop(task)
        if delivery.left or delivery.settled:
            self._unfinished.append(delivery)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, ClientClosedError):
            # No other batch would fare better.
            self.closed = error
            self.stop()
            self._post.outbox.stop_taking()
        elif isinstance(error, Exception):
            logger.error("a batch was not sent", exc_info=error)
            self._post.failed(BugError(error), Verdict.BACK_OFF)
        self._looked()  # it may have given points back
        self._wake.set()
        self._progress.wake()
