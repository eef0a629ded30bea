"""One token for the whole fleet: what is shared by Redis, and what happens when that fails."""

import asyncio
import hashlib
import json
import logging
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from cryptography.fernet import Fernet

from flip_async import ClientCredentialsAuth, Token
from flip_async._auth._store import LEASE_S
from flip_async.emulator import Emulator
from flip_async.errors import ConfigurationError, InvalidArgumentError, StorageError
from flip_async.redis import RedisTokenStore
from tests.support import ManualClock
from tests.support.processes import Process
from tests.support.redis_server import RedisClusterOfThree, RedisServer, given_client

KEY = '["https://oauth.flip.energy/token", "your_client_id", "read write"]'
NAME = hashlib.sha256(KEY.encode()).hexdigest()
TOKEN_KEY, LOCK_KEY = f"flip:{{token:{NAME}}}:token", f"flip:{{token:{NAME}}}:lock"
WORKER = "tests.support.token_worker"
LEAST_ACL = (
    "~flip:{token:*", "+client|setname", "+evalsha", "+eval", "+get", "+set", "+pexpire", "+del", "+time",
)  # fmt: skip


def token(value: str = "at_secret", *, age_s: float = 0.0, lifetime_s: float = 100.0) -> Token:
    return Token(
        access_token=value, issued_at=time.time() - age_s, lifetime_s=lifetime_s, scope="read"
    )


def auth_of(flip_local: Emulator, store: RedisTokenStore) -> ClientCredentialsAuth:
    return ClientCredentialsAuth(
        flip_local.client_id,
        flip_local.client_secret,
        token_url=f"{flip_local.oauth_url}/token",
        token_store=store,
    )


def value_of(found: Token | None) -> str | None:
    return None if found is None else found.access_token.reveal()


# What is kept


@pytest.mark.parametrize("query", ["", "?protocol=3"], ids=["RESP2", "RESP3"])
@pytest.mark.parametrize("keys", [(), (Fernet.generate_key(),)], ids=["plain", "encrypted"])
async def test_a_token_is_given_back_with_its_age(
    redis_server: RedisServer, query: str, keys: tuple[bytes, ...]
) -> None:
    async with RedisTokenStore(redis_server.url + query, encryption_keys=keys) as store:
        assert await store.load(KEY) is None
        await store.save(KEY, token(age_s=40))

        found = await store.load(KEY)

        assert value_of(found) == "at_secret"
        assert found is not None
        assert (found.lifetime_s, found.scope) == (100, "read")
        assert time.time() - found.issued_at == pytest.approx(40, abs=5)
        assert await store.load(KEY + " ") is None
        assert store.stats.saved == 1


async def test_it_stays_as_long_as_it_lives(redis_server: RedisServer) -> None:
    async with RedisTokenStore(redis_server.url) as store:
        await store.save(KEY, token(age_s=40, lifetime_s=100))
        with redis_server.admin() as admin:
            assert 50_000 < admin.pttl(TOKEN_KEY) <= 60_000

        await store.save(KEY + "2", token(age_s=100, lifetime_s=100))

        assert await store.load(KEY + "2") is None


async def test_workers_whose_clocks_are_an_hour_apart_agree_on_its_age(
    redis_server: RedisServer,
) -> None:
    """[F8]."""
    ahead, behind = ManualClock(), ManualClock()
    ahead.jump_wall(3600)
    behind.jump_wall(-3600)
    async with (
        RedisTokenStore(redis_server.url, clock=ahead) as one,
        RedisTokenStore(redis_server.url, clock=behind) as another,
    ):
        await one.save(
            KEY, Token(access_token="at_secret", issued_at=ahead.wall() - 40, lifetime_s=100)
        )

        found = await another.load(KEY)

    assert found is not None
    assert behind.wall() - found.issued_at == pytest.approx(40, abs=5)


