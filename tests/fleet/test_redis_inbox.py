"""An inbox in Redis keeps the promises of the one on disk [F5], [F8], [F9]."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flip_async import errors
from flip_async.redis import RedisInbox
from flip_async.webhooks import (
    EnrollmentEvent,
    Handlers,
    Inbox,
    InboxEntry,
    InboxHome,
    Letter,
    SigningKeys,
    SqliteInbox,
    WebhookReceiver,
)
from tests.support import HurriedClock
from tests.support.redis_server import RedisClusterOfThree, RedisServer, given_client
from tests.support.webhooks import OTHER_SECRET, SECRET, body_of, example, signed

LEAST_ACL = (
    "~flip:{inbox}:*", "+client|setname", "+info", "+evalsha", "+eval", "+time",
    "+hget", "+hset", "+hdel", "+hexists", "+hincrby", "+zadd", "+zrem", "+zscore", "+zrange",
    "+zcard", "+zcount", "+zremrangebyscore", "+scard", "+sadd", "+sismember",
)  # fmt: skip
HOME = InboxHome(
    key_digests=SigningKeys.of(SECRET).digests, event_types=frozenset({"enrollment.updated"})
)
ENROLLED = body_of("enrollment.updated", example("enrollment.updated")["event_object"])
MAKERS = ["sqlite", "redis", "redis with RESP3", "redis, a client given", "redis, the least ACL"]

Make = Callable[..., Awaitable[Inbox]]


def letter(
    webhook_id: str, body: bytes = ENROLLED, event_type: str = "enrollment.updated"
) -> Letter:
    return Letter(webhook_id, 1_750_000_000, body, event_type)


def ids(entries: Any) -> list[str]:
    return [entry.letter.webhook_id for entry in entries]


async def until(condition: Callable[[], Any]) -> None:
    """Poll a condition, or what a condition of an inbox is waited for with."""
    while True:
        found = condition()
        if await found if isinstance(found, Awaitable) else found:
            return
        await asyncio.sleep(0.01)


async def claimed(inbox: Inbox, count: int = 1) -> list[InboxEntry]:
    """Claim until there are so many."""
    entries: list[InboxEntry] = []
    while len(entries) < count:
        await inbox.renew()
        entries += await inbox.claim(count - len(entries))
        await asyncio.sleep(0.01)
    return entries


@pytest.fixture(params=MAKERS)
async def make(
    request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path: Path
) -> AsyncIterator[Make]:
    """Makes open inboxes that share what they keep."""
    kind: str = request.param
    url = redis_server.url
    if kind == "redis with RESP3":
        url += "?protocol=3"
    if kind == "redis, the least ACL":
        url = redis_server.user("inbox", *LEAST_ACL)
    async with AsyncExitStack() as stack:

        async def make(*, home: InboxHome | None = HOME, **options: Any) -> Inbox:
            inbox: Inbox
            if kind == "sqlite":
                inbox = SqliteInbox(tmp_path / "inbox.db", **options)
            elif kind == "redis, a client given":
                theirs = await stack.enter_async_context(given_client(url))
                inbox = RedisInbox(theirs, **options)
            else:
                inbox = RedisInbox(url, **options)
            stack.push_async_callback(inbox.aclose)
            await inbox.open(home=home)
            return inbox

        yield make


# What both promise


async def test_a_webhook_is_kept_once_by_whichever_process_it_comes_to(make: Make) -> None:
    """While it waits, while it is handled, and after that."""
    one, two = await make(), await make()

    assert await one.put(letter("a"))
    assert not await two.put(letter("a"))
    entries = await two.claim(10)
    assert not await one.put(letter("a"))
    await two.settle(entries)

    assert not await one.put(letter("a"))
    assert await one.claim(10) == []


async def test_of_those_that_come_at_once_each_is_new_once(make: Make) -> None:
    one, two = await make(), await make()

    answers = await asyncio.gather(
        *(inbox.put(letter(str(number))) for number in range(50) for inbox in (one, two, one))
    )

    assert sum(answers) == 50
    assert (await one.renew()).waiting == 50


async def test_a_webhook_comes_out_as_it_went_in(make: Make) -> None:
    inbox = await make()
    odd = Letter("msg_1", 1_750_000_000, b"\xff\x00 no text", "tariff.created")
    before = time.time()
    await inbox.put(odd)

    (entry,) = await (await make(home=None)).claim(10)

    assert entry.letter == odd
    assert entry.failures == 0
    assert before - 1 <= entry.accepted_at <= time.time() + 1


async def test_the_oldest_come_first_of_all_kinds(make: Make) -> None:
    inbox = await make(home=None)
    kinds = ["enrollment.updated", "settings.apply", "command.created", "tariff.created"]
    for number in range(300):
        await inbox.put(letter(str(number), b"", kinds[number * 7 % 4]))

    entries = [*await inbox.claim(100), *await inbox.claim(500)]

    assert ids(entries) == [str(number) for number in range(300)]


async def test_those_that_share_a_trip_keep_their_order(make: Make) -> None:
    inbox = await make()
    names = [f"{number:02}" for number in range(40)]
    await asyncio.gather(*(inbox.put(letter(name)) for name in names))

    assert ids(await inbox.claim(100)) == names


async def test_what_one_has_claimed_nobody_else_is_given(make: Make) -> None:
    one, two = await make(), await make()
    for number in range(10):
        await one.put(letter(str(number)))

    mine, theirs = await one.claim(4), await two.claim(10)

    assert sorted(ids(mine) + ids(theirs)) == [str(number) for number in range(10)]
    assert await one.claim(10) == []


async def test_what_is_released_may_be_given_at_once_and_has_not_failed(make: Make) -> None:
    one, two = await make(), await make()
    await one.put(letter("a"))
    await one.release(await one.claim(10))

    (entry,) = await two.claim(10)

    assert (entry.letter.webhook_id, entry.failures) == ("a", 0)


async def test_what_failed_comes_again_when_it_is_due_and_counts_its_failures(make: Make) -> None:
    inbox = await make()
    await inbox.put(letter("a"))
    for failures in range(3):
        (entry,) = await claimed(inbox)
        assert entry.failures == failures
        await inbox.release([entry], due_at=time.time() + 0.2)
        assert await inbox.claim(10) == []
        assert inbox.depth.next_due_at == pytest.approx(time.time() + 0.2, abs=0.2)


async def test_a_failure_of_what_another_has_claimed_since_is_not_counted(make: Make) -> None:
    one, two = await make(), await make()
    await one.put(letter("a"))
    stale = await one.claim(10)
    await one.release(stale)
    (entry,) = await two.claim(10)

    await one.release(stale, due_at=time.time() + 60)

    await two.release([entry])
    (again,) = await one.claim(10)
    assert again.failures == 0


async def test_what_is_settled_is_gone_also_where_another_has_claimed_it_since(make: Make) -> None:
    one, two = await make(), await make()
    await one.put(letter("a"))
    stale = await one.claim(10)
    await one.release(stale)
    fresh = await two.claim(10)

    await one.settle(stale)
    await two.release(fresh)

    assert await one.claim(10) == []
    assert (await one.renew()).waiting == 0
    await two.settle(fresh)


async def test_what_is_given_up_never_comes_again_and_its_id_is_known(make: Make) -> None:
    one, two = await make(), await make()
    await one.put(letter("a"))
    await one.dead_letter(await one.claim(10), "ValueError: never")

    assert not await two.put(letter("a"))
    assert await two.claim(10) == []
    assert (await two.renew()).waiting == 0


async def test_what_is_claimed_at_the_end_waits_for_others(make: Make) -> None:
    one, two = await make(lease_s=3600), await make()
    for name in "abc":
        await one.put(letter(name))
    await one.settle((await one.claim(10))[:1])
    await one.aclose()

    assert sorted(ids(await two.claim(10))) == ["b", "c"]


async def test_a_claim_that_is_renewed_outlives_its_lease(make: Make) -> None:
    one, two = await make(lease_s=0.3), await make()
    await one.put(letter("a"))
    entries = await one.claim(10)
    for _ in range(12):
        await asyncio.sleep(0.05)
        await one.renew()
        await two.renew()
        assert await two.claim(10) == []

    await one.release(entries)
    assert ids(await two.claim(10)) == ["a"]


async def test_the_depth_tells_what_waits(make: Make) -> None:
    inbox = await make()
    assert (await inbox.renew()).waiting == 0
    assert (inbox.depth.oldest_at, inbox.depth.next_due_at) == (None, None)
    for name in "abc":
        await inbox.put(letter(name))
    failed, in_hand = await inbox.claim(2)
    await inbox.release([failed], due_at=time.time() + 60)

    depth = await inbox.renew()

    assert depth.waiting == 2
    assert depth.oldest_at == pytest.approx(failed.accepted_at, abs=0.5)
    assert depth.next_due_at == pytest.approx(time.time(), abs=5)
    await inbox.settle([*await inbox.claim(10), in_hand])
    assert inbox.depth.next_due_at == pytest.approx(time.time() + 60, abs=5)


async def test_nothing_to_do_is_no_trouble(make: Make) -> None:
    inbox = await make()

    await inbox.settle([])
    await inbox.release([])
    await inbox.dead_letter([], "nothing")


async def test_it_may_be_opened_again_and_has_one_receiver_at_a_time(make: Make) -> None:
    inbox = await make()
    with pytest.raises(errors.ConfigurationError, match="has a receiver already: make another"):
        await inbox.open(home=HOME)
    await inbox.put(letter("a"))
    await inbox.aclose()
    await inbox.aclose()
    for call in (inbox.put(letter("b")), inbox.claim(1), inbox.renew(), inbox.settle([])):
        if call.__qualname__ != "SqliteInbox.settle":
            with pytest.raises(errors.StorageError, match="not open"):
                await call
        else:
            call.close()
    await inbox.open(home=HOME)

    assert ids(await inbox.claim(10)) == ["a"]


async def test_a_receiver_with_other_keys_is_refused(make: Make) -> None:
    """Sandbox and production by a copied line would take each other's webhooks."""
    await make()
    other = InboxHome(key_digests=SigningKeys.of(OTHER_SECRET).digests, event_types=frozenset())

    with pytest.raises(errors.ConfigurationError, match="other signing keys.*of its own.*give bo"):
        await make(home=other)


