"""What a ledger of commands promises, in memory and in Redis alike [F7]."""

import asyncio
from collections.abc import AsyncIterator

import attrs
import pytest
import redis.asyncio

from flip_async.commands import CommandLedger, Holder, LedgerEntry, MemoryCommandLedger
from flip_async.errors import ConfigurationError, InvalidArgumentError, StorageError
from flip_async.redis import RedisCommandLedger
from tests.support.redis_server import RedisClusterOfThree, RedisServer

KEEP_S = 3600.0
LEAST_ACL = (
    "~flip:{commands}:*", "+client|setname", "+info", "+eval", "+evalsha", "+time", "+get", "+set",
    "+pexpire", "+del", "+hget", "+hset", "+hdel", "+zscore", "+zadd", "+zrem", "+zrange", "+zcard",
)  # fmt: skip


@pytest.fixture(params=["memory", "redis", "resp3", "cluster"])
async def ledger(
    request: pytest.FixtureRequest, redis_server: RedisServer
) -> AsyncIterator[CommandLedger]:
    if request.param == "memory":
        yield MemoryCommandLedger()
        return
    if request.param == "cluster":
        cluster: RedisClusterOfThree = request.getfixturevalue("redis_cluster")
        theirs = redis.asyncio.RedisCluster.from_url(cluster.url)
        await theirs.flushall()
        yield RedisCommandLedger(theirs)
        await theirs.aclose()
        return
    url = redis_server.user("ledger", *LEAST_ACL, "+hello")
    async with RedisCommandLedger(url + ("?protocol=3" if request.param == "resp3" else "")) as one:
        await one.open()
        yield one


async def take(ledger: CommandLedger, command_id: str, owner: str) -> bool:
    entry = await ledger.read(command_id, owner=owner)
    mine = attrs.evolve(entry, content=owner.encode())
    return await ledger.write(command_id, mine, owner=owner, holds=True, keep_s=KEEP_S)


async def test_what_was_never_written_is_empty(ledger: CommandLedger) -> None:
    assert await ledger.read("c", owner="a") == LedgerEntry(0, b"", Holder.NOBODY)


async def test_what_was_written_is_read_by_all(ledger: CommandLedger) -> None:
    entry = LedgerEntry(0, b"\xff:1")
    assert await ledger.write("c", entry, owner="a", holds=True, keep_s=KEEP_S)

    assert await ledger.read("c", owner="a") == LedgerEntry(1, b"\xff:1", Holder.US)
    assert await ledger.read("c", owner="b") == LedgerEntry(1, b"\xff:1", Holder.OTHERS)


async def test_only_whoever_has_read_the_latest_writes(ledger: CommandLedger) -> None:
    old = await ledger.read("c", owner="a")
    assert await ledger.write("c", old, owner="a", holds=False, keep_s=KEEP_S)

    assert not await ledger.write("c", old, owner="b", holds=False, keep_s=KEEP_S)
    assert (await ledger.read("c", owner="b")).revision == 1


async def test_of_many_that_take_a_command_at_once_one_has_it(ledger: CommandLedger) -> None:
    owners = [f"owner {n}" for n in range(50)]

    taken = await asyncio.gather(*(take(ledger, "c", owner) for owner in owners))

    assert taken.count(True) == 1


async def test_who_has_a_command_keeps_it_whatever_others_write(ledger: CommandLedger) -> None:
    assert await take(ledger, "c", "a")
    assert not await take(ledger, "c", "b")

    entry = await ledger.read("c", owner="b")
    assert await ledger.write("c", entry, owner="b", holds=False, keep_s=KEEP_S)

    assert (await ledger.read("c", owner="a")).holder is Holder.US


async def test_a_command_that_is_let_go_is_anybodys(ledger: CommandLedger) -> None:
    await take(ledger, "c", "a")
    entry = await ledger.read("c", owner="a")
    await ledger.write("c", entry, owner="a", holds=False, keep_s=KEEP_S)

    assert (await ledger.read("c", owner="b")).holder is Holder.NOBODY
    assert await take(ledger, "c", "b")


async def test_a_look_tells_what_has_happened(ledger: CommandLedger) -> None:
    await take(ledger, "held", "a")
    await take(ledger, "changed", "a")
    await take(ledger, "theirs", "b")
    await take(ledger, "let go", "b")
    entry = await ledger.read("changed", owner="b")
    await ledger.write("changed", entry, owner="b", holds=False, keep_s=KEEP_S)
    entry = await ledger.read("let go", owner="b")
    await ledger.write("let go", entry, owner="b", holds=False, keep_s=KEEP_S)

    held, awaited = {"held": 1, "changed": 1, "gone": 1}, {"theirs": 1, "let go": 1}
    news = await ledger.renew(held, awaited, owner="a")

    assert set(news) == {"changed", "gone", "let go"}


