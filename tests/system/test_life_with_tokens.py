"""The whole over a real socket: what must hold when tokens come and go."""

import asyncio
import threading
from typing import Any

import httpx
import pytest

from flip_async import ClientCredentialsAuth, FlipClient, errors
from flip_async.emulator import Emulator
from tests.support import HurriedClock, settle

pytestmark = pytest.mark.filterwarnings("error")


async def sites(flip: FlipClient) -> list[str]:
    return [site.id for site in await flip.sites.list(max_items=1)]


def auth_for(emulator: Emulator, **options: Any) -> ClientCredentialsAuth:
    return ClientCredentialsAuth(
        emulator.client_id,
        emulator.client_secret,
        token_url=f"{emulator.oauth_url}/token",
        **options,
    )


async def test_1000_first_requests_make_one_token_request(socket_emulator: Emulator) -> None:
    """[A2]."""
    async with socket_emulator.client() as flip:
        answers = await asyncio.gather(*(sites(flip) for _ in range(1000)))

    assert answers == [[]] * 1000
    assert socket_emulator.count("POST", "/token") == 1


async def test_200_requests_live_through_a_revoked_token(socket_emulator: Emulator) -> None:
    """Their 401s arrive one after the other, as 20 connections give them [A6]."""
    async with socket_emulator.client() as flip:
        await sites(flip)
        socket_emulator.revoke_tokens()

        answers = await asyncio.gather(*(sites(flip) for _ in range(200)))

    assert answers == [[]] * 200
    assert socket_emulator.count("POST", "/token") == 2


async def test_no_request_waits_for_a_refresh_after_the_first(socket_emulator: Emulator) -> None:
    """While the token host is held, requests go on with the token at hand [A3]."""
    held, clock = asyncio.Event(), HurriedClock()
    auth = auth_for(socket_emulator, refresh_ratio=0.0001, clock=clock)
    flip = FlipClient(environment=socket_emulator.environment, auth=auth)
    async with auth, flip:
        socket_emulator.token_lifetime_s = 100
        await sites(flip)
        for _ in range(3):
            asked = socket_emulator.count("POST", "/token")
            held.clear()
            socket_emulator.fail_next(path="/token", until=held)
            while socket_emulator.count("POST", "/token") == asked:
                await sites(flip)  # none of them waits, or this would never end
                clock.move(10)  # the distance between two refreshes that nobody waits for
            assert await asyncio.gather(*(sites(flip) for _ in range(50))) == [[]] * 50
            held.set()
            await settle()
            while auth.is_busy:
                await asyncio.sleep(0)


async def test_a_token_host_that_is_down_for_a_while_costs_no_request(
    socket_emulator: Emulator,
) -> None:
    """After 80 %: no failure, and a handful of tries [A4]."""
    socket_emulator.token_lifetime_s = 50
    clock = HurriedClock()
    auth = auth_for(socket_emulator, refresh_ratio=0.0001, clock=clock)
    flip = FlipClient(environment=socket_emulator.environment, auth=auth)
    async with auth, flip:
        await sites(flip)
        socket_emulator.fail_next(None, path="/token", cut="before")
        clock.move(10)

        for _ in range(10):
            assert await asyncio.gather(*(sites(flip) for _ in range(30))) == [[]] * 30

    assert 1 < socket_emulator.count("POST", "/token") <= 8


