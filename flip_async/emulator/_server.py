"""How the emulator is reached: over a socket, or in process."""

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import Final, Literal

import httpx
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from flip_async.emulator._faults import CUT, App, Receive, Scope, Send

Peer = tuple[str, int]

_GRACE_S: Final = 1.0
"""For requests that are being answered when it ends."""


class Connections:
    """The open connections by the address of their peers, so that one can be cut."""

    def __init__(self) -> None:
        self._transports: Final[dict[Peer, tuple[asyncio.Transport, asyncio.Event]]] = {}

    def protocol(self) -> type[H11Protocol]:
        """Uvicorn's protocol, which also keeps its connection here."""
        transports = self._transports

        class CuttableProtocol(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in its base
                self._peer = transport.get_extra_info("peername")[:2]
                transports[self._peer] = transport, asyncio.Event()
                super().connection_made(transport)

            def connection_lost(self, exc: Exception | None) -> None:
                super().connection_lost(exc)
                transports.pop(self._peer)[1].set()

        return CuttableProtocol

    async def gone(self, within_s: float) -> None:
        """Return when all are lost, or after so many seconds."""
        lost = [event.wait() for _, event in self._transports.values()]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await asyncio.gather(*lost)

    async def cut(self, peer: Peer) -> None:
        """Close a connection; what was written already still goes out."""
        transport, lost = self._transports[peer]
        transport.close()
        await lost.wait()


class _Server(uvicorn.Server):
    """Tells when it is up, and leaves the signals to the program that it runs in.

    Uvicorn looks ten times a second whether it shall end, and sleeps as long when it ends: a
    fifth of a second for each test that has a server of its own. This one is told.
    """

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self.up: Final = asyncio.Event()
        self.over: Final = asyncio.Event()
        self._connections: Final = connections

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        await self.over.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._connections.gone(within_s=_GRACE_S)
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)  # it cancels what does not end
        else:
            await self.lifespan.shutdown()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class SocketServer:
    """Serves an application on a loopback port, in the running event loop."""

    def __init__(
        self, app: App, *, host: str, port: int, lifespan: Literal["on", "off"] = "off"
    ) -> None:
        self._app: Final = app
        self._connections: Final = Connections()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket: Final = socket.create_server((host, port), family=family, backlog=2048)
        self._socket.setblocking(False)
        self._server: Final = _Server(
            uvicorn.Config(
                self._with_cut,
                interface="asgi3",
                http=self._connections.protocol(),
                ws="none",
                lifespan=lifespan,
                log_config=None,
                log_level="critical",
                access_log=False,
                date_header=False,
                server_header=False,
                timeout_graceful_shutdown=1,
            ),
            self._connections,
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    async def _with_cut(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def cut() -> None:
            await self._connections.cut(scope["client"])

        scope.setdefault("extensions", {})[CUT] = cut
        await self._app(scope, receive, send)

    async def start(self) -> None:
        task = self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        up = asyncio.ensure_future(self._server.up.wait())
        await asyncio.wait({task, up}, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if task.done():
            await task

    async def stop(self) -> None:
        self._server.should_exit = True
        self._server.over.set()
        if self._task is not None:
            await self._task
        self._socket.close()


class ConnectionCutError(Exception):
    """The emulator cuts a connection that is none."""


class InProcessTransport(httpx.AsyncBaseTransport):
    """Asks an application without a socket, and fails as a socket would."""

    def __init__(self, app: App) -> None:
        self._inner: Final = httpx.ASGITransport(self._with_cut)
        self._app: Final = app

    async def _with_cut(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def cut() -> None:
            raise ConnectionCutError

        scope.setdefault("extensions", {})[CUT] = cut
        await self._app(scope, receive, send)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        seconds = request.extensions.get("timeout", {}).get("read")
        try:
            async with asyncio.timeout(seconds):
                return await self._inner.handle_async_request(request)
        except ConnectionCutError:
            raise httpx.RemoteProtocolError(
                "Server disconnected without sending a response.", request=request
            ) from None
        except TimeoutError:
            raise httpx.ReadTimeout("", request=request) from None
