"""Nothing shows a key, a secret or a token [A17]."""

import copy
import logging
import pickle
from collections.abc import Callable
from pathlib import Path

import attrs
import httpx
import pytest

from flip_async import (
    PRODUCTION,
    ApiKeyAuth,
    ClientCredentialsAuth,
    FlipClient,
    MemoryTokenStore,
    RetryEvent,
    SandboxClient,
    SiteTokenAuth,
    errors,
)
from flip_async._auth._decisions import Obtained
from flip_async._auth._lifecycle import Lifecycle
from flip_async._auth._site_token_endpoint import SiteTokenEndpoint
from flip_async._auth._store import StoredTokens
from flip_async._auth._token_endpoint import TokenEndpoint
from flip_async._clients._config import Credentials, Variables
from flip_async._environment import Origin
from flip_async._http._runtime import Outlet
from flip_async._secret import Secret, scrub, shape
from flip_async._transport._roads import through_client
from flip_async.emulator import Emulator
from flip_async.fastapi import webhook_router
from flip_async.webhooks import Handlers, SigningKeys, WebhookReceiver, sign, verify
from tests.support import START, ManualClock, make_token

KEY = "fl_public_your_secret_key"
SIGNING_KEY = "whsec_eW91cl9zaWduaW5nX2tleQ=="
SECRETS = (KEY, "your_client_secret", "at_secret_token", SIGNING_KEY, "your_signing_key")


def things() -> list[object]:
    key, oauth = ApiKeyAuth(KEY), ClientCredentialsAuth("your_client_id", "your_client_secret")
    token, store, clock = make_token("at_secret_token"), MemoryTokenStore(), ManualClock()
    life = Lifecycle()
    life.refreshed(token, START, START)
    http = httpx.AsyncClient(
        auth=("user", "your_client_secret"), headers={"Authorization": f"Bearer {KEY}"}
    )
    site = SandboxClient(api_key=KEY, token_store=store).site("hh-1")
    return [
        key,
        oauth,
        SiteTokenAuth("hh-1", auth=key),
        token,
        token.access_token,
        Credentials(api_key=KEY),
        Credentials(client_id="a", client_secret="your_client_secret"),
        SandboxClient(api_key=KEY),
        SandboxClient(client_id="a", client_secret="your_client_secret"),
        SandboxClient(api_key=KEY).with_options(api_key=f"{KEY}2"),
        site,
        SandboxClient(api_key=KEY).sites,
        Variables({"FLIP_API_KEY": KEY, "FLIP_CLIENT_SECRET": "your_client_secret"}),
        Variables({"FLIP_API_KEY": KEY}).secret("FLIP_API_KEY"),
        TokenEndpoint(
            httpx.URL(PRODUCTION.token_url),
            client_id="your_client_id",
            client_secret=Secret("your_client_secret"),
            scope=None,
            client_auth="client_secret_basic",
            default_lifetime_s=300,
            http_client=http,
            clock=clock,
        ),
        SiteTokenEndpoint(
            "hh-1",
            Origin("https", b"api.flip.energy", None),
            sign=key.send_signed,
            owner=key.identity,
            http_client=http,
            clock=clock,
        ),
        Outlet(send=through_client(http), http=http, user_http=http, carries_tokens=True),
        StoredTokens(store, key.identity, clock),
        key.identity,
        oauth.identity,
        life,
        life.decide(START),
        life.replaced,
        Obtained(token, START),
        RetryEvent(method="GET", path="/v1/sites", attempt=1, reason="503", pause_s=0.5),
        SigningKeys.of(SIGNING_KEY),
        WebhookReceiver(Handlers(), secret=SIGNING_KEY),
        webhook_router(secret=SIGNING_KEY),
    ]


@pytest.mark.parametrize("thing", things(), ids=lambda thing: type(thing).__name__)
def test_no_repr_and_no_text_shows_it(thing: object) -> None:
    shown = f"{thing!r} {thing!s} {[thing]!r} {thing}"
    if attrs.has(type(thing)):
        shown += repr(attrs.asdict(thing, recurse=False))  # type: ignore[arg-type]  # has() saw it

    for secret in SECRETS:
        assert secret not in shown


