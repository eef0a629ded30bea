"""An inbox in Redis, with a Redis that stops, hangs, is full, fails over or is full of rubbish."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from flip_async import errors
from flip_async.fastapi import webhook_router
from flip_async.redis import RedisInbox
from flip_async.webhooks import Handlers, Letter, SettingsEvent, WebhookReceiver
from tests.support import FastClock
from tests.support.redis_server import RedisServer, given_client
from tests.support.sweeps import How, Scenario, becomes, sweep
from tests.support.webhooks import SECRET, body_of, signed

BODY = body_of("settings.apply", {"id": "s"})
both = pytest.mark.parametrize("how", [How.NATIVE, How.SCOPE], ids=["natively", "by a scope"])
PARTS = (
    "letters", "ended", "waiting", "failures", "claimed", "claims", "seen", "dead", "reasons",
    "home", "queue:settings.apply",
)  # fmt: skip


def letter(webhook_id: str) -> Letter:
    return Letter(webhook_id, 1_750_000_000, BODY, "settings.apply")


def ids(entries: Any) -> list[str]:
    return [entry.letter.webhook_id for entry in entries]


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def until_claimed(inbox: RedisInbox) -> list[Any]:
    while True:
        await inbox.renew()
        if entries := await inbox.claim(10):
            return list(entries)
        await asyncio.sleep(0.01)


class Application:
    """A receiver with an inbox of its own, which counts what it handled."""

    def __init__(self, url: str, **options: Any) -> None:
        handlers = Handlers()
        handlers.on("settings.apply")(self._handle)
        self.handled: Counter[str] = Counter()
        self.gate: asyncio.Event | None = None
        self.begun: list[str] = []
        self.inbox = RedisInbox(url, **options)
        self.receiver = WebhookReceiver(
            handlers,
            secret=SECRET,
            inbox=self.inbox,
            shutdown_timeout_s=1,
            clock=options.get("clock"),
        )

    async def _handle(self, event: SettingsEvent) -> None:
        self.begun.append(event.webhook_id)
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        self.handled[event.webhook_id] += 1

    async def deliver(self, webhook_id: str) -> int:
        at_s = self.receiver._clock.wall()
        return (await self.receiver.receive(BODY, signed(BODY, webhook_id, at_s=at_s))).status


async def opened(redis: Any, **options: Any) -> RedisInbox:
    inbox = RedisInbox(redis, **options)
    await inbox.open()
    return inbox


# Away


async def test_a_redis_that_is_restarted_empty_is_used_again(own_redis: RedisServer) -> None:
    """What was in hand is finished, and its id known: Flip's re-delivery is not handled [F4]."""
    application = Application(own_redis.url, lease_s=1.5)
    application.gate = asyncio.Event()
    async with application.receiver:
        assert await application.deliver("a") == 204
        await until(lambda: application.begun == ["a"])
        own_redis.stop()
        assert await application.deliver("b") == 503
        application.gate.set()
        await until(lambda: application.receiver.stats.last_error is not None)
        own_redis.start()
        while await application.deliver("b") != 204:  # a connection of before is found out by use
            pass
        await until(lambda: application.handled["b"])
        with own_redis.admin() as admin:
            await until(lambda: admin.zcard("flip:{inbox}:ended") == 2)
            await until(lambda: admin.scard("flip:{inbox}:home") == 1)  # and nobody else's
        assert await application.deliver("a") == 204

    assert application.handled == {"a": 1, "b": 1}


async def test_a_redis_that_hangs_costs_503_and_no_webhook_twice(own_redis: RedisServer) -> None:
    application = Application(own_redis.url)
    async with application.receiver:
        own_redis.freeze()
        assert await application.deliver("a") == 503
        own_redis.thaw()
        assert await application.deliver("a") == 204
        await until(lambda: application.handled["a"])
        assert await application.deliver("a") == 204

    assert application.handled == {"a": 1}


