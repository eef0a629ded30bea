"""Takes webhooks out of an inbox when they are due, and sees each of them handled."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import attrs

from flip_async._aio._callbacks import notify, run_user_code
from flip_async._aio._tasks import Signal, detached
from flip_async._backoff import Backoff
from flip_async._clock import Clock
from flip_async.errors import StorageError
from flip_async.webhooks._inbox import Inbox, InboxEntry, Letter

logger: Final = logging.getLogger("flip_async.webhooks")

OnGivenUp = Callable[[Letter, Exception], Awaitable[None] | None]

_BACK_OFF: Final = Backoff(base_s=1.0, cap_s=300.0)
_IN_HAND: Final = 10_000
"""How many are handled at once. A command is in hand until it is acknowledged, which may take
minutes; behind as many of them the cancelation of one must not wait."""
_STORE_S: Final = 1.0


@attrs.frozen(kw_only=True)
class Patience:
    """When a webhook whose handler failed comes again.

    Attributes:
        give_up_after_s: How long after it came it is given up, in seconds.
    """

    give_up_after_s: float

    def next_try_at(self, entry: InboxEntry, *, now_s: float, luck: float) -> float | None:
        """When to try again, as Unix time in seconds; `None` where it is given up.

        Args:
            entry: What failed, with the failures before this one.
            now_s: Unix time in seconds.
            luck: A number from 0 up to 1.
        """
        at = now_s + _BACK_OFF.patient_delay_s(entry.failures + 1, luck)
        return at if at <= entry.accepted_at + self.give_up_after_s else None


class InboxReader:
    """One task that takes, and one for each webhook in hand.

    Attributes:
        running: What is in hand, by the webhook's id.
    """

    def __init__(
        self,
        inbox: Inbox,
        handle: Callable[[Letter], Awaitable[None]],
        *,
        patience: Patience,
        on_given_up: OnGivenUp | None,
        clock: Clock,
    ) -> None:
        self.running: Final[dict[str, asyncio.Task[None]]] = {}
        self._inbox: Final = inbox
        self._handle: Final = handle
        self._patience: Final = patience
        self._on_given_up: Final = on_given_up
        self._clock: Final = clock
        self._wake: Final = Signal(clock)
        self._look_at = clock.monotonic()
        self._is_stopping = False
        self._worker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take, in the running event loop."""
        self._worker = detached(self._work())

    def arrived(self) -> None:
        """There is a new webhook."""
        self._wake.set()

    def stop(self) -> list[asyncio.Task[None]]:
        """Take no more.

        Returns:
            The task that is about to end.
        """
        self._is_stopping = True
        if self._worker is None:
            return []
        self._worker.cancel()
        return [self._worker]

    # The task that takes

    async def _work(self) -> None:
        while True:
            try:
                await run_user_code(self._take)
                continue
            except StorageError as error:
                logger.error("the inbox cannot be used, again in %g s: %s", _STORE_S, error)
            except Exception:
                # The inbox may be a user's: what it raises once must not end this [B3].
                logger.exception("the inbox cannot be used, again in %g s", _STORE_S)
            await self._clock.sleep(_STORE_S)

    async def _take(self) -> None:
        self._wake.clear()
        if self._clock.monotonic() >= self._look_at:
            await self._inbox.look()
            self._look_at = self._clock.monotonic() + self._inbox.look_every_s
        rest_s = self._look_at - self._clock.monotonic()
        room = _IN_HAND - len(self.running)
        if room > 0:
            claim = await self._inbox.claim(room)
            for entry in claim.entries:
                self._begin(entry)
            if claim.next_due_at is not None:
                rest_s = min(rest_s, claim.next_due_at - self._clock.wall())
        await self._wake.wait(max(0.0, rest_s))

    # The tasks that handle

    def _begin(self, entry: InboxEntry) -> None:
        key = entry.letter.webhook_id
        # An entry comes twice where its lease was lost, by a machine that slept for instance.
        if key in self.running:
            return
        task = self.running[key] = detached(self._see_through(entry))
        task.add_done_callback(lambda ended: self._ended(key, ended))

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        if len(self.running) >= _IN_HAND:
            self._wake.set()  # there is room again
        del self.running[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical("webhook %s is lost until the next start", key, exc_info=error)

    async def _see_through(self, entry: InboxEntry) -> None:
        try:
            await run_user_code(self._handle, entry.letter)
        except Exception as error:
            if self._is_stopping:
                return  # it is let go with the inbox, and comes again after the next start
            await self._failed(entry, error)
        else:
            await self._keep_trying(lambda: self._inbox.handled(entry))

    async def _failed(self, entry: InboxEntry, error: Exception) -> None:
        now_s, luck = self._clock.wall(), self._clock.random()
        due_at = self._patience.next_try_at(entry, now_s=now_s, luck=luck)
        webhook_id = entry.letter.webhook_id
        if due_at is not None:
            logger.warning(
                "webhook %s: its handler failed, again in %.1f s (failure %d)",
                webhook_id,
                due_at - now_s,
                entry.failures + 1,
                exc_info=error,
            )
            await self._keep_trying(lambda: self._inbox.failed(entry, due_at=due_at))
            self._wake.set()  # it may be due before anything else
            return
        logger.error(
            "webhook %s is given up after %d failures",
            webhook_id,
            entry.failures + 1,
            exc_info=error,
        )
        # Told first: a crash in between tells it twice, the other way round never.
        if self._on_given_up is not None:
            await notify(logger, self._on_given_up, entry.letter, error)
        await self._keep_trying(lambda: self._inbox.given_up(entry))

    async def _keep_trying(self, write: Callable[[], Awaitable[None]]) -> None:
        # A disk that is full now may not be later; to forget this would handle it twice.
        while True:
            try:
                return await write()
            except StorageError as error:
                logger.error("the inbox cannot be written, again in %g s: %s", _STORE_S, error)
                await self._clock.sleep(_STORE_S)
