"""What is special about points in Redis: leases, chunks, the keys, and who may do what."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
import redis.asyncio

from flip_async import SANDBOX, FlipClient
from flip_async.errors import (
    ClientClosedError,
    ConfigurationError,
    InvalidArgumentError,
    OutboxFullError,
    StorageError,
)
from flip_async.redis import RedisOutbox
from flip_async.telemetry import OutboxDraft, OutboxEntry
from tests.support import ManualClock
from tests.support.redis_server import RedisClusterOfThree, RedisServer, given_client
from tests.support.telemetry import TelemetryServer, point

SHORT_S = 0.3
LEAST_ACL = (
    "~flip:{outbox:*", "+client|setname", "+info", "+eval", "+evalsha", "+time",
    "+hget", "+hmget", "+hset", "+hdel", "+hincrby",
    "+zadd", "+zrem", "+zrange", "+zcard",
)  # fmt: skip


async def opened(
    url: object, *, in_order: bool = False, origin: str = "https://api.example", **options: Any
) -> RedisOutbox:
    outbox = RedisOutbox(url, **options)  # type: ignore[arg-type]
    await outbox.open(origin=origin, endpoint="BATTERY", in_order=in_order)
    return outbox


@contextlib.asynccontextmanager
async def outbox_of(url: object, **options: Any) -> AsyncIterator[RedisOutbox]:
    outbox = await opened(url, **options)
    try:
        yield outbox
    finally:
        await outbox.aclose()


def drafts(*numbers: int, device: str = "a") -> list[OutboxDraft]:
    return [OutboxDraft(device, b"%d" % number) for number in numbers]


def numbers(entries: Sequence[OutboxEntry]) -> list[int]:
    return [int(entry.body) for entry in entries]


async def claimed_at_last(outbox: RedisOutbox) -> list[int]:
    """What it is given as soon as there is something."""
    async with asyncio.timeout(30):
        while not (entries := await outbox.claim(1000)):
            await asyncio.sleep(0.02)
    return numbers(entries)


def of(server: RedisServer, part: str) -> Any:
    """What is in the hash or sorted set of that name."""
    with server.admin() as admin:
        key = f"flip:{{outbox:https://api.example:BATTERY}}:{part}"
        return admin.zrange(key, 0, -1) if admin.type(key) == b"zset" else admin.hgetall(key)


def assert_nothing_is_left(server: RedisServer) -> None:
    """But the counts, which are nought, and the last id."""
    with server.admin() as admin:
        kept = {key.rpartition(b":")[2] for key in admin.scan_iter()}
    assert kept <= {b"counts"}
    counts = of(server, "counts")
    assert {int(value) for name, value in counts.items() if name != b"last_id"} <= {0}


# Leases


async def test_what_a_hanging_process_has_claimed_goes_to_another_one(
    redis_server: RedisServer,
) -> None:
    async with (
        outbox_of(redis_server.url, lease_s=SHORT_S) as hangs,
        outbox_of(redis_server.url, lease_s=SHORT_S) as other,
    ):
        await hangs.put(drafts(1, 2))
        await hangs.claim(1000)

        assert await claimed_at_last(other) == [1, 2]


async def test_a_lease_that_is_renewed_holds(redis_server: RedisServer) -> None:
    async with (
        outbox_of(redis_server.url, lease_s=2.0) as one,
        outbox_of(redis_server.url, lease_s=0.1) as other,
    ):
        await one.put(drafts(1, 2))
        await one.claim(1000)
        for _ in range(30):
            await one.renew()
            assert await other.claim(1000) == []
            await asyncio.sleep(0.1)
        assert one.claims == 2


async def test_what_is_sent_and_settled_late_is_not_sent_twice(redis_server: RedisServer) -> None:
    """Another process has claimed it meanwhile, and that is no reason to keep it [F6]."""
    async with (
        outbox_of(redis_server.url, lease_s=SHORT_S) as late,
        outbox_of(redis_server.url) as other,
    ):
        await late.put(drafts(1, 2))
        entries = await late.claim(1000)
        assert await claimed_at_last(other) == [1, 2]

        await late.settle(entries)

        depth = await other.renew()
        assert (depth.waiting, depth.first_id) == (0, None)
    assert_nothing_is_left(redis_server)


async def test_what_is_given_back_late_stays_with_who_has_it(redis_server: RedisServer) -> None:
    async with (
        outbox_of(redis_server.url, lease_s=SHORT_S) as late,
        outbox_of(redis_server.url) as other,
    ):
        await late.put(drafts(1, 2, 3))
        entries = await late.claim(1000)
        assert await claimed_at_last(other) == [1, 2, 3]

        await late.release(entries[:1])
        await late.settle(entries[1:2])
        await late.release(entries[2:])

        assert await late.claim(1000) == []
        assert other.claims == 3
        assert late.depth.waiting == 0


async def test_a_claim_whose_answer_was_lost_is_not_kept(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even while its process lives and renews [F4]."""
    async with outbox_of(redis_server.url) as outbox:
        await outbox.put(drafts(1, 2))
        run = outbox._redis.run

        async def loses_the_answer(*arguments: Any, **options: Any) -> Any:
            await run(*arguments, **options)
            raise StorageError("no answer")

        monkeypatch.setattr(outbox._redis, "run", loses_the_answer)
        with pytest.raises(StorageError):
            await outbox.claim(1000)
        monkeypatch.undo()
        assert outbox.claims == 0
        assert await outbox.claim(1000) == []

        await outbox.renew()

        assert numbers(await outbox.claim(1000)) == [1, 2]


