"""How far a backfill has come, so that it can go on after an interruption."""

import hashlib
import json
import os
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Self

import attrs

from flip_async._cli._rows import FileError, is_regular, why

_LOOKED_AT: Final = 65_536  # at each end
Range = tuple[int, int]


@attrs.frozen(kw_only=True)
class Settled:
    """Which rows of a file are settled: sent, or refused and listed.

    Attributes:
        rows: All up to this one are.
        line: The line of that one.
        beyond: Ranges of rows behind it that are, after a stop within a block.
        refused: How many of them were refused.
        listed_bytes: How long the list of these is.
        mark: What tells the last of `rows` from others, or nothing.
        is_changed: Whether the file was another then: the mark has to tell.
    """

    rows: int = 0
    line: int = 0
    beyond: tuple[Range, ...] = ()
    refused: int = 0
    listed_bytes: int = 0
    mark: str = ""
    is_changed: bool = False

    @property
    def count(self) -> int:
        """How many rows are settled."""
        return self.rows + sum(last - first + 1 for first, last in self.beyond)

    def where(self) -> str:
        """Where a run goes on, in words."""
        if self.rows:
            return f"after row {self.rows:,} (line {self.line:,})"
        return f"with what is left: {self.count:,} rows are settled"

    def has(self, row: int) -> bool:
        """Whether a row is settled."""
        if row <= self.rows:
            return True
        at = bisect_right(self.beyond, (row, row))
        # The range that begins here or before is the one that may hold it.
        return any(first <= row <= last for first, last in self.beyond[max(0, at - 1) : at + 1])

    def with_rows(self, rows: Sequence[int], *, read: Iterable[tuple[int, int, object]]) -> Self:
        """With more rows.

        Args:
            rows: Their numbers, in order.
            read: Numbers, lines and contents of rows, to know those of the last one.
        """
        (_, last), *beyond = _merged([(1, self.rows), *self.beyond, *_ranges(rows)])
        line, mark = self.line, self.mark if last == self.rows else ""
        for row, its_line, content in read:
            if row == last:
                line, mark = its_line, mark_of(its_line, content)
        return attrs.evolve(
            self, rows=last, line=line, beyond=tuple(beyond), mark=mark, is_changed=False
        )

    def with_list(self, more_refused: int, listed_bytes: int) -> Self:
        """With more rows on the list."""
        return attrs.evolve(self, refused=self.refused + more_refused, listed_bytes=listed_bytes)


NOTHING: Final = Settled()


def mark_of(line: int, content: object) -> str:
    """What tells a row from others."""
    return hashlib.sha256(f"{line} {content!r}".encode("utf-8", "backslashreplace")).hexdigest()


def _ranges(rows: Sequence[int]) -> list[Range]:
    found: list[Range] = []
    for row in rows:
        if found and found[-1][1] == row - 1:
            found[-1] = (found[-1][0], row)
        else:
            found.append((row, row))
    return found


def _merged(ranges: list[Range]) -> list[Range]:
    merged: list[Range] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


@attrs.frozen
class Journal:
    """A small file beside the one that is sent.

    Attributes:
        path: Where it is.
        identity: What is made of the file, and where it goes.
        content: What tells the file from others.
    """

    path: Path
    identity: str
    content: str

    @classmethod
    def beside(cls, file: Path, *meaning: str) -> "Journal":
        """The journal of a file.

        Raises:
            FileError: The file cannot be read, or is a pipe, which cannot be read twice.
        """
        if not is_regular(file):
            raise FileError(f"{file} is no file that can be read twice: use `flip telemetry send`")
        try:
            with file.open("rb") as opened:
                head = opened.read(_LOOKED_AT)
                size = opened.seek(0, os.SEEK_END)
                opened.seek(max(0, size - _LOOKED_AT))
                tail = opened.read()
        except OSError as error:
            raise FileError(f"cannot read {file}: {why(error)}") from None
        ends = [hashlib.sha256(part).hexdigest() for part in (head, tail)]
        return cls(
            file.with_name(f"{file.name}.flip-progress"),
            identity=_digest(meaning),
            content=_digest([*ends, str(size)]),
        )

    def settled(self) -> Settled:
        """What was settled by earlier runs.

        Raises:
            FileError: The file, the options or the environment were others then.
        """
        try:
            kept = json.loads(self.path.read_text("utf-8"))
            identity, rows = kept["identity"], int(kept["rows_done"])
            found = Settled(
                rows=rows,
                line=int(kept.get("line", 0)),
                beyond=tuple((int(first), int(last)) for first, last in kept.get("beyond", ())),
                refused=int(kept.get("refused", 0)),
                listed_bytes=int(kept.get("listed_bytes", 0)),
                mark=str(kept.get("mark", "")),
                is_changed=kept.get("content") != self.content,
            )
        except FileNotFoundError:
            return NOTHING
        except OSError as error:
            raise FileError(f"cannot read {self.path}: {why(error)}") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise FileError(f"{self.path} cannot be read: delete it to begin anew") from None
        if not found.count:
            return NOTHING  # only tried: nothing depends on what it was of
        if identity != self.identity or (found.is_changed and (found.refused or not found.mark)):
            raise FileError(self.of_another())
        return found

    def of_another(self) -> str:
        """What is said where it does not belong to this run."""
        return (
            f"{self.path} is of another file, other options or another environment: pass the same "
            "ones, or --restart to begin anew; rows that were mended can be sent as a file of "
            "their own"
        )

    def save(self, settled: Settled) -> None:
        """Note what is settled.

        Raises:
            FileError: It cannot be written.
        """
        # A rename is whole or not at all: a power cut leaves the old one or the new one.
        text = json.dumps(
            {
                "identity": self.identity,
                "rows_done": settled.rows,
                "line": settled.line,
                "beyond": settled.beyond,
                "refused": settled.refused,
                "listed_bytes": settled.listed_bytes,
                "content": self.content,
                "mark": settled.mark,
            }
        )
        new = self.path.with_name(f"{self.path.name}.new")
        try:
            new.write_text(text, "utf-8")
            os.replace(new, self.path)  # noqa: PTH105  # the same, and says what it is for
        except OSError as error:
            raise FileError(
                f"cannot write {self.path}: {why(error)}; make room, or copy the file to a folder "
                "that can be written"
            ) from None


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
