"""The POST to the token endpoint, and what its client is."""

import asyncio
import base64
from collections.abc import AsyncIterator
from urllib.parse import unquote_plus

import httpx
import pytest
import respx

from flip_async import ClientCredentialsAuth
from flip_async.errors import (
    ConfigurationError,
    TokenRequestError,
    TokenUnavailableError,
)
from tests.support import API, CLIENT_ID, CLIENT_SECRET, TOKEN_URL, FakeFlip, ManualClock, form_of

TOKEN = {"access_token": "at_one", "token_type": "Bearer", "expires_in": 3600}
ODD_SECRETS = ["a b", "100%", "a+b", "a:b", "a&b=c", "ü".encode().hex(), "/?#[]@!$'()*,;"]


@pytest.fixture
async def network() -> AsyncIterator[respx.MockRouter]:
    with respx.mock(assert_all_called=False) as router:
        router.post(TOKEN_URL).respond(json=TOKEN)
        router.get(f"{API}/v1/sites").respond(json=[])
        yield router


async def test_the_form_is_that_of_the_reference(network: respx.MockRouter) -> None:
    """`grant_type`, `client_id`, `client_secret`, form-encoded; no scope unless asked for."""
    await ClientCredentialsAuth(CLIENT_ID, CLIENT_SECRET).token()

    request = network.calls.last.request
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert "Authorization" not in request.headers
    assert form_of(request) == {
        "grant_type": "client_credentials",
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
    }


async def test_scopes_can_be_narrowed(network: respx.MockRouter) -> None:
    """Least privilege."""
    await ClientCredentialsAuth(CLIENT_ID, CLIENT_SECRET, scope=" telemetry  sites ").token()

    assert form_of(network.calls.last.request)["scope"] == "telemetry sites"


@pytest.mark.parametrize("secret", ODD_SECRETS)
async def test_a_secret_with_odd_characters_works_in_the_form(
    network: respx.MockRouter, secret: str
) -> None:
    """[A23]."""
    await ClientCredentialsAuth(CLIENT_ID, secret).token()

    assert form_of(network.calls.last.request)["client_secret"] == secret


@pytest.mark.parametrize("secret", ODD_SECRETS)
async def test_a_secret_with_odd_characters_works_as_basic(
    network: respx.MockRouter, secret: str
) -> None:
    """Form-encoded before they are joined (RFC 6749 section 2.3.1) [A23]."""
    await ClientCredentialsAuth("id:1", secret, client_auth="client_secret_basic").token()

    request = network.calls.last.request
    pair = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
    assert [unquote_plus(part) for part in pair.split(":")] == ["id:1", secret]
    assert form_of(request) == {"grant_type": "client_credentials"}


async def test_the_secret_goes_to_the_token_url_alone(network: respx.MockRouter) -> None:
    """[A13]."""
    network.post(TOKEN_URL).respond(307, headers={"Location": "https://evil.example/token"})
    elsewhere = network.post("https://evil.example/token").respond(json=TOKEN)

    with pytest.raises(TokenRequestError, match="307"):
        await ClientCredentialsAuth(CLIENT_ID, CLIENT_SECRET).token()

    assert not elsewhere.called


@pytest.mark.parametrize("secret", [CLIENT_SECRET, "a b%+:c"])
async def test_a_host_that_echoes_the_secret_does_not_make_us_show_it(
    network: respx.MockRouter, secret: str
) -> None:
    """[A10]."""
    network.post(TOKEN_URL).respond(
        400,
        json={
            "error": "invalid_client",
            "error_description": f"no such secret: {secret}",
            "error_uri": f"https://x.example/?s={secret}",
        },
    )

    with pytest.raises(TokenRequestError) as caught:
        await ClientCredentialsAuth(CLIENT_ID, secret).token()

    assert secret not in f"{caught.value!s} {vars(caught.value)}"
    assert caught.value.error_description == "no such secret: ***"


