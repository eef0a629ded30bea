"""An inbox on disk, in one SQLite file."""

import json
import logging
import os
import sqlite3
from collections.abc import Sequence
from typing import Final

import attrs

from flip_async._checks import check_clock, check_file_path, check_flag, check_seconds
from flip_async._claim_queue import QueueDepth
from flip_async._clock import Clock, SystemClock
from flip_async._sqlite._file import Format, SqliteFile
from flip_async._sqlite._leases import SCHEMA, Leases
from flip_async.errors import ConfigurationError, StorageError
from flip_async.webhooks._events import KINDS, UNKNOWN
from flip_async.webhooks._inbox import InboxEntry, InboxHome, Letter

logger: Final = logging.getLogger("flip_async.webhooks")

KEEP_S: Final = 7 * 24 * 3600.0
"""How long ids are remembered, and types that a receiver handled."""
_RENEW_S: Final = 5.0
_FORGET_AT_ONCE: Final = 1000
_HANDLED, _DEAD = 1, 2  # `state`; 0 is what waits

_FORMAT: Final = Format(
    what="webhook inbox",
    application_id=0x666C6962,  # "flib"
    version=2,
    schema=(
        SCHEMA,
        "CREATE TABLE keys (digest TEXT PRIMARY KEY) WITHOUT ROWID",
        "CREATE TABLE types (event_type TEXT PRIMARY KEY, seen_at REAL NOT NULL) WITHOUT ROWID",
        """CREATE TABLE letters (
            id INTEGER PRIMARY KEY,
            webhook_id TEXT NOT NULL UNIQUE,
            sent_at INTEGER NOT NULL,
            event_type TEXT NOT NULL,
            accepted_at REAL NOT NULL,
            due_at REAL NOT NULL,
            pause_s REAL NOT NULL DEFAULT 0,
            failures INTEGER NOT NULL DEFAULT 0,
            state INTEGER NOT NULL DEFAULT 0,
            ended_at REAL,
            reason TEXT,
            claim INTEGER,
            body BLOB NOT NULL
        )""",
        "CREATE INDEX waiting ON letters (due_at, event_type) WHERE state = 0 AND claim IS NULL",
        "CREATE INDEX claimed ON letters (claim) WHERE claim IS NOT NULL",
        "CREATE INDEX ended ON letters (ended_at) WHERE ended_at IS NOT NULL",
    ),
)

_PUT: Final = """
    INSERT OR IGNORE INTO letters (webhook_id, sent_at, body, event_type, accepted_at, due_at)
    VALUES (:webhook_id, :sent_at, :body, :event_type, :now, :now)
"""
_WAITS: Final = "state = 0 AND claim IS NULL"
_DOCUMENTED: Final = ", ".join(f"'{event_type}'" for event_type in KINDS)
_TYPE: Final = f"CASE WHEN event_type IN ({_DOCUMENTED}) THEN event_type ELSE '{UNKNOWN}' END"
_OURS: Final = f"{_TYPE} IN (SELECT value FROM json_each(:ours))"  # noqa: S608
_NOBODYS: Final = f"{_TYPE} NOT IN (SELECT event_type FROM types)"  # noqa: S608
_FOR_US: Final = f"{_WAITS} AND ({_OURS} OR {_NOBODYS})"
# Cast, so that a damaged row can be read all the same: it fails alone, and is given up.
_DUE: Final = f"""
    SELECT id, CAST(webhook_id AS BLOB), CAST(sent_at AS INTEGER), CAST(body AS BLOB),
    CAST(event_type AS BLOB), CAST(accepted_at AS REAL), CAST(failures AS INTEGER) FROM letters
    WHERE {_FOR_US} AND due_at <= :now ORDER BY due_at LIMIT :most
"""  # noqa: S608  # constants of ours
_NEXT_DUE: Final = f"SELECT min(due_at) FROM letters WHERE {_FOR_US}"  # noqa: S608
_DEPTH: Final = f"SELECT count(*), min(accepted_at) FROM letters WHERE {_WAITS}"  # noqa: S608
_END: Final = """
    UPDATE letters SET state = :state, ended_at = :now, reason = :reason, claim = NULL,
    body = CASE WHEN :state = 1 THEN x'' ELSE body END
    WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 0
"""
_RELEASE: Final = """
    UPDATE letters SET claim = NULL, due_at = :due_at, pause_s = :pause_s,
    failures = failures + :failed
    WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 0
    AND claim = :owner
"""
_SEEN: Final = """
    INSERT INTO types SELECT value, :now FROM json_each(:ours) WHERE true
    ON CONFLICT (event_type) DO UPDATE SET seen_at = :now
"""
_FORGET: Final = """
    DELETE FROM letters WHERE id IN (SELECT id FROM letters WHERE ended_at < ? LIMIT ?)
"""
# What is dated further away than its own length was written by a clock that was ahead [B6].
_AHEAD: Final = (
    f"""UPDATE letters SET due_at = :now + pause_s
    WHERE {_WAITS} AND due_at > :now AND due_at - pause_s > :now""",  # noqa: S608
    "UPDATE letters SET ended_at = :now WHERE ended_at > :now",
    "UPDATE types SET seen_at = :now WHERE seen_at > :now",
)


