"""Takes webhooks out of an inbox when they are due, and sees each of them handled.

One task takes: it renews the claims, claims what is due, and waits until something comes or is
due. There is one task more for each webhook in hand. Only closing ends them: whatever an inbox
raises is logged, backed off, and tried again [B3]. While the worker leaves, it claims nothing
and goes on renewing; what is not finished then is released, not counted as a failure.
"""

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import attrs

from flip_async._aio._callbacks import run_user_code
from flip_async._aio._shutdown import GracefulShutdown
from flip_async._aio._tasks import Signal
from flip_async._aio._work import Work, finish
from flip_async._backoff import Backoff, doubled
from flip_async._clock import Clock
from flip_async.errors import ClientClosedError, StorageError
from flip_async.webhooks._deliveries import Deliveries
from flip_async.webhooks._inbox import Inbox, InboxEntry, Letter

logger: Final = logging.getLogger("flip_async.webhooks")

_BACK_OFF: Final = Backoff(base_s=1.0, cap_s=300.0)
_IN_HAND: Final = 10_000
"""How many are handled at once. A command is in hand until it is acknowledged, which may take
minutes; behind as many of them the cancelation of one must not wait."""
_STORE_S: Final = 1.0
_LONGEST_STORE_S: Final = 30.0


@attrs.frozen(kw_only=True)
class Patience:
    """When a webhook whose handler failed comes again.

    Attributes:
        give_up_after_s: How long it is tried, in seconds. What counts is the length of the
            pauses, as they are on average: a clock that jumps gives nothing up.
    """

    give_up_after_s: float

    def pause_s(self, failures: int, luck: float) -> float | None:
        """How long to wait for the next try, in seconds; `None` where it is given up.

        Args:
            failures: How often it has failed.
            luck: A number from 0 up to 1.
        """
        so_far_s = sum(_BACK_OFF.patient_delay_s(n, 0.5) for n in range(1, failures + 1))
        if so_far_s > self.give_up_after_s:
            return None
        return _BACK_OFF.patient_delay_s(failures, luck)


@attrs.define
class Tally:
    """What became of webhooks; a receiver and its worker count, and nobody else."""

    handled: int = 0
    failed: int = 0
    given_up: int = 0
    last_error: str | None = None

    def trouble(self, error: Exception) -> None:
        """Remember what went wrong."""
        self.last_error = f"{type(error).__name__}: {error}"