@pytest.mark.parametrize(
    "thing",
    [
        ApiKeyAuth(KEY),
        ClientCredentialsAuth("a", "your_client_secret"),
        make_token(),
        Secret(KEY),
        SigningKeys.of(SIGNING_KEY),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_none_of_them_is_pickled(thing: object) -> None:
    """A pickle is a file that somebody else may read."""
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(thing)


def test_the_token_at_hand_shows_no_header() -> None:
    """It keeps the whole line for the requests that ask for it."""
    life = Lifecycle()
    life.refreshed(make_token("at_secret_token"), START, START)

    held = life.fresh(*START)

    assert held is not None
    assert "at_secret_token" in held.authorization
    assert "at_secret_token" not in repr(held)


def test_a_secret_behaves_like_its_text_and_hides_it() -> None:
    one, same, other = Secret("a" * 9), Secret("a" * 9), Secret("b" * 9)

    assert one == same != other
    assert one != "a" * 9
    assert len({one, same, other}) == 2
    assert copy.copy(one) is one
    assert copy.deepcopy([one])[0] is one
    assert f"{one}" == "Secret('***')"


def test_a_text_of_somebody_else_is_scrubbed() -> None:
    assert scrub(f"wrong: {KEY}!", Secret(KEY)) == "wrong: ***!"
    assert scrub("an ordinary text", Secret("a"), Secret("")) == "an ordinary text"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (KEY, "str of 25 characters"),
        (b"abc", "bytes of 3 bytes"),
        (None, "None"),
        (5, "int"),
        ([1], "list of 1 items"),
        ({"a": 1}, "dict with 1 keys"),
        (Secret(KEY), "a secret"),
    ],
)
def test_a_shape_is_not_the_value(value: object, text: str) -> None:
    assert shape(value) == text


async def test_no_log_of_any_level_shows_it(caplog: pytest.LogCaptureFixture) -> None:
    """Httpx and httpcore at DEBUG too, over a socket."""
    caplog.set_level(logging.DEBUG)
    async with Emulator() as emulator, emulator.client() as flip:
        await flip.sites.list()
        emulator.revoke_tokens()
        await flip.sites.list()
        emulator.fail_next(path="/token", status=400)
        with pytest.raises(Exception, match="refused"):
            await _auth(flip).refresh()
        token = (await _auth(flip).token()).access_token.reveal()
        secret = emulator.client_secret

    assert "new token after" in caplog.text
    assert token not in caplog.text
    assert secret not in caplog.text


def _auth(flip: FlipClient) -> ClientCredentialsAuth:
    assert isinstance(flip.auth, ClientCredentialsAuth)
    return flip.auth


BAD_KEY = "whsec_your_signing_key_that_is_none!"


@pytest.mark.parametrize(
    "make",
    [
        lambda: SigningKeys.of(BAD_KEY),
        lambda: SigningKeys.of([SIGNING_KEY, BAD_KEY]),
        lambda: verify(b"{}", {}, BAD_KEY),
        lambda: sign(b"{}", BAD_KEY, webhook_id="a", timestamp=1),
        lambda: WebhookReceiver(Handlers(), secret=BAD_KEY),
        lambda: WebhookReceiver(Handlers(), secret=SIGNING_KEY, tolerance_s=-1),
        lambda: webhook_router(secret=BAD_KEY),
    ],
)
def test_no_local_of_ours_shows_a_signing_key_that_is_refused(make: Callable[[], object]) -> None:
    """Pytest and error trackers print the locals of each frame [B10]."""
    with pytest.raises(errors.FlipError) as caught:
        make()

    trace = caught.value.__traceback__
    while trace is not None:
        if "flip_async" in Path(trace.tb_frame.f_code.co_filename).parts[-4:]:
            shown = repr({name: repr(value) for name, value in trace.tb_frame.f_locals.items()})
            assert "your_signing_key" not in shown
            assert SIGNING_KEY not in shown
        trace = trace.tb_next
