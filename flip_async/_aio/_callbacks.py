"""Functions of users, which may be of either kind, may fail, and may never end."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar, TypeVarTuple

import anyio

from flip_async._aio._tasks import detached, is_from_within
from flip_async._checks import name_of

A = TypeVarTuple("A")
T = TypeVar("T")
_FAILED: Final = "a callback failed: %s"


class UserCodeError(Exception):
    """A function of a user's ended otherwise than well; `str()` says how, and shows no value."""


async def run_user_code(function: Callable[[*A], Awaitable[T]], *arguments: *A) -> T:
    """Call a function and wait for it; its own `CancelledError` is a failure like others [B1].

    Raises:
        UserCodeError: It let somebody else's cancellation out; other exceptions pass as they
            are.
    """
    try:
        return await function(*arguments)
    except asyncio.CancelledError as error:
        if not is_from_within():
            raise
        raise UserCodeError("let a CancelledError out") from error


async def limited(function: Callable[[], Awaitable[T]], *, within_s: float) -> T:
    """As `run_user_code`, for so long at the most [B4].

    Raises:
        UserCodeError: It took longer, too.
    """
    with anyio.CancelScope(deadline=anyio.current_time() + within_s):
        return await run_user_code(function)
    raise UserCodeError(f"took longer than {within_s:.3g} s")


async def notify(
    logger: logging.Logger, callback: Callable[..., Awaitable[None] | None], *arguments: object
) -> None:
    """Tell a user something; what the user's code raises is logged, and stops nothing."""
    result = _begin(logger, callback, arguments)
    if result is not None:
        await _finish(logger, callback, result)


async def notify_within(
    seconds: float,
    logger: logging.Logger,
    callback: Callable[..., Awaitable[None] | None],
    *arguments: object,
) -> None:
    """As `notify`, for so long at the most: what comes after it waits no longer [B4]."""
    try:
        await limited(lambda: notify(logger, callback, *arguments), within_s=seconds)
    except UserCodeError as error:
        logger.error("%s %s", name_of(callback), error)


def notify_soon(
    logger: logging.Logger, callback: Callable[..., Awaitable[None] | None], *arguments: object
) -> None:
    """As `notify`, and nobody waits: what is async goes on beside whoever tells it."""
    result = _begin(logger, callback, arguments)
    if result is not None:
        detached(_finish(logger, callback, result))


def _begin(
    logger: logging.Logger,
    callback: Callable[..., Awaitable[None] | None],
    arguments: tuple[object, ...],
) -> Awaitable[None] | None:
    """Call it; gives what is still to be waited for."""
    try:
        result = callback(*arguments)
    except (Exception, asyncio.CancelledError):  # nothing was awaited: it is its own
        logger.exception(_FAILED, name_of(callback))
        return None
    return result if inspect.isawaitable(result) else None


async def _finish(logger: logging.Logger, callback: object, result: Awaitable[None]) -> None:
    try:
        await run_user_code(lambda: result)
    except Exception:
        logger.exception(_FAILED, name_of(callback))
