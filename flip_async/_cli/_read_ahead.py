"""Blocks read in a thread, so that the next is there when the one before is sent."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Iterable
from typing import Final

from flip_async._cli._blocks import BLOCK, Block

_JOIN_S: Final = 10.0


class ReadAhead:
    """Blocks of a file, or what a pipe has given by now.

    A thread reads and puts blocks into `_ready`; `_room` is how many more it may read. What is
    in `_ready` belongs to the loop from the moment that it is there.

    A thread that nobody waits for where the file is a pipe: it may sit there for ever.
    """

    def __init__(self, blocks: Iterable[Block], *, is_stream: bool) -> None:
        self._blocks: Final = blocks
        self._is_stream: Final = is_stream
        self._ready: Final[deque[Block]] = deque()
        self._room: Final = threading.Semaphore(BLOCK if is_stream else 1)
        self._loop: Final = asyncio.get_running_loop()
        self._news: Final = asyncio.Event()
        self._failure: Exception | None = None
        self._has_ended = False
        self._is_closed = False
        self._thread: Final = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    async def next(self) -> Block | None:
        """The next block; `None` at the end.

        Raises:
            FileError: The file cannot be read on.
        """
        while not self._ready and not self._has_ended:
            self._news.clear()
            await self._news.wait()
        if not self._ready:
            if self._failure is not None:
                raise self._failure
            return None
        taken = [self._ready.popleft()]
        while self._is_stream and self._ready and len(taken) < BLOCK:
            taken.append(self._ready.popleft())
        for _ in taken:
            self._room.release()
        return taken[0] if len(taken) == 1 else _together(taken)

    def close(self) -> None:
        """Let the thread end; of a file, wait for it, since the file is closed next."""
        self._is_closed = True
        self._room.release()
        if not self._is_stream:
            self._thread.join(_JOIN_S)

    def _read(self) -> None:
        failure: Exception | None = None
        try:
            for block in self._acquired():
                self._tell(block, None, has_ended=False)
        except Exception as error:  # raised where the loop asks
            failure = error
        self._tell(None, failure, has_ended=True)

    def _acquired(self) -> Iterable[Block]:
        blocks = iter(self._blocks)
        while True:
            self._room.acquire()
            if self._is_closed:
                return
            block = next(blocks, None)
            if block is None:
                return
            yield block

    def _tell(self, block: Block | None, failure: Exception | None, *, has_ended: bool) -> None:
        def tell() -> None:
            if block is not None:
                self._ready.append(block)
            self._failure = failure
            self._has_ended = has_ended
            self._news.set()

        with contextlib.suppress(RuntimeError):  # the loop is over
            self._loop.call_soon_threadsafe(tell)


def _together(blocks: list[Block]) -> Block:
    return Block(
        [point for block in blocks for point in block.points],
        [origin for block in blocks for origin in block.origins],
        [bad for block in blocks for bad in block.bad],
    )
