"""Where webhooks wait until they are handled."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import attrs

from flip_async._claim_queue import ClaimQueue


class Letter(NamedTuple):
    """A webhook that was found good and is to be kept.

    Attributes:
        webhook_id: Flip's id of the delivery; each is kept once.
        sent_at: When it was signed, as Unix time in seconds.
        body: The body as it came.
        event_type: What it tells, such as `command.created`.
    """

    webhook_id: str
    sent_at: int
    body: bytes
    event_type: str = ""


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


@attrs.frozen(kw_only=True)
class InboxHome:
    """Whom an inbox keeps webhooks for.

    Two receivers may share an inbox where they are two processes of one application, and must
    not where one is the sandbox's and the other is production's. The signing keys tell: whoever
    has one of them takes the same webhooks. The types of events that are handled do not: they
    change with each release, and the old and the new one run side by side for a while. They
    tell who is given what.

    Attributes:
        key_digests: A digest of each signing key, keyed by it; never the key.
        event_types: The types that the receiver has a function for; `"*"` stands for all that
            are newer than this version.
    """

    key_digests: frozenset[str]
    event_types: frozenset[str]


class Inbox(ClaimQueue[InboxEntry], Protocol):
    """Keeps webhooks until each is handled or given up, and each once.

    `SqliteInbox` and `flip_async.redis.RedisInbox` are two; a receiver takes any other. An inbox
    object belongs to one receiver, in one event loop. One that remembers its home may have an
    `async def adopt_keys(digests)` too: it is called where signing keys are replaced while the
    receiver runs, with the digests of those that there are then.
    """

    async def open(self, *, home: InboxHome | None = None) -> None:
        """Get ready.

        Args:
            home: Whom it is for; `None` for whoever opens it without a receiver, and takes all.

        Raises:
            ConfigurationError: It is something else, in use, or for somebody else.
            StorageError: It cannot be used.
        """
        ...

    async def put(self, letter: Letter) -> bool:
        """Keep a webhook; it is safe then.

        Args:
            letter: The webhook.

        Returns:
            Whether it is new; else one of the same id is kept, or was handled not long ago.

        Raises:
            StorageError: It cannot be kept.
        """
        ...

    async def release(self, entries: Sequence[InboxEntry], *, due_at: float | None = None) -> None:
        """Let webhooks wait again, for whoever comes.

        Args:
            entries: Which.
            due_at: When they are due again after a failure, as Unix time in seconds, which
                counts their `failures` up; `None` where they were not finished, and may be
                given at once.

        Raises:
            StorageError: It cannot be written; they are claimed still.
        """
        ...