async def test_a_key_is_replaced_by_giving_both_for_a_while(make: Make) -> None:
    for keys in ([SECRET], [OTHER_SECRET, SECRET], [OTHER_SECRET]):
        home = InboxHome(key_digests=SigningKeys.of(keys).digests, event_types=frozenset())
        await (await make(home=home)).aclose()


def home_of(*event_types: str) -> InboxHome:
    return InboxHome(key_digests=HOME.key_digests, event_types=frozenset(event_types))


async def test_each_webhook_goes_to_a_receiver_that_handles_its_type(make: Make) -> None:
    settings, rest = (
        await make(home=home_of("settings.apply")),
        await make(home=home_of("enrollment.updated", "*")),
    )
    for name in ("settings.apply", "enrollment.updated", "tariff.created"):
        await settings.put(letter(name, b"", name))

    assert ids(await settings.claim(10)) == ["settings.apply"]
    assert settings.depth.next_due_at is None
    assert ids(await rest.claim(10)) == ["enrollment.updated", "tariff.created"]


async def test_what_nobody_handles_is_passed_over_by_whoever_comes(make: Make) -> None:
    inbox = await make(home=home_of())
    for name in ("settings.apply", "tariff.created"):
        await inbox.put(letter(name, b"", name))

    assert ids(await inbox.claim(10)) == ["settings.apply", "tariff.created"]