class SqliteInbox:
    """Keeps webhooks in a file: one that was answered with success survives the process.

    Several processes of one machine may share the file: each webhook is handled by one of
    them, and what a dead process had begun by another one when its lease is over. All work on
    the file is done by a thread of its own.

    A file that is deleted, moved or replaced while it is open keeps no more webhooks, which are
    answered 503 then; those that it had are handled, as far as there is time.

    The file has a home: it remembers digests of its receiver's signing keys. A receiver that
    has none of these keys is refused; one that has one of them may bring new ones, so that a
    key is replaced by giving both for a while. Each webhook goes to a receiver that handles its
    type, whatever others share the file. One that nobody has handled in the last seven days is
    passed over, by whoever comes.

    Args:
        path: The file; it is made where there is none. Not on a network's file system.
        survive_power_cut: Wait for the disk before a webhook is answered, so that it survives
            the death of the machine too; slower.
        lease_s: How long a claim holds that is not renewed, in seconds: as long may webhooks
            wait that a killed process was handling.
        clock: Time, for tests.

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
        check_file_path(path)
        check_seconds(lease_s, field="lease_s")
        check_flag(survive_power_cut, field="survive_power_cut")
        check_clock(clock)
        self._path: Final = path
        self._survive_power_cut: Final = survive_power_cut
        self._clock: Final = SystemClock() if clock is None else clock
        self._lease_s: Final = lease_s
        # Made anew by each `open`: a file is opened once.
        self._leases = Leases("letters", lease_s, self._clock)
        self._open_file: SqliteFile | None = None
        self._event_types = "[]"
        self._depth = QueueDepth()
        self._latest_s = 0.0
        self._was_gone = False

    @property
    def depth(self) -> QueueDepth:
        """How much there is, as of the last look at the file; see `Inbox`."""
        return self._depth

    @property
    def renew_every_s(self) -> float:
        """Often enough to see what others left; the file's thread keeps the lease."""
        return min(_RENEW_S, self._lease_s / 3)

    @property
    def _file(self) -> SqliteFile:
        if self._open_file is None:
            raise StorageError(f"{os.fspath(self._path)} is not open")
        return self._open_file

    async def open(self, *, home: InboxHome | None = None) -> None:
        """Open the file; see `Inbox`. After `aclose` it may be opened again."""
        if self._open_file is not None:
            raise ConfigurationError("this inbox has a receiver already: make another one")
        file = SqliteFile(self._path, _FORMAT, survive_power_cut=self._survive_power_cut)
        leases = Leases("letters", self._lease_s, self._clock)
        file.every(self._lease_s / 3, leases.renew)
        self._open_file, self._leases, self._was_gone = file, leases, False
        types = {UNKNOWN, *KINDS} if home is None else home.event_types
        self._event_types = json.dumps(sorted(types))
        try:
            await file.open()
            if home is not None and not await self._is_home_of(home):
                raise ConfigurationError(
                    f"{os.fspath(self._path)} keeps webhooks of a receiver with other signing "
                    "keys, the sandbox's perhaps: give this one a file of its own. While a key "
                    "is replaced, give both, the new one and the old one"
                )
            await file.run(leases.sign_in)
            await self.renew()
        except BaseException:
            await self.aclose()
            raise

    async def _is_home_of(self, home: InboxHome) -> bool:
        return await self._file.run(lambda db: _settle_in(db, home.key_digests))

    async def adopt_keys(self, digests: frozenset[str]) -> None:
        """Its receiver has new signing keys, while it runs.

        Args:
            digests: Digests of the signing keys that there are now.
        """
        await self._file.run(lambda db: _add_keys(db, digests))

    async def put(self, letter: Letter) -> bool:
        """Keep a webhook; see `Inbox`."""
        row = {**letter._asdict(), "now": self._clock.wall()}
        return await self._file.run(lambda db: db.execute(_PUT, row).rowcount == 1, takes_in=True)

    async def claim(self, most: int) -> Sequence[InboxEntry]:
        """Take webhooks that are due; see `Inbox`."""
        entries, next_due_at = await self._file.run(lambda db: self._claim(db, most))
        self._depth = attrs.evolve(self._depth, next_due_at=next_due_at)
        return entries

    def _claim(
        self, db: sqlite3.Connection, most: int
    ) -> tuple[Sequence[InboxEntry], float | None]:
        now = self._now(db)
        self._leases.free_what_others_left(db)
        row = {"ours": self._event_types, "now": now, "most": most}
        entries = [
            InboxEntry(
                row_id,
                Letter(_text(webhook_id), sent_at, body, _text(event_type)),
                accepted_at,
                failures,
            )
            for row_id, webhook_id, sent_at, body, event_type, accepted_at, failures in db.execute(
                _DUE, row
            )
        ]
        self._leases.take(db, [entry.id for entry in entries])
        (next_due_at,) = db.execute(_NEXT_DUE, row).fetchone()
        return entries, next_due_at

    async def settle(self, entries: Sequence[InboxEntry]) -> None:
        """Forget webhooks but for their ids; see `Inbox`."""
        await self._end(entries, _HANDLED, None)

    async def dead_letter(self, entries: Sequence[InboxEntry], reason: str) -> None:
        """Never give webhooks again; they stay as long as their ids; see `Inbox`."""
        await self._end(entries, _DEAD, reason)

    async def _end(self, entries: Sequence[InboxEntry], state: int, reason: str | None) -> None:
        # Also what another process has claimed since: it is handled, and need not be twice.
        row = {"state": state, "reason": reason, "now": self._clock.wall(), "ids": _ids(entries)}
        await self._file.run(lambda db: db.execute(_END, row).rowcount)

    async def release(self, entries: Sequence[InboxEntry], *, due_at: float | None = None) -> None:
        """Let webhooks wait again; see `Inbox`."""
        now = self._clock.wall()
        row = {
            "ids": _ids(entries),
            "failed": int(due_at is not None),
            "due_at": now if due_at is None else due_at,
            "pause_s": 0.0 if due_at is None else max(0.0, due_at - now),
            "owner": self._leases.owner,
        }
        await self._file.run(lambda db: db.execute(_RELEASE, row).rowcount)

    async def renew(self) -> QueueDepth:
        """Keep own claims, free those of dead processes, and forget what is old; see `Inbox`."""
        file = self._file
        self._depth = await file.run(self._renew)
        if file.is_gone and not self._was_gone:
            self._was_gone = True
            logger.error(
                "%s was deleted, moved or replaced: webhooks are answered 503 until this inbox is "
                "opened again",
                os.fspath(self._path),
            )
        return self._depth

    def _renew(self, db: sqlite3.Connection) -> QueueDepth:
        now = self._clock.wall()
        self._leases.free_what_others_left(db)
        row = {"ours": self._event_types, "now": now}
        self._put_clocks_right(db, now)
        db.execute(_SEEN, row)
        db.execute("DELETE FROM types WHERE seen_at < ?", (now - KEEP_S,))
        db.execute(_FORGET, (now - KEEP_S, _FORGET_AT_ONCE))
        waiting, oldest_at = db.execute(_DEPTH).fetchone()
        (next_due_at,) = db.execute(_NEXT_DUE, row).fetchone()
        return QueueDepth(waiting=waiting, oldest_at=oldest_at, next_due_at=next_due_at)

    def _now(self, db: sqlite3.Connection) -> float:
        """The wall clock, after which nothing is due later than by its own length."""
        now = self._clock.wall()
        if now < self._latest_s:
            self._put_clocks_right(db, now)
        self._latest_s = now
        return now

    @staticmethod
    def _put_clocks_right(db: sqlite3.Connection, now: float) -> None:
        for statement in _AHEAD:
            db.execute(statement, {"now": now})

    async def aclose(self) -> None:
        """Let claimed webhooks wait again, for others, and close the file."""
        file, self._open_file = self._open_file, None
        if file is not None:
            await file.aclose(last=self._leases.sign_out)


def _settle_in(db: sqlite3.Connection, digests: frozenset[str]) -> bool:
    """Whether the file is a new one, or for one of these keys; then it is for all of them."""
    known = {digest for (digest,) in db.execute("SELECT digest FROM keys")}
    if known and not known & digests:
        return False
    _add_keys(db, digests)
    return True


def _add_keys(db: sqlite3.Connection, digests: frozenset[str]) -> None:
    db.executemany("INSERT OR IGNORE INTO keys VALUES (?)", [(digest,) for digest in digests])


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _ids(entries: Sequence[InboxEntry]) -> str:
    return json.dumps([entry.id for entry in entries])