async def test_no_name_of_a_key_can_be_read_and_no_value_with_encryption_on(
    redis_server: RedisServer, socket_emulator: Emulator
) -> None:
    store = RedisTokenStore(redis_server.url, encryption_keys=[Fernet.generate_key()])
    async with store, auth_of(socket_emulator, store) as auth:
        given = (await auth.token()).access_token.reveal()
        await store.acquire(KEY, owner="somebody", lease_s=10)
    with redis_server.admin() as admin:
        names = [name.decode() for name in admin.keys("*")]
        values = [str(admin.get(name)) for name in names]

    assert len(names) == 2
    for hidden in (given, socket_emulator.client_secret, socket_emulator.client_id, "oauth"):
        assert hidden not in " ".join(names + values)


async def test_a_key_of_encryption_can_be_replaced(redis_server: RedisServer) -> None:
    """The first one writes, all of them read [F3]."""
    old, new = Fernet.generate_key(), Fernet.generate_key().decode()
    async with (
        RedisTokenStore(redis_server.url, encryption_keys=old) as before,
        RedisTokenStore(redis_server.url, encryption_keys=[new, old]) as between,
        RedisTokenStore(redis_server.url, encryption_keys=new) as after,
    ):
        await before.save(KEY, token("at_old"))
        assert value_of(await between.load(KEY)) == "at_old"
        assert await after.load(KEY) is None
        await between.save(KEY, token("at_new"))

        assert value_of(await after.load(KEY)) == "at_new"
        assert await before.load(KEY) is None


@pytest.mark.parametrize("keys", [(), (Fernet.generate_key(),)], ids=["plain", "encrypted"])
async def test_a_value_that_was_moved_under_another_key_is_refused(
    redis_server: RedisServer, keys: tuple[bytes, ...], caplog: pytest.LogCaptureFixture
) -> None:
    async with RedisTokenStore(redis_server.url, encryption_keys=keys) as store:
        await store.save(KEY + "2", token("at_theirs"))
        other = hashlib.sha256((KEY + "2").encode()).hexdigest()
        with redis_server.admin() as admin:
            admin.set(TOKEN_KEY, admin.get(f"flip:{{token:{other}}}:token"))

        assert await store.load(KEY) is None

    assert "written for another key" in caplog.text
    assert "at_theirs" not in caplog.text


@pytest.mark.parametrize(
    "rubbish",
    [
        b"", b"\xff", b"1:", b"x:{}", b"1:[]", b"1:{", b"-1:{}", "٣:{}".encode(),
        b"1:" + json.dumps({"key": NAME}).encode(),
        b"1:" + json.dumps({"key": NAME, "access_token": "a b", "lifetime_s": 1}).encode(),
        b"1:" + json.dumps({"key": NAME, "access_token": "a", "lifetime_s": "1"}).encode(),
        b"1:" + b"[" * 100_000,
    ],
)  # fmt: skip
async def test_rubbish_is_no_token_and_is_said_once(
    redis_server: RedisServer, rubbish: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server.admin() as admin:
        admin.set(TOKEN_KEY, rubbish)
    async with RedisTokenStore(redis_server.url) as store:
        for _ in range(3):
            assert await store.load(KEY) is None
        await store.save(KEY, token())

        assert value_of(await store.load(KEY)) == "at_secret"

    assert caplog.text.count("what the token store has is not used") == 1


async def test_a_token_in_plain_over_a_connection_in_plain_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = Fernet.generate_key()
    for url in ("redis://localhost", "redis://127.1.2.3", "unix:///a", "rediss://redis.example"):
        RedisTokenStore(url)
    RedisTokenStore("redis://redis.example", encryption_keys=key)
    assert not caplog.text

    RedisTokenStore("redis://user:your_password@redis.example")

    assert caplog.text.count("access tokens go to Redis at redis.example in plain") == 1
    assert "your_password" not in caplog.text


@pytest.mark.parametrize(
    "keys", [None, 1, [1], "your_secret_key", b"your_secret_key", ["your_secret_key"], [None]]
)
def test_a_key_of_encryption_that_is_none_is_refused_and_not_shown(keys: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="encryption_keys") as caught:
        RedisTokenStore("redis://localhost", encryption_keys=keys)

    trace: Any = caught.value.__traceback__
    assert caught.value.__context__ is None
    while trace is not None:
        if "flip_async" in Path(trace.tb_frame.f_code.co_filename).parts[-4:]:
            assert "your_secret_key" not in repr(trace.tb_frame.f_locals)
        trace = trace.tb_next
    assert "your_secret_key" not in str(caught.value)


def test_without_cryptography_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cryptography.fernet", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'flip-async\[redis\]'"):
        RedisTokenStore("redis://localhost", encryption_keys=Fernet.generate_key())


