"""An outbox on disk, in one SQLite file."""

import asyncio
import json
import os
import sqlite3
from collections.abc import Sequence
from typing import Final, Literal, get_args

import attrs

from flip_async._aio._tasks import Signal
from flip_async._checks import check_count, check_file_path, check_flag, check_one_of, check_seconds
from flip_async._claim_queue import QueueDepth
from flip_async._clock import Clock, SystemClock
from flip_async._sqlite._file import Format, SqliteFile
from flip_async._sqlite._leases import SCHEMA as OWNERS
from flip_async._sqlite._leases import Leases
from flip_async.errors import (
    ClientClosedError,
    ConfigurationError,
    OutboxFullError,
)
from flip_async.telemetry._outbox import OutboxDraft, OutboxEntry, PutResult

WhenFull = Literal["wait", "raise"]
_ROOM_LOOK_S: Final = 0.25
_LOOK_S: Final = 5.0
_PUT_AT_ONCE: Final = 1000

_FORMAT: Final = Format(
    what="telemetry outbox",
    application_id=0x666C6F62,  # "flob"
    version=2,
    schema=(
        "CREATE TABLE home (origin TEXT NOT NULL, endpoint TEXT NOT NULL, points INTEGER NOT NULL)",
        OWNERS,
        # AUTOINCREMENT: an id is never given again, so that `flush` knows what came after it.
        """CREATE TABLE points (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            device TEXT NOT NULL,
            body BLOB NOT NULL,
            accepted_at REAL NOT NULL,
            refused INTEGER NOT NULL DEFAULT 0,
            claim INTEGER
        )""",
        "CREATE INDEX waiting ON points (refused, id) WHERE claim IS NULL",
        "CREATE INDEX claimed ON points (claim, device) WHERE claim IS NOT NULL",
        """CREATE TABLE dead_letters (
            id INTEGER PRIMARY KEY, device TEXT NOT NULL, body BLOB NOT NULL,
            accepted_at REAL NOT NULL, reason TEXT NOT NULL
        )""",
    ),
)

_TAKE: Final = """
    SELECT id, device, body, accepted_at, refused FROM points
    WHERE claim IS NULL AND refused = :refused ORDER BY id LIMIT :most
"""
# In order: a device stands aside while points of it are being sent, and its fresh points
# while refused ones wait.
_TAKE_IN_ORDER: Final = """
    SELECT id, device, body, accepted_at, refused FROM points
    WHERE claim IS NULL AND refused = :refused
    AND device NOT IN (SELECT device FROM points WHERE claim IS NOT NULL)
    AND (:refused OR device NOT IN (SELECT device FROM points WHERE claim IS NULL AND refused = 1))
    ORDER BY id LIMIT :most
"""
_SETTLE: Final = "DELETE FROM points WHERE id IN (SELECT value FROM json_each(?))"
_RELEASE: Final = """
    UPDATE points SET claim = NULL, refused = max(refused, ?)
    WHERE id IN (SELECT value FROM json_each(?)) AND claim = ?
"""
_BURY: Final = """
    INSERT OR REPLACE INTO dead_letters (id, device, body, accepted_at, reason)
    SELECT id, device, body, accepted_at, ? FROM points WHERE id IN (SELECT value FROM json_each(?))
"""
_OLDEST: Final = """
    SELECT accepted_at FROM points WHERE claim IS NULL AND refused = ? ORDER BY id LIMIT 1
"""
_COUNTS: Final = """
    SELECT points, (SELECT count(*) FROM points WHERE claim IS NOT NULL) FROM home
"""


