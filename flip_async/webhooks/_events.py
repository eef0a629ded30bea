"""What a webhook tells: typed events, and how they are read from a body."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeVar, cast

import attrs
import msgspec

from flip_async._checks import check_mapping, conceal_all
from flip_async._clock import SystemClock
from flip_async._wire import Unreadable, parse
from flip_async.errors import WebhookBodyError
from flip_async.models._base import LenientDatetime
from flip_async.models.commands import Command
from flip_async.models.enrollments import Enrollment
from flip_async.models.events import Event
from flip_async.webhooks._signature import (
    TOLERANCE_S,
    Signed,
    SigningKeys,
    as_bytes,
    as_unix_s,
    check_signature,
    check_tolerance,
)

T = TypeVar("T")

GridEventType = Literal["event.created", "event.updated", "event.canceled"]
CommandEventType = Literal[
    "command.created",
    "command.started",
    "command.ended",
    "command.canceled",
    "command.updated",
]
EnrollmentEventType = Literal["enrollment.created", "enrollment.updated"]
SettingsEventType = Literal["settings.apply"]


@attrs.frozen(kw_only=True)
class WebhookEvent:
    """What all events of webhooks have.

    Attributes:
        event_type: What happened, such as `command.created`.
        timestamp: When, by the body; where that does not say it, when it was sent.
        webhook_id: Flip's id of the delivery; the same when it is repeated.
        body: The body as it came, with what this version does not know.

    Source:
        https://docs.flip.energy/webhooks
    """

    event_type: str
    timestamp: datetime
    webhook_id: str
    body: bytes = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class GridEvent(WebhookEvent):
    """An event of a utility was made, has changed or was canceled (`event.…`).

    Attributes:
        event_object: The event as it is now.
        event_type: `event.created`, `event.updated` or `event.canceled`.
        timestamp: When, by the body; where that does not say it, when it was sent.
        webhook_id: Flip's id of the delivery; the same when it is repeated.
        body: The body as it came, with what this version does not know.
    """

    event_object: Event


@attrs.frozen(kw_only=True)
class CommandEvent(WebhookEvent):
    """A command was made, has changed, was canceled, begins or ends (`command.…`).

    Attributes:
        event_object: The command as it is now.
        event_type: `command.created`, `command.started`, `command.ended`, `command.canceled` or
            `command.updated`.
        timestamp: When, by the body; where that does not say it, when it was sent.
        webhook_id: Flip's id of the delivery; the same when it is repeated.
        body: The body as it came, with what this version does not know.
    """

    event_object: Command


@attrs.frozen(kw_only=True)
class EnrollmentEvent(WebhookEvent):
    """A site was enrolled, or its enrollment has another status (`enrollment.…`).

    Attributes:
        event_object: The enrollment as it is now.
        event_type: `enrollment.created` or `enrollment.updated`.
        timestamp: When, by the body; where that does not say it, when it was sent.
        webhook_id: Flip's id of the delivery; the same when it is repeated.
        body: The body as it came, with what this version does not know.
    """

    event_object: Enrollment


@attrs.frozen(kw_only=True)
class SettingsEvent(WebhookEvent):
    """Settings are to be applied (`settings.apply`); report with `flip.settings.update`.

    Attributes:
        event_object: The request; what it holds is not documented.
        event_type: `settings.apply`.
        timestamp: When, by the body; where that does not say it, when it was sent.
        webhook_id: Flip's id of the delivery; the same when it is repeated.
        body: The body as it came, with what this version does not know.
    """

    event_object: dict[str, object]


@attrs.frozen(kw_only=True)
class UnknownEvent(WebhookEvent):
    """Something happened that this version has no type for.

    Attributes:
        event_object: What the body says of it, as JSON gives it.
        event_type: What the body says that happened.
        timestamp: When, by the body; where that does not say it, when it was sent.
        webhook_id: Flip's id of the delivery; the same when it is repeated.
        body: The body as it came, with what this version does not know.
    """

    event_object: object


AnyEvent = GridEvent | CommandEvent | EnrollmentEvent | SettingsEvent | UnknownEvent

KINDS: Final[dict[str, type[AnyEvent]]] = {
    "event.created": GridEvent,
    "event.updated": GridEvent,
    "event.canceled": GridEvent,
    "command.created": CommandEvent,
    "command.started": CommandEvent,
    "command.ended": CommandEvent,
    "command.canceled": CommandEvent,
    "command.updated": CommandEvent,
    "enrollment.created": EnrollmentEvent,
    "enrollment.updated": EnrollmentEvent,
    "settings.apply": SettingsEvent,
}
"""Every event type of the API's reference, section 19."""

