"""One attempt: the only place that knows the exceptions of the HTTP stack [B2]."""

import ssl
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Final, NamedTuple

import anyio
import attrs
import httpx

from flip_async._secret import Secret, scrub, secrets_of
from flip_async._transport._progress import EXTENSION, Progress
from flip_async._transport._reading import UnreadableError
from flip_async.errors import FlipError

Send = Callable[[httpx.Request], Awaitable[httpx.Response]]
"""Sends a request once and gives the answer, read to its end."""

SendSigned = Callable[[httpx.Request, Send], Awaitable[httpx.Response]]
"""Sends a request with a credential."""

_OUR_MISTAKE: Final = (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL)
_CERTIFICATE: Final = "CERTIFICATE_VERIFY_FAILED"


class HttpClientClosedError(Exception):
    """The user's own client was closed."""


@attrs.frozen(kw_only=True)
class NoAnswer:
    """No answer came.

    Attributes:
        reason: Why; holds nothing of the request.
        may_have_arrived: Whether it may have been carried out.
        is_worth_repeating: Whether another attempt may end otherwise.
        timed_out: A limit of time ended it.
    """

    reason: str
    may_have_arrived: bool
    is_worth_repeating: bool = True
    timed_out: bool = False


@attrs.frozen
class Unreadable:
    """An answer came, so the request was carried out, and it cannot be read.

    Attributes:
        response: The answer, with its body as it came.
        reason: What is wrong with it.
    """

    response: httpx.Response
    reason: str


Attempted = httpx.Response | Unreadable | NoAnswer


async def attempt(send: Send, request: httpx.Request, *secrets: Secret) -> Attempted:
    """Send a request once; what became of it is a value.

    Args:
        send: Sends it.
        request: What to send.
        *secrets: What it holds beside its `Authorization`, should somebody echo it.

    Returns:
        An answer, or why there is none.

    Raises:
        FlipError: Of the credential, which remembers its own trouble.
        Exception: A bug looks like a bug.
    """
    worst: BaseException
    try:
        return await send(request)
    except UnreadableError as error:
        return Unreadable(error.response, error.reason)
    except FlipError:
        raise
    except BaseExceptionGroup as group:
        worst = _worst_of(group)  # several connections failed, or it wraps a bug
    except Exception as raised:
        worst = raised
    # Left before anything else is raised: a chain would lead to the request, and its secrets.
    found = _what_became(worst, request, secrets)
    if found is None:
        raise worst
    return found


def _worst_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    leaves = [
        _worst_of(error) if isinstance(error, BaseExceptionGroup) else error
        for error in group.exceptions
    ]
    return next((error for error in leaves if not is_weather(error)), leaves[0])


def _what_became(
    error: BaseException, request: httpx.Request, secrets: tuple[Secret, ...]
) -> NoAnswer | None:
    name = type(error).__name__
    if isinstance(error, _OUR_MISTAKE):
        # Its text may quote a header.
        return NoAnswer(reason=name, may_have_arrived=False, is_worth_repeating=False)
    if isinstance(error, HttpClientClosedError):
        return NoAnswer(
            reason="the http_client is closed", may_have_arrived=True, is_worth_repeating=False
        )
    if not is_weather(error):
        return None
    text = scrub(str(error), *secrets_of(request.headers.get("Authorization", "")), *secrets)
    return NoAnswer(
        reason=f"{name}: {text}" if text else name,
        may_have_arrived=_may_have_arrived(error, request),
        is_worth_repeating=not (
            _is_about_certificate(error)
            or isinstance(error, httpx.TooManyRedirects | httpx.DecodingError)
        ),
        timed_out=isinstance(error, _kinds().timeouts),
    )


def _may_have_arrived(error: BaseException, request: httpx.Request) -> bool:
    if isinstance(error, _kinds().before_sending):
        return False
    progress = request.extensions.get(EXTENSION)
    return progress.may_have_arrived if isinstance(progress, Progress) else True


def _is_about_certificate(error: BaseException) -> bool:
    """The next attempt would be shown the same certificate."""
    cause: BaseException | None = error
    seen: set[int] = set()  # causes may go in a circle, as those of a mock do
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, ssl.SSLCertVerificationError) or _CERTIFICATE in str(cause):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False


def is_weather(error: BaseException) -> bool:
    """Whether it is what networks do, and nobody's bug."""
    return isinstance(error, _kinds().weather)


class _Kinds(NamedTuple):
    """Kinds of exceptions; httpcore's and h11's too, which a user's transport may let out."""

    weather: tuple[type[BaseException], ...]
    before_sending: tuple[type[BaseException], ...]
    timeouts: tuple[type[BaseException], ...]


@cache
def _kinds() -> _Kinds:
    # Asked for in trouble alone: httpx loads these two itself, and late.
    import h11
    import httpcore

    return _Kinds(
        weather=(
            httpx.HTTPError,
            OSError,  # ssl.SSLError and TimeoutError are two of its kinds
            EOFError,
            h11.ProtocolError,
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.ProxyError,
            httpcore.TimeoutException,
            anyio.BrokenResourceError,
            anyio.ClosedResourceError,
            anyio.EndOfStream,
        ),
        before_sending=(
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.ProxyError,
            httpcore.ConnectError,
            httpcore.ConnectTimeout,
            httpcore.PoolTimeout,
            httpcore.ProxyError,
        ),
        timeouts=(httpx.TimeoutException, httpcore.TimeoutException, TimeoutError),
    )
