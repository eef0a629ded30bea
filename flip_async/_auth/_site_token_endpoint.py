"""The POST that gives a site's token: one attempt, made with another credential."""

from typing import Final

import httpx

from flip_async import errors
from flip_async._auth._decisions import Failure, Obtained
from flip_async._auth._own_requests import send_alone
from flip_async._auth._store import store_key
from flip_async._auth._token import Token
from flip_async._backoff import parse_http_date
from flip_async._checks import is_bearer
from flip_async._clock import Clock, Instant
from flip_async._endpoint import Endpoint
from flip_async._environment import Origin
from flip_async._secret import Secret
from flip_async._transport._attempt import NoAnswer, SendSigned, Unreadable
from flip_async._transport._roads import HttpClient
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


class SiteTokenEndpoint:
    """Asks for a site's tokens.

    Source:
        https://docs.flip.energy/api-6038135
    """

    def __init__(
        self,
        site_id: str,
        origin: Origin,
        *,
        sign: SendSigned,
        owner: str,
        http_client: HttpClient | None,
        clock: Clock,
    ) -> None:
        self._path: Final = CREATE.fill(site_id)
        self._url: Final = httpx.URL(f"{origin}{self._path}")
        self._sign: Final = sign
        self._http_client: Final = http_client
        self._clock: Final = clock
        self.identity: Final = store_key(str(self._url), owner, site_id)

    async def fetch(self, within_s: float) -> Obtained | Failure:
        """Ask once."""
        issued = self._clock.now()
        request = httpx.Request("POST", self._url, headers={"Accept": "application/json"})
        try:
            result = await send_alone(
                request, self._http_client, within_s, self._clock, sign=self._sign
            )
        except FlipError as error:
            # The other credential's trouble, which it remembers itself.
            return Failure(error, retryable=False, remembered=False)
        if isinstance(result, NoAnswer):
            unavailable = TokenUnavailableError(
                f"no site token from POST {self._path}: {result.reason}"
            )
            return Failure(unavailable, retryable=result.is_worth_repeating)
        if isinstance(result, Unreadable):
            return self._odd(result.reason)
        if not result.is_success:
            return self._read_refusal(result)
        return self._read_token(result, issued)

    def _odd(self, reason: str) -> Failure:
        return Failure(TokenResponseError(f"POST {self._path}: {reason}"), retryable=False)

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
        if document is None or not is_bearer(document.site_access_token):
            return self._odd(reason)
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
