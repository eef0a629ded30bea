"""What a webhook tells: each documented event, and whatever a newer or broken server sends."""

import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flip_async import errors
from flip_async.models import CommandStatus
from flip_async.webhooks import (
    AnyEvent,
    CommandEvent,
    EnrollmentEvent,
    GridEvent,
    SettingsEvent,
    UnknownEvent,
    WebhookEvent,
    verify,
)
from flip_async.webhooks._events import KINDS
from tests.support import START
from tests.support.webhooks import DATA, SECRET, example, signed

DOCUMENTED = {
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


def read(document: object) -> AnyEvent:
    body = json.dumps(document).encode()
    return verify(body, signed(body), SECRET, now=START.wall_s)


def test_every_documented_event_type_is_known() -> None:
    assert KINDS == DOCUMENTED


@pytest.mark.parametrize("path", sorted(DATA.glob("webhook-*-*.json")), ids=lambda path: path.stem)
def test_an_example_becomes_its_event(path: Any) -> None:
    document = json.loads(path.read_text())

    event = read(document)

    assert type(event) is DOCUMENTED[document["event_type"]]
    assert event.event_type == document["event_type"]
    assert event.timestamp == datetime.fromisoformat(document["timestamp"])
    assert event.webhook_id == "msg_1"
    assert json.loads(event.body) == document
    assert isinstance(event.event_object, object)
    assert getattr(event.event_object, "id") == document["event_object"]["id"]  # noqa: B009


def test_a_canceled_command_says_so() -> None:
    event = read(example("command.canceled"))

    assert isinstance(event, CommandEvent)
    assert event.event_object.status is CommandStatus.CANCELED


def test_settings_come_as_they_are() -> None:
    """What such a request holds is not documented."""
    event = read({"event_type": "settings.apply", "event_object": {"id": "s", "x": [1]}})

    assert isinstance(event, SettingsEvent)
    assert event.event_object == {"id": "s", "x": [1]}


def test_an_unknown_type_is_kept_with_its_raw_body() -> None:
    document = {"event_type": "tariff.created", "event_object": [{"a": None}], "more": 1}

    event = read(document)

    assert isinstance(event, UnknownEvent)
    assert event.event_object == [{"a": None}]
    assert json.loads(event.body) == document


def test_without_a_timestamp_it_is_the_moment_of_sending() -> None:
    """Payloads of 2024 have none."""
    document = example("event.created-2024")
    for timestamp in ({}, {"timestamp": None}):
        event = read({"event_type": "event.created", **document, **timestamp})
        assert event.timestamp == datetime.fromtimestamp(START.wall_s, UTC) or timestamp == {}
    del document["timestamp"]
    assert read(document).timestamp == datetime.fromtimestamp(START.wall_s, UTC)


def test_what_is_new_does_not_break_an_event() -> None:
    document = example("command.created")
    document |= {"version": 2, "timestamp": "2025-07-15 14:02:12.481Z"}
    document["event_object"] |= {"priority": "high", "status": "PAUSED", "object_type": "thing"}
    document["event_object"]["battery_commands"] |= {"mode": "ISLAND"}

    event = read(document)

    assert isinstance(event, CommandEvent)
    assert event.event_object.status == "PAUSED"
    assert not event.event_object.status.is_known
    assert event.timestamp.tzinfo is not None
    assert b"priority" in event.body


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"", None),
        (b"nonsense", None),
        (b"\xff\xfe", None),
        (b'{"event_type":' + b"[" * 100_000, "$.event_type"),
        (b'{"event_type": "x", "event_object": ' + b"[" * 100_000, None),
        (b"[]", "$"),
        (b"{}", "$"),
        (b'{"event_type": 5, "event_object": {}}', "$.event_type"),
        (b'{"event_type": "x"}', "$"),
        (b'{"event_type": "x", "event_object": 1, "timestamp": "soon"}', "$.timestamp"),
        (b'{"event_type": "x", "event_object": 1, "timestamp": 5}', "$.timestamp"),
        (b'{"event_type": "settings.apply", "event_object": []}', "$.event_object"),
        (b'{"event_type": "command.created", "event_object": null}', "$.event_object"),
        (b'{"event_type": "command.created", "event_object": {"id": 5}}', "$.event_object.id"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_body_that_cannot_be_read_says_where(body: bytes, place: str | None) -> None:
    with pytest.raises(errors.WebhookBodyError) as caught:
        verify(body, signed(body), SECRET, now=START.wall_s)

    assert caught.value.document_path == place
    assert str(caught.value).startswith("cannot read the body: ")


def test_a_repr_does_not_print_the_whole_body() -> None:
    event = read(example("command.created"))

    assert "battery_commands=" in repr(event)
    assert "body=" not in repr(event)
    assert isinstance(event, WebhookEvent)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers()
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@settings(max_examples=1500)
@given(
    event_type=st.sampled_from(sorted(DOCUMENTED)),
    data=st.data(),
)
def test_whatever_a_signed_body_holds_the_error_is_a_webhook_error(
    event_type: str, data: st.DataObject
) -> None:
    name = event_type if event_type != "settings.apply" else "event.created"
    document: Any = copy.deepcopy(example(name)) | {"event_type": event_type}
    for _ in range(data.draw(st.integers(1, 3))):
        owner, value = document, data.draw(json_values)
        if data.draw(st.booleans()):
            owner = document["event_object"] if isinstance(document["event_object"], dict) else {}
        if owner:
            owner[data.draw(st.sampled_from(sorted(owner)))] = value
        if not isinstance(document.get("event_object"), dict):
            break
    body = json.dumps(document).encode()

    try:
        event = verify(body, signed(body), SECRET, now=START.wall_s)
    except errors.WebhookBodyError as error:
        assert error.document_path is not None
    else:
        assert event.timestamp.tzinfo is not None