async def test_a_claim_whose_caller_was_cancelled_is_not_kept(redis_server: RedisServer) -> None:
    async with outbox_of(redis_server.url) as outbox:
        await outbox.put(drafts(1, 2))
        for turns in range(12):
            claiming = asyncio.create_task(outbox.claim(1000))
            for _ in range(turns):
                await asyncio.sleep(0)
            claiming.cancel()
            await asyncio.wait({claiming})
            if not claiming.cancelled():
                await outbox.release(claiming.result())
            await outbox._redis.until_idle()

        await outbox.renew()

        assert numbers(await outbox.claim(1000)) == [1, 2]


async def test_a_lease_of_a_clock_that_was_ahead_counts_from_now(
    redis_server: RedisServer,
) -> None:
    """As after a failover to a server whose clock is behind [B6]."""
    async with (
        outbox_of(redis_server.url, lease_s=SHORT_S) as dead,
        outbox_of(redis_server.url, lease_s=SHORT_S) as other,
    ):
        await dead.put(drafts(1))
        await dead.claim(1000)
        with redis_server.admin() as admin:
            (claim,) = of(redis_server, "leases")
            key = "flip:{outbox:https://api.example:BATTERY}:leases"
            admin.zincrby(key, 3600e6, claim)

        async with asyncio.timeout(30):
            while not (entries := await other.claim(1000)):
                await other.renew()
                await asyncio.sleep(0.02)
        assert numbers(entries) == [1]


# Scripts that run twice


class RunsTwice:
    """A client that sends each script again, as one does that repeats after a lost answer."""

    def __init__(self, outbox: RedisOutbox, monkeypatch: pytest.MonkeyPatch) -> None:
        run = outbox._redis.run

        async def twice(*arguments: Any, **options: Any) -> Any:
            await run(*arguments, **options)
            return await run(*arguments, **options)

        monkeypatch.setattr(outbox._redis, "run", twice)