class InboxWorker:
    """Works on one inbox, in one event loop.

    Attributes:
        deliveries: The webhooks in hand.
    """

    def __init__(
        self,
        inbox: Inbox,
        handle: Callable[[Letter], Awaitable[None]],
        *,
        patience: Patience,
        give_up: Callable[[Letter, Exception], Awaitable[None]],
        tally: Tally,
        clock: Clock,
    ) -> None:
        self.deliveries: Final = Deliveries()
        self._inbox: Final = inbox
        self._handle: Final = handle
        self._patience: Final = patience
        self._give_up: Final = give_up
        self._tally: Final = tally
        self._clock: Final = clock
        # Who has which webhook, by its id; given up before a release, after which it may be
        # claimed again while its task has a last step to go.
        self._held: Final[dict[str, InboxEntry]] = {}
        self._wake: Final = Signal(clock)
        self._left: Final = Signal(clock)
        self._renew_at_s = clock.monotonic()
        self._is_leaving = False
        self._taker: Work | None = None

    def start(self) -> None:
        """Begin to take, in the running event loop."""
        self._taker = Work(self._take_for_ever)

    def arrived(self) -> None:
        """There is a new webhook."""
        self._wake.set()

    async def finish(self, last: GracefulShutdown, *, within_s: float) -> None:
        """Take no more, and let what is in hand come to its end for so long."""
        self._is_leaving = True
        self._left.set()
        await self.deliveries.finish(last, within_s=within_s)
        if self._taker is not None:
            self._taker.give_up()
            await finish([self._taker], last, within_s=0)

    # The task that takes

    async def _take_for_ever(self) -> None:
        pause_s: float | None = None
        while True:
            try:
                await run_user_code(self._take)
                pause_s = None
                continue
            except Exception as error:
                # The inbox may be a user's: what it raises once must not end this [B3].
                pause_s = doubled(pause_s, first_s=_STORE_S, cap_s=_LONGEST_STORE_S)
                self._log("used", error, pause_s)
            await self._clock.sleep(pause_s)

    async def _take(self) -> None:
        self._wake.clear()
        rest_s = await self._renew()
        room = _IN_HAND - len(self.deliveries)
        if room > 0 and not self._is_leaving:
            for entry in await self._inbox.claim(room):
                self._begin(entry)
            due_at = self._inbox.depth.next_due_at
            if due_at is not None:
                due_s = max(0.0, due_at - self._clock.wall())
                rest_s = due_s if rest_s is None else min(rest_s, due_s)
        await self._wake.wait(rest_s)

    async def _renew(self) -> float | None:
        """Renew where it is time; gives how long until it is again."""
        every_s = self._inbox.renew_every_s
        if every_s is None:
            return None
        if self._clock.monotonic() >= self._renew_at_s:
            await self._inbox.renew()
            self._renew_at_s = self._clock.monotonic() + every_s
        return max(0.0, self._renew_at_s - self._clock.monotonic())

    # The tasks that handle

    def _begin(self, entry: InboxEntry) -> None:
        # An entry comes twice where its lease was lost, by a machine that slept for instance.
        # What was claimed while the worker began to leave goes back with the inbox's claims.
        if entry.letter.webhook_id not in self._held and not self._is_leaving:
            self._hold(entry, lambda: self._see_through(entry))

    def _hold(self, entry: InboxEntry, job: Callable[[], Awaitable[None]]) -> None:
        key = entry.letter.webhook_id
        self._held[key] = entry
        self.deliveries.begin(key, job, functools.partial(self._ended, entry))

    def _let_go(self, entry: InboxEntry) -> None:
        key = entry.letter.webhook_id
        if self._held.get(key) is entry:
            del self._held[key]

    def _ended(self, entry: InboxEntry, work: Work) -> None:
        self._let_go(entry)
        if len(self.deliveries) + 1 >= _IN_HAND:
            self._wake.set()  # there is room again
        error = work.error
        if error is not None and not self._is_leaving:
            # It ended with its entry in hand, as where a handler cancels the task it runs in:
            # nobody else gives that back.
            self._hold(entry, lambda: self._give_back(entry, error))

    async def _give_back(self, entry: InboxEntry, error: Exception) -> None:
        await self._left.wait(_STORE_S)
        await self._failed(entry, error)

    async def _see_through(self, entry: InboxEntry) -> None:
        webhook_id = entry.letter.webhook_id
        try:
            await run_user_code(self._handle, entry.letter)
        except ClientClosedError as error:
            logger.info("webhook %s is not finished, and comes again: %s", webhook_id, error)
            # Others may have a client; this worker would have it back at once.
            age_s = self._clock.wall() - entry.accepted_at
            await self._left.wait(min(_LONGEST_STORE_S, max(_STORE_S, age_s / 2)))
            await self._release(entry, None)
        except Exception as error:
            if self._is_leaving:  # a failure of the end is none of the handler's
                await self._release(entry, None)
            else:
                await self._failed(entry, error)
        else:
            await self._write(entry, lambda: self._inbox.settle([entry]))

    async def _failed(self, entry: InboxEntry, error: Exception) -> None:
        self._tally.trouble(error)
        webhook_id, failures = entry.letter.webhook_id, entry.failures + 1
        pause_s = self._patience.pause_s(failures, self._clock.random())
        if pause_s is None:
            text = "webhook %s is given up after %d failures"
            logger.error(text, webhook_id, failures, exc_info=error)
            # Told first: a crash in between tells it twice, the other way round never.
            await self._give_up(entry.letter, error)
            reason = f"{type(error).__name__}: {error}"
            await self._write(entry, lambda: self._inbox.dead_letter([entry], reason))
            return
        text = "webhook %s: its handler failed, again in %.1f s (failure %d)"
        logger.warning(text, webhook_id, pause_s, failures, exc_info=error)
        await self._release(entry, self._clock.wall() + pause_s)

    async def _release(self, entry: InboxEntry, due_at: float | None) -> None:
        self._let_go(entry)
        await self._write(entry, lambda: self._inbox.release([entry], due_at=due_at))
        self._wake.set()  # it may be due before anything else

    async def _write(self, entry: InboxEntry, write: Callable[[], Awaitable[None]]) -> None:
        # A disk that is full now may not be later; to forget this would handle it twice.
        pause_s: float | None = None
        while True:
            is_last = self._is_leaving
            try:
                return await run_user_code(write)
            except Exception as error:
                pause_s = doubled(pause_s, first_s=_STORE_S, cap_s=_LONGEST_STORE_S)
                self._log("written", error, pause_s)
            if is_last:
                logger.error("webhook %s is handled again", entry.letter.webhook_id)
                return None
            await self._left.wait(pause_s)

    def _log(self, what: str, error: Exception, pause_s: float) -> None:
        self._tally.trouble(error)
        trace = None if isinstance(error, StorageError) else error  # a bug looks like one
        text = "the inbox cannot be %s, again in %g s: %s"
        logger.error(text, what, pause_s, error, exc_info=trace)
