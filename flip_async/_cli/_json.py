"""JSON Lines, or one array of objects, read as they come."""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from types import TracebackType
from typing import Final

from flip_async._cli._rows import Broken, FileError, Numbered, Row, Rows
from flip_async._cli._text import Text, broken

_ARRAY: Final = re.compile(r"\s*\[\s*(?:\{.*|\]?\s*)", re.DOTALL)
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)
_OTHERS: Final = re.compile(r"\}\s*,\s*\{")  # perhaps of a list within, perhaps the next element
_BETWEEN: Final = re.compile(r"[\s,]*")
_PIECE: Final = 65_536
_LONGEST_ELEMENT: Final = 16_000_000
_NEAR_THE_END: Final = 16  # a word or an escape that is cut there may be whole with what follows


class JsonRows(Rows):
    """Rows of JSON Lines, or of a JSON array."""

    def __init__(self, text: Text) -> None:
        self._text: Final = text

    @property
    def separator(self) -> str | None:
        return None

    @property
    def is_stream(self) -> bool:
        return self._text.is_stream

    @property
    def fraction(self) -> float | None:
        return self._text.fraction

    def header(self) -> Sequence[str] | None:
        return None

    def __iter__(self) -> Iterator[Numbered]:
        pieces = self._text.lines(_PIECE)
        for number, piece in pieces:
            if not piece.strip():
                continue
            everything = chain([(number, piece)], pieces)
            if _ARRAY.fullmatch(piece):
                yield from self._array(everything)
            elif piece.strip() == "{":
                raise FileError(
                    f"line {number:,}: an object that goes on over several lines: write one "
                    "object a line, or an array of objects"
                )
            else:
                yield from self._objects(everything)
            return

    def _objects(self, pieces: Iterator[tuple[int, str]]) -> Iterator[Numbered]:
        for number, line in _joined(pieces):
            if not line.isspace():
                yield number, self._row(line)

    def _row(self, text: str) -> Row | Broken:
        reason = self._text.unreadable(text)
        if reason is not None:
            return broken(reason, text)
        row = parse(text)
        return broken(row, text) if isinstance(row, str) else row

    def _array(self, pieces: Iterator[tuple[int, str]]) -> Iterator[Numbered]:
        for number, text in _Elements(pieces):
            yield number, self._row(text)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._text.close()


def _joined(pieces: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Whole lines again."""
    parts: list[str] = []
    number = 0
    for number, piece in pieces:
        if not parts and piece.endswith(("\n", "\r")):
            yield number, piece
            continue
        parts.append(piece)
        if piece.endswith(("\n", "\r")):
            yield number, "".join(parts)
            parts.clear()
    if parts:
        yield number, "".join(parts)


class _Elements:
    """The texts of an array's elements, with the lines on which they begin.

    A window of the file slides: `_buffer` from `_at` on is not looked at yet, and `_number` is
    the line at `_at`.
    """

    def __init__(self, pieces: Iterator[tuple[int, str]]) -> None:
        self._pieces: Final = pieces
        self._buffer = ""
        self._at = 0
        self._number = 1

    def __iter__(self) -> Iterator[tuple[int, str]]:
        first, self._buffer = next(self._pieces)
        self._number = first
        self._pass(self._buffer.index("[") + 1)
        while True:
            self._pass_between()
            if self._at == len(self._buffer):
                raise FileError(
                    f"line {self._number:,}: the array is not closed: was the file cut off? "
                    "Close it with ], and run again"
                )
            if self._buffer[self._at] == "]":
                break
            number, end = self._number, self._end()
            text = self._buffer[self._at : end]
            self._pass(end)
            yield number, text
        self._pass(self._at + 1)
        self._pass_between()
        if self._at < len(self._buffer):
            raise FileError(f"line {self._number:,}: something stands behind the end of the array")

    def _end(self) -> int:
        """Where the element ends that begins here."""
        while True:
            try:
                _, end = _DECODER.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                is_cut = (
                    error.pos >= len(self._buffer) - _NEAR_THE_END
                    or error.msg.startswith("Unterminated string")
                ) and len(self._buffer) - self._at < _LONGEST_ELEMENT
                if not (is_cut and self._more()):
                    return self._end_of_broken()
            except (ValueError, RecursionError):
                return self._end_of_broken()
            else:
                # A number that touches the window's end may go on.
                if end < len(self._buffer) or not self._more():
                    return end

    def _end_of_broken(self) -> int:
        """Where to go on behind an element that cannot be read.

        Where each element has a line of its own, the line's end ends it; else brackets tell, as
        far as they are right. A row must not be lost with the one before it.

        Raises:
            FileError: Nothing tells.
        """
        end = self._end_of_line()
        if end is None:
            end = self._end_by_brackets()
            if end is None or _OTHERS.search(self._buffer, self._at, end):
                raise FileError(
                    f"line {self._number:,}: what begins here has no end: was the file cut off, "
                    "or is a quote or a bracket missing? Mend it, and run again"
                )
        return end

    def _end_of_line(self) -> int | None:
        begin = self._buffer.rfind("\n", 0, self._at) + 1
        indent = self._buffer[begin : self._at]
        if not begin or indent.strip():
            return None
        while (end := self._buffer.find("\n", self._at)) < 0 or end + len(indent) + 2 > len(
            self._buffer
        ):
            if len(self._buffer) - self._at > _LONGEST_ELEMENT or not self._more():
                return None
        is_whole = self._buffer[self._at : end].rstrip()[-1] not in "{[:"
        following = self._buffer[end + 1 : end + len(indent) + 2]
        is_next = following in (f"{indent}{{", f"{indent}]") or following.strip().startswith("]")
        return end if is_whole and is_next else None

    def _end_by_brackets(self) -> int | None:
        depth, passed = 0, 0
        while True:
            for token in _TOKEN.finditer(self._buffer, self._at + passed):
                passed = token.end() - self._at
                depth += (token[0] in "{[") - (token[0] in "}]")
                if depth <= 0 and token[0] in "}]":
                    return token.end() if depth == 0 else token.start()
            if len(self._buffer) - self._at > _LONGEST_ELEMENT or not self._more():
                return None

    def _pass(self, end: int) -> None:
        self._number += self._buffer.count("\n", self._at, end)
        self._at = end

    def _pass_between(self) -> None:
        while True:
            found = _BETWEEN.match(self._buffer, self._at)
            assert found is not None
            self._pass(found.end())
            if self._at < len(self._buffer) or not self._more():
                return

    def _more(self) -> bool:
        """Read on, so much that what is looked at again and again stays a small multiple."""
        kept = self._buffer.rfind("\n", 0, self._at)  # the line's begin tells its indent
        kept = self._at if kept < 0 or self._at - kept > _PIECE else kept
        parts = [self._buffer[kept:]]
        self._at -= kept
        wanted = max(_PIECE, len(parts[0]))
        for _, piece in self._pieces:
            parts.append(piece)
            wanted -= len(piece)
            if wanted <= 0:
                break
        self._buffer = "".join(parts)
        return len(parts) > 1


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two values have one name, {twice[:60]!r}")
    return found


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object)


def parse(text: str) -> dict[str, object] | str:
    """Read an object; what is wrong with it is a text."""
    try:
        row = _DECODER.decode(text)
    except RecursionError:
        return "is no JSON: brackets are too deep"
    except json.JSONDecodeError as error:
        return f"is no JSON: {error.msg} (character {error.pos + 1:,})"
    except ValueError as error:  # two values of one name, or a number of thousands of digits
        return f"is no JSON: {error}"
    return row if isinstance(row, dict) else "is no JSON object"
