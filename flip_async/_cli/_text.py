"""Files of text as lines, however they are compressed and encoded."""

import codecs
import functools
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, cast

from flip_async._cli._rows import Broken, FileError, is_regular, shown, why

_HEAD: Final = 4096
_LONGEST_SHOWN: Final = 10_000
_MARK: Final = "flip_async.mark"
_MARKS: Final = re.compile("[\udc00-\udcff]")
_GZIP: Final = b"\x1f\x8b"
_BOMS: Final = (
    # The longer ones first: that of UTF-16 begins that of UTF-32.
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NO_TEXT: Final = (
    (b"PAR1", "Parquet: pass --format parquet"),
    (b"PK\x03\x04", "a zip file or a spreadsheet: unpack it, or save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "a spreadsheet: save it as CSV"),
    (b"SQLite format 3", "an SQLite database: export the table as CSV"),
    (b"%PDF", "a PDF"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it, or use gzip"),
    (b"\xfd7zXZ\x00", "compressed with xz: unpack it, or use gzip"),
    (b"BZh", "compressed with bzip2: unpack it, or use gzip"),
)


def _mark(error: UnicodeError) -> tuple[str, int]:
    """Keep a byte that cannot be read as half a surrogate pair, which no text has."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(chr(0xDC00 + byte) for byte in found), error.end


codecs.register_error(_MARK, _mark)


class Text:
    """Lines of a file of text; `None` is standard input.

    Nothing is read before the first line is asked for: a pipe may have none yet.

    Attributes:
        name: What to call it.
        is_stream: Whether it is a pipe.
        encoding: The encoding; known with the first line.
    """

    def __init__(self, path: Path | None, encoding: str | None) -> None:
        self.name: Final = "standard input" if path is None else str(path)
        self.is_stream: Final = path is None or not is_regular(path)
        self.encoding = _known(encoding)
        self._number = 0
        self._wrapper: io.TextIOWrapper | None = None
        try:
            # Not sys.stdin: a thread that waits for it would hold a lock when Python ends.
            self._raw: Final[IO[bytes]] = (
                open(0, "rb", closefd=False) if path is None else path.open("rb")  # noqa: SIM115
            )
        except OSError as error:
            raise FileError(f"cannot read {self.name}: {why(error)}") from None
        self._size: Final = None if path is None or self.is_stream else path.stat().st_size

    @property
    def fraction(self) -> float | None:
        """How much is read."""
        if self._size is None:
            return None
        return min(1.0, self._raw.tell() / self._size) if self._size else 1.0

    def lines(self, at_most: int = -1) -> Iterator[tuple[int, str]]:
        r"""Lines with their numbers from 1 and their ends, `\n`, `\r\n` or `\r`.

        Args:
            at_most: Give a line that is longer in pieces of so many characters.

        Raises:
            FileError: It is no text, or cannot be read on.
        """
        try:
            number = 1
            text = self._opened()
            for line in iter(functools.partial(text.readline, at_most), ""):
                self._number = number
                yield number, line
                number += line.endswith(("\n", "\r"))
        except EOFError:
            raise self._broken("the compressed file is cut off") from None
        except (zlib.error, gzip.BadGzipFile) as error:
            raise self._broken(f"the compressed file is damaged ({error})") from None
        except OSError as error:
            raise self._broken(why(error)) from None

    def _broken(self, reason: str) -> FileError:
        where = f" behind line {self._number:,}" if self._number else ""
        return FileError(f"cannot read {self.name}{where}: {reason}; mend the file and run again")

    def _opened(self) -> io.TextIOWrapper:
        raw = cast("io.BufferedReader", self._raw)
        if raw.peek(_HEAD).startswith(_GZIP):
            raw = cast("io.BufferedReader", gzip.GzipFile(fileobj=raw))
        head = raw.peek(_HEAD)[:_HEAD]
        for magic, what in _NO_TEXT:
            if head.startswith(magic):
                raise FileError(f"{self.name} is no text, but {what}")
        found = next((name for bom, name in _BOMS if head.startswith(bom)), None)
        self.encoding = found or self.encoding or _without_bom(head)
        # Kept: it closes the file under it when it is collected.
        self._wrapper = io.TextIOWrapper(raw, self.encoding, errors=_MARK, newline="")
        return self._wrapper

    def unreadable(self, line: str) -> str | None:
        """What is wrong with the characters of a line."""
        if "\0" in line:
            return "has bytes that are 0: was the file cut off by a power failure?"
        if line.isascii():
            return None
        found = _MARKS.search(line)
        if found is None:
            return None
        name = (self.encoding or "utf-8").removesuffix("-sig").upper()
        other = "latin-1" if name == "UTF-8" else "utf-8"
        return (
            f"has a byte that is no {name} (0x{ord(found[0]) - 0xDC00:02x}, character "
            f"{found.start() + 1:,}): pass --encoding, such as --encoding {other}"
        )

    def close(self) -> None:
        """Close it; standard input stays open, since a thread may wait for it."""
        if self._size is not None:
            self._raw.close()


def broken(reason: str, line: str) -> Broken:
    """A line that is no row."""
    text = line.rstrip("\r\n")[:_LONGEST_SHOWN]
    return Broken(reason, _MARKS.sub(lambda mark: f"\\x{ord(mark[0]) - 0xDC00:02x}", text))


def _known(encoding: str | None) -> str | None:
    if encoding is None:
        return None
    try:
        with io.TextIOWrapper(io.BytesIO(), encoding) as text:
            name = codecs.lookup(text.encoding).name
    except (LookupError, ValueError):
        raise FileError(
            f"--encoding {shown(encoding)} is not known: try utf-8, latin-1, cp1252 or utf-16"
        ) from None
    # A byte order mark in UTF-8 is no character of the first column's name.
    return "utf-8-sig" if name == "utf-8" else name


def _without_bom(head: bytes) -> str:
    """The encoding of what has no byte order mark: where each second byte is 0, UTF-16."""
    pairs = len(head) // 2
    if pairs and head[1::2].count(0) * 10 > pairs * 9 and head[0] != 0:
        return "utf-16-le"
    if pairs and head[0::2].count(0) * 10 > pairs * 9 and head[1] != 0:
        return "utf-16-be"
    return "utf-8"
