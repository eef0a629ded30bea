"""Arguments and environment variables become a credential and an environment."""

from collections.abc import Mapping, Sequence
from typing import Final, final

import attrs
import httpx

from flip_async._auth._api_key import ApiKeyAuth
from flip_async._auth._client_credentials import ClientCredentialsAuth
from flip_async._auth._credential import CredentialSource
from flip_async._auth._store import TokenStore
from flip_async._checks import check_kind, clean_bearer, clean_scope, clean_secret
from flip_async._clock import Clock
from flip_async._environment import (
    FLIP_API_ORIGINS,
    FLIP_OAUTH_ORIGIN,
    PRODUCTION,
    SANDBOX,
    Environment,
    Origin,
    parse_origin,
)
from flip_async._secret import Secret
from flip_async._secret_file import SecretFile
from flip_async.errors import ConfigurationError

_KNOWN: Final = {"production": PRODUCTION, "sandbox": SANDBOX}


@final
class Variables:
    """The environment's variables; as a local in a traceback it shows none of them."""

    __slots__ = ("_environ",)

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str) -> str:
        """What a variable holds, stripped; empty where it is not set."""
        return self._environ.get(name, "").strip()

    def secret(self, name: str) -> Secret | None:
        """What a variable holds; `None` where it is not set.

        Nor is one that is empty, as in `FLIP_API_KEY= python app.py`.
        """
        return Secret(self._environ[name]) if self._environ.get(name) else None

    def credential(self, name: str) -> Secret | SecretFile | None:
        """What a variable holds, or the file that the same with `_FILE` names [F11].

        Raises:
            ConfigurationError: Both are set, or the file cannot be read.
        """
        secret, file_name = self.secret(name), f"{name}_FILE"
        path = Secret(self.text(file_name))  # whoever mixes the two up has put the secret there
        if not path.reveal():
            return secret
        if secret is not None:
            raise ConfigurationError(
                f"two credentials given, {name} and {file_name}: keep one of them"
            )
        return SecretFile(file_name, path)

    def __repr__(self) -> str:
        return "Variables(...)"


def _concealed(value: Secret | str | CredentialSource | None) -> Secret | CredentialSource | None:
    return Secret(value) if isinstance(value, str) else value


@attrs.frozen(kw_only=True)
class Credentials:
    """What was given, or found in the environment: of one kind."""

    api_key: Secret | CredentialSource | None = attrs.field(
        default=None, converter=_concealed, repr=False
    )
    client_id: str | None = None
    client_secret: Secret | CredentialSource | None = attrs.field(
        default=None, converter=_concealed, repr=False
    )
    auth: httpx.Auth | None = None
    scope: str | Sequence[str] | None = None

    @property
    def is_there(self) -> bool:
        """Whether there is any part of one."""
        parts = (self.api_key, self.client_id, self.client_secret, self.auth)
        return any(part is not None for part in parts)


def resolve_credentials(given: Credentials, environ: Variables | None) -> Credentials:
    """Find the one credential to use: an argument wins over the environment.

    Raises:
        ConfigurationError: None, two kinds in the same place, or half of a pair.
    """
    found, scope_name = given, "scope="
    names = {"api_key": "api_key=", "client_id": "client_id=", "client_secret": "client_secret="}
    if not given.is_there and environ is not None:
        found = Credentials(
            api_key=environ.credential("FLIP_API_KEY"),
            client_id=environ.text("FLIP_CLIENT_ID") or None,
            client_secret=environ.credential("FLIP_CLIENT_SECRET"),
            scope=given.scope,
        )
        if given.scope is None and environ.text("FLIP_SCOPE"):
            found, scope_name = attrs.evolve(found, scope=environ.text("FLIP_SCOPE")), "FLIP_SCOPE"
        names = {
            "api_key": _variable_of(found.api_key, "FLIP_API_KEY"),
            "client_id": "FLIP_CLIENT_ID",
            "client_secret": _variable_of(found.client_secret, "FLIP_CLIENT_SECRET"),
        }
    _check_kinds(found, names)
    _check_files(found)
    return _with_scope(found, scope_name)


def _variable_of(found: object, name: str) -> str:
    return found.variable if isinstance(found, SecretFile) else name


def _check_files(found: Credentials) -> None:
    """Tell at the start what cannot work; the first request reads its file again."""
    for credential, clean in ((found.api_key, clean_bearer), (found.client_secret, clean_secret)):
        if isinstance(credential, SecretFile):
            clean(credential.first, field=credential.field)


