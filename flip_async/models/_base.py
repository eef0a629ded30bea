"""What all models are made of."""

import enum
import math
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import ClassVar, Final, Self, TypeGuard, TypeVar

import attrs
import msgspec
from msgspec import UNSET, UnsetType

from flip_async._secret import shape
from flip_async.errors import InvalidArgumentError

RULE: Final = "flip_async.rule"
"""Key of a field's metadata under which its rule stands."""

SURELY: Final = "flip_async.surely"
"""Key under which an expression on `v` stands, true only for `UNSET` and where the rule is kept."""

Rule = Callable[[object, str], None]
"""Checks a value before a request; the second argument is the field's name for errors."""

Metadata = dict[str, Rule | str]


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

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: object, handler: object) -> object:
        from flip_async.models._pydantic import open_enum_schema_of

        return open_enum_schema_of(core_schema, handler)

    @property
    def is_known(self) -> bool:
        """Whether this version of the SDK knows the value."""
        return self._value_ in type(self)._value2member_map_


E = TypeVar("E", bound=OpenEnum)


class _PydanticSerializer:
    """Writes a model where pydantic was told no type, as in `Any`: it asks the object for this."""

    def __get__(self, instance: object, owner: type) -> object:
        # Nobody who could use it has asked; or it is the base, which has no fields.
        if "pydantic_core" not in sys.modules or not attrs.has(owner):
            raise AttributeError("__pydantic_serializer__")
        from flip_async.models._pydantic import serializer_of

        return serializer_of(owner)


class Model:
    """Base of all models: they become dictionaries and come back.

    Pydantic, and so FastAPI, reads, writes and describes them too.
    """

    # Pydantic asks for the two methods of its own where it meets such a class; without it
    # nothing is loaded.

    __slots__ = ()
    __pydantic_serializer__: ClassVar[object] = _PydanticSerializer()

    def __iter__(self) -> Iterator[tuple[str, object]]:
        """Names and values as they go to Flip: `dict(model)`, which FastAPI asks for, is JSON."""
        fields: dict[str, object] = msgspec.to_builtins(self, enc_hook=as_plain)
        return iter(fields.items())

    def to_dict(self) -> dict[str, object]:
        """The model in the types of JSON, as it goes to Flip; `json.dumps` takes it.

        An instant is RFC 3339 text, an enumeration its text, a model a dictionary; fields that
        are `UNSET` are left out. `from_dict` of it gives an equal model. A secret is in it in
        plain, such as that of a `SiteToken`.

        Returns:
            A new dictionary.

        Raises:
            InvalidArgumentError: A field breaks its rule, or holds what JSON cannot.
        """
        from flip_async.models._plain import to_dict

        return to_dict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> Self:
        """Make a model of what `to_dict` gave, or of a document of Flip's.

        Args:
            document: The mapping, of JSON or with `datetime` objects in it. Names that the model
                does not have are passed over; a text that is new to an enumeration is kept.

        Returns:
            The model, checked as before a request.

        Raises:
            InvalidArgumentError: A field is missing, or cannot be what it is; names the place.
        """
        from flip_async.models._plain import from_dict

        return from_dict(cls, document)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: Callable[[object], object]
    ) -> object:
        from flip_async.models._pydantic import core_schema_of

        return core_schema_of(cls, handler)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: object, handler: object) -> object:
        from flip_async.models._pydantic import json_schema_of

        return json_schema_of(cls, core_schema, handler)


class LenientDatetime(datetime):
    """A moment that the API may give as a day only, which is then its first moment in UTC."""

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: Callable[[object], object]
    ) -> object:
        from flip_async.models._pydantic import lenient_datetime

        return lenient_datetime(handler)

    @classmethod
    def parse(cls, text: str) -> "LenientDatetime":
        """Read a date-time in any form that the API has, or a date.

        Args:
            text: A date-time of RFC 3339, with a space or a `T` in it, or a date; without a zone
                it is in UTC.

        Returns:
            The moment.

        Raises:
            ValueError: It is neither.
        """
        return cls.of(datetime.fromisoformat(text))

    @classmethod
    def of(cls, moment: datetime) -> "LenientDatetime":
        """The same moment as one of this class.

        Args:
            moment: Any; without a zone it is one in UTC.

        Returns:
            The same moment.
        """
        return cls.combine(moment.date(), moment.time(), moment.tzinfo or UTC)

    def plain(self) -> datetime:
        """The same moment as an ordinary `datetime`."""
        return datetime.combine(self.date(), self.time(), self.tzinfo)


def as_plain(value: object) -> object:
    """What the codec writes for a subclass, of pandas or freezegun for instance.

    Raises:
        TypeError: It is of no kind that JSON has.
    """
    match value:
        case datetime():
            # As text: where freezegun has replaced `datetime`, there is no plain one to make.
            text = value.isoformat(timespec="microseconds" if value.microsecond else "seconds")
            return f"{text.removesuffix('+00:00')}Z" if text.endswith("+00:00") else text
        case str():
            return str.__str__(value)
        case int():
            return int.__int__(value)
        case float():
            return float.__float__(value)
        case _:
            raise TypeError(f"{type(value).__name__} is unknown to JSON")


