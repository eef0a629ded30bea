"""What all models are made of."""

import enum
import math
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import ClassVar, Final, Self

import attrs
from msgspec import UNSET, UnsetType

from flip_async._secret import shape
from flip_async.errors import InvalidArgumentError

RULE: Final = "flip_async.rule"
"""Key of a field's metadata under which its rule stands."""

Rule = Callable[[object, str], None]
"""Checks a value before a request; the second argument is the field's name for errors."""


class OpenEnum(enum.StrEnum):
    """An enumeration that a newer server may have more values of.

    An unknown value is kept as it is and sent back unchanged; `is_known` tells.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        member = str.__new__(cls, value)
        member._name_ = value
        member._value_ = value
        return member

    def __reduce_ex__(self, proto: object) -> tuple[type[Self], tuple[str]]:
        # By value: Python 3.11.2, which Debian 12 has, looks a member up by its name.
        return type(self), (self._value_,)

    @property
    def is_known(self) -> bool:
        """Whether this version of the SDK knows the value."""
        return self._value_ in type(self)._value2member_map_


class LenientDatetime(datetime):
    """A moment that the API may give as a day only, which is then its first moment in UTC."""

    @classmethod
    def parse(cls, text: str) -> "LenientDatetime":
        """Read a date-time in any form that the API has, or a date.

        Raises:
            ValueError: It is neither.
        """
        moment = datetime.fromisoformat(text)
        return cls.combine(moment.date(), moment.time(), moment.tzinfo or UTC)

    def plain(self) -> datetime:
        """The same moment as an ordinary `datetime`."""
        return datetime.combine(self.date(), self.time(), self.tzinfo)


class HasInstants:
    """Base of the models of answers: an instant without a zone is one in UTC.

    The reference prints all of them with a zone; one that comes without must not become
    a naive `datetime`, which compares with no other.
    """

    __slots__ = ()
    _INSTANTS: ClassVar[tuple[str, ...]] = ()

    def __attrs_post_init__(self) -> None:
        for name in self._INSTANTS:
            value = getattr(self, name)
            if value is not None and value.tzinfo is None:
                object.__setattr__(self, name, value.replace(tzinfo=UTC))


class QuicklyChecked:
    """Base of a model of which thousands are sent at once."""

    __slots__ = ()

    def breaks_no_rule(self) -> bool:
        """Whether all rules are kept; where it is not sure, the rules are asked one by one."""
        return False


def _refused(value: object, field: str, allowed: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"is {allowed}, not {shape(value)}", field=field)


def text(*, allowed: Collection[str] | None = None, nullable: bool = False) -> dict[str, Rule]:
    """Metadata of a field that holds a text, perhaps one of a few."""

    def rule(value: object, field: str) -> None:
        if value is None and nullable:
            return
        if not isinstance(value, str):
            raise _refused(value, field, "a str")
        if allowed is not None and value not in allowed:
            raise InvalidArgumentError(f"is one of {', '.join(sorted(allowed))}", field=field)

    return {RULE: rule}


def identifier() -> dict[str, Rule]:
    """Metadata of a field that holds an id."""

    def rule(value: object, field: str) -> None:
        if not isinstance(value, str):
            raise _refused(value, field, "a str")
        if not value:
            raise InvalidArgumentError("is empty", field=field)

    return {RULE: rule}


def number(
    *,
    at_least: float = -math.inf,
    at_most: float = math.inf,
    whole: bool = False,
    nullable: bool = False,
) -> dict[str, Rule]:
    """Metadata of a field that holds a finite number within limits."""
    kinds = (int,) if whole else (int, float)
    kind = "a whole number" if whole else "a number"
    if at_least > -math.inf:
        kind += f" of at least {at_least:g}"
    if at_most < math.inf:
        kind += f" and at most {at_most:g}"

    def rule(value: object, field: str) -> None:
        if type(value) in kinds:  # not a bool, which is an int
            if at_least <= value <= at_most and -math.inf < value < math.inf:  # type: ignore[operator]  # just checked
                return
            raise InvalidArgumentError(f"is {kind} and finite, not {value}", field=field)
        if not (value is None and nullable):
            raise _refused(value, field, kind)

    return {RULE: rule}


def boolean(*, nullable: bool = False) -> dict[str, Rule]:
    """Metadata of a field that holds true or false."""

    def rule(value: object, field: str) -> None:
        if not (isinstance(value, bool) or (value is None and nullable)):
            raise _refused(value, field, "a bool")

    return {RULE: rule}


def instant() -> dict[str, Rule]:
    """Metadata of a field that holds a moment, with its time zone."""

    def rule(value: object, field: str) -> None:
        if not isinstance(value, datetime):
            raise _refused(value, field, "a datetime")
        if value.utcoffset() is None:
            raise InvalidArgumentError(
                "has no time zone: give it one, such as datetime.UTC", field=field
            )

    return {RULE: rule}


def one(kind: type) -> dict[str, Rule]:
    """Metadata of a field that holds a model."""

    def rule(value: object, field: str) -> None:
        if not isinstance(value, kind):
            raise _refused(value, field, f"a {kind.__name__}")
        check(value, field)

    return {RULE: rule}


def many(
    kind: type, *, at_least: int = 0, at_most: int | None = None, nullable: bool = False
) -> dict[str, Rule]:
    """Metadata of a field that holds a list of models or texts."""

    def rule(value: object, field: str) -> None:
        if value is None and nullable:
            return
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, list | tuple):
            raise _refused(value, field, f"a list of {kind.__name__}")
        if len(value) < at_least:
            raise InvalidArgumentError(f"has at least {at_least}, not {len(value)}", field=field)
        if at_most is not None and len(value) > at_most:
            raise InvalidArgumentError(f"has at most {at_most}, not {len(value)}", field=field)
        for index, item in enumerate(value):
            if isinstance(item, QuicklyChecked) and type(item) is kind and item.breaks_no_rule():
                continue
            place = f"{field}[{index}]"
            if not isinstance(item, kind):
                raise _refused(item, place, f"a {kind.__name__}")
            if isinstance(item, Mapping):
                check_json(item, place)
            else:
                check(item, place)

    return {RULE: rule}


def free_form() -> dict[str, Rule]:
    """Metadata of a field that holds an object of any content."""

    def rule(value: object, field: str) -> None:
        if not isinstance(value, Mapping):
            raise _refused(value, field, "a mapping")
        check_json(value, field)

    return {RULE: rule}


def check_json(value: object, field: str) -> None:
    """Check what has no model, where the codec would quietly write something else.

    It writes `null` for a NaN or an infinity, and a date-time without its zone.

    Raises:
        InvalidArgumentError: There is one of these in it; names the place.
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidArgumentError(f"is finite, not {value}", field=field)
    elif isinstance(value, datetime):
        if value.utcoffset() is None:
            raise InvalidArgumentError("has no time zone: give it one", field=field)
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            check_json(entry, f"{field}.{name}")
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            check_json(entry, f"{field}[{index}]")


