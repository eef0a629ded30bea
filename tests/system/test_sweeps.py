"""Cancelled, closed or failed at every turn of the loop, a client works on [B1], [B8], [B12]."""

import asyncio
import itertools
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import httpx
import pytest

from flip_async import (
    PRODUCTION,
    ClientCredentialsAuth,
    FlipClient,
    MemoryTokenStore,
    Retries,
    Token,
    errors,
)
from tests.support import API, CLIENT_ID, CLIENT_SECRET, ManualClock
from tests.support.sweeps import (
    LIMIT_S,
    How,
    Scenario,
    SlowFlip,
    SocketFlip,
    Trap,
    assert_nothing_held,
    becomes,
    sweep,
    sweep_calls,
)

both = pytest.mark.parametrize("how", [How.NATIVE, How.SCOPE], ids=["natively", "by a scope"])
one_or_all = pytest.mark.parametrize("victims", [1, 4], ids=["one of four", "all four"])
POST_PATH = "/v1/supplements"


def of_user() -> Exception:
    return RuntimeError("of a user's")


def from_within() -> BaseException:
    return asyncio.CancelledError("of another task")


both_errors = pytest.mark.parametrize(
    "make_error", [of_user, from_within], ids=["an error", "a CancelledError from within"]
)


def make_client(fake: SlowFlip, **options: Any) -> FlipClient:
    options.setdefault("clock", ManualClock())
    if "auth" not in options:
        options = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, **options}
    return FlipClient(environment=PRODUCTION, transport=fake, **options)


async def assert_alive(flip: FlipClient, fake: SlowFlip, *, tokens: int) -> None:
    """The next call works, nothing is held, and no token was asked for in vain."""
    assert await flip.commands.list() == []
    await assert_nothing_held(flip)
    assert fake.tokens_asked == tokens
    assert fake.open_answers == 0


# A call


@both
@one_or_all
async def test_a_call_leaves_nothing_behind(how: How, victims: int) -> None:
    """A POST is carried out once for each caller at the most, and its slot is given back [B1]."""

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        fake, ended_well = SlowFlip(), list[object]()

        async def act() -> None:
            ended_well.append(await flip.request("POST", POST_PATH, body={"a": 1}))

        async def check() -> None:
            assert len(ended_well) <= len(fake.accepted) <= 4
            assert len(fake.api_requests) <= 5
            await assert_alive(flip, fake, tokens=1)

        async with make_client(fake) as flip:
            await flip.commands.list()
            yield Scenario(act=act, check=check, callers=4, victims=victims)
        assert fake.closings == 1

    (await sweep(arrange, how)).assert_clean(at_least=5)


# Tokens


@both
@one_or_all
async def test_a_cold_start_asks_for_one_token(how: How, victims: int) -> None:
    """Whoever is cancelled, the others are served, by one token request [A2], [A8]."""

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        fake = SlowFlip()

        async def act() -> None:
            await flip.commands.list()

        async def check() -> None:
            await assert_alive(flip, fake, tokens=1)

        async with make_client(fake) as flip:
            yield Scenario(act=act, check=check, callers=4, victims=victims)

    (await sweep(arrange, how)).assert_clean(at_least=10)


@both
@one_or_all
async def test_a_stale_token_is_refreshed_once(how: How, victims: int) -> None:
    """Nobody waits for the refresh, and whoever began it may be cancelled [A3], [A8]."""

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        fake, clock = SlowFlip(), ManualClock()

        async def act() -> None:
            await flip.commands.list()

        async def check() -> None:
            await flip.commands.list()
            await becomes(lambda: fake.tokens_asked == 2)
            await assert_alive(flip, fake, tokens=2)

        async with make_client(fake, clock=clock) as flip:
            await flip.commands.list()
            clock.move(85)
            yield Scenario(act=act, check=check, callers=4, victims=victims)

    (await sweep(arrange, how)).assert_clean(at_least=5)