async def test_a_webhook_waits_for_a_receiver_that_is_away(make: Make) -> None:
    await (await make()).aclose()
    other = await make(home=home_of("settings.apply"))
    await other.put(letter("a"))
    assert await other.claim(10) == []
    assert (await other.renew()).next_due_at is None

    assert ids(await (await make()).claim(10)) == ["a"]


@pytest.mark.parametrize("lease_s", [0, -1, None, "30", float("nan")])
def test_a_lease_out_of_range_is_named(lease_s: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="lease_s"):
        RedisInbox("redis://localhost", lease_s=lease_s)


@pytest.mark.parametrize(
    "options", [{"min_replicas": -1}, {"min_replicas": 1.5}, {"clock": 1}, {"namespace": "a b"}]
)
def test_an_argument_of_no_use_is_named(options: Any) -> None:
    (name,) = options
    with pytest.raises(errors.InvalidArgumentError, match=name):
        RedisInbox("redis://localhost", **options)


# What Redis adds


async def test_what_a_dead_process_had_claimed_comes_back_when_its_lease_is_over(
    redis_server: RedisServer,
) -> None:
    """In the order it came in, before what is newer."""
    dead, other = RedisInbox(redis_server.url, lease_s=0.3), RedisInbox(redis_server.url)
    await dead.open(home=HOME)
    await other.open(home=HOME)
    for name in "ab":
        await dead.put(letter(name))
    await dead.claim(10)
    await other.put(letter("c"))
    await asyncio.sleep(0.4)

    await other.renew()

    assert ids(await other.claim(10)) == ["a", "b", "c"]
    await dead.aclose()
    assert (await other.renew()).waiting == 0
    await other.aclose()


