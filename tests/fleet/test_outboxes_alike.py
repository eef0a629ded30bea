"""What every outbox promises, in memory, on disk and in Redis, by the same tests."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from flip_async.errors import ClientClosedError, ConfigurationError, OutboxFullError
from flip_async.redis import RedisOutbox
from flip_async.telemetry import MemoryOutbox, Outbox, OutboxDraft, OutboxEntry, SqliteOutbox

Make = Callable[..., Outbox]
SHARED = ["disk", "redis"]
ALL = ["memory", *SHARED]


@pytest.fixture(params=ALL)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes outboxes of one kind; those that are shared share the same points."""
    kind = request.param
    # Asked for only where it is needed.
    url = request.getfixturevalue("redis_server").url if kind == "redis" else ""

    def make(**options: object) -> Outbox:
        if kind == "memory":
            return MemoryOutbox(**options)  # type: ignore[arg-type]
        if kind == "disk":
            return SqliteOutbox(tmp_path / "outbox.db", **options)  # type: ignore[arg-type]
        return RedisOutbox(url, **options)  # type: ignore[arg-type]

    return make


only_shared = pytest.mark.parametrize("make", SHARED, indirect=True)


async def opened(outbox: Outbox, *, in_order: bool = False) -> Outbox:
    await outbox.open(origin="https://api.example", endpoint="BATTERY", in_order=in_order)
    return outbox


def drafts(*numbers: int, device: str = "a") -> list[OutboxDraft]:
    return [OutboxDraft(device, b"%d" % number) for number in numbers]


def numbers(entries: Sequence[OutboxEntry]) -> list[int]:
    return [int(entry.body) for entry in entries]


async def test_points_are_given_in_the_order_in_which_they_were_put(make: Make) -> None:
    outbox = await opened(make())

    first = await outbox.put(drafts(1, 2, 3))
    second = await outbox.put(drafts(4, 5))

    entries = await outbox.claim(1000)
    assert numbers(entries) == [1, 2, 3, 4, 5]
    assert [entry.device for entry in entries] == ["a"] * 5
    ids = [entry.id for entry in entries]
    assert ids[:3] == list(range(first.last_id - 2, first.last_id + 1))
    assert ids[3:] == list(range(second.last_id - 1, second.last_id + 1))
    assert ids == sorted(ids)
    assert (first.count, second.count) == (3, 2)
    await outbox.aclose()


async def test_puts_at_the_same_time_are_told_their_own_ids(make: Make) -> None:
    outbox = await opened(make())

    results = await asyncio.gather(*(outbox.put(drafts(n, 100 + n)) for n in range(20)))

    by_id = {entry.id: int(entry.body) for entry in await outbox.claim(1000)}
    for number, result in enumerate(results):
        assert [by_id[result.last_id - 1], by_id[result.last_id]] == [number, 100 + number]
    await outbox.aclose()


async def test_what_is_claimed_is_given_to_nobody_else(make: Make) -> None:
    outbox = await opened(make())
    await outbox.put(drafts(1, 2, 3))

    assert numbers(await outbox.claim(2)) == [1, 2]
    assert numbers(await outbox.claim(1000)) == [3]
    assert await outbox.claim(1000) == []
    await outbox.aclose()


async def test_what_is_settled_is_gone_and_the_rest_of_its_batch_waits(make: Make) -> None:
    outbox = await opened(make())
    await outbox.put(drafts(1, 2, 3, 4))
    entries = await outbox.claim(1000)

    await outbox.settle([entries[0], entries[2]])
    await outbox.release([entries[3]])
    await outbox.release([entries[1]])

    assert numbers(await outbox.claim(1000)) == [2, 4]
    await outbox.aclose()


async def test_depth_tells_what_waits_and_the_lowest_id_of_all(make: Make) -> None:
    outbox = await opened(make())
    assert (await outbox.renew()).first_id is None

    put = await outbox.put(drafts(1, 2, 3))
    claimed = await outbox.claim(2)

    depth = await outbox.renew()
    assert (depth.waiting, depth.first_id) == (1, put.last_id - 2)
    assert depth.oldest_at is not None
    await outbox.settle(claimed)
    assert (await outbox.renew()).first_id == put.last_id
    await outbox.settle(await outbox.claim(1000))
    depth = await outbox.renew()
    assert (depth.waiting, depth.first_id, depth.oldest_at) == (0, None, None)
    await outbox.aclose()


async def test_depth_is_kept_up_without_a_look(make: Make) -> None:
    outbox = await opened(make())

    await outbox.put(drafts(1, 2, 3))
    assert outbox.depth.waiting == 3
    entries = await outbox.claim(2)
    assert outbox.depth.waiting == 1
    await outbox.release(entries)
    assert outbox.depth.waiting == 3
    await outbox.settle(await outbox.claim(1000))
    assert outbox.depth.waiting == 0
    await outbox.aclose()


async def test_refused_points_leave_half_of_a_batch_to_others(make: Make) -> None:
    outbox = await opened(make())
    await outbox.put(drafts(*range(10)))
    await outbox.release(await outbox.claim(5), was_refused=True)

    assert numbers(await outbox.claim(4)) == [5, 6, 0, 1]
    rest = await outbox.claim(1000)

    assert [entry.was_refused for entry in rest] == [False] * 3 + [True] * 3
    assert outbox.depth.waiting == 0
    await outbox.aclose()