class SqliteOutbox:
    """Keeps points in a file: what `add` accepted survives the death of the process.

    Several processes of one machine may share the file: points are claimed with a lease,
    and what a dead process had claimed is sent by another one when the lease is over. All
    work on the file is done by a thread of its own, which renews the lease too. A file that is
    deleted, moved or replaced while it is open takes no more points (`StorageError`); those
    that it had are sent, or reported when the uploader is closed.

    Args:
        path: The file; it is made where there is none. Not on a network's file system.
        max_points: How many at most.
        when_full: `wait` lets `add` wait for room; `raise` lets it raise an
            `OutboxFullError`.
        survive_power_cut: Wait for the disk before `add` returns, so that points survive the
            death of the machine too; slower.
        lease_s: How long a claim holds that is not renewed, in seconds: as long may points
            that a killed process was sending wait.
        clock: Time, for tests.

    Raises:
        InvalidArgumentError: A number is out of range, or another argument is of no use.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_points: int = 10_000_000,
        when_full: WhenFull = "wait",
        survive_power_cut: bool = False,
        lease_s: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        check_file_path(path)
        check_count(max_points, field="max_points")
        check_seconds(lease_s, field="lease_s")
        check_one_of(when_full, get_args(WhenFull), field="when_full")
        check_flag(survive_power_cut, field="survive_power_cut")
        self._clock: Final = SystemClock() if clock is None else clock
        self._file: Final = SqliteFile(path, _FORMAT, survive_power_cut=survive_power_cut)
        self._leases: Final = Leases("points", lease_s, self._clock)
        self._max: Final = max_points
        self._waits: Final = when_full == "wait"
        self._depth = QueueDepth()
        self._in_order = False
        self._was_opened = False
        self._takes_no_more = False
        self._line: Final = asyncio.Lock()  # those who wait for room; the first looks for all
        self._room: Final = Signal(self._clock)

    @property
    def is_durable(self) -> bool:
        """Points are on disk, as long as the file is where it was."""
        return not self._file.is_gone

    @property
    def renew_every_s(self) -> float:
        """Others may add and leave points."""
        return _LOOK_S

    @property
    def depth(self) -> QueueDepth:
        """How much waits, as of the last look at the file."""
        return self._depth

    async def open(self, *, origin: str, endpoint: str, in_order: bool) -> None:
        """Open the file; see `Outbox`."""
        if self._was_opened:
            raise ConfigurationError("this outbox has an uploader already: make another one")
        self._was_opened = True
        self._in_order = in_order
        self._file.every(self._leases.lease_s / 3, self._leases.renew)
        try:
            await self._file.open()
            found = await self._file.run(lambda db: _settle_in(db, origin, endpoint))
            if found != (origin, endpoint):
                raise ConfigurationError(
                    f"{self._file.path} holds points for {found[1]} at {found[0]}, not for "
                    f"{endpoint} at {origin}: give each a file of its own"
                )
            await self._file.run(self._leases.sign_in)
            await self.renew()
        except BaseException:
            await self.aclose()  # it may have signed in
            raise

    async def put(self, drafts: Sequence[OutboxDraft]) -> PutResult:
        """Keep points; see `Outbox`."""
        now = self._clock.wall()
        rows = [(draft.device, draft.body, now) for draft in drafts[:_PUT_AT_ONCE]]
        # Those who come while others wait for room stand behind them.
        kept = PutResult(0, 0, is_full=True) if self._line.locked() else await self._insert(rows)
        if not kept.count:
            if not self._waits:
                raise OutboxFullError(f"{self._file.path} holds {self._max:,} points")
            kept = await self._insert_when_there_is_room(rows)
        self._depth = attrs.evolve(
            self._depth,
            waiting=self._depth.waiting + kept.count,
            oldest_at=self._depth.oldest_at or now,
            is_full=kept.is_full,
        )
        return kept

    async def _insert(self, rows: Sequence[tuple[str, bytes, float]]) -> PutResult:
        if self._takes_no_more:
            raise ClientClosedError("this uploader is closed")
        return await self._file.run(lambda db: _insert(db, rows, self._max), takes_in=True)

    async def _insert_when_there_is_room(
        self, rows: Sequence[tuple[str, bytes, float]]
    ) -> PutResult:
        async with self._line:
            while not (kept := await self._insert(rows)).count:
                self._depth = attrs.evolve(self._depth, is_full=True)
                await self._room.wait(_ROOM_LOOK_S)  # another process may make some
            return kept

    def put_nowait(self, draft: OutboxDraft) -> PutResult:
        """A point is safe when it is on disk, which takes time.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(
            "add_nowait cannot promise what is not on disk yet: await add(), or use a MemoryOutbox"
        )

    def stop_taking(self) -> None:
        """Take no more points; see `Outbox`."""
        self._takes_no_more = True
        self._room.wake()

    async def claim(self, most: int) -> Sequence[OutboxEntry]:
        """Take points to send; see `Outbox`."""
        entries, oldest_at = await self._file.run(lambda db: self._claim(db, most))
        # Answers come in the order of the commits, so this count stays true.
        left = max(0, self._depth.waiting - len(entries))
        left = 0 if oldest_at is None else max(1, left)
        self._depth = attrs.evolve(self._depth, waiting=left, oldest_at=oldest_at)
        return entries

    def _claim(self, db: sqlite3.Connection, most: int) -> tuple[list[OutboxEntry], float | None]:
        refused, fresh = self._take(db, 1, most), self._take(db, 0, most)
        share = min(len(refused), max(most // 2, most - len(fresh)))
        entries = fresh[: most - share] + refused[:share]
        self._leases.take(db, [entry.id for entry in entries])
        return entries, _oldest_at(db)

    def _take(self, db: sqlite3.Connection, refused: int, most: int) -> list[OutboxEntry]:
        query = _TAKE_IN_ORDER if self._in_order else _TAKE
        rows = db.execute(query, {"refused": refused, "most": most})
        return [
            OutboxEntry(row_id, device, body, accepted_at, was_refused == 1)
            for row_id, device, body, accepted_at, was_refused in rows
        ]

    async def settle(self, entries: Sequence[OutboxEntry]) -> None:
        """Forget points; see `Outbox`."""
        ids = _ids(entries)
        # Also what another process has claimed since: it is sent, and need not be twice.
        await self._file.run(lambda db: _forget(db, ids))
        self._room.wake()

    async def release(self, entries: Sequence[OutboxEntry], *, was_refused: bool = False) -> None:
        """Let points wait again; see `Outbox`."""
        row = (int(was_refused), _ids(entries), self._leases.owner)
        released = await self._file.run(lambda db: db.execute(_RELEASE, row).rowcount)
        oldest_at = min((entry.accepted_at for entry in entries), default=None)
        self._depth = attrs.evolve(
            self._depth,
            waiting=self._depth.waiting + released,
            oldest_at=self._depth.oldest_at or oldest_at,
        )

    async def dead_letter(self, entries: Sequence[OutboxEntry], reason: str) -> None:
        """Put points where they stay, in the table `dead_letters`; see `Outbox`."""
        ids = _ids(entries)

        def bury(db: sqlite3.Connection) -> None:
            db.execute(_BURY, (reason, ids))
            _forget(db, ids)

        await self._file.run(bury)

    async def renew(self) -> QueueDepth:
        """Find out what is there, and free what dead processes left; see `Outbox`."""
        depth = await self._file.run(self._renew)
        self._depth = attrs.evolve(depth, is_full=depth.is_full and self._line.locked())
        return self._depth

    def _renew(self, db: sqlite3.Connection) -> QueueDepth:
        self._leases.free_what_others_left(db)
        points, claimed = db.execute(_COUNTS).fetchone()
        (first_id,) = db.execute("SELECT min(id) FROM points").fetchone()
        return QueueDepth(
            waiting=points - claimed,
            oldest_at=_oldest_at(db),
            first_id=first_id,
            is_full=points >= self._max,
        )

    async def aclose(self) -> None:
        """Let claimed points wait again, for others, and close the file."""
        await self._file.aclose(last=self._leases.sign_out)


def _ids(entries: Sequence[OutboxEntry]) -> str:
    return json.dumps([entry.id for entry in entries])


def _settle_in(db: sqlite3.Connection, origin: str, endpoint: str) -> tuple[str, str]:
    """Whose points the file is for; a new one is for these."""
    found: tuple[str, str] | None = db.execute("SELECT origin, endpoint FROM home").fetchone()
    if found is None:
        db.execute("INSERT INTO home VALUES (?, ?, 0)", (origin, endpoint))
        return origin, endpoint
    return found


def _insert(
    db: sqlite3.Connection, rows: Sequence[tuple[str, bytes, float]], most: int
) -> PutResult:
    """Insert as many points as there is room for."""
    (points,) = db.execute("SELECT points FROM home").fetchone()
    room = most - points
    if room <= 0:
        return PutResult(0, 0, is_full=True)
    is_full = room <= len(rows)
    rows = rows[:room]
    db.executemany("INSERT INTO points (device, body, accepted_at) VALUES (?, ?, ?)", rows)
    db.execute("UPDATE home SET points = points + ?", (len(rows),))
    last_id = db.execute("SELECT max(id) FROM points").fetchone()[0]
    return PutResult(len(rows), last_id, is_full)


def _forget(db: sqlite3.Connection, ids: str) -> None:
    gone = db.execute(_SETTLE, (ids,)).rowcount
    db.execute("UPDATE home SET points = points - ?", (gone,))


def _oldest_at(db: sqlite3.Connection) -> float | None:
    firsts = [row[0] for refused in (0, 1) for row in db.execute(_OLDEST, (refused,))]
    return min(firsts, default=None)