async def test_a_process_that_hangs_keeps_nothing_that_another_has_taken(
    redis_server: RedisServer,
) -> None:
    """Its event loop was blocked: its lease ended, and its late words count for nothing [F5]."""
    hung, other = RedisInbox(redis_server.url, lease_s=0.3), RedisInbox(redis_server.url)
    await hung.open(home=HOME)
    await other.open(home=HOME)
    await hung.put(letter("a"))
    stale = await hung.claim(10)
    await asyncio.sleep(0.4)
    fresh = await claimed(other)

    await hung.renew()
    await hung.release(stale, due_at=time.time())
    await hung.aclose()

    assert (await other.renew()).waiting == 0
    await other.release(fresh)
    assert [entry.failures for entry in await other.claim(10)] == [0]
    await other.aclose()


async def test_own_claims_are_kept_though_their_lease_was_over(redis_server: RedisServer) -> None:
    """A process keeps its own before it frees those of others [B6]."""
    inbox = RedisInbox(redis_server.url, lease_s=0.1)
    await inbox.open(home=HOME)
    await inbox.put(letter("a"))
    await inbox.claim(10)
    await asyncio.sleep(0.2)

    assert (await inbox.renew()).waiting == 0

    await inbox.aclose()


async def test_more_claims_than_a_script_takes_are_all_kept(redis_server: RedisServer) -> None:
    """And all of them before others are freed, where the lease was over [B6]."""
    inbox = await opened(redis_server, lease_s=0.2)
    for first in range(0, 2500, 500):
        names = [f"{number:04}" for number in range(first, first + 500)]
        await asyncio.gather(*(inbox.put(letter(name)) for name in names))
    for _ in range(3):
        await inbox.claim(10_000)
    await asyncio.sleep(0.3)

    assert (await inbox.renew()).waiting == 0

    await inbox.aclose()
    other = await opened(redis_server)
    assert (await other.renew()).waiting == 2500
    await other.aclose()


@pytest.mark.parametrize("hours", [-1, 1])
async def test_clocks_an_hour_off_change_nothing(redis_server: RedisServer, hours: int) -> None:
    clock = HurriedClock()
    clock.move(hours * 3600)
    odd, right = RedisInbox(redis_server.url, clock=clock), RedisInbox(redis_server.url)
    await odd.open(home=HOME)
    await right.open(home=HOME)
    await odd.put(letter("a"))
    assert (await right.renew()).oldest_at == pytest.approx(time.time(), abs=5)
    assert (await odd.renew()).oldest_at == pytest.approx(clock.wall(), abs=5)
    (entry,) = await odd.claim(10)
    assert entry.accepted_at == pytest.approx(clock.wall(), abs=5)

    await odd.release([entry], due_at=clock.wall() + 0.3)

    assert await right.claim(10) == []
    assert right.depth.next_due_at == pytest.approx(time.time() + 0.3, abs=0.3)
    await odd.renew()
    assert odd.depth.next_due_at == pytest.approx(clock.wall() + 0.3, abs=0.3)
    assert ids(await claimed(right)) == ["a"]
    await odd.aclose()
    await right.aclose()


