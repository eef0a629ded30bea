"""How a subcommand that talks to Flip runs, and ends."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from cyclopts import Parameter

from flip_async import errors
from flip_async._cli._console import TERMINATED, until_stopped
from flip_async._cli._output import complain

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON, for programs.")]

FINE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130

_DOCTOR: Final = "`flip doctor` finds out why"
_ADVICE: Final[tuple[tuple[type[errors.FlipError], str], ...]] = (
    (errors.AuthenticationError, f"the credential is refused: {_DOCTOR}"),
    (errors.PermissionDeniedError, "the credential is good, but not for this"),
    (errors.OutcomeUnknownError, "it may have been carried out: look before you send it again"),
    (errors.TransportError, _DOCTOR),
    (errors.TokenError, _DOCTOR),
    (errors.DecodeError, f"is it Flip that answers? {_DOCTOR}"),
)


class UsageError(Exception):
    """What was given cannot work; nothing was sent. Says the way out."""


def cannot_listen(host: str, port: int, error: OSError) -> int:
    """Tell that a server cannot begin; gives the exit code."""
    reason = "is taken: try --port 0" if error.errno == errno.EADDRINUSE else str(error)
    complain(f"flip: cannot listen on {host}:{port}: {reason}")
    return FAILED


def operate(work: Callable[[], Awaitable[int]]) -> int:
    """Run something that can be stopped by Ctrl-C or SIGTERM; tell an error in one line.

    Args:
        work: Does, outside of the event loop, what blocks, and gives what is to be awaited: the
            exit code.

    Returns:
        The exit code: 0, or 1 where it failed, 2 where it cannot work as it is called or
        configured, 130 after Ctrl-C, 143 after SIGTERM.
    """
    try:
        job = work()
        return until_stopped(lambda: job)
    except KeyboardInterrupt:
        complain("stopped")
        return INTERRUPTED
    except asyncio.CancelledError:
        complain("stopped by SIGTERM")
        return TERMINATED
    except (UsageError, errors.ConfigurationError, errors.InvalidArgumentError) as error:
        complain(f"flip: {error}")
        return USAGE
    except errors.FlipError as error:
        complain(f"flip: {described(error)}")
        return FAILED


def described(error: errors.FlipError) -> str:
    """An error, and what to do about it."""
    advice = next((text for kind, text in _ADVICE if isinstance(error, kind)), "")
    return f"{type(error).__name__}: {error}" + (f" ({advice})" if advice else "")
