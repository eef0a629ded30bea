"""Fetching tokens beside and before requests, under virtual time."""

import asyncio
import gc
import logging
import sys
import warnings
from contextvars import ContextVar

import httpx
import pytest

from flip_async import ClientCredentialsAuth, RefreshEvent
from flip_async.errors import (
    ClientClosedError,
    TokenRequestError,
    TokenResponseError,
    TokenUnavailableError,
)
from tests.support import (
    API,
    CLIENT_ID,
    CLIENT_SECRET,
    FakeFlip,
    ManualClock,
    settle,
    token_answer,
)


async def get(http: httpx.AsyncClient, path: str = "/v1/sites") -> int:
    return (await http.get(path)).status_code


async def at_age(http: httpx.AsyncClient, clock: ManualClock, seconds: float) -> None:
    """Take the first token, and let it grow old."""
    assert await get(http) == 200
    clock.move(seconds)


async def test_the_first_request_takes_a_token(http: httpx.AsyncClient, fake: FakeFlip) -> None:
    """[A2]."""
    assert await get(http) == 200

    assert fake.tokens_asked == 1
    assert fake.carried == ["at_1"]


async def test_a_fresh_token_serves_every_request(http: httpx.AsyncClient, fake: FakeFlip) -> None:
    """[A1]."""
    for _ in range(5):
        await get(http)

    assert fake.tokens_asked == 1


async def test_a_fresh_token_costs_no_turn_of_the_event_loop(
    auth: ClientCredentialsAuth,
) -> None:
    """No lock is taken and nothing is awaited: the flow's first step ends at once [A1]."""
    await auth.token()
    request = httpx.Request("GET", f"{API}/v1/sites")
    flow = auth.async_auth_flow(request)

    with pytest.raises(StopIteration) as done:
        anext(flow).__await__().send(None)  # type: ignore[attr-defined]

    assert done.value.value is request
    assert request.headers["Authorization"] == "Bearer at_1"
    await flow.aclose()


async def test_10000_first_requests_share_one_token_request(
    http: httpx.AsyncClient, fake: FakeFlip
) -> None:
    """[A2]."""
    statuses = await asyncio.gather(*(get(http) for _ in range(10_000)))

    assert set(statuses) == {200}
    assert fake.tokens_asked == 1


async def test_waiters_go_on_with_a_token_whose_life_is_over(
    http: httpx.AsyncClient, fake: FakeFlip, clock: ManualClock
) -> None:
    """A one-second token from a slow host is not fetched endlessly [A2]."""
    fake.lifetime_s, fake.token_gate = 1, asyncio.Event()
    requests = [asyncio.create_task(get(http)) for _ in range(3)]
    await settle()
    clock.move(5)

    fake.token_gate.set()

    assert await asyncio.gather(*requests) == [200, 200, 200]
    assert fake.tokens_asked == 1


async def test_no_request_waits_while_a_stale_token_is_replaced(
    http: httpx.AsyncClient, fake: FakeFlip, clock: ManualClock
) -> None:
    """[A3]."""
    await at_age(http, clock, 85)
    fake.token_gate = asyncio.Event()

    assert await asyncio.gather(*(get(http) for _ in range(20))) == [200] * 20
    assert fake.tokens_asked == 2
    assert fake.carried[1:] == ["at_1"] * 20

    fake.token_gate.set()
    await settle()
    await get(http)
    assert fake.carried[-1] == "at_2"


