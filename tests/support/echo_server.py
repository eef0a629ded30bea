"""A server in a thread of its own, for clients that live in several loops, and what is asked of it."""

import asyncio
import contextlib
import json
import random
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any

from flip_async import Environment, FlipClient, errors
from tests.support.server_thread import NOT_FOR_EVER_S, ServerThread

CONNECTIONS_AT_MOST = 100


class Server(ServerThread):
    """A Flip in a thread of its own, whose answers echo the request's number."""

    def __init__(self, tls: ssl.SSLContext | None = None, *, takes_s: float = 0.0) -> None:
        super().__init__(tls, takes_s=takes_s)
        self.asked = 0

    @property
    def environment(self) -> Environment:
        return Environment(name="loopback", api_url=self.url, oauth_url=self.url)

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            await self._answer(head.decode(), reader, writer)

    async def _answer(
        self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.asked += 1
        length = [line[15:] for line in head.splitlines() if line.lower()[:15] == "content-length:"]
        await reader.readexactly(int(length[0]) if length else 0)
        path = head.split(" ")[1]
        answer: object = {"path": path}
        if path == "/token":
            answer = {"access_token": "at_1", "token_type": "Bearer", "expires_in": 3600}
        elif path == "/v1/open":
            answer = {"open": self.open}
        elif self.takes_s:
            await asyncio.sleep(self.some_time_s())
        body = json.dumps(answer).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()


def client_of(server: Server, **options: Any) -> FlipClient:
    credential = {"client_id": "your_client_id", "client_secret": "your_client_secret"}
    return FlipClient(environment=server.environment, **credential, **options)


async def answers(flip: FlipClient, numbers: range) -> list[str]:
    """Ask at the same time; what the server says that it was asked."""
    async with asyncio.timeout(NOT_FOR_EVER_S):
        responses = await asyncio.gather(
            *(flip.request("GET", f"/v1/number/{number}") for number in numbers)
        )
    return [response.json()["path"] for response in responses]


def expected(numbers: range) -> list[str]:
    return [f"/v1/number/{number}" for number in numbers]


def until(condition: Callable[[], bool]) -> bool:
    """Whether it comes true; nobody hangs who waits for it."""
    end_s = time.monotonic() + NOT_FOR_EVER_S
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.005)
    return condition()


CUT_OFF = 2000
AT_ONCE = 40


async def cut_off_and_ask(flip: FlipClient, *, cut_off: int = CUT_OFF) -> dict[str, int]:
    """Cut requests off at random moments, by two kinds of cancellation; then ask in earnest."""
    luck = random.Random(7)
    begun = 0

    async def native(moment_s: float) -> None:
        task = asyncio.create_task(flip.request("GET", "/v1/cut"))
        asyncio.get_running_loop().call_later(moment_s, task.cancel)
        await asyncio.wait([task])

    async def deadline(moment_s: float) -> None:
        with contextlib.suppress(errors.DeadlineError):
            await flip.request("GET", "/v1/cut", deadline_s=moment_s)

    async def worker() -> None:
        nonlocal begun
        while begun < cut_off:
            begun += 1
            way: Callable[[float], Awaitable[None]] = luck.choice([native, deadline])
            await way(luck.uniform(0.0005, 0.02))

    async with asyncio.timeout(NOT_FOR_EVER_S):
        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        paths = await answers(flip, range(60))
        open_there = CONNECTIONS_AT_MOST + 1
        while open_there > CONNECTIONS_AT_MOST:  # what is being closed takes its time
            open_there = (await flip.request("GET", "/v1/open")).json()["open"]
    return {"begun": begun, "answered": len(paths), "open": open_there}
