"""What httpx does with an auth flow: each row of the design's table, and what follows for us."""

import asyncio
import traceback
from collections.abc import Callable

import httpx
import pytest

from flip_async import ApiKeyAuth, ClientCredentialsAuth
from flip_async.emulator import Emulator
from flip_async.errors import ConfigurationError, TokenUnavailableError
from tests.support import API, CLIENT_ID, CLIENT_SECRET, FakeFlip, settle

KEY = "fl_your_api_key"


async def test_event_hooks_and_history_never_see_the_token_request(
    fake: FakeFlip, auth: ClientCredentialsAuth
) -> None:
    """Token requests do not go through the flow, so the API's client does not show them."""
    seen: list[str] = []

    async def hook(request: httpx.Request) -> None:
        seen.append(request.url.path)

    async with httpx.AsyncClient(
        transport=fake, auth=auth, base_url=API, event_hooks={"request": [hook]}
    ) as http:
        await http.get("/v1/sites")
        fake.revoke()
        response = await http.get("/v1/sites")

    assert seen == ["/v1/sites"] * 3
    assert [entry.request.url.path for entry in response.history] == ["/v1/sites"]


async def test_a_token_host_that_cannot_be_reached_is_our_error_not_a_generator_exit(
    http: httpx.AsyncClient, fake: FakeFlip, auth: ClientCredentialsAuth
) -> None:
    fake.next_token_answers.append(httpx.Response(503, headers={"Retry-After": "100"}))

    with pytest.raises(TokenUnavailableError):
        await http.get("/v1/sites")


async def test_requests_run_beside_one_another(http: httpx.AsyncClient, fake: FakeFlip) -> None:
    """No lock is held across a `yield`."""
    await http.get("/v1/sites")
    fake.api_gate = asyncio.Event()
    requests = [asyncio.create_task(http.get("/v1/sites")) for _ in range(10)]
    await settle()

    assert len(fake.api_requests) == 11

    fake.api_gate.set()
    await asyncio.gather(*requests)


async def test_an_unread_401_does_not_starve_the_token_request_of_its_connection(
    socket_emulator: Emulator,
) -> None:
    """On a pool of one connection, also for a caller that streams."""
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(limits=limits, timeout=httpx.Timeout(5, pool=2)) as http:
        auth = ClientCredentialsAuth(
            socket_emulator.client_id,
            socket_emulator.client_secret,
            token_url=f"{socket_emulator.oauth_url}/token",
            http_client=http,
        )
        url = f"{socket_emulator.api_url}/v1/sites"
        await http.get(url, auth=auth)
        socket_emulator.revoke_tokens()
        async with http.stream("GET", url, auth=auth) as response:
            assert response.status_code == 200


async def test_the_wait_for_a_token_has_a_budget_of_its_own(fake: FakeFlip) -> None:
    """No timeout of the request bounds what the flow waits for."""
    fake.token_gate = asyncio.Event()
    async with httpx.AsyncClient(transport=fake) as token_http:
        auth = ClientCredentialsAuth(
            CLIENT_ID, CLIENT_SECRET, http_client=token_http, budget_s=0.02
        )
        async with httpx.AsyncClient(transport=fake, auth=auth, timeout=None) as http:
            with pytest.raises(TokenUnavailableError):
                await http.get(f"{API}/v1/sites")


