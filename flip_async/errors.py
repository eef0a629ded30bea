"""Every exception of flip_async.

```text
FlipError
├── ConfigurationError              what the client was made with cannot work
├── InvalidArgumentError            (ValueError) an argument is refused before any request
├── ClientClosedError               (RuntimeError) used after, or cut off by, `aclose()`
├── StatusError                     the API answered, and the answer is an error
│   ├── BadRequestError             400
│   ├── AuthenticationError         401
│   ├── PermissionDeniedError       403
│   ├── NotFoundError               404
│   ├── ConflictError               409
│   ├── UnprocessableEntityError    422
│   ├── RateLimitError              429
│   └── ServerError                 500 and above
├── TransportError                  no answer
│   ├── ConnectionFailedError       nothing was carried out, or repeating is harmless
│   ├── DeadlineError               (TimeoutError) the time for the call is over; as above
│   └── OutcomeUnknownError         the request was sent and may have been carried out
├── DecodeError                     an answer that cannot be read
├── TokenError                      no access token can be had
│   ├── TokenRequestError           the token endpoint refused
│   ├── TokenResponseError          its answer is no token
│   └── TokenUnavailableError       it could not be reached, or is overloaded
├── UndeliveredTelemetryError       accepted points could not be sent
├── WebhookError                    a webhook is refused
│   ├── WebhookHeaderError          one of its three headers is of no use
│   │   ├── MissingWebhookHeaderError     it is not there
│   │   └── MalformedWebhookHeaderError   it cannot be read
│   ├── WebhookSignatureError       it is not signed with a key of ours
│   ├── WebhookTimestampError       signed at another time than now
│   │   ├── WebhookTooOldError      too long ago
│   │   └── WebhookTooNewError      in the future
│   └── WebhookBodyError            signed well, but no event can be read from it
└── StorageError                    a file of points or webhooks cannot be read or written
    └── OutboxFullError             there is no room for more points
```
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final, Self, TypeVar

import httpx

from flip_async._backoff import retry_after_of
from flip_async._error_body import ErrorBody, FieldError
from flip_async._secret import secrets_of

__all__ = [
    "AuthenticationError",
    "BadRequestError",
    "ClientClosedError",
    "ConfigurationError",
    "ConflictError",
    "ConnectionFailedError",
    "DeadlineError",
    "DecodeError",
    "FieldError",
    "FlipError",
    "InvalidArgumentError",
    "MalformedWebhookHeaderError",
    "MissingWebhookHeaderError",
    "NotFoundError",
    "OutboxFullError",
    "OutcomeUnknownError",
    "PermissionDeniedError",
    "RateLimitError",
    "ServerError",
    "StatusError",
    "StorageError",
    "TokenError",
    "TokenRequestError",
    "TokenResponseError",
    "TokenUnavailableError",
    "TransportError",
    "UndeliveredTelemetryError",
    "UnprocessableEntityError",
    "WebhookBodyError",
    "WebhookError",
    "WebhookHeaderError",
    "WebhookSignatureError",
    "WebhookTimestampError",
    "WebhookTooNewError",
    "WebhookTooOldError",
    "from_response",
]

_E = TypeVar("_E", bound="FlipError")


class FlipError(Exception):
    """Base of all exceptions of flip_async.

    Attributes:
        message: What happened and, where there is one, the way out.
        method: HTTP method of the request, if there was one.
        path: Path of the request, if there was one.
        attempts: How often the request was sent, at least to the connection pool.
        retry_after_s: What the server asks to wait, in seconds, if it does.
        needed_for: The call that this request was made for, where it is another one
            (`GET /v1/site/hh-1042`, where a site's token could not be had).
    """

    message: str
    method: str | None
    path: str | None
    attempts: int
    retry_after_s: float | None = None
    needed_for: str | None = None

    def __init__(
        self, message: str, *, method: str | None = None, path: str | None = None, attempts: int = 0
    ) -> None:
        super().__init__(message)
        self.message = message
        self.method = method
        self.path = path
        self.attempts = attempts

    def __str__(self) -> str:
        where = f"{self.method} {self.path}: " if self.method else ""
        tries = f" (after {self.attempts} attempts)" if self.attempts > 1 else ""
        why = f" (needed for {self.needed_for})" if self.needed_for else ""
        return f"{where}{self.message}{tries}{why}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def again(self) -> Self:
        """A copy to raise in another task: a traceback belongs to one raise."""
        copy = _restore(type(self), self.args, dict(self.__dict__))
        if "__notes__" in self.__dict__:
            copy.__dict__["__notes__"] = list(self.__notes__)
        copy.__cause__ = self.__cause__
        copy.__suppress_context__ = self.__suppress_context__
        return copy

    def for_others(self) -> Self:
        """A copy to hand out: no traceback, whose locals may hold what nobody should see."""
        copy = self.again()
        copy.__cause__ = None
        copy.__context__ = None
        return copy

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), self.args, self._picklable_state())

    def _picklable_state(self) -> dict[str, object]:
        return dict(self.__dict__)


def _restore(kind: type[_E], args: tuple[object, ...], state: dict[str, object]) -> _E:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class ConfigurationError(FlipError):
    """What the client or the auth was made with cannot work; no request was made."""


class InvalidArgumentError(FlipError, ValueError):
    """An argument is refused before any request.

    Attributes:
        field: The argument or field, with its place in a list: `devices[2].type`.
    """

    field: str

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class ClientClosedError(FlipError, RuntimeError):
    """The client or the auth was closed before the call, or while it ran."""


class StatusError(FlipError):
    """The API answered with an error.

    Attributes:
        response: The answer. Its `request` carries the credential in its headers:
            do not print those. A pickled error has a copy without them.
        code: Flip's word for the error, if the body has one.
        details: What is wrong with which field, if the body says so.
        retry_after_s: What the server asks to wait, in seconds.
        outcome_unknown: The request may have been carried out all the same.
        not_retried: Why a 401 was not followed by a second attempt, if a reason
            other than the rules of `AuthenticationError` stood against it.
    """

    response: httpx.Response
    code: str | None
    details: tuple[FieldError, ...]
    outcome_unknown: bool
    not_retried: str | None

    def __init__(
        self,
        message: str,
        *,
        response: httpx.Response,
        method: str,
        path: str,
        attempts: int = 1,
        code: str | None = None,
        details: tuple[FieldError, ...] = (),
        retry_after_s: float | None = None,
        outcome_unknown: bool = False,
        not_retried: str | None = None,
    ) -> None:
        super().__init__(message, method=method, path=path, attempts=attempts)
        self.response = response
        self.code = code
        self.details = details
        self.retry_after_s = retry_after_s
        self.outcome_unknown = outcome_unknown
        self.not_retried = not_retried

    @property
    def status_code(self) -> int:
        """The HTTP status of the answer."""
        return self.response.status_code

    @property
    def request(self) -> httpx.Request:
        """The request that was answered."""
        return self.response.request

    def _picklable_state(self) -> dict[str, object]:
        return super()._picklable_state() | {"response": _without_headers(self.response)}


class BadRequestError(StatusError):
    """400: the server cannot make sense of the request."""


class AuthenticationError(StatusError):
    """401: the credential is refused, and a fresh one was refused too."""


class PermissionDeniedError(StatusError):
    """403: the credential is good, but not for this."""


class NotFoundError(StatusError):
    """404: there is no such site, device or other thing."""


class ConflictError(StatusError):
    """409: the request does not fit the present state."""


class UnprocessableEntityError(StatusError):
    """422: the server refuses fields of the request; `details` says which."""


class RateLimitError(StatusError):
    """429: too many requests; `retry_after_s` says when to come back."""


class ServerError(StatusError):
    """500 and above: the fault is the server's."""


class TransportError(FlipError):
    """No answer came."""


class ConnectionFailedError(TransportError):
    """No connection, or it was lost; nothing was carried out, or repeating is harmless."""


class DeadlineError(TransportError, TimeoutError):
    """A time limit is over; nothing was carried out, or repeating is harmless.

    It is the call's `deadline_s`, or the `timeout` of its last attempt.
    """


class OutcomeUnknownError(TransportError):
    """The request was sent and no answer came: it may have been carried out.

    Look at the state of things before you send it again.
    """


class DecodeError(FlipError):
    """The API's answer cannot be read.

    Attributes:
        response: The answer as it came.
        document_path: Where in the document the trouble is (`$[3].id`), or `None`
            where the whole cannot be read.
        outcome_unknown: It was carried out, and what became of it stood in the answer: a POST
            that is not safe to repeat.
    """

    response: httpx.Response
    document_path: str | None
    outcome_unknown: bool

    def __init__(
        self,
        message: str,
        *,
        response: httpx.Response,
        document_path: str | None,
        method: str,
        path: str,
        attempts: int = 1,
        outcome_unknown: bool = False,
    ) -> None:
        super().__init__(message, method=method, path=path, attempts=attempts)
        self.response = response
        self.document_path = document_path
        self.outcome_unknown = outcome_unknown

    def _picklable_state(self) -> dict[str, object]:
        return super()._picklable_state() | {"response": _without_headers(self.response)}


class TokenError(FlipError):
    """No access token can be had."""


class TokenRequestError(TokenError):
    """The token endpoint refused the request.

    Attributes:
        status_code: The HTTP status of the answer.
        error: The error code (`invalid_client`), if the body has one.
        error_description: The server's explanation, if there is one.
        error_uri: A page about the error, if there is one.

    Source:
        RFC 6749 section 5.2.
    """

    status_code: int
    error: str | None
    error_description: str | None
    error_uri: str | None

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        error: str | None = None,
        error_description: str | None = None,
        error_uri: str | None = None,
        attempts: int = 1,
    ) -> None:
        super().__init__(message, attempts=attempts)
        self.status_code = status_code
        self.error = error
        self.error_description = error_description
        self.error_uri = error_uri


