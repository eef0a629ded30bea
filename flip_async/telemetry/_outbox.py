"""Where points wait until they are sent."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import attrs


class Draft(NamedTuple):
    """A point that was checked and is to be kept.

    Attributes:
        device: Whose it is; points of one device keep their order where that matters.
        body: The point as JSON.
    """

    device: str
    body: bytes


class Entry(NamedTuple):
    """A point that an outbox keeps.

    Attributes:
        id: Grows with every point.
        device: Whose it is.
        body: The point as JSON.
        accepted_at: Unix time in seconds.
        was_refused: It was in a batch of which the server took nothing.
    """

    id: int
    device: str
    body: bytes
    accepted_at: float
    was_refused: bool = False


@attrs.frozen
class Depth:
    """How much an outbox holds.

    Attributes:
        waiting: Points that are not being sent.
        oldest_at: When the oldest of them was accepted, as Unix time; `None` without one.
        is_full: There is no room, so that nothing is gained by waiting for more.
    """

    waiting: int = 0
    oldest_at: float | None = None
    is_full: bool = False


@attrs.frozen
class Kept:
    """What an outbox took.

    Attributes:
        count: How many points, from the first.
        last_id: The id of the last of them.
        is_full: There is no room for another one.
    """

    count: int
    last_id: int
    is_full: bool = False


class Outbox(Protocol):
    """Keeps points until each is sent, rejected or reported.

    `MemoryOutbox` and `SqliteOutbox` are two; an uploader takes any other. An outbox object
    belongs to one uploader, in one event loop.
    """

    @property
    def is_durable(self) -> bool:
        """Whether points outlive the process."""
        ...

    @property
    def look_every_s(self) -> float | None:
        """How often `look` wants to be called, in seconds; `None` where nobody shares it."""
        ...

    @property
    def depth(self) -> Depth:
        """How much waits, as far as is known without looking."""
        ...

    async def open(self, *, origin: str, endpoint: str, in_order: bool) -> None:
        """Get ready.

        Args:
            origin: The API's origin; points for one never go to another.
            endpoint: Name of the endpoint, likewise.
            in_order: Points of a device may not overtake each other: while some of them
                are claimed, no others are given.

        Raises:
            ConfigurationError: It holds points for another one.
            StorageError: It cannot be used.
        """
        ...

    async def put(self, drafts: Sequence[Draft]) -> Kept:
        """Keep points, in this order, as many as there is room for; they are safe then.

        It waits where there is no room for one, unless the outbox was told not to.

        Args:
            drafts: At least one.

        Returns:
            What it took, at least one.

        Raises:
            OutboxFullError: There is no room.
            StorageError: They cannot be kept.
            ClientClosedError: It takes no more.
        """
        ...

    def stop_taking(self) -> None:
        """Take no more points; whoever waits for room gets a `ClientClosedError`."""
        ...

    def put_nowait(self, draft: Draft) -> Kept:
        """Keep a point at once.

        Raises:
            OutboxFullError: There is no room.
            ConfigurationError: It takes time to make a point safe here.
        """
        ...

    async def claim(self, most: int) -> Sequence[Entry]:
        """Take points to send, the oldest first; nobody else is given them meanwhile.

        Points that were refused in company come behind others, and fill no more than half
        of a batch while there are others.

        Args:
            most: How many at most.
        """
        ...

    async def settle(self, ids: Sequence[int]) -> None:
        """Forget claimed points that are sent, rejected or reported."""
        ...

    async def give_back(self, ids: Sequence[int], *, refused: bool) -> None:
        """Let claimed points wait again.

        Args:
            ids: Which.
            refused: They were in a batch of which the server took nothing.
        """
        ...

    async def look(self) -> int | None:
        """Find out what is there, and keep the claims of this uploader alive.

        Returns:
            The lowest id of all points that it holds; `None` without one.
        """
        ...

    async def aclose(self) -> None:
        """Let claimed points wait again, for others, and close what is open."""
        ...
