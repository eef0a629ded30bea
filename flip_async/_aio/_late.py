"""Modules that anyio and httpx load when they are first used, which takes tens of milliseconds."""

import contextlib
import importlib
from functools import partial
from typing import Final

from flip_async._aio._tasks import in_thread

ANYIO_BACKEND: Final = "anyio._backends._asyncio"
"""A name of anyio's own: where it is another one, this is passed over."""


async def load_late(*names: str) -> None:
    """Load modules in a thread, since the event loop would stand still.

    Args:
        *names: Their full names. What is not there, or cannot be loaded, is passed over.
    """
    missing = [name for name in names if name not in _tried]
    if missing:
        await in_thread(partial(_load, missing), name="imports")
        _tried.update(missing)


_tried: Final[set[str]] = set()


def _load(names: list[str]) -> None:
    for name in names:
        with contextlib.suppress(Exception):  # whoever needs it is told
            importlib.import_module(name)
