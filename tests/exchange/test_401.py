"""What a 401 of the API sets going."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from flip_async import ClientCredentialsAuth
from flip_async._auth._bearer import NOT_REPLAYABLE
from flip_async.errors import TokenRequestError
from tests.support import API, FakeFlip, ManualClock, settle, token_answer


async def get(http: httpx.AsyncClient, path: str = "/v1/sites") -> int:
    return (await http.get(path)).status_code


async def test_a_revoked_token_is_replaced_and_the_request_sent_once_more(
    http: httpx.AsyncClient, fake: FakeFlip
) -> None:
    """[A5]."""
    await get(http)
    fake.revoke()

    assert await get(http) == 200

    assert fake.carried == ["at_1", "at_1", "at_2"]
    assert fake.tokens_asked == 2


async def test_200_requests_in_flight_share_one_refresh(
    http: httpx.AsyncClient, fake: FakeFlip
) -> None:
    """Also when their 401s arrive one after the other [A6]."""
    await get(http)
    fake.revoke()
    gates = [asyncio.Event() for _ in range(200)]
    waiting = iter(gates)
    answer = fake._api

    async def one_after_the_other(request: httpx.Request) -> httpx.Response:
        response = await answer(request)
        if response.status_code == 401:
            await next(waiting).wait()
        return response

    fake._api = one_after_the_other  # type: ignore[method-assign]
    requests = [asyncio.create_task(get(http)) for _ in range(200)]
    for gate in gates:
        await asyncio.sleep(0)
        gate.set()

    assert await asyncio.gather(*requests) == [200] * 200
    assert fake.tokens_asked == 2


async def test_a_401_that_arrives_after_somebody_has_refreshed_costs_no_refresh(
    http: httpx.AsyncClient, fake: FakeFlip
) -> None:
    """It is sent again with the current token [A5]."""
    await get(http)
    fake.revoke()
    fake.api_gate = asyncio.Event()
    late = asyncio.create_task(get(http))
    await settle()
    gate, fake.api_gate = fake.api_gate, None
    assert await get(http) == 200
    assert fake.tokens_asked == 2

    gate.set()

    assert await late == 200
    assert fake.tokens_asked == 2


async def test_a_fresh_token_that_is_refused_too_gives_the_401_to_the_caller(
    http: httpx.AsyncClient, fake: FakeFlip
) -> None:
    """Never more than one retry [A5], [A7]."""
    fake.next_api_answers.extend([httpx.Response(401), httpx.Response(401)])

    assert await get(http) == 401

    assert len(fake.api_requests) == 2
    assert fake.tokens_asked == 2


async def test_an_endpoint_that_always_refuses_hammers_nobody(
    http: httpx.AsyncClient, fake: FakeFlip, clock: ManualClock
) -> None:
    """Beside others that accept; each while is longer than the last [A7]."""

    def refuse_there(request: httpx.Request) -> None:
        if request.url.path == "/v1/commands":
            fake.next_api_answers.append(httpx.Response(401))

    async def hook(request: httpx.Request) -> None:
        refuse_there(request)

    http.event_hooks = {"request": [hook]}
    for _ in range(200):
        assert await get(http, "/v1/sites") == 200
        assert await get(http, "/v1/commands") == 401
        await clock.pass_time(0.3)

    assert fake.tokens_asked <= 9  # 60 s: after 1, 2, 4, 8, 16, 32 s; and life's own


async def test_many_endpoints_that_refuse_keep_a_distance_together(
    http: httpx.AsyncClient, fake: FakeFlip, clock: ManualClock
) -> None:
    """[A7]."""
    fake.lifetime_s = 10_000
    for number in range(300):
        fake.next_api_answers.extend([httpx.Response(401)] * 2)
        assert await get(http, f"/v1/site/{number}") == 401
        fake.next_api_answers.clear()
        await clock.pass_time(0.2)

    assert fake.tokens_asked <= 12  # 60 s: after 1, 2, 4, 8, 10, 10, … s


@pytest.mark.parametrize("how", ["invalidate", "refresh"])
async def test_the_user_ends_the_distance(
    http: httpx.AsyncClient, fake: FakeFlip, auth: ClientCredentialsAuth, how: str
) -> None:
    """[A21]."""
    fake.next_api_answers.extend([httpx.Response(401), httpx.Response(401)])
    assert await get(http) == 401

    if how == "refresh":
        await auth.refresh()
    else:
        auth.invalidate()
    fake.revoke()

    assert await get(http) == 200


async def test_a_retry_that_is_accepted_ends_the_distance(
    http: httpx.AsyncClient, fake: FakeFlip
) -> None:
    """A cure is a cure, however often it is needed [A7]."""
    for _ in range(5):
        fake.revoke()
        assert await get(http) == 200


async def test_a_refresh_that_fails_after_a_401_raises_its_own_error(
    http: httpx.AsyncClient, fake: FakeFlip
) -> None:
    """With a note that the API had answered 401 [A5]."""
    await get(http)
    fake.revoke()
    fake.next_token_answers.append(httpx.Response(401, json={"error": "invalid_client"}))

    with pytest.raises(TokenRequestError) as caught:
        await get(http)

    assert "the API had answered 401" in caught.value.__notes__[0]


async def stream() -> AsyncIterator[bytes]:
    yield b"[]"


async def test_a_one_shot_body_is_not_sent_again_but_the_token_replaced(
    http: httpx.AsyncClient, fake: FakeFlip, caplog: pytest.LogCaptureFixture
) -> None:
    """The reason stands in the answer's extensions and in the log [A14]."""
    await get(http)
    fake.revoke()

    response = await http.post("/v1/telemetry/BATTERY", content=stream())
    await settle()

    assert response.status_code == 401
    assert response.extensions["flip_async"] == NOT_REPLAYABLE
    assert NOT_REPLAYABLE in caplog.text
    assert fake.tokens_asked == 2
    assert await get(http) == 200
    assert fake.tokens_asked == 2