def decode_other(kind: type, value: object) -> object:
    """What the codec reads where a class is none of its own.

    Raises:
        ValueError: It cannot be read as that.
    """
    if kind is object:
        return value  # free form: what a user reads as `object`
    if kind is LenientDatetime and isinstance(value, str):
        try:
            return LenientDatetime.parse(value)
        except ValueError:  # whose text shows the value
            raise ValueError("Invalid date or date-time") from None
    if kind is LenientDatetime and isinstance(value, datetime):
        return LenientDatetime.of(value)
    raise ValueError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")


def is_naive(value: object) -> TypeGuard[datetime]:
    """Whether it is a moment without a time zone."""
    return isinstance(value, datetime) and value.tzinfo is None


class HasInstants(Model):
    """Base of the models of answers: an instant without a zone is one in UTC.

    The reference prints all of them with a zone; one that comes without must not become
    a naive `datetime`, which compares with no other. No base of what is sent as well: there
    only the caller knows the zone, and `instant()` asks for it.
    """

    __slots__ = ()
    _INSTANTS: ClassVar[tuple[str, ...]] = ()

    def __attrs_post_init__(self) -> None:
        for name in self._INSTANTS:
            value: object = getattr(self, name)
            if is_naive(value):
                object.__setattr__(self, name, value.replace(tzinfo=UTC))


def _or_left_out(expression: str, nullable: bool = False) -> str:
    return f"{expression} or v is UNSET or v is None" if nullable else f"{expression} or v is UNSET"


def _refused(value: object, field: str, allowed: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"is {allowed}, not {shape(value)}", field=field)


def as_enum(kind: type[E], value: object, field: str) -> E:
    """A value of an enumeration, or its text, known or not; for converters.

    Raises:
        InvalidArgumentError: It is no text.
    """
    if not isinstance(value, str):
        raise _refused(value, field, "a str")
    return kind(value)


def text(*, allowed: Collection[str] | None = None, nullable: bool = False) -> Metadata:
    """Metadata of a field that holds a text, perhaps one of a few."""

    def rule(value: object, field: str) -> None:
        if value is None and nullable:
            return
        if not isinstance(value, str):
            raise _refused(value, field, "a str")
        if allowed is not None and value not in allowed:
            raise InvalidArgumentError(f"is one of {', '.join(sorted(allowed))}", field=field)

    if allowed is not None:
        return {RULE: rule}
    return {RULE: rule, SURELY: _or_left_out("v.__class__ is str", nullable)}


def identifier() -> Metadata:
    """Metadata of a field that holds an id."""

    def rule(value: object, field: str) -> None:
        if not isinstance(value, str):
            raise _refused(value, field, "a str")
        if not value:
            raise InvalidArgumentError("is empty", field=field)

    return {RULE: rule, SURELY: _or_left_out("v.__class__ is str and v != ''")}


def _shown(value: object) -> str:
    # Python refuses to write an int of more than 4,300 digits.
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an int of {value.bit_length()} bits"
    return str(value)


def number(
    *,
    at_least: float = -math.inf,
    at_most: float = math.inf,
    whole: bool = False,
    nullable: bool = False,
) -> Metadata:
    """Metadata of a field that holds a finite number within limits."""
    kinds = (int,) if whole else (float, int)
    wanted = "a whole number" if whole else "a number"
    if at_least > -math.inf:
        wanted += f" of at least {at_least:g}"
    if at_most < math.inf:
        wanted += f" and at most {at_most:g}"

    def rule(value: object, field: str) -> None:
        if type(value) in kinds:  # not a bool, which is an int
            if at_least <= value <= at_most and -math.inf < value < math.inf:  # type: ignore[operator]  # just checked
                return
            raise InvalidArgumentError(f"is {wanted} and finite, not {_shown(value)}", field=field)
        if not (value is None and nullable):
            raise _refused(value, field, wanted)

    # As floats, and not as a chain: so it takes half the time.
    low, high = max(at_least, -sys.float_info.max), min(at_most, sys.float_info.max)
    limits = f"v >= {float(low)!r} and v <= {float(high)!r}"
    surely = [f"v.__class__ is {kind.__name__} and {limits}" for kind in kinds]
    surely[0] = _or_left_out(surely[0], nullable)  # what is likely comes first
    return {RULE: rule, SURELY: " or ".join(surely)}


def boolean(*, nullable: bool = False) -> Metadata:
    """Metadata of a field that holds true or false."""

    def rule(value: object, field: str) -> None:
        if not (isinstance(value, bool) or (value is None and nullable)):
            raise _refused(value, field, "a bool")

    return {RULE: rule, SURELY: _or_left_out("v is True or v is False", nullable)}


