"""Every check of an argument: the same mistake is told in the same words everywhere [B5].

What one argument is comes out as an `InvalidArgumentError` that names it; what cannot work
together, or was found in the environment, is a `ConfigurationError` of whoever knows that. No
error shows a value that may be a secret.
"""

import enum
import functools
import inspect
import math
import numbers
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import quote

from flip_async._secret import Secret, shape
from flip_async.errors import ConfigurationError, InvalidArgumentError

T = TypeVar("T")
_LONGEST_PATH: Final = 8_000  # servers refuse longer ones, and httpx has no words for it
_PATH: Final = re.compile(r"[!-~\u00a1-\U0010ffff]+")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_HEADER_VALUE: Final = re.compile(r"(?:[!-~](?:[ -~\t]*[!-~])?)?", re.ASCII)
_BEARER: Final = re.compile(r"[\x21-\x7e]+", re.ASCII)
_VSCHAR: Final = re.compile(r"[\x20-\x7e]+", re.ASCII)
_FRAMING: Final = frozenset({"content-length", "transfer-encoding", "host", "connection"})


def refuse(field: str, allowed: str, value: object) -> NoReturn:
    """Raise what is said of a value of the wrong kind."""
    raise InvalidArgumentError(f"is {allowed}, not {shape(value)}", field=field)


# Kinds


def check_kind(value: object, kind: type, *, field: str) -> None:
    """Refuse what is no instance of a class, such as a sync client; `None` is left to callers."""
    if not isinstance(value, kind):
        name = kind.__qualname__ if kind.__module__ == "builtins" else _full_name(kind)
        raise InvalidArgumentError(
            f"is an instance of {name}, not of {_full_name(type(value))}", field=field
        )


def check_kind_or_none(value: object, kind: type, *, field: str) -> None:
    """As `check_kind`, and `None` passes."""
    if value is not None:
        check_kind(value, kind, field=field)


def _full_name(kind: type) -> str:
    if kind.__module__.startswith("flip_async."):
        return f"flip_async.{kind.__qualname__}"  # where it is defined is nobody's business
    return f"{kind.__module__}.{kind.__qualname__}"


def check_flag(value: object, *, field: str) -> None:
    """Refuse what is neither `True` nor `False`: the text `"no"` is true to Python."""
    if not isinstance(value, bool):
        refuse(field, "True or False", value)


def check_text(value: object, *, field: str) -> str:
    """Refuse what is no text, or cannot be sent as one."""
    if not isinstance(value, str):
        refuse(field, "a str", value)
    if not _is_encodable(value):
        raise InvalidArgumentError("has half a surrogate pair in it", field=field)
    return value


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_one_of(value: object, allowed: Collection[str], *, field: str) -> None:
    """Refuse what is none of a few texts."""
    if not isinstance(value, str) or value not in allowed:
        raise InvalidArgumentError(f"is one of {', '.join(allowed)}", field=field)


def check_mapping(value: object, *, field: str) -> None:
    """Refuse what is no mapping."""
    if not isinstance(value, Mapping):
        refuse(field, "a mapping", value)


def check_methods(value: object, names: Sequence[str], *, field: str) -> None:
    """Refuse what has not the methods of a protocol; `None` passes."""
    missing = [name for name in names if not callable(getattr(value, name, None))]
    if value is not None and missing:
        raise InvalidArgumentError(
            f"has {', '.join(f'{name}()' for name in names)}, and {_full_name(type(value))} has "
            f"no {missing[0]}()",
            field=field,
        )


def check_clock(value: object) -> None:
    """Refuse what is no `Clock`; `None` passes."""
    names = ("monotonic", "wall", "now", "random", "sleep", "call_later")
    check_methods(value, names, field="clock")


# Numbers


def check_number(
    value: object,
    *,
    field: str,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    unit: str = "",
) -> float:
    """Refuse what is no finite number within limits; gives it as a float."""
    kind = f"a number{unit}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse(field, kind, value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InvalidArgumentError(f"is {kind} and finite", field=field)
    if above is not None and not number > above:
        raise InvalidArgumentError(f"is above {above:g}, not {number:g}", field=field)
    if at_least is not None and not number >= at_least:
        raise InvalidArgumentError(f"is at least {at_least:g}, not {number:g}", field=field)
    if at_most is not None and not number <= at_most:
        raise InvalidArgumentError(f"is at most {at_most:g}, not {number:g}", field=field)
    return number


