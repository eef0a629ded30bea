"""When a batch is due."""

from typing import Final

import attrs

from flip_async.models.telemetry import LARGEST_BATCH


@attrs.frozen
class Take:
    """Take a batch from the outbox and send it."""


@attrs.frozen
class Look:
    """Look what is in the outbox: others use it too, and leases want to be renewed."""


@attrs.frozen
class Rest:
    """Nothing is due.

    Attributes:
        for_s: Seconds until something may be, if nothing happens meanwhile; `None` for ever.
    """

    for_s: float | None


_TAKE: Final = Take()
_LOOK: Final = Look()
_SOON_S: Final = 0.001  # Unix time as a float is no finer than this should be


@attrs.frozen(kw_only=True)
class Scene:
    """What there is to know when it is decided.

    Attributes:
        waiting: How many points wait.
        oldest_age_s: For how long the oldest of them has.
        sending: How many batches are being sent.
        held_for_s: Seconds until a request may go out; `None` while one tries for all.
        is_urgent: Somebody waits for all points to be sent.
        was_in_vain: The last attempt to take some gave none, and nothing happened since.
        since_look_s: Seconds since the last look.
    """

    waiting: int
    oldest_age_s: float
    sending: int
    held_for_s: float | None = 0.0
    is_urgent: bool = False
    was_in_vain: bool = False
    since_look_s: float = 0.0


@attrs.frozen(kw_only=True)
class Batching:
    """The rules of a due batch [T1].

    Attributes:
        max_delay_s: How long a point waits for others, in seconds.
        concurrency: How many batches may be sent at once.
        look_every_s: How often to look; `None` where the outbox is this uploader's alone.
    """

    max_delay_s: float
    concurrency: int
    look_every_s: float | None = None

    def decide(self, scene: Scene) -> Take | Look | Rest:
        """What to do now, or for how long nothing."""
        look_s = None if self.look_every_s is None else self.look_every_s - scene.since_look_s
        if look_s is not None and look_s <= _SOON_S:
            return _LOOK
        due_s = self._until_due_s(scene)
        if due_s is not None and due_s <= _SOON_S:
            return _TAKE
        return Rest(min((s for s in (look_s, due_s) if s is not None), default=None))

    def _until_due_s(self, scene: Scene) -> float | None:
        if not scene.waiting or scene.was_in_vain or scene.sending >= self.concurrency:
            return None
        if scene.held_for_s is None:
            return None  # what is taken later may be more
        if scene.is_urgent or scene.waiting >= LARGEST_BATCH:
            return scene.held_for_s
        return max(scene.held_for_s, self.max_delay_s - scene.oldest_age_s)
