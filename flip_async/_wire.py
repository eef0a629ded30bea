"""Models to JSON and back; the only module that knows the codec."""

import functools
import re
from collections.abc import Callable, Hashable
from typing import Final, TypeVar, cast

import attrs
import httpx
import msgspec

from flip_async.errors import DecodeError, InvalidArgumentError
from flip_async.models._base import LenientDatetime, check, check_json

T = TypeVar("T")

_PLACE: Final = re.compile(r" - at `(?P<place>[^`]*)`$")


def _encode_other(value: object) -> object:
    if isinstance(value, LenientDatetime):
        return value.plain()
    raise TypeError(f"{type(value).__name__} is unknown to JSON")


def _decode_other(kind: type, value: object) -> object:
    if kind is object:
        return value  # free form: what a user reads as `object`
    if kind is LenientDatetime and isinstance(value, str):
        return LenientDatetime.parse(value)
    raise ValueError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")


_encoder: Final = msgspec.json.Encoder(enc_hook=_encode_other)


def encode(body: object) -> bytes:
    """Check a body and write it as JSON; fields that are `UNSET` are left out.

    Raises:
        InvalidArgumentError: A field breaks its rule, or has something JSON cannot hold.
    """
    if attrs.has(type(body)):
        check(body)
    else:
        check_json(body, "body")
    try:
        return _encoder.encode(body)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidArgumentError(f"cannot be written as JSON: {error}", field="body") from None


def ready(body: bytes) -> object:
    """What is JSON already, as a body."""
    return msgspec.Raw(body)


def read(document: bytes, kind: type[T]) -> T:
    """Read what `encode` wrote."""
    return cast("T", _decoder(cast("Hashable", kind))(document))


@functools.cache
def _decoder(kind: Hashable) -> Callable[[bytes], object]:
    return msgspec.json.Decoder(cast("type[object]", kind), dec_hook=_decode_other).decode


@attrs.frozen
class Unreadable:
    """Why a document cannot be read.

    Attributes:
        reason: What is wrong; shows no value.
        place: Where in the document (`$[3].id`), or `None` where the whole is none.
    """

    reason: str
    place: str | None


def parse(document: bytes, kind: type[T]) -> T | Unreadable:
    """Read a document of somebody else; what is wrong with it is a value."""
    try:
        return cast("T", _decoder(cast("Hashable", kind))(document))
    except msgspec.ValidationError as error:
        text = str(error)
        match = _PLACE.search(text)
        place = match["place"] if match else "$"
        return Unreadable(f"{place}: {_PLACE.sub('', text)}", place)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Unreadable(f"not JSON ({type(error).__name__}, {len(document)} bytes)", None)


def decode(
    response: httpx.Response, kind: type[T], *, method: str, path: str, attempts: int = 1
) -> T:
    """Read an answer.

    Raises:
        DecodeError: It is not JSON, or has another form; says where in the document.
    """
    result = parse(response.content, kind)
    if not isinstance(result, Unreadable):
        return result
    raise DecodeError(
        f"cannot read the answer: {result.reason}",
        response=response,
        document_path=result.place,
        method=method,
        path=path,
        attempts=attempts,
    )