async def test_a_body_of_bytes_is_sent_again(http: httpx.AsyncClient, fake: FakeFlip) -> None:
    """The second time as the first [A5]."""
    await get(http)
    fake.revoke()

    response = await http.post("/v1/telemetry/BATTERY", json={"telemetry": []})

    assert response.status_code == 200
    assert [request.content for request in fake.api_requests[1:]] == [b'{"telemetry":[]}'] * 2


async def test_the_cached_token_again_after_a_401_is_tried_once(
    http: httpx.AsyncClient, fake: FakeFlip
) -> None:
    """A host that gives the revoked token again: 200 requests, a few tries [A7]."""
    await get(http)
    fake.revoke()
    fake.next_token_answers.extend(token_answer("at_1") for _ in range(50))

    statuses = await asyncio.gather(*(get(http) for _ in range(200)))

    assert set(statuses) == {401}
    assert fake.tokens_asked <= 3


async def test_the_caller_of_a_stream_gets_the_second_answer(
    http: httpx.AsyncClient, fake: FakeFlip
) -> None:
    """`client.stream` works through a 401."""
    await get(http)
    fake.revoke()

    async with http.stream("GET", f"{API}/v1/sites") as response:
        assert await response.aread() == b"[]"


async def test_a_cancelled_wait_after_a_401_disturbs_nobody(
    http: httpx.AsyncClient, fake: FakeFlip, auth: ClientCredentialsAuth
) -> None:
    """[A8]."""
    await get(http)
    fake.revoke()
    fake.token_gate = asyncio.Event()
    requests = [asyncio.create_task(get(http)) for _ in range(3)]
    await settle()

    requests[0].cancel()
    await settle()
    fake.token_gate.set()

    assert await asyncio.gather(*requests[1:]) == [200, 200]
    assert fake.tokens_asked == 2
