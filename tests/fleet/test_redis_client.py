"""The border to Redis: limits, errors in our words, whose loop it is."""

import asyncio
import time

import anyio
import pytest
import redis
import redis.asyncio

from flip_async.errors import ConfigurationError, InvalidArgumentError, StorageError
from flip_async.redis._client import LIMIT_S, RedisClient, Script
from tests.support.redis_server import RedisClusterOfThree, RedisServer, given_client

ECHO = Script("return ARGV[1]", "0" * 40)


def client_of(url: object, namespace: str = "flip") -> RedisClient:
    return RedisClient(url, namespace=namespace, name="test")  # type: ignore[arg-type]


async def test_a_script_that_is_not_known_is_sent(redis_server: RedisServer) -> None:
    client = client_of(redis_server.url)

    assert await client.run(ECHO, [], [b"\xff"]) == b"\xff"

    await client.aclose()


async def test_a_server_that_hangs_costs_no_more_than_the_limit(own_redis: RedisServer) -> None:
    client = client_of(own_redis.url)
    await client.run(ECHO, [], ["a"])
    own_redis.freeze()

    begun = time.monotonic()
    with pytest.raises(StorageError, match="did not answer within 2 s"):
        await client.run(ECHO, [], ["a"])
    waited_s = time.monotonic() - begun
    own_redis.thaw()

    assert waited_s >= LIMIT_S * 0.9
    assert await client.run(ECHO, [], ["b"]) == b"b"
    await client.aclose()


async def test_connections_that_the_server_ended_cost_no_command(redis_server: RedisServer) -> None:
    client = client_of(redis_server.url)
    await asyncio.gather(*(client.run(ECHO, [], ["a"]) for _ in range(16)))
    with redis_server.admin() as admin:
        admin.client_kill_filter(_type="normal", skipme=True)

    for number in range(16):
        assert await client.run(ECHO, [], [number]) == b"%d" % number

    await client.aclose()


async def test_a_server_that_is_not_there_is_named_without_its_password(
    own_redis: RedisServer,
) -> None:
    client = client_of(own_redis.url_of("somebody"))
    own_redis.stop()

    with pytest.raises(StorageError, match="cannot be reached") as caught:
        await client.run(ECHO, [], ["a"])

    assert "your_password" not in str(caught.value)
    assert caught.value.__context__ is None
    await client.aclose()


async def test_a_wrong_password_is_said(redis_server: RedisServer) -> None:
    client = client_of(redis_server.url_of("nobody"))

    with pytest.raises(StorageError, match="refuses the user name or the password"):
        await client.run(ECHO, [], ["a"])

    await client.aclose()


async def test_what_the_acl_forbids_is_said(redis_server: RedisServer) -> None:
    client = client_of(redis_server.user("poor", "+client|setname"))

    with pytest.raises(StorageError, match="ACL"):
        await client.run(ECHO, [], ["a"])

    await client.aclose()


@pytest.mark.parametrize("native", [True, False], ids=["native", "scope"])
async def test_two_hundred_cancelled_commands_lose_no_connection(
    redis_server: RedisServer, native: bool
) -> None:
    """More than the pool has connections, each cut off at another moment [B1]."""
    client = client_of(redis_server.url)
    await client.run(ECHO, [], ["a"])

    async def cut_off(turns: int) -> None:
        if native:
            task = asyncio.ensure_future(client.run(ECHO, [], ["x"]))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            return
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(client.run, ECHO, [], ["x"])
                for _ in range(turns):
                    await asyncio.sleep(0)
                scope.cancel()

    for turn in range(200):
        await cut_off(turn % 12)

    answers = await asyncio.gather(*(client.run(ECHO, [], [str(n)]) for n in range(100)))
    assert answers == [str(n).encode() for n in range(100)]
    await client.aclose()


async def test_a_client_that_decodes_is_refused(redis_server: RedisServer) -> None:
    async with given_client(redis_server.url, decode_responses=True) as theirs:
        with pytest.raises(ConfigurationError, match="decode_responses"):
            client_of(theirs)
    with pytest.raises(ConfigurationError, match="decode_responses"):
        client_of(redis_server.url + "?decode_responses=True")


@pytest.mark.parametrize(
    "url", ["localhost:6379", "http://localhost", "redis://[", "redis://localhost:port/0"]
)
def test_a_url_that_is_none_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        client_of(url)

    assert url not in str(caught.value)