@both
@one_or_all
async def test_a_401_is_cured_by_one_refresh(how: How, victims: int) -> None:
    """The refresh after a 401 is everybody's, also when its first waiter leaves [A6], [A8]."""

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        fake = SlowFlip()

        async def act() -> None:
            await flip.commands.list()

        async def check() -> None:
            await assert_alive(flip, fake, tokens=2)
            assert len(fake.api_requests) <= 1 + 2 * 4 + 2

        async with make_client(fake) as flip:
            await flip.commands.list()
            fake.revoke()
            yield Scenario(act=act, check=check, callers=4, victims=victims)

    (await sweep(arrange, how)).assert_clean(at_least=15)


@both
async def test_a_shared_store_is_left_unlocked(how: How) -> None:
    """A caller that leaves in the middle of a refresh takes no lock with it [A20], [B1]."""

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        fake, store = SlowFlip(), SlowStore()

        async def act() -> None:
            await flip.commands.list()

        async def check() -> None:
            await assert_alive(flip, fake, tokens=1)
            assert await becomes(lambda: not store.locks and store.has_token)

        async with make_client(fake, token_store=store) as flip:
            yield Scenario(act=act, check=check, callers=3)

    (await sweep(arrange, how)).assert_clean(at_least=15)


# Pages


@both
async def test_pages_come_in_order_up_to_where_the_reader_leaves(how: How) -> None:
    """What was read is a beginning of the list, and one page is fetched ahead at most [R5]."""

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        fake, read = SlowFlip(rows=10), list[str]()

        async def act() -> None:
            async for site in flip.sites.list(limit=3):
                read.append(site.id)
                await asyncio.sleep(0)

        async def check() -> None:
            assert read == [f"hh-{number}" for number in range(len(read))]
            pages_read = (len(read) + 2) // 3
            assert len(fake.api_requests) <= pages_read + 2
            assert [site.id async for site in flip.sites.list(limit=4)] == [
                f"hh-{number}" for number in range(10)
            ]
            await assert_alive(flip, fake, tokens=1)

        async with make_client(fake) as flip:
            yield Scenario(act=act, check=check)

    (await sweep(arrange, how)).assert_clean(at_least=30)


# Closing


