"""What every method takes."""

from collections.abc import Mapping, Sequence
from typing import Final, TypedDict

import attrs
import httpx

from flip_async._endpoint import TokenKind
from flip_async._secret import shape
from flip_async.errors import InvalidArgumentError

QueryValue = str | int | float | bool | Sequence[str]
TimeoutTypes = float | httpx.Timeout | None


class CallOptions(TypedDict, total=False):
    """Keyword arguments of every method.

    Attributes:
        timeout: For each attempt, as in httpx: seconds, an `httpx.Timeout`, or `None`.
        deadline_s: Over all attempts, the wait for a token included; `None` for no end.
        extra_headers: Headers that we do not set.
        extra_query: Query parameters that the method does not know.
        token: Whose credential to use, should ours be the wrong guess: `client` or `site`.
    """

    timeout: TimeoutTypes
    deadline_s: float | None
    extra_headers: Mapping[str, str]
    extra_query: Mapping[str, QueryValue]
    token: TokenKind


_NAMES: Final = frozenset(CallOptions.__annotations__)


def check_options(options: Mapping[str, object]) -> None:
    """Refuse what `CallOptions` does not have; types are for the editor, this is for the run.

    Raises:
        TypeError: A keyword argument is not known.
        InvalidArgumentError: One cannot be what it is.
    """
    for name, value in options.items():
        if name not in _NAMES:
            raise TypeError(f"got an unexpected keyword argument {name!r}")
        if name == "timeout":
            check_timeout(value)
        elif name == "deadline_s":
            check_seconds(value, field=name)
        elif name == "token":
            if value not in ("client", "site"):
                raise InvalidArgumentError("is 'client' or 'site'", field=name)
        elif name == "extra_headers":
            _check_headers(value)
        elif not isinstance(value, Mapping):
            raise InvalidArgumentError(f"is a mapping, not {shape(value)}", field=name)


def check_seconds(value: object, *, field: str) -> None:
    """Refuse what is neither `None` nor a number above 0."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidArgumentError(
            f"is a number of seconds or None, not {shape(value)}", field=field
        )
    if not value > 0:
        raise InvalidArgumentError(f"is above 0, not {value}", field=field)


def check_count(value: object, *, field: str) -> None:
    """Refuse what is no whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgumentError(f"is a whole number, not {shape(value)}", field=field)
    if value < 1:
        raise InvalidArgumentError(f"is at least 1, not {value}", field=field)


def check_timeout(value: object) -> None:
    """Refuse what httpx does not take as a timeout."""
    if not isinstance(value, httpx.Timeout):
        check_seconds(value, field="timeout")


def as_timeout(value: TimeoutTypes) -> httpx.Timeout:
    """A timeout as httpx has it."""
    check_timeout(value)
    return value if isinstance(value, httpx.Timeout) else httpx.Timeout(value)


def as_deadline(value: float | None) -> float | None:
    """A deadline, if it is one."""
    check_seconds(value, field="deadline_s")
    return value


def _check_headers(headers: object) -> None:
    # httpx's own error would print the value.
    if not isinstance(headers, Mapping):
        raise InvalidArgumentError(f"is a mapping, not {shape(headers)}", field="extra_headers")
    for name, value in headers.items():
        place = f"extra_headers[{name!r}]"
        if not isinstance(value, str) or not isinstance(name, str):
            raise InvalidArgumentError(f"is a str, not {shape(value)}", field=place)
        if not value.isascii() or not value.isprintable() or not name.isascii():
            raise InvalidArgumentError("has a character that no header can carry", field=place)


@attrs.frozen(kw_only=True)
class Settings:
    """How requests are sent, where a call does not say otherwise.

    Attributes:
        timeout: For each attempt.
        deadline_s: Over all attempts of a call, in seconds.
    """

    timeout: httpx.Timeout
    deadline_s: float | None
