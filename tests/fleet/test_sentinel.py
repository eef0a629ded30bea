"""A failover by Sentinel, under everything that a fleet keeps in Redis [F13]."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest
from redis.asyncio.sentinel import Sentinel

from flip_async import Token
from flip_async.commands import LedgerEntry
from flip_async.errors import StorageError
from flip_async.redis import RedisCommandLedger, RedisInbox, RedisOutbox, RedisTokenStore
from flip_async.telemetry import OutboxDraft
from flip_async.webhooks import Letter
from tests.support.redis_server import UNNAMED, RedisWithSentinel

T = TypeVar("T")


@pytest.fixture
def sentinel() -> Iterator[RedisWithSentinel]:
    servers = RedisWithSentinel()
    try:
        yield servers.start()
    finally:
        servers.close()


async def sooner_or_later(call: Callable[[], Awaitable[T]]) -> T:
    """As whoever is told of a failure does: once more."""
    while True:
        try:
            return await call()
        except StorageError:
            await asyncio.sleep(0.05)


async def test_what_the_replica_had_is_there_after_a_failover_and_work_goes_on(
    sentinel: RedisWithSentinel,
) -> None:
    found = Sentinel(sentinel.sentinels, sentinel_kwargs=UNNAMED, **UNNAMED)
    theirs = found.master_for(RedisWithSentinel.NAME)
    outbox, inbox = RedisOutbox(theirs), RedisInbox(theirs, min_replicas=1)
    ledger, store = RedisCommandLedger(theirs), RedisTokenStore(theirs)
    token = Token(access_token="at_secret", issued_at=4e9, lifetime_s=100)
    await outbox.open(origin="https://api.flip.energy", endpoint="interval", in_order=False)
    await inbox.open()
    await ledger.open()
    await outbox.put([OutboxDraft("inv-1", b"{}")])
    await ledger.write("c", LedgerEntry(), owner="a", holds=True, keep_s=60)
    await store.save("key", token)
    await inbox.put(Letter("before", 0, b"{}", "command.created"))  # waits for the replica

    await asyncio.to_thread(sentinel.fail_over)

    await sooner_or_later(lambda: outbox.put([OutboxDraft("inv-2", b"{}")]))
    entries = await sooner_or_later(lambda: outbox.claim(10))
    assert [entry.device for entry in entries] == ["inv-1", "inv-2"]
    assert len(await sooner_or_later(lambda: inbox.claim(10))) == 1
    assert (await sooner_or_later(lambda: ledger.read("c", owner="a"))).revision == 1
    found_token = await sooner_or_later(lambda: store.load("key"))
    assert found_token is not None
    assert found_token.access_token == token.access_token
    for one in (outbox, inbox, ledger, store):
        await one.aclose()
    await theirs.aclose()
    for one in found.sentinels:
        await one.aclose()