def check_seconds(value: object, *, field: str) -> float:
    """Refuse what is no finite number of seconds above 0."""
    return check_number(value, field=field, above=0, unit=" of seconds")


def check_seconds_or_none(value: object, *, field: str) -> float | None:
    """As `check_seconds`, and `None` passes."""
    return None if value is None else check_seconds(value, field=field)


def check_count(
    value: object, *, field: str, at_least: int = 1, at_most: int | None = None
) -> None:
    """Refuse what is no whole number within limits."""
    if isinstance(value, bool) or not isinstance(value, int):
        refuse(field, "a whole number", value)
    if value < at_least:
        raise InvalidArgumentError(f"is at least {at_least}", field=field)
    if at_most is not None and value > at_most:
        raise InvalidArgumentError(f"is at most {at_most}", field=field)


# Functions


def check_callback(function: object, *, field: str) -> None:
    """Refuse what cannot be called; `None` passes."""
    if function is not None and not callable(function):
        refuse(field, "a function", function)


def check_async(function: object, *, field: str) -> None:
    """Refuse what cannot be awaited, before it would block everything."""
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    call = getattr(type(inner), "__call__", None)  # noqa: B004  # not its result
    if not (inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(call)):
        what = name_of(function) if callable(function) else shape(function)
        raise InvalidArgumentError(f"is an `async def`, and {what} is none", field=field)


def name_of(function: object) -> str:
    """What to call a function in a log."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__qualname__


# Paths


def path_segment(value: object, field: str) -> str:
    """Percent-encode an id for one segment of a path."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", field).lower()
    text = check_text(value, field=name)
    if text in ("", ".", ".."):
        raise InvalidArgumentError(
            "is empty" if not text else "is neither . nor .., which mean another path",
            field=name,
        )
    if len(text) > _LONGEST_PATH:
        raise InvalidArgumentError(f"has at most {_LONGEST_PATH} characters", field=name)
    return quote(text, safe="")


def check_file_path(path: object) -> None:
    """Refuse what is no file's path."""
    allowed = "a str or an os.PathLike"
    if not isinstance(path, str | os.PathLike):
        refuse("path", allowed, path)
    text: object = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        refuse("path", f"{allowed} of a text that a file's name can be", text)


def check_path(path: object) -> None:
    """Refuse what is no path of the API."""
    text = check_text(path, field="path")
    if not text.startswith("/") or text.startswith("//"):
        raise InvalidArgumentError("begins with one slash, as /v1/sites does", field="path")
    if "?" in text or "#" in text:
        raise InvalidArgumentError("has no ? and no #: use query=", field="path")
    if any(segment.lower().replace("%2e", ".") in {".", ".."} for segment in text.split("/")):
        raise InvalidArgumentError("has no . and no .., which mean another path", field="path")
    if _PATH.fullmatch(text) is None or "\\" in text:
        raise InvalidArgumentError("has a character that no path can have", field="path")
    if len(text) > _LONGEST_PATH:
        raise InvalidArgumentError(f"has at most {_LONGEST_PATH} characters", field="path")


# Queries


def query_pairs(query: Mapping[str, object], *, field: str = "query") -> list[tuple[str, str]]:
    """Names and values as they are sent; what is `None` is left out."""
    pairs = []
    for name, value in query.items():
        place = f"{field}[{check_text(name, field=field)!r}]"
        pairs += [(name, _query_text(one, place)) for one in _several(value) if one is not None]
    return pairs


def _several(value: object) -> Iterable[object]:
    if isinstance(value, Sequence | set | frozenset) and not isinstance(
        value, str | bytes | bytearray | memoryview
    ):
        return value
    return (value,)


def _query_text(value: object, place: str) -> str:
    match value:
        case enum.Enum():
            return _query_text(value.value, place)
        case str():
            return check_text(value, field=place)
        case bool():
            return "true" if value else "false"
        case datetime():
            return _rfc3339(value, place)
        case numbers.Integral():
            check_number(int(value), field=place)
            return str(int(value))
        case numbers.Real():
            return str(check_number(_as_float(value), field=place))
        case Decimal() if value.is_finite():
            return str(value)
        case _:
            refuse(
                place,
                "a text, a number, a bool, an Enum, a datetime, or a sequence of these",
                value,
            )


def _as_float(value: Any) -> float:  # noqa: ANN401  # a number of somebody else's
    try:
        return float(value)
    except (OverflowError, TypeError, ValueError):
        return math.nan


