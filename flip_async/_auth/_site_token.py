"""Site tokens: one hour, one site."""

from collections.abc import Iterable
from typing import Final

import httpx

from flip_async._auth._bearer import BearerAuth
from flip_async._auth._decisions import Age, Policy
from flip_async._auth._refresher import OnRefresh
from flip_async._auth._signing import identity_of, signer_of
from flip_async._auth._site_token_endpoint import SiteTokenEndpoint
from flip_async._auth._store import TokenStore
from flip_async._checks import check_flag, check_kind, check_seconds
from flip_async._clock import Clock, Instant, SystemClock
from flip_async._environment import PRODUCTION, parse_origin
from flip_async._transport._roads import HttpClient, check_http_client
from flip_async.errors import FlipError


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
            opens and closes a connection of its own.
        token_store: Shares tokens with other auth objects or processes that have the same
            credential.
        on_refresh: Called with a `RefreshEvent` after every try to get a token; may be async.
        origins: API origins that the token may go to; by default that of `api_url`.
        insecure_http: Allow `http` beyond loopback, for an emulator on a private network.
        clock: Time and luck, for tests.

    Raises:
        InvalidArgumentError: `site_id` cannot stand in a path, or another argument cannot be
            what it is.
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
        http_client: HttpClient | None = None,
        token_store: TokenStore | None = None,
        on_refresh: OnRefresh | None = None,
        origins: Iterable[str] | None = None,
        insecure_http: bool = False,
        clock: Clock | None = None,
    ) -> None:
        check_flag(insecure_http, field="insecure_http")
        check_kind(auth, httpx.Auth, field="auth")
        check_http_client(http_client)
        clock = SystemClock() if clock is None else clock
        origin = parse_origin(api_url, field="api_url", insecure_http=insecure_http)
        self.site_id: Final = site_id
        self._auth: Final = auth
        super().__init__(
            SiteTokenEndpoint(
                site_id,
                origin,
                sign=signer_of(auth),
                owner=identity_of(auth),
                http_client=http_client,
                clock=clock,
            ),
            Policy(budget_s=check_seconds(budget_s, field="budget_s")),
            origins=(str(origin),) if origins is None else origins,
            insecure_http=insecure_http,
            token_store=token_store,
            on_refresh=on_refresh,
            clock=clock,
        )

    @property
    def trouble(self) -> FlipError | None:
        """Why there is no valid token at hand; it may be the other credential's trouble."""
        own = super().trouble
        if own is not None or not isinstance(self._auth, BearerAuth):
            return own
        age = self._refresher.life.age(Instant(self._monotonic(), self._wall()))
        return self._auth.trouble if age in (Age.ABSENT, Age.EXPIRED) else None

    def __repr__(self) -> str:
        known = vars(self)  # it may be half made
        return f"SiteTokenAuth({known.get('site_id')!r}, auth={known.get('_auth')!r})"
