"""Where points wait until they are sent."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import attrs

from flip_async._claim_queue import ClaimQueue


class OutboxDraft(NamedTuple):
    """A point that was checked and is to be kept.

    Attributes:
        device: Whose it is; points of one device keep their order where that matters.
        body: The point as JSON.
    """

    device: str
    body: bytes


class OutboxEntry(NamedTuple):
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
class PutResult:
    """What an outbox took.

    Attributes:
        count: How many points, from the first; their ids follow each other.
        last_id: The id of the last of them.
        is_full: There is no room for another one.
    """

    count: int
    last_id: int
    is_full: bool = False


class Outbox(ClaimQueue[OutboxEntry], Protocol):
    """Keeps points until each is sent, rejected or reported.

    `MemoryOutbox`, `SqliteOutbox` and `flip_async.redis.RedisOutbox` are three; an uploader takes
    any other. An outbox object belongs to one uploader, in one event loop. `claim` gives points
    that were refused in company behind others, and fills no more than half of a batch with them
    while there are others.
    """

    @property
    def is_durable(self) -> bool:
        """Whether points outlive the process."""
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

    async def put(self, drafts: Sequence[OutboxDraft]) -> PutResult:
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

    def put_nowait(self, draft: OutboxDraft) -> PutResult:
        """Keep a point at once.

        Args:
            draft: The point.

        Returns:
            What it took.

        Raises:
            OutboxFullError: There is no room.
            ConfigurationError: It takes time to make a point safe here.
        """
        ...

    def stop_taking(self) -> None:
        """Take no more points; whoever waits for room gets a `ClientClosedError`."""
        ...

    async def release(self, entries: Sequence[OutboxEntry], *, was_refused: bool = False) -> None:
        """Let claimed points wait again.

        Args:
            entries: Which.
            was_refused: They were in a batch of which the server took nothing.
        """
        ...