def instant() -> Metadata:
    """Metadata of a field that holds a moment, with its time zone."""

    def rule(value: object, field: str) -> None:
        if not isinstance(value, datetime):
            raise _refused(value, field, "a datetime")
        if not _has_offset(value, field):
            raise InvalidArgumentError(
                "has no time zone: give it one, such as datetime.UTC", field=field
            )

    return {
        RULE: rule,
        SURELY: _or_left_out(
            "v.__class__ is datetime and (v.tzinfo is UTC or v.utcoffset() is not None)"
        ),
    }


def _has_offset(moment: datetime, field: str) -> bool:
    if type(moment) is datetime and type(moment.tzinfo) is timezone:
        return True
    # NaT of pandas is a datetime too, and its methods raise; so may a zone of somebody's own.
    try:
        offset = moment.utcoffset()
        moment.isoformat()
    except Exception as error:
        raise InvalidArgumentError(
            f"is a datetime that tells a moment, not {shape(moment)} ({type(error).__name__})",
            field=field,
        ) from None
    return isinstance(offset, timedelta)


def one(kind: type) -> Metadata:
    """Metadata of a field that holds a model."""

    def rule(value: object, field: str) -> None:
        if not isinstance(value, kind):
            raise _refused(value, field, f"a {kind.__name__}")
        check(value, field)

    return {RULE: rule}


def many(
    kind: type, *, at_least: int = 0, at_most: int | None = None, nullable: bool = False
) -> Metadata:
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
        for index in _doubtful(kind, value):
            item, place = value[index], f"{field}[{index}]"
            if not isinstance(item, kind):
                raise _refused(item, place, f"a {kind.__name__}")
            if isinstance(item, Mapping):
                check_json(item, place)
            else:
                check(item, place)

    return {RULE: rule}


def alike(value: object) -> object:
    """By what a list is compared: a tuple of the same is equal, as both are sent alike."""
    return tuple(value) if isinstance(value, list) else value


def free_form() -> Metadata:
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
        if not _has_offset(value, field):
            raise InvalidArgumentError("has no time zone: give it one", field=field)
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            check_json(name, field)
            check_json(entry, f"{field}.{name}")
    elif isinstance(value, list | tuple | set | frozenset):
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
    if not _doubtful(kind, (model,)):
        return
    rules = _rules_by_class.get(kind)
    if rules is None:
        rules = _rules_by_class[kind] = _rules_of(kind)
    for name, rule in rules:
        value = getattr(model, name)
        if value is not UNSET:
            rule(value, f"{where}.{name}" if where else name)


_Models = Sequence[object]
_short_checks: Final[dict[type, Callable[[_Models], Sequence[int]]]] = {}
_NAMES: Final = {"UNSET": UNSET, "UTC": UTC, "datetime": datetime, "float": float, "int": int}
"""What rules' expressions have beside `v`."""


def _doubtful(kind: type, models: _Models) -> Sequence[int]:
    """Which of some models are not of a class, or may break a rule of it: the rules tell."""
    short = _short_checks.get(kind)
    if short is None:
        short = _short_checks[kind] = _short_check(kind) if attrs.has(kind) else _all_of
    return short(models)


def _all_of(models: _Models) -> Sequence[int]:
    return range(len(models))


def _short_check(kind: type) -> Callable[[_Models], Sequence[int]]:
    """Write a function out of the rules' expressions, as attrs writes an `__init__`.

    It passes over models where all rules are surely kept. A batch is 1,000 points of 20 fields,
    and to call a function for each field costs more than all the rest of the request. Nothing
    from outside gets into the code.
    """
    names = {**_NAMES, "kind": kind}
    doubt = ["            found.append(index)", "            continue"]
    # Names as arguments are local ones, which are found faster than global ones.
    lines = [f"def short(models, *, {', '.join(f'{name}={name}' for name in names)}):"]
    lines += ["    found = []", "    for index, model in enumerate(models):"]
    lines += ["        if type(model) is not kind:", *doubt]
    for field in attrs.fields(kind):
        if RULE in field.metadata:
            surely = field.metadata.get(SURELY, "v is UNSET")
            lines += [f"        v = model.{field.name}", f"        if not ({surely}):", *doubt]
    lines.append("    return found")
    namespace: dict[str, Callable[[_Models], Sequence[int]]] = {}
    exec("\n".join(lines), names, namespace)  # noqa: S102
    return namespace["short"]


def _rules_of(kind: type) -> tuple[tuple[str, Rule], ...]:
    if not attrs.has(kind):
        return ()
    return tuple(
        (field.name, field.metadata[RULE]) for field in attrs.fields(kind) if RULE in field.metadata
    )


__all__ = ["UNSET", "LenientDatetime", "Model", "OpenEnum", "UnsetType"]
