"""Each webhook once: deliveries that overlap share one run, and successes are remembered."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from flip_async._aio._work import Work
from flip_async._clock import Clock
from flip_async.webhooks._deliveries import Deliveries

REMEMBER_S: Final = 24 * 3600.0
REMEMBERED: Final = 100_000


class Deduplicator:
    """Runs at most one job for an id at a time, and none after one that succeeded.

    Failures are not remembered, so that a re-delivery is another try. Only one event loop may
    touch it.

    Attributes:
        deliveries: What runs.
    """

    def __init__(
        self, clock: Clock, *, remember_s: float = REMEMBER_S, at_most: int = REMEMBERED
    ) -> None:
        self.deliveries: Final = Deliveries()
        self._clock: Final = clock
        self._remember_s: Final = remember_s
        self._at_most: Final = at_most
        self._succeeded: Final[OrderedDict[str, float]] = OrderedDict()

    def begin(self, key: str, job: Callable[[], Awaitable[None]]) -> Work | None:
        """Do a job, or find the one that runs; `None` where one has succeeded already."""
        self._forget()
        if key in self._succeeded:
            return None

        def ended(work: Work) -> None:
            if work.error is None:
                self._succeeded[key] = self._clock.monotonic()

        return self.deliveries.get(key) or self.deliveries.begin(key, job, ended)

    def _forget(self) -> None:
        # The oldest stand first. One look at each as it comes keeps this short.
        before = self._clock.monotonic() - self._remember_s
        while self._succeeded:
            key = next(iter(self._succeeded))
            if len(self._succeeded) <= self._at_most and self._succeeded[key] > before:
                break
            del self._succeeded[key]