async def test_no_httpx_error_is_chained_to_ours(
    fake: FakeFlip, token_http: httpx.AsyncClient, clock: ManualClock
) -> None:
    """It would carry the form with the secret (`error.request.content`)."""
    fake.next_token_answers.append(httpx.ReadTimeout("slow"))
    auth = ClientCredentialsAuth(
        CLIENT_ID, CLIENT_SECRET, http_client=token_http, clock=clock, budget_s=0.2
    )

    with pytest.raises(TokenUnavailableError, match="ReadTimeout") as caught:
        await auth.token()

    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_a_host_that_never_answers_is_given_up(
    fake: FakeFlip, token_http: httpx.AsyncClient
) -> None:
    """Httpx's own timeouts are for each read; ours is for the whole."""
    fake.token_gate = asyncio.Event()

    with pytest.raises(TokenUnavailableError, match="no answer within"):
        await ClientCredentialsAuth(
            CLIENT_ID, CLIENT_SECRET, http_client=token_http, budget_s=0.02
        ).token()


async def test_a_closed_http_client_is_named(token_http: httpx.AsyncClient) -> None:
    auth = ClientCredentialsAuth(CLIENT_ID, CLIENT_SECRET, http_client=token_http, budget_s=0.01)
    await token_http.aclose()

    with pytest.raises(TokenUnavailableError, match="http_client is closed"):
        await auth.token()


async def test_the_users_http_client_carries_token_requests_without_its_own_auth(
    fake: FakeFlip,
) -> None:
    """`auth=None`, whatever it has."""
    async with httpx.AsyncClient(transport=fake, auth=("user", "password")) as http:
        await ClientCredentialsAuth(CLIENT_ID, CLIENT_SECRET, http_client=http).token()

    assert "Authorization" not in fake.token_requests[0].headers


async def test_a_secret_may_come_from_a_callable_asked_once(
    token_http: httpx.AsyncClient, fake: FakeFlip, clock: ManualClock
) -> None:
    """[A18]."""
    asked = []

    async def read_secret() -> str:
        asked.append(1)
        return "from the manager\n"

    auth = ClientCredentialsAuth(CLIENT_ID, read_secret, http_client=token_http, clock=clock)
    await auth.token()
    await auth.refresh()

    assert len(asked) == 1
    assert [form_of(request)["client_secret"] for request in fake.token_requests] == [
        "from the manager"
    ] * 2


async def test_a_rotated_secret_is_read_again_after_invalid_client(
    token_http: httpx.AsyncClient, fake: FakeFlip
) -> None:
    """And no request notices [A18]."""
    secrets = iter(["old_secret", "new_secret"])
    auth = ClientCredentialsAuth(CLIENT_ID, lambda: next(secrets), http_client=token_http)
    await auth.token()
    fake.next_token_answers.append(httpx.Response(401, json={"error": "invalid_client"}))

    token = await auth.refresh()

    assert token.access_token.reveal() == "at_3"
    assert form_of(fake.token_requests[-1])["client_secret"] == "new_secret"


async def test_an_unchanged_secret_is_not_tried_again(
    token_http: httpx.AsyncClient, fake: FakeFlip
) -> None:
    """[A18]."""
    auth = ClientCredentialsAuth(CLIENT_ID, lambda: "same_secret", http_client=token_http)
    fake.next_token_answers.append(httpx.Response(401, json={"error": "invalid_client"}))

    with pytest.raises(TokenRequestError, match="invalid_client"):
        await auth.token()

    assert fake.tokens_asked == 1


async def test_a_callable_that_raises_is_named_with_its_exception_as_the_cause(
    token_http: httpx.AsyncClient, fake: FakeFlip
) -> None:
    """[A18]."""

    def broken() -> str:
        raise LookupError("the manager is down")

    with pytest.raises(TokenUnavailableError, match="client_secret raised LookupError") as caught:
        await ClientCredentialsAuth(CLIENT_ID, broken, http_client=token_http).token()

    assert isinstance(caught.value.__cause__, LookupError)
    assert fake.tokens_asked == 0


async def test_a_callable_that_gives_no_secret_is_a_configuration_error(
    token_http: httpx.AsyncClient,
) -> None:
    auth = ClientCredentialsAuth(CLIENT_ID, lambda: "a\nb", http_client=token_http)

    with pytest.raises(ConfigurationError, match="client_secret"):
        await auth.token()
