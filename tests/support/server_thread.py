"""A server in a thread of its own, for clients that live in several loops."""

import asyncio
import random
import ssl
import threading
from typing import Self

NOT_FOR_EVER_S = 40.0


class ServerThread:
    """Listens on loopback; what is said on a connection is a subclass's.

    Attributes:
        takes_s: How long an answer takes at most, in seconds.
        accepted: How many connections there were.
        open: How many there are.
        port: Where it listens.
    """

    def __init__(self, tls: ssl.SSLContext | None, *, takes_s: float) -> None:
        self.tls = tls
        self.takes_s = takes_s
        self.accepted = self.open = self.port = 0
        self._luck = random.Random(3)
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    @property
    def url(self) -> str:
        # An address, since a name is looked up in a thread, which a fork does not take along.
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def some_time_s(self) -> float:
        return self._luck.uniform(0, self.takes_s)

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read and answer until the connection ends."""
        raise NotImplementedError

    async def _run(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(lambda *_: None)  # of handshakes that were cut off
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open += 1
        try:
            await self.converse(reader, writer)
        except (OSError, EOFError):  # ssl.SSLError is one
            pass
        finally:
            self.open -= 1
            writer.close()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(NOT_FOR_EVER_S)
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._loop is not None
        assert self._over is not None
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(NOT_FOR_EVER_S)
