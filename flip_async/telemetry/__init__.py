"""Batching that loses nothing: uploaders, made by `flip.telemetry`, and their outboxes."""

from typing import TYPE_CHECKING

from flip_async._claim_queue import QueueDepth
from flip_async.telemetry._memory import MemoryOutbox
from flip_async.telemetry._outbox import Outbox, OutboxDraft, OutboxEntry, PutResult
from flip_async.telemetry._points import check_point
from flip_async.telemetry._settlement import PointOutcome
from flip_async.telemetry._uploader import TelemetryUploader, UploaderStats

if TYPE_CHECKING:
    from flip_async.telemetry._sqlite import SqliteOutbox

__all__ = [
    "MemoryOutbox",
    "Outbox",
    "OutboxDraft",
    "OutboxEntry",
    "PointOutcome",
    "PutResult",
    "QueueDepth",
    "SqliteOutbox",
    "TelemetryUploader",
    "UploaderStats",
    "check_point",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        # sqlite3 is for those who keep points on disk.
        if name == "SqliteOutbox":
            from flip_async.telemetry._sqlite import SqliteOutbox

            return SqliteOutbox
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
