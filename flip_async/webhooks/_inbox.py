"""Where webhooks wait until they are handled."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import attrs


class Letter(NamedTuple):
    """A webhook that was found good and is to be kept.

    Attributes:
        webhook_id: Flip's id of the delivery; each is kept once.
        sent_at: When it was signed, as Unix time in seconds.
        body: The body as it came.
    """

    webhook_id: str
    sent_at: int
    body: bytes


class InboxEntry(NamedTuple):
    """A webhook that an inbox keeps, to be handled now.

    Attributes:
        id: The inbox's own id of it.
        letter: What was kept.
        accepted_at: When, as Unix time in seconds.
        failures: How often handling it has failed.
    """

    id: int
    letter: Letter
    accepted_at: float
    failures: int


@attrs.frozen
class Claim:
    """What an inbox gave to be handled.

    Attributes:
        entries: The webhooks.
        next_due_at: When the next one is due, as Unix time in seconds; `None` without one.
    """

    entries: Sequence[InboxEntry]
    next_due_at: float | None


class Inbox(Protocol):
    """Keeps webhooks until each is handled or given up, and each once.

    `SqliteInbox` is one; a receiver takes any other. An inbox object belongs to one receiver,
    in one event loop.
    """

    @property
    def look_every_s(self) -> float:
        """How often `look` wants to be called, in seconds."""
        ...

    async def open(self) -> None:
        """Get ready.

        Raises:
            ConfigurationError: It is something else, or in use.
            StorageError: It cannot be used.
        """
        ...

    async def put(self, letter: Letter) -> bool:
        """Keep a webhook; it is safe then.

        Returns:
            Whether it is new: one of the same id is kept, or was handled not long ago.

        Raises:
            StorageError: It cannot be kept.
        """
        ...

    async def claim(self, most: int) -> Claim:
        """Take webhooks that are due; nobody else is given them meanwhile.

        Args:
            most: How many at most.
        """
        ...

    async def handled(self, entry: InboxEntry) -> None:
        """Forget a webhook but for its id."""
        ...

    async def failed(self, entry: InboxEntry, *, due_at: float) -> None:
        """Let a webhook wait again.

        Args:
            entry: Which.
            due_at: When it is due again, as Unix time in seconds.
        """
        ...

    async def given_up(self, entry: InboxEntry) -> None:
        """Never give a webhook again; its body stays as long as its id, to be looked at."""
        ...

    async def look(self) -> None:
        """Keep the claims of this receiver alive, and forget what is old."""
        ...

    async def aclose(self) -> None:
        """Let claimed webhooks wait again, for others, and close what is open."""
        ...
