"""Site tokens: the same life, with another credential [A19]."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from email.utils import formatdate

import httpx
import pytest

from flip_async import PRODUCTION, ApiKeyAuth, ClientCredentialsAuth, FlipClient, SiteTokenAuth
from flip_async._auth._site_auths import SiteAuths
from flip_async.errors import (
    DeadlineError,
    NotFoundError,
    ServerError,
    TokenRequestError,
    TokenResponseError,
    TokenUnavailableError,
)
from tests.support import API, START, FakeFlip, ManualClock

KEY = "fl_your_api_key"
SITE_URL = "/v1/site/hh-1042"
SITE = {"id": "a", "created_at": "2025-01-01T00:00:00Z", "updated_at": "2025-01-01T00:00:00Z"}


def iso(seconds_from_start: float) -> str:
    return datetime.fromtimestamp(START.wall_s + seconds_from_start, UTC).isoformat()


class SiteHost(httpx.AsyncBaseTransport):
    """Answers token requests as told, and everything else with 200."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self.carried: list[str] = []
        self.answers: list[httpx.Response | Exception] = []
        self.date: str | None = formatdate(START.wall_s, usegmt=True)
        self.expires_at = iso(3600)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        if request.url.path.startswith("/v1/auth/site/"):
            self.asked.append(request)
            if self.answers:
                answer = self.answers.pop(0)
                if isinstance(answer, Exception):
                    raise answer
                return answer
            body = {"site_access_token": f"fst_{len(self.asked)}", "expires_at": self.expires_at}
            headers = {} if self.date is None else {"Date": self.date}
            return httpx.Response(200, json=body, headers=headers)
        self.carried.append(request.headers["Authorization"])
        return httpx.Response(200, json=SITE)


@pytest.fixture
def host() -> SiteHost:
    return SiteHost()


@pytest.fixture
def http(host: SiteHost) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=host, base_url=API)


def site_auth(http: httpx.AsyncClient, clock: ManualClock) -> SiteTokenAuth:
    return SiteTokenAuth("hh-1042", auth=ApiKeyAuth(KEY), http_client=http, clock=clock)


async def test_a_site_token_is_taken_with_the_other_credential(
    http: httpx.AsyncClient, host: SiteHost, clock: ManualClock
) -> None:
    auth = site_auth(http, clock)

    await asyncio.gather(*(http.get(SITE_URL, auth=auth) for _ in range(20)))

    assert len(host.asked) == 1
    assert host.asked[0].url.path == "/v1/auth/site/hh-1042"
    assert host.asked[0].headers["Authorization"] == f"Bearer {KEY}"
    assert set(host.carried) == {"Bearer fst_1"}


@pytest.mark.parametrize(
    ("expires_in_s", "flips_clock_is_ahead_s", "has_date", "lifetime_s"),
    [
        (3600, 0, True, 3600),
        (1800, 0, True, 1800),
        (3600, 7200, True, 3600),
        (3600, -7200, True, 3600),
        (-5, 0, True, 3600),
        (60, 0, False, 3600),
    ],
)
async def test_its_life_is_measured_on_flips_own_clock(
    http: httpx.AsyncClient,
    host: SiteHost,
    clock: ManualClock,
    expires_in_s: float,
    flips_clock_is_ahead_s: float,
    has_date: bool,
    lifetime_s: float,
) -> None:
    """`expires_at` minus the answer's `Date`; else one hour."""
    host.expires_at = iso(expires_in_s + flips_clock_is_ahead_s)
    date = formatdate(START.wall_s + flips_clock_is_ahead_s, usegmt=True)
    host.date = date if has_date else None

    token = await site_auth(http, clock).token()

    assert token.lifetime_s == lifetime_s


async def test_it_is_replaced_at_80_percent(
    http: httpx.AsyncClient, host: SiteHost, clock: ManualClock
) -> None:
    auth = site_auth(http, clock)
    await http.get(SITE_URL, auth=auth)

    clock.move(3000)
    await http.get(SITE_URL, auth=auth)
    await clock.pass_time(0)
    await http.get(SITE_URL, auth=auth)

    assert host.carried == ["Bearer fst_1", "Bearer fst_1", "Bearer fst_2"]


async def test_an_unknown_site_is_the_requests_own_error(
    http: httpx.AsyncClient, host: SiteHost, clock: ManualClock
) -> None:
    """And is remembered for a short while, as [A10] says."""
    host.answers.append(httpx.Response(404, json={"message": "who?"}))
    auth = site_auth(http, clock)

    for _ in range(10):
        with pytest.raises(NotFoundError, match="POST /v1/auth/site/hh-1042: 404"):
            await http.get(SITE_URL, auth=auth)

    assert len(host.asked) == 1