@pytest.mark.parametrize("theirs", [None, 1, redis.Redis()])
def test_what_is_no_client_is_refused(theirs: object) -> None:
    with pytest.raises(InvalidArgumentError, match="redis"):
        client_of(theirs)


@pytest.mark.parametrize("namespace", ["", "a{b}", "a b", 1])
def test_a_namespace_is_a_plain_word(namespace: str) -> None:
    with pytest.raises(InvalidArgumentError, match="namespace"):
        client_of("redis://localhost", namespace)


def test_a_url_serves_one_loop_after_the_other(redis_server: RedisServer) -> None:
    client = client_of(redis_server.url)

    answers = [asyncio.run(client.run(ECHO, [], [str(n)])) for n in range(3)]

    assert answers == [b"0", b"1", b"2"]


def test_a_client_that_is_given_belongs_to_one_loop(redis_server: RedisServer) -> None:
    theirs = given_client(redis_server.url)
    client = client_of(theirs)

    async def use_and_close() -> None:
        await client.run(ECHO, [], ["a"])
        await client.aclose()
        assert await theirs.ping()  # it is not closed
        await theirs.aclose()

    asyncio.run(use_and_close())

    with pytest.raises(ConfigurationError, match="event loop"):
        asyncio.run(client.run(ECHO, [], ["a"]))


async def test_resp3_is_spoken_too(redis_server: RedisServer) -> None:
    client = client_of(redis_server.url + "?protocol=3")

    assert await client.run(ECHO, [], ["a"]) == b"a"
    await client.check_server(client.key("test", "x"), keeps="points")

    await client.aclose()


async def test_a_server_that_throws_keys_away_is_refused(redis_server: RedisServer) -> None:
    client = client_of(redis_server.url)
    with redis_server.admin() as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(ConfigurationError, match="allkeys-lru"):
            await client.check_server(client.key("test", "x"), keeps="points")
    finally:
        with redis_server.admin() as admin:
            admin.config_set("maxmemory-policy", "noeviction")
    await client.aclose()


async def test_a_server_that_keeps_nothing_is_warned_of(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(redis_server.url)

    await client.check_server(client.key("test", "x"), keeps="points")

    assert "a restart of it loses points" in caplog.text
    caplog.clear()
    with redis_server.admin() as admin:
        admin.config_set("save", "900 1")
    await client.check_server(client.key("test", "x"), keeps="points")
    assert not caplog.text
    with redis_server.admin() as admin:
        admin.config_set("save", "")
    await client.aclose()


async def test_connections_say_whose_they_are(redis_server: RedisServer) -> None:
    client = client_of(redis_server.url)
    await client.run(ECHO, [], ["a"])

    with redis_server.admin() as admin:
        names = [one["name"] for one in admin.client_list()]

    assert "flip_async:test" in names
    await client.aclose()


async def test_a_write_may_wait_for_replicas_in_vain(redis_server: RedisServer) -> None:
    client = client_of(redis_server.url)

    with pytest.raises(StorageError, match="0 replicas"):
        await client.run(ECHO, [], ["a"], min_replicas=1)

    await client.aclose()


async def test_a_cluster_serves_too(redis_cluster: RedisClusterOfThree) -> None:
    theirs = redis.asyncio.RedisCluster.from_url(redis_cluster.url)
    client = client_of(theirs, "cluster")

    for tag in ("a", "b", "c", "d"):
        assert await client.run(ECHO, [client.key(tag, "x")], [tag]) == tag.encode()
        await client.check_server(client.key(tag, "x"), keeps="points")

    await theirs.aclose()


async def test_a_replica_has_what_was_waited_for(own_redis: RedisServer) -> None:
    replica = own_redis.copy()
    client = client_of(own_redis.url)
    keep = Script("return redis.call('SET', KEYS[1], ARGV[1])", "1" * 40)

    await client.run(keep, ["flip:x"], ["kept"], min_replicas=1)

    with replica.admin() as admin:
        assert admin.get("flip:x") == b"kept"
    with pytest.raises(StorageError, match="read-only replica"):
        reader = client_of(replica.url)
        await reader.run(keep, ["flip:x"], ["kept"])
    await reader.aclose()
    await client.aclose()
    replica.close()
