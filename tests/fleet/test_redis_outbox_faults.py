"""Redis stops, hangs, forgets, fills up and fails over: no accepted point is lost for it [F4]."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx
import pytest

from flip_async import SANDBOX, FlipClient
from flip_async.errors import StorageError, UndeliveredTelemetryError
from flip_async.redis import RedisOutbox
from flip_async.telemetry import OutboxDraft, OutboxEntry, TelemetryUploader, _delivery, _worker
from tests.support import points_fleet
from tests.support.redis_server import RedisServer, given_client
from tests.support.telemetry import TelemetryServer, point

KEY = "flip:{outbox:https://api.example:BATTERY}:"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_delivery, "_STORE_S", 0.05)
    monkeypatch.setattr(_worker, "_STORE_S", 0.05)


@pytest.fixture
def server() -> TelemetryServer:
    return TelemetryServer()


@contextlib.asynccontextmanager
async def uploading(
    server: TelemetryServer, outbox: RedisOutbox, **options: Any
) -> AsyncIterator[TelemetryUploader[Any]]:
    options = {"max_delay_s": 0.01, "close_timeout_s": 20.0} | options
    async with (
        FlipClient(environment=SANDBOX, api_key="fl_a_b", transport=server) as flip,
        flip.telemetry.uploader(outbox=outbox, **options) as uploader,
    ):
        yield uploader


@contextlib.asynccontextmanager
async def outbox_of(url: object, **options: Any) -> AsyncIterator[RedisOutbox]:
    outbox = RedisOutbox(url, **options)  # type: ignore[arg-type]
    await outbox.open(origin="https://api.example", endpoint="BATTERY", in_order=False)
    try:
        yield outbox
    finally:
        await outbox.aclose()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_so():
            await asyncio.sleep(0.01)


def numbers(entries: Sequence[OutboxEntry]) -> list[int]:
    return [int(entry.body) for entry in entries]


async def added_at_last(uploader: TelemetryUploader[Any], number: int) -> None:
    """As a user does who adds again what was not accepted."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await uploader.add(point(number))
            except StorageError:
                await asyncio.sleep(0.02)


