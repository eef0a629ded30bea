"""What is known of commands, and which version of one is to be handled."""

import enum
from collections import OrderedDict
from datetime import datetime
from typing import Final, TypeVar

import attrs

from flip_async._clock import Instant
from flip_async.models.commands import BatteryCommand, Command, CommandStatus, DeviceStatus

T = TypeVar("T")

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


@attrs.frozen
class _Known:
    updated_at: datetime
    contents: tuple[Content, ...]  # those seen with this `updated_at`, the latest last


@attrs.frozen
class _Unfinished:
    updated_at: datetime
    content: Content
    outcome: Outcome


class Ledger:
    """The newest version that is known of each command.

    Webhooks come in any order and more than once, and a list of commands may be older than
    what was acknowledged while it was read: only a newer version counts. Flip's `updated_at`
    may be in whole seconds, so that two versions can have the same: then another content is
    newer, and a cancelation is never undone by what it canceled.
    """

    def __init__(self, *, at_most: int = _REMEMBERED) -> None:
        self._at_most: Final = at_most
        self._known: Final[OrderedDict[str, _Known]] = OrderedDict()
        self._unfinished: Final[OrderedDict[str, _Unfinished]] = OrderedDict()

    def take(self, command: Command, now: datetime) -> Verdict:
        """Decide about a version, and remember it.

        Args:
            command: The version.
            now: The present moment.
        """
        known, content = self._known.get(command.id), Content.of(command)
        if known is not None and not _is_newer(command, content, known):
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

    def leave(self, command: Command, outcome: Outcome | None) -> None:
        """Take a version for new when it comes again: it was not seen through.

        Args:
            command: The version.
            outcome: What its handler made of it, if it got so far: it is not called again
                while the process lives.
        """
        self._known.pop(command.id, None)
        if outcome is not None:
            content = Content.of(command)
            self._unfinished[command.id] = _Unfinished(command.updated_at, content, outcome)
            self._trim(self._unfinished)

    def outcome_of(self, command: Command) -> Outcome | None:
        """What was made of a version that was left before it was acknowledged; told once."""
        left = self._unfinished.pop(command.id, None)
        if left is None or left.updated_at != command.updated_at:
            return None
        return left.outcome if left.content == Content.of(command) else None

    def _remember(self, command: Command, content: Content, known: _Known | None) -> None:
        contents: tuple[Content, ...] = (content,)
        if known is not None and known.updated_at == command.updated_at:
            contents = (*(one for one in known.contents if one != content), content)
        self._known[command.id] = _Known(command.updated_at, contents)
        self._known.move_to_end(command.id)
        self._trim(self._known)

    def _trim(self, kept: OrderedDict[str, T]) -> None:
        if len(kept) > self._at_most:
            kept.popitem(last=False)


def _is_newer(command: Command, content: Content, known: _Known) -> bool:
    if command.updated_at != known.updated_at:
        return command.updated_at > known.updated_at
    if content in known.contents:
        return False
    return known.contents[-1].takes_place or not content.takes_place


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
