"""What is known of commands, and which version of one is to be handled."""

import enum
from collections import OrderedDict
from datetime import datetime
from typing import Final, Generic, Protocol, TypeVar

import attrs

from flip_async._clock import Instant
from flip_async.models.commands import BatteryCommand, Command, CommandStatus, DeviceStatus

HANDLE_WITHIN_S: Final = 12 * 60.0
"""How long after a change its handler may be tried: then three minutes are left to say so."""

ACKNOWLEDGE_WITHIN_S: Final = 15 * 60.0
"""How long after a change Flip waits (the API's reference, section 14)."""

SHORTEST_TRY_S: Final = 60.0
_REMEMBERED: Final = 100_000


class Verdict(enum.Enum):
    """What a version of a command asks for."""

    HANDLE = "it is new, and asks for an acknowledgement"
    KNOWN = "this version, or a later one, is known"
    NOT_ASKED = "it asks for no acknowledgement"
    OVER = "its end is past"


@attrs.frozen
class Content:
    """What a device has to do; two versions that agree in it ask for the same."""

    status: CommandStatus
    starts_at: datetime
    ends_at: datetime | None
    battery_commands: BatteryCommand

    @classmethod
    def of(cls, command: Command) -> "Content":
        """The part of a command that concerns its device."""
        return cls(command.status, command.starts_at, command.ends_at, command.battery_commands)

    @property
    def takes_place(self) -> bool:
        """Whether it is neither canceled nor left by the participant."""
        return self.status == CommandStatus.OK


@attrs.frozen
class Outcome:
    """What a handler made of a version.

    Attributes:
        device_status: What Flip is to be told.
        reason: Why, for people at Flip.
    """

    device_status: DeviceStatus
    reason: str | None = None


class _TakesPlace(Protocol):
    """What a version says: whole, or a mark of it."""

    @property
    def takes_place(self) -> bool: ...


C = TypeVar("C", bound=_TakesPlace)


class Age(enum.Enum):
    """What a version is beside the newest that is known."""

    NEWER = "it is to be handled"
    SAME = "it is that one"
    OLDER = "it was overtaken"


@attrs.frozen
class Known(Generic[C]):
    """The newest version that is known of a command.

    Attributes:
        updated_at: When Flip changed it.
        contents: What was seen with this `updated_at`, the latest last.
    """

    updated_at: datetime
    contents: tuple[C, ...]

    def age_of(self, updated_at: datetime, content: C) -> Age:
        """Compare another version.

        Flip's `updated_at` may be in whole seconds, so that two versions can have the same:
        then another content is newer, and a cancelation is never undone by what it canceled.
        """
        if updated_at != self.updated_at:
            return Age.NEWER if updated_at > self.updated_at else Age.OLDER
        if content in self.contents:
            return Age.SAME if content == self.contents[-1] else Age.OLDER
        is_newer = self.contents[-1].takes_place or not content.takes_place
        return Age.NEWER if is_newer else Age.OLDER

    def and_then(self, updated_at: datetime, content: C) -> "Known[C]":
        """What is known when a newer version has come."""
        if updated_at != self.updated_at:
            return Known(updated_at, (content,))
        others = (one for one in self.contents if one != content)
        return Known(updated_at, (*others, content))


class Versions:
    """The newest version of each command that one processor has seen.

    Webhooks come in any order and more than once, and a list of commands may be older than
    what was acknowledged while it was read: only a newer version counts. What others have seen,
    and who handles it, the ledger knows.
    """

    def __init__(self, *, at_most: int = _REMEMBERED) -> None:
        self._at_most: Final = at_most
        self._known: Final[OrderedDict[str, Known[Content]]] = OrderedDict()

    def take(self, command: Command, now: datetime) -> Verdict:
        """Decide about a version, and remember it.

        Args:
            command: The version.
            now: The present moment.
        """
        known, content = self._known.get(command.id), Content.of(command)
        if known is not None and known.age_of(command.updated_at, content) is not Age.NEWER:
            return Verdict.KNOWN
        self._remember(command, content, known)
        if command.device_status != DeviceStatus.PENDING:
            return Verdict.NOT_ASKED
        if command.ends_at is not None and command.ends_at <= now:
            return Verdict.OVER
        return Verdict.HANDLE

    def acknowledged(self, handled: Command, answer: Command) -> Command | None:
        """Remember what Flip answered to an acknowledgement.

        The answer's `updated_at` is that of the acknowledgement. Where its content is another
        one than what was handled, the command was changed just before: Flip then takes the
        acknowledgement for one of the change, and will not ask again.

        Args:
            handled: The version that was handled.
            answer: The command as Flip has it now.

        Returns:
            What is to be handled after all; `None` as a rule.
        """
        content = Content.of(answer)
        known = self._known.get(answer.id)
        if known is not None and known.updated_at > answer.updated_at:
            return None  # a newer version is known, and handled on its own
        has_changed = content != Content.of(handled)
        if known is None or has_changed or known.updated_at < answer.updated_at:
            self._remember(answer, content, known)
        return answer if has_changed else None

    def leave(self, command: Command) -> None:
        """Take a version for new when it comes again: it was not seen through."""
        self._known.pop(command.id, None)

    def _remember(self, command: Command, content: Content, known: Known[Content] | None) -> None:
        updated_at = command.updated_at
        self._known[command.id] = (
            Known(updated_at, (content,)) if known is None else known.and_then(updated_at, content)
        )
        self._known.move_to_end(command.id)
        if len(self._known) > self._at_most:
            self._known.popitem(last=False)


@attrs.frozen
class Window:
    """How long a version may be worked on.

    It is placed once, when the version arrives, and then counted on the clock that does not
    jump [B6].

    Attributes:
        begins_at_s: When Flip began to wait, on the monotonic clock, in seconds.
    """

    begins_at_s: float

    @classmethod
    def of(cls, command: Command, now: Instant) -> "Window":
        """The window of a version that is seen for the first time now.

        A clock that is behind Flip's must not make the window longer than it is.
        """
        age_s = max(0.0, now.wall_s - command.updated_at.timestamp())
        return cls(now.monotonic_s - age_s)

    def may_handle(self, at_s: float) -> bool:
        """Whether a try of the handler may begin."""
        return at_s < self.begins_at_s + HANDLE_WITHIN_S

    def may_acknowledge(self, at_s: float) -> bool:
        """Whether an acknowledgement may be sent."""
        return self.left_to_acknowledge_s(at_s) > 0

    def left_to_acknowledge_s(self, at_s: float) -> float:
        """How long Flip still waits, in seconds."""
        return self.begins_at_s + ACKNOWLEDGE_WITHIN_S - at_s

    def try_s(self, at_s: float, handler_timeout_s: float) -> float:
        """How long a try of the handler may take, in seconds.

        One that begins late has a minute all the same: it may be the only one.
        """
        left_s = self.begins_at_s + HANDLE_WITHIN_S - at_s
        return min(handler_timeout_s, max(left_s, SHORTEST_TRY_S))