class TokenResponseError(TokenError):
    """The token endpoint's answer is no token that can be used."""


class TokenUnavailableError(TokenError):
    """The token endpoint could not be reached, or is overloaded, for as long as we tried.

    Attributes:
        retry_after_s: What the server asked to wait, in seconds, if it did.
    """

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, attempts: int = 1
    ) -> None:
        super().__init__(message, attempts=attempts)
        self.retry_after_s = retry_after_s


class UndeliveredTelemetryError(FlipError):
    """Points that an uploader had accepted could not be sent before it was closed.

    Attributes:
        points: The points; some of them may have arrived all the same, where the text
            says so. `__cause__` is what stood against them.
    """

    points: Sequence[object]

    def __init__(self, message: str, *, points: Sequence[object]) -> None:
        super().__init__(message)
        self.points = points


class WebhookError(FlipError):
    """A webhook is refused: it is not Flip's, or cannot be read."""


class WebhookHeaderError(WebhookError):
    """One of the three headers of a webhook is of no use.

    Attributes:
        header: Its name: `Webhook-Id`, `Webhook-Timestamp` or `Webhook-Signature`.
    """

    header: str

    def __init__(self, message: str, *, header: str) -> None:
        super().__init__(f"{header} {message}")
        self.header = header


class MissingWebhookHeaderError(WebhookHeaderError):
    """A header of a webhook is absent or empty."""


