"""Webhooks as Flip would send them, for tests."""

import json
from pathlib import Path
from typing import Any

from flip_async.webhooks import sign
from tests.support import START

SECRET = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
OTHER_SECRET = "whsec_b3RoZXItb3RoZXItb3RoZXItb3RoZXItb3RoZXI="
DATA = Path(__file__).parents[1] / "data" / "examples"


def example(event_type: str) -> dict[str, Any]:
    """A documented webhook, such as `command.created`."""
    path = DATA / f"webhook-{event_type.replace('.', '-')}.json"
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def command_row(**fields: Any) -> dict[str, Any]:
    """A command as Flip prints it; it begins in an hour, by the clock of the tests."""
    return {
        **example("command.created")["event_object"],
        "created_at": iso(0),
        "updated_at": iso(0),
        "starts_at": iso(3600),
        "ends_at": iso(7200),
        **fields,
    }


def iso(after_s: float) -> str:
    """A moment after the tests' clock was started."""
    from flip_async.emulator._grid import iso

    return iso(START.wall_s + after_s)


def body_of(event_type: str, event_object: object) -> bytes:
    envelope = {"event_type": event_type, "event_object": event_object, "timestamp": iso(0)}
    return json.dumps(envelope).encode()


def signed(body: bytes, webhook_id: str = "msg_1", *, at_s: float | None = None) -> dict[str, str]:
    """The headers of a webhook."""
    sent_at = START.wall_s if at_s is None else at_s
    return sign(body, SECRET, webhook_id=webhook_id, timestamp=sent_at)
