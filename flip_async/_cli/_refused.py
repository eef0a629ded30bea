"""The list of rows that were refused."""

import contextlib
import json
import os
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import IO, Final

from flip_async._cli._rows import FileError, is_regular, why
from flip_async._cli._values import as_json

_HEADS: Final = (b'{"line"', b'{"row"')  # the second by earlier versions
_HEAD_BYTES: Final = 7


def _lock(file: IO[bytes]) -> None:
    """Keep others out for as long as this process lives and the file is open.

    Raises:
        BlockingIOError: Somebody else has it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Refused(AbstractContextManager["Refused"]):
    """A file of rows that were refused, one JSON object a line; gone again if there are none.

    It is opened before the first row is sent, so that it can be written is known then.

    Attributes:
        path: Where it is.
        count: How many this run has refused.
    """

    def __init__(self, path: Path, *, kept_bytes: int) -> None:
        """Open it.

        Args:
            path: Where it is.
            kept_bytes: How much of an earlier run's list stays.

        Raises:
            FileError: It cannot be written.
        """
        self.path: Final = path
        self.count = 0
        self._is_noted = False
        try:
            self._file: Final[IO[bytes]] = path.open("ab")
        except (OSError, ValueError) as error:
            raise self._unwritable(error) from None
        try:
            self._is_regular: Final = is_regular(path)
            if self._is_regular:
                self._take(kept_bytes)
        except OSError as error:
            self._file.close()
            raise self._unwritable(error) from None
        except FileError:
            self._file.close()
            raise

    def _take(self, kept_bytes: int) -> None:
        """Make it ours: no other run writes to it, and what is cut off was such a list."""
        try:
            _lock(self._file)
        except BlockingIOError:
            raise FileError(
                f"another run writes to {self.path}: let it end, or pass --rejected"
            ) from None
        with self.path.open("rb") as written:
            head = written.read(_HEAD_BYTES)
        if head and not head.startswith(_HEADS):
            raise FileError(
                f"{self.path} is no list of refused rows, and would be lost: name another file "
                "with --rejected"
            )
        self._file.truncate(min(kept_bytes, self._file.seek(0, os.SEEK_END)))

    def note(self, line: int, row: object, reason: str) -> None:
        """Write one down; it is on disk after `save`.

        Raises:
            FileError: It cannot be written.
        """
        text = f'{{"line": {line}, "reason": {json.dumps(reason)}, "values": {as_json(row)}}}\n'
        try:
            self._file.write(text.encode())
        except OSError as error:
            raise self._unwritable(error) from None
        self.count += 1
        self._is_noted = True

    def save(self) -> int:
        """Bring what was noted to disk.

        Returns:
            How long the list is, in bytes.

        Raises:
            FileError: It cannot be written.
        """
        try:
            if self._is_noted:
                self._file.flush()
                if self._is_regular:
                    os.fsync(self._file.fileno())
                self._is_noted = False
            return self._file.tell() if self._is_regular else 0
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: Exception) -> FileError:
        return FileError(
            f"cannot write the list of refused rows, {self.path}: {why(error)}; make room, or "
            "pass --rejected with a file that can be written, and run again"
        )

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):  # what was not written was told
            self._file.close()
        with contextlib.suppress(OSError):
            if self._is_regular and not self.path.stat().st_size:
                self.path.unlink()
