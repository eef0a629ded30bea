"""Other settings on the same connections, and endpoints without a method [R6]."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from flip_async import ApiKeyAuth, FlipClient, MemoryTokenStore, Retries, SandboxClient, errors
from tests.support import START, ManualClock, json_of, settle

KEY, OTHER_KEY = "fl_your_api_key", "fl_your_other_key"


class Api(httpx.AsyncBaseTransport):
    """Answers everything with a list, or as told."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.status = 200

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        await asyncio.sleep(0)
        if request.url.path == "/token":
            return httpx.Response(
                200, json={"access_token": "at", "token_type": "Bearer", "expires_in": 60}
            )
        if request.url.path.startswith("/v1/auth/site/"):
            expires_at = datetime.fromtimestamp(START.wall_s + 3600, UTC).isoformat()
            return httpx.Response(200, json={"site_access_token": "st", "expires_at": expires_at})
        return httpx.Response(self.status, json=[])

    @property
    def carried(self) -> list[str]:
        return [
            request.headers["Authorization"]
            for request in self.requests
            if request.url.path != "/token"
        ]


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
async def flip(api: Api, clock: ManualClock) -> AsyncIterator[SandboxClient]:
    async with SandboxClient(api_key=KEY, transport=api, clock=clock) as flip:
        yield flip


async def test_a_view_has_other_timeouts_and_leaves_its_client_alone(
    flip: SandboxClient, api: Api
) -> None:
    await flip.with_options(timeout=3).sites.list()
    await flip.with_options(timeout=None).sites.list()
    await flip.sites.list()

    assert [request.extensions["timeout"]["read"] for request in api.requests] == [3, None, 30]


async def test_a_view_has_another_retry_policy(
    flip: SandboxClient, api: Api, clock: ManualClock
) -> None:
    api.status = 503
    view = flip.with_options(retries=Retries(max_attempts=1), deadline_s=None)

    with pytest.raises(errors.ServerError):
        await view.sites.list()

    assert len(api.requests) == 1


async def test_a_view_may_have_another_credential(flip: SandboxClient, api: Api) -> None:
    """Which the client closes, and a dropped view's is forgotten."""
    view = flip.with_options(api_key=OTHER_KEY)
    oauth = flip.with_options(
        client_id="id", client_secret="secret", token_store=MemoryTokenStore()
    )

    await view.sites.list()
    await oauth.sites.list()
    await view.with_options(timeout=1).sites.list()
    await flip.sites.list()

    assert api.carried == [
        f"Bearer {OTHER_KEY}",
        "Bearer at",
        f"Bearer {OTHER_KEY}",
        f"Bearer {KEY}",
    ]
    auth, dropped = view.auth, weakref.ref(oauth.auth)
    assert isinstance(auth, ApiKeyAuth)
    del oauth
    gc.collect()
    assert dropped() is None
    await flip.aclose()
    with pytest.raises(errors.ClientClosedError):
        await auth.token()


@pytest.mark.parametrize("credential", ["api_key", "auth"])
async def test_a_store_beside_a_key_shares_the_tokens_of_sites(
    api: Api, clock: ManualClock, credential: str
) -> None:
    """With clients and views of the same credential, and with nobody else's."""
    store = MemoryTokenStore()

    def given(key: str) -> dict[str, Any]:
        return {credential: key if credential == "api_key" else ApiKeyAuth(key)}

    async with (
        SandboxClient(**given(KEY), transport=api, clock=clock, token_store=store) as one,
        SandboxClient(api_key=OTHER_KEY, transport=api, clock=clock) as other,
    ):
        same = other.with_options(**given(KEY), token_store=store)
        another = other.with_options(**given(OTHER_KEY), token_store=store)
        for flip in (one, same, another):
            await flip.site("hh-1042").devices.list()
            await settle()

    asked = [request for request in api.requests if request.url.path.startswith("/v1/auth/")]
    assert [request.headers["Authorization"] for request in asked] == [
        f"Bearer {KEY}",
        f"Bearer {OTHER_KEY}",
    ]


async def test_closing_a_view_closes_nothing(flip: SandboxClient) -> None:
    async with flip.with_options(timeout=1) as view:
        assert isinstance(view, SandboxClient)

    assert await flip.sites.list() == []
    await flip.aclose()
    assert view.is_closed


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"timeout": -1}, errors.InvalidArgumentError),
        ({"deadline_s": "x"}, errors.InvalidArgumentError),
        ({"retries": 3}, errors.InvalidArgumentError),
        ({"retries": None}, errors.InvalidArgumentError),
        ({"auth": 3}, errors.InvalidArgumentError),
        ({"client_id": "id"}, errors.ConfigurationError),
        ({"api_key": "a\nb"}, errors.ConfigurationError),
        ({"scope": "a"}, errors.ConfigurationError),
    ],
)
async def test_an_option_that_cannot_be_is_refused(
    flip: SandboxClient,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    kind: type[Exception],
) -> None:
    """Half a credential is not made whole from the environment."""
    monkeypatch.setenv("FLIP_CLIENT_SECRET", "of somebody else")

    with pytest.raises(kind):
        flip.with_options(**options)


async def test_what_has_no_method_can_be_reached(flip: SandboxClient, api: Api) -> None:
    response = await flip.request(
        "POST", "/v1/supplements", body={"a": [1, None]}, query={"b": "c"}, extra_headers={"X": "y"}
    )

    request = api.requests[0]
    assert response.json() == []
    assert (request.method, str(request.url)) == (
        "POST",
        "https://api-sandbox.flip.energy/v1/supplements?b=c",
    )
    assert json_of(request) == {"a": [1, None]}
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["X"] == "y"


async def test_its_errors_are_those_of_the_methods(flip: SandboxClient, api: Api) -> None:
    api.status = 404

    with pytest.raises(errors.NotFoundError, match="GET /v1/commands: 404"):
        await flip.request("GET", "/v1/commands")


async def test_a_put_is_repeated_and_a_post_is_not(
    flip: SandboxClient, api: Api, clock: ManualClock
) -> None:
    api.status = 502
    with pytest.raises(errors.ServerError) as caught:
        await flip.request("POST", "/v1/x")
    assert caught.value.outcome_unknown

    call = asyncio.create_task(flip.request("PUT", "/v1/x"))
    await clock.pass_time(10)
    with pytest.raises(errors.ServerError) as caught:
        await call
    assert (caught.value.attempts, caught.value.outcome_unknown) == (4, False)


@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("GET", "v1/sites", "path"),
        ("GET", "//evil.example/", "path"),
        ("GET", "https://evil.example/", "path"),
        ("GET", "/v1/sites?limit=1", "path"),
        ("GET", "/v1/site/../devices", "path"),
        ("GET", 3, "path"),
        ("get", "/v1/sites", "method"),
        ("TRACE", "/v1/sites", "method"),
    ],
)
async def test_a_path_that_is_none_is_refused(
    flip: SandboxClient, api: Api, method: Any, path: Any, field: str
) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        await flip.request(method, path)

    assert caught.value.field == field
    assert not api.requests


async def test_a_body_that_is_no_json_is_refused(flip: FlipClient) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="body"):
        await flip.request("POST", "/v1/x", body=object())
