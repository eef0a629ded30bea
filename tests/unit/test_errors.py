"""Exceptions: what they tell, and what they never show [R2]."""

import pickle
import traceback
from typing import Any

import httpx
import pytest

from flip_async import errors
from flip_async.errors import FieldError, FlipError, StatusError, from_response

SECRET = "fl_your_api_key"


def answer(status: int = 404, *, method: str = "GET", **kwargs: Any) -> httpx.Response:
    request = httpx.Request(
        method,
        "https://api.flip.energy/v1/site/hh-1042",
        headers={"Authorization": f"Bearer {SECRET}"},
    )
    return httpx.Response(status, request=request, **kwargs)


def error(response: httpx.Response, **kwargs: Any) -> StatusError:
    return from_response(
        response, method="GET", path="/v1/site/hh-1042", wall_now_s=1_750_000_000.0, **kwargs
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, errors.StatusError),
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (409, errors.ConflictError),
        (418, errors.StatusError),
        (422, errors.UnprocessableEntityError),
        (429, errors.RateLimitError),
        (500, errors.ServerError),
        (599, errors.ServerError),
    ],
)
def test_each_status_has_its_class(status: int, kind: type[StatusError]) -> None:
    found = error(answer(status))

    assert type(found) is kind
    assert found.status_code == status
    assert found.request.method == "GET"


def test_the_text_says_what_happened_to_what() -> None:
    assert str(error(answer(404))) == "GET /v1/site/hh-1042: 404 Not Found"
    assert str(error(answer(503), attempts=4)).endswith(
        "503 Service Unavailable (after 4 attempts)"
    )


@pytest.mark.parametrize(
    ("body", "text", "code"),
    [
        ({"code": "UNAUTHORIZED", "message": "no", "status_code": 401}, "no", "UNAUTHORIZED"),
        ({"code": "X", "error": "Bad Request", "message": "m", "statusCode": 400}, "m", "X"),
        ({"error": "Bad Request"}, "Bad Request", None),
        ({"detail": "Not authenticated"}, "Not authenticated", None),
        ([1], "", None),
        ({"message": 7, "code": 3, "detail": 5, "errors": {}}, "", None),
    ],
)
def test_every_shape_of_body_is_read(body: object, text: str, code: str | None) -> None:
    """Reference, section 5."""
    found = error(answer(400, json=body))

    assert found.message == ("400 Bad Request: " + text).removesuffix(": ")
    assert found.code == code


@pytest.mark.parametrize("content", [b"", b"<html>", b"\xff", b"[" * 100_000])
def test_a_body_that_is_not_json_is_no_trouble(content: bytes) -> None:
    assert error(answer(500, content=content)).message == "500 Internal Server Error"


@pytest.mark.parametrize(
    "body",
    [
        {"detail": [{"loc": ["body", "devices", "0", "type"], "msg": "wrong", "type": "enum"}]},
        {"errors": [{"path": "devices.0.type", "message": "wrong", "type": "enum"}]},
        {
            "detail": [{"loc": ["body", "devices", 0, "type"], "msg": "wrong", "type": "enum"}],
            "errors": [{"path": "devices.0.type", "message": "wrong"}],
        },
    ],
)
def test_field_errors_come_in_one_shape(body: object) -> None:
    found = error(answer(422, json=body))

    assert found.details == (FieldError("devices.0.type", "wrong", "enum"),)
    assert "devices.0.type: wrong" in str(found)


def test_odd_field_errors_are_no_trouble() -> None:
    found = error(answer(422, json={"detail": [1, {}, {"loc": ["path"]}, {"loc": "x", "msg": 3}]}))

    assert [detail.field for detail in found.details] == ["", "path", ""]


def test_a_server_that_echoes_the_credential_does_not_make_us_show_it() -> None:
    """[A17]."""
    found = error(answer(401, json={"message": f"the token {SECRET} is not valid"}))

    assert SECRET not in str(found)
    assert "the token *** is not valid" in str(found)


def test_a_pickled_error_has_method_and_url_and_no_header() -> None:
    """Nor have the requests in its response's history."""
    response = answer(401, json={"message": "no"})
    response.history = [answer(401)]
    response.next_request = response.request
    found = error(response, attempts=2)
    found.add_note("a note")

    data = pickle.dumps(found)
    again = pickle.loads(data)

    assert SECRET.encode() not in data
    assert type(again) is errors.AuthenticationError
    assert str(again) == str(found)
    assert again.request.method == "GET"
    assert again.request.url == found.request.url
    assert again.response.json() == {"message": "no"}
    assert again.response.history[0].request.url == found.request.url
    assert again.attempts == 2
    assert again.__notes__ == ["a note"]
    assert found.request.headers["Authorization"], "the error itself is untouched"


EVERY: list[FlipError] = [
    errors.ConfigurationError("x"),
    errors.InvalidArgumentError("is wrong", field="devices[2].type"),
    errors.ClientClosedError("x", method="GET", path="/v1"),
    error(answer(429, headers={"Retry-After": "3"})),
    errors.ConnectionFailedError("x", attempts=3),
    errors.DeadlineError("x", method="GET", path="/v1", attempts=2),
    errors.OutcomeUnknownError("x"),
    errors.DecodeError(
        "x", response=answer(200), document_path="$[3].id", method="GET", path="/v1"
    ),
    errors.TokenRequestError("x", status_code=401, error="invalid_client"),
    errors.TokenResponseError("x"),
    errors.TokenUnavailableError("x", retry_after_s=3.0),
]


@pytest.mark.parametrize("found", EVERY, ids=lambda found: type(found).__name__)
def test_every_error_survives_pickling_and_repeating(found: FlipError) -> None:
    def facts(error: FlipError) -> dict[str, object]:
        return {k: v for k, v in vars(error).items() if k != "response"}

    for copy in (pickle.loads(pickle.dumps(found)), found.again()):
        assert type(copy) is type(found)
        assert copy is not found
        assert str(copy) == str(found)
        assert facts(copy) == facts(found)


def test_an_error_raised_again_has_a_traceback_of_its_own() -> None:
    """One exception object is raised in one task."""
    try:
        raise errors.TokenResponseError("x") from ValueError("why")
    except errors.TokenResponseError as caught:
        caught.add_note("one")
        again = caught.again()

    again.add_note("two")

    assert again.__traceback__ is None
    assert isinstance(again.__cause__, ValueError)
    assert again.__notes__ == ["one", "two"]
    assert "why" in "".join(traceback.format_exception(again))


def test_some_errors_are_built_in_ones_too() -> None:
    assert issubclass(errors.DeadlineError, TimeoutError)
    assert issubclass(errors.InvalidArgumentError, ValueError)
    assert issubclass(errors.ClientClosedError, RuntimeError)


def test_the_reason_against_a_second_attempt_is_told() -> None:
    """[A14]."""
    found = error(answer(401), not_retried="its body can be read only once")

    assert found.not_retried == "its body can be read only once"
    assert "401 Unauthorized (its body can be read only once)" in str(found)


def test_a_retry_after_is_read_into_the_error() -> None:
    assert error(answer(429, headers={"Retry-After": "12"})).retry_after_s == 12
    assert error(answer(429)).retry_after_s is None
