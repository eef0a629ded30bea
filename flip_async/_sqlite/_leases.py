"""Rows of a file that several processes share: whoever works on some has a lease on them."""

import json
import os
import sqlite3
from collections.abc import Sequence
from typing import Final


class Leases:
    """Claims of one owner on the rows of a table, in jobs of a `Storage`.

    A claim is renewed as long as its owner lives. When its lease is over, its rows are free
    again: what a killed process was doing is done by another one.

    Args:
        table: The table, with columns `id` and `claim`.
        lease_s: How long a claim holds that is not renewed, in seconds.
    """

    SCHEMA: Final = """CREATE TABLE claims (
        id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, lease_until REAL NOT NULL
    )"""

    def __init__(self, table: str, lease_s: float) -> None:
        self.owner: Final = os.urandom(8).hex()
        self.lease_s: Final = lease_s
        # The table's name is a constant of ours: nothing from outside gets into a statement.
        self._take: Final = (
            f"UPDATE {table} SET claim = ? WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608
        )
        self._free: Final = f"UPDATE {table} SET claim = NULL WHERE claim = ?"  # noqa: S608
        self._let_go: Final = (
            f"UPDATE {table} SET claim = NULL "  # noqa: S608
            "WHERE claim IN (SELECT id FROM claims WHERE owner = ?)"
        )
        self._end_empty: Final = (
            f"DELETE FROM claims WHERE owner = ? AND id NOT IN "  # noqa: S608
            f"(SELECT claim FROM {table} WHERE claim IS NOT NULL)"
        )

    def take(self, db: sqlite3.Connection, ids: Sequence[int], now_s: float) -> None:
        """Claim rows."""
        if not ids:
            return
        claim = db.execute(
            "INSERT INTO claims (owner, lease_until) VALUES (?, ?)",
            (self.owner, now_s + self.lease_s),
        ).lastrowid
        db.execute(self._take, (claim, json.dumps(list(ids))))

    def renew(self, db: sqlite3.Connection, now_s: float) -> None:
        """Keep what is claimed."""
        db.execute(
            "UPDATE claims SET lease_until = ? WHERE owner = ?", (now_s + self.lease_s, self.owner)
        )

    def free_what_others_left(self, db: sqlite3.Connection, now_s: float) -> None:
        """End the claims whose lease is over."""
        ended = db.execute("SELECT id FROM claims WHERE lease_until < ?", (now_s,)).fetchall()
        for (claim,) in ended:
            db.execute(self._free, (claim,))
            db.execute("DELETE FROM claims WHERE id = ?", (claim,))

    def end_empty(self, db: sqlite3.Connection) -> None:
        """Forget own claims that have no row left."""
        db.execute(self._end_empty, (self.owner,))

    def let_go(self, db: sqlite3.Connection) -> None:
        """End all own claims."""
        db.execute(self._let_go, (self.owner,))
        db.execute("DELETE FROM claims WHERE owner = ?", (self.owner,))
