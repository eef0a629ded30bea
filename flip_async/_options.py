"""What every method takes."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Final, TypedDict

import attrs
import httpx

from flip_async._checks import (
    check_headers,
    check_mapping,
    check_one_of,
    check_seconds_or_none,
)
from flip_async._endpoint import TokenKind

QueryScalar = str | int | float | bool | Decimal | Enum | datetime | None
QueryValue = QueryScalar | Sequence[QueryScalar] | AbstractSet[QueryScalar]
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
_TOKEN_KINDS: Final = ("client", "site")


def check_options(options: Mapping[str, object]) -> None:
    """Refuse what `CallOptions` does not have; types are for the editor, this is for the run.

    Raises:
        InvalidArgumentError: One cannot be what it is.
        TypeError: A keyword argument is not known, as of any Python function.
    """
    for name, value in options.items():
        if name not in _NAMES:
            raise TypeError(f"got an unexpected keyword argument {name!r}")
        if name == "timeout":
            as_timeout(value)
        elif name == "deadline_s":
            check_seconds_or_none(value, field=name)
        elif name == "token":
            check_one_of(value, _TOKEN_KINDS, field=name)
        elif name == "extra_headers":
            check_headers(value, field=name)
        else:
            check_mapping(value, field=name)


def as_timeout(value: object) -> httpx.Timeout:
    """A timeout as httpx has it, if it is one.

    Raises:
        InvalidArgumentError: It is neither `None`, nor seconds, nor an `httpx.Timeout` of such.
    """
    if not isinstance(value, httpx.Timeout):
        return httpx.Timeout(check_seconds_or_none(value, field="timeout"))
    for part, seconds in value.as_dict().items():
        check_seconds_or_none(seconds, field=f"timeout.{part}")
    return value


@attrs.frozen(kw_only=True)
class Settings:
    """How requests are sent, where a call does not say otherwise.

    Attributes:
        timeout: For each attempt.
        deadline_s: Over all attempts of a call, in seconds.
    """

    timeout: httpx.Timeout
    deadline_s: float | None
