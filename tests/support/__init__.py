"""What tests share: a clock that is moved by hand, and a Flip that does as it is told."""

import asyncio
import heapq
import itertools
import json
from collections import deque
from collections.abc import Callable
from typing import Any

import httpx

from flip_async import Token
from flip_async._clock import Instant, SystemClock, Timer

START = Instant(1_000.0, 1_750_000_000.0)
API = "https://api.flip.energy"
TOKEN_URL = "https://oauth.flip.energy/token"
CLIENT_ID = "your_client_id"
CLIENT_SECRET = "your_client_secret"


class ManualTimer:
    def __init__(self, due: float, callback: Callable[[], object]) -> None:
        self.due = due
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class ManualClock:
    """Time stands still until a test moves it; luck is what the test says."""

    def __init__(self, *, luck: float = 0.5) -> None:
        self.luck = luck
        self.monotonic_s, self.wall_s = START
        self._numbers = itertools.count()
        self._timers: list[tuple[float, int, ManualTimer]] = []

    def monotonic(self) -> float:
        return self.monotonic_s

    def wall(self) -> float:
        return self.wall_s

    def now(self) -> Instant:
        return Instant(self.monotonic_s, self.wall_s)

    def random(self) -> float:
        return self.luck

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        self.call_later(seconds, lambda: woken.done() or woken.set_result(None))
        await woken

    def call_later(self, seconds: float, callback: Callable[[], object]) -> ManualTimer:
        timer = ManualTimer(self.monotonic_s + seconds, callback)
        heapq.heappush(self._timers, (timer.due, next(self._numbers), timer))
        return timer

    def jump_wall(self, seconds: float) -> None:
        self.wall_s += seconds

    def sleep_machine(self, seconds: float) -> None:
        """The machine sleeps: only the wall clock goes on."""
        self.jump_wall(seconds)

    def move(self, seconds: float) -> None:
        """Let time pass with nobody looking."""
        self.monotonic_s += seconds
        self.wall_s += seconds

    @property
    def pending(self) -> int:
        return sum(not timer.cancelled for _, _, timer in self._timers)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, and everybody act who waits for it, in order."""
        end = self.monotonic_s + seconds
        await settle()
        while self._timers and self._timers[0][0] <= end:
            due, _, timer = heapq.heappop(self._timers)
            if timer.cancelled:
                continue
            self.move(max(0.0, due - self.monotonic_s))
            timer.callback()
            await settle()
        self.move(end - self.monotonic_s)
        await settle()


class HurriedClock:
    """The machine's clocks, which a test may move forward beside real time."""

    def __init__(self) -> None:
        self._ahead_s = 0.0
        self._real = SystemClock()

    def move(self, seconds: float) -> None:
        self._ahead_s += seconds

    def monotonic(self) -> float:
        return self._real.monotonic() + self._ahead_s

    def wall(self) -> float:
        return self._real.wall() + self._ahead_s

    def now(self) -> Instant:
        return Instant(self.monotonic(), self.wall())

    def random(self) -> float:
        return self._real.random()

    async def sleep(self, seconds: float) -> None:
        await self._real.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        return self._real.call_later(seconds, callback)


class FastClock(HurriedClock):
    """The machine's clocks, five hundred times as fast."""

    SPEED = 500.0

    def __init__(self) -> None:
        super().__init__()
        self._began = SystemClock().now()

    def monotonic(self) -> float:
        began_s = self._began.monotonic_s
        return began_s + (super().monotonic() - began_s) * self.SPEED

    def wall(self) -> float:
        return self._began.wall_s + self.monotonic() - self._began.monotonic_s

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / self.SPEED)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        return super().call_later(seconds / self.SPEED, callback)


async def settle() -> None:
    """Let every task run until it waits for something that only the test can give."""
    for _ in range(60):
        await asyncio.sleep(0)


def make_token(value: str = "at_one", *, lifetime_s: float = 100.0) -> Token:
    return Token(access_token=value, issued_at=START.wall_s, lifetime_s=lifetime_s)


def token_answer(value: str, **fields: Any) -> httpx.Response:
    body = {"access_token": value, "token_type": "Bearer", "expires_in": 100, **fields}
    return httpx.Response(200, json=body)


Answer = httpx.Response | Exception


class FakeFlip(httpx.AsyncBaseTransport):
    """OAuth host and API below httpx: it keeps what it was asked and answers as told."""

    def __init__(self) -> None:
        self.lifetime_s: float = 100
        self.token_requests: list[httpx.Request] = []
        self.api_requests: list[httpx.Request] = []
        self.carried: list[str] = []
        self.valid: set[str] = set()
        self.next_token_answers: deque[Answer] = deque()
        self.next_api_answers: deque[Answer] = deque()
        self.token_gate: asyncio.Event | None = None
        self.api_gate: asyncio.Event | None = None
        self.token_host_down = False

    @property
    def tokens_asked(self) -> int:
        return len(self.token_requests)

    def revoke(self) -> None:
        self.valid.clear()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        async for _ in request.stream:  # not aread(): a network consumes it and keeps nothing
            pass
        if request.url.path == "/token":
            return await self._token(request)
        return await self._api(request)

    async def _token(self, request: httpx.Request) -> httpx.Response:
        self.token_requests.append(request)
        number = len(self.token_requests)
        if self.token_gate is not None:
            await self.token_gate.wait()
        else:
            await asyncio.sleep(0)
        if self.token_host_down:
            raise httpx.ConnectError("down", request=request)
        if self.next_token_answers:
            return self._give(self.next_token_answers.popleft())
        value = f"at_{number}"
        self.valid.add(value)
        return token_answer(value, expires_in=self.lifetime_s)

    async def _api(self, request: httpx.Request) -> httpx.Response:
        self.api_requests.append(request)
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.carried.append(bearer)
        # Whether a token is good is decided when the request arrives, not when it is answered.
        known = bearer in self.valid
        if self.api_gate is not None:
            await self.api_gate.wait()
        else:
            await asyncio.sleep(0)
        if self.next_api_answers:
            return self._give(self.next_api_answers.popleft())
        if known:
            return httpx.Response(200, json=[])
        return httpx.Response(401, json={"code": "UNAUTHORIZED", "message": "no"})

    @staticmethod
    def _give(answer: Answer) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer


def form_of(request: httpx.Request) -> dict[str, str]:
    return dict(httpx.QueryParams(request.content.decode()))


def json_of(request: httpx.Request) -> Any:
    return json.loads(request.content)
