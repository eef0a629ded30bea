"""One refresh at a time in an event loop, which belongs to no request."""

import asyncio
import enum
from collections.abc import Callable, Coroutine
from typing import Final, final

from flip_async._aio._tasks import Signal, detached, running_loop
from flip_async._auth._token import Token
from flip_async._clock import Clock
from flip_async.errors import FlipError


class Lost(enum.Enum):
    """The refresh ended without an outcome: it was cancelled, or its owner was closed."""

    LOST = "lost"


Outcome = Token | Exception | Lost
"""A token, why there is none (a bug where it is no `FlipError`), or nothing."""


@final
class Run:
    """One refresh: a task, and the future that its waiters wait on.

    They do not wait on the task: a cancelled task would cancel them.
    """

    def __init__(self, lock: asyncio.Lock, clock: Clock, *, forced: bool) -> None:
        self.lock: Final = lock
        self.forced: Final = forced
        self.landed: Final[asyncio.Future[Outcome]] = running_loop().create_future()
        self._nudged: Final = Signal(clock)
        self._task: asyncio.Task[None] | None = None
        self._wakeable = False

    def begin(self, job: "Job") -> None:
        task = detached(self._fly(job))
        # A loop may end, with no run of its own, while this sleeps: that is nobody's mistake.
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # as asyncio.gather does
        self._task = task
        task.add_done_callback(self._ended)

    async def _fly(self, job: "Job") -> None:
        outcome = await job(self)
        if not self.landed.done():
            self.landed.set_result(outcome)

    def _ended(self, task: asyncio.Task[None]) -> None:
        # A task that is cancelled before its first step never reaches a `finally` of its own.
        error = None if task.cancelled() else task.exception()
        if not self.landed.done():
            self.landed.set_result(error if isinstance(error, Exception) else Lost.LOST)

    async def pause(self, seconds: float, *, wakeable: bool) -> None:
        """Sleep; where `wakeable`, `nudge()` ends it."""
        self._wakeable = wakeable
        await self._nudged.wait(seconds)

    def nudge(self) -> None:
        """A request waits that has no token: do not sleep any longer, if that is allowed."""
        if self._wakeable:
            self._nudged.wake()

    async def wait(self) -> Outcome:
        """Wait for the outcome; a waiter that is cancelled disturbs nobody."""
        return await asyncio.shield(self.landed)

    def abandon(self) -> asyncio.Task[None] | None:
        """Cancel the task; its waiters get `Lost` at once."""
        if not self.landed.done():
            self.landed.set_result(Lost.LOST)
        if self._task is not None:
            self._task.cancel()
        return self._task


Job = Callable[[Run], Coroutine[object, object, Outcome]]


class SingleFlight:
    """Keeps the refreshes of one auth in one event loop.

    A job holds the lock while it asks for the token, not while it sleeps between two
    attempts: the lock gives "one at a time", the task gives "no request's own" [A8].
    What changes: the runs, the one that all share, and how many in a row ended without an
    outcome. Only code that runs in this loop may touch it.
    """

    def __init__(self, job: Job, clock: Clock) -> None:
        self.lost_in_a_row = 0
        self._job: Final = job
        self._clock: Final = clock
        self._lock: Final = asyncio.Lock()
        self._runs: Final[set[Run]] = set()
        self._shared: Run | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a refresh runs."""
        return bool(self._runs)

    def start(self) -> Run:
        """Begin a refresh, or give the one that runs."""
        shared = self._shared
        if shared is None or shared.landed.done():
            shared = self._shared = self._new_run(forced=False)
        return shared

    async def join(self) -> Outcome:
        """Wait for the refresh that runs, or for a new one."""
        run = self.start()
        run.nudge()
        return await run.wait()

    async def force(self) -> Outcome:
        """Wait out an attempt that runs, then make one more [A21]."""
        # Whoever needs a token meanwhile joins this one: it is newer than what they ask for.
        run = self._shared = self._new_run(forced=True)
        outcome = await run.wait()
        for other in self._runs:  # one that sleeps has nothing left to do
            other.nudge()
        return outcome

    def _new_run(self, *, forced: bool) -> Run:
        run = Run(self._lock, self._clock, forced=forced)
        self._runs.add(run)
        run.landed.add_done_callback(lambda landed: self._landed(run, landed.result()))
        run.begin(self._job)
        return run

    def _landed(self, run: Run, outcome: Outcome) -> None:
        self._runs.discard(run)
        has_none = outcome is Lost.LOST or not isinstance(outcome, Token | FlipError)
        self.lost_in_a_row = self.lost_in_a_row + 1 if has_none else 0

    def abandon(self) -> list[asyncio.Task[None]]:
        """Cancel what runs; gives the tasks, whose end can be waited for."""
        tasks = [run.abandon() for run in list(self._runs)]
        return [task for task in tasks if task is not None]