async def test_a_wrong_secret_and_sixty_requests_make_one_token_request(
    socket_emulator: Emulator,
) -> None:
    """[A10]."""
    async with socket_emulator.client(client_id="emulator", client_secret="wrong") as flip:
        outcomes = await asyncio.gather(*(sites(flip) for _ in range(60)), return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {errors.TokenRequestError}
    assert socket_emulator.count("POST", "/token") == 1


async def test_the_refreshing_request_is_cancelled_and_the_others_succeed(
    socket_emulator: Emulator,
) -> None:
    """[A8]."""
    held = asyncio.Event()
    socket_emulator.fail_next(path="/token", until=held)
    async with socket_emulator.client() as flip:
        calls = [asyncio.create_task(sites(flip)) for _ in range(20)]
        while not socket_emulator.count("POST", "/token"):
            await asyncio.sleep(0.001)
        calls[0].cancel()
        held.set()
        assert await asyncio.gather(*calls[1:]) == [[]] * 19

    assert calls[0].cancelled()
    assert socket_emulator.count("POST", "/token") == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503},
        {"status": 429, "retry_after": "0"},
        {"cut": "before"},
        {"cut": "in"},
        {"cut": "after"},
    ],
)
async def test_a_token_request_that_goes_wrong_is_made_again(
    socket_emulator: Emulator, fault: dict[str, str]
) -> None:
    """[A9]."""
    socket_emulator.fail_next(path="/token", **fault)  # type: ignore[arg-type]
    async with socket_emulator.client() as flip:
        assert await sites(flip) == []

    assert socket_emulator.count("POST", "/token") == 2


async def test_a_malformed_token_is_one_clear_error(socket_emulator: Emulator) -> None:
    """[A11]."""
    socket_emulator.fail_next(path="/token", status=200, body=b'{"access_token": 7}')
    async with socket_emulator.client() as flip:
        with pytest.raises(errors.TokenResponseError, match="access_token: int"):
            await sites(flip)


async def test_nobody_listens(socket_emulator: Emulator) -> None:
    """A host that cannot be reached is named, after the tries of the policy."""
    from flip_async import Environment, Retries

    nobody = Environment(name="x", api_url="http://127.0.0.1:9", oauth_url="http://127.0.0.1:9")
    async with FlipClient(
        environment=nobody, api_key="fl_your_api_key", retries=Retries(base_s=0)
    ) as flip:
        with pytest.raises(errors.ConnectionFailedError, match="ConnectError") as caught:
            await sites(flip)

    assert caught.value.attempts == 4


def use(auth: ClientCredentialsAuth, url: str) -> int:
    async def main() -> int:
        async with httpx.AsyncClient(auth=auth) as http:
            responses = await asyncio.gather(*(http.get(url) for _ in range(10)))
            return {response.status_code for response in responses}.pop()

    return asyncio.run(main())


def test_one_auth_serves_two_loops_one_after_the_other() -> None:
    """No "attached to a different loop" [A15]."""
    with Emulator() as emulator:
        auth = auth_for(emulator)
        url = f"{emulator.api_url}/v1/sites"

        assert [use(auth, url), use(auth, url)] == [200, 200]
        assert emulator.count("POST", "/token") == 1
        emulator.revoke_tokens()
        assert use(auth, url) == 200
        assert emulator.count("POST", "/token") == 2


def test_one_auth_serves_loops_in_two_threads() -> None:
    """One refresh for each loop is the worst that happens [A15]."""
    with Emulator() as emulator:
        auth = auth_for(emulator)
        url = f"{emulator.api_url}/v1/sites"
        statuses: list[int] = []
        for round_ in range(5):
            threads = [
                threading.Thread(target=lambda: statuses.append(use(auth, url))) for _ in range(2)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert emulator.count("POST", "/token") <= 2 * (round_ + 1)
            emulator.revoke_tokens()

    assert statuses == [200] * 10


def test_closing_from_another_loop_ends_what_runs_there() -> None:
    """[A8], [A15]."""
    gate: asyncio.Event | None = None

    async def wait_for_token(auth: ClientCredentialsAuth, begun: threading.Event) -> object:
        begun.set()
        try:
            return await auth.token()
        except errors.ClientClosedError as error:
            return error

    class Never(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError

    auth = ClientCredentialsAuth("id", "secret", http_client=httpx.AsyncClient(transport=Never()))
    begun, outcomes = threading.Event(), list[object]()
    thread = threading.Thread(
        target=lambda: outcomes.append(asyncio.run(wait_for_token(auth, begun)))
    )
    thread.start()
    begun.wait()
    while not auth.is_busy:
        pass

    asyncio.run(auth.aclose())
    thread.join()

    assert gate is None
    assert isinstance(outcomes[0], errors.ClientClosedError)
