"""Takes batches out of an outbox when they are due, and sees them through."""

import asyncio
import logging
from typing import Final, Generic, TypeVar

from flip_async._aio._callbacks import run_user_code
from flip_async._aio._tasks import Signal, detached
from flip_async._clock import Clock
from flip_async.errors import StorageError
from flip_async.models.telemetry import LARGEST_BATCH
from flip_async.telemetry._batcher import Batching, Look, Rest, Scene, Take
from flip_async.telemetry._delivery import Delivery, Post
from flip_async.telemetry._outbox import Kept

P = TypeVar("P")

logger: Final = logging.getLogger("flip_async.telemetry")

_STORE_S: Final = 1.0


class Pump(Generic[P]):
    """One task that decides, and one for each batch that is being sent.

    Attributes:
        failure: Why it stopped: the client is closed, or there is a bug.
        deliveries: What is being sent.
        flushing: How many wait for all points to be sent.
    """

    def __init__(self, post: Post[P], batching: Batching) -> None:
        self.failure: BaseException | None = None
        self.deliveries: Final[dict[asyncio.Task[None], Delivery[P]]] = {}
        self.flushing = 0
        self._post: Final = post
        self._clock: Final[Clock] = post.clock
        self._batching: Final = batching
        self._worker: asyncio.Task[None] | None = None
        self._wake: Final = Signal(post.clock)
        self._progress: Final = Signal(post.clock)
        self._sleeps_idly = False
        self._was_in_vain = False
        self._waiting = 0  # as of the last decision, and what came since
        self._looked_at = 0.0

    def start(self) -> None:
        """Begin to work, in the running event loop."""
        self._looked_at = self._clock.monotonic()
        self._worker = detached(self._work())
        self._worker.add_done_callback(self._ended)

    def accepted(self, kept: Kept) -> None:
        """There are more points than before."""
        self._was_in_vain = False
        self._waiting += kept.count
        # It need not look at every point: it knows when the first of them is due.
        if self._sleeps_idly or self.flushing or kept.is_full or self._waiting >= LARGEST_BATCH:
            self._wake.set()

    def hurry(self) -> None:
        """Somebody waits for all of them."""
        self._wake.set()

    async def wait_for_progress(self, most_s: float | None) -> None:
        """Wait until a batch has ended, or something else may have changed."""
        await self._progress.wait(most_s)

    def stop(self) -> list[asyncio.Task[None]]:
        """Stop; batches that are being sent give their points back.

        Returns:
            The tasks that are about to end.
        """
        tasks = [*([self._worker] if self._worker else []), *self.deliveries]
        for task in tasks:
            task.cancel()
        return tasks

    # The task that decides

    async def _work(self) -> None:
        while True:
            try:
                await run_user_code(self._round)
                continue
            except StorageError as error:
                logger.error("the outbox cannot be used, again in %g s: %s", _STORE_S, error)
            except Exception:
                # The outbox may be a user's: what it raises once must not end this [B3].
                logger.exception("the outbox cannot be used, again in %g s", _STORE_S)
            self._was_in_vain = False
            await self._clock.sleep(_STORE_S)

    async def _round(self) -> None:
        scene = self._scene()
        self._waiting = scene.waiting
        match self._batching.decide(scene):
            case Take():
                await self._take()
            case Look():
                await self._look()
            case Rest(for_s):
                await self._rest(for_s, idly=not scene.waiting or scene.was_in_vain)

    def _scene(self) -> Scene:
        depth = self._post.outbox.depth
        now = self._clock.now()
        return Scene(
            waiting=depth.waiting,
            oldest_age_s=0.0 if depth.oldest_at is None else now.wall_s - depth.oldest_at,
            sending=len(self.deliveries),
            held_for_s=self._post.gate.holds_for_s,
            is_urgent=self.flushing > 0 or depth.is_full,
            was_in_vain=self._was_in_vain,
            since_look_s=now.monotonic_s - self._looked_at,
        )

    async def _look(self) -> None:
        self._looked_at = self._clock.monotonic()
        await self._post.outbox.look()
        self._was_in_vain = False

    async def _take(self) -> None:
        self._was_in_vain = True  # before: something may be added meanwhile
        entries = await self._post.outbox.claim(LARGEST_BATCH)
        if not entries:
            return
        self._was_in_vain = False
        delivery = Delivery(entries, self._post)
        task = detached(delivery.run())
        self.deliveries[task] = delivery
        task.add_done_callback(self._ended)

    async def _rest(self, for_s: float | None, *, idly: bool) -> None:
        self._wake.clear()
        self._sleeps_idly = idly
        try:
            await self._wake.wait(for_s)
        finally:
            self._sleeps_idly = False

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.deliveries.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The client is closed, or there is a bug: no other batch would fare better.
            self.failure = self.failure or error
            self.stop()
            self._post.outbox.stop_taking()
        self._was_in_vain = False
        self._wake.set()
        self._progress.wake()
