"""Sweeps: a scenario runs once for every turn of the event loop, and is disturbed there [B12].

A *turn* is one round of the loop, counted by a callback that asks for the next one. The sweep
ends where the scenario ends by itself before the turn comes. After each run it asks what must
hold whatever happened: no task and no thread of ours is left, a cancellation is neither
swallowed nor handed to somebody else, and what the scenario's own `check` asks.
"""

import asyncio
import enum
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self

import anyio
import attrs
import httpx

from flip_async import Environment, FlipClient
from flip_async._auth._bearer import BearerAuth
from flip_async._transport._pool import ConnectionPool
from tests.support import CLIENT_ID, CLIENT_SECRET, FakeFlip, token_answer

LIMIT_S = 5.0
"""Longer than anything here takes: what is not over by then never is."""
_BECOMES_S = 2.0
_TURNS_AT_MOST = 2_000
_ENDED_IN_A_ROW = 3  # with a socket, how many turns it takes varies a little


class How(enum.Enum):
    """What happens at the turn."""

    NATIVE = "task.cancel()"
    SCOPE = "scope.cancel()"
    OWN = "the scenario's own disturbance"


@attrs.define(kw_only=True)
class Scenario:
    """What is done, and what must hold afterwards.

    Attributes:
        act: What a caller does.
        check: Asks what must hold afterwards, and fails if it does not.
        callers: How many do it at once.
        victims: How many of them are disturbed: the others must end well.
        may_raise: Errors that a caller may end with.
        disturb: For `How.OWN`: what happens at the turn.
    """

    act: Callable[[], Awaitable[object]]
    check: Callable[[], Awaitable[object]]
    callers: int = 1
    victims: int = 1
    may_raise: tuple[type[Exception], ...] = ()
    disturb: Callable[[], object] = lambda: None


@attrs.define
class Swept:
    """What a sweep came to.

    Attributes:
        turns: How many runs were disturbed.
        violations: What did not hold, each with the run where it did not.
        endings: How those that were disturbed ended.
    """

    turns: int = 0
    violations: list[str] = attrs.field(factory=list)
    endings: Counter[str] = attrs.field(factory=Counter)

    def assert_clean(self, *, at_least: int) -> None:
        """Everything held, and enough was tried: a sweep that sweeps nothing proves nothing."""
        print(f"{self.turns} turns, {dict(self.endings)}")
        assert not self.violations, "\n".join([f"{len(self.violations)}:", *self.violations[:12]])
        assert self.turns >= at_least


Arrange = Callable[[], AbstractAsyncContextManager[Scenario]]


