"""Two workers, any order of what they do: nothing is lost, and a device keeps its order."""

import asyncio
from collections import Counter
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from flip_async.errors import StorageError
from flip_async.redis import RedisOutbox
from flip_async.telemetry import OutboxDraft, OutboxEntry
from tests.support.redis_server import RedisServer

DEVICES = "abcd"
DO = (
    "put", "claim", "settle all", "settle some", "release", "refuse", "bury", "die", "lose",
    "renew",
)  # fmt: skip


def steps_of(*do: str) -> st.SearchStrategy[list[tuple[str, int, int]]]:
    return st.lists(
        st.tuples(st.sampled_from(do), st.integers(0, 1), st.integers(1, 9)), max_size=40
    )


class Fleet:
    """Two workers, and what became of each point.

    Attributes:
        sent: Numbers in the order in which they were sent for the first time.
        dead: Those that were put aside.
    """

    def __init__(self, url: str, namespace: str, *, in_order: bool) -> None:
        self._make: Any = lambda: RedisOutbox(url, namespace=namespace, lease_s=1000.0)
        self._in_order = in_order
        self.workers: list[RedisOutbox] = []
        self.held: list[list[list[OutboxEntry]]] = [[], []]
        self.put = 0
        self.sent: list[int] = []
        self.times: Counter[int] = Counter()
        self.dead: set[int] = set()

    async def open(self) -> None:
        self.workers = [await self._new(), await self._new()]

    async def _new(self) -> RedisOutbox:
        outbox: RedisOutbox = self._make()
        await outbox.open(origin="https://x", endpoint="y", in_order=self._in_order)
        return outbox

    async def do(self, what: str, who: int, size: int) -> None:
        outbox, held = self.workers[who], self.held[who]
        if what == "put":
            numbers = range(self.put, self.put + size)
            await outbox.put([OutboxDraft(DEVICES[n * n % 4], b"%d" % n) for n in numbers])
            self.put += size
        elif what == "claim":
            held.append(list(await outbox.claim(size)))
        elif what == "renew":
            await outbox.renew()
        elif what == "lose":
            await self._lose_an_answer(outbox, size)
        elif what == "hang":
            # Its claims end, and it does not know.
            claims = outbox._claimed.claims
            await self.workers[1 - who]._run_claims("renew", ["somebody", 1, 0, *claims])
        elif what == "die":
            await self._die(who)
        elif held:
            await self._end(outbox, held.pop(0), what, size)

    async def _end(
        self, outbox: RedisOutbox, batch: list[OutboxEntry], what: str, size: int
    ) -> None:
        # A worker sends from the head of a batch, so that order is kept.
        some, rest = batch[:size], batch[size:]
        if what == "settle all":
            some, rest = batch, []
        if what.startswith("settle"):
            self._send(some)
            await outbox.settle(some)
        elif what == "bury":
            self.dead.update(int(entry.body) for entry in some)
            await outbox.dead_letter(some, "bad")
        else:
            rest = batch
        await outbox.release(rest, was_refused=what == "refuse")

    def _send(self, entries: list[OutboxEntry]) -> None:
        for entry in entries:
            number = int(entry.body)
            if not self.times[number]:
                self.sent.append(number)
            self.times[number] += 1

    async def _lose_an_answer(self, outbox: RedisOutbox, size: int) -> None:
        run = outbox._redis.run

        async def loses(*arguments: Any, **options: Any) -> Any:
            await run(*arguments, **options)
            raise StorageError("no answer")

        outbox._redis.run = loses  # type: ignore[method-assign]
        with pytest.raises(StorageError):
            await outbox.claim(size)
        outbox._redis.run = run  # type: ignore[method-assign]

    async def _die(self, who: int) -> None:
        """Its claims end, as with their lease; what it had sent last was not settled."""
        if self.held[who]:
            self._send(self.held[who][0][:2])
        self.held[who].clear()
        await self.workers[who].aclose()
        self.workers[who] = await self._new()

    async def to_the_end(self) -> None:
        for who in (0, 1):
            await self._die(who)
        while batch := list(await self.workers[0].claim(5)):
            self._send(batch)
            await self.workers[0].settle(batch)
        depth = await self.workers[0].renew()
        assert (depth.waiting, depth.first_id, depth.oldest_at) == (0, None, None)
        for outbox in self.workers:
            await outbox.aclose()


@pytest.mark.parametrize("in_order", [False, True], ids=["any order", "in order"])
@pytest.mark.timeout(120)
def test_nothing_is_lost_whatever_two_workers_do(redis_server: RedisServer, in_order: bool) -> None:
    runs = iter(range(1_000_000))

    # One that hangs and goes on sends what another one has claimed: the order is lost then.
    do = DO if in_order else (*DO, "hang")

    @settings(max_examples=60, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
    @given(steps=steps_of(*do))
    def whatever_they_do(steps: list[tuple[str, int, int]]) -> None:
        asyncio.run(run(steps))

    async def run(steps: list[tuple[str, int, int]]) -> None:
        fleet = Fleet(redis_server.url, f"run-{next(runs)}", in_order=in_order)
        await fleet.open()
        for step in steps:
            await fleet.do(*step)
        await fleet.to_the_end()

        assert set(fleet.sent) | fleet.dead == set(range(fleet.put))
        if in_order:
            for device in range(4):
                mine = [n for n in fleet.sent if n * n % 4 == device]
                assert mine == sorted(mine)

    whatever_they_do()