def _check_kinds(found: Credentials, names: Mapping[str, str]) -> None:
    kinds = []
    if found.auth is not None:
        kinds.append("auth=")
    if found.api_key is not None:
        kinds.append(names["api_key"])
    pair = {"client_id": found.client_id, "client_secret": found.client_secret}
    present = [names[name] for name, value in pair.items() if value is not None]
    missing = [names[name] for name, value in pair.items() if value is None]
    kinds += present[:1]
    if not kinds:
        raise ConfigurationError(
            "no credential: set FLIP_API_KEY, or FLIP_CLIENT_ID and FLIP_CLIENT_SECRET, in the "
            "environment (FLIP_API_KEY_FILE and FLIP_CLIENT_SECRET_FILE name files instead); or "
            "pass api_key=, or client_id= and client_secret="
        )
    if len(kinds) > 1:
        raise ConfigurationError(f"two credentials given, {' and '.join(kinds)}: keep one of them")
    if present and missing:
        raise ConfigurationError(
            f"half a credential: {present[0]} is there, {missing[0]} is missing; the other way is "
            "an API key (FLIP_API_KEY or api_key=)"
        )


def _with_scope(found: Credentials, name: str) -> Credentials:
    if found.scope is None:
        return found
    if found.client_id is None:
        what = "an API key" if found.auth is None else "an auth= of your own"
        raise ConfigurationError(
            f"{name} narrows an OAuth client, and cannot narrow {what}: leave it out"
        )
    return attrs.evolve(found, scope=clean_scope(found.scope))


def make_auth(
    found: Credentials,
    environment: Environment,
    *,
    api_url: str,
    http_client: httpx.AsyncClient | None,
    token_store: TokenStore | None,
    clock: Clock,
) -> httpx.Auth:
    """Make the auth of a client; its credential goes to the client's API origin alone."""
    if found.auth is not None:
        check_kind(found.auth, httpx.Auth, field="auth")
        return found.auth
    if found.api_key is not None:
        return ApiKeyAuth(
            found.api_key,  # type: ignore[arg-type]  # concealed already
            origins=(api_url,),
            insecure_http=environment.insecure_http,
            clock=clock,
        )
    assert found.client_id is not None  # _check_kinds() saw to it
    assert found.client_secret is not None
    return ClientCredentialsAuth(
        found.client_id,
        found.client_secret,  # type: ignore[arg-type]  # concealed already
        token_url=environment.token_url,
        origins=(api_url,),
        insecure_http=environment.insecure_http,
        scope=found.scope,
        http_client=http_client,
        token_store=token_store,
        clock=clock,
    )


def resolve_environment(environ: Variables, *, default: Environment | None = None) -> Environment:
    """Find the environment of a client that was given none.

    Args:
        environ: The environment variables.
        default: What the client's class stands for, if it stands for one.

    Raises:
        ConfigurationError: The variables name none, or contradict one another.
    """
    named = default or _named(environ)
    emulator = _from_urls(environ)
    if emulator is None:
        if named is None:
            raise ConfigurationError(
                "no environment: set FLIP_ENVIRONMENT to production or sandbox, pass "
                "environment=, or use ProductionClient or SandboxClient"
            )
        return named
    if named == PRODUCTION or emulator.api_url == PRODUCTION.api_url:
        raise ConfigurationError(
            "FLIP_API_URL and FLIP_OAUTH_URL are set, which is for an emulator, and the client "
            "is for production: unset both, or use SandboxClient"
        )
    return emulator


def _named(environ: Variables) -> Environment | None:
    name = environ.text("FLIP_ENVIRONMENT").lower()
    if not name:
        return None
    if name not in _KNOWN:
        raise ConfigurationError("FLIP_ENVIRONMENT is production or sandbox, and nothing else")
    return _KNOWN[name]


def _from_urls(environ: Variables) -> Environment | None:
    api_url = environ.text("FLIP_API_URL")
    oauth_url = environ.text("FLIP_OAUTH_URL")
    if not api_url and not oauth_url:
        return None
    if not api_url or not oauth_url:
        raise ConfigurationError(
            "of FLIP_API_URL and FLIP_OAUTH_URL one is set: set both, or neither"
        )
    api = parse_origin(api_url, field="FLIP_API_URL")
    oauth = parse_origin(oauth_url, field="FLIP_OAUTH_URL")
    _check_host(api, "FLIP_API_URL", api in FLIP_API_ORIGINS)
    _check_host(oauth, "FLIP_OAUTH_URL", oauth == FLIP_OAUTH_ORIGIN)
    return Environment(name="from variables", api_url=str(api), oauth_url=str(oauth))


def _check_host(origin: Origin, field: str, is_flip: bool) -> None:
    if not (is_flip or origin.is_loopback):
        raise ConfigurationError(
            f"{field} is on {origin.host.decode('ascii')}: from the environment only loopback "
            "and Flip's own hosts are taken; for another host pass environment=Environment(...)"
        )