async def test_a_claim_is_bounded_and_what_is_left_is_due_at_once(
    redis_server: RedisServer,
) -> None:
    """By bytes, since an answer is in memory at once, and by number."""
    inbox = RedisInbox(redis_server.url)
    await inbox.open(home=HOME)
    await asyncio.gather(*(inbox.put(letter(f"{n:02}", b"x" * 1_000_000)) for n in range(9)))

    large = await inbox.claim(10_000)
    assert 4 <= len(large) < 9
    assert inbox.depth.next_due_at is not None
    assert inbox.depth.next_due_at <= time.time()
    await inbox.settle([*large, *await inbox.claim(10_000), *await inbox.claim(10_000)])
    await asyncio.gather(*(inbox.put(letter(f"small {n:04}")) for n in range(1500)))
    first, second = await inbox.claim(10_000), await inbox.claim(10_000)

    assert (len(first), len(second)) == (1000, 500)
    assert ids([*first, *second]) == [f"small {n:04}" for n in range(1500)]
    assert inbox.depth.next_due_at is None
    await inbox.aclose()


async def test_ids_are_forgotten_after_seven_days_with_what_was_given_up(
    redis_server: RedisServer,
) -> None:
    inbox = RedisInbox(redis_server.url)
    await inbox.open(home=HOME)
    for name in "abc":
        await inbox.put(letter(name))
    entries = await inbox.claim(10)
    await inbox.settle(entries[:1])
    await inbox.dead_letter(entries[1:], "ValueError: never")
    with redis_server.admin() as admin:
        assert admin.hget("flip:{inbox}:reasons", "b") == b"ValueError: never"
        assert ENROLLED in (admin.hget("flip:{inbox}:dead", "b") or b"")
        week_ago_us = (time.time() - 7 * 24 * 3600) * 1e6
        admin.zadd("flip:{inbox}:ended", {"a": week_ago_us - 1e6, "b": week_ago_us - 1e6})
        admin.zadd("flip:{inbox}:ended", {"c": week_ago_us + 60e6})

    await inbox.renew()

    with redis_server.admin() as admin:
        assert admin.hkeys("flip:{inbox}:dead") == admin.hkeys("flip:{inbox}:reasons") == [b"c"]
    assert [await inbox.put(letter(name)) for name in "abc"] == [True, True, False]
    await inbox.aclose()


async def test_at_most_a_million_ids_are_remembered(redis_server: RedisServer) -> None:
    inbox = RedisInbox(redis_server.url)
    await inbox.open(home=HOME)
    now_us = time.time() * 1e6
    with redis_server.admin() as admin:
        admin.eval(
            "for n = 1, 1000000 do redis.call('ZADD', KEYS[1], ARGV[1] + n, n) end",
            1, "flip:{inbox}:ended", now_us - 2e6,
        )  # fmt: skip
        for name in "abc":
            await inbox.put(letter(name))
        await inbox.settle(await inbox.claim(10))
        assert admin.zcard("flip:{inbox}:ended") == 1_000_000
        assert admin.zscore("flip:{inbox}:ended", "3") is None
        admin.zadd("flip:{inbox}:ended", {f"more {n}": now_us for n in range(1500)})
        await inbox.renew()  # so many at once and no more
        assert admin.zcard("flip:{inbox}:ended") == 1_000_500
        await inbox.renew()
        assert admin.zcard("flip:{inbox}:ended") == 1_000_000
    await inbox.aclose()


async def test_a_kind_that_nobody_has_handled_for_a_week_is_nobodys(
    redis_server: RedisServer,
) -> None:
    gone, inbox = RedisInbox(redis_server.url), RedisInbox(redis_server.url)
    await gone.open(home=HOME)
    await gone.aclose()
    await inbox.open(home=home_of("settings.apply"))
    await inbox.put(letter("a"))
    assert await inbox.claim(10) == []
    with redis_server.admin() as admin:
        week_ago_us = (time.time() - 7 * 24 * 3600 - 1) * 1e6
        admin.zadd("flip:{inbox}:seen", {"enrollment.updated": week_ago_us})

    assert (await inbox.renew()).next_due_at is not None
    assert ids(await inbox.claim(10)) == ["a"]
    await inbox.aclose()


