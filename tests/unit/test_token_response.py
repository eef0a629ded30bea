"""What the token endpoint answers, and what is made of it [A11]."""

import json
import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from flip_async._auth._token import Token, parse_token_response
from flip_async.errors import TokenResponseError

THIRTY_DAYS_S = 30 * 24 * 3600


def read(content: bytes) -> Token | TokenResponseError:
    return parse_token_response(content, issued_at=1000.0, default_lifetime_s=300.0)


def parse(content: bytes) -> Token:
    token = read(content)
    assert isinstance(token, Token)
    return token


def refusal(content: bytes) -> TokenResponseError:
    error = read(content)
    assert isinstance(error, TokenResponseError)
    return error


def answer(**fields: object) -> bytes:
    return json.dumps({"access_token": "at_secret", "token_type": "Bearer", **fields}).encode()


@pytest.mark.parametrize(
    ("expires_in", "lifetime_s"),
    [
        (3600, 3600),
        (0.5, 0.5),
        ("3600", 3600),
        ("0060", 60),
        (None, 300),
        (31 * 24 * 3600, THIRTY_DAYS_S),
        (10**400, THIRTY_DAYS_S),
        ("9" * 5000, THIRTY_DAYS_S),
        ("9999999999", THIRTY_DAYS_S),
    ],
)
def test_a_life_time_is_read(expires_in: object, lifetime_s: float) -> None:
    """A number, or ASCII digits; more than 30 days counts as 30 days."""
    assert parse(answer(expires_in=expires_in)).lifetime_s == lifetime_s


def test_an_absent_life_time_is_the_default() -> None:
    """`default_lifetime_s`."""
    assert parse(answer()).lifetime_s == 300


@pytest.mark.parametrize(
    "expires_in", [0, -1, "0", "-5", "soon", "1e3", "٣٦٠٠", "", True, [], {}, math.nan, math.inf]
)
def test_an_odd_life_time_is_an_error_that_shows_its_shape(expires_in: object) -> None:
    """Never the token; nor is it raised here, where a traceback would have it in its locals."""
    error = refusal(answer(expires_in=expires_in))

    assert "expires_in" in str(error)
    assert "at_secret" not in str(error)
    assert error.__traceback__ is None
    assert error.__cause__ is None
    assert error.__context__ is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"welcome",
        b"\xff\xfe",
        b"[]",
        b'"at_secret"',
        b"null",
        b"[" * 100_000,
        b'{"access_token": "at_secret"',
        answer(access_token=None),
        answer(access_token=""),
        answer(access_token=7),
        answer(access_token="at_secret\nX: y"),
        answer(access_token="at secret"),
        answer(token_type="mac"),
        answer(token_type=1),
    ],
)
def test_what_is_no_token_is_an_error_that_does_not_show_it(content: bytes) -> None:
    """The document is not chained either: it would carry the token [B10]."""
    error = refusal(content)

    assert "at_secret" not in str(error)
    assert error.__traceback__ is None
    assert error.__cause__ is None
    assert error.__context__ is None


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER", None])
def test_the_token_type_is_bearer_in_any_case(token_type: object) -> None:
    """RFC 6749 section 5.1: case insensitive; absent is read as Bearer."""
    assert parse(answer(token_type=token_type)).authorization() == "Bearer at_secret"


def test_unknown_fields_are_ignored_and_the_scope_kept() -> None:
    """A newer server never breaks a client."""
    token = parse(answer(scope="read write", refresh_token="x", more={"a": 1}))

    assert token.scope == "read write"
    assert token.expires_at == 1300


def test_a_token_never_shows_itself() -> None:
    """[A17]."""
    token = parse(answer())

    assert "at_secret" not in f"{token} {token!r}"


@given(st.binary(max_size=200))
def test_no_answer_raises(content: bytes) -> None:
    """Hostile input gives one kind of error, as a value."""
    assert isinstance(read(content), Token | TokenResponseError)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(
    st.fixed_dictionaries(
        {}, optional={"access_token": JSON, "token_type": JSON, "expires_in": JSON}
    )
)
def test_no_document_raises(document: dict[str, object]) -> None:
    """What is accepted has a finite life and a header value."""
    token = read(json.dumps(document).encode())

    if isinstance(token, TokenResponseError):
        return
    assert 0 < token.lifetime_s <= THIRTY_DAYS_S
    assert token.authorization().isascii()
