"""Webhooks: checking and reading them, and handling each once.

`verify` is all that is needed to read one; `flip_async.fastapi.webhook_router` does the rest
in a FastAPI application, `WebhookReceiver` in any other.
"""

from typing import TYPE_CHECKING

from flip_async.webhooks._events import (
    AnyEvent,
    CommandEvent,
    EnrollmentEvent,
    GridEvent,
    SettingsEvent,
    UnknownEvent,
    WebhookEvent,
    verify,
)
from flip_async.webhooks._handlers import Handlers
from flip_async.webhooks._inbox import Inbox, InboxEntry, InboxHome, Letter
from flip_async.webhooks._receiver import ReceiverStats, Reply, WebhookReceiver
from flip_async.webhooks._signature import SigningKeys, sign

if TYPE_CHECKING:
    from flip_async.webhooks._sqlite import SqliteInbox

__all__ = [
    "AnyEvent",
    "CommandEvent",
    "EnrollmentEvent",
    "GridEvent",
    "Handlers",
    "Inbox",
    "InboxEntry",
    "InboxHome",
    "Letter",
    "ReceiverStats",
    "Reply",
    "SettingsEvent",
    "SigningKeys",
    "SqliteInbox",
    "UnknownEvent",
    "WebhookEvent",
    "WebhookReceiver",
    "sign",
    "verify",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        # sqlite3 is for those who keep webhooks on disk.
        if name == "SqliteInbox":
            from flip_async.webhooks._sqlite import SqliteInbox

            return SqliteInbox
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