@asynccontextmanager
async def busy_client(fake: SlowFlip, **options: Any) -> AsyncIterator[FlipClient]:
    """A client with two calls, a page ahead and a refresh of a stale token under way."""
    clock = ManualClock()
    flip = make_client(fake, clock=clock, **options)
    pages = flip.sites.list(limit=2).pages()
    await anext(pages)
    clock.move(85)
    calls = [asyncio.ensure_future(flip.commands.list().collect()) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    yield flip
    await flip.aclose()
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert outcome == [] or isinstance(outcome, errors.ClientClosedError), outcome
    assert not pages._next or pages._next.done()


@both
async def test_a_second_closing_finishes_the_first(how: How) -> None:
    """`aclose()` that is cut off leaves nothing half closed [R7], [B1]."""

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        fake = SlowFlip(rows=10)

        async def act() -> None:
            await flip.aclose()

        async def check() -> None:
            await flip.aclose()
            assert fake.closings == 1
            assert fake.open_answers == 0
            await assert_nothing_held(flip)
            with pytest.raises(errors.ClientClosedError):
                await flip.commands.list()

        async with busy_client(fake) as flip:
            yield Scenario(act=act, check=check)

    (await sweep(arrange, how)).assert_clean(at_least=5)


@both
async def test_a_second_closing_waits_for_one_that_was_just_cut_off(how: How) -> None:
    """With no turn between the two."""

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        fake = SlowFlip(rows=10)

        async def act() -> None:
            try:
                await flip.aclose()
            finally:
                with anyio.CancelScope(shield=True):
                    await flip.aclose()
                assert fake.closings == 1
                assert not flip.auth.is_busy  # type: ignore[attr-defined]

        async with busy_client(fake) as flip:
            yield Scenario(act=act, check=lambda: assert_nothing_held(flip))

    (await sweep(arrange, how)).assert_clean(at_least=5)


@both
async def test_a_client_that_was_entered_is_left_closed(how: How) -> None:
    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        fake, clients = SlowFlip(), list[FlipClient]()

        async def act() -> None:
            async with make_client(fake) as flip:
                clients.append(flip)
                await flip.commands.list()

        async def check() -> None:
            assert fake.closings == len(clients) <= 1
            assert fake.open_answers == 0
            for flip in clients:
                assert flip.is_closed
                await assert_nothing_held(flip)
            async with make_client(fake) as another:
                assert await another.commands.list() == []

        yield Scenario(act=act, check=check)

    (await sweep(arrange, how)).assert_clean(at_least=14)


@pytest.mark.parametrize("situation", ["cold", "stale", "refused"])
async def test_calls_that_are_closed_under_way_fail_as_closed(situation: str) -> None:
    """Whenever it comes, a call is answered or a `ClientClosedError`, for good [R7]."""

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        fake, store, clock = SlowFlip(rows=10), SlowStore(), ManualClock()
        flip = make_client(fake, clock=clock, token_store=store)
        closings: list[asyncio.Task[None]] = []

        async def act() -> None:
            await flip.sites.list(limit=3)

        async def check() -> None:
            await flip.aclose()
            await asyncio.gather(*closings)
            assert fake.closings == 1
            assert fake.open_answers == 0
            await assert_nothing_held(flip)
            assert fake.tokens_asked <= 2

        if situation != "cold":
            await flip.sites.list(max_items=1)
        if situation == "stale":
            clock.move(85)
        if situation == "refused":
            fake.revoke()
        yield Scenario(
            act=act,
            check=check,
            callers=3,
            victims=3,
            may_raise=(errors.ClientClosedError,),
            disturb=lambda: closings.append(asyncio.ensure_future(flip.aclose())),
        )

    (await sweep(arrange, How.OWN)).assert_clean(at_least=30)


async def test_a_client_that_is_closed_while_it_refreshes_gives_the_store_s_lock_back() -> None:
    """Another process need not wait for the end of a lease [A20], [B1]."""

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        fake, store = SlowFlip(), SlowStore()
        flip = make_client(fake, token_store=store)
        closings: list[asyncio.Task[None]] = []

        async def act() -> None:
            await flip.commands.list()

        async def check() -> None:
            await flip.aclose()
            await asyncio.gather(*closings)
            assert await becomes(lambda: not store.locks), store.locks

        yield Scenario(
            act=act,
            check=check,
            may_raise=(errors.ClientClosedError,),
            disturb=lambda: closings.append(asyncio.ensure_future(flip.aclose())),
        )

    (await sweep(arrange, How.OWN)).assert_clean(at_least=15)


# What users bring


class SlowStore:
    """A store of a user's, over a network of some turns."""

    def __init__(self, trap: Trap | None = None, *, clock: ManualClock | None = None) -> None:
        self._inner = MemoryTokenStore(clock=clock or ManualClock())
        self._trap = trap

    @property
    def locks(self) -> list[str]:
        return list(self._inner._locks)

    @property
    def has_token(self) -> bool:
        return bool(self._inner._tokens)

    async def _travel(self, where: str) -> None:
        await asyncio.sleep(0)
        if self._trap is not None:
            self._trap(where)
        await asyncio.sleep(0)

    async def load(self, key: str) -> Token | None:
        await self._travel("load")
        return await self._inner.load(key)

    async def save(self, key: str, token: Token) -> None:
        await self._travel("save")
        await self._inner.save(key, token)

    async def acquire(self, key: str, *, owner: str, lease_s: float) -> bool:
        await self._travel("acquire")
        return await self._inner.acquire(key, owner=owner, lease_s=lease_s)

    async def release(self, key: str, *, owner: str) -> None:
        await self._travel("release")
        await self._inner.release(key, owner=owner)


@both_errors
async def test_a_store_that_fails_costs_no_call(make_error: Callable[[], BaseException]) -> None:
    """Whichever of its calls fails, all are served by one token, and no lock stays [A20], [B4]."""

    @asynccontextmanager
    async def arrange(trap: Trap) -> AsyncIterator[Scenario]:
        fake, clock = SlowFlip(), ManualClock()
        store = SlowStore(trap, clock=clock)

        async def act() -> None:
            await flip.commands.list()

        async def check() -> None:
            await assert_alive(flip, fake, tokens=1)
            await becomes(lambda: trap.where == "release" or not store.locks)
            locks = store.locks
            clock.move(1_000)  # its token is over, and the store is asked again
            await assert_alive(flip, fake, tokens=2)
            assert trap.where == "release" or not locks, f"still locked: {locks}"

        async with make_client(fake, clock=clock, token_store=store) as flip:
            yield Scenario(act=act, check=check, callers=3)

    (await sweep_calls(arrange, make_error)).assert_clean(at_least=5)


@both_errors
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_secret_s_callable_that_fails_fails_the_calls_and_no_more(
    kind: str, make_error: Callable[[], BaseException]
) -> None:
    """Its failure is the callers' `TokenUnavailableError`, until it works again [A18], [B4]."""

    @asynccontextmanager
    async def arrange(trap: Trap) -> AsyncIterator[Scenario]:
        fake, clock = SlowFlip(), ManualClock()
        refusal = {"error": "invalid_client"}

        def ask() -> str:
            trap("secret")
            return f"secret_{trap.calls}"

        async def ask_later() -> str:
            await asyncio.sleep(0)
            return ask()

        async def act() -> None:
            await flip.commands.list()

        async def check() -> None:
            clock.move(1_000)
            assert await flip.commands.list() == []
            await assert_nothing_held(flip)
            assert fake.tokens_asked <= 4

        # Refused once, so that it is asked for once more.
        fake.next_token_answers.append(httpx.Response(401, json=refusal))
        secret = ask if kind == "sync" else ask_later
        async with make_client(fake, clock=clock, client_secret=secret) as flip:
            yield Scenario(
                act=act, check=check, callers=3, may_raise=(errors.TokenUnavailableError,)
            )

    (await sweep_calls(arrange, make_error)).assert_clean(at_least=2)


@both
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_callers_that_leave_while_the_secret_is_asked_for_disturb_nobody(
    kind: str, how: How
) -> None:
    """It is asked for once [A18], and a thread that asks ends."""

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        fake, asked = SlowFlip(), list[int]()

        def ask() -> str:
            asked.append(1)
            return "secret"

        async def ask_later() -> str:
            await asyncio.sleep(0)
            return ask()

        async def act() -> None:
            await flip.commands.list()

        async def check() -> None:
            await assert_alive(flip, fake, tokens=1)
            assert len(asked) == 1

        secret = ask if kind == "sync" else ask_later
        async with make_client(fake, client_secret=secret) as flip:
            yield Scenario(act=act, check=check, callers=3)

    (await sweep(arrange, how)).assert_clean(at_least=10)


def callback_of(trap: Trap, kind: str) -> Callable[[object], Any]:
    def sync(event: object) -> None:
        trap(type(event).__name__)

    async def later(event: object) -> None:
        await asyncio.sleep(0)
        trap(type(event).__name__)

    return sync if kind == "sync" else later


@both_errors
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_on_refresh_that_fails_harms_nothing(
    kind: str, make_error: Callable[[], BaseException]
) -> None:
    """[A21], [B4]."""

    @asynccontextmanager
    async def arrange(trap: Trap) -> AsyncIterator[Scenario]:
        fake = SlowFlip()

        async def act() -> None:
            await flip.commands.list()

        async def check() -> None:
            fake.revoke()
            await assert_alive(flip, fake, tokens=2)
            fake.revoke()
            await auth.refresh()
            await assert_alive(flip, fake, tokens=3)
            assert await becomes(lambda: trap.calls == 3)

        async with (
            httpx.AsyncClient(transport=SharedTransport(fake)) as http,
            ClientCredentialsAuth(
                CLIENT_ID,
                CLIENT_SECRET,
                origins=[API],
                http_client=http,
                on_refresh=callback_of(trap, kind),
                clock=ManualClock(),
            ) as auth,
            make_client(fake, auth=auth) as flip,
        ):
            yield Scenario(act=act, check=check, callers=3)

    (await sweep_calls(arrange, make_error)).assert_clean(at_least=3)


class SharedTransport(httpx.AsyncBaseTransport):
    """A transport that another client closes."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._inner.handle_async_request(request)


@both_errors
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_on_retry_that_fails_harms_nothing(
    kind: str, make_error: Callable[[], BaseException]
) -> None:
    """The call goes on to its answer [B4]."""

    @asynccontextmanager
    async def arrange(trap: Trap) -> AsyncIterator[Scenario]:
        fake = SlowFlip()
        fake.next_api_answers.extend(httpx.Response(503, json={}) for _ in range(3))

        async def act() -> None:
            await flip.commands.list()

        async def check() -> None:
            await assert_alive(flip, fake, tokens=1)
            assert len(fake.api_requests) == 5
            assert await becomes(lambda: trap.calls == 3)

        async with make_client(
            fake,
            clock=None,
            retries=Retries(base_s=0, cap_s=0),
            on_retry=callback_of(trap, kind),
        ) as flip:
            yield Scenario(act=act, check=check)

    (await sweep_calls(arrange, make_error)).assert_clean(at_least=3)


# Over a socket


async def call(flip: FlipClient) -> None:
    await flip.request("POST", POST_PATH, body={"a": 1})


def over_socket(
    server: SocketFlip, situation: str, *, callers: int, victims: int
) -> Callable[[], AbstractAsyncContextManager[Scenario]]:
    """Calls over a socket, to a server that all runs share."""

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        server.token_requests = server.peak = 0
        server.accepted.clear()
        ended_well: list[object] = []

        async def act() -> None:
            ended_well.append(await call(flip))

        async def check() -> None:
            assert len(ended_well) <= len(server.accepted) <= callers
            assert await flip.commands.list() == []
            await assert_nothing_held(flip)
            assert server.token_requests == (2 if situation == "refused" else 1)
            assert server.peak <= callers + 2  # one for a token, one that is being closed
            assert await becomes(lambda: len(server.open) <= callers)

        async with server.client() as flip:
            if situation != "cold":
                await flip.commands.list()
            if situation == "refused":
                server.valid.clear()
            yield Scenario(act=act, check=check, callers=callers, victims=victims)
        assert await becomes(lambda: not server.open)

    return arrange


@both
@one_or_all
@pytest.mark.parametrize(("situation", "at_least"), [("warm", 4), ("cold", 10), ("refused", 16)])
async def test_calls_over_a_socket_leave_no_connection_behind(
    situation: str, at_least: int, victims: int, how: How
) -> None:
    """The server sees no more connections than callers, and none after closing [B8], [E1]."""
    async with SocketFlip() as server:
        swept = await sweep(over_socket(server, situation, callers=4, victims=victims), how)

    swept.assert_clean(at_least=at_least)


@both
async def test_a_closing_over_a_socket_is_finished_by_a_second(how: How) -> None:
    """Idle, cut off and being closed: the server sees every connection end [R7], [B1]."""
    async with SocketFlip() as server:

        @asynccontextmanager
        async def arrange() -> AsyncIterator[Scenario]:
            flip = server.client()
            await asyncio.gather(*[call(flip) for _ in range(3)])
            under_way = [asyncio.ensure_future(flip.sites.list().collect()) for _ in range(2)]
            for _ in range(3):
                await asyncio.sleep(0)

            async def check() -> None:
                await flip.aclose()
                await assert_nothing_held(flip)
                assert await becomes(lambda: not server.open)
                for outcome in await asyncio.gather(*under_way, return_exceptions=True):
                    assert outcome == [] or isinstance(outcome, errors.ClientClosedError)

            yield Scenario(act=flip.aclose, check=check)

        swept = await sweep(arrange, how)

    swept.assert_clean(at_least=3)


# Many


def uneven(seed: int, most: float) -> Callable[[], float]:
    """Numbers from 0 to `most`, the same in every run."""
    luck = random.Random(seed)
    return lambda: luck.uniform(0, most)


async def many(calls: int, callers: int, one: Callable[[], Any]) -> Counter[str]:
    """Make calls from several tasks, and count how they end."""
    numbers, endings = itertools.count(), Counter[str]()

    async def caller() -> None:
        while next(numbers) < calls:
            try:
                await one()
            except TimeoutError as error:
                endings[type(error).__name__] += 1
            else:
                endings["answered"] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return endings


async def assert_answers(flip: FlipClient, calls: int) -> None:
    answers = await asyncio.gather(*[flip.commands.list().collect() for _ in range(calls)])
    assert answers == [[]] * calls


HELD, QUICK = "/v1/held", "/v1/quick"


def hold_back(server: SocketFlip, *, most_s: float) -> None:
    """Answer one path at once, and the other when its callers may have left."""
    delay_s = uneven(2, most_s)
    server.delay_s = lambda path: delay_s() if path == HELD else 0.0


@pytest.mark.parametrize("end", ["deadline_s", "asyncio.timeout"])
async def test_a_client_lives_through_thousands_of_calls_that_are_cut_off(end: str) -> None:
    """Afterwards 60 of 60 calls are answered, and the connections are few [B8], [E1]."""
    limit_s, turns = uneven(1, 0.01), itertools.count()

    async def one() -> None:
        if next(turns) % 2:
            await flip.request("GET", QUICK)
        elif end == "deadline_s":
            await flip.request("GET", HELD, deadline_s=limit_s())
        else:
            async with asyncio.timeout(limit_s()):
                await flip.request("GET", HELD)

    async with SocketFlip() as server:
        async with server.client() as flip:
            await flip.commands.list()
            hold_back(server, most_s=0.02)
            endings = await many(2_000, 20, one)

            await assert_answers(flip, 60)

            await assert_nothing_held(flip)
            assert endings.total() == 2_000
            assert endings["answered"] >= 1_000
            assert len(endings) == 2
            assert server.peak <= 2 * 60 + 1
            assert await becomes(lambda: len(server.open) <= 60)
        assert await becomes(lambda: not server.open)


async def test_a_client_of_the_user_s_lives_through_deadlines() -> None:
    """Its pool of five loses none of them to our deadlines [B1], [B8]."""
    limit_s = uneven(3, 0.01)
    limits = httpx.Limits(max_connections=5)
    async with (
        SocketFlip() as server,
        httpx.AsyncClient(limits=limits, verify=False, trust_env=False) as http,
        server.client(http_client=http, deadline_s=LIMIT_S) as flip,
    ):
        await flip.commands.list()
        hold_back(server, most_s=0.02)

        endings = await many(200, 20, lambda: flip.request("GET", HELD, deadline_s=limit_s()))

        assert endings["DeadlineError"] > 0
        await assert_answers(flip, 60)
        await assert_nothing_held(flip)
        assert await becomes(lambda: len(server.open) <= 5)


@pytest.mark.parametrize("situation", ["warm", "cold"])
async def test_a_connection_of_the_user_s_client_is_not_lost(situation: str) -> None:
    """It has one, and whenever a scope ends a call the next call gets it [B1].

    Natively httpcore loses it in the last turn, where the answer is closed [B8].
    """
    limits = httpx.Limits(max_connections=1)
    async with SocketFlip() as server:

        @asynccontextmanager
        async def arrange() -> AsyncIterator[Scenario]:
            async with (
                httpx.AsyncClient(limits=limits, verify=False, trust_env=False) as http,
                server.client(http_client=http, deadline_s=0.5) as flip,
            ):
                if situation == "warm":
                    await flip.commands.list()

                async def act() -> None:
                    await flip.commands.list()

                async def check() -> None:
                    await assert_answers(flip, 2)

                yield Scenario(act=act, check=check)

        swept = await sweep(arrange, How.SCOPE)

    swept.assert_clean(at_least=4)


@pytest.fixture
def untraced_threads() -> Iterator[None]:
    """Threads that begin now are not measured by coverage.

    Of many that begin at once, CPython 3.11 lets one die at its start ("Cannot install a trace
    function while another trace function is being installed"), and its caller waits for ever.
    """
    traced = threading.gettrace()
    threading.settrace(None)  # type: ignore[arg-type]
    yield
    if traced is not None:
        threading.settrace(traced)


@pytest.mark.usefixtures("untraced_threads")
async def test_two_hundred_synchronous_callers_are_served_by_one_token() -> None:
    """They hold all of anyio's threads, and the secret is asked for in none of these [B9]."""
    asked: list[int] = []

    def secret() -> str:
        asked.append(1)
        return CLIENT_SECRET

    async with SocketFlip() as server, server.client(client_secret=secret) as flip:

        def caller() -> None:
            assert anyio.from_thread.run(flip.commands.list().collect) == []
            served.append(1)

        served: list[int] = []
        async with anyio.create_task_group() as group:
            for _ in range(200):
                group.start_soon(anyio.to_thread.run_sync, caller)

        assert len(served) == 200
        assert server.token_requests == len(asked) == 1
        await assert_nothing_held(flip)
