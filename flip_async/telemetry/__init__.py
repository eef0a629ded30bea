"""Batching that loses nothing: uploaders, made by `flip.telemetry`, and their outboxes."""

from typing import TYPE_CHECKING

from flip_async.telemetry._memory import MemoryOutbox
from flip_async.telemetry._outbox import Depth, Draft, Entry, Kept, Outbox
from flip_async.telemetry._points import check_point
from flip_async.telemetry._uploader import TelemetryUploader, UploaderStats

if TYPE_CHECKING:
    from flip_async.telemetry._sqlite import SqliteOutbox

__all__ = [
    "Depth",
    "Draft",
    "Entry",
    "Kept",
    "MemoryOutbox",
    "Outbox",
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
