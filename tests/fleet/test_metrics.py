"""What OpenTelemetry is told of what is kept in Redis [F10]."""

import gc

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from flip_async import ClientCredentialsAuth
from flip_async.commands import LedgerEntry
from flip_async.emulator import Emulator
from flip_async.errors import StorageError
from flip_async.redis import RedisCommandLedger, RedisInbox, RedisOutbox, RedisTokenStore
from flip_async.telemetry import OutboxDraft
from flip_async.webhooks import Letter
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="module")
def reader() -> InMemoryMetricReader:
    """What a process can be given once, and other tests may have given."""
    reader = InMemoryMetricReader()
    provider = metrics.get_meter_provider()
    if not isinstance(provider, MeterProvider):
        metrics.set_meter_provider(MeterProvider([reader]))
        return reader
    pytest.skip("another test of this process has set OpenTelemetry's meter provider")


def told(reader: InMemoryMetricReader, kind: str) -> dict[str, float]:
    data = reader.get_metrics_data()
    return {
        metric.name: point.value
        for resource in ([] if data is None else data.resource_metrics)
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
        if (point.attributes or {}).get("flip_async.store.kind") == kind
    }


async def test_a_ledger_tells_what_is_in_hand_and_whether_redis_is_away(
    own_redis: RedisServer, reader: InMemoryMetricReader
) -> None:
    gc.collect()
    left_by_others = told(reader, "commands")
    ledger = RedisCommandLedger(own_redis.url)
    await ledger.write("c", LedgerEntry(), owner="a", holds=True, keep_s=60)
    await ledger.renew({"c": 1}, {}, owner="a")

    assert told(reader, "commands") == {
        "flip_async.queue.claimed": 1,
        "flip_async.store.degraded": 0,
    }

    own_redis.stop()
    with pytest.raises(StorageError):
        await ledger.renew({"c": 1}, {}, owner="a")
    assert told(reader, "commands")["flip_async.store.degraded"] == 1

    await ledger.aclose()
    del ledger
    gc.collect()
    assert told(reader, "commands") in ({}, left_by_others)


async def test_a_token_store_tells_what_it_has_spared(
    redis_server: RedisServer, reader: InMemoryMetricReader, socket_emulator: Emulator
) -> None:
    def make_auth() -> ClientCredentialsAuth:
        return ClientCredentialsAuth(
            socket_emulator.client_id,
            socket_emulator.client_secret,
            token_url=f"{socket_emulator.oauth_url}/token",
            token_store=store,
        )

    gc.collect()
    before = told(reader, "tokens").get("flip_async.token.refreshes_avoided", 0)
    async with RedisTokenStore(redis_server.url) as store:
        for _ in range(3):
            async with make_auth() as auth:
                await auth.token()

        assert told(reader, "tokens") == {
            "flip_async.store.degraded": 0,
            "flip_async.token.refreshes_avoided": before + 2,
        }
        assert store.stats.refreshes_avoided == 2


async def test_queues_tell_what_waits_and_what_is_in_hand(
    redis_server: RedisServer, reader: InMemoryMetricReader
) -> None:
    gc.collect()
    inbox, outbox = RedisInbox(redis_server.url), RedisOutbox(redis_server.url)
    await inbox.open()
    await outbox.open(origin="https://api.flip.energy", endpoint="interval", in_order=False)
    for number in range(3):
        await inbox.put(Letter(f"w{number}", 0, b"{}", "command.created"))
    await outbox.put([OutboxDraft("inv-1", b"{}")] * 4)
    await inbox.claim(2)
    await inbox.renew()

    webhooks, points = told(reader, "inbox"), told(reader, "outbox")

    assert (webhooks["flip_async.queue.waiting"], webhooks["flip_async.queue.claimed"]) == (1, 2)
    assert (points["flip_async.queue.waiting"], points["flip_async.queue.claimed"]) == (4, 0)
    assert 0 <= points["flip_async.queue.oldest_age"] < 3600
    await inbox.aclose()
    await outbox.aclose()