def test_what_it_shows_has_no_password_in_it() -> None:
    shown = repr(RedisTokenStore("redis://user:your_password@127.0.0.1"))

    assert shown == "<RedisTokenStore Redis at 127.0.0.1>"


# The lock


async def test_the_lock_is_one_owners_who_renews_it(redis_server: RedisServer) -> None:
    """[F2]."""
    async with RedisTokenStore(redis_server.url) as store:
        assert await store.acquire(KEY, owner="one", lease_s=60)
        assert not await store.acquire(KEY, owner="two", lease_s=60)
        assert await store.acquire(KEY, owner="one", lease_s=600)
        await store.release(KEY, owner="two")
        assert not await store.acquire(KEY, owner="two", lease_s=60)
        with redis_server.admin() as admin:
            assert admin.pttl(LOCK_KEY) > 60_000

        await store.release(KEY, owner="one")

        assert await store.acquire(KEY, owner="two", lease_s=60)


async def test_a_lock_ends_with_its_lease(redis_server: RedisServer) -> None:
    async with RedisTokenStore(redis_server.url) as store:
        await store.acquire(KEY, owner="dead", lease_s=0.1)

        while not await store.acquire(KEY, owner="next", lease_s=10):
            await asyncio.sleep(0.02)

        assert not await store.acquire(KEY, owner="dead", lease_s=10)


# A fleet


async def run_workers(
    flip_local: Emulator, redis_url: str, count: int, *arguments: str
) -> list[dict[str, Any]]:
    """Run so many processes to their end; gives what each says of itself."""
    environ = flip_local.variables() | {"REDIS_URL": redis_url}
    workers = [Process("-m", WORKER, *arguments, **environ) for _ in range(count)]
    await asyncio.gather(*(worker.start() for worker in workers))
    await asyncio.gather(*(worker.until_it_says('"done"') for worker in workers))
    await asyncio.gather(*(worker.end(signal.SIGTERM) for worker in workers))
    return [json.loads(worker.output.splitlines()[-1]) for worker in workers]


async def test_processes_that_start_cold_make_one_token_request(
    redis_server: RedisServer, socket_emulator: Emulator
) -> None:
    """[F1]."""
    told = await run_workers(socket_emulator, redis_server.url, 6, "20", "0")

    assert [one["failed"] for one in told] == [0] * 6
    assert sum(one["done"] for one in told) == 120
    assert socket_emulator.count("POST", "/token") == 1
    assert sum(one["avoided"] for one in told) == 5


async def test_a_401_costs_the_fleet_one_token_request(
    redis_server: RedisServer, socket_emulator: Emulator
) -> None:
    store = RedisTokenStore(redis_server.url)
    async with store:
        auths = [auth_of(socket_emulator, store) for _ in range(8)]
        clients = [socket_emulator.client(auth=auth) for auth in auths]
        await asyncio.gather(*(flip.sites.list() for flip in clients))
        socket_emulator.revoke_tokens()

        await asyncio.gather(*(flip.sites.list() for flip in clients for _ in range(5)))

        for closing in (*clients, *auths):
            await closing.aclose()
    assert socket_emulator.count("POST", "/token") == 2


