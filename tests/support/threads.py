"""An emulator beside the test, for what has an event loop of its own."""

import asyncio
import threading

from flip_async.emulator import Emulator


class ThreadedEmulator:
    """Serves from a thread until its context is left."""

    def __init__(self) -> None:
        self.emulator = Emulator()
        self._ready, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        async with self.emulator:
            self._ready.set()
            while not self._over.is_set():
                await asyncio.sleep(0.01)

    def __enter__(self) -> Emulator:
        self._thread.start()
        self._ready.wait()
        return self.emulator

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()