async def test_nothing_that_must_stay_has_a_time_to_live(redis_server: RedisServer) -> None:
    """A `volatile-` policy drops what has one, and nothing else [F9]."""
    inbox = RedisInbox(redis_server.url)
    await inbox.open(home=HOME)
    for name in "abcde":
        await inbox.put(letter(name))
    a, b, c, _ = await inbox.claim(4)
    await inbox.settle([a])
    await inbox.dead_letter([b], "never")
    await inbox.release([c], due_at=time.time() + 60)

    with redis_server.admin() as admin:
        keys = admin.keys()
        assert {admin.ttl(key) for key in keys} == {-1}
    assert len(keys) == 11
    assert all(key.startswith(b"flip:{inbox}:") for key in keys)
    await inbox.aclose()


async def test_claims_leave_nothing_behind(redis_server: RedisServer) -> None:
    inbox = RedisInbox(redis_server.url)
    await inbox.open(home=HOME)
    for number in range(20):
        await inbox.put(letter(str(number)))
        (entry,) = await inbox.claim(10)
        await inbox.release([entry], due_at=time.time())
        await inbox.settle(await claimed(inbox))
    await inbox.aclose()

    with redis_server.admin() as admin:
        assert {key.decode().rpartition(":")[2] for key in admin.scan_iter()} == {
            "ended", "home", "seen",
        }  # fmt: skip


async def test_a_script_that_runs_twice_for_one_call_tells_the_same(
    redis_server: RedisServer,
) -> None:
    """As with a client that is given and repeats commands [F4]."""

    class Repeating(redis.asyncio.Redis):
        async def execute_command(self, *args: Any, **options: Any) -> Any:
            if args[0] in ("EVALSHA", "EVAL"):
                await super().execute_command(*args, **options)
            return await super().execute_command(*args, **options)

    plain = given_client(redis_server.url)
    theirs = Repeating(connection_pool=plain.connection_pool)
    inbox = RedisInbox(theirs, lease_s=0.3)
    await inbox.open(home=HOME)

    assert [await inbox.put(letter("a")) for _ in range(2)] == [True, False]
    assert await inbox.claim(10) == []  # the first run had it, and nobody knows
    (entry,) = await claimed_by_another(redis_server)
    assert entry.letter == letter("a")
    await inbox.settle([entry])
    await inbox.put(letter("b"))
    other = await opened(redis_server)
    assert (await other.renew()).waiting == 1

    await other.aclose()
    await inbox.aclose()
    await plain.aclose()


async def claimed_by_another(server: RedisServer) -> list[InboxEntry]:
    other = await opened(server)
    entries = await claimed(other)
    await other.aclose()
    return entries


async def opened(server: RedisServer, **options: Any) -> RedisInbox:
    inbox = RedisInbox(server.url, **options)
    await inbox.open(home=HOME)
    return inbox


async def test_a_cluster_serves_too(redis_cluster: RedisClusterOfThree) -> None:
    theirs = redis.asyncio.RedisCluster.from_url(redis_cluster.url)
    inbox = RedisInbox(theirs, namespace="test-inbox")
    await inbox.open(home=HOME)
    await asyncio.gather(*(inbox.put(letter(f"{number:02}")) for number in range(40)))
    entries = await inbox.claim(100)
    await inbox.settle(entries[:10])
    await inbox.dead_letter(entries[10:20], "never")
    await inbox.release(entries[20:30], due_at=time.time() + 60)
    await inbox.release(entries[30:])

    assert (await inbox.renew()).waiting == 20
    assert ids(await inbox.claim(100)) == [f"{number}" for number in range(30, 40)]
    await inbox.aclose()
    await theirs.aclose()


async def test_a_damaged_count_of_failures_keeps_nothing_from_waiting_again(
    redis_server: RedisServer,
) -> None:
    inbox = await opened(redis_server)
    for name in "ab":
        await inbox.put(letter(name))
    with redis_server.admin() as admin:
        admin.hset("flip:{inbox}:failures", "a", "many")
    await inbox.release(await inbox.claim(10), due_at=time.time())

    assert {entry.failures for entry in await claimed(inbox, 2)} == {1}
    await inbox.aclose()


