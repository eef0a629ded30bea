"""An inbox on disk, in one SQLite file."""

import logging
import os
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final

from flip_async._checks import check_flag, check_seconds
from flip_async._clock import Clock, SystemClock
from flip_async._sqlite._file import Format, SqliteFile, check_path
from flip_async._sqlite._leases import SCHEMA as OWNERS
from flip_async._sqlite._leases import Leases
from flip_async.errors import ConfigurationError, StorageError
from flip_async.webhooks._inbox import Claim, InboxEntry, Letter

logger: Final = logging.getLogger("flip_async.webhooks")

KEEP_IDS_S: Final = 7 * 24 * 3600.0
_LOOK_S: Final = 5.0
_FORGET_AT_ONCE: Final = 1000
_WAITING, _HANDLED, _GIVEN_UP = 0, 1, 2

_FORMAT: Final = Format(
    what="webhook inbox",
    application_id=0x666C6962,  # "flib"
    version=2,
    schema=(
        OWNERS,
        """CREATE TABLE letters (
            id INTEGER PRIMARY KEY,
            webhook_id TEXT NOT NULL UNIQUE,
            sent_at INTEGER NOT NULL,
            body BLOB NOT NULL,
            accepted_at REAL NOT NULL,
            due_at REAL NOT NULL,
            failures INTEGER NOT NULL DEFAULT 0,
            state INTEGER NOT NULL DEFAULT 0,
            ended_at REAL,
            claim INTEGER
        )""",
        "CREATE INDEX waiting ON letters (due_at) WHERE state = 0 AND claim IS NULL",
        "CREATE INDEX claimed ON letters (claim) WHERE claim IS NOT NULL",
        "CREATE INDEX ended ON letters (ended_at) WHERE ended_at IS NOT NULL",
    ),
)

_PUT: Final = """
    INSERT OR IGNORE INTO letters (webhook_id, sent_at, body, accepted_at, due_at)
    VALUES (:webhook_id, :sent_at, :body, :now, :now)
"""
_DUE: Final = """
    SELECT id, webhook_id, sent_at, body, accepted_at, failures FROM letters
    WHERE state = 0 AND claim IS NULL AND due_at <= ? ORDER BY due_at LIMIT ?
"""
_NEXT_DUE: Final = "SELECT min(due_at) FROM letters WHERE state = 0 AND claim IS NULL"
_END: Final = """
    UPDATE letters SET state = :state, ended_at = :now, claim = NULL,
    body = CASE WHEN :state = 1 THEN x'' ELSE body END
    WHERE id = :id AND state = 0
"""
_AGAIN: Final = """
    UPDATE letters SET failures = failures + 1, due_at = ?, claim = NULL
    WHERE id = ? AND state = 0 AND claim = ?
"""
_FORGET: Final = """
    DELETE FROM letters WHERE id IN (SELECT id FROM letters WHERE ended_at < ? LIMIT ?)
"""


class SqliteInbox:
    """Keeps webhooks in a file: one that was answered with success survives the process.

    Several processes of one machine may share the file: each webhook is handled by one of
    them, and what a dead process had begun by another one when its lease is over. All work on
    the file is done by a thread of its own.

    Args:
        path: The file; it is made where there is none. Not on a network's file system.
        survive_power_cut: Wait for the disk before a webhook is answered, so that it survives
            the death of the machine too; slower.
        lease_s: How long a claim holds that is not renewed, in seconds: as long may webhooks
            wait that a killed process was handling.

    Raises:
        InvalidArgumentError: A number is out of range, or another argument is of no use.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        survive_power_cut: bool = False,
        lease_s: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        check_path(path)
        check_seconds(lease_s, field="lease_s")
        check_flag(survive_power_cut, field="survive_power_cut")
        self._path: Final = path
        self._survive_power_cut: Final = survive_power_cut
        self._clock: Final = SystemClock() if clock is None else clock
        self._leases: Final = Leases("letters", lease_s, self._clock)
        self._open_storage: SqliteFile | None = None

    @property
    def look_every_s(self) -> float:
        """Often enough to keep the lease."""
        return min(_LOOK_S, self._leases.lease_s / 3)

    @property
    def _storage(self) -> SqliteFile:
        if self._open_storage is None:
            raise StorageError(f"{os.fspath(self._path)} is not open")
        return self._open_storage

    async def open(self) -> None:
        """Open the file; see `Inbox`. After `aclose` it may be opened again."""
        if self._open_storage is not None:
            raise ConfigurationError("this inbox has a receiver already: make another one")
        storage = SqliteFile(self._path, _FORMAT, survive_power_cut=self._survive_power_cut)
        self._open_storage = storage
        storage.every(self._leases.lease_s / 3, self._leases.renew)
        try:
            await storage.open()
            await storage.run(self._leases.sign_in)
            await self.look()
        except BaseException:
            self._open_storage = None
            await storage.aclose()
            raise

    async def put(self, letter: Letter) -> bool:
        """Keep a webhook; see `Inbox`."""
        row = {**letter._asdict(), "now": self._clock.wall()}
        return await self._storage.run(
            lambda db: db.execute(_PUT, row).rowcount == 1, takes_in=True
        )

    async def claim(self, most: int) -> Claim:
        """Take webhooks that are due; see `Inbox`."""
        return await self._storage.run(lambda db: self._claim(db, most))

    def _claim(self, db: sqlite3.Connection, most: int) -> Claim:
        now = self._clock.wall()
        self._leases.free_what_others_left(db)
        entries = [
            InboxEntry(row_id, Letter(webhook_id, sent_at, body), accepted_at, failures)
            for row_id, webhook_id, sent_at, body, accepted_at, failures in db.execute(
                _DUE, (now, most)
            )
        ]
        self._leases.take(db, [entry.id for entry in entries])
        (next_due_at,) = db.execute(_NEXT_DUE).fetchone()
        return Claim(entries, next_due_at)

    async def handled(self, entry: InboxEntry) -> None:
        """Forget a webhook but for its id; see `Inbox`."""
        await self._end(entry, _HANDLED)

    async def given_up(self, entry: InboxEntry) -> None:
        """Never give a webhook again; see `Inbox`."""
        await self._end(entry, _GIVEN_UP)

    async def _end(self, entry: InboxEntry, state: int) -> None:
        # Also what another process has claimed since: it is handled, and need not be twice.
        row = {"state": state, "now": self._clock.wall(), "id": entry.id}
        await self._storage.run(lambda db: _write(db, _END, row))

    async def failed(self, entry: InboxEntry, *, due_at: float) -> None:
        """Let a webhook wait again; see `Inbox`."""
        row = (due_at, entry.id, self._leases.owner)
        await self._storage.run(lambda db: _write(db, _AGAIN, row))

    async def look(self) -> None:
        """Keep own claims alive, and forget what is old; see `Inbox`."""
        await self._storage.run(self._look)

    def _look(self, db: sqlite3.Connection) -> None:
        now = self._clock.wall()
        self._leases.free_what_others_left(db)
        db.execute(_FORGET, (now - KEEP_IDS_S, _FORGET_AT_ONCE))

    async def aclose(self) -> None:
        """Let claimed webhooks wait again, for others, and close the file."""
        storage, self._open_storage = self._open_storage, None
        if storage is None:
            return
        await storage.aclose(last=self._leases.sign_out)


def _write(
    db: sqlite3.Connection, statement: str, row: Mapping[str, object] | Sequence[object]
) -> None:
    db.execute(statement, row)
