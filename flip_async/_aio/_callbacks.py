"""Functions of users, which may be of either kind and may fail."""

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable

from flip_async._secret import shape
from flip_async.errors import ConfigurationError


async def tell(
    logger: logging.Logger, callback: Callable[..., Awaitable[None] | None], *arguments: object
) -> None:
    """Tell a user something; what the user's code raises is logged, and stops nothing."""
    try:
        result = callback(*arguments)
        if inspect.isawaitable(result):
            await result
    except Exception:
        logger.exception("a callback failed: %s", name_of(callback))


def check_async(function: object, *, field: str) -> None:
    """Refuse what cannot be awaited, before it would block everything.

    Raises:
        ConfigurationError: It is no `async def`, nor an object with one as its `__call__`.
    """
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    call = getattr(type(inner), "__call__", None)  # noqa: B004  # not its result
    if not (inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(call)):
        what = name_of(function) if callable(function) else shape(function)
        raise ConfigurationError(f"{field} is an `async def`, and {what} is none")


def name_of(function: object) -> str:
    """What to call a function in a log."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__qualname__