def require(value: object, kind: type, field: str) -> None:
    """Refuse an argument that is not the model it should be.

    Raises:
        InvalidArgumentError: It is another kind of thing.
    """
    if not isinstance(value, kind):
        raise _refused(value, field, f"a {kind.__name__}")


_rules_by_class: Final[dict[type, tuple[tuple[str, Rule], ...]]] = {}


def check(model: object, where: str = "") -> None:
    """Check a model's fields before it is sent.

    Models carry no validators: those would run on answers too, where a value that is new
    to us is no mistake.

    Raises:
        InvalidArgumentError: A field breaks its rule; names it with its place.
    """
    kind = type(model)
    if isinstance(model, QuicklyChecked) and model.breaks_no_rule():
        return
    rules = _rules_by_class.get(kind)
    if rules is None:
        rules = _rules_by_class[kind] = _rules_of(kind)
    for name, rule in rules:
        value = getattr(model, name)
        if value is not UNSET:
            rule(value, f"{where}.{name}" if where else name)


def _rules_of(kind: type) -> tuple[tuple[str, Rule], ...]:
    if not attrs.has(kind):
        return ()
    return tuple(
        (field.name, field.metadata[RULE]) for field in attrs.fields(kind) if RULE in field.metadata
    )


__all__ = ["UNSET", "OpenEnum", "UnsetType"]
