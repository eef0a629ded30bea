"""Cells of a file as values of a point."""

import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Final, cast
from uuid import UUID

from flip_async._cli._json import parse
from flip_async._cli._numbers import Decimals

_NOTHING: Final = frozenset({"", "nan", "null", "none", "nil", "n/a", "#n/a", "<na>", "nat", r"\n"})
_NO_MEASUREMENT: Final = _NOTHING | {"na", "-", "--", "unknown", "unavailable", "undefined"}
_TRUE: Final = frozenset({"true", "t", "yes", "y", "on", "1", "1.0"})
_FALSE: Final = frozenset({"false", "f", "no", "n", "off", "0", "0.0"})
_EXACT: Final = 2**53
_LARGEST_BITS: Final = 1023  # of a whole number that is finite as a float


def is_nothing(value: object) -> bool:
    """Whether a cell says that there is no value."""
    if isinstance(value, str):
        return value.strip().lower() in _NOTHING
    return value is None or _is_nan(value)


def _is_nan(value: object) -> bool:
    return (isinstance(value, float) and math.isnan(value)) or (
        isinstance(value, Decimal) and value.is_nan()
    )


def number(value: object, decimals: Decimals) -> float | int | None:
    """Read a number.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, str):
        return _number_of_text(value, decimals)
    if value is None or _is_nan(value):
        return None
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"is a number, not {type(value).__name__}")
    if isinstance(value, int) and value.bit_length() > _LARGEST_BITS:
        raise ValueError(f"is a number, not one of {value.bit_length():,} bits")
    return value


def _number_of_text(text: str, decimals: Decimals) -> float | None:
    try:
        found = decimals.read(text)
    except ValueError as error:
        if text.strip().lower() in _NO_MEASUREMENT:
            return None
        reason = str(error)
    else:
        return None if math.isnan(found) else found
    if reason.startswith("could not convert") or reason == "is no number":
        reason = f"is no number: {text.strip()[:40]!r}"
    raise ValueError(reason)


def flag(value: object) -> bool | None:
    """Read what is true or false.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        if word in _NO_MEASUREMENT:
            return None
    elif value is None or _is_nan(value):
        return None
    elif isinstance(value, bool):
        return value
    elif isinstance(value, int | float | Decimal) and value in (0, 1):
        return bool(value)
    raise ValueError(f"is true or false, not {str(value)[:40]!r}")


def text(value: object) -> str | None:
    """Read an id or a word; a database may have whole numbers for ids.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, str):
        stripped = value.strip()
        return None if stripped.lower() in _NOTHING else stripped
    if value is None or _is_nan(value):
        return None
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise ValueError("is a text, not bytes that are no UTF-8") from None
    if isinstance(value, UUID):
        return str(value)
    if not isinstance(value, bool):
        if isinstance(value, int) and value.bit_length() <= _LARGEST_BITS:
            return str(value)
        if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
            return str(int(value))
        # Pandas makes floats of whole numbers where one is missing.
        if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
            return str(int(value))
    raise ValueError(f"is a text, not {type(value).__name__}")


def raw(value: object) -> object:
    """Read raw data: an object, or a text that is one in JSON.

    Raises:
        ValueError: The text is none.
    """
    if isinstance(value, str):
        found = parse(value)
        if isinstance(found, str):
            raise ValueError(found)
        value = found
    elif isinstance(value, list) and value and all(_is_pair(entry) for entry in value):
        value = dict(value)  # a map of Parquet
    return plain(value)


def _is_pair(entry: object) -> bool:
    return isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str)


def plain(value: object) -> object:
    """What JSON has for it: no NaN, no time without a zone as a time, no decimals as text."""
    match value:
        case dict():
            entries = cast("dict[object, object]", value).items()
            return {
                str(name) if isinstance(name, date | int | float) else name: plain(entry)
                for name, entry in entries
            }
        case list() | tuple() | set():
            return [plain(entry) for entry in cast("list[object]", value)]
        case float() if math.isnan(value):
            return None
        case Decimal():
            return None if value.is_nan() else _plain_decimal(value)
        case datetime() if value.tzinfo is None:
            return value.isoformat()
        case date() | time() if not isinstance(value, datetime):
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case _:
            return value


def _plain_decimal(value: Decimal) -> float | int:
    return int(value) if value == value.to_integral_value() else float(value)


def as_json(value: object) -> str:
    """A row for the list of refused rows, as well as JSON can have it."""
    for make in (plain, _as_texts):
        try:
            return json.dumps(make(value), default=str, allow_nan=False)
        except (ValueError, TypeError, RecursionError):
            continue
    return json.dumps("cannot be written as JSON")


def _as_texts(value: object) -> object:
    if not isinstance(value, Mapping):
        return repr(value)[:1000]
    return {str(name): _as_text(entry) for name, entry in value.items()}


def _as_text(value: object) -> str:
    try:
        return str(value)[:1000]
    except (ValueError, RecursionError):
        return f"{type(value).__name__} that cannot be written"
