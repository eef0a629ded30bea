"""What an error says about the points of a request, and about those that follow."""

import enum
import re
from typing import Final

from flip_async.errors import (
    BadRequestError,
    ClientClosedError,
    DecodeError,
    FlipError,
    RateLimitError,
    ServerError,
    StatusError,
    TransportError,
    UnprocessableEntityError,
)

_PLACE: Final = re.compile(r"(?:body\.)?telemetry\.(?P<place>[0-9]{1,6})(?:\.(?P<field>.*))?$")


class OddAnswerError(FlipError):
    """An answer that says nothing of the points that were sent."""

    def __init__(self, count: int) -> None:
        super().__init__(f"the answer does not have one status for each of {count} points")


class BugError(FlipError):
    """Sending failed with something that is no error of HTTP."""

    def __init__(self, bug: Exception) -> None:
        super().__init__(f"sending failed with {type(bug).__name__}, which is no error of HTTP")
        self.__cause__ = bug


class Verdict(enum.Enum):
    """What to do after a request that failed."""

    PART = "part"
    """Some of its points may be to blame: send it in parts."""

    BACK_OFF = "back off"
    """Send it again after a pause."""

    STOP = "stop"
    """Nobody's point will pass: everything waits, and this is tried now and then."""

    ODD = "odd"
    """The answer makes no sense: it may have been carried out."""

    CLOSED = "closed"
    """The client is closed."""


def judge(error: FlipError) -> Verdict:
    """Tell what a failed request means [T2]."""
    match error:
        case BadRequestError() | UnprocessableEntityError():
            return Verdict.PART
        case StatusError() if error.status_code == 413:
            return Verdict.PART
        case RateLimitError() | ServerError() | TransportError() | BugError():
            return Verdict.BACK_OFF
        case DecodeError() | OddAnswerError():
            return Verdict.ODD
        case ClientClosedError():
            return Verdict.CLOSED
        case _:  # 401, 403, 404, TokenError, and what nobody has seen yet
            return Verdict.STOP


def named_points(error: FlipError) -> dict[int, str]:
    """Points that an answer names (`telemetry.17.duration_s`), by place, and what it says."""
    found: dict[int, list[str]] = {}
    for detail in error.details if isinstance(error, StatusError) else ():
        match = _PLACE.match(detail.field)
        if match is not None:
            found.setdefault(int(match["place"]), []).append(
                f"{match['field']}: {detail.message}" if match["field"] else detail.message
            )
    return {place: "; ".join(said) for place, said in found.items()}
