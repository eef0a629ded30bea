"""What becomes of a client that is closed, or is not [R7]."""

import asyncio
import gc
from datetime import UTC, datetime

import httpx
import pytest

from flip_async import PRODUCTION, ApiKeyAuth, FlipClient, SandboxClient, errors
from flip_async.models import TelemetryPoint
from tests.support import FakeFlip, ManualClock, settle

POINT = TelemetryPoint(device_id="d", start_time=datetime(2025, 1, 1, tzinfo=UTC), duration_s=300)


@pytest.fixture
def flip(fake: FakeFlip, clock: ManualClock) -> FlipClient:
    return FlipClient(
        environment=PRODUCTION,
        client_id="id",
        client_secret="secret",
        transport=fake,
        clock=clock,
    )


async def test_use_after_closing_is_an_error(flip: FlipClient) -> None:
    async with flip:
        await flip.sites.list()

    assert flip.is_closed
    with pytest.raises(errors.ClientClosedError):
        await flip.sites.list()
    with pytest.raises(errors.ClientClosedError):
        async with flip:
            pass
    assert "closed" in repr(flip)


async def test_closing_twice_is_no_error(flip: FlipClient) -> None:
    await flip.aclose()
    await flip.aclose()


async def test_requests_in_flight_fail_and_are_not_retried(
    flip: FlipClient, fake: FakeFlip
) -> None:
    """A POST that was sent has an unknown outcome."""
    await flip.sites.list()
    fake.api_gate = asyncio.Event()
    read = asyncio.create_task(_sites(flip))
    sent = asyncio.create_task(flip.telemetry.send([POINT]))
    await settle()

    await flip.aclose()
    outcomes = await asyncio.gather(read, sent, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [
        errors.ClientClosedError,
        errors.OutcomeUnknownError,
    ]
    assert len(fake.api_requests) == 3


async def _sites(flip: FlipClient) -> list[str]:
    return [site.id for site in await flip.sites.list()]


async def test_requests_that_wait_for_a_token_fail_too(flip: FlipClient, fake: FakeFlip) -> None:
    fake.token_gate = asyncio.Event()
    calls = [asyncio.create_task(flip.telemetry.send([POINT])) for _ in range(3)]
    await settle()

    await flip.aclose()

    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {errors.ClientClosedError}


async def test_a_request_in_a_pause_between_attempts_fails_too(
    flip: FlipClient, fake: FakeFlip
) -> None:
    await flip.sites.list()
    fake.next_api_answers.append(httpx.Response(503))
    call = asyncio.create_task(_sites(flip))
    await settle()

    await flip.aclose()

    with pytest.raises(errors.ClientClosedError, match="GET /v1/sites: the client was closed"):
        await call


async def test_a_post_in_a_pause_has_no_unknown_outcome(flip: FlipClient, fake: FakeFlip) -> None:
    """Its last attempt was answered that it was not carried out."""
    await flip.sites.list()
    fake.next_api_answers.append(httpx.Response(503))
    call = asyncio.create_task(flip.telemetry.send([POINT]))
    await settle()

    await flip.aclose()

    with pytest.raises(errors.ClientClosedError):
        await call


async def test_a_client_closes_the_auth_that_it_made_and_no_other(fake: FakeFlip) -> None:
    own = ApiKeyAuth("fl_your_api_key")
    async with FlipClient(environment=PRODUCTION, auth=own, transport=fake):
        pass
    assert (await own.token()).access_token.reveal() == "fl_your_api_key"

    async with FlipClient(
        environment=PRODUCTION, api_key="fl_your_api_key", transport=fake
    ) as flip:
        made = flip.auth
    assert isinstance(made, ApiKeyAuth)
    with pytest.raises(errors.ClientClosedError):
        await made.token()


async def test_an_unclosed_client_warns(fake: FakeFlip) -> None:
    flip = FlipClient(environment=PRODUCTION, api_key="fl_your_api_key", transport=fake)
    fake.valid = {"fl_your_api_key"}
    await flip.sites.list()

    with pytest.warns(ResourceWarning, match=r"unclosed Flip client for https://api\.flip\.energy"):
        del flip
        gc.collect()


async def test_a_client_that_was_never_used_does_not_warn() -> None:
    """It holds nothing."""
    SandboxClient(api_key="fl_your_api_key")
    gc.collect()


async def test_a_namespace_keeps_the_client_working(fake: FakeFlip) -> None:
    """And the client is let go with the last of them."""
    fake.valid = {"fl_your_api_key"}
    sites = FlipClient(environment=PRODUCTION, api_key="fl_your_api_key", transport=fake).sites
    gc.collect()

    assert await sites.list() == []
    with pytest.warns(ResourceWarning, match="unclosed Flip client"):
        del sites
        gc.collect()
