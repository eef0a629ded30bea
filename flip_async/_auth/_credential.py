"""Credentials as they are given: a text, or a callable that reads a secrets manager."""

import inspect
import re
from collections.abc import Awaitable, Callable
from typing import Final, cast

import anyio.to_thread

from flip_async._auth._token import is_header_value
from flip_async._secret import Secret, shape
from flip_async.errors import ConfigurationError, TokenUnavailableError

CredentialSource = Callable[[], str | Awaitable[str]]
"""A callable, sync or async, that gives a credential."""

_VSCHAR: Final = re.compile(r"[\x20-\x7e]+", re.ASCII)


def clean_bearer(value: object, *, field: str) -> Secret:
    """Strip a key that goes into a header, and refuse what cannot stand there.

    Raises:
        ConfigurationError: It is empty, or has white space or control characters inside.
    """
    text = _stripped(value, field)
    if not is_header_value(text):
        raise ConfigurationError(
            f"{field} ({shape(text)}) has white space, a line break or another character "
            "inside that no header can carry: is it one key?"
        )
    return Secret(text)


def clean_text(value: object, *, field: str) -> str:
    """Strip a client id or secret, and refuse what OAuth does not allow in it.

    Raises:
        ConfigurationError: It is empty, or has other characters than printable ASCII.

    Source:
        RFC 6749 appendix A.1 and A.2.
    """
    text = _stripped(value, field)
    if _VSCHAR.fullmatch(text) is None:
        raise ConfigurationError(
            f"{field} ({shape(text)}) has a line break or another character inside that is "
            "not printable ASCII"
        )
    return text


def _stripped(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{field} is a str, not {shape(value)}")
    text = value.strip()
    if not text:
        raise ConfigurationError(f"{field} is empty")
    return text


async def ask(source: CredentialSource, *, field: str) -> str:
    """Call a credential's callable; a sync one runs in a thread.

    Raises:
        TokenUnavailableError: It raised; its exception is the cause.
    """
    try:
        if inspect.iscoroutinefunction(source):
            value = await source()
        else:
            value = await anyio.to_thread.run_sync(source, abandon_on_cancel=True)
            if inspect.isawaitable(value):
                value = await value
    except Exception as error:  # the user's own code may raise anything
        raise TokenUnavailableError(
            f"the callable given as {field} raised {type(error).__name__}"
        ) from error
    return cast("str", value)  # checked by clean_bearer() or clean_text()
