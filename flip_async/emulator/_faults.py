"""Misbehaviour on demand, and a count of what was asked."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Literal

import attrs
from starlette.routing import Match, Route

logger: Final = logging.getLogger("flip_async.emulator")

Cut = Literal["before", "in", "after"]
"""When a connection is cut: before the request is carried out, in the answer, or after
the request was carried out and before its answer."""

# The types of ASGI, which are open dictionaries.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CUT: Final = "flip_async.cut"
"""Extension of the ASGI scope: a callable with which whoever serves cuts the connection."""


@attrs.define(kw_only=True)
class Fault:
    """What goes wrong with some of the next requests.

    Attributes:
        times: With how many; `None` for all from now on.
        method: Only with this method.
        path: Only with this path, or this template of a path.
        status: Answer with this status, without carrying the request out.
        retry_after: `Retry-After` of that answer.
        body: Body of that answer.
        cut: Cut the connection.
        delay_s: Wait so long before anything else.
        until: Wait for this event before anything else.
    """

    times: int | None = 1
    method: str | None = None
    path: str | None = None
    status: int | None = None
    retry_after: str | None = None
    body: bytes | None = None
    cut: Cut | None = None
    delay_s: float = 0.0
    until: asyncio.Event | None = None

    def fits(self, method: str, paths: tuple[str, str]) -> bool:
        return self.method in (None, method) and (self.path is None or self.path in paths)


class Faults:
    """An ASGI application around another one."""

    def __init__(self, app: App, routes: list[Route]) -> None:
        self._app: Final = app
        self._routes: Final = routes
        self._faults: Final[list[Fault]] = []
        self._counts: Final[Counter[tuple[str, str]]] = Counter()

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)

    def forget(self, until: asyncio.Event) -> None:
        """What waits for an event is no fault any more, for requests that are still to come."""
        self._faults[:] = [fault for fault in self._faults if fault.until is not until]

    def clear(self) -> None:
        self._faults.clear()

    def reset(self) -> None:
        """As at the beginning: nothing counted, nothing to go wrong."""
        self.clear()
        self.forget_counts()

    def count(self, method: str, path: str) -> int:
        return self._counts[method, path]

    def forget_counts(self) -> None:
        self._counts.clear()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # An id may have a slash in it, which only the path as it was sent tells from others.
        scope = {**scope, "path": scope["raw_path"].decode("ascii")}
        method, paths = scope["method"], (scope["path"], self._template(scope))
        for path in set(paths):
            self._counts[method, path] += 1
        if logger.isEnabledFor(logging.INFO):
            send = _telling(method, paths[0], send)
        fault = self._take(method, paths)
        if fault is None:
            await self._app(scope, receive, send)
        else:
            await self._misbehave(fault, scope, receive, send)

    def _template(self, scope: Scope) -> str:
        for route in self._routes:
            if route.matches(scope)[0] is Match.FULL:
                return route.path
        path = scope["path"]
        assert isinstance(path, str)
        return path

    def _take(self, method: str, paths: tuple[str, str]) -> Fault | None:
        for fault in self._faults:
            if fault.fits(method, paths):
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self._faults.remove(fault)
                return fault
        return None

    async def _misbehave(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.until is not None:
            await fault.until.wait()
        if fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        if fault.cut is not None:
            await self._cut(fault.cut, scope, receive, send)
        elif fault.status is not None:
            await _answer(fault, fault.status, send)
        else:
            await self._app(scope, receive, send)

    async def _cut(self, cut: Cut, scope: Scope, receive: Receive, send: Send) -> None:
        if cut == "before":
            await _read_all(receive)
        else:
            answer: list[Message] = []

            async def keep(message: Message) -> None:
                answer.append(message)

            await self._app(scope, receive, keep)
            if cut == "in":
                start, body = answer[0], answer[1]["body"]
                await send(start)
                half = body[: len(body) // 2]
                await send({"type": "http.response.body", "body": half, "more_body": True})
        await scope["extensions"][CUT]()


def _telling(method: str, path: str, send: Send) -> Send:
    """Log a request with the status of its answer; what cuts it is not answered."""

    async def tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            logger.info("%s %s: %d", method, path, message["status"])
        await send(message)

    return tell


async def _read_all(receive: Receive) -> None:
    while (await receive()).get("more_body"):
        pass


async def _answer(fault: Fault, status: int, send: Send) -> None:
    body = fault.body
    if body is None:
        error = {"code": "EMULATED", "message": "an emulated fault", "status_code": status}
        body = json.dumps(error).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if fault.retry_after is not None:
        headers.append((b"retry-after", fault.retry_after.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