async def test_a_refusal_is_not_shared(
    redis_server: RedisServer, socket_emulator: Emulator
) -> None:
    """Each asks once, and whoever has the right secret is not held up [A10]."""
    async with RedisTokenStore(redis_server.url) as store:
        auths = [
            ClientCredentialsAuth(
                socket_emulator.client_id,
                "another_secret",
                token_url=f"{socket_emulator.oauth_url}/token",
                token_store=store,
            )
            for _ in range(4)
        ]

        outcomes = await asyncio.gather(
            *(auth.token() for auth in auths for _ in range(5)), return_exceptions=True
        )

        assert {type(one).__name__ for one in outcomes} == {"TokenRequestError"}
        assert socket_emulator.count("POST", "/token") == 4
        async with auth_of(socket_emulator, store) as right:
            await right.token()
        for auth in auths:
            await auth.aclose()


async def test_a_holder_that_is_killed_holds_up_for_its_lease_at_most(
    redis_server: RedisServer, socket_emulator: Emulator
) -> None:
    """[F2]: it died while it asked."""
    environ = socket_emulator.variables() | {"REDIS_URL": redis_server.url}
    socket_emulator.fail_next(path="/token", delay_s=60)
    store = RedisTokenStore(redis_server.url)
    async with store, auth_of(socket_emulator, store) as auth:
        async with Process("-m", WORKER, "1", "0", **environ) as holder:
            while not socket_emulator.count("POST", "/token"):
                await asyncio.sleep(0.02)
            await holder.end(signal.SIGKILL)
            begun = time.monotonic()

            await auth.token()

        waited_s = time.monotonic() - begun
    assert 1 < waited_s < LEASE_S * 2
    assert socket_emulator.count("POST", "/token") == 2


# Redis away


@pytest.mark.parametrize("how", ["stopped", "emptied", "hung", "full", "rubbish", "cut", "moved"])
async def test_no_request_fails_for_redis(
    own_redis: RedisServer,
    socket_emulator: Emulator,
    caplog: pytest.LogCaptureFixture,
    how: str,
) -> None:
    """[F4]."""
    caplog.set_level(logging.INFO)
    store = RedisTokenStore(own_redis.url)
    async with store, auth_of(socket_emulator, store) as auth:
        flip = socket_emulator.client(auth=auth)
        await flip.sites.list()
        _break(own_redis, how)
        socket_emulator.revoke_tokens()

        await asyncio.gather(*(flip.sites.list() for _ in range(10)))

        own_redis.thaw() if how == "hung" else None
        assert socket_emulator.count("POST", "/token") == 2
        assert store.stats.is_degraded == (how not in ("emptied", "cut"))
        reasons = {
            "stopped": "cannot be reached",
            "hung": "did not answer within 2 s",
            "full": "it is full",
            "rubbish": "something else is kept under our keys",
            "moved": "read-only replica",
        }
        assert reasons.get(how, "") in caplog.text
        warnings = [one for one in caplog.records if "token store failed" in one.getMessage()]
        assert len(warnings) == (how in reasons)
        await flip.aclose()


def _break(server: RedisServer, how: str) -> None:
    if how == "stopped":
        server.stop()
    elif how == "emptied":
        server.kill()
        server.start()
    elif how == "hung":
        server.freeze()
    with server.admin() as admin:
        if how == "full":
            admin.config_set("maxmemory", "1")
        elif how == "rubbish":
            for name in admin.keys("*"):
                admin.delete(name)
                admin.lpush(name, "x")
        elif how == "cut":
            admin.client_kill_filter(_type="normal")
        elif how == "moved":
            admin.execute_command("REPLICAOF", "127.0.0.1", "1")


