"""Credentials as they are given: a text, or a callable that reads a secrets manager."""

import inspect
from collections.abc import Awaitable, Callable
from functools import partial

from flip_async._aio._callbacks import UserCodeError, limited
from flip_async._aio._tasks import in_thread
from flip_async._checks import conceal
from flip_async._secret import Secret
from flip_async._secret_file import SecretFile
from flip_async.errors import TokenUnavailableError

CredentialSource = Callable[[], str | Awaitable[str]]
"""A callable, sync or async, that gives a credential."""

Clean = Callable[..., Secret]


async def ask(source: CredentialSource, *, field: str, clean: Clean, within_s: float) -> Secret:
    """Call a credential's callable; a sync one runs in a thread of its own.

    Raises:
        TokenUnavailableError: It raised, whose exception is the cause, or took too long.
        ConfigurationError: What it gave is no credential.
    """
    if isinstance(source, SecretFile):
        field = source.field
    reason: str
    cause: Exception | None = None
    try:
        return clean(await limited(partial(_call, source), within_s=within_s), field=field)
    except UserCodeError as error:
        reason = str(error)
    except _Raised as raised:
        if isinstance(source, SecretFile):
            cause = raised.error
            raise TokenUnavailableError(str(cause)) from None
        reason, cause = f"raised {type(raised.error).__name__}", raised.error
    raise TokenUnavailableError(f"the callable given as {field} {reason}") from cause


class _Raised(Exception):  # noqa: N818  # carries what somebody else raised
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


async def _call(source: CredentialSource) -> object:
    try:
        if inspect.iscoroutinefunction(source):
            return conceal(await source())
        value = await in_thread(source, name="credential")
        return conceal(await value if inspect.isawaitable(value) else value)
    except Exception as error:  # the user's own code may raise anything
        raised = _Raised(error)
    raise raised
