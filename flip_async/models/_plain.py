"""Models to dictionaries of plain JSON and back; loaded by nothing but that question."""

import re
from collections.abc import Mapping
from typing import Final, TypeVar, cast

import attrs
import msgspec

from flip_async._checks import check_mapping
from flip_async.errors import InvalidArgumentError
from flip_async.models._base import UNSET, Model, as_plain, check, decode_other

M = TypeVar("M", bound=Model)

_encode: Final = msgspec.json.Encoder(enc_hook=as_plain).encode

_PLACE: Final = re.compile(r" - at `(?P<place>.*)`$")
_MISSING: Final = re.compile(r"Object missing required field `(?P<name>[^`]*)`$")


def to_dict(model: Model) -> dict[str, object]:
    """What a model's method of this name gives.

    It is checked as before a request, or a NaN would get into somebody's queue.
    """
    try:
        check(model)
        return _written(model)
    except InvalidArgumentError:
        raise
    except RecursionError:
        why = "it is too deep, or contains itself"
    except (TypeError, ValueError, OverflowError) as error:
        why = str(error)
    raise InvalidArgumentError(f"cannot be written as JSON: {why}", field=_culprit(model))


def _written(model: Model) -> dict[str, object]:
    # Through JSON: `msgspec.to_builtins` leaves tuples, and subclasses of `str` in free forms.
    written: dict[str, object] = msgspec.json.decode(_encode(model))
    return written


def _culprit(model: Model) -> str:
    """The first field that JSON cannot hold."""
    kind = cast("type[attrs.AttrsInstance]", type(model))  # as every model's class is
    for field in attrs.fields(kind):
        value = getattr(model, field.name)
        try:
            if value is not UNSET:
                _encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError):
            return str(field.name)
    return type(model).__name__


def from_dict(kind: type[M], document: object) -> M:
    """What a model's class method of this name gives."""
    check_mapping(document, field="document")
    assert isinstance(document, Mapping)
    try:
        # A copy as a `dict`, with the names that a model can have: a row of a database may have
        # others, and some that are no texts.
        names = {name: value for name, value in document.items() if isinstance(name, str)}
        model = msgspec.convert(names, kind, dec_hook=decode_other)
        check(model)
    except msgspec.ValidationError as error:
        problem = str(error)
    except RecursionError:
        problem = "Too deep, or contains itself"
    else:
        return model
    raise _unreadable(problem)


def _unreadable(problem: str) -> InvalidArgumentError:
    """An error of ours, with the place as our other ones have it: `devices[2].type`."""
    found = _PLACE.search(problem)
    place = found["place"].removeprefix("$").removeprefix(".") if found else ""
    problem = _PLACE.sub("", problem)
    missing = _MISSING.search(problem)
    if missing:
        place = f"{place}.{missing['name']}" if place else missing["name"]
        problem = "is missing"
    else:
        problem = f"cannot be read: {problem[:1].lower()}{problem[1:]}"
    return InvalidArgumentError(problem, field=place or "document")
