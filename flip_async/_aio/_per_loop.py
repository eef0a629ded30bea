"""Something of which each event loop has its own."""

import asyncio
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

_T = TypeVar("_T")


class PerLoop(Generic[_T]):
    """Makes a thing when a loop first asks, and forgets those of loops that were closed."""

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make: Final = make
        self._things: Final[dict[asyncio.AbstractEventLoop, _T]] = {}
        self._guard: Final = threading.Lock()

    def get(self) -> _T:
        """The running loop's own."""
        loop = asyncio.get_running_loop()
        thing = self._things.get(loop)
        if thing is None:
            with self._guard:
                # Not a weak dictionary: what is kept here refers to its loop.
                for other in [loop for loop in self._things if loop.is_closed()]:
                    del self._things[other]
                thing = self._things[loop] = self._make()
        return thing

    def items(self) -> list[tuple[asyncio.AbstractEventLoop, _T]]:
        """All that there are, with their loops."""
        with self._guard:
            return list(self._things.items())