async def test_two_namespaces_never_meet(redis_server: RedisServer) -> None:
    one, two = RedisInbox(redis_server.url), RedisInbox(redis_server.url, namespace="other")
    await one.open(home=HOME)
    await two.open(
        home=InboxHome(
            key_digests=SigningKeys.of(OTHER_SECRET).digests, event_types=HOME.event_types
        )
    )
    await one.put(letter("a"))

    assert await two.put(letter("a"))
    assert len(await one.claim(10)) == len(await two.claim(10)) == 1
    await one.aclose()
    await two.aclose()


async def test_an_inbox_serves_one_loop_after_the_other(redis_server: RedisServer) -> None:
    inbox = RedisInbox(redis_server.url)

    def live(name: str) -> list[str]:
        async def main() -> list[str]:
            await inbox.open(home=HOME)
            await inbox.put(letter(name))
            found = ids(await inbox.claim(10))
            await inbox.aclose()
            return found

        return asyncio.run(main())

    assert [await asyncio.to_thread(live, name) for name in "ab"] == [["a"], ["a", "b"]]


# Any interleaving

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "claim", "settle", "release", "fail", "bury", "renew", "reopen"]),
        st.integers(0, 1),
        st.integers(0, 5),
    ),
    max_size=40,
)


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, *HealthCheck]
)
@given(steps=STEPS)
def test_whatever_two_owners_do_each_webhook_is_with_one_and_none_is_lost(
    redis_server: RedisServer, steps: list[tuple[str, int, int]]
) -> None:
    with redis_server.admin() as admin:
        admin.flushall()
    asyncio.run(interleave(redis_server, steps))


async def interleave(server: RedisServer, steps: list[tuple[str, int, int]]) -> None:
    owners = [await opened(server), await opened(server)]
    kept: set[str] = set()
    ended: set[str] = set()
    in_hand: list[dict[str, InboxEntry]] = [{}, {}]
    failures: Counter[str] = Counter()

    for step, number, which in steps:
        owner, mine = owners[number], in_hand[number]
        name = str(which)
        match step:
            case "put":
                assert await owner.put(letter(name)) == (name not in kept)
                kept.add(name)
            case "claim":
                for entry in await owner.claim(which + 1):
                    found = entry.letter.webhook_id
                    assert found in kept - ended
                    assert found not in in_hand[0]
                    assert found not in in_hand[1]
                    assert entry.failures == failures[found]
                    mine[found] = entry
            case "settle" | "bury" if name in mine:
                if step == "settle":
                    await owner.settle([mine.pop(name)])
                else:
                    await owner.dead_letter([mine.pop(name)], "never")
                ended.add(name)
            case "release" if name in mine:
                await owner.release([mine.pop(name)])
            case "fail" if name in mine:
                failures[name] += 1
                await owner.release([mine.pop(name)], due_at=time.time())
            case "renew":
                waiting = kept - ended - set(in_hand[0]) - set(in_hand[1])
                assert (await owner.renew()).waiting == len(waiting)
            case "reopen":
                await owner.aclose()
                mine.clear()
                await owner.open(home=HOME)
            case _:
                pass

    await owners[0].aclose()
    left = await owners[1].claim(100)
    assert set(ids(left)) | set(in_hand[1]) == kept - ended
    await owners[1].aclose()


# With a receiver


class Application:
    """One process of several: a receiver with an inbox of its own."""

    def __init__(self, url: str, seen: list[str], **options: Any) -> None:
        handlers = Handlers()
        self.gate: asyncio.Event | None = None
        self.fail: Callable[[str], bool] = lambda webhook_id: False

        @handlers.on("enrollment.updated")
        async def enrolled(event: EnrollmentEvent) -> None:
            seen.append(event.webhook_id)
            if self.gate is not None:
                await self.gate.wait()
            if self.fail(event.webhook_id):
                raise ValueError("not now")

        self.inbox = RedisInbox(url, **options)
        self.receiver = WebhookReceiver(
            handlers, secret=SECRET, inbox=self.inbox, shutdown_timeout_s=0.05
        )

    async def deliver(self, *webhook_ids: str) -> list[int]:
        replies = await asyncio.gather(
            *(
                self.receiver.receive(ENROLLED, signed(ENROLLED, one, at_s=time.time()))
                for one in webhook_ids
            )
        )
        return [reply.status for reply in replies]


def handled(server: RedisServer) -> int:
    with server.admin() as admin:
        count = admin.zcard("flip:{inbox}:ended")
    assert isinstance(count, int)
    return count