@pytest.mark.parametrize("in_order", [False, True], ids=["any order", "in order"])
async def test_whatever_runs_twice_is_done_once(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, in_order: bool
) -> None:
    async with outbox_of(redis_server.url, in_order=in_order, max_points=10) as outbox:
        RunsTwice(outbox, monkeypatch)

        await outbox.put(drafts(*range(7)))
        put = await outbox.put(drafts(*range(7, 12)))
        assert (put.count, put.is_full) == (3, True)
        first = await outbox.claim(4)
        assert numbers(first) == [0, 1, 2, 3]
        await outbox.settle(first[:1])
        await outbox.release(first[1:2])
        await outbox.dead_letter(first[2:3], "bad")
        await outbox.release(first[3:], was_refused=True)

        entries = await outbox.claim(1000)
        assert sorted(numbers(entries)) == [1, *range(3, 10)]
        await outbox.settle(entries)
        assert (await outbox.renew()).first_id is None
    assert len(of(redis_server, "dead_letters")) == 1


# Chunks


async def test_puts_that_wait_share_a_record(redis_server: RedisServer) -> None:
    async with outbox_of(redis_server.url) as outbox:
        await asyncio.gather(*(outbox.put(drafts(number)) for number in range(200)))

        assert len(of(redis_server, "chunks")) <= 3
        assert sorted(numbers(await outbox.claim(1000))) == list(range(200))


async def test_a_part_that_comes_back_comes_to_its_place(redis_server: RedisServer) -> None:
    async with outbox_of(redis_server.url) as outbox:
        await outbox.put(drafts(*range(6)))
        await outbox.put(drafts(6, 7))
        entries = await outbox.claim(6)

        await outbox.release(entries[2:4])
        await outbox.settle([entries[0], entries[5]])

        assert numbers(await outbox.claim(1000)) == [2, 3, 6, 7]
        await outbox.release([entries[4], entries[1]])
        assert numbers(await outbox.claim(1000)) == [1, 4]


async def test_a_batch_is_whole_chunks(redis_server: RedisServer) -> None:
    async with outbox_of(redis_server.url) as outbox:
        for begin in (0, 600, 900):
            await outbox.put(drafts(*range(begin, begin + 300 + 300 * (not begin))))

        assert numbers(await outbox.claim(1000)) == list(range(900))
        assert numbers(await outbox.claim(1000)) == list(range(900, 1200))


async def test_a_point_given_twice_settles_itself_alone(redis_server: RedisServer) -> None:
    async with outbox_of(redis_server.url) as outbox:
        await outbox.put(drafts(1, 2))
        one, _ = await outbox.claim(1000)

        await outbox.settle([one, one])
        await outbox.aclose()

        async with outbox_of(redis_server.url) as other:
            assert numbers(await other.claim(1000)) == [2]


async def test_what_is_not_in_its_hands_is_left_alone(redis_server: RedisServer) -> None:
    async with outbox_of(redis_server.url) as outbox:
        put = await outbox.put(drafts(1))
        await outbox.claim(1000)
        stranger = OutboxEntry(put.last_id, "a", b"another one", 0.0)

        await outbox.settle([stranger])
        await outbox.release([stranger])
        await outbox.dead_letter([stranger], "?")

        assert outbox.claims == 1
        assert (await outbox.renew()).first_id == put.last_id
        assert of(redis_server, "dead_letters") == {}


async def test_a_dead_letter_is_kept_to_be_looked_at(redis_server: RedisServer) -> None:
    async with outbox_of(redis_server.url) as outbox:
        put = await outbox.put(drafts(7, device="inv-1"))
        entries = await outbox.claim(1000)

        await outbox.dead_letter(entries, "no JSON")

        ((entry_id, record),) = of(redis_server, "dead_letters").items()
        assert int(entry_id) == put.last_id
        letter = msgspec.msgpack.decode(record)
        assert (letter["device"], letter["body"], letter["reason"]) == ("inv-1", b"7", "no JSON")


