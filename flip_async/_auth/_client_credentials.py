"""OAuth 2.0 client credentials."""

from collections.abc import Iterable, Sequence
from typing import Final

from flip_async._auth._bearer import BearerAuth
from flip_async._auth._credential import CredentialSource
from flip_async._auth._decisions import Policy
from flip_async._auth._refresher import OnRefresh
from flip_async._auth._store import TokenStore
from flip_async._auth._token_endpoint import ClientAuthMethod, TokenEndpoint
from flip_async._checks import (
    check_flag,
    check_number,
    check_one_of,
    check_seconds,
    clean_scope,
    clean_secret,
    clean_text,
    conceal,
)
from flip_async._clock import Clock, SystemClock
from flip_async._environment import Origin, parse_endpoint
from flip_async._transport._roads import HttpClient, check_http_client

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
            transport); it is not closed. Without one, each refresh opens and closes a
            connection of its own.
        token_store: Shares tokens with other auth objects or processes.
        on_refresh: Called with a `RefreshEvent` after every try to get a token; may be async,
            and then nobody waits for it.
        insecure_http: Allow `http` beyond loopback, for an emulator on a private network.
        clock: Time and luck, for tests.

    Raises:
        ConfigurationError: A credential or a URL cannot work; no error shows the secret.
        InvalidArgumentError: Another argument cannot be what it is.

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
        http_client: HttpClient | None = None,
        token_store: TokenStore | None = None,
        on_refresh: OnRefresh | None = None,
        insecure_http: bool = False,
        clock: Clock | None = None,
    ) -> None:
        client_secret = conceal(client_secret)  # type: ignore[assignment]  # no frame shows it
        clock = SystemClock() if clock is None else clock
        check_flag(insecure_http, field="insecure_http")
        check_flag(keep_fresh, field="keep_fresh")
        check_http_client(http_client)
        check_one_of(client_auth, _CLIENT_AUTH_METHODS, field="client_auth")
        url = parse_endpoint(token_url, field="token_url", insecure_http=insecure_http)
        self._client_id: Final = clean_text(client_id, field="client_id")
        self._token_url: Final = url
        self._scope: Final = None if scope is None else clean_scope(scope)
        ratio = check_number(refresh_ratio, field="refresh_ratio", above=0, at_most=1)
        super().__init__(
            TokenEndpoint(
                url,
                client_id=self._client_id,
                client_secret=client_secret
                if callable(client_secret)
                else clean_secret(client_secret, field="client_secret"),
                scope=self._scope,
                client_auth=client_auth,
                default_lifetime_s=check_seconds(default_lifetime_s, field="default_lifetime_s"),
                http_client=http_client,
                clock=clock,
            ),
            Policy(refresh_ratio=ratio, budget_s=check_seconds(budget_s, field="budget_s")),
            origins=origins,
            insecure_http=insecure_http,
            any_loopback=origins is None and Origin.of(url).is_loopback,
            keep_fresh=keep_fresh,
            token_store=token_store,
            on_refresh=on_refresh,
            clock=clock,
        )

    def __repr__(self) -> str:
        known = vars(self)  # it may be half made
        scope = known.get("_scope")
        return (
            f"ClientCredentialsAuth({known.get('_client_id')!r}, '***', "
            f"token_url={str(known.get('_token_url'))!r}"
            + (f", scope={scope!r})" if scope is not None else ")")
        )
