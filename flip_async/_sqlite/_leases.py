"""Rows of a file that several processes share: whoever works on some has a lease on them."""

import json
import sqlite3
from collections.abc import Sequence
from typing import Final

from flip_async._clock import Clock

SCHEMA: Final = """CREATE TABLE owners (
    id INTEGER PRIMARY KEY AUTOINCREMENT, lease_s REAL NOT NULL, renewed_at REAL NOT NULL
)"""


class Leases:
    """Claims of one owner on the rows of a table, in jobs of a `SqliteFile`.

    A claim is the owner's number in a row, and all claims of an owner have one lease, which is
    renewed as long as the owner lives. When it is over, the rows are free again: what a killed
    process was doing is done by another one.

    Times are the monotonic clock's, which all processes of a machine share, so that no wall clock
    that is set frees what lives or holds what is dead. After the machine has started anew that
    clock is behind what the file says: then the lease counts from now, and no longer than its
    length.

    Args:
        table: The table, with columns `id` and `claim`.
        lease_s: How long a claim holds that is not renewed, in seconds.
        clock: Tells the time.
    """

    def __init__(self, table: str, lease_s: float, clock: Clock) -> None:
        self.lease_s: Final = lease_s
        self._clock: Final = clock
        self.owner = 0
        # The table's name is a constant of ours: nothing from outside gets into a statement.
        self._take: Final = (
            f"UPDATE {table} SET claim = ? WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608
        )
        self._free: Final = f"UPDATE {table} SET claim = NULL WHERE claim = ?"  # noqa: S608

    def sign_in(self, db: sqlite3.Connection) -> None:
        """Become an owner."""
        self.owner = _inserted(
            db,
            "INSERT INTO owners (lease_s, renewed_at) VALUES (?, ?)",
            (self.lease_s, self._clock.monotonic()),
        )

    def take(self, db: sqlite3.Connection, ids: Sequence[int]) -> None:
        """Claim rows."""
        if ids:
            db.execute(self._take, (self.owner, json.dumps(list(ids))))

    def renew(self, db: sqlite3.Connection) -> None:
        """Keep what is claimed."""
        if not self.owner:
            return  # the file's thread may be faster than the opening
        now = self._clock.monotonic()
        renewed = db.execute(
            "UPDATE owners SET renewed_at = ? WHERE id = ?", (now, self.owner)
        ).rowcount
        if not renewed:  # others took this one for dead: what it has now, it claims anew
            row = (self.owner, self.lease_s, now)
            db.execute("INSERT INTO owners (id, lease_s, renewed_at) VALUES (?, ?, ?)", row)

    def free_what_others_left(self, db: sqlite3.Connection) -> None:
        """End the claims of owners whose lease is over, after keeping one's own."""
        self.renew(db)
        now = self._clock.monotonic()
        db.execute("UPDATE owners SET renewed_at = ? WHERE renewed_at > ?", (now, now))
        ended = db.execute("SELECT id FROM owners WHERE renewed_at + lease_s < ?", (now,))
        for (owner,) in ended.fetchall():
            self._end(db, owner)

    def others(self, db: sqlite3.Connection) -> list[int]:
        """The other owners that live, as far as anybody knows."""
        found = db.execute("SELECT id FROM owners WHERE id != ?", (self.owner,))
        return [owner for (owner,) in found]

    def sign_out(self, db: sqlite3.Connection) -> None:
        """End all own claims."""
        self._end(db, self.owner)

    def _end(self, db: sqlite3.Connection, owner: int) -> None:
        db.execute(self._free, (owner,))
        db.execute("DELETE FROM owners WHERE id = ?", (owner,))


def _inserted(db: sqlite3.Connection, statement: str, row: Sequence[object]) -> int:
    inserted = db.execute(statement, row).lastrowid
    assert inserted is not None  # it was an insert
    return inserted
