"""Requests, revocations, outages, cancellations and time in any order: what must always hold."""

import asyncio
from collections import Counter
from typing import NamedTuple

import httpx
import hypothesis.strategies as st
from hypothesis import given, settings

from flip_async import ClientCredentialsAuth
from flip_async.errors import TokenError
from tests.support import API, CLIENT_ID, CLIENT_SECRET, FakeFlip, ManualClock, settle


class Step(NamedTuple):
    what: str
    number: int


STEPS = st.builds(
    Step,
    st.sampled_from(
        [
            "request", "request", "request", "burst", "cancel", "cancel refresh", "revoke",
            "pass", "jump", "down", "up", "hold", "let go", "refuse", "same token", "force",
            "invalidate",
        ]
    ),
    st.integers(0, 60),
)  # fmt: skip


class World:
    """A fake Flip that watches itself, and an auth in the middle of it all."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.fake = FakeFlip()
        self.http = httpx.AsyncClient(transport=self.fake)
        self.auth = ClientCredentialsAuth(
            CLIENT_ID, CLIENT_SECRET, http_client=self.http, clock=self.clock
        )
        self.api = httpx.AsyncClient(transport=self.fake, auth=self.auth, base_url=API)
        self.requests: list[asyncio.Task[int]] = []
        self.forced: list[asyncio.Task[object]] = []
        self.before = asyncio.all_tasks()
        self.asking = self.most_asking = 0
        answer = self.fake._token

        async def watched(request: httpx.Request) -> httpx.Response:
            self.asking += 1
            self.most_asking = max(self.most_asking, self.asking)
            try:
                return await answer(request)
            finally:
                self.asking -= 1

        self.fake._token = watched  # type: ignore[method-assign]

    async def get(self, number: int) -> int:
        return (await self.api.get("/v1/sites", headers={"X-Number": str(number)})).status_code

    def start(self, count: int) -> None:
        for _ in range(count):
            number = len(self.requests)
            self.requests.append(asyncio.create_task(self.get(number)))

    def refreshes(self) -> set[asyncio.Task[object]]:
        return asyncio.all_tasks() - self.before - set(self.requests) - set(self.forced)

    async def take(self, step: Step) -> None:
        fake, clock = self.fake, self.clock
        match step.what:
            case "request":
                self.start(1)
            case "burst":
                self.start(step.number)
            case "cancel" if self.requests:
                self.requests[step.number % len(self.requests)].cancel()
            case "cancel refresh":
                for task in self.refreshes():
                    task.cancel()
            case "revoke":
                fake.revoke()
            case "pass":
                await clock.pass_time(step.number)
            case "jump":
                clock.jump_wall((step.number - 30) * 10)
            case "down" | "up":
                fake.token_host_down = step.what == "down"
            case "hold" if fake.token_gate is None:
                fake.token_gate = asyncio.Event()
            case "let go":
                self.let_go()
            case "refuse":
                fake.next_token_answers.append(httpx.Response(400 + step.number % 5))
            case "same token" if fake.token_requests:
                from tests.support import token_answer

                fake.next_token_answers.append(token_answer("at_1"))
            case "force":
                self.forced.append(asyncio.create_task(self.auth.refresh()))
            case "invalidate":
                self.auth.invalidate()
        for _ in range(step.number % 7):
            await asyncio.sleep(0)

    def let_go(self) -> None:
        if self.fake.token_gate is not None:
            self.fake.token_gate.set()
            self.fake.token_gate = None

    async def end_well(self) -> None:
        """Whatever went before: with a host that works, everybody gets an answer."""
        self.let_go()
        self.fake.token_host_down = False
        self.fake.next_token_answers.clear()
        for _ in range(20):
            await self.clock.pass_time(61)
        await asyncio.wait([*self.requests, *self.forced, asyncio.create_task(settle())])
        assert await self.get(-1) == 200


async def play(steps: list[Step]) -> None:
    world = World()
    try:
        for step in steps:
            await world.take(step)
        await world.end_well()
    finally:
        await world.auth.aclose()
        await world.api.aclose()
        await world.http.aclose()
    await settle()

    assert world.most_asking <= 1, "two token requests at once"
    for task in world.requests:
        if not task.cancelled():
            error = task.exception()
            assert isinstance(error, TokenError) if error else task.result() in (200, 401)
    for forced in world.forced:
        assert forced.exception() is None or isinstance(forced.exception(), TokenError)
    sent = Counter(request.headers["X-Number"] for request in world.fake.api_requests)
    assert not sent or max(sent.values()) <= 2, "a request was sent more than twice"
    assert asyncio.all_tasks() == world.before, "a task was left behind"


@settings(max_examples=150)
@given(st.lists(STEPS, max_size=30))
def test_whatever_happens_in_whatever_order(steps: list[Step]) -> None:
    """One token request at a time, two sendings at most, nobody waits for ever."""
    asyncio.run(play(steps))
