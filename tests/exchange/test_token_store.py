"""Tokens that outlive one auth object: the protocol, and the one in memory."""

import asyncio

import httpx
import pytest

from flip_async import ClientCredentialsAuth, MemoryTokenStore, Token, TokenStore
from tests.support import CLIENT_ID, CLIENT_SECRET, FakeFlip, ManualClock, make_token, settle


def auth_with(
    store: TokenStore, http: httpx.AsyncClient, clock: ManualClock, **options: str
) -> ClientCredentialsAuth:
    return ClientCredentialsAuth(
        CLIENT_ID, CLIENT_SECRET, http_client=http, clock=clock, token_store=store, **options
    )


async def value(auth: ClientCredentialsAuth) -> str:
    return (await auth.token()).access_token.reveal()


async def test_two_auths_share_one_token(
    token_http: httpx.AsyncClient, fake: FakeFlip, clock: ManualClock
) -> None:
    """The store's lock covers the token request."""
    store = MemoryTokenStore()
    auths = [auth_with(store, token_http, clock) for _ in range(20)]

    waiting = asyncio.gather(*(value(auth) for auth in auths))
    await clock.pass_time(1)
    values = await waiting

    assert set(values) == {"at_1"}
    assert fake.tokens_asked == 1
    assert repr(store) == "MemoryTokenStore(1 tokens)"


async def test_another_scope_is_another_token(
    token_http: httpx.AsyncClient, fake: FakeFlip, clock: ManualClock
) -> None:
    """Keyed by token URL, client id and scope."""
    store = MemoryTokenStore()

    await value(auth_with(store, token_http, clock))
    await value(auth_with(store, token_http, clock, scope="narrow"))

    assert fake.tokens_asked == 2


async def test_a_token_that_was_refused_counts_as_absent_when_the_store_gives_it_back(
    token_http: httpx.AsyncClient, fake: FakeFlip, clock: ManualClock
) -> None:
    store = MemoryTokenStore()
    auth, other = auth_with(store, token_http, clock), auth_with(store, token_http, clock)
    await value(auth)
    await value(other)

    auth.invalidate()

    assert await value(auth) == "at_2"
    other.invalidate()
    assert await value(other) == "at_2"
    assert fake.tokens_asked == 2


async def test_a_stored_token_lives_on_by_the_wall_clock(
    token_http: httpx.AsyncClient, fake: FakeFlip, clock: ManualClock
) -> None:
    """The monotonic clock of another process says nothing; a margin is kept."""
    store, first = MemoryTokenStore(), auth_with(MemoryTokenStore(), token_http, clock)
    await store.save(await _key_of(first, store), make_token("kept", lifetime_s=100))
    auth = auth_with(store, token_http, clock)
    clock.move(85)

    assert await value(auth) == "kept"
    await asyncio.sleep(0)
    clock.move(10)
    late = auth_with(store, token_http, clock)

    assert await value(late) == "at_1"


async def _key_of(auth: ClientCredentialsAuth, store: MemoryTokenStore) -> str:
    return auth.identity


class BrokenStore:
    """Fails where it is told to."""

    def __init__(self, where: str) -> None:
        self.where = where

    async def load(self, key: str) -> Token | None:
        self._fail("load")
        return None

    async def save(self, key: str, token: Token) -> None:
        self._fail("save")

    async def acquire(self, key: str, *, owner: str, lease_s: float) -> bool:
        self._fail("acquire")
        return True

    async def release(self, key: str, *, owner: str) -> None:
        self._fail("release")

    def _fail(self, where: str) -> None:
        if where == self.where:
            raise ConnectionError(where)


@pytest.mark.parametrize("where", ["acquire", "load", "save", "release"])
async def test_a_store_that_is_down_costs_no_request(
    token_http: httpx.AsyncClient,
    fake: FakeFlip,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
    where: str,
) -> None:
    """It degrades to a token of its own, with a warning."""
    auth = auth_with(BrokenStore(where), token_http, clock)

    assert await value(auth) == "at_1"
    await settle()

    assert fake.tokens_asked == 1
    assert "the token store failed (ConnectionError)" in caplog.text


def test_the_store_serves_loops_one_after_the_other(fake: FakeFlip, clock: ManualClock) -> None:
    """[A15]."""
    store = MemoryTokenStore()

    async def main() -> list[str]:
        async with httpx.AsyncClient(transport=fake) as http:
            auths = [auth_with(store, http, clock) for _ in range(5)]
            waiting = asyncio.gather(*(value(auth) for auth in auths))
            await clock.pass_time(1)
            return list(await waiting)

    assert asyncio.run(main()) == asyncio.run(main())
    assert fake.tokens_asked == 1