class MalformedWebhookHeaderError(WebhookHeaderError):
    """A header of a webhook cannot be read."""


class WebhookSignatureError(WebhookError):
    """None of a webhook's signatures was made with a key of ours, over this body."""


class WebhookTimestampError(WebhookError):
    """A webhook is signed well, but at another time than now: it may be played back.

    Attributes:
        age_s: How long ago it was signed, by this machine's clock, in seconds; below 0 for
            one that is signed in the future.
    """

    age_s: float

    def __init__(self, message: str, *, age_s: float) -> None:
        super().__init__(message)
        self.age_s = age_s


class WebhookTooOldError(WebhookTimestampError):
    """A webhook was signed too long ago."""


class WebhookTooNewError(WebhookTimestampError):
    """A webhook was signed in the future."""


class WebhookBodyError(WebhookError):
    """A webhook is signed well, but no event can be read from its body.

    Attributes:
        document_path: Where in the body the trouble is (`$.event_object.id`), or `None`
            where the whole cannot be read.
    """

    document_path: str | None

    def __init__(self, message: str, *, document_path: str | None) -> None:
        super().__init__(message)
        self.document_path = document_path


class StorageError(FlipError):
    """What keeps points, webhooks or commands, a file or Redis, cannot be read or written."""


class OutboxFullError(StorageError):
    """There is no room for more points, and the outbox was told not to wait."""


_BY_STATUS: Final[dict[int, type[StatusError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}


def from_response(
    response: httpx.Response,
    *,
    method: str,
    path: str,
    wall_now_s: float,
    attempts: int = 1,
    outcome_unknown: bool = False,
    not_retried: str | None = None,
) -> StatusError:
    """Make the exception for an answer that is an error.

    Args:
        response: The answer, already read.
        method: HTTP method of the request.
        path: Path of the request.
        wall_now_s: Unix time in seconds, for a `Retry-After` that is a date.
        attempts: How often the request was sent.
        outcome_unknown: Whether it may have been carried out all the same.
        not_retried: Why a 401 was not followed by a second attempt.

    Returns:
        The exception, to be raised by the caller.
    """
    status = response.status_code
    kind = _BY_STATUS.get(status, ServerError if status >= 500 else StatusError)
    body = ErrorBody.read(response, *secrets_of(response.request.headers.get("Authorization", "")))
    text = f"{status} {_phrase(status)}".rstrip()
    if body.message:
        text = f"{text}: {body.message}"
    if not_retried:
        text = f"{text} ({not_retried})"
    return kind(
        text,
        response=response,
        method=method,
        path=path,
        attempts=attempts,
        code=body.code,
        details=body.details,
        retry_after_s=retry_after_of(response.headers, wall_now_s),
        outcome_unknown=outcome_unknown,
        not_retried=not_retried,
    )


def _phrase(status: int) -> str:
    # Not the server's own words: HTTP/1.1 lets it write anything there.
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _without_headers(response: httpx.Response) -> httpx.Response:
    """Copy a response; of its requests only method and URL stay, as headers hold a credential."""
    copy = httpx.Response.__new__(httpx.Response)
    copy.__setstate__(response.__getstate__())
    copy.request = httpx.Request(response.request.method, response.request.url)
    copy.history = _all_without_headers(response.history)
    copy.next_request = None
    return copy


def _all_without_headers(responses: Sequence[httpx.Response]) -> list[httpx.Response]:
    return [_without_headers(response) for response in responses]
