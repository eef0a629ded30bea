"""Site tokens: one hour, one site."""

from collections.abc import Callable, Iterable
from typing import Final

import httpx

from flip_async import errors
from flip_async._auth._bearer import BearerAuth, BearerOptions
from flip_async._auth._decisions import Failure, Policy
from flip_async._auth._refresher import RefreshEvent
from flip_async._auth._store import Obtained, StoredTokens, TokenStore, store_key
from flip_async._auth._token import Token, is_header_value
from flip_async._backoff import parse_http_date
from flip_async._clock import Clock, Instant, SystemClock
from flip_async._endpoint import Endpoint
from flip_async._environment import PRODUCTION, parse_origin
from flip_async._secret import Secret
from flip_async._transport._attempt import Broken, exchange
from flip_async._wire import decode
from flip_async.errors import (
    DecodeError,
    FlipError,
    TokenResponseError,
    TokenUnavailableError,
)
from flip_async.models.site_tokens import SiteToken

CREATE: Final = Endpoint(
    method="POST",
    path="/v1/auth/site/{siteId}",
    token="client",
    returns=SiteToken,
    safe_to_repeat="each call gives a token of its own; the others stay good for their hour",
)
LIFETIME_S: Final = 3600.0


class SiteTokenAuth(BearerAuth):
    """Signs requests with a site's token, which it takes with another credential.

    The token lives an hour and goes through the same life as any other: taken when first
    needed, replaced at 80 % of its life and after a 401.

    Args:
        site_id: Your id of the site.
        auth: Credential that may ask for site tokens: an `ApiKeyAuth` or a
            `ClientCredentialsAuth`. It is not closed.
        api_url: Origin of the API; production by default.
        budget_s: How long requests wait at most for an API that gives no token, in seconds.
        http_client: Client for the token requests; not closed. Without one, each refresh
            opens and closes its own.
        token_store: Shares tokens with other auth objects or processes.
        on_refresh: Called with a `RefreshEvent` after every try to get a token.
        origins: API origins that the token may go to; by default that of `api_url`.
        insecure_http: Allow `http` beyond loopback, for an emulator on a private network.
        clock: Time and luck, for tests.

    Raises:
        InvalidArgumentError: `site_id` cannot stand in a path.
        ConfigurationError: `api_url` is no origin.

    Source:
        https://docs.flip.energy/api-6038135
    """

    def __init__(
        self,
        site_id: str,
        *,
        auth: BearerAuth | httpx.Auth,
        api_url: str = PRODUCTION.api_url,
        budget_s: float = 30.0,
        http_client: httpx.AsyncClient | None = None,
        token_store: TokenStore | None = None,
        on_refresh: Callable[[RefreshEvent], object] | None = None,
        origins: Iterable[str] | None = None,
        insecure_http: bool = False,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or SystemClock()
        origin = parse_origin(api_url, field="api_url", insecure_http=insecure_http)
        self.site_id: Final = site_id
        self._auth: Final = auth
        self._path: Final = CREATE.fill(site_id)
        self._url: Final = httpx.URL(f"{origin}{self._path}")
        self._http_client: Final = http_client
        self._within_s: Final = budget_s
        owner = auth.identity if isinstance(auth, BearerAuth) else store_key(str(id(auth)))
        key = store_key(str(self._url), owner, site_id)
        super().__init__(
            BearerOptions(
                origins=(str(origin),) if origins is None else origins,
                insecure_http=insecure_http,
                on_refresh=on_refresh,
                clock=clock,
            ),
            Policy(budget_s=budget_s),
            stored=None if token_store is None else StoredTokens(token_store, key, clock),
        )

    async def _fetch(self) -> Obtained | Failure:
        issued = self._clock.now()
        request = httpx.Request("POST", self._url, headers={"Accept": "application/json"})
        try:
            answer = await exchange(
                request,
                http_client=self._http_client,
                auth=self._auth,
                within_s=self._within_s,
            )
        except FlipError as error:
            # The other credential's trouble, which it remembers itself.
            return Failure(error, retryable=False, remembered=False)
        if isinstance(answer, Broken):
            unavailable = TokenUnavailableError(
                f"no site token from POST {self._path}: {answer.reason}"
            )
            return Failure(unavailable, retryable=True)
        if not answer.is_success:
            return self._read_refusal(answer)
        return self._read_token(answer, issued)

    def _read_refusal(self, answer: httpx.Response) -> Failure:
        status = answer.status_code
        error = errors.from_response(
            answer, method="POST", path=self._path, wall_now_s=self._clock.now().wall_s
        )
        retryable = status == 429 or status >= 500
        return Failure(error, retryable=retryable, retry_after_s=error.retry_after_s)

    def _read_token(self, answer: httpx.Response, issued: Instant) -> Obtained | Failure:
        document, reason = None, "site_access_token is no bearer token"
        try:
            document = decode(answer, SiteToken, method="POST", path=self._path)
        except DecodeError as error:
            reason = error.message  # the error itself carries the answer, and the token in it
        if document is None or not is_header_value(document.site_access_token):
            return Failure(TokenResponseError(f"POST {self._path}: {reason}"), retryable=False)
        # Both instants stand on Flip's clock; ours may differ from it.
        answered_at = parse_http_date(answer.headers.get("Date"))
        lifetime_s = LIFETIME_S
        if answered_at is not None:
            told_s = document.expires_at.timestamp() - answered_at
            lifetime_s = told_s if told_s > 0 else LIFETIME_S
        token = Token(
            access_token=Secret(document.site_access_token),
            issued_at=issued.wall_s,
            lifetime_s=lifetime_s,
        )
        return Obtained(token, issued)

    @property
    def identity(self) -> str:
        """Tells this credential from others, with no secret in it."""
        return store_key(str(self._url), self.site_id)

    def __repr__(self) -> str:
        return f"SiteTokenAuth({self.site_id!r}, auth={self._auth!r})"
