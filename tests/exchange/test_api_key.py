"""API keys [A18]."""

import asyncio
import threading

import httpx
import pytest

from flip_async import ApiKeyAuth
from flip_async.errors import ClientClosedError, ConfigurationError, TokenUnavailableError
from tests.support import API, FakeFlip, ManualClock, settle

OLD, NEW = "fl_your_old_key", "fl_your_new_key"


def client(auth: httpx.Auth, fake: FakeFlip) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=fake, auth=auth, base_url=API)


async def get(http: httpx.AsyncClient, path: str = "/v1/sites") -> int:
    return (await http.get(path)).status_code


class Manager:
    """A secrets manager whose key is rotated by a test."""

    def __init__(self, key: str = OLD) -> None:
        self.key = key
        self.asked = 0
        self.thread: int | None = None

    def read(self) -> str:
        self.asked += 1
        self.thread = threading.get_ident()
        return f" {self.key}\n"

    async def read_async(self) -> str:
        self.asked += 1
        await asyncio.sleep(0)
        return self.key


async def test_a_static_key_is_on_every_request(fake: FakeFlip) -> None:
    fake.valid = {OLD}
    async with client(ApiKeyAuth(f"{OLD}\n"), fake) as http:
        assert await get(http) == 200

    assert fake.carried == [OLD]


async def test_a_401_to_a_static_key_goes_to_the_caller(fake: FakeFlip) -> None:
    """There is nothing else to send."""
    async with client(ApiKeyAuth(OLD), fake) as http:
        assert await get(http) == 401

    assert len(fake.api_requests) == 1


@pytest.mark.parametrize("kind", ["sync", "async", "lambda"])
async def test_a_callable_is_asked_once(fake: FakeFlip, kind: str) -> None:
    """Its answer is kept; a sync one runs in a thread."""
    fake.valid, manager = {OLD}, Manager()
    sources = {
        "sync": manager.read,
        "async": manager.read_async,
        "lambda": lambda: manager.read_async(),
    }
    async with client(ApiKeyAuth(sources[kind]), fake) as http:
        assert await asyncio.gather(*(get(http) for _ in range(50))) == [200] * 50

    assert manager.asked == 1
    assert manager.thread != threading.get_ident()


async def test_a_rotated_key_is_read_after_a_401_and_the_request_sent_again(
    fake: FakeFlip,
) -> None:
    fake.valid, manager = {OLD}, Manager()
    async with client(ApiKeyAuth(manager.read), fake) as http:
        await get(http)
        manager.key, fake.valid = NEW, {NEW}

        assert await asyncio.gather(*(get(http) for _ in range(50))) == [200] * 50

    assert manager.asked == 2


async def test_the_same_key_again_is_not_sent_again(fake: FakeFlip, clock: ManualClock) -> None:
    """The 401 goes to the caller, and the manager is left in peace for a growing while."""
    manager = Manager()
    async with client(ApiKeyAuth(manager.read, clock=clock), fake) as http:
        for _ in range(200):
            assert await get(http) == 401
            clock.move(0.3)

    assert len(fake.api_requests) == 200
    assert 4 <= manager.asked <= 8


async def test_a_manager_that_is_down_is_named(fake: FakeFlip, clock: ManualClock) -> None:
    def broken() -> str:
        raise LookupError

    async with client(ApiKeyAuth(broken, clock=clock), fake) as http:
        with pytest.raises(TokenUnavailableError, match="api_key raised LookupError"):
            await get(http)


async def test_a_callable_that_gives_no_key_is_a_configuration_error(fake: FakeFlip) -> None:
    async with client(ApiKeyAuth(lambda: "a\nb"), fake) as http:
        with pytest.raises(ConfigurationError, match="api_key"):
            await get(http)


async def test_a_slow_manager_holds_nobody_after_closing(fake: FakeFlip) -> None:
    """[A8]."""
    gate = asyncio.Event()

    async def slow() -> str:
        await gate.wait()
        return OLD

    auth = ApiKeyAuth(slow)
    async with client(auth, fake) as http:
        waiter = asyncio.create_task(get(http))
        await settle()
        await auth.aclose()
        with pytest.raises(ClientClosedError):
            await waiter


async def test_a_key_can_be_asked_for_and_read_again(fake: FakeFlip) -> None:
    """[A21]."""
    manager = Manager()
    auth = ApiKeyAuth(manager.read)

    assert (await auth.token()).access_token.reveal() == OLD
    manager.key = NEW
    assert (await auth.refresh()).access_token.reveal() == NEW
    assert (await ApiKeyAuth(OLD).refresh()).access_token.reveal() == OLD
