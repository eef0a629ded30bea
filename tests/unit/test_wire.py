"""What JSON cannot hold, and what comes instead of JSON."""

import math
from typing import Any

import httpx
import pytest

from flip_async._wire import Unreadable, decode, encode, parse
from flip_async.errors import DecodeError, InvalidArgumentError
from flip_async.models import FleetData, FleetRecord

PAGE = b"<!doctype html><title>Sign in</title>"


def refused(content: bytes, kind: type[Any] = list, content_type: str = "") -> DecodeError:
    headers = {"Content-Type": content_type} if content_type else {}
    request = httpx.Request("GET", "https://api.flip.energy/v1/sites")
    response = httpx.Response(200, content=content, headers=headers, request=request)
    with pytest.raises(DecodeError) as caught:
        decode(response, kind, method="GET", path="/v1/sites")
    return caught.value


def test_a_byte_order_mark_is_no_part_of_the_document() -> None:
    """RFC 8259 section 8.1 lets a parser ignore it."""
    response = httpx.Response(200, content=b'\xef\xbb\xbf["a"]')

    assert decode(response, list[str], method="GET", path="/") == ["a"]
    assert parse(b"\xef\xbb\xbf[]", list[str]) == []
    assert isinstance(parse(b"[\xef\xbb\xbf]", list[str]), Unreadable)


@pytest.mark.parametrize(
    "page",
    [PAGE, b"<HTML><body>", b"\r\n  <!DOCTYPE HTML PUBLIC>", b"\xef\xbb\xbf<html lang=en>"],
)
def test_a_page_is_called_one_whatever_its_type(page: bytes) -> None:
    error = refused(page, content_type="application/json")

    assert "an HTML page (a captive portal or a proxy?)" in str(error)
    assert "Content-Type application/json" in str(error)
    assert error.document_path is None


def test_a_page_is_called_one_by_its_type() -> None:
    assert "an HTML page" in str(refused(b"Sign in", content_type="Text/HTML; charset=utf-8"))
    assert "an HTML page" in str(refused(b"<?xml?>", content_type="application/xhtml+xml"))


def test_what_is_no_json_is_told_with_its_content_type() -> None:
    error = refused(b"busy", content_type="text/plain; charset=utf-8")

    assert "not JSON (DecodeError, 4 bytes, Content-Type text/plain)" in str(error)
    assert "HTML" not in str(error)


@pytest.mark.parametrize("content_type", ["", "nonsense", "\x00/\x00", "é/é"])
def test_a_content_type_that_is_none_is_not_shown(content_type: str) -> None:
    reason = parse(b"busy", list, headers={"Content-Type": content_type} if content_type else {})

    assert reason == Unreadable("not JSON (DecodeError, 4 bytes)", None)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (rb'"\ud83d"', "$"),
        (rb'[{"id": "a"}, {"first_name": "\ud83d"}]', "$[1].first_name"),
        (rb'{"a": {"b": [1, null, "\udc00x"]}, "c": "\ud83d"}', "$.a.b[2]"),
        (rb'{"Ines Bauer": "\ud83d"}', "$[...]"),
        (rb'{"a": {"\ud83d": 1}}', "$.a"),
        (rb'["\ud83d\ude00", "\ud83dx"]', "$[1]"),
        (b"\xef\xbb\xbf" + rb'["\ud83d"]', "$[0]"),
    ],
)
def test_half_a_surrogate_pair_is_told_with_its_place(content: bytes, place: str) -> None:
    """It makes a whole list unreadable: whoever sent it has to find it."""
    error = refused(content, kind=object)

    assert error.document_path == place
    assert f"{place}: a text has half a surrogate pair in it" in str(error)
    assert "Ines" not in str(error)


@pytest.mark.parametrize(
    "content",
    [
        rb'["\ud83d"',
        rb'["\ud83d", ' + b"9" * 5000 + b"]",
        rb'["\ud83d", ' + b"[" * 100_000,
        rb'[1, "\uzzzz"]',
        rb'["\ud83d\ude00", }',
    ],
)
def test_what_is_broken_elsewhere_too_is_no_json(content: bytes) -> None:
    """Looking for the place is no new way to fail."""
    error = refused(content, kind=object)

    assert error.document_path is None
    assert "not JSON" in str(error)


def circle() -> dict[str, object]:
    found: dict[str, object] = {}
    found["self"] = [found]
    return found


def deep(levels: int = 100_000) -> list[object]:
    found: list[object] = []
    for _ in range(levels):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (circle(), "contains itself"),
        (deep(), "too deep"),
        ("\ud83d", "half a surrogate pair"),
        ({"\ud83d": 1}, "half a surrogate pair"),
        (10**5000, "limit .* digits"),
        ({(1, 2): 3}, "tuple is unknown to JSON"),
        (object(), "object is unknown to JSON"),
        (1j, "complex is unknown to JSON"),
    ],
    ids=["circle", "deep", "half", "half-name", "digits", "tuple-name", "object", "complex"],
)
def test_a_body_that_json_cannot_hold_is_an_invalid_argument(value: object, why: str) -> None:
    """Bare, or within a model."""
    bodies: list[object] = [
        value,
        [value],
        {"a": value},
        FleetData(records=[FleetRecord(external_id="a", data={"b": value})]),
    ]
    for body in bodies:
        with pytest.raises(InvalidArgumentError, match=why) as caught:
            encode(body)

        assert caught.value.field == "body"
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_has_not_is_told_with_its_place(value: float) -> None:
    with pytest.raises(InvalidArgumentError, match="is finite") as caught:
        encode(value)

    assert caught.value.field == "body"
