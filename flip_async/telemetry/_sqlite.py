"""An outbox on disk, in one SQLite file."""

import json
import logging
import os
import sqlite3
from collections.abc import Sequence
from typing import Final, Literal, get_args

import attrs

from flip_async._checks import check_count, check_flag, check_one_of, check_seconds, refuse
from flip_async._clock import Clock, SystemClock
from flip_async._sqlite._file import Format, Storage
from flip_async._sqlite._leases import Leases
from flip_async.errors import (
    ClientClosedError,
    ConfigurationError,
    OutboxFullError,
    StorageError,
)
from flip_async.telemetry._outbox import Depth, Draft, Entry, Kept

logger: Final = logging.getLogger("flip_async.telemetry")

WhenFull = Literal["wait", "raise"]
_ROOM_LOOK_S: Final = 0.25
_LOOK_S: Final = 5.0
_PUT_AT_ONCE: Final = 1000

_FORMAT: Final = Format(
    what="telemetry outbox",
    application_id=0x666C6F62,  # "flob"
    version=1,
    schema=(
        "CREATE TABLE home (origin TEXT NOT NULL, endpoint TEXT NOT NULL)",
        Leases.SCHEMA,
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
_GIVE_BACK: Final = """
    UPDATE points SET claim = NULL, refused = max(refused, ?)
    WHERE id IN (SELECT value FROM json_each(?))
    AND claim IN (SELECT id FROM claims WHERE owner = ?)
"""
_OLDEST: Final = """
    SELECT accepted_at FROM points WHERE claim IS NULL AND refused = ? ORDER BY id LIMIT 1
"""


class SqliteOutbox:
    """Keeps points in a file: what `add` accepted survives the death of the process.

    Several processes of one machine may share the file: points are claimed with a lease,
    and what a dead process had claimed is sent by another one when the lease is over. All
    work on the file is done by a thread of its own.

    Args:
        path: The file; it is made where there is none. Not on a network's file system.
        max_points: How many at most.
        when_full: `wait` lets `add` wait for room; `raise` lets it raise an
            `OutboxFullError`.
        survive_power_cut: Wait for the disk before `add` returns, so that points survive the
            death of the machine too; slower.
        lease_s: How long a claim holds that is not renewed, in seconds: as long may points
            that a killed process was sending wait.

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
        if not isinstance(path, str | os.PathLike):
            refuse("path", "a str or an os.PathLike", path)
        check_count(max_points, field="max_points")
        check_seconds(lease_s, field="lease_s")
        check_one_of(when_full, get_args(WhenFull), field="when_full")
        check_flag(survive_power_cut, field="survive_power_cut")
        self._storage: Final = Storage(path, _FORMAT, survive_power_cut=survive_power_cut)
        self._leases: Final = Leases("points", lease_s)
        self._max: Final = max_points
        self._waits: Final = when_full == "wait"
        self._clock: Final = SystemClock() if clock is None else clock
        self._depth = Depth()
        self._in_order = False
        self._takes_no_more = False

    @property
    def is_durable(self) -> bool:
        """Points outlive the process."""
        return True

    @property
    def look_every_s(self) -> float | None:
        """Often enough to keep the lease."""
        return min(_LOOK_S, self._leases.lease_s / 3)

    @property
    def depth(self) -> Depth:
        """How much waits, as of the last look or claim and what was put since."""
        return self._depth

    async def open(self, *, origin: str, endpoint: str, in_order: bool) -> None:
        """Open the file; see `Outbox`."""
        if self._storage.was_opened:
            raise ConfigurationError("this outbox has an uploader already: make another one")
        self._in_order = in_order
        try:
            await self._storage.open()
            home = await self._storage.run(lambda db: _settle_in(db, origin, endpoint))
            if home != (origin, endpoint):
                raise ConfigurationError(
                    f"{self._storage.path} holds points for {' '.join(home)}, not for "
                    f"{origin} {endpoint}: give each a file of its own"
                )
            await self.look()
        except BaseException:
            await self._storage.aclose()
            raise

    async def put(self, drafts: Sequence[Draft]) -> Kept:
        """Keep points; see `Outbox`."""
        now = self._clock.wall()
        rows = [(draft.device, draft.body, now) for draft in drafts[:_PUT_AT_ONCE]]
        while True:
            if self._takes_no_more:
                raise ClientClosedError("this uploader is closed")
            kept = await self._storage.run(lambda db: _insert(db, rows, self._max))
            if kept.count:
                break
            self._depth = attrs.evolve(self._depth, is_full=True)
            if not self._waits:
                raise OutboxFullError(f"{self._storage.path} holds {self._max:,} points")
            await self._clock.sleep(_ROOM_LOOK_S)
        self._depth = Depth(
            self._depth.waiting + kept.count,
            self._depth.oldest_at or now,
            is_full=kept.is_full,
        )
        return kept

    def put_nowait(self, draft: Draft) -> Kept:
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

    async def claim(self, most: int) -> Sequence[Entry]:
        """Take points to send; see `Outbox`."""
        entries, oldest_at = await self._storage.run(lambda db: self._claim(db, most))
        # Answers come in the order of the commits, so this count stays true.
        left = max(0, self._depth.waiting - len(entries))
        left = 0 if oldest_at is None else max(1, left)
        self._depth = Depth(left, oldest_at, self._depth.is_full)
        return entries

    def _claim(self, db: sqlite3.Connection, most: int) -> tuple[list[Entry], float | None]:
        now = self._clock.wall()
        self._leases.free_what_others_left(db, now)
        refused, fresh = self._take(db, 1, most), self._take(db, 0, most)
        share = min(len(refused), max(most // 2, most - len(fresh)))
        entries = fresh[: most - share] + refused[:share]
        self._leases.take(db, [entry.id for entry in entries], now)
        return entries, _oldest_at(db)

    def _take(self, db: sqlite3.Connection, refused: int, most: int) -> list[Entry]:
        query = _TAKE_IN_ORDER if self._in_order else _TAKE
        rows = db.execute(query, {"refused": refused, "most": most})
        return [
            Entry(row_id, device, body, accepted_at, was_refused == 1)
            for row_id, device, body, accepted_at, was_refused in rows
        ]

    async def settle(self, ids: Sequence[int]) -> None:
        """Forget points; see `Outbox`."""
        await self._storage.run(lambda db: self._settle(db, json.dumps(list(ids))))

    def _settle(self, db: sqlite3.Connection, ids: str) -> None:
        # Also what another process has claimed since: it is sent, and need not be twice.
        db.execute(_SETTLE, (ids,))
        self._leases.end_empty(db)

    async def give_back(self, ids: Sequence[int], *, refused: bool) -> None:
        """Let points wait again; see `Outbox`."""
        given = await self._storage.run(
            lambda db: self._give_back(db, json.dumps(list(ids)), refused)
        )
        self._depth = attrs.evolve(
            self._depth,
            waiting=self._depth.waiting + given,
            oldest_at=self._depth.oldest_at or self._clock.wall(),
        )

    def _give_back(self, db: sqlite3.Connection, ids: str, refused: bool) -> int:
        given = db.execute(_GIVE_BACK, (int(refused), ids, self._leases.owner)).rowcount
        self._leases.end_empty(db)
        return given

    async def look(self) -> int | None:
        """Count what waits, and renew the lease of what is being sent; see `Outbox`."""
        first_id, self._depth = await self._storage.run(self._look)
        return first_id

    def _look(self, db: sqlite3.Connection) -> tuple[int | None, Depth]:
        now = self._clock.wall()
        self._leases.renew(db, now)
        self._leases.free_what_others_left(db, now)
        (waiting,) = db.execute("SELECT count(*) FROM points WHERE claim IS NULL").fetchone()
        (first_id,) = db.execute("SELECT min(id) FROM points").fetchone()
        return first_id, Depth(waiting, _oldest_at(db))

    async def aclose(self) -> None:
        """Let claimed points wait again, for others, and close the file."""
        try:
            await self._storage.run(self._leases.let_go)
        except StorageError as error:
            logger.warning("the claims in an outbox stay until their lease ends: %s", error)
        await self._storage.aclose()


def _settle_in(db: sqlite3.Connection, origin: str, endpoint: str) -> tuple[str, str]:
    """Whose points the file is for; a new one is for these."""
    found: tuple[str, str] | None = db.execute("SELECT origin, endpoint FROM home").fetchone()
    if found is None:
        db.execute("INSERT INTO home VALUES (?, ?)", (origin, endpoint))
        return origin, endpoint
    return found


def _insert(db: sqlite3.Connection, rows: Sequence[tuple[str, bytes, float]], most: int) -> Kept:
    """Insert as many points as there is room for."""
    first_id, last_id = db.execute(
        "SELECT (SELECT min(id) FROM points), (SELECT max(id) FROM points)"
    ).fetchone()
    # The ids tell at once that there is room, as nearly always; else the points are counted.
    if first_id is not None and last_id - first_id + 1 + len(rows) > most:
        (count,) = db.execute("SELECT count(*) FROM points").fetchone()
        room = max(0, most - count)
    else:
        room = most
    if not room:
        return Kept(0, 0, is_full=True)
    is_full = room <= len(rows)
    rows = rows[:room]
    db.executemany("INSERT INTO points (device, body, accepted_at) VALUES (?, ?, ?)", rows)
    last_id = db.execute("SELECT last_insert_rowid()").fetchone()[0]
    return Kept(len(rows), last_id, is_full)


def _oldest_at(db: sqlite3.Connection) -> float | None:
    firsts = [row[0] for refused in (0, 1) for row in db.execute(_OLDEST, (refused,))]
    return min(firsts, default=None)
