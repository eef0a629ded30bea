"""Models as pydantic sees them; loaded by nothing but pydantic's own question."""

import functools
import inspect
import typing
from collections.abc import Callable
from datetime import datetime
from types import UnionType
from typing import Any, Final, Union

import attrs
import msgspec
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, PydanticCustomError, SchemaSerializer, core_schema

from flip_async.errors import InvalidArgumentError
from flip_async.models._base import LenientDatetime, as_plain, check

_UNION_KINDS: Final = (Union, UnionType)


def core_schema_of(cls: type, handler: Callable[[object], object]) -> CoreSchema:
    """How pydantic reads and writes a model.

    It is read as a dictionary of its fields, then made and checked as before a request; what
    is a model already is taken as it is. It is written as it goes to Flip, without fields that
    are `UNSET`.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    generate = typing.cast("GetCoreSchemaHandler", handler)
    fields = {
        field.name: core_schema.typed_dict_field(
            generate.generate_schema(_without_unset(hints[field.name])),
            required=field.default is attrs.NOTHING,
        )
        for field in attrs.fields(cls)
    }

    def read(value: object, inner: core_schema.ValidatorFunctionWrapHandler) -> object:
        if isinstance(value, cls):
            return value
        model = cls(**inner(value))
        try:
            check(model)
        except InvalidArgumentError as error:
            # Not as the ValueError that it is: pydantic would show its attributes.
            raise PydanticCustomError("not_allowed", "{why}", {"why": str(error)}) from None
        return model

    return core_schema.no_info_wrap_validator_function(
        read,
        core_schema.typed_dict_schema(fields, extra_behavior="ignore"),
        # With a name of its own it is one component of an OpenAPI document, used by reference.
        ref=f"{cls.__module__}.{cls.__qualname__}:{id(cls)}",
        serialization=core_schema.plain_serializer_function_ser_schema(_write),
    )


def json_schema_of(cls: type, schema: object, handler: object) -> dict[str, Any]:
    """How OpenAPI describes a model: by its fields, its name, and the first words about it."""
    generate = typing.cast("GetJsonSchemaHandler", handler)
    reference = generate(typing.cast("CoreSchema", schema))
    described = generate.resolve_ref_schema(reference)
    described["title"] = cls.__name__
    described["description"] = (inspect.getdoc(cls) or "").partition("\n\n")[0]
    return reference


def open_enum_schema_of(schema: object, handler: object) -> dict[str, Any]:
    """How OpenAPI describes an enumeration that may grow: a text, with what is known of it."""
    generate = typing.cast("GetJsonSchemaHandler", handler)
    reference = generate(typing.cast("CoreSchema", schema))
    described = generate.resolve_ref_schema(reference)
    described["examples"] = described.pop("enum")
    return reference


def lenient_datetime(handler: Callable[[object], object]) -> CoreSchema:
    """A moment, or a day."""

    def read(value: object) -> object:
        return LenientDatetime.parse(value) if isinstance(value, str) else value

    inner = typing.cast("CoreSchema", handler(datetime))
    return core_schema.no_info_before_validator_function(read, inner)


@functools.cache
def serializer_of(cls: type) -> SchemaSerializer:
    """What writes a model where no schema told of it."""
    return TypeAdapter(cls).serializer


def _write(model: object) -> object:
    return msgspec.to_builtins(model, enc_hook=as_plain)


def _without_unset(hint: object) -> object:
    """A field's type as others give it: what is `UNSET` here is absent there."""
    if typing.get_origin(hint) not in _UNION_KINDS:
        return hint
    kinds = [kind for kind in typing.get_args(hint) if kind is not msgspec.UnsetType]
    return Union[tuple(kinds)]  # noqa: UP007  # made at run time
