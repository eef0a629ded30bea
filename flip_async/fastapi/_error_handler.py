"""What the application answers where Flip did not do what it was asked."""

import logging
import math
from typing import Final

import attrs
from fastapi import Request, Response
from fastapi.responses import JSONResponse

from flip_async.errors import (
    ClientClosedError,
    ConflictError,
    DeadlineError,
    DecodeError,
    FlipError,
    InvalidArgumentError,
    NotFoundError,
    OutcomeUnknownError,
    RateLimitError,
    StatusError,
    StorageError,
    TokenError,
    TokenUnavailableError,
    TransportError,
    UnprocessableEntityError,
    WebhookBodyError,
    WebhookError,
    WebhookHeaderError,
)

logger: Final = logging.getLogger("flip_async.fastapi")

_UNKNOWN: Final = "it is not known whether this was carried out: look before you send it again"
_LATER: Final = "Flip cannot be asked now: try again later"


@attrs.frozen
class Answer:
    """What to answer.

    Attributes:
        status: HTTP status.
        detail: What is wrong, for whoever asked the application; no word of it is Flip's.
        retry_after_s: When to come again, in seconds, if that is known.
    """

    status: int
    detail: str
    retry_after_s: float | None = None


async def flip_error_handler(request: Request, error: Exception) -> Response:
    """Answer for an error of Flip's that a route let out.

    `app.add_exception_handler(FlipError, flip_error_handler)` installs it. What is answered
    stands in `docs/how-to/serve-with-fastapi.md`: the body is `{"detail": "..."}` as FastAPI's
    own, with a fixed text; neither a credential nor Flip's own words go out. They are logged.
    An error of the application itself, such as a `ConfigurationError`, is raised again.

    Args:
        request: What was asked of the application.
        error: What came of it.

    Returns:
        The answer.
    """
    answer = answer_to(error) if isinstance(error, FlipError) else None
    if answer is None or request.scope["type"] != "http":
        raise error  # a bug looks like one; a WebSocket has its own way to end
    level = logging.WARNING if answer.status >= 500 else logging.INFO
    logger.log(level, "answered %d: %s: %s", answer.status, type(error).__name__, error)
    headers = {}
    if answer.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(max(answer.retry_after_s, 0.0)))
    return JSONResponse({"detail": answer.detail}, status_code=answer.status, headers=headers)


def answer_to(error: FlipError) -> Answer | None:
    """What an error is to whoever asked the application; `None` for one of the application's.

    The credential is the application's: that Flip refuses it is a 502 and no 401, which would
    send a user to the login. An answer that may be waited for and repeated is a 503.
    """
    match error:
        case InvalidArgumentError():
            return Answer(422, str(error))
        case StatusError():
            return _to_status(error)
        case OutcomeUnknownError() | DecodeError(outcome_unknown=True):
            return Answer(502, _UNKNOWN)
        case DeadlineError():
            return Answer(504, "Flip did not answer in time")
        case TransportError() | DecodeError():
            return Answer(502, "Flip did not answer, or not as it should")
        case TokenUnavailableError():
            return Answer(503, _LATER, error.retry_after_s)
        case TokenError():
            return Answer(502, "Flip refuses this application")
        case ClientClosedError() | StorageError():
            return Answer(503, "the application cannot take this now: try again later")
        case WebhookError():
            is_unreadable = isinstance(error, WebhookHeaderError | WebhookBodyError)
            return Answer(400 if is_unreadable else 401, "the webhook is refused")
        case _:
            return None


def _to_status(error: StatusError) -> Answer:
    if error.outcome_unknown:
        return Answer(504 if error.status_code == 504 else 502, _UNKNOWN)
    match error:
        case NotFoundError():
            return Answer(404, "Flip does not know this")
        case ConflictError():
            return Answer(409, "Flip says that this does not fit the present state")
        case UnprocessableEntityError():
            return Answer(422, "Flip refuses the data")
        case RateLimitError() | StatusError(status_code=503):
            return Answer(503, _LATER, error.retry_after_s)
        case StatusError(status_code=504):
            return Answer(504, "Flip did not answer in time")
        case StatusError(status_code=401 | 403):
            return Answer(502, "Flip refuses this application")
        case _:
            return Answer(502, "Flip did not answer, or not as it should")
