"""Arguments and environment variables [section 1]: clear errors before any request."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from flip_async import (
    PRODUCTION,
    SANDBOX,
    ApiKeyAuth,
    ClientCredentialsAuth,
    Environment,
    FlipClient,
    MemoryTokenStore,
    ProductionClient,
    SandboxClient,
    SiteTokenAuth,
)
from flip_async.errors import ConfigurationError, InvalidArgumentError

HTTPX = httpx.__name__  # or httpx2, where that is its alias
KEY = "fl_your_api_key"
Variables = dict[str, str]


@pytest.fixture
def setenv(monkeypatch: pytest.MonkeyPatch) -> Callable[[Variables], None]:
    def set_all(variables: Variables) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


def test_an_api_key_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIP_API_KEY", f"{KEY}\n")

    assert isinstance(SandboxClient().auth, ApiKeyAuth)


def test_a_pair_comes_from_its_variables(setenv: Callable[[Variables], None]) -> None:
    setenv({"FLIP_CLIENT_ID": "id", "FLIP_CLIENT_SECRET": "secret", "FLIP_SCOPE": "a  b"})

    client = SandboxClient()

    assert isinstance(client.auth, ClientCredentialsAuth)
    assert "scope='a b'" in repr(client.auth)


def test_scopes_may_be_a_list() -> None:
    client = SandboxClient(client_id="id", client_secret="secret", scope=["a", "b c"])

    assert "scope='a b c'" in repr(client.auth)


def test_an_argument_is_used_alone_whatever_the_variables_hold(
    setenv: Callable[[Variables], None],
) -> None:
    setenv({"FLIP_CLIENT_ID": "id", "FLIP_API_KEY": KEY, "FLIP_SCOPE": "theirs"})

    assert isinstance(SandboxClient(api_key=KEY).auth, ApiKeyAuth)
    oauth = SandboxClient(client_id="mine", client_secret="secret")
    assert "scope" not in repr(oauth.auth)


@pytest.mark.parametrize(
    ("variables", "arguments", "words"),
    [
        (
            {},
            {},
            ["FLIP_API_KEY", "FLIP_CLIENT_ID", "FLIP_CLIENT_SECRET", "api_key=", "client_id="],
        ),
        ({"FLIP_API_KEY": ""}, {}, ["no credential"]),
        (
            {"FLIP_API_KEY": KEY, "FLIP_CLIENT_ID": "id", "FLIP_CLIENT_SECRET": "s"},
            {},
            ["two credentials given, FLIP_API_KEY and FLIP_CLIENT_ID: keep one"],
        ),
        ({"FLIP_CLIENT_ID": "id"}, {}, ["half a credential", "FLIP_CLIENT_SECRET is missing"]),
        ({"FLIP_CLIENT_SECRET": "s"}, {}, ["half a credential", "FLIP_CLIENT_ID is missing"]),
        ({}, {"client_id": "id"}, ["client_secret= is missing"]),
        (
            {},
            {"api_key": KEY, "client_id": "id"},
            ["two credentials given, api_key= and client_id="],
        ),
        ({}, {"api_key": KEY, "auth": httpx.Auth()}, ["two credentials given, auth= and api_key="]),
        ({}, {"api_key": KEY, "scope": "a"}, ["scope=", "API key"]),
        ({"FLIP_API_KEY": KEY, "FLIP_SCOPE": "a"}, {}, ["FLIP_SCOPE", "API key"]),
        ({}, {"auth": httpx.Auth(), "scope": "a"}, ["scope=", "auth="]),
        ({}, {"api_key": "fl_a\nb"}, ["api_key (str of 6 characters)", "line break"]),
        ({}, {"api_key": "fl_a b"}, ["white space"]),
        ({}, {"api_key": "fl_ä"}, ["no header can carry"]),
        ({}, {"api_key": "  "}, ["api_key is empty"]),
        ({}, {"api_key": 7}, ["api_key is a str, not int"]),
        ({}, {"client_id": "id", "client_secret": "a\x00b"}, ["client_secret", "printable"]),
        ({}, {"client_id": "id", "client_secret": ""}, ["client_secret is empty"]),
        ({}, {"client_id": "id", "client_secret": "s", "scope": 'a"b'}, ["scope"]),
        ({}, {"client_id": "id", "client_secret": "s", "scope": []}, ["scope is empty"]),
        ({}, {"client_id": "id", "client_secret": "s", "scope": [3]}, ["scope is a str, not int"]),
        ({}, {"api_key": f'"{KEY}"'}, ["api_key is in quotes"]),
        ({"FLIP_API_KEY": f"'{KEY}'"}, {}, ["in quotes"]),
        ({}, {"client_id": '"id"', "client_secret": "s"}, ["client_id is in quotes"]),
        ({}, {"client_id": "id", "client_secret": "'s'"}, ["client_secret is in quotes"]),
        (
            {},
            {
                "api_key": KEY,
                "http_client": httpx.AsyncClient(
                    transport=httpx.MockTransport(lambda _: httpx.Response(200))
                ),
                "transport": httpx.MockTransport(lambda _: httpx.Response(200)),
            },
            ["http_client= and transport="],
        ),
    ],
)
def test_a_credential_that_cannot_work_is_refused(
    setenv: Callable[[Variables], None],
    variables: Variables,
    arguments: dict[str, Any],
    words: list[str],
) -> None:
    """The error names what is wrong and the way out, and never the value."""
    setenv(variables)

    with pytest.raises(ConfigurationError) as caught:
        SandboxClient(**arguments)

    for word in words:
        assert word in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "field", "words"),
    [
        (
            {"auth": ("user", "password")},
            "auth",
            f"is an instance of {HTTPX}.Auth, not of builtins.tuple",
        ),
        (
            {"api_key": KEY, "http_client": httpx.Client()},
            "http_client",
            f"is an instance of {HTTPX}.AsyncClient, not of {HTTPX}.Client",
        ),
        (
            {"api_key": KEY, "transport": httpx.HTTPTransport()},
            "transport",
            f"is an instance of {HTTPX}.AsyncBaseTransport",
        ),
        ({"api_key": KEY, "retries": 0}, "retries", "is an instance of"),
        ({"api_key": KEY, "retries": 3}, "retries", "not of builtins.int"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_refused(
    arguments: dict[str, Any], field: str, words: str
) -> None:
    """A mistake of the code, told in the words of every other [B5]."""
    with pytest.raises(InvalidArgumentError) as caught:
        SandboxClient(**arguments)

    assert caught.value.field == field
    assert words in str(caught.value)


@pytest.mark.parametrize("credential", [{"api_key": KEY}, {"auth": httpx.Auth()}])
def test_a_token_store_goes_with_any_credential(credential: dict[str, Any]) -> None:
    """It shares the tokens of sites too, which any credential may ask for."""
    client = SandboxClient(**credential, token_store=MemoryTokenStore())

    assert client.site("hh-1042") is not None


def test_each_class_has_its_environment() -> None:
    assert ProductionClient(api_key=KEY).environment == PRODUCTION
    assert SandboxClient(api_key=KEY).environment == SANDBOX
    assert isinstance(ProductionClient(api_key=KEY), FlipClient)


@pytest.mark.parametrize(
    ("name", "environment"), [("production", PRODUCTION), (" Sandbox ", SANDBOX)]
)
def test_the_environment_may_come_from_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, environment: Environment
) -> None:
    monkeypatch.setenv("FLIP_ENVIRONMENT", name)

    assert FlipClient(api_key=KEY).environment == environment


LOCAL = {"FLIP_API_URL": "http://127.0.0.1:8080/", "FLIP_OAUTH_URL": "http://localhost:8081"}


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "FLIP_ENVIRONMENT"),
        ({"FLIP_ENVIRONMENT": "staging"}, "production or sandbox"),
        ({"FLIP_API_URL": LOCAL["FLIP_API_URL"]}, "one is set"),
        ({"FLIP_OAUTH_URL": LOCAL["FLIP_OAUTH_URL"]}, "one is set"),
        ({**LOCAL, "FLIP_ENVIRONMENT": "production"}, "for production: unset both"),
        ({**LOCAL, "FLIP_API_URL": "https://api.flip.energy"}, "for production: unset both"),
        ({**LOCAL, "FLIP_API_URL": "https://evil.example"}, "evil.example"),
        ({**LOCAL, "FLIP_OAUTH_URL": "https://evil.example"}, "evil.example"),
        ({**LOCAL, "FLIP_OAUTH_URL": "https://api.flip.energy"}, "FLIP_OAUTH_URL is on"),
        ({**LOCAL, "FLIP_API_URL": "http://10.0.0.5:80"}, "https only"),
        ({**LOCAL, "FLIP_API_URL": "http://127.0.0.1/v1"}, "leave out the path"),
        ({**LOCAL, "FLIP_API_URL": "127.0.0.1:8080"}, "begins with https://"),
        ({**LOCAL, "FLIP_API_URL": "http://u:p@127.0.0.1"}, "a user or a password"),
        ({**LOCAL, "FLIP_API_URL": "http://127.0.0.1?x=1"}, "query"),
        ({**LOCAL, "FLIP_API_URL": "http://127.0.0.1:port"}, "not a URL"),
    ],
)
def test_an_environment_that_cannot_work_is_refused(
    setenv: Callable[[Variables], None], variables: Variables, words: str
) -> None:
    setenv(variables)

    with pytest.raises(ConfigurationError) as caught:
        FlipClient(api_key=KEY)

    assert words in str(caught.value)


def test_variables_point_the_sandbox_at_an_emulator(setenv: Callable[[Variables], None]) -> None:
    setenv(LOCAL)

    for client in (SandboxClient(api_key=KEY), FlipClient(api_key=KEY)):
        assert client.environment.api_url == "http://127.0.0.1:8080"
        assert client.environment.token_url == "http://localhost:8081/token"


def test_production_refuses_to_start_while_they_are_set(
    setenv: Callable[[Variables], None],
) -> None:
    """A forgotten variable cannot send production's secret elsewhere."""
    setenv(LOCAL)

    with pytest.raises(ConfigurationError, match="unset both"):
        ProductionClient(api_key=KEY)