UNKNOWN: Final = "*"
"""Stands for all types that are newer than this version."""

_OBJECTS: Final[dict[type[AnyEvent], Any]] = {
    GridEvent: Event,
    CommandEvent: Command,
    EnrollmentEvent: Enrollment,
    SettingsEvent: dict[str, Any],
    UnknownEvent: Any,
}


@attrs.frozen(kw_only=True)
class _Envelope:
    event_type: str
    event_object: msgspec.Raw
    timestamp: LenientDatetime | None = None


def verify(
    body: bytes,
    headers: Mapping[str, str],
    secret: str | Sequence[str] | SigningKeys,
    *,
    tolerance_s: float = TOLERANCE_S,
    now: float | datetime | None = None,
) -> AnyEvent:
    """Make sure that a webhook is Flip's, and read it.

    Args:
        body: The body as it came, byte for byte.
        headers: The headers of the request; their names may have any case.
        secret: The signing key, `whsec_...`; several, in a list, while it is replaced.
        tolerance_s: How far its time may be from ours, either way, in seconds.
        now: The present time, for tests: Unix time in seconds, or a moment with a zone.

    Returns:
        The event; an `UnknownEvent` where its type is newer than this version.

    Raises:
        WebhookError: It is not Flip's, is of another time, or cannot be read; each way to
            fail has a class of its own.
        ConfigurationError: The key is none.
        InvalidArgumentError: The body is no bytes, or another argument cannot be what it is.

    Source:
        Standard Webhooks specification; https://docs.flip.energy/webhooks
    """
    secret = conceal_all(secret)  # type: ignore[assignment]  # no frame shows it
    check_tolerance(tolerance_s)
    keys = SigningKeys.of(secret)
    content = as_bytes(body)
    check_mapping(headers, field="headers")
    now_s = SystemClock().wall() if now is None else as_unix_s(now, field="now")
    signed = check_signature(content, headers, keys, tolerance_s=tolerance_s, now_s=now_s)
    return read_event(signed, content)


def read_event(signed: Signed, body: bytes) -> AnyEvent:
    """Read an event from a body whose signature is good.

    Raises:
        WebhookBodyError: It is no event; says where in the body.
    """
    envelope = _read(body, _Envelope, "$")
    # Payloads of 2024 have no timestamp.
    sent_at = datetime.fromtimestamp(signed.sent_at, UTC)
    timestamp = sent_at if envelope.timestamp is None else envelope.timestamp.plain()
    kind = KINDS.get(envelope.event_type, UnknownEvent)
    event_object = _read(bytes(envelope.event_object), _OBJECTS[kind], "$.event_object")
    make = cast("type[Any]", kind)  # mypy has one signature for all of them
    event: AnyEvent = make(
        event_type=envelope.event_type,
        timestamp=timestamp,
        webhook_id=signed.webhook_id,
        body=body,
        event_object=event_object,
    )
    return event


def _read(document: bytes, kind: type[T], root: str) -> T:
    result = parse(document, kind)
    if not isinstance(result, Unreadable):
        return result
    place = None if result.place is None else root + result.place.removeprefix("$")
    reason = result.reason if result.place is None else f"{root}{result.reason.removeprefix('$')}"
    raise WebhookBodyError(f"cannot read the body: {reason}", document_path=place)