async def test_what_was_refused_fills_a_batch_where_there_is_nothing_else(make: Make) -> None:
    outbox = await opened(make())
    await outbox.put(drafts(*range(6)))
    await outbox.release(await outbox.claim(1000), was_refused=True)

    entries = await outbox.claim(4)

    assert numbers(entries) == [0, 1, 2, 3]
    assert all(entry.was_refused for entry in entries)
    await outbox.release(entries)
    assert all(entry.was_refused for entry in await outbox.claim(1000))  # it is not forgotten
    await outbox.aclose()


async def test_a_device_of_which_points_are_sent_gives_no_others(make: Make) -> None:
    outbox = await opened(make(), in_order=True)
    await outbox.put([*drafts(1, 2), *drafts(10, device="b")])

    first = await outbox.claim(1)
    others = await outbox.claim(1000)
    assert numbers(first) == [1]
    assert numbers(others) == [10]
    await outbox.put(drafts(3))
    assert await outbox.claim(1000) == []

    await outbox.release(first)
    assert numbers(await outbox.claim(1000)) == [1, 2, 3]
    await outbox.aclose()


async def test_what_was_refused_comes_before_its_successors(make: Make) -> None:
    outbox = await opened(make(), in_order=True)
    await outbox.put(drafts(1, 2))
    await outbox.release(await outbox.claim(1), was_refused=True)

    order: list[int] = []
    while entries := await outbox.claim(1000):
        order += numbers(entries)
        assert entries[0].was_refused == (entries[0].body == b"1")
        await outbox.settle(entries)

    assert order == [1, 2]
    await outbox.aclose()


async def test_what_was_refused_in_order_leaves_half_of_a_batch_to_others(make: Make) -> None:
    outbox = await opened(make(), in_order=True)
    await outbox.put(drafts(*range(6)))
    await outbox.release(await outbox.claim(1000), was_refused=True)
    await outbox.put(drafts(*range(10, 16), device="b"))

    entries = await outbox.claim(4)

    if not isinstance(outbox, MemoryOutbox):
        assert numbers(entries) == [10, 11, 0, 1]
    await outbox.aclose()


async def test_a_dead_letter_is_given_to_nobody(make: Make) -> None:
    outbox = await opened(make())
    await outbox.put(drafts(1, 2, 3))
    entries = await outbox.claim(1000)

    await outbox.dead_letter(entries[1:2], "no JSON")
    await outbox.release([entries[0], entries[2]])

    assert numbers(await outbox.claim(1000)) == [1, 3]
    await outbox.aclose()


async def test_it_takes_as_many_as_there_is_room_for(make: Make) -> None:
    outbox = await opened(make(max_points=5))

    first, second = await outbox.put(drafts(1, 2, 3)), await outbox.put(drafts(4, 5, 6, 7))

    assert (first.count, first.is_full) == (3, False)
    assert (second.count, second.is_full) == (2, True)
    assert numbers(await outbox.claim(1000)) == [1, 2, 3, 4, 5]
    await outbox.aclose()


async def test_whoever_waits_for_room_gets_it_in_turn(make: Make) -> None:
    outbox = await opened(make(max_points=2))
    await outbox.put(drafts(1, 2))
    waiting = [asyncio.create_task(outbox.put(drafts(number))) for number in (3, 4, 5)]
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in waiting)

    order: list[int] = []
    async with asyncio.timeout(30):
        while len(order) < 5:
            entries = await outbox.claim(1)
            order += numbers(entries)
            await outbox.settle(entries)
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)

    assert order == [1, 2, 3, 4, 5]
    await outbox.aclose()


async def test_whoever_waits_for_room_is_told_when_it_takes_no_more(make: Make) -> None:
    outbox = await opened(make(max_points=1))
    await outbox.put(drafts(1))
    waiting = [asyncio.create_task(outbox.put(drafts(number))) for number in (2, 3)]
    await asyncio.sleep(0.05)

    outbox.stop_taking()

    for task in waiting:
        with pytest.raises(ClientClosedError):
            await task
    await outbox.aclose()


@only_shared
async def test_it_may_say_that_it_is_full(make: Make) -> None:
    outbox = await opened(make(max_points=2, when_full="raise"))
    await outbox.put(drafts(1, 2))

    with pytest.raises(OutboxFullError, match="2 points"):
        await outbox.put(drafts(3))

    await outbox.settle(await outbox.claim(1))
    assert (await outbox.put(drafts(3))).count == 1
    await outbox.aclose()


async def test_it_has_one_uploader(make: Make) -> None:
    outbox = await opened(make())

    with pytest.raises(ConfigurationError, match="has an uploader already"):
        await opened(outbox)

    await outbox.aclose()


@only_shared
async def test_what_is_claimed_waits_again_after_closing(make: Make) -> None:
    one = await opened(make())
    await one.put(drafts(1, 2, 3))
    entries = await one.claim(1000)
    await one.settle(entries[:1])
    await one.aclose()

    two = await opened(make())
    assert numbers(await two.claim(1000)) == [2, 3]
    await two.aclose()


@only_shared
async def test_two_that_share_points_are_given_different_ones(make: Make) -> None:
    one, two = await opened(make()), await opened(make())
    await asyncio.gather(one.put(drafts(1, 2)), two.put(drafts(3, 4)))

    first, second = await one.claim(2), await two.claim(1000)

    assert sorted(numbers([*first, *second])) == [1, 2, 3, 4]
    await one.aclose()
    await two.aclose()


@only_shared
async def test_nothing_is_safe_at_once_where_it_takes_a_trip(make: Make) -> None:
    outbox = await opened(make())

    with pytest.raises(ConfigurationError, match="await add"):
        outbox.put_nowait(drafts(1)[0])

    await outbox.aclose()