async def test_a_put_whose_answer_was_lost_is_known_and_handled(own_redis: RedisServer) -> None:
    inbox = await opened(own_redis.url)
    await inbox.put(letter("warm"))
    await inbox.settle(await inbox.claim(10))
    own_redis.freeze()
    with pytest.raises(errors.StorageError, match="did not answer"):
        await inbox.put(letter("a"))
    own_redis.thaw()
    while not (await inbox.renew()).waiting:  # it runs now
        await asyncio.sleep(0.01)

    assert not await inbox.put(letter("a"))

    assert ids(await inbox.claim(10)) == ["a"]
    await inbox.aclose()


async def test_a_claim_whose_answer_was_lost_ends_with_its_lease(own_redis: RedisServer) -> None:
    """Its owner lives, and renews what it knows; this it does not know [F4]."""
    inbox = await opened(own_redis.url, lease_s=1.0)
    await inbox.put(letter("known"))
    await inbox.claim(10)
    await inbox.put(letter("lost"))
    own_redis.freeze()
    with pytest.raises(errors.StorageError, match="did not answer"):
        await inbox.claim(10)
    own_redis.thaw()
    assert await inbox.claim(10) == []

    assert ids(await until_claimed(inbox)) == ["lost"]
    await inbox.aclose()


async def test_connections_that_are_cut_are_made_anew(own_redis: RedisServer) -> None:
    application = Application(own_redis.url)
    async with application.receiver:
        for number in range(20):
            with own_redis.admin() as admin:
                admin.client_kill_filter(_type="normal", skipme=True)
            while await application.deliver(str(number)) != 204:
                await asyncio.sleep(0)
        await until(lambda: len(application.handled) == 20)

    assert set(application.handled.values()) == {1}