async def test_an_overloaded_api_is_asked_again(
    http: httpx.AsyncClient, host: SiteHost, clock: ManualClock
) -> None:
    """Its fetch is retried by [A9] alone."""
    host.answers += [httpx.Response(503), httpx.ConnectError("no")]
    waiter = asyncio.create_task(http.get(SITE_URL, auth=site_auth(http, clock)))

    await clock.pass_time(2)

    assert (await waiter).status_code == 200
    assert len(host.asked) == 3


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(httpx.Response(503), ServerError), (httpx.ConnectError("no"), TokenUnavailableError)],
)
async def test_a_spent_budget_gives_the_last_error(
    http: httpx.AsyncClient,
    host: SiteHost,
    clock: ManualClock,
    answer: httpx.Response | Exception,
    kind: type[Exception],
) -> None:
    host.answers += [answer] * 50
    waiter = asyncio.create_task(http.get(SITE_URL, auth=site_auth(http, clock)))

    await clock.pass_time(20)

    with pytest.raises(kind):
        await waiter


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"site_access_token": "fst_secret\nX", "expires_at": iso(3600)},
        {"site_access_token": "fst_secret", "expires_at": "soon"},
        {"site_access_token": "", "expires_at": iso(3600)},
    ],
)
async def test_an_odd_answer_is_an_error_without_the_token(
    http: httpx.AsyncClient, host: SiteHost, clock: ManualClock, body: dict[str, str]
) -> None:
    """[A17]."""
    host.answers.append(httpx.Response(200, json=body))

    with pytest.raises(TokenResponseError) as caught:
        await site_auth(http, clock).token()

    assert "fst_secret" not in f"{caught.value} {vars(caught.value)}"
    assert caught.value.__context__ is None


async def test_the_other_credentials_trouble_is_told_and_not_remembered(
    http: httpx.AsyncClient, host: SiteHost, clock: ManualClock
) -> None:
    """It remembers itself."""

    class Refused(ApiKeyAuth):
        broken = True

        async def async_auth_flow(
            self, request: httpx.Request
        ) -> AsyncGenerator[httpx.Request, httpx.Response]:
            if self.broken:
                raise TokenRequestError("no", status_code=400)
            request.headers["Authorization"] = "Bearer x"
            yield request

    other = Refused(KEY)
    auth = SiteTokenAuth("hh-1042", auth=other, http_client=http, clock=clock)
    with pytest.raises(TokenRequestError):
        await auth.token()
    other.broken = False

    assert (await auth.token()).access_token.reveal() == "fst_1"


async def test_a_deadline_names_the_trouble_of_the_credential_that_asks_for_site_tokens(
    fake: FakeFlip,
) -> None:
    """As it does where that credential signs the call itself."""
    fake.token_host_down = True
    async with FlipClient(
        environment=PRODUCTION, client_id="id", client_secret="secret", transport=fake
    ) as flip:
        with pytest.raises(DeadlineError, match="no token from .*: ConnectError: down"):
            await flip.site("hh-1042").get(deadline_s=0.3)


async def test_a_site_token_that_is_good_has_no_trouble(
    http: httpx.AsyncClient, clock: ManualClock, fake: FakeFlip
) -> None:
    """Whatever the other credential's is by now."""
    async with httpx.AsyncClient(transport=fake) as token_http:
        other = ClientCredentialsAuth("id", "secret", http_client=token_http, clock=clock)
        auth = SiteTokenAuth("hh-1042", auth=other, http_client=http, clock=clock)
        await auth.token()
        fake.next_token_answers.append(httpx.Response(400, json={"error": "invalid_client"}))
        with pytest.raises(TokenRequestError):
            await other.refresh()
        other.invalidate()

        assert auth.trouble is None


async def test_asking_for_the_same_site_again_costs_nothing(
    host: SiteHost, clock: ManualClock
) -> None:
    async with FlipClient(environment=PRODUCTION, api_key=KEY, transport=host, clock=clock) as flip:
        other = flip.with_options(api_key="fl_your_other_key")
        for view in (flip.site("a"), flip.site("a"), flip.site("b"), other.site("a")):
            await view.get()

    assert [request.url.path[-1] for request in host.asked] == ["a", "b", "a"]


async def test_a_million_sites_do_not_fill_the_memory(host: SiteHost, clock: ManualClock) -> None:
    """Expired ones go first; one that a view holds stays the same."""
    auth = ApiKeyAuth(KEY)
    async with httpx.AsyncClient(transport=host) as http:

        def make(site_id: str, auth: httpx.Auth, store: object) -> SiteTokenAuth:
            return SiteTokenAuth(site_id, auth=auth, http_client=http, clock=clock)

        auths = SiteAuths(make, kept=100)
        held = auths.get("held", auth)
        living = auths.get("living", auth)
        await living.token()
        for number in range(2000):
            auths.get(f"site-{number}", auth)

        assert len(auths) <= 110
        assert auths.get("held", auth) is held
        assert "living" in auths


async def test_a_401_to_a_site_token_takes_another(
    fake: FakeFlip, clock: ManualClock, host: SiteHost, http: httpx.AsyncClient
) -> None:
    """[A5]."""
    answers = iter([401, 200])

    class Api(SiteHost):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path == SITE_URL:
                self.carried.append(request.headers["Authorization"])
                return httpx.Response(next(answers))
            return await super().handle_async_request(request)

    api = Api()
    async with httpx.AsyncClient(transport=api, base_url=API) as client:
        auth = SiteTokenAuth("hh-1042", auth=ApiKeyAuth(KEY), http_client=client, clock=clock)
        assert (await client.get(SITE_URL, auth=auth)).status_code == 200

    assert api.carried == ["Bearer fst_1", "Bearer fst_2"]
    assert repr(auth) == "SiteTokenAuth('hh-1042', auth=ApiKeyAuth('***'))"
