"""One vocabulary for what waits: outboxes and inboxes are claim queues."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import attrs

E = TypeVar("E")


@attrs.frozen(kw_only=True)
class QueueDepth:
    """How much a queue holds, as far as is known.

    Attributes:
        waiting: Entries that nobody has claimed.
        oldest_at: When the oldest of them was accepted, as Unix time in seconds; `None` without
            one.
        first_id: The lowest id of all entries, claimed ones too; `None` without one.
        next_due_at: When the next of those that wait is due, as Unix time in seconds; `None`
            without one.
        is_full: There is no room for another one.
    """

    waiting: int = 0
    oldest_at: float | None = None
    first_id: int | None = None
    next_due_at: float | None = None
    is_full: bool = False


class ClaimQueue(Protocol[E]):
    """Gives each entry to one owner at a time, and loses none.

    A claim ends with `settle`, `release` or `dead_letter`, with its owner's `aclose`, or, where
    its owner dies, with its lease. A queue object belongs to one user, in one event loop.
    """

    @property
    def depth(self) -> QueueDepth:
        """How much there is, as far as is known without asking."""
        ...

    @property
    def renew_every_s(self) -> float | None:
        """How often `renew` wants to be called, in seconds; `None` where nobody shares it."""
        ...

    async def claim(self, most: int) -> Sequence[E]:
        """Take entries that are due, the oldest first; nobody else is given them meanwhile.

        Args:
            most: How many at most.

        Returns:
            The entries, which are the caller's until it ends their claim; none where none is due.

        Raises:
            StorageError: It cannot be read or written.
        """
        ...

    async def settle(self, entries: Sequence[E]) -> None:
        """Forget entries: they are done.

        Args:
            entries: Which.

        Raises:
            StorageError: It cannot be written; they are claimed still.
        """
        ...

    async def release(self, entries: Sequence[E]) -> None:
        """Let entries wait again, for whoever comes.

        Args:
            entries: Which.

        Raises:
            StorageError: It cannot be written; they are claimed still.
        """
        ...

    async def dead_letter(self, entries: Sequence[E], reason: str) -> None:
        """Never give entries again, and keep them to be looked at.

        Args:
            entries: Which.
            reason: Why.

        Raises:
            StorageError: It cannot be written; they are claimed still.
        """
        ...

    async def renew(self) -> QueueDepth:
        """Keep own claims, free those that ended, tidy up, and find out what is there.

        Returns:
            How much there is.

        Raises:
            StorageError: It cannot be read or written.
        """
        ...

    async def aclose(self) -> None:
        """Give back what is claimed, for others, and close what is open."""
        ...
