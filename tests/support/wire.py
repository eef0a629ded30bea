"""A server of bytes: it answers as a test tells it, and keeps what it was sent."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Self

import attrs

from flip_async import Environment

TOKEN = b'{"access_token": "at_1", "token_type": "Bearer", "expires_in": 3600}'


@attrs.define
class Exchange:
    """A request that came, and the connection to answer it on."""

    method: str
    target: str
    head: bytes
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def headers(self) -> list[tuple[str, str]]:
        """As they were written, in order."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(": ") for line in lines if line)
        return [(name, value) for name, _, value in pairs]

    def header(self, name: str) -> str | None:
        found = [value for own, value in self.headers if own.lower() == name.lower()]
        return found[0] if found else None

    async def answer(
        self, body: bytes = b"{}", *, status: str = "200 OK", headers: tuple[str, ...] = ()
    ) -> None:
        more = "".join(f"{line}\r\n" for line in headers)
        head = f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
        await self.write(head.encode() + body)

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def cut(self) -> None:
        """End the connection, as a server does that stops."""
        self.writer.close()

    def reset(self) -> None:
        """End it as a machine does that knows nothing of it."""
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Answers = Callable[[Exchange], Awaitable[None]]


async def in_order(exchange: Exchange) -> None:
    await exchange.answer()


class Wire:
    """Runs in the event loop of its test; tokens are given at `/token`, the rest is `answers`.

    Attributes:
        asked: All requests but those for tokens.
        tokens: How many of those there were.
        connections: How many were opened.
        open: How many are.
        port: Where it listens.
    """

    def __init__(
        self,
        answers: Answers = in_order,
        *,
        tls: ssl.SSLContext | None = None,
        reads_bodies: bool = True,
    ) -> None:
        self.answers = answers
        self.asked: list[Exchange] = []
        self.tokens = self.connections = self.open = 0
        self.is_over = asyncio.Event()
        self.port = 0
        self._tls = tls
        self._reads_bodies = reads_bodies
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[object]] = set()

    @property
    def origin(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    @property
    def environment(self) -> Environment:
        return Environment(name="wire", api_url=self.origin, oauth_url=self.origin)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, ssl=self._tls, backlog=256, limit=1 << 20
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self.is_over.set()
        self._server.close()
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        self.connections += 1
        self.open += 1
        try:
            while not writer.is_closing():
                await self._one(reader, writer)
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass
        except asyncio.CancelledError:
            pass  # the test is over; asyncio's own server would write it to the log
        finally:
            self.open -= 1
            self._running.discard(task)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.decode("latin-1").split("\r\n")[0].split(" ")
        target = target.removeprefix(self.origin)  # a proxy is told the whole of it
        exchange = Exchange(method, target, head, b"", reader, writer)
        if self._reads_bodies or target == "/token":
            exchange.body = await _body_of(exchange)
        if target == "/token":
            self.tokens += 1
            await exchange.answer(TOKEN.replace(b"at_1", b"at_%d" % self.tokens))
            return
        self.asked.append(exchange)
        await self.answers(exchange)


async def _body_of(exchange: Exchange) -> bytes:
    length = exchange.header("Content-Length")
    if length is not None:
        return await exchange.reader.readexactly(int(length))
    body = b""
    if exchange.header("Transfer-Encoding") == "chunked":
        while size := int(await exchange.reader.readline(), 16):
            body += await exchange.reader.readexactly(size)
            await exchange.reader.readline()
        await exchange.reader.readline()
    return body


async def becomes(condition: Callable[[], bool]) -> None:
    """Wait until it comes true; who waits for ever is ended by the test's own limit."""
    while not condition():
        await asyncio.sleep(0.002)
