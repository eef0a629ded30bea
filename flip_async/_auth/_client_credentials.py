"""OAuth 2.0 client credentials."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import httpx

from flip_async._auth._bearer import BearerAuth, BearerOptions
from flip_async._auth._credential import CredentialSource, clean_text
from flip_async._auth._decisions import Failure, Policy
from flip_async._auth._refresher import RefreshEvent
from flip_async._auth._store import Obtained, StoredTokens, TokenStore, store_key
from flip_async._auth._token_endpoint import ClientAuthMethod, TokenEndpoint
from flip_async._clock import Clock, SystemClock
from flip_async._environment import Origin, parse_endpoint
from flip_async._secret import shape
from flip_async.errors import ConfigurationError

FLIP_TOKEN_URL: Final = "https://oauth.flip.energy/token"
_CLIENT_AUTH_METHODS: Final = ("client_secret_post", "client_secret_basic")


class ClientCredentialsAuth(BearerAuth):
    """Signs requests with an access token that it fetches, keeps and replaces.

    The token is taken when the first request needs it, replaced beside the requests at
    80 % of its life, and replaced at once, for all requests together, when the API
    answers 401; such a request is sent once more. Use it in any `httpx.AsyncClient`::

        auth = ClientCredentialsAuth("your_client_id", "your_client_secret")
        async with httpx.AsyncClient(auth=auth, base_url="https://api.flip.energy") as http:
            await http.get("/v1/sites")

    One object may serve many clients, event loops and threads. `aclose()`, or leaving
    `async with auth:`, ends a refresh that runs.

    Args:
        client_id: From Flip's developer console.
        client_secret: The secret, or a callable (sync or async) that reads it from a
            secrets manager; that is called once, and again when the secret is refused.
        token_url: The token endpoint; `https`, but for loopback.
        origins: API origins that the token may go to. By default Flip's own, and any
            loopback origin where `token_url` is on loopback.
        scope: One or more scopes, as a list or separated by spaces; by default all that the
            client has.
        refresh_ratio: Share of its life after which a token is replaced; above 0, at most 1.
        keep_fresh: Replace the token in time even while no request is made.
        client_auth: How the secret is sent: in the form, or as HTTP Basic.
        default_lifetime_s: Life of a token whose answer does not tell it, in seconds.
        budget_s: How long requests wait at most for a token endpoint that fails, in seconds.
        http_client: Client for the token requests (a proxy, a private CA, a test's
            transport); it is not closed. Without one, each refresh opens and closes its own.
        token_store: Shares tokens with other auth objects or processes.
        on_refresh: Called with a `RefreshEvent` after every try to get a token.
        insecure_http: Allow `http` beyond loopback, for an emulator on a private network.
        clock: Time and luck, for tests.

    Raises:
        ConfigurationError: An argument cannot work; no error shows the secret.

    Source:
        RFC 6749 section 4.4, RFC 6750; https://new-docs.flip.energy/authentication.
    """

    def __init__(
        self,
        client_id: str,
        client_secret: str | CredentialSource,
        *,
        token_url: str = FLIP_TOKEN_URL,
        origins: Iterable[str] | None = None,
        scope: str | Sequence[str] | None = None,
        refresh_ratio: float = 0.8,
        keep_fresh: bool = False,
        client_auth: ClientAuthMethod = "client_secret_post",
        default_lifetime_s: float = 300.0,
        budget_s: float = 30.0,
        http_client: httpx.AsyncClient | None = None,
        token_store: TokenStore | None = None,
        on_refresh: Callable[[RefreshEvent], object] | None = None,
        insecure_http: bool = False,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or SystemClock()
        url = parse_endpoint(token_url, field="token_url", insecure_http=insecure_http)
        client_id = clean_text(client_id, field="client_id")
        one_scope = None if scope is None else clean_scope(scope)
        if client_auth not in _CLIENT_AUTH_METHODS:
            raise ConfigurationError(f"client_auth is one of {', '.join(_CLIENT_AUTH_METHODS)}")
        ratio = _number(refresh_ratio, field="refresh_ratio", at_most=1.0)
        budget_s = _number(budget_s, field="budget_s")
        self._client_id: Final = client_id
        self._token_url: Final = url
        self._scope: Final = one_scope
        self._endpoint: Final = TokenEndpoint(
            url,
            client_id=client_id,
            client_secret=client_secret,
            scope=one_scope,
            client_auth=client_auth,
            default_lifetime_s=_number(default_lifetime_s, field="default_lifetime_s"),
            http_client=http_client,
            within_s=budget_s,
            clock=clock,
        )
        key = store_key(str(url), client_id, one_scope)
        super().__init__(
            BearerOptions(
                origins=origins,
                insecure_http=insecure_http,
                any_loopback=origins is None and Origin.of(url).is_loopback,
                keep_fresh=keep_fresh,
                on_refresh=on_refresh,
                clock=clock,
            ),
            Policy(refresh_ratio=ratio, budget_s=budget_s),
            stored=None if token_store is None else StoredTokens(token_store, key, clock),
        )

    async def _fetch(self) -> Obtained | Failure:
        return await self._endpoint.attempt()

    @property
    def identity(self) -> str:
        """Tells this credential from others, with no secret in it."""
        return store_key(str(self._token_url), self._client_id, self._scope)

    def __repr__(self) -> str:
        scope = "" if self._scope is None else f", scope={self._scope!r}"
        return (
            f"ClientCredentialsAuth({self._client_id!r}, '***', "
            f"token_url={str(self._token_url)!r}{scope})"
        )


def clean_scope(scope: object) -> str:
    """Read one or more scopes: a list of them, or a text separated by white space.

    Raises:
        ConfigurationError: It is empty, or has a character that no scope may have.

    Source:
        RFC 6749 section 3.3.
    """
    if isinstance(scope, list | tuple):
        scope = " ".join(clean_text(one, field="scope") for one in scope)
    text = " ".join(clean_text(scope, field="scope").split())
    if '"' in text or "\\" in text:
        raise ConfigurationError('a scope has neither " nor \\ in it')
    return text


def _number(value: object, *, field: str, at_most: float = float("inf")) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(f"{field} is a number, not {shape(value)}")
    if not 0 < value <= at_most or value == float("inf"):
        limit = "" if at_most == float("inf") else f" and at most {at_most:g}"
        raise ConfigurationError(f"{field} is above 0{limit}, not {value:g}")
    return float(value)