def test_an_environment_argument_ignores_the_variables(
    setenv: Callable[[Variables], None],
) -> None:
    setenv({"FLIP_API_URL": "nonsense"})

    assert FlipClient(environment=PRODUCTION, api_key=KEY).environment == PRODUCTION


def test_a_class_for_one_environment_takes_no_other() -> None:
    with pytest.raises(ConfigurationError, match="FlipClient"):
        SandboxClient(environment=PRODUCTION, api_key=KEY)
    with pytest.raises(InvalidArgumentError, match="not of builtins.str") as caught:
        FlipClient(environment="sandbox", api_key=KEY)  # type: ignore[arg-type]
    assert caught.value.field == "environment"


def test_http_on_a_private_network_has_to_be_asked_for() -> None:
    """[A13]."""
    with pytest.raises(ConfigurationError, match="insecure_http=True"):
        Environment(name="x", api_url="http://flip:80", oauth_url="http://flip:80")

    environment = Environment(
        name="x", api_url="http://flip:8080", oauth_url="http://flip:8080", insecure_http=True
    )

    assert FlipClient(environment=environment, api_key=KEY).environment == environment


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"refresh_ratio": 0}, "refresh_ratio: is above 0, not 0"),
        ({"refresh_ratio": 1.01}, "refresh_ratio: is at most 1, not 1.01"),
        ({"refresh_ratio": -1}, "refresh_ratio: is above 0, not -1"),
        ({"refresh_ratio": float("nan")}, "refresh_ratio: is a number and finite"),
        ({"refresh_ratio": "0.8"}, "refresh_ratio: is a number, not str of 3 characters"),
        ({"refresh_ratio": True}, "refresh_ratio: is a number, not bool"),
        ({"default_lifetime_s": 0}, "default_lifetime_s: is above 0"),
        ({"budget_s": float("inf")}, "budget_s: is a number of seconds and finite"),
        ({"client_auth": "private_key_jwt"}, "client_auth: is one of client_secret_post"),
    ],
)
def test_a_setting_of_an_auth_out_of_range_is_refused(
    arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        ClientCredentialsAuth("id", "your_client_secret", **arguments)

    assert caught.value.field == next(iter(arguments))
    assert words in str(caught.value)
    assert "your_client_secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"token_url": "http://oauth.example/token"}, "https only"),
        ({"token_url": "ftp://oauth.example/token"}, "begins with https://"),
        ({"token_url": 3}, "token_url is a str"),
        ({"origins": "https://api.flip.energy"}, "origins is a list of origins"),
        ({"origins": ["http://api.flip.energy"]}, "https only"),
        ({"scope": " "}, "scope is empty"),
    ],
)
def test_an_auth_that_cannot_work_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ClientCredentialsAuth("id", "your_client_secret", **arguments)

    assert words in str(caught.value)
    assert "your_client_secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"timeout": -1}, "timeout"),
        ({"timeout": "5"}, "timeout"),
        ({"deadline_s": 0}, "deadline_s"),
        ({"deadline_s": "60"}, "deadline_s"),
    ],
)
def test_a_time_out_of_range_is_refused(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        SandboxClient(api_key=KEY, **arguments)

    assert caught.value.field == field


@pytest.mark.parametrize("site_id", ["", ".", ".."])
def test_a_site_id_that_would_be_another_path_is_refused(site_id: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        SandboxClient(api_key=KEY).site(site_id)
    assert caught.value.field == "site_id"

    with pytest.raises(InvalidArgumentError):
        SiteTokenAuth(site_id, auth=ApiKeyAuth(KEY))
