"""How far a backfill has come, so that it can go on after an interruption."""

import hashlib
import json
import os
from pathlib import Path
from typing import Final

import attrs

from flip_async._cli._rows import FileError

_HEAD: Final = 65_536


@attrs.frozen
class Journal:
    """A small file beside the one that is sent.

    Attributes:
        path: Where it is.
        identity: What it belongs to: the file, what is made of it, and where it goes.
    """

    path: Path
    identity: str

    @classmethod
    def beside(cls, file: Path, *meaning: str) -> "Journal":
        """The journal of a file."""
        with file.open("rb") as opened:
            head = opened.read(_HEAD)
        parts = [hashlib.sha256(head).hexdigest(), str(file.stat().st_size), *meaning]
        identity = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        return cls(file.with_name(f"{file.name}.flip-progress"), identity)

    def rows_done(self) -> int:
        """How many rows were settled in an earlier run.

        Raises:
            FileError: The file, the options or the environment were others then.
        """
        try:
            kept = json.loads(self.path.read_text("utf-8"))
            identity, done = kept["identity"], int(kept["rows_done"])
        except FileNotFoundError:
            return 0
        except (ValueError, KeyError, TypeError):
            raise FileError(f"{self.path} cannot be read: delete it to begin anew") from None
        if identity != self.identity:
            raise FileError(
                f"{self.path} is of another file, other options or another environment: "
                "pass the same ones, or --restart to begin anew"
            )
        return done

    def save(self, rows_done: int) -> None:
        """Note that all rows up to this one are settled."""
        # A rename is whole or not at all: a power cut leaves the old one or the new one.
        text = json.dumps({"identity": self.identity, "rows_done": rows_done})
        new = self.path.with_name(f"{self.path.name}.new")
        new.write_text(text, "utf-8")
        os.replace(new, self.path)  # noqa: PTH105  # the same, and says what it is for

    def forget(self) -> None:
        """The next run begins anew."""
        self.path.unlink(missing_ok=True)