async def flushed_at_last(uploader: TelemetryUploader[Any]) -> None:
    """A connection that died while it was idle costs the next command."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await uploader.flush(timeout_s=30)
            except StorageError:
                await asyncio.sleep(0.02)


async def test_a_server_that_is_restarted_empty_loses_its_points_and_serves_again(
    own_redis: RedisServer, server: TelemetryServer
) -> None:
    """What was on its way is sent; what waited is lost with the server, and nothing hangs."""
    server.gate = asyncio.Event()
    async with uploading(server, RedisOutbox(own_redis.url, lease_s=1.0)) as uploader:
        await uploader.add(point(0))
        await until(lambda: bool(server.requests))
        own_redis.kill()
        with pytest.raises(StorageError, match=r"cannot be reached|did not answer"):
            await uploader.add(point(1))
        server.gate.set()
        await until(lambda: uploader.stats.blocked_by is not None)
        own_redis.start()
        await added_at_last(uploader, 2)
        await flushed_at_last(uploader)

    assert server.numbers() == [0, 2]


async def test_a_server_that_keeps_its_data_loses_nothing(server: TelemetryServer) -> None:
    with contextlib.closing(RedisServer("--appendonly", "yes").start()) as redis:
        server.gate = asyncio.Event()
        async with uploading(server, RedisOutbox(redis.url)) as uploader:
            await uploader.add_many([point(number) for number in range(1500)])
            await until(lambda: bool(server.requests))
            redis.stop()
            server.gate.set()
            await until(lambda: len(server.numbers()) >= 1000)
            redis.start()
            await flushed_at_last(uploader)

        # What was sent while Redis was away was crossed off when it was back: at least once.
        assert set(server.numbers()) == set(range(1500))


async def test_a_server_that_hangs_for_a_while_costs_no_point(
    own_redis: RedisServer, server: TelemetryServer
) -> None:
    async with uploading(server, RedisOutbox(own_redis.url, lease_s=20.0)) as uploader:
        await uploader.add(point(0))
        await uploader.flush(timeout_s=30)
        own_redis.freeze()
        with pytest.raises(StorageError, match="did not answer"):
            await uploader.add(point(1))  # it may be there, and is: the server reads it later
        own_redis.thaw()
        await added_at_last(uploader, 2)
        await flushed_at_last(uploader)

    assert set(server.numbers()) - {1} == {0, 2}


async def test_leaving_a_server_that_hangs_does_not_hang(
    own_redis: RedisServer, server: TelemetryServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.gate = asyncio.Event()
    try:
        async with asyncio.timeout(40):
            async with uploading(
                server, RedisOutbox(own_redis.url, lease_s=1.0), close_timeout_s=0.1
            ) as uploader:
                await uploader.add(point(0))
                await until(lambda: bool(server.requests))
                own_redis.freeze()
    finally:
        own_redis.thaw()

    assert "free when its lease is over" in caplog.text
    server.gate.set()
    async with uploading(server, RedisOutbox(own_redis.url)) as uploader:
        await uploader.flush(timeout_s=30)
    assert 0 in server.numbers()


async def test_opening_where_there_is_no_server_is_told(own_redis: RedisServer) -> None:
    own_redis.stop()

    with pytest.raises(StorageError, match="cannot be reached"):
        async with outbox_of(own_redis.url):
            pass


async def test_connections_that_are_killed_are_made_anew(
    own_redis: RedisServer, server: TelemetryServer
) -> None:
    async with uploading(server, RedisOutbox(own_redis.url)) as uploader:
        with own_redis.admin() as admin:
            for number in range(40):
                admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                await added_at_last(uploader, number)
        await flushed_at_last(uploader)

    assert set(server.numbers()) == set(range(40))


async def test_a_full_server_takes_nothing_and_becomes_empty(own_redis: RedisServer) -> None:
    """Else it would stay full for ever [F4]."""
    async with outbox_of(own_redis.url) as outbox:
        body = b"1" * 50_000
        with own_redis.admin() as admin:
            admin.config_set("maxmemory", "8mb")
            with pytest.raises(StorageError, match="it is full"):
                for _ in range(1000):
                    await outbox.put([OutboxDraft("a", body)] * 10)
            # What is claimed and let go of needs memory of its own.
            admin.config_set("maxmemory", "1mb")

        entries = await outbox.claim(1000)
        await outbox.release(entries[:1], was_refused=True)
        await outbox.dead_letter(entries[1:2], "bad")
        await outbox.settle(entries[2:])
        taken = len(entries)
        while entries := await outbox.claim(1000):
            await outbox.settle(entries)
            taken += len(entries)
        assert taken > 20
        assert (await outbox.renew()).first_id is None
        with own_redis.admin() as admin:
            admin.config_set("maxmemory", "64mb")
        assert (await outbox.put([OutboxDraft("a", body)])).count == 1


async def test_a_failover_loses_no_point_that_the_replica_has(
    own_redis: RedisServer, server: TelemetryServer
) -> None:
    with contextlib.closing(own_redis.copy()) as replica:
        async with given_client(own_redis.url) as theirs:
            outbox = RedisOutbox(theirs, min_replicas=1, lease_s=1.0)
            server.gate = asyncio.Event()
            async with uploading(server, outbox, close_timeout_s=0.1) as uploader:
                for number in range(20):
                    await uploader.add(point(number))
                await until(lambda: bool(server.requests))
                own_redis.kill()
                replica.promote()
                # The process that had claimed some dies with its master.

        server.gate.set()
        async with uploading(server, RedisOutbox(replica.url, lease_s=1.0)) as uploader:
            await uploader.flush(timeout_s=30)

    assert set(server.numbers()) == set(range(20))


async def test_what_was_claimed_before_a_failover_settles_nothing_that_came_after(
    own_redis: RedisServer,
) -> None:
    """A replica that missed the last points gives neither their ids nor their names again."""
    with contextlib.closing(own_redis.copy()) as replica:
        async with outbox_of(own_redis.url) as before:
            replica.promote()  # what comes now, it does not get
            await before.put([OutboxDraft("a", b"1")])
            sent = await before.claim(1000)

            async with outbox_of(replica.url) as after:
                await after.put([OutboxDraft("a", b"2")])
                entries = await after.claim(1000)
                after._claimed.take(next(iter(before._claimed.parts(sent))))
                await after.settle(sent)

                assert [entry.id == sent[0].id for entry in entries] == [False]
                assert (await after.renew()).first_id == entries[0].id


async def test_too_few_replicas_are_said_and_the_point_may_be_there(
    own_redis: RedisServer,
) -> None:
    async with outbox_of(own_redis.url, min_replicas=1) as outbox:
        with pytest.raises(StorageError, match="0 replicas"):
            await outbox.put([OutboxDraft("a", b"1")])

        assert numbers(await outbox.claim(1000)) == [1]


@pytest.mark.parametrize("part", ["counts", "chunks", "facts", "waiting:1", "claimed:1", "leases"])
async def test_rubbish_under_our_keys_is_said(redis_server: RedisServer, part: str) -> None:
    with redis_server.admin() as admin:
        admin.set(KEY + part, "rubbish")

    with pytest.raises(StorageError, match="something else is kept under our keys"):
        async with outbox_of(redis_server.url) as outbox:
            await outbox.put([OutboxDraft("a", b"1")])
            await outbox.claim(1000)


@pytest.mark.parametrize("part", ["facts", "chunks"])
async def test_a_record_without_its_other_half_stops_nobody(
    redis_server: RedisServer, part: str
) -> None:
    """As somebody leaves it who deletes keys by hand."""
    async with outbox_of(redis_server.url) as outbox:
        await outbox.put([OutboxDraft("a", b"1")])
        with redis_server.admin() as admin:
            admin.delete(KEY + part)
        await outbox.put([OutboxDraft("a", b"2")])

        entries = await outbox.claim(1000)

        assert numbers(entries) == [2]
        await outbox.settle(entries)


async def test_an_uploader_with_redis_reports_nothing_undelivered(
    own_redis: RedisServer, server: TelemetryServer
) -> None:
    """Redis has what is not sent: a copy would be sent twice."""
    undelivered: list[object] = []
    server.next_answers += [httpx.Response(403)] * 100
    with contextlib.suppress(UndeliveredTelemetryError):
        async with uploading(
            server,
            RedisOutbox(own_redis.url),
            close_timeout_s=0.1,
            on_undelivered=lambda points, error: undelivered.append(points),
        ) as uploader:
            await uploader.add_many([point(number) for number in range(10)])

    server.next_answers.clear()
    async with uploading(server, RedisOutbox(own_redis.url)) as uploader:
        assert uploader.stats.queued == 10
        await uploader.flush(timeout_s=30)
    assert server.numbers() == list(range(10))
    assert undelivered == []


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["intervals", "counters"])
async def test_processes_that_are_killed_lose_no_point(own_redis: RedisServer, kind: str) -> None:
    """Of those that they had accepted; and counters keep their order for each device [F6]."""
    outcome = await points_fleet.run(own_redis.url, count=12_000, workers=3, rounds=3, kind=kind)

    assert outcome.kills > 0
    assert outcome.lost == 0
    if kind == "counters":
        assert outcome.disorder == 0
