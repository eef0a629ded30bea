"""An operation of the API as data."""

import re
from typing import Any, Final, Generic, Literal, TypeVar, cast

import attrs

from flip_async._checks import path_segment

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
TokenKind = Literal["client", "site"]
"""Whose credential a request carries: the organisation's, or one site's."""

NO_CONTENT: Final = type(None)
"""What an endpoint returns whose answer has no body."""

# To users these are `object`, which they have to look at; to the codec `Any`.
JSON_OBJECT: Final = cast("type[dict[str, object]]", dict[str, Any])
"""What an endpoint returns whose answer is not documented."""

ANY_JSON: Final = cast("type[object]", Any)
"""What an endpoint returns whose answer is not documented at all."""

T_co = TypeVar("T_co", covariant=True)
_PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")


@attrs.frozen(kw_only=True)
class Endpoint(Generic[T_co]):
    """What is needed to call an operation, and to read its answer.

    Attributes:
        method: HTTP method.
        path: Path as the API's reference prints it, with placeholders (`/v1/site/{siteId}`).
        token: The credential that it takes.
        returns: Type of the answer; `None` where there is none.
        safe_to_repeat: Why a POST does no harm when it is carried out twice; `None`
            where that is not known. Other methods set or read a state.
    """

    method: Method
    path: str
    token: TokenKind
    returns: type[T_co]
    safe_to_repeat: str | None = None

    @property
    def idempotent(self) -> bool:
        """Whether sending twice is known to be the same as sending once."""
        return self.method != "POST" or self.safe_to_repeat is not None

    def fill(self, *ids: str) -> str:
        """The path with ids in the order of its placeholders, percent-encoded.

        Raises:
            InvalidArgumentError: An id is empty, `.` or `..`, or no str: the path would
                be another endpoint's.
        """
        if not ids:
            return self.path
        values = iter(ids)
        return _PLACEHOLDER.sub(lambda match: path_segment(next(values), match[1]), self.path)