async def test_a_store_that_is_back_is_used_again_and_that_is_said(
    own_redis: RedisServer, socket_emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with RedisTokenStore(own_redis.url) as store:
        own_redis.stop()
        async with auth_of(socket_emulator, store) as auth:
            await auth.token()
            assert store.stats.is_degraded
            own_redis.start()
            from flip_async._auth._store import state_of

            state_of(store).away_until_s = 0.0  # as if the while were over

            await auth.refresh()

        assert not store.stats.is_degraded
        async with auth_of(socket_emulator, store) as another:
            await another.token()
    assert "the token store is back" in caplog.text
    assert socket_emulator.count("POST", "/token") == 2


async def test_a_full_redis_still_gives_a_token_and_frees_a_lock(own_redis: RedisServer) -> None:
    async with RedisTokenStore(own_redis.url) as store:
        await store.save(KEY, token())
        await store.acquire(KEY, owner="one", lease_s=60)
        with own_redis.admin() as admin:
            admin.config_set("maxmemory", "1")

        assert value_of(await store.load(KEY)) == "at_secret"
        with pytest.raises(StorageError, match="full"):
            await store.save(KEY, token())
        await store.release(KEY, owner="one")

        with own_redis.admin() as admin:
            assert not admin.exists(LOCK_KEY)


async def test_a_replica_that_took_over_has_the_token(own_redis: RedisServer) -> None:
    replica = own_redis.copy()
    async with RedisTokenStore(own_redis.url) as before, RedisTokenStore(replica.url) as after:
        await before.save(KEY, token())
        own_redis.until_in_step()
        assert value_of(await after.load(KEY)) == "at_secret"  # a replica gives it too
        with pytest.raises(StorageError, match="read-only"):
            await after.acquire(KEY, owner="one", lease_s=10)
        own_redis.kill()
        replica.promote()

        assert value_of(await after.load(KEY)) == "at_secret"
        assert await after.acquire(KEY, owner="one", lease_s=10)
    replica.close()


# Whose Redis


async def test_the_least_that_a_user_must_be_allowed_is_enough(
    redis_server: RedisServer, socket_emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    store = RedisTokenStore(redis_server.user("tokens", *LEAST_ACL))
    async with store, auth_of(socket_emulator, store) as auth:
        await auth.token()
        assert await store.acquire(KEY, owner="one", lease_s=10)
        assert await store.acquire(KEY, owner="one", lease_s=10)
        await store.release(KEY, owner="one")
        await store.save(KEY, token())
        assert await store.load(KEY) is not None

    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


@pytest.mark.parametrize("missing", LEAST_ACL[2:])
async def test_each_of_them_is_needed(redis_server: RedisServer, missing: str) -> None:
    rules = [rule for rule in LEAST_ACL if rule != missing]
    async with RedisTokenStore(redis_server.user("tokens", *rules)) as store:
        with pytest.raises(StorageError, match="ACL"):
            for _ in range(2):
                await store.acquire(KEY, owner="one", lease_s=10)
            await store.release(KEY, owner="one")
            await store.save(KEY, token())
            await store.load(KEY)


async def test_a_cluster_serves_too(redis_cluster: RedisClusterOfThree) -> None:
    theirs = redis.asyncio.RedisCluster.from_url(redis_cluster.url)
    store = RedisTokenStore(theirs, namespace="cluster-tokens")

    for number in range(6):
        key = f"{KEY}{number}"
        assert await store.acquire(key, owner="one", lease_s=10)
        await store.save(key, token())
        assert value_of(await store.load(key)) == "at_secret"
        await store.release(key, owner="one")

    await store.aclose()
    await theirs.aclose()


async def test_a_client_that_is_given_serves_and_is_not_closed(redis_server: RedisServer) -> None:
    theirs = given_client(redis_server.url)
    async with RedisTokenStore(theirs) as store:
        await store.save(KEY, token())

    assert await theirs.ping()
    await theirs.aclose()


def test_one_store_serves_loops_one_after_the_other(redis_server: RedisServer) -> None:
    store = RedisTokenStore(redis_server.url)

    async def keep_and_find(value: str) -> str | None:
        async with store:
            await store.save(KEY, token(value))
            return value_of(await store.load(KEY))

    assert [asyncio.run(keep_and_find(f"at_{n}")) for n in range(3)] == ["at_0", "at_1", "at_2"]


async def test_two_namespaces_never_meet(redis_server: RedisServer) -> None:
    async with (
        RedisTokenStore(redis_server.url, namespace="one") as one,
        RedisTokenStore(redis_server.url, namespace="two") as two,
    ):
        await one.save(KEY, token())
        await one.acquire(KEY, owner="a", lease_s=10)

        assert await two.load(KEY) is None
        assert await two.acquire(KEY, owner="b", lease_s=10)