def _rfc3339(moment: datetime, place: str) -> str:
    offset = moment.utcoffset()
    if offset is None:
        raise InvalidArgumentError("has no time zone: give it one", field=place)
    if offset.total_seconds() % 60 or not offset:  # an offset has no seconds there
        return moment.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"
    return moment.isoformat()


# Headers and credentials


def check_headers(headers: object, *, field: str) -> None:
    """Refuse what no header can carry, and what the HTTP library sets; shows no value."""
    check_mapping(headers, field=field)
    assert isinstance(headers, Mapping)
    for name, value in headers.items():
        if not isinstance(name, str) or _HEADER_NAME.fullmatch(name) is None:
            raise InvalidArgumentError("has a name that no header can have", field=field)
        place = f"{field}[{name!r}]"
        if name.lower() in _FRAMING:
            raise InvalidArgumentError("is set by the HTTP library alone", field=place)
        if not isinstance(value, str):
            refuse(place, "a str", value)
        if _HEADER_VALUE.fullmatch(value) is None:
            raise InvalidArgumentError("has a character that no header can carry", field=place)


def is_bearer(text: str) -> bool:
    """Whether a credential can stand behind `Bearer ` in a header."""
    return _BEARER.fullmatch(text) is not None


def clean_bearer(value: object, *, field: str) -> Secret:
    """Strip a key that goes into a header, and refuse what cannot stand there.

    Raises:
        ConfigurationError: It is empty, in quotes, or has white space or control characters
            inside.
    """
    secret = _stripped(value, field)
    if not is_bearer(secret.reveal()):
        raise ConfigurationError(
            f"{field} ({shape(secret.reveal())}) has white space, a line break or another "
            "character inside that no header can carry: is it one key?"
        )
    _refuse_quotes(secret, field)
    return secret


def clean_secret(value: object, *, field: str) -> Secret:
    """Strip a client id or secret, and refuse what OAuth does not allow in it.

    Raises:
        ConfigurationError: It is empty, in quotes, or has other characters than printable
            ASCII.

    Source:
        RFC 6749 appendix A.1 and A.2.
    """
    secret = _stripped(value, field)
    if _VSCHAR.fullmatch(secret.reveal()) is None:
        raise ConfigurationError(
            f"{field} ({shape(secret.reveal())}) has a line break or another character inside "
            "that is not printable ASCII"
        )
    _refuse_quotes(secret, field)
    return secret


def clean_text(value: object, *, field: str) -> str:
    """As `clean_secret`, for what is no secret."""
    return clean_secret(value, field=field).reveal()


def clean_scope(scope: object) -> str:
    """Read one or more scopes: a list of them, or a text separated by white space.

    Raises:
        ConfigurationError: It is empty, or has a character that no scope may have.

    Source:
        RFC 6749 section 3.3.
    """
    if isinstance(scope, list | tuple):
        scope = " ".join(clean_text(one, field="scope") for one in scope)
    text = " ".join(clean_text(scope, field="scope").split())
    if '"' in text or "\\" in text:
        raise ConfigurationError('a scope has neither " nor \\ in it')
    return text


def conceal(value: T) -> T | Secret:
    """Wrap a text where it enters, so that no frame of ours shows it [B10]."""
    return Secret(value) if isinstance(value, str) else value


def conceal_all(value: object) -> object:
    """As `conceal`, for a text or a list of them."""
    if isinstance(value, list | tuple):
        return tuple(conceal(one) for one in value)
    return conceal(value)


def _stripped(value: object, field: str) -> Secret:
    value = conceal(value)
    if not isinstance(value, Secret):
        raise ConfigurationError(f"{field} is a str, not {shape(value)}")
    stripped = Secret(value.reveal().strip())
    if not stripped.reveal():
        raise ConfigurationError(f"{field} is empty")
    return stripped


def _refuse_quotes(secret: Secret, field: str) -> None:
    if len(secret.reveal()) > 1 and secret.reveal()[0] == secret.reveal()[-1] in "\"'`":
        raise ConfigurationError(
            f"{field} is in quotes: an env file was read without taking them off, or they were "
            "given twice"
        )


def check_names(value: object, *, field: str) -> Iterable[str]:
    """Read a collection of texts; a text alone is one of them."""
    several = (value,) if isinstance(value, str) else value
    if not isinstance(several, Collection) or not all(isinstance(one, str) for one in several):
        refuse(field, "a collection of texts", value)
    return several
