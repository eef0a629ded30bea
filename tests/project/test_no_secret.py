"""Nothing shows a key, a secret or a token [A17]."""

import copy
import logging
import pickle

import attrs
import pytest

from flip_async import ApiKeyAuth, ClientCredentialsAuth, FlipClient, SandboxClient, SiteTokenAuth
from flip_async._clients._config import Credentials
from flip_async._secret import Secret, scrub, shape
from flip_async.emulator import Emulator
from flip_async.fastapi import webhook_router
from flip_async.webhooks import Handlers, SigningKeys, WebhookReceiver
from tests.support import make_token

KEY = "fl_public_your_secret_key"
SIGNING_KEY = "whsec_eW91cl9zaWduaW5nX2tleQ=="
SECRETS = (KEY, "your_client_secret", "at_secret_token", SIGNING_KEY, "your_signing_key")


def things() -> list[object]:
    key, oauth = ApiKeyAuth(KEY), ClientCredentialsAuth("your_client_id", "your_client_secret")
    token = make_token("at_secret_token")
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
        SandboxClient(api_key=KEY).site("hh-1"),
        SandboxClient(api_key=KEY).sites,
        oauth._endpoint,
        oauth._supply.life,
        key._supply.life,
        SigningKeys.of(SIGNING_KEY),
        WebhookReceiver(Handlers(), secret=SIGNING_KEY),
        webhook_router(secret=SIGNING_KEY),
    ]


@pytest.mark.parametrize("thing", things(), ids=lambda thing: type(thing).__name__)
def test_no_repr_and_no_text_shows_it(thing: object) -> None:
    shown = f"{thing!r} {thing!s} {[thing]!r} {thing}"
    if attrs.has(type(thing)):
        shown += (
            repr(attrs.asdict(thing, recurse=False)) if not isinstance(thing, Credentials) else ""
        )

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