@pytest.mark.parametrize(
    "make", [lambda: ApiKeyAuth(KEY), lambda: ClientCredentialsAuth(CLIENT_ID, CLIENT_SECRET)]
)
def test_a_sync_client_is_told_to_be_async(make: Callable[[], httpx.Auth]) -> None:
    """It would send the request with no credential [A16]."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    with (
        httpx.Client(auth=make(), transport=transport) as http,
        pytest.raises(ConfigurationError, match=r"httpx\.AsyncClient"),
    ):
        http.get(f"{API}/v1/sites")


async def test_a_401_from_the_end_of_a_redirect_is_not_ours(
    auth: ClientCredentialsAuth, fake: FakeFlip
) -> None:
    """And no credential goes there [A13]."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.url.host == "api.flip.energy":
            return httpx.Response(302, headers={"Location": "https://elsewhere.example/"})
        return httpx.Response(401)

    transport = httpx.MockTransport(answer)
    async with httpx.AsyncClient(auth=auth, transport=transport, follow_redirects=True) as http:
        response = await http.get(f"{API}/v1/sites")

    assert response.status_code == 401
    assert fake.tokens_asked == 1
    assert [request.url.host for request in seen] == ["api.flip.energy", "elsewhere.example"]
    assert "Authorization" not in seen[1].headers


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/v1/sites",
        "http://api.flip.energy/v1/sites",
        "https://api.flip.energy:8443/v1/sites",
        "https://api.flip.energy.evil.example/",
        "http://127.0.0.1/v1/sites",
    ],
)
async def test_the_bearer_goes_to_its_origins_alone(url: str) -> None:
    """A request elsewhere says so, and names `auth=None` [A13]."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    async with httpx.AsyncClient(auth=ApiKeyAuth(KEY), transport=transport) as http:
        with pytest.raises(ConfigurationError, match="auth=None") as caught:
            await http.get(url)
        assert (await http.get(url, auth=None)).status_code == 200

    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"{API}/v1/sites",
        "https://API.flip.energy:443/v1/sites",
        "https://api-sandbox.flip.energy/v1/sites",
        "https://api-utility.flip.energy/v1/enrollments",
        "https://aggregator-api-sandbox.flip.energy/v1/sites",
    ],
)
async def test_flips_own_hosts_are_the_default(url: str) -> None:
    """[A13]."""
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, text=request.headers["Authorization"])
    )
    async with httpx.AsyncClient(auth=ApiKeyAuth(KEY), transport=transport) as http:
        assert (await http.get(url)).text == f"Bearer {KEY}"


async def test_a_token_url_on_loopback_opens_loopback(fake: FakeFlip) -> None:
    """An emulator's tokens go to any of its ports, and nowhere else [A13]."""
    async with httpx.AsyncClient(transport=fake) as http:
        auth = ClientCredentialsAuth(
            CLIENT_ID, CLIENT_SECRET, token_url="http://localhost:9/token", http_client=http
        )
        for host in ("127.0.0.1:80", "[::1]:99", "localhost", "127.9.9.9"):
            assert (await http.get(f"http://{host}/v1/sites", auth=auth)).status_code == 200
        with pytest.raises(ConfigurationError):
            await http.get("http://10.0.0.1/v1/sites", auth=auth)


async def test_a_retry_counts_as_a_redirect_of_httpx(
    auth: ClientCredentialsAuth, fake: FakeFlip
) -> None:
    """`max_redirects=0` makes it `TooManyRedirects`: the documentation says so."""
    async with httpx.AsyncClient(transport=fake, auth=auth, base_url=API, max_redirects=0) as http:
        await http.get("/v1/sites")
        fake.revoke()

        with pytest.raises(httpx.TooManyRedirects):
            await http.get("/v1/sites")


async def test_history_shows_the_second_token(http: httpx.AsyncClient, fake: FakeFlip) -> None:
    """The retry reuses the `Request`: the documentation says so."""
    await http.get("/v1/sites")
    fake.revoke()

    response = await http.get("/v1/sites")

    assert response.history[0].request.headers["Authorization"] == "Bearer at_2"


async def test_a_response_hook_fires_before_the_flow_sees_the_401(
    fake: FakeFlip, auth: ClientCredentialsAuth
) -> None:
    """`raise_for_status` in a hook takes the retry away: the documentation says so."""

    async def hook(response: httpx.Response) -> None:
        response.raise_for_status()

    async with httpx.AsyncClient(
        transport=fake, auth=auth, base_url=API, event_hooks={"response": [hook]}
    ) as http:
        await http.get("/v1/sites")
        fake.revoke()
        with pytest.raises(httpx.HTTPStatusError):
            await http.get("/v1/sites")

    assert fake.tokens_asked == 1


async def test_no_secret_in_a_traceback_with_its_locals(fake: FakeFlip) -> None:
    """As far as it is ours [A17]."""
    fake.next_token_answers.append(httpx.Response(400, json={"error": "invalid_client"}))
    async with httpx.AsyncClient(transport=fake) as token_http:
        auth = ClientCredentialsAuth(CLIENT_ID, CLIENT_SECRET, http_client=token_http)
        try:
            await auth.token()
        except Exception as error:
            printed = "".join(
                traceback.TracebackException.from_exception(error, capture_locals=True).format()
            )
        else:
            raise AssertionError("it was refused")

    assert CLIENT_SECRET not in printed
