"""What the life cycle is told, and what it decides: small frozen values."""

import enum
from typing import NamedTuple, Protocol

import attrs

from flip_async._auth._token import Token
from flip_async._backoff import Backoff
from flip_async._clock import Instant
from flip_async.errors import FlipError

Route = tuple[str, bytes]
"""Method and path of a request."""


class Age(enum.Enum):
    """How old a token is."""

    ABSENT = "absent"
    FRESH = "fresh"
    STALE = "stale"
    EXPIRED = "expired"


class Use(NamedTuple):
    """Go on with this token; where `refresh` is true, start a refresh beside the request."""

    token: Token
    refresh: bool = False


@attrs.frozen
class Wait:
    """Wait for a refresh, and start one where none runs."""


@attrs.frozen
class Refuse:
    """Fail at once, with this error: the next try is not due."""

    error: FlipError


@attrs.frozen
class Pause:
    """Try again after so many seconds.

    Attributes:
        seconds: How long.
        wakeable: A request that has no token may end the pause early.
    """

    seconds: float
    wakeable: bool


@attrs.frozen
class GiveUp:
    """The refresh has failed; whoever waits gets the error."""


@attrs.frozen
class Obtained:
    """A token that was had, and the moment from which its life counts on our clocks."""

    token: Token
    issued: Instant


@attrs.frozen
class Failure:
    """One attempt to get a token that did not work out.

    Attributes:
        error: What to raise, should this be the last attempt.
        retryable: Whether another attempt may help (no answer, 429, 5xx).
        retry_after_s: What the server asks to wait, in seconds.
        remembered: Whether requests that follow shortly fail with it too; not where
            somebody else, who remembers himself, has failed.
    """

    error: FlipError
    retryable: bool
    retry_after_s: float | None = None
    remembered: bool = True


@attrs.frozen(kw_only=True)
class Policy:
    """Numbers of the rules.

    Attributes:
        refresh_ratio: Share of its life after which a token is stale, above 0, at most 1.
        backoff: Pauses between attempts.
        budget_s: How long waiting requests may be kept by failing attempts, in seconds.
        refused_first_s: How long a refusal is remembered at first [A10].
        refused_cap_s: How long at most.
        repeat_same: Whether a request is worth repeating with a token that came back
            unchanged after a 401: yes for an access token, no for an API key [A18].
    """

    refresh_ratio: float = 0.8
    backoff: Backoff = attrs.field(factory=Backoff)
    budget_s: float = 30.0
    refused_first_s: float = 5.0
    refused_cap_s: float = 60.0
    repeat_same: bool = True


class TokenSource(Protocol):
    """Where the tokens of an auth come from."""

    @property
    def identity(self) -> str:
        """Tells this credential from others, in stores too, with no secret in it."""
        ...

    async def fetch(self, within_s: float) -> Obtained | Failure:
        """Ask for a token, once, for so long at the most."""
        ...