async def sweep(arrange: Arrange, how: How, *, step: int = 1) -> Swept:
    """Run a scenario for turn 0, 1, 2, … until it ends by itself before the turn.

    Where a thread is waited for there are hundreds of turns that are alike, fewer on a fast
    machine: the later they come, the more of them are passed over, up to `step` less one.
    """
    swept = Swept()
    ended_in_a_row = turn = 0
    while ended_in_a_row < _ENDED_IN_A_ROW and turn < _TURNS_AT_MOST * step:
        run = _Run(how, turn)
        await run.through(arrange)
        swept.violations += [f"{how.value} at turn {turn}: {what}" for what in run.violations]
        if run.was_disturbed:
            swept.turns += 1
            swept.endings.update(run.endings)
            ended_in_a_row = 0
        else:
            ended_in_a_row += 1
        turn += min(step, 1 + turn // 4)
    return swept


class Trap:
    """Raises at the n-th of the calls that a user's code is asked to answer.

    Attributes:
        where: Which call that was; `None` if there were not so many.
    """

    def __init__(self, at: int, make_error: Callable[[], BaseException]) -> None:
        self.where: str | None = None
        self.calls = 0
        self._at = at
        self._make_error = make_error

    def __call__(self, where: str) -> None:
        call, self.calls = self.calls, self.calls + 1
        if call == self._at:
            self.where = where
            raise self._make_error()


async def sweep_calls(
    arrange: Callable[[Trap], AbstractAsyncContextManager[Scenario]],
    make_error: Callable[[], BaseException],
) -> Swept:
    """Run a scenario with a trap at its user's call 0, 1, 2, … until there is no such call."""
    swept = Swept()
    while True:
        trap = Trap(swept.turns, make_error)
        run = _Run(None, 0)
        await run.through(lambda trap=trap: arrange(trap))  # type: ignore[misc]
        where = f"{make_error()!r} from call {swept.turns} ({trap.where})"
        swept.violations += [f"{where}: {what}" for what in run.violations]
        if trap.where is None:
            return swept
        swept.turns += 1
        swept.endings.update(run.endings)


class _Run:
    """One run: callers, the turn that comes, and what did not hold."""

    def __init__(self, how: How | None, turn: int) -> None:
        self.was_disturbed = False
        self.violations: list[str] = []
        self.endings: list[str] = []
        self._how = how
        self._turns_left = turn

    async def through(self, arrange: Arrange) -> None:
        before = asyncio.all_tasks()
        async with arrange() as scenario:
            arranged = asyncio.all_tasks()
            await self._act(scenario)
            await self._leftovers(arranged, "after the act")
            try:
                async with asyncio.timeout(LIMIT_S):
                    await scenario.check()
            except Exception as error:
                self.violations.append(f"afterwards {type(error).__name__}: {error}"[:600])
        await self._leftovers(before, "at the end")

    async def _act(self, scenario: Scenario) -> None:
        loop = asyncio.get_running_loop()
        callers: list[asyncio.Task[object]] = []
        scopes = [anyio.CancelScope() for _ in range(scenario.victims)]
        disturbed: set[asyncio.Task[object]] = set()

        def step() -> None:
            victims = [task for task in callers[: scenario.victims] if not task.done()]
            if not victims:
                return
            if self._turns_left:
                self._turns_left -= 1
                loop.call_soon(step)
                return
            self.was_disturbed = True
            disturbed.update(victims)
            if self._how is How.OWN:
                scenario.disturb()
            for task in victims:
                if self._how is How.NATIVE:
                    task.cancel()
                elif self._how is How.SCOPE:
                    scopes[callers.index(task)].cancel()

        if self._how is not None:
            loop.call_soon(step)  # before the first step of a caller: turn 0 is this one
        for number in range(scenario.callers):
            is_scoped = self._how is How.SCOPE and number < scenario.victims
            job = _within(scopes[number], scenario.act) if is_scoped else _plain(scenario.act)
            callers.append(loop.create_task(job))
        _, left = await asyncio.wait(callers, timeout=LIMIT_S)
        for task in left:
            self.violations.append(f"a caller does not end: {task.get_coro()!r}")
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=LIMIT_S)
        for number, task in enumerate(callers):
            if task not in left:
                self._judge(task, f"caller {number}", scenario, is_disturbed=task in disturbed)

    def _judge(
        self, task: asyncio.Task[object], name: str, scenario: Scenario, *, is_disturbed: bool
    ) -> None:
        ending = "ended well"
        is_native = is_disturbed and self._how is How.NATIVE
        if task.cancelled():
            ending = "cancelled"
            if not is_native:
                self.violations.append(f"{name}: somebody else's CancelledError came out")
        elif (error := task.exception()) is not None:
            ending = type(error).__name__
            if is_native or not isinstance(error, scenario.may_raise):
                self.violations.append(f"{name}: {ending}: {error}"[:600])
        elif task.result() is _CUT_OFF:
            ending = "cut off"
        elif is_native:
            self.violations.append(f"{name}: the cancellation was swallowed")
        if is_disturbed or self._how is None:
            self.endings.append(ending)

    async def _leftovers(self, before: Collection[asyncio.Task[Any]], when: str) -> None:
        def left() -> list[object]:
            tasks = [task for task in asyncio.all_tasks() if task not in before]
            return [*tasks, *_our_threads()]

        if not await becomes(lambda: not left()):
            self.violations.append(f"left {when}: {left()!r}"[:600])


_CUT_OFF = object()


async def _within(scope: anyio.CancelScope, act: Callable[[], Awaitable[object]]) -> object:
    with scope:
        return await act()
    return _CUT_OFF


async def _plain(act: Callable[[], Awaitable[object]]) -> object:
    return await act()


def _our_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("flip_async")]


async def cut_off(job: Callable[[], Awaitable[object]], how: How, turns: int) -> None:
    """Cancel a job after so many turns, and wait for its end; what it raises comes out."""
    scope = anyio.CancelScope()

    async def run() -> None:
        with scope:
            await job()

    task = asyncio.ensure_future(run())
    for _ in range(turns):
        await asyncio.sleep(0)
    if how is How.NATIVE:
        task.cancel()
    else:
        scope.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()


async def becomes(is_so: Callable[[], bool]) -> bool:
    """Let everybody run until something is so; whether it came to that."""
    for _ in range(200):
        if is_so():
            return True
        await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    end_s = loop.time() + _BECOMES_S
    while not is_so() and loop.time() < end_s:
        await asyncio.sleep(0.001)
    return is_so()


async def assert_nothing_held(flip: FlipClient) -> None:
    """A client has no call, no task, no slot and no refresh in this event loop."""
    assert await becomes(lambda: not _held_by(flip)), _held_by(flip)


def _held_by(flip: FlipClient) -> list[str]:
    runtime = flip._session.runtime
    held = []
    for _, running in runtime._running.items():
        held += [f"{len(running.calls)} calls"] if running.calls else []
        held += [f"tasks {running.tasks}"] if running.tasks else []
    auth = flip.auth
    if isinstance(auth, BearerAuth) and auth.is_busy:
        held.append("a refresh")
    pool = getattr(runtime.outlet.send, "__self__", None)
    if isinstance(pool, ConnectionPool):
        for _, stack in pool._stacks.items():
            taken = stack.slots.taken
            held += [f"{taken} slots"] if taken else []
            held += [f"{stack.slots.waiting} waiters"] if stack.slots.waiting else []
            held += [f"{len(stack._closing)} being closed"] if stack._closing else []
    return held