@pytest.mark.parametrize("how", ["stopped", "hung"])
async def test_closing_does_not_wait_for_a_redis_that_is_away(
    own_redis: RedisServer, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = await opened(own_redis.url, lease_s=0.5)
    await inbox.put(letter("a"))
    await inbox.claim(10)
    if how == "stopped":
        own_redis.stop()
    else:
        own_redis.freeze()

    async with asyncio.timeout(30):
        await inbox.aclose()

    assert "on closing, claims stay until their lease ends" in caplog.text
    if how == "hung":
        own_redis.thaw()
        other = await opened(own_redis.url)
        assert ids(await until_claimed(other)) == ["a"]
        await other.aclose()


async def test_closing_fails_what_still_waits_for_a_redis_that_hangs(
    own_redis: RedisServer,
) -> None:
    """And nothing is sent after the end."""
    inbox = await opened(own_redis.url)
    own_redis.freeze()
    large = Letter("large", 0, b"x" * 900_000, "settings.apply")
    puts = [asyncio.ensure_future(inbox.put(large._replace(webhook_id=str(n)))) for n in range(6)]
    await asyncio.sleep(0)

    async with asyncio.timeout(30):
        await inbox.aclose()

    outcomes = await asyncio.gather(*puts, return_exceptions=True)
    assert all(isinstance(outcome, errors.StorageError) for outcome in outcomes)
    assert "not open" in str(outcomes[-1])
    own_redis.thaw()


async def test_a_redis_that_is_not_there_is_said_on_opening(own_redis: RedisServer) -> None:
    inbox = RedisInbox(own_redis.url_of("somebody"))
    own_redis.stop()
    with pytest.raises(errors.StorageError, match="cannot be reached") as caught:
        await inbox.open()

    assert "your_password" not in str(caught.value)
    with pytest.raises(errors.StorageError, match="not open"):
        await inbox.put(letter("a"))


# Full


async def test_a_full_redis_takes_nothing_and_becomes_empty(own_redis: RedisServer) -> None:
    """Claims, releases, ends and renewals go on, and so does the start of another process [F4]."""
    inbox = await opened(own_redis.url, lease_s=0.3)
    for name in "abcd":
        await inbox.put(letter(name))
    with own_redis.admin() as admin:
        admin.config_set("maxmemory", "1")

    with pytest.raises(errors.StorageError, match="it is full"):
        await inbox.put(letter("e"))
    entries = await inbox.claim(10)
    assert ids(entries) == list("abcd")
    await inbox.renew()
    await inbox.release(entries[:1], due_at=time.time())
    await inbox.release(entries[1:2])
    await inbox.settle(entries[2:3])
    await inbox.dead_letter(entries[3:], "never")
    other = await opened(own_redis.url)
    assert sorted(ids(await other.claim(10))) == ["a", "b"]
    await other.aclose()
    await inbox.settle(await inbox.claim(10))
    with own_redis.admin() as admin:
        admin.config_set("maxmemory", "0")
    assert await inbox.put(letter("e"))
    await inbox.aclose()


async def test_a_redis_that_throws_keys_away_is_refused(own_redis: RedisServer) -> None:
    inbox = RedisInbox(own_redis.url)
    with own_redis.admin() as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(errors.ConfigurationError, match="allkeys-lru, and would throw webhooks"):
        await inbox.open()
    with own_redis.admin() as admin:
        admin.config_set("maxmemory-policy", "volatile-lru")

    await inbox.open()  # the first try left nothing open

    assert await inbox.put(letter("a"))
    await inbox.aclose()


async def test_a_redis_that_keeps_nothing_on_disk_is_warned_of(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    await (await opened(own_redis.url)).aclose()

    assert "a restart of it loses webhooks" in caplog.text


# Elsewhere


async def test_a_failover_keeps_what_replicas_were_waited_for(own_redis: RedisServer) -> None:
    """What was put, what failed, and what is known; claims end with their lease."""
    replica = own_redis.copy()
    before = await opened(own_redis.url, min_replicas=1, lease_s=0.5)
    for name in "abc":
        assert await before.put(letter(name))
    a, b = await before.claim(2)
    await before.release([a], due_at=time.time())
    await before.settle([b])
    await before.put(letter("d"))  # which the replica has, and all before it
    await before.claim(1)
    own_redis.until_in_step()
    own_redis.kill()
    replica.promote()
    after = await opened(replica.url)

    entries = []
    while len(entries) < 3:
        entries += await until_claimed(after)

    assert {entry.letter.webhook_id: entry.failures for entry in entries} == {
        "a": 1, "c": 0, "d": 0,
    }  # fmt: skip
    assert not await after.put(letter("b"))
    await after.aclose()
    await before.aclose()
    replica.close()


async def test_a_client_that_follows_a_failover_goes_on(own_redis: RedisServer) -> None:
    """As a Sentinel's: the claims of before are settled at the new master."""
    replica = own_redis.copy()
    theirs = given_client(own_redis.url)
    inbox = await opened(theirs)
    await inbox.put(letter("a"))
    entries = await inbox.claim(10)
    own_redis.until_in_step()
    own_redis.kill()
    with pytest.raises(errors.StorageError, match="cannot be reached"):
        await inbox.renew()
    theirs.connection_pool.connection_kwargs["port"] = replica.port
    await theirs.connection_pool.disconnect()
    theirs.connection_pool.reset()
    with pytest.raises(errors.StorageError, match="read-only replica"):
        await inbox.renew()
    replica.promote()

    assert (await inbox.renew()).waiting == 0
    await inbox.settle(entries)

    assert not await inbox.put(letter("a"))
    await inbox.aclose()
    await theirs.aclose()
    replica.close()


async def test_a_webhook_that_too_few_replicas_have_is_no_success_and_is_handled_once(
    redis_server: RedisServer,
) -> None:
    application = Application(redis_server.url, min_replicas=1)
    async with application.receiver:
        assert await application.deliver("a") == 503
        assert await application.deliver("a") == 503
        await until(lambda: application.handled["a"])

    assert application.handled == {"a": 1}


# Rubbish


@pytest.mark.parametrize("part", PARTS)
async def test_rubbish_under_a_key_is_said_and_loses_nothing(
    redis_server: RedisServer, part: str
) -> None:
    """As soon as it is gone, each webhook is given or comes again from Flip."""
    inbox = await opened(redis_server.url, lease_s=0.2)
    told: list[str] = []

    async def attempt(call: Awaitable[Any]) -> Any:
        try:
            return await call
        except errors.StorageError as error:
            told.append(str(error))
            return None

    async def live() -> None:
        for name in ("a", "b", "c"):
            await attempt(inbox.put(letter(name)))
        for end in (
            lambda entries: inbox.release(entries, due_at=time.time()),
            lambda entries: inbox.dead_letter(entries, "never"),
            inbox.settle,
        ):
            if entries := await attempt(inbox.claim(1)):
                await attempt(end(entries))
        await attempt(inbox.renew())

    key = "flip:{inbox}:" + part
    with redis_server.admin() as admin:
        admin.delete(key)
        admin.set(key, "rubbish")
        await live()
        assert admin.get(key) == b"rubbish"
        admin.delete(key)
    await inbox.aclose()
    assert told
    assert all("something else is kept under our keys" in text for text in told)
    inbox = await opened(redis_server.url, lease_s=0.2)

    for name in ("a", "b", "c"):
        await inbox.put(letter(name))
    with redis_server.admin() as admin:
        while set(admin.zrange("flip:{inbox}:ended", 0, -1)) < {b"a", b"b", b"c"}:
            await inbox.renew()
            await inbox.settle(await inbox.claim(10))
        while admin.zcard("flip:{inbox}:claimed"):
            await inbox.renew()
            await inbox.settle(await inbox.claim(10))
        assert admin.hlen("flip:{inbox}:letters") == 0
    await inbox.aclose()


# Cut off


async def test_a_claim_that_is_cut_off_is_given_back(redis_server: RedisServer) -> None:
    """Else it would be renewed for ever, and be nobody's [B1]."""
    inbox, other = await opened(redis_server.url), await opened(redis_server.url)
    for turns in range(12):
        await inbox.put(letter(str(turns)))
        claiming = asyncio.ensure_future(inbox.claim(10))
        for _ in range(turns):
            await asyncio.sleep(0)
        claiming.cancel()
        await asyncio.wait({claiming})
        if not claiming.cancelled():  # it was too late
            await inbox.release(claiming.result())
        entries = await until_claimed(other)
        assert ids(entries) == [str(turns)]
        await other.settle(entries)
    await inbox.aclose()
    await other.aclose()


@both
async def test_a_receiver_that_is_cut_off_keeps_what_it_answered(
    redis_server: RedisServer, how: How
) -> None:
    """From before the inbox is open until after it is closed [B12]."""
    clock = FastClock()

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        with redis_server.admin() as admin:
            admin.flushdb()
        answered: set[str] = set()
        applications: list[Application] = []

        async def live(*, whole: bool) -> None:
            application = Application(redis_server.url, clock=clock, lease_s=3600)
            applications.append(application)

            async def deliver(webhook_id: str) -> None:
                if await application.deliver(webhook_id) == 204:
                    answered.add(webhook_id)

            async with application.receiver:
                await asyncio.gather(*(deliver(name) for name in "ab"))
                if whole:
                    assert answered == {"a", "b"}
                    assert await becomes(lambda: handled() == {"a", "b"})

        def handled() -> set[str]:
            return {name for one in applications for name in one.handled}

        async def check() -> None:
            await live(whole=True)
            counts = sum((one.handled for one in applications), Counter[str]())
            assert max(counts.values()) <= 2  # twice only where it was cut off in the middle
            with redis_server.admin() as admin:
                assert admin.zcard("flip:{inbox}:claimed") == 0
                assert admin.hlen("flip:{inbox}:claims") == 0
                assert admin.zcard("flip:{inbox}:ended") == 2
                assert not admin.exists("flip:{inbox}:letters", "flip:{inbox}:waiting")

        yield Scenario(act=lambda: live(whole=False), check=check)

    (await sweep(arrange, how, step=3)).assert_clean(at_least=10)


@both
async def test_an_inbox_whose_calls_are_cut_off_loses_nothing(
    redis_server: RedisServer, how: How
) -> None:
    """By whoever uses it: what is claimed is given back, with `aclose` at the latest."""

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        with redis_server.admin() as admin:
            admin.flushdb()
        inbox = RedisInbox(redis_server.url, lease_s=3600)
        put: list[str] = []
        settled: list[str] = []

        async def act() -> None:
            await inbox.open()
            for name in "abc":
                await inbox.put(letter(name))
                put.append(name)
            a, b, _ = await inbox.claim(3)
            await inbox.release([a], due_at=time.time())
            settled.append("b")  # or perhaps
            await inbox.settle([b])
            await inbox.renew()
            await inbox.aclose()

        async def check() -> None:
            await inbox.aclose()
            await inbox.open()
            assert (await inbox.renew()).waiting >= len(set(put) - set(settled))
            left = ids(await inbox.claim(10))
            assert set(put) <= {*left, *settled}
            assert len(left) == len(set(left))
            await inbox.aclose()
            with redis_server.admin() as admin:
                assert admin.zcard("flip:{inbox}:claimed") == 0

        yield Scenario(act=act, check=check, may_raise=(errors.ConfigurationError,))

    (await sweep(arrange, how)).assert_clean(at_least=10)


# In an application


async def test_an_application_answers_503_while_redis_is_away_and_204_when_it_is_back(
    own_redis: RedisServer,
) -> None:
    handled: list[str] = []
    handlers = Handlers()

    @handlers.on("settings.apply")
    async def on_settings(event: SettingsEvent) -> None:
        handled.append(event.webhook_id)

    app = FastAPI()
    app.include_router(webhook_router(secret=SECRET, on=handlers, inbox=RedisInbox(own_redis.url)))
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app")

    async def post(webhook_id: str) -> int:
        headers = signed(BODY, webhook_id, at_s=time.time())
        return (await http.post("/webhooks/flip", content=BODY, headers=headers)).status_code

    async with http, app.router.lifespan_context(app):
        assert await post("a") == 204
        await until(lambda: handled == ["a"])
        own_redis.stop()
        assert await post("b") == 503
        own_redis.start()
        while await post("b") != 204:  # a connection of before is found out by use
            pass
        await until(lambda: handled == ["a", "b"])


async def test_an_application_does_not_start_without_its_redis(own_redis: RedisServer) -> None:
    own_redis.stop()
    app = FastAPI()
    app.include_router(webhook_router(secret=SECRET, inbox=RedisInbox(own_redis.url)))

    with pytest.raises(errors.StorageError, match="cannot be reached"):
        async with app.router.lifespan_context(app):
            raise AssertionError


async def test_no_error_and_no_log_shows_an_id_or_a_body(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = await opened(own_redis.url, lease_s=0.5)
    await inbox.put(Letter("msg_private", 0, b"private body", "settings.apply"))
    entries = await inbox.claim(10)
    own_redis.stop()
    told = []
    for call in (
        inbox.put(Letter("msg_private", 0, b"private body", "settings.apply")),
        inbox.settle(entries),
        inbox.release(entries),
        inbox.dead_letter(entries, "private reason"),
        inbox.renew(),
    ):
        with pytest.raises(errors.StorageError) as caught:
            await call
        told.append(str(caught.value))
    await inbox.aclose()

    assert "private" not in caplog.text + "".join(told)


def test_it_is_renewed_three_times_a_lease_and_every_five_seconds() -> None:
    assert RedisInbox("redis://localhost", lease_s=3).renew_every_s == 1.0
    assert RedisInbox("redis://localhost").renew_every_s == 5.0
