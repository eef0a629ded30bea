"""Numbers that are text, with a decimal point or a decimal comma."""

import re
from collections.abc import Iterable
from typing import Final, Literal

Mark = Literal["point", "comma"]

_NUMBER: Final = re.compile(r"[+-]?[\d.,]*\d[\d.,]*(?:[eE][+-]?\d+)?", re.ASCII)
_THREE_DIGITS: Final = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}", re.ASCII)
_GROUPS: Final = {
    "point": re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?", re.ASCII),
    "comma": re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+(?:,\d*)?", re.ASCII),
}
_ENOUGH: Final = frozenset({"point", "comma"})


def mark_of(text: str) -> str | None:
    """What a text tells of decimals: `point`, `comma`, `point?`, `comma?`, or nothing.

    1.234 may be a thousand and more in German, 1,234 in English: that is what `?` says.
    """
    text = text.strip()
    commas, points = text.count(","), text.count(".")
    if not (commas or points) or not _NUMBER.fullmatch(text):
        return None
    if commas and points:
        last_is_comma = text.rfind(",") > text.rfind(".")
        return "comma" if last_is_comma else "point"
    mark, other = ("comma", "point") if commas else ("point", "comma")
    if commas + points > 1:
        return other  # groups of thousands
    return f"{mark}?" if _THREE_DIGITS.fullmatch(text) else mark


class Decimals:
    """Which mark a file has; found out from its cells, or told.

    Attributes:
        mark: The mark; `None` as long as no cell has told.
    """

    def __init__(self, separator: str | None, given: Mark | None) -> None:
        self.mark: Mark | None = given
        self._separator: Final = separator
        if separator is None and given is None:
            self.mark = "point"  # JSON and Parquet have numbers of their own

    def look(self, cells: Iterable[str]) -> None:
        """Look at cells before they are read, as long as nothing is known."""
        found = {mark_of(text) for text in cells if "," in text or "." in text} - {None}
        if found >= _ENOUGH or found == {"comma?", "point?"}:
            return  # both: each cell is on its own
        if "comma" in found:
            self.mark = "comma"
        elif "point" in found:
            self.mark = "point"
        elif "comma?" in found and self._separator == ";":
            self.mark = "comma"  # a file with ; is written where the comma is the decimal mark
        elif found == {"point?"} and self._separator == ",":
            self.mark = "point"  # and one with , is not, as long as its cells need no quotes

    def read(self, text: str) -> float:
        """Read a number.

        Raises:
            ValueError: It is none, or may be two.
        """
        mark = self.mark
        if mark is None:
            found = mark_of(text)
            if found is not None and found.endswith("?"):
                raise ValueError(
                    f"{text.strip()} may be thousands or decimals: pass --decimal point or "
                    "--decimal comma"
                )
            mark = "comma" if found == "comma" else "point"
        if mark == "point":
            if "," in text:
                text = self._without_groups(text, mark, ",")
        elif "." in text:
            text = self._without_groups(text, mark, ".")
        if mark == "comma":
            text = text.replace(",", ".")
        if "_" in text:
            raise ValueError("is no number")
        return float(text)

    def _without_groups(self, text: str, mark: Mark, grouping: str) -> str:
        text = text.strip()
        if not _GROUPS[mark].fullmatch(text):
            if _NUMBER.fullmatch(text):
                other = "comma" if mark == "point" else "point"
                raise ValueError(
                    f"{text} has a decimal {other}, and other cells a decimal {mark}: pass "
                    f"--decimal {other} if all are meant so"
                )
            raise ValueError("is no number")
        return text.replace(grouping, "")