async def test_two_processes_share_it_and_handle_each_webhook_once(
    redis_server: RedisServer,
) -> None:
    seen: list[str] = []
    one, two = (Application(redis_server.url, seen) for _ in range(2))
    async with one.receiver, two.receiver:
        for first in range(0, 500, 50):
            names = [str(number) for number in range(first, first + 50)]
            answers = await asyncio.gather(one.deliver(*names), two.deliver(*names))
            assert set(itertools.chain(*answers)) == {204}
        await until(lambda: handled(redis_server) == 500)

    assert len(seen) == len(set(seen)) == 500


async def test_a_receiver_comes_again_at_once_for_what_a_claim_left(
    redis_server: RedisServer,
) -> None:
    """Sixteen megabytes and more than a thousand: long before the next renewal."""
    seen: list[str] = []
    application = Application(redis_server.url, seen)
    filler = await opened(redis_server)
    await asyncio.gather(*(filler.put(letter(f"large {n}", b"x" * 1_000_000)) for n in range(16)))
    await asyncio.gather(*(filler.put(letter(str(n))) for n in range(2500)))
    async with application.receiver:
        await until(lambda: len(seen) == 2500)
        await until(lambda: handled(redis_server) == 2500)
    await filler.aclose()

    assert len(set(seen)) == 2500


async def test_a_handler_that_fails_is_tried_again(redis_server: RedisServer) -> None:
    seen: list[str] = []
    application = Application(redis_server.url, seen)
    application.fail = lambda webhook_id: seen.count(webhook_id) == 1
    async with application.receiver:
        assert await application.deliver("a") == [204]
        await until(lambda: handled(redis_server) == 1)

    assert seen == ["a", "a"]


async def test_what_is_not_finished_at_the_end_is_handled_by_another(
    redis_server: RedisServer,
) -> None:
    """At once, though the lease is long: the claims were let go."""
    seen: list[str] = []
    one, two = (Application(redis_server.url, seen, lease_s=3600) for _ in range(2))
    one.gate = asyncio.Event()
    async with one.receiver:
        await one.deliver("a", "b")
        await until(lambda: len(seen) == 2)
    async with two.receiver:
        await until(lambda: handled(redis_server) == 2)

    assert Counter(seen) == {"a": 2, "b": 2}


async def test_a_lease_is_renewed_while_a_handler_runs(redis_server: RedisServer) -> None:
    seen: list[str] = []
    one, two = (Application(redis_server.url, seen, lease_s=1.0) for _ in range(2))
    one.gate = two.gate = asyncio.Event()
    async with one.receiver, two.receiver:
        await one.deliver("a")
        await until(lambda: bool(seen))
        await asyncio.sleep(2.5)
        one.gate.set()
        await until(lambda: handled(redis_server) == 1)

    assert seen == ["a"]


async def test_a_damaged_record_is_given_up_alone(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept to be looked at, and named nowhere."""
    seen: list[str] = []
    inbox = await opened(redis_server)
    for name in ("broken", "good", "gone", "no queue", "odd"):
        await inbox.put(letter(name))
    with redis_server.admin() as admin:
        admin.hset("flip:{inbox}:letters", "broken", b"rubbish")
        admin.hdel("flip:{inbox}:letters", "gone")
        admin.zadd("flip:{inbox}:queue:enrollment.updated", {b"\xff\xfe": 1})
        admin.hset("flip:{inbox}:letters", b"\xff\xfe", b"rubbish")
        admin.hset("flip:{inbox}:failures", "odd", "many")
        admin.zrem("flip:{inbox}:waiting", "odd")
    async with Application(redis_server.url, seen).receiver:
        await until(lambda: handled(redis_server) == 5)
    await inbox.aclose()

    assert sorted(seen) == ["good", "no queue", "odd"]
    with redis_server.admin() as admin:
        assert admin.hgetall("flip:{inbox}:dead") == {
            b"broken": b"rubbish",
            b"\xff\xfe": b"rubbish",
        }
        assert set(admin.hvals("flip:{inbox}:reasons")) == {b"damaged: it cannot be read"}
    assert "2 webhooks in Redis are damaged" in caplog.text
    assert "broken" not in caplog.text