async def test_one_lists_for_all(ledger: CommandLedger) -> None:
    assert await ledger.lead(owner="a", for_s=60)
    assert await ledger.lead(owner="a", for_s=60)
    assert not await ledger.lead(owner="b", for_s=60)

    await ledger.resign(owner="b")
    assert not await ledger.lead(owner="b", for_s=60)
    await ledger.resign(owner="a")
    assert await ledger.lead(owner="b", for_s=60)


# Redis's own


async def test_a_claim_that_is_not_renewed_ends(redis_server: RedisServer) -> None:
    async with RedisCommandLedger(redis_server.url, lease_s=0.2) as ledger:
        await take(ledger, "c", "a")
        await take(ledger, "kept", "a")

        while not await take(ledger, "c", "b"):
            await ledger.renew({"kept": 1}, {}, owner="a")
            await asyncio.sleep(0.02)

        assert (await ledger.read("kept", owner="a")).holder is Holder.US
        assert "c" in await ledger.renew({"c": 1}, {}, owner="a")


async def test_a_full_server_takes_no_new_command_and_ends_those_it_has(
    own_redis: RedisServer,
) -> None:
    async with RedisCommandLedger(own_redis.url) as ledger:
        await take(ledger, "c", "a")
        with own_redis.admin() as admin:
            admin.config_set("maxmemory", "1mb")

        with pytest.raises(StorageError, match="maxmemory"):
            await take(ledger, "new", "a")

        assert await ledger.renew({"c": 1}, {}, owner="a") == set()
        entry = await ledger.read("c", owner="a")
        assert await ledger.write("c", entry, owner="a", holds=False, keep_s=1)


async def test_what_may_be_forgotten_is(redis_server: RedisServer) -> None:
    async with RedisCommandLedger(redis_server.url, max_commands=20) as ledger:
        for number in range(40):
            keep_s = 0.001 if number < 10 else 1000.0 + number
            await ledger.write(f"c{number}", LedgerEntry(), owner="a", holds=False, keep_s=keep_s)

        with redis_server.admin() as admin:
            kept = {name.decode() for name in admin.hkeys("flip:{commands}:entries")}

    assert kept == {f"c{number}" for number in range(20, 40)}


async def test_nothing_but_who_lists_has_a_life_time(redis_server: RedisServer) -> None:
    async with RedisCommandLedger(redis_server.url) as ledger:
        await take(ledger, "c", "a")
        await ledger.lead(owner="a", for_s=60)

        with redis_server.admin() as admin:
            mortal = {name for name in admin.scan_iter() if admin.ttl(name) >= 0}
            assert mortal == {b"flip:{commands}:leader"}


async def test_rubbish_under_its_keys_is_said(redis_server: RedisServer) -> None:
    async with RedisCommandLedger(redis_server.url) as ledger:
        with redis_server.admin() as admin:
            admin.hset("flip:{commands}:entries", "c", "rubbish")
        with pytest.raises(StorageError, match="something else"):
            await ledger.read("c", owner="a")
        with redis_server.admin() as admin:
            admin.flushall()
            admin.set("flip:{commands}:entries", "rubbish")
        with pytest.raises(StorageError, match="WRONGTYPE"):
            await ledger.read("c", owner="a")


async def test_a_server_that_may_forget_what_was_handled_is_refused(
    own_redis: RedisServer,
) -> None:
    with own_redis.admin() as admin:
        admin.config_set("maxmemory-policy", "allkeys-random")

    with pytest.raises(ConfigurationError, match="which commands were handled"):
        await RedisCommandLedger(own_redis.url).open()


@pytest.mark.parametrize(
    "options", [{"lease_s": 0}, {"lease_s": "30"}, {"max_commands": 0}, {"namespace": ""}]
)
def test_arguments_are_checked(options: dict[str, object]) -> None:
    with pytest.raises(InvalidArgumentError):
        RedisCommandLedger("redis://localhost", **options)  # type: ignore[arg-type]


def test_it_shows_no_password() -> None:
    ledger = RedisCommandLedger("redis://user:your_password@localhost")

    assert "your_password" not in repr(ledger)
