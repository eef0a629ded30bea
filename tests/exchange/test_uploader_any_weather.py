"""Whatever the server does: every accepted point arrives, is rejected, or is reported [T2]."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Sequence

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flip_async import SANDBOX, FlipClient, errors
from flip_async.models import TelemetryPoint
from flip_async.telemetry import MemoryOutbox
from tests.support import ManualClock
from tests.support.telemetry import TelemetryServer, flowing, point

WEATHER = {
    "fine": None,
    "busy": httpx.Response(429, headers={"Retry-After": "7"}),
    "down": httpx.ConnectError("down"),
    "cut": httpx.ReadError("cut"),
    "broken": httpx.Response(500),
    "forbidden": httpx.Response(403),
    "nonsense": httpx.Response(200, content=b"{"),
    "short": httpx.Response(200, json=[]),
    "refused": httpx.Response(422),
}
ENDS = ("leave", "cancel", "cancel twice", "raise")


class Weather(TelemetryServer):
    """A server whose mood changes with each request; some points are bad, some fail."""

    def __init__(self, moods: Sequence[str], bad: set[int], failing: set[int]) -> None:
        super().__init__()
        self._moods = list(moods)
        self.refuses = lambda row: number(row) in bad
        self.fails = lambda row: "no" if number(row) in failing else None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        mood = WEATHER[self._moods.pop(0)] if self._moods else None
        if mood is not None:
            answer = (
                mood
                if isinstance(mood, Exception)
                else httpx.Response(mood.status_code, headers=mood.headers, content=mood.content)
            )
            self.next_answers.append(answer)
        return await super().handle_async_request(request)


def number(row: dict[str, str]) -> int:
    return int(row["device_id"])


async def live(weather: Weather, count: int, end: str, luck: random.Random) -> None:
    clock = ManualClock(luck=luck.random())
    rejected: Counter[int] = Counter()
    undelivered: Counter[int] = Counter()
    accepted: list[int] = []

    def on_undelivered(points: Sequence[TelemetryPoint], error: errors.FlipError) -> None:
        undelivered.update(int(p.device_id) for p in points)

    async def body() -> None:
        async with flip.telemetry.uploader(
            outbox=MemoryOutbox(max_points=40, clock=clock),
            max_delay_s=luck.choice([0.1, 2.0]),
            concurrency=luck.choice([1, 3]),
            close_timeout_s=30.0,
            on_rejected=lambda p, why: rejected.update([int(p.device_id)]),
            on_undelivered=on_undelivered,
        ) as uploader:
            for index in range(count):
                await uploader.add(point(device_id=str(index)))
                accepted.append(index)
                if luck.random() < 0.2:
                    await clock.sleep(luck.random() * 3)
            if end == "raise":
                raise KeyError
            if end != "leave":
                await asyncio.Event().wait()

    async with (
        FlipClient(
            environment=SANDBOX, api_key="fl_your_api_key", transport=weather, clock=clock
        ) as flip,
        flowing(clock),
    ):
        task = asyncio.create_task(body())
        if end.startswith("cancel"):
            for _ in range(luck.randrange(2000)):
                await asyncio.sleep(0)
            task.cancel()
            if end == "cancel twice":
                for _ in range(luck.randrange(100)):
                    await asyncio.sleep(0)
                task.cancel()
        with contextlib.suppress(
            KeyError, asyncio.CancelledError, errors.UndeliveredTelemetryError
        ):
            await task

    arrived = {int(device_id) for device_id, _ in weather.accepted}
    for index in accepted:
        assert index in arrived or rejected[index] or undelivered[index], index
    # Nothing is told twice, and what arrived is not told to be rejected.
    assert max([*rejected.values(), *undelivered.values()], default=1) == 1
    assert not arrived & rejected.keys()


@settings(max_examples=150)
@given(
    moods=st.lists(st.sampled_from(sorted(WEATHER)), max_size=25),
    bad=st.sets(st.integers(0, 59), max_size=8),
    failing=st.sets(st.integers(0, 59), max_size=5),
    end=st.sampled_from(ENDS),
    seed=st.integers(0, 2**32),
)
def test_no_accepted_point_is_lost(
    moods: list[str], bad: set[int], failing: set[int], end: str, seed: int
) -> None:
    weather = Weather(moods, bad, failing)

    asyncio.run(live(weather, 60, end, random.Random(seed)))


@pytest.mark.parametrize("end", ENDS)
def test_no_accepted_point_is_lost_when_nothing_ever_works(end: str) -> None:
    weather = Weather(["forbidden"] * 10_000, set(), set())

    asyncio.run(live(weather, 30, end, random.Random(1)))