# Two Flips to sweep against

_SITE = {"created_at": "2025-01-01T00:00:00Z", "updated_at": "2025-01-01T00:00:00Z"}


class SlowFlip(FakeFlip):
    """A Flip below httpx that takes several turns for all that it does.

    Attributes:
        rows: How many sites `GET /v1/sites` has.
        accepted: Paths of the POSTs that were carried out.
        open_answers: How many answers were begun and not closed.
        closings: How often it was closed, to the end.
    """

    def __init__(self, *, rows: int = 0) -> None:
        super().__init__()
        self.rows = rows
        self.accepted: list[str] = []
        self.open_answers = 0
        self.closings = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)  # connects
        response = await super().handle_async_request(request)
        content = response.content
        if response.is_success and request.url.path == "/v1/sites":
            content = self._sites(request.url.params)
        if response.is_success and request.method == "POST" and request.url.path != "/token":
            self.accepted.append(request.url.path)
        self.open_answers += 1
        return httpx.Response(
            response.status_code,
            headers={"Content-Type": "application/json"},
            stream=_SlowBody(self, content),
        )

    def _sites(self, params: httpx.QueryParams) -> bytes:
        skip, limit = int(params["skip"]), int(params["limit"])
        ids = range(skip, min(self.rows, skip + limit))
        return json.dumps([{**_SITE, "id": f"hh-{number}"} for number in ids]).encode()

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.closings += 1


class _SlowBody(httpx.AsyncByteStream):
    def __init__(self, flip: SlowFlip, content: bytes) -> None:
        self._flip = flip
        self._content = content
        self._is_open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in (self._content[:1], self._content[1:]):
            await asyncio.sleep(0)
            yield part

    async def aclose(self) -> None:
        # Closed at once, as far as it is to be counted: what follows may be cut off.
        if self._is_open:
            self._is_open = False
            self._flip.open_answers -= 1
        await asyncio.sleep(0)


class SocketFlip:
    """A Flip on loopback that counts its connections; it has no task and no thread.

    Attributes:
        open: Connections that are open.
        peak: How many were open at once, at the most.
        valid: Access tokens that it takes.
        token_requests: How many it got.
        accepted: Paths of the POSTs that were carried out.
        delay_s: How long the answer to a path takes, in seconds.
    """

    def __init__(self) -> None:
        self.open: set[asyncio.Transport] = set()
        self.peak = 0
        self.valid: set[str] = set()
        self.token_requests = 0
        self.accepted: list[str] = []
        self.delay_s: Callable[[str], float] = lambda path: 0.0
        self._url = ""
        self._server: asyncio.Server | None = None

    @property
    def environment(self) -> Environment:
        return Environment(name="socket", api_url=self._url, oauth_url=self._url)

    def client(self, **options: Any) -> FlipClient:
        if "client_secret" not in options:
            options["client_secret"] = CLIENT_SECRET
        return FlipClient(environment=self.environment, client_id=CLIENT_ID, **options)

    def answer(self, method: str, path: str, bearer: str) -> tuple[int, bytes]:
        """Status and body."""
        if path == "/token":
            self.token_requests += 1
            value = f"at_{self.token_requests}"
            self.valid.add(value)
            return 200, token_answer(value).content
        if bearer not in self.valid:
            return 401, b'{"code": "UNAUTHORIZED", "message": "no"}'
        if method == "POST":
            self.accepted.append(path)
        return 200, b"[]"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), "127.0.0.1", 0, backlog=1024
        )
        port = self._server.sockets[0].getsockname()[1]
        self._url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for transport in list(self.open):
            transport.abort()
        await self._server.wait_closed()


class _Connection(asyncio.Protocol):
    def __init__(self, flip: SocketFlip) -> None:
        self._flip = flip
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._flip.open.add(transport)
        self._flip.peak = max(self._flip.peak, len(self._flip.open))

    def connection_lost(self, exc: Exception | None) -> None:
        assert self._transport is not None
        self._flip.open.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, is_complete, rest = self._received.partition(b"\r\n\r\n")
        if not is_complete:
            return
        first, *lines = head.decode("ascii").split("\r\n")
        headers = httpx.Headers([tuple(line.split(": ", 1)) for line in lines])  # type: ignore[misc]
        size = int(headers.get("Content-Length", "0"))
        if len(rest) < size:
            return
        self._received = rest[size:]
        method, path, _ = first.split(" ")
        bearer = headers.get("Authorization", "").removeprefix("Bearer ")
        status, body = self._flip.answer(method, path.partition("?")[0], bearer)
        answer = (
            f"HTTP/1.1 {status} so\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        delay_s = self._flip.delay_s(path)
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self._write, answer)
        else:
            self._write(answer)

    def _write(self, answer: bytes) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.write(answer)