async def test_a_failing_refresh_is_tried_again_while_the_token_serves(
    http: httpx.AsyncClient,
    fake: FakeFlip,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A handful of tries, each logged, and no request fails [A4]."""
    await at_age(http, clock, 80)
    fake.token_host_down = True

    for _ in range(100):
        assert await get(http) == 200
        await clock.pass_time(0.19)

    assert 3 <= fake.tokens_asked <= 9
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == fake.tokens_asked - 1

    fake.token_host_down = False
    await clock.pass_time(0.9)  # the token's last second
    await clock.pass_time(30)
    assert await get(http) == 200


async def test_at_expiry_a_sleeping_back_off_is_woken_for_one_try(
    http: httpx.AsyncClient, fake: FakeFlip, clock: ManualClock
) -> None:
    """[A4]."""
    await at_age(http, clock, 80)
    fake.next_token_answers.append(httpx.Response(400, json={"error": "invalid_request"}))
    await get(http)  # its refresh is refused: the next try would be due after 60 s
    await settle()
    assert fake.tokens_asked == 2

    await clock.pass_time(20)

    assert fake.tokens_asked == 3
    assert await get(http) == 200


async def test_a_dropped_token_wakes_a_sleeping_back_off(
    http: httpx.AsyncClient, fake: FakeFlip, clock: ManualClock, auth: ClientCredentialsAuth
) -> None:
    """A request that has no token does not sleep with it [A4]."""
    await at_age(http, clock, 80)
    fake.next_token_answers.append(httpx.Response(400, json={"error": "invalid_request"}))
    await get(http)
    await settle()

    fake.revoke()

    assert await get(http) == 200
    assert fake.tokens_asked == 3


async def test_a_retry_after_keeps_requests_from_the_host_at_expiry(
    http: httpx.AsyncClient, fake: FakeFlip, clock: ManualClock
) -> None:
    """They fail at once with the token endpoint's error [A4]."""
    await at_age(http, clock, 85)
    fake.next_token_answers.append(httpx.Response(503, headers={"Retry-After": "3600"}))
    await get(http)
    await clock.pass_time(16)

    with pytest.raises(TokenUnavailableError) as caught:
        await get(http)

    assert caught.value.retry_after_s == 3600
    assert fake.tokens_asked == 2
    await clock.pass_time(45)
    assert await get(http) == 200


async def test_a_cancelled_request_disturbs_nobody(http: httpx.AsyncClient, fake: FakeFlip) -> None:
    """The refresh belongs to no request, not even to the one that began it [A8]."""
    fake.token_gate = asyncio.Event()
    first = asyncio.create_task(get(http))
    others = [asyncio.create_task(get(http)) for _ in range(5)]
    await settle()

    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    fake.token_gate.set()

    assert await asyncio.gather(*others) == [200] * 5
    assert fake.tokens_asked == 1


async def test_a_request_that_times_out_disturbs_nobody(
    http: httpx.AsyncClient, fake: FakeFlip
) -> None:
    """[A8]."""
    fake.token_gate = asyncio.Event()
    other = asyncio.create_task(get(http))
    await settle()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await get(http)
    fake.token_gate.set()

    assert await other == 200
    assert fake.tokens_asked == 1


async def test_a_cancelled_refresh_is_begun_again_by_its_waiters(
    http: httpx.AsyncClient, fake: FakeFlip
) -> None:
    """They never see its `CancelledError`; one of them begins another [A8]."""
    fake.token_gate = asyncio.Event()
    before = asyncio.all_tasks()
    waiters = [asyncio.create_task(get(http)) for _ in range(5)]
    await settle()
    (refresh,) = asyncio.all_tasks() - before - set(waiters)

    refresh.cancel()
    await settle()
    fake.token_gate.set()

    assert await asyncio.gather(*waiters) == [200] * 5
    assert fake.tokens_asked == 2


async def test_a_refresh_cancelled_before_its_first_step_is_begun_again(
    http: httpx.AsyncClient, fake: FakeFlip
) -> None:
    """Such a task never runs a `finally` of its own [A8]."""
    before = asyncio.all_tasks()
    waiter = asyncio.create_task(get(http))
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - before - {waiter}:
        task.cancel()

    assert await waiter == 200


async def test_closing_ends_the_wait_of_everybody(
    http: httpx.AsyncClient, auth: ClientCredentialsAuth, fake: FakeFlip
) -> None:
    """[A8]."""
    fake.token_gate = asyncio.Event()
    waiters = [asyncio.create_task(get(http)) for _ in range(5)]
    await settle()

    await auth.aclose()
    outcomes = await asyncio.gather(*waiters, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [ClientClosedError] * 5
    with pytest.raises(ClientClosedError):
        await get(http)


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="asyncio has eager tasks from Python 3.12 on"
)
async def test_an_eager_task_factory_changes_nothing(
    http: httpx.AsyncClient, fake: FakeFlip, clock: ManualClock
) -> None:
    """A task may be over before `create_task` returns [A8]."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
    try:
        assert await asyncio.gather(*(get(http) for _ in range(50))) == [200] * 50
        assert fake.tokens_asked == 1
        clock.move(85)
        assert await asyncio.gather(*(get(http) for _ in range(50))) == [200] * 50
        await settle()
        assert fake.tokens_asked == 2
    finally:
        loop.set_task_factory(None)


async def test_an_unreachable_host_is_retried_with_back_off(
    http: httpx.AsyncClient, fake: FakeFlip, clock: ManualClock
) -> None:
    """[A9]."""
    fake.next_token_answers.extend(
        [httpx.ConnectError("no"), httpx.Response(500), httpx.Response(429)]
    )
    request = asyncio.create_task(get(http))

    await clock.pass_time(0.25)
    assert fake.tokens_asked == 2
    await clock.pass_time(0.5)
    assert fake.tokens_asked == 3
    await clock.pass_time(1.0)

    assert await request == 200
    assert fake.tokens_asked == 4


async def test_when_the_budget_is_spent_everybody_fails_and_followers_at_once(
    http: httpx.AsyncClient, fake: FakeFlip, clock: ManualClock
) -> None:
    """[A9]."""
    fake.token_host_down = True
    waiters = [asyncio.create_task(get(http)) for _ in range(3)]
    await clock.pass_time(20)

    outcomes = await asyncio.gather(*waiters, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [TokenUnavailableError] * 3
    assert len({id(outcome) for outcome in outcomes}) == 3
    asked = fake.tokens_asked
    assert 5 <= asked <= 8

    with pytest.raises(TokenUnavailableError, match="ConnectError"):
        await get(http)
    assert fake.tokens_asked == asked

    fake.token_host_down = False
    await clock.pass_time(30)
    assert await get(http) == 200


async def test_a_wrong_secret_is_asked_once_for_sixty_requests(
    http: httpx.AsyncClient, fake: FakeFlip
) -> None:
    """[A10]."""
    fake.next_token_answers.append(
        httpx.Response(401, json={"error": "invalid_client", "error_description": "who?"})
    )

    raised = []
    for _ in range(60):
        with pytest.raises(TokenRequestError) as caught:
            await get(http)
        raised.append(caught.value)
        assert caught.value.error == "invalid_client"
        assert caught.value.error_description == "who?"
        assert caught.value.status_code == 401

    assert fake.tokens_asked == 1
    assert len({id(error) for error in raised}) == 60, "each raise has an error of its own"


@pytest.mark.parametrize("status", [302, 400, 403, 404, 405])
async def test_every_other_refusal_is_remembered_too(
    http: httpx.AsyncClient, fake: FakeFlip, status: int
) -> None:
    """Whatever its body [A10]; a redirect of the token URL is not followed [A13]."""
    fake.next_token_answers.append(
        httpx.Response(status, text="<html>", headers={"Location": "https://elsewhere.example/"})
    )

    for _ in range(2):
        with pytest.raises(TokenRequestError) as caught:
            await get(http)
        assert caught.value.error is None
        assert caught.value.status_code == status

    assert fake.tokens_asked == 1


async def test_an_odd_answer_is_remembered_like_a_refusal(
    http: httpx.AsyncClient, fake: FakeFlip, clock: ManualClock
) -> None:
    """[A10]."""
    fake.next_token_answers.append(httpx.Response(200, text="welcome"))

    for _ in range(2):
        with pytest.raises(TokenResponseError):
            await get(http)
    assert fake.tokens_asked == 1

    clock.move(5)
    assert await get(http) == 200


async def test_a_refresh_outside_a_request_gives_a_token(
    auth: ClientCredentialsAuth, fake: FakeFlip
) -> None:
    """[A21]."""
    token = await auth.token()

    assert token.access_token.reveal() == "at_1"
    assert (await auth.token()).access_token.reveal() == "at_1"
    assert fake.tokens_asked == 1


async def test_refresh_forces_a_new_token(auth: ClientCredentialsAuth, fake: FakeFlip) -> None:
    """[A21]."""
    await auth.token()

    token = await auth.refresh()

    assert token.access_token.reveal() == "at_2"
    assert (await auth.token()).access_token.reveal() == "at_2"


async def test_refresh_waits_out_one_in_flight_then_makes_its_own(
    auth: ClientCredentialsAuth, fake: FakeFlip
) -> None:
    """[A21]."""
    fake.token_gate = asyncio.Event()
    waiter = asyncio.create_task(auth.token())
    await settle()
    forced = asyncio.create_task(auth.refresh())
    await settle()
    assert fake.tokens_asked == 1

    fake.token_gate.set()

    assert (await waiter).access_token.reveal() == "at_1"
    assert (await forced).access_token.reveal() == "at_2"


async def test_refresh_does_not_wait_for_a_back_off_that_sleeps(
    http: httpx.AsyncClient, auth: ClientCredentialsAuth, fake: FakeFlip, clock: ManualClock
) -> None:
    """[A21]."""
    await at_age(http, clock, 85)
    fake.next_token_answers.append(httpx.Response(400))
    await get(http)
    await settle()

    token = await auth.refresh()

    assert token.access_token.reveal() == "at_3"
    await settle()
    assert clock.pending == 0
    assert fake.tokens_asked == 3, "the one that slept has nothing left to do"


async def test_a_refresh_that_fails_tells_and_keeps_the_token_at_hand(
    http: httpx.AsyncClient, auth: ClientCredentialsAuth, fake: FakeFlip
) -> None:
    """[A21]."""
    await get(http)
    fake.next_token_answers.append(httpx.Response(400, json={"error": "invalid_scope"}))

    with pytest.raises(TokenRequestError, match="invalid_scope"):
        await auth.refresh()

    assert await get(http) == 200
    assert fake.carried[-1] == "at_1"


async def test_a_forced_refresh_is_not_satisfied_by_the_token_it_is_to_replace(
    http: httpx.AsyncClient, auth: ClientCredentialsAuth, fake: FakeFlip, clock: ManualClock
) -> None:
    """Also after a pause between two attempts [A21]."""
    await get(http)
    fake.next_token_answers.append(httpx.Response(503))
    forced = asyncio.create_task(auth.refresh())

    await clock.pass_time(1)

    assert (await forced).access_token.reveal() == "at_3"


async def test_invalidate_makes_the_next_request_take_a_new_token(
    http: httpx.AsyncClient, auth: ClientCredentialsAuth, fake: FakeFlip
) -> None:
    """[A21]."""
    await get(http)

    auth.invalidate()
    await get(http)

    assert fake.carried == ["at_1", "at_2"]


@pytest.mark.parametrize("how", ["invalidate", "refresh"])
async def test_both_end_the_memory_of_a_refusal(
    http: httpx.AsyncClient, auth: ClientCredentialsAuth, fake: FakeFlip, how: str
) -> None:
    """[A21]."""
    fake.next_token_answers.append(httpx.Response(401))
    with pytest.raises(TokenRequestError):
        await get(http)

    if how == "invalidate":
        auth.invalidate()
    else:
        await auth.refresh()

    assert await get(http) == 200


async def test_on_refresh_is_told_of_every_try(
    token_http: httpx.AsyncClient, fake: FakeFlip, clock: ManualClock
) -> None:
    """[A21]."""
    events: list[RefreshEvent] = []
    auth = ClientCredentialsAuth(
        CLIENT_ID, CLIENT_SECRET, http_client=token_http, clock=clock, on_refresh=events.append
    )
    fake.next_token_answers.append(httpx.Response(503))
    waiter = asyncio.create_task(auth.token())
    await clock.pass_time(1)
    await waiter

    assert [type(event.error) for event in events] == [TokenUnavailableError, type(None)]
    assert all(event.duration_s >= 0 for event in events)


async def test_a_refresh_sees_nothing_of_the_request_that_began_it(
    token_http: httpx.AsyncClient, clock: ManualClock
) -> None:
    """Nor does it keep alive what that request holds in its context [A8]."""
    whose: ContextVar[str] = ContextVar("whose", default="nobody's")
    seen: list[str] = []
    auth = ClientCredentialsAuth(
        CLIENT_ID,
        CLIENT_SECRET,
        http_client=token_http,
        clock=clock,
        on_refresh=lambda event: seen.append(whose.get()),
    )
    whose.set("a request's")

    await auth.token()

    assert seen == ["nobody's"]


async def test_what_on_refresh_raises_harms_nothing(
    token_http: httpx.AsyncClient, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged [A21]."""

    def careless(event: RefreshEvent) -> None:
        raise LookupError

    auth = ClientCredentialsAuth(
        CLIENT_ID, CLIENT_SECRET, http_client=token_http, clock=clock, on_refresh=careless
    )

    assert (await auth.token()).access_token.reveal() == "at_1"
    assert "a callback failed" in caplog.text
    assert "careless" in caplog.text


async def test_keep_fresh_refreshes_with_no_request(
    token_http: httpx.AsyncClient, fake: FakeFlip, clock: ManualClock
) -> None:
    """[A22]."""
    auth = ClientCredentialsAuth(
        CLIENT_ID, CLIENT_SECRET, http_client=token_http, clock=clock, keep_fresh=True
    )
    await auth.token()

    for expected in (2, 3, 4):
        await clock.pass_time(80)
        assert fake.tokens_asked == expected

    await auth.aclose()
    await clock.pass_time(1000)
    assert fake.tokens_asked == 4


async def test_keep_fresh_follows_a_token_that_lives_shorter(
    token_http: httpx.AsyncClient, fake: FakeFlip, clock: ManualClock
) -> None:
    """The timer of its predecessor would come too late [A22]."""
    fake.lifetime_s = 10_000
    async with ClientCredentialsAuth(
        CLIENT_ID, CLIENT_SECRET, http_client=token_http, clock=clock, keep_fresh=True
    ) as auth:
        await auth.token()
        fake.lifetime_s = 100
        await auth.refresh()
        await clock.pass_time(80)

        assert fake.tokens_asked == 3


async def test_keep_fresh_goes_on_after_the_host_was_down(
    token_http: httpx.AsyncClient, fake: FakeFlip, clock: ManualClock
) -> None:
    """[A22]."""
    async with ClientCredentialsAuth(
        CLIENT_ID, CLIENT_SECRET, http_client=token_http, clock=clock, keep_fresh=True
    ) as auth:
        await auth.token()
        fake.token_host_down = True
        await clock.pass_time(600)
        asked = fake.tokens_asked
        assert 10 < asked < 60

        fake.token_host_down = False
        await clock.pass_time(60)

        assert fake.tokens_asked == asked + 1
        assert (await auth.token()).access_token.reveal() == f"at_{asked + 1}"


async def test_keep_fresh_keeps_no_auth_alive(
    token_http: httpx.AsyncClient, fake: FakeFlip, clock: ManualClock
) -> None:
    """One that nobody holds any more asks for nothing [A22]."""
    auth = ClientCredentialsAuth(
        CLIENT_ID, CLIENT_SECRET, http_client=token_http, clock=clock, keep_fresh=True
    )
    await auth.token()
    await settle()

    del auth
    gc.collect()
    await clock.pass_time(1000)

    assert fake.tokens_asked == 1


def test_keep_fresh_keeps_no_loop_alive(fake: FakeFlip) -> None:
    """`asyncio.run` returns, with no warning [A22]."""

    async def main() -> ClientCredentialsAuth:
        http = httpx.AsyncClient(transport=fake)
        auth = ClientCredentialsAuth(CLIENT_ID, CLIENT_SECRET, http_client=http, keep_fresh=True)
        await auth.token()
        return auth

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        auth = asyncio.run(main())
        gc.collect()
    assert "ClientCredentialsAuth" in repr(auth)


def test_a_sleeping_refresh_leaves_no_warning_when_the_loop_ends(
    fake: FakeFlip, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither with `asyncio.run` nor with a loop that is just closed [A15]."""

    async def begin() -> ClientCredentialsAuth:
        clock = ManualClock()
        http = httpx.AsyncClient(transport=fake)
        auth = ClientCredentialsAuth(CLIENT_ID, CLIENT_SECRET, http_client=http, clock=clock)
        await auth.token()
        fake.next_token_answers.append(httpx.Response(400))
        clock.move(85)
        await auth.token()  # begins a refresh that is refused, and then sleeps
        await settle()
        assert auth.is_busy
        return auth

    asyncio.run(begin())
    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()
    gc.collect()

    assert fake.tokens_asked == 4
    assert "destroyed" not in caplog.text


async def test_the_cached_token_of_a_host_causes_no_burst(
    http: httpx.AsyncClient, fake: FakeFlip, clock: ManualClock
) -> None:
    """A stale token that comes back is asked for again only after a distance [A2]."""
    await at_age(http, clock, 80)
    fake.next_token_answers.extend(token_answer("at_1", expires_in=20 - n) for n in range(20))
    clock.move(18)  # 2 s are left

    for _ in range(50):
        await get(http)
        await settle()

    assert fake.tokens_asked == 2


async def test_a_bug_in_a_refresh_looks_like_a_bug(
    http: httpx.AsyncClient,
    fake: FakeFlip,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is no `FlipError`, and nobody waits for ever."""

    async def broken(request: httpx.Request) -> httpx.Response:
        raise ZeroDivisionError

    monkeypatch.setattr(fake, "handle_async_request", broken)

    with pytest.raises(RuntimeError, match="bug") as caught:
        await http.get(f"{API}/v1/sites")

    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "bug" in caplog.text


async def test_keep_fresh_sets_no_timer_for_each_request(
    token_http: httpx.AsyncClient, clock: ManualClock, fake: FakeFlip
) -> None:
    """One is enough [A22]."""
    async with ClientCredentialsAuth(
        CLIENT_ID, CLIENT_SECRET, http_client=token_http, clock=clock, keep_fresh=True
    ) as auth:
        async with httpx.AsyncClient(transport=fake, auth=auth, base_url=API) as http:
            for _ in range(20):
                assert await get(http) == 200

        assert clock.pending == 1
