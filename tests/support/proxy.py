"""An HTTP proxy on loopback, for requests and for tunnels."""

import asyncio
from typing import Self


class Proxy:
    """Passes bytes on, and keeps the first line and the headers of what it was asked.

    Args:
        goes_to: A port of this machine, for whatever host it is asked; by default where a request
            wants to go.
    """

    def __init__(self, goes_to: int | None = None) -> None:
        self.asked: list[str] = []
        self.refuses = False
        self.port = 0
        self._goes_to = goes_to
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://user:hunter22@127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked.append(head)
            method, target, _ = head.split("\r\n")[0].split(" ")
            if self.refuses:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                return
            authority = target if method == "CONNECT" else target.split("/")[2]
            host, _, port = authority.rpartition(":")
            if self._goes_to is not None:
                host, port = "127.0.0.1", str(self._goes_to)
            there = await asyncio.open_connection(host, int(port))
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                there[1].write(head.replace(f"http://{authority}", "", 1).encode())
            async with asyncio.TaskGroup() as ways:
                ways.create_task(_pass_on(reader, there[1]))
                ways.create_task(_pass_on(there[0], writer))
        except (OSError, EOFError):
            pass
        finally:
            writer.close()


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    finally:
        target.close()