async def test_a_record_that_is_damaged_is_passed_over_and_kept_aside(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with outbox_of(redis_server.url) as outbox:
        await outbox.put(drafts(1, 2))
        await outbox.put(drafts(3))
        (name, _) = sorted(of(redis_server, "chunks"))
        with redis_server.admin() as admin:
            admin.hset("flip:{outbox:https://api.example:BATTERY}:chunks", name, b"\xc1rubbish")

        assert numbers(await outbox.claim(1000)) == [3]

        assert "points are lost" in caplog.text
        (record,) = of(redis_server, "dead_letters").values()
        assert msgspec.msgpack.decode(record)["payload"] == b"\xc1rubbish"


# Order


async def test_each_device_keeps_its_order_while_batches_run_at_the_same_time(
    redis_server: RedisServer,
) -> None:
    """One that is being sent holds up its lane, and no other one [F6]."""
    async with (
        outbox_of(redis_server.url, in_order=True) as one,
        outbox_of(redis_server.url, in_order=True) as two,
    ):
        for number in range(4):
            await one.put([*drafts(number), *drafts(10 + number, device="b")])

        mine = await one.claim(2)
        theirs = await two.claim(1000)

        assert numbers(mine) == [0, 1]
        assert numbers(theirs) == [10, 11, 12, 13]
        await one.settle(mine)
        assert numbers(await two.claim(1000)) == [2, 3]


async def test_a_batch_that_died_comes_before_its_successors(redis_server: RedisServer) -> None:
    async with (
        outbox_of(redis_server.url, in_order=True, lease_s=SHORT_S) as dies,
        outbox_of(redis_server.url, in_order=True) as other,
    ):
        await dies.put(drafts(1, 2))
        await dies.claim(1000)
        await other.put(drafts(3))

        assert await claimed_at_last(other) == [1, 2, 3]


# Bounds


async def test_bytes_are_bounded_too(redis_server: RedisServer) -> None:
    async with outbox_of(redis_server.url, max_bytes=10, when_full="raise") as outbox:
        put = await outbox.put([OutboxDraft("a", b"1234")] * 3)
        assert put.count == 2
        put = await outbox.put([OutboxDraft("a", b"12")])
        assert put.is_full

        with pytest.raises(OutboxFullError, match="10 bytes"):
            await outbox.put([OutboxDraft("a", b"1")])
        with pytest.raises(OutboxFullError, match="larger than 10 bytes"):
            await outbox.put([OutboxDraft("a", b"1" * 11)])

        await outbox.settle((await outbox.claim(1000))[:1])
        assert (await outbox.put([OutboxDraft("a", b"1234")])).count == 1


async def test_room_that_another_process_makes_is_found(redis_server: RedisServer) -> None:
    async with (
        outbox_of(redis_server.url, max_points=2) as full,
        outbox_of(redis_server.url) as other,
    ):
        await full.put(drafts(1, 2))
        waiting = asyncio.create_task(full.put(drafts(3)))
        await asyncio.sleep(0.05)
        assert full.depth.is_full

        await other.settle(await other.claim(1000))

        async with asyncio.timeout(30):
            assert (await waiting).count == 1


async def test_ids_are_not_given_again_by_a_server_that_forgot_all(
    redis_server: RedisServer,
) -> None:
    """Else what was sent before would settle what came after."""
    async with outbox_of(redis_server.url) as outbox:
        before = await outbox.put(drafts(1))
        sent = await outbox.claim(1000)
        with redis_server.admin() as admin:
            admin.flushall()

        after = await outbox.put(drafts(2))
        entries = await outbox.claim(1000)
        await outbox.settle(sent)

        assert after.last_id > before.last_id
        assert numbers(entries) == [2]
        assert (await outbox.renew()).first_id == after.last_id


# Whose points


async def test_two_origins_never_meet(redis_server: RedisServer) -> None:
    """Data of the sandbox never goes to production."""
    async with (
        outbox_of(redis_server.url, origin="https://api.sandbox.example") as sandbox,
        outbox_of(redis_server.url, origin="https://api.example") as production,
        outbox_of(redis_server.url, namespace="tenant-2") as tenant,
    ):
        await sandbox.put(drafts(1))

        assert await production.claim(1000) == []
        assert await tenant.claim(1000) == []
        assert numbers(await sandbox.claim(1000)) == [1]


async def test_an_origin_cannot_break_out_of_its_tag(redis_server: RedisServer) -> None:
    async with outbox_of(redis_server.url, origin="https://x}:{y z") as outbox:
        await outbox.put(drafts(1))

    with redis_server.admin() as admin:
        tags = {key.split(b"}")[0].partition(b"{")[2] for key in admin.scan_iter()}
    assert tags == {b"outbox:https://x%7D:%7By%20z:BATTERY"}


async def test_a_clock_that_is_an_hour_off_changes_nothing(redis_server: RedisServer) -> None:
    """Redis's own counts, and times are told on the reader's [F8]."""
    clock = ManualClock()
    async with (
        outbox_of(redis_server.url, clock=clock) as off,
        outbox_of(redis_server.url) as right,
    ):
        await right.put(drafts(1))
        depth = await off.renew()
        assert depth.oldest_at == pytest.approx(clock.wall(), abs=30)
        entries = await off.claim(1000)

        assert entries[0].accepted_at == pytest.approx(clock.wall(), abs=30)
        assert await right.claim(1000) == []


# Its life


async def test_points_are_sent_from_redis_and_leave_it(redis_server: RedisServer) -> None:
    server = TelemetryServer()
    async with (
        FlipClient(environment=SANDBOX, api_key="fl_a_b", transport=server) as flip,
        flip.telemetry.uploader(outbox=RedisOutbox(redis_server.url)) as uploader,
    ):
        await uploader.add_many([point(number) for number in range(2500)])
        await asyncio.gather(*(uploader.add(point(number)) for number in range(2500, 2600)))
        await uploader.flush(timeout_s=30)
        assert uploader.stats.queued == 0

    assert server.numbers() == list(range(2600))
    with redis_server.admin() as admin:
        assert {key.rpartition(b":")[2] for key in admin.scan_iter()} == {b"counts"}


async def test_a_point_waits_for_others_no_longer_than_max_delay(
    redis_server: RedisServer,
) -> None:
    """Also when it comes while nothing else waits, long before the next look."""
    server = TelemetryServer()
    async with (
        FlipClient(environment=SANDBOX, api_key="fl_a_b", transport=server) as flip,
        flip.telemetry.uploader(outbox=RedisOutbox(redis_server.url), max_delay_s=0.02) as uploader,
    ):
        for number in range(5):
            await uploader.add(point(number))
            while uploader.stats.sent <= number:
                await asyncio.sleep(0.005)
            assert uploader._clock.monotonic() < uploader._worker._renew_at_s


async def test_two_uploaders_share_the_points_and_send_none_twice(
    redis_server: RedisServer,
) -> None:
    server = TelemetryServer()
    async with (
        FlipClient(environment=SANDBOX, api_key="fl_a_b", transport=server) as flip,
        flip.telemetry.uploader(outbox=RedisOutbox(redis_server.url), max_delay_s=0.01) as one,
        flip.telemetry.uploader(outbox=RedisOutbox(redis_server.url), max_delay_s=0.01) as two,
    ):
        for number in range(0, 400, 2):
            await asyncio.gather(one.add(point(number)), two.add(point(number + 1)))
        await one.flush(timeout_s=30)
        await two.flush(timeout_s=30)

    assert server.numbers() == list(range(400))


async def test_after_closing_it_takes_and_gives_nothing(redis_server: RedisServer) -> None:
    outbox = await opened(redis_server.url)
    await outbox.put(drafts(1))
    await asyncio.gather(outbox.aclose(), outbox.aclose())

    with pytest.raises(ClientClosedError):
        await outbox.put(drafts(2))
    for call in (outbox.claim(1000), outbox.renew()):
        with pytest.raises(StorageError, match="is closed"):
            await call


async def test_one_that_was_never_opened_can_be_closed(redis_server: RedisServer) -> None:
    await RedisOutbox(redis_server.url).aclose()

    with redis_server.admin() as admin:
        assert admin.keys() == []


async def test_a_workers_traces_are_gone_when_it_leaves(redis_server: RedisServer) -> None:
    async with outbox_of(redis_server.url, in_order=True) as outbox:
        await outbox.put(drafts(1, 2, 3))
        entries = await outbox.claim(2)
        await outbox.settle(entries)
        await outbox.settle(await outbox.claim(2))

    assert_nothing_is_left(redis_server)


@pytest.mark.parametrize(
    "options",
    [
        {"max_points": 0}, {"max_points": 1.5}, {"max_bytes": 0}, {"lease_s": 0},
        {"lease_s": "30"}, {"when_full": "drop"}, {"min_replicas": -1}, {"namespace": "a b"},
        {"clock": 5},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_options_are_refused_at_once(options: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(options))):
        RedisOutbox("redis://localhost", **options)


async def normal_life(url: str) -> None:
    for in_order in (False, True):
        options: Any = {"in_order": in_order, "origin": f"https://{in_order}"}
        async with (
            outbox_of(url, **options, lease_s=SHORT_S) as dies,
            outbox_of(url, **options, max_points=12) as outbox,
        ):
            await dies.put([*drafts(1, 2), *drafts(3, device="b")])
            await dies.claim(1000)
            assert await claimed_at_last(outbox)
            await outbox.put(drafts(*range(20), device="c"))
            entries = await outbox.claim(1000)
            await outbox.settle(entries[:1])
            await outbox.dead_letter(entries[1:2], "bad")
            await outbox.release(entries[2:4], was_refused=True)
            await outbox.release(entries[4:])
            assert await outbox.claim(1000)
            await outbox.renew()


async def test_the_least_acl_is_enough(redis_server: RedisServer) -> None:
    await normal_life(redis_server.user("points", *LEAST_ACL))


@pytest.mark.parametrize("rule", [rule for rule in LEAST_ACL if rule[0] == "+"])
async def test_each_command_of_the_least_acl_is_needed(
    redis_server: RedisServer, rule: str
) -> None:
    """Without it something is refused, and the reader is sent to the ACL."""
    url = redis_server.user("poor", *(other for other in LEAST_ACL if other != rule))

    with pytest.raises(StorageError, match="ACL"):
        await normal_life(url)


async def test_a_cluster_serves_too(redis_cluster: RedisClusterOfThree) -> None:
    theirs = redis.asyncio.RedisCluster.from_url(redis_cluster.url)
    for in_order in (False, True):
        async with outbox_of(theirs, namespace=f"outbox-{in_order}", in_order=in_order) as outbox:
            await outbox.put(drafts(*range(10)))
            entries = await outbox.claim(4)
            await outbox.settle(entries[:2])
            await outbox.release(entries[2:])
            assert sorted(numbers(await outbox.claim(1000))) == list(range(2, 10))
    await theirs.aclose()


async def test_resp3_and_a_client_that_is_given_serve_too(redis_server: RedisServer) -> None:
    async with given_client(redis_server.url, protocol=3) as theirs:
        async with outbox_of(theirs, in_order=True) as outbox:
            await outbox.put(drafts(1, 2))
            assert numbers(await outbox.claim(1000)) == [1, 2]
        async with outbox_of(redis_server.url + "?protocol=3") as outbox:
            await outbox.renew()
        assert await theirs.ping()


async def test_a_server_that_throws_points_away_is_refused(redis_server: RedisServer) -> None:
    with redis_server.admin() as admin:
        admin.config_set("maxmemory-policy", "allkeys-lfu")
    try:
        with pytest.raises(ConfigurationError, match="allkeys-lfu.*points"):
            await opened(redis_server.url)
    finally:
        with redis_server.admin() as admin:
            admin.config_set("maxmemory-policy", "noeviction")
