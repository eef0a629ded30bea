"""What a fleet's ledger has of a command, and what follows from it; no I/O."""

import enum
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Self

import attrs

from flip_async.commands._ledger import Holder, LedgerEntry
from flip_async.commands._versions import Age, Content, Known, Outcome
from flip_async.models.commands import Command, DeviceStatus

_FORMAT = 1
_REMEMBERED_S = 24 * 3600.0
"""How long after its end a command is remembered."""
_ENDLESS_S = 30 * 24 * 3600.0
"""How long one without an end is, from now."""


@attrs.frozen
class Mark:
    """Stands for the content of a version; equal contents have equal marks.

    Attributes:
        digest: Of all that concerns the device.
        takes_place: Whether it is neither canceled nor left by the participant.
    """

    digest: str
    takes_place: bool

    @classmethod
    def of(cls, command: Command) -> Self:
        """The mark of a version."""
        content = Content.of(command)
        parts = [
            str(content.status),
            _in_utc(content.starts_at),
            None if content.ends_at is None else _in_utc(content.ends_at),
            attrs.asdict(content.battery_commands),
        ]
        text = json.dumps(parts, sort_keys=True, default=str)
        return cls(hashlib.sha256(text.encode()).hexdigest()[:32], content.takes_place)


def _in_utc(moment: datetime) -> str:
    return (moment if moment.tzinfo is None else moment.astimezone(UTC)).isoformat()


@attrs.frozen
class Record:
    """What an entry of a ledger says.

    Attributes:
        known: The newest version that anybody was offered.
        outcome: What a handler made of it, if it got so far.
        is_done: It was acknowledged, or given up.
    """

    known: Known[Mark]
    outcome: Outcome | None = None
    is_done: bool = False

    def to_bytes(self) -> bytes:
        """What a ledger keeps."""
        outcome = self.outcome
        document = {
            "format": _FORMAT,
            "updated_at": _in_utc(self.known.updated_at),
            "contents": [[mark.digest, mark.takes_place] for mark in self.known.contents],
            "outcome": None if outcome is None else [str(outcome.device_status), outcome.reason],
            "is_done": self.is_done,
        }
        return json.dumps(document).encode()

    @classmethod
    def of(cls, entry: LedgerEntry) -> Self | None:
        """Read an entry; `None` where there is nothing in it that can be read."""
        try:
            document = json.loads(entry.content or b"null")
            return cls._of(document) if isinstance(document, dict) else None
        except (ValueError, TypeError, KeyError, RecursionError):
            return None

    @classmethod
    def _of(cls, document: Mapping[str, object]) -> Self | None:
        contents, outcome = document["contents"], document["outcome"]
        if document["format"] != _FORMAT or not isinstance(contents, list) or not contents:
            return None
        return cls(
            Known(
                datetime.fromisoformat(str(document["updated_at"])),
                tuple(Mark(str(digest), bool(takes_place)) for digest, takes_place in contents),
            ),
            _outcome_of(outcome) if isinstance(outcome, list) else None,
            document["is_done"] is True,
        )

    def is_still(self, command: Command) -> bool:
        """Whether this is the version that is to be acknowledged."""
        age = self.known.age_of(command.updated_at, Mark.of(command))
        return not self.is_done and age is Age.SAME


def _outcome_of(parts: list[object]) -> Outcome:
    device_status, reason = parts
    return Outcome(DeviceStatus(str(device_status)), reason if isinstance(reason, str) else None)


class Step(enum.Enum):
    """What to do with a version that was offered."""

    TAKE = "nobody has it, or we have"
    AWAIT = "another one has the command, and it is not done"
    LEAVE = "it is done, or was overtaken by a newer version, which whoever was offered sees to"


@attrs.frozen
class Decision:
    """What to do with a version, and what to write down of it first.

    Attributes:
        step: What to do.
        record: What to write; `None` where nothing changes.
    """

    step: Step
    record: Record | None = None


def decide(record: Record | None, command: Command, holder: Holder) -> Decision:
    """Decide about a version that was offered.

    Where another one has an older version in hand, the newer one is written down: before it
    acknowledges it finds that it was overtaken, and lets the command go. So no two handlers of one
    command run at once.

    Args:
        record: What the ledger has of the command.
        command: The version.
        holder: Who has the command in hand.
    """
    age, known = _placed(record, command)
    if age is Age.OLDER or (record is not None and age is Age.SAME and record.is_done):
        return Decision(Step.LEAVE)
    if age is Age.SAME:
        return Decision(Step.AWAIT) if holder is Holder.OTHERS else Decision(Step.TAKE, record)
    newer = Record(known)
    return Decision(Step.AWAIT if holder is Holder.OTHERS else Step.TAKE, newer)


def finished(record: Record | None, command: Command) -> Record:
    """What to write down when a version was acknowledged, or given up.

    Args:
        record: What the ledger has of the command.
        command: The command as Flip has it now.
    """
    age, known = _placed(record, command)
    if record is None or age is Age.NEWER:
        return Record(known, is_done=True)
    if age is Age.SAME:
        return attrs.evolve(record, is_done=True)
    return record  # a newer version was offered to somebody, who is to have the command


def _placed(record: Record | None, command: Command) -> tuple[Age, Known[Mark]]:
    """What a version is beside what is known, and what is known if it is newer."""
    updated_at, mark = command.updated_at, Mark.of(command)
    if record is None:
        return Age.NEWER, Known(updated_at, (mark,))
    return record.known.age_of(updated_at, mark), record.known.and_then(updated_at, mark)


def keep_s(command: Command, now_s: float) -> float:
    """How long to remember a command, in seconds from now: until a day after its end [F7].

    Args:
        command: The command.
        now_s: Unix time in seconds.
    """
    if command.ends_at is None:
        return _ENDLESS_S
    return max(0.0, command.ends_at.timestamp() - now_s) + _REMEMBERED_S
