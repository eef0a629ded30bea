"""Models to JSON and back; the only module that knows the codec."""

import functools
import json
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Final, TypeVar, cast

import attrs
import httpx
import msgspec

from flip_async.errors import DecodeError, InvalidArgumentError
from flip_async.models._base import UNSET, as_plain, check, check_json, decode_other

T = TypeVar("T")

_PLACE: Final = re.compile(r" - at `(?P<place>[^`]*)`$")
_BOM: Final = b"\xef\xbb\xbf"
_HTML: Final = re.compile(rb"\s*<(?:!doctype\s+)?html\b", re.IGNORECASE)
_MEDIA_TYPE: Final = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}", re.ASCII)
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_]\w{0,63}", re.ASCII)
_HALF_PAIR: Final = re.compile("[\ud800-\udfff]")


_encoder: Final = msgspec.json.Encoder(enc_hook=as_plain)


@attrs.frozen
class Ready:
    """A body that is JSON already.

    Attributes:
        content: The JSON.
    """

    content: bytes


def encode(body: object) -> bytes:
    """Check a body and write it as JSON; fields that are `UNSET` are left out.

    Raises:
        InvalidArgumentError: A field breaks its rule, or has something JSON cannot hold.
    """
    if isinstance(body, Ready):
        return body.content
    try:
        if attrs.has(type(body)):
            check(body)
        else:
            check_json(body, "body")
        return _encoder.encode(body)
    except InvalidArgumentError:
        raise
    except RecursionError:
        why = "it is too deep, or contains itself"
    except UnicodeEncodeError:
        why = "a text has half a surrogate pair in it"
    except (TypeError, ValueError, OverflowError) as error:
        why = str(error)
    raise InvalidArgumentError(f"cannot be written as JSON: {why}", field="body")


def field_that_cannot_be_written(model: attrs.AttrsInstance) -> str | None:
    """The first of a model's fields that JSON cannot hold."""
    for field in attrs.fields(type(model)):
        value = getattr(model, field.name)
        try:
            if value is not UNSET:
                _encoder.encode(value)
        except (RecursionError, TypeError, ValueError, OverflowError):
            return str(field.name)
    return None


_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])


def are_json(documents: Sequence[bytes]) -> bool:
    """Whether each document is one of JSON."""
    try:
        return len(_ITEMS.decode(b"[%b]" % b",".join(documents))) == len(documents)
    except (msgspec.DecodeError, RecursionError):
        return False


def read(document: bytes, kind: type[T]) -> T:
    """Read what `encode` wrote."""
    return cast("T", _decoder(cast("Hashable", kind))(document))


@functools.cache
def _decoder(kind: Hashable) -> Callable[[bytes], object]:
    return msgspec.json.Decoder(cast("type[object]", kind), dec_hook=decode_other).decode


@attrs.frozen
class Unreadable:
    """Why a document cannot be read.

    Attributes:
        reason: What is wrong; shows no value.
        place: Where in the document (`$[3].id`), or `None` where the whole is none.
    """

    reason: str
    place: str | None


def parse(
    document: bytes, kind: type[T], *, headers: Mapping[str, str] | None = None
) -> T | Unreadable:
    """Read a document of somebody else; what is wrong with it is a value.

    Args:
        document: JSON, perhaps behind a byte order mark.
        kind: What it should hold.
        headers: Of the message; its `Content-Type` is named where it is no JSON.
    """
    document = document.removeprefix(_BOM)
    try:
        return cast("T", _decoder(cast("Hashable", kind))(document))
    except msgspec.ValidationError as error:
        text = str(error)
        match = _PLACE.search(text)
        place = match["place"] if match else "$"
        return Unreadable(f"{place}: {_PLACE.sub('', text)}", place)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        half_pair = _place_of_half_pair(document)
        if half_pair is not None:
            return Unreadable(f"{half_pair}: a text has half a surrogate pair in it", half_pair)
        content_type = None if headers is None else headers.get("Content-Type")
        return Unreadable(_not_json(document, content_type, error), None)


def _not_json(document: bytes, content_type: str | None, error: Exception) -> str:
    facts = [type(error).__name__, f"{len(document)} bytes"]
    media_type = _MEDIA_TYPE.match(content_type or "")
    if media_type:
        facts.append(f"Content-Type {media_type[0]}")
    reason = f"not JSON ({', '.join(facts)})"
    if _HTML.match(document) or (media_type and "html" in media_type[0].lower()):
        reason += ": an HTML page (a captive portal or a proxy?)"
    return reason


def _place_of_half_pair(document: bytes) -> str | None:
    """Where the first text stands that has half a surrogate pair.

    The codec refuses the whole document for it, and does not say where.
    """
    if rb"\u" not in document:
        return None
    try:
        waiting: list[tuple[str, object]] = [("$", json.loads(document))]
    except (ValueError, RecursionError):
        return None
    while waiting:  # a stack: a document may be deeper than calls can be
        place, value = waiting.pop()
        if isinstance(value, str) and _HALF_PAIR.search(value):
            return place
        waiting += reversed([*_parts(place, value)])
    return None


def _parts(place: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, list):
        for index, entry in enumerate(cast("list[object]", value)):
            yield f"{place}[{index}]", entry
    elif isinstance(value, dict):
        for name, entry in cast("dict[str, object]", value).items():
            yield place, name
            # A name that is none of a field may be a value, which no error shows.
            yield f"{place}.{name}" if _PLAIN_NAME.fullmatch(name) else f"{place}[...]", entry


def decode(
    response: httpx.Response,
    kind: type[T],
    *,
    method: str,
    path: str,
    attempts: int = 1,
    outcome_unknown: bool = False,
) -> T:
    """Read an answer.

    Raises:
        DecodeError: It is not JSON, or has another form; says where in the document.
    """
    result = parse(response.content, kind, headers=response.headers)
    if not isinstance(result, Unreadable):
        return result
    raise DecodeError(
        f"cannot read the answer: {result.reason}",
        response=response,
        document_path=result.place,
        method=method,
        path=path,
        attempts=attempts,
        outcome_unknown=outcome_unknown,
    )
