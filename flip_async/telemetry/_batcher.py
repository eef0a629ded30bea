"""When a batch is due."""

from typing import Final

from flip_async.models.telemetry import LARGEST_BATCH

_SOON_S: Final = 0.001  # a timer may ring a little early


class Batcher:
    """The rules of a due batch [T1], and what they need to know.

    It counts on the monotonic clock from the moment when it learnt that points wait, so that a
    wall clock that is set holds nobody's points. Its worker alone touches it: `_waiting` and
    `_since_s` change with every point and batch, `_was_in_vain` with each claim.

    Args:
        max_delay_s: How long a point waits for others, in seconds.
        concurrency: How many batches may be sent at once.
    """

    def __init__(self, *, max_delay_s: float, concurrency: int) -> None:
        self._max_delay_s: Final = max_delay_s
        self._concurrency: Final = concurrency
        self._waiting = 0
        self._since_s: float | None = None  # when the oldest of them came
        self._was_in_vain = False

    @property
    def has_a_batch(self) -> bool:
        """Whether as many wait as one batch takes."""
        return self._waiting >= LARGEST_BATCH

    def arrived(self, count: int, *, now_s: float) -> None:
        """There are so many points more."""
        self._was_in_vain = False
        self._waiting += count
        if self._since_s is None:
            self._since_s = now_s

    def looked(self, waiting: int, *, age_s: float, now_s: float, anew: bool = False) -> None:
        """The outbox says what there is.

        Args:
            waiting: How many points wait.
            age_s: How long the oldest of them has waited, as far as the wall clock knows.
            now_s: The present moment.
            anew: What was known of their age does not count any more.
        """
        self._was_in_vain = False
        self._waiting = waiting
        if not waiting:
            self._since_s = None
        elif anew or self._since_s is None:
            # Never more than the delay: the wall clock may have been set.
            self._since_s = now_s - min(max(age_s, 0.0), self._max_delay_s)

    def claims(self) -> None:
        """A claim begins: if it gives nothing, another has no use before something happens.

        Said before it, since points may arrive while it waits for its answer.
        """
        self._was_in_vain = True

    def changed(self) -> None:
        """Something happened: a batch has ended."""
        self._was_in_vain = False

    def due_in_s(
        self, *, now_s: float, sending: int, held_for_s: float | None, is_urgent: bool
    ) -> float | None:
        """Seconds until a batch is to be taken; 0 for now, `None` where nothing tells.

        Args:
            now_s: The present moment.
            sending: How many batches are being sent.
            held_for_s: Seconds until a request may go out; `None` while one tries for all.
            is_urgent: Somebody waits for all points to be sent, or there is no room.
        """
        if self._since_s is None or self._was_in_vain or sending >= self._concurrency:
            return None
        if held_for_s is None:
            return None  # what is taken later may be more
        delay_s = 0.0
        if not is_urgent and not self.has_a_batch:
            delay_s = self._since_s + self._max_delay_s - now_s
        due_s = max(held_for_s, delay_s)
        return 0.0 if due_s <= _SOON_S else due_s
