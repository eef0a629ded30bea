"""The POST to the OAuth host: one attempt, and what it was worth."""

import base64
import json
from typing import Final, Literal
from urllib.parse import quote_plus, urlencode

import httpx

from flip_async._auth._credential import CredentialSource, ask
from flip_async._auth._decisions import Failure, Obtained
from flip_async._auth._own_requests import send_alone
from flip_async._auth._store import store_key
from flip_async._auth._token import Token, parse_token_response
from flip_async._backoff import retry_after_of
from flip_async._checks import clean_secret
from flip_async._clock import Clock
from flip_async._secret import Secret, scrub
from flip_async._transport._attempt import NoAnswer, Unreadable
from flip_async._transport._roads import HttpClient
from flip_async.errors import (
    FlipError,
    TokenRequestError,
    TokenResponseError,
    TokenUnavailableError,
)

ClientAuthMethod = Literal["client_secret_post", "client_secret_basic"]

_LONGEST_SERVER_TEXT: Final = 500


class TokenEndpoint:
    """Asks for access tokens with the client-credentials grant.

    What changes: the secret that a callable gave, kept until it is refused [A18].

    Source:
        RFC 6749 sections 2.3.1 and 4.4.
    """

    def __init__(
        self,
        url: httpx.URL,
        *,
        client_id: str,
        client_secret: Secret | CredentialSource,
        scope: str | None,
        client_auth: ClientAuthMethod,
        default_lifetime_s: float,
        http_client: HttpClient | None,
        clock: Clock,
    ) -> None:
        self._url: Final = url
        self._client_id: Final = client_id
        self._scope: Final = scope
        self._client_auth: Final = client_auth
        self._default_lifetime_s: Final = default_lifetime_s
        self._http_client: Final = http_client
        self._clock: Final = clock
        self._ask_for: CredentialSource | None = None
        self._secret: Secret | None = None
        if isinstance(client_secret, Secret):
            self._secret = client_secret
        else:
            self._ask_for = client_secret

    @property
    def identity(self) -> str:
        """Token URL, client id and scope."""
        return store_key(str(self._url), self._client_id, self._scope)

    async def fetch(self, within_s: float) -> Obtained | Failure:
        """Ask once, and once more with a secret that was rotated meanwhile."""
        end_s = self._clock.monotonic() + within_s
        result = await self._ask_with_secret(end_s)
        if self._ask_for is None or not _is_invalid_client(result):
            return result
        refused, self._secret = self._secret, None
        secret = await self._current_secret(end_s)
        if isinstance(secret, Failure):
            return secret
        return result if secret == refused else await self._ask(secret, end_s)

    async def _ask_with_secret(self, end_s: float) -> Obtained | Failure:
        secret = await self._current_secret(end_s)
        return secret if isinstance(secret, Failure) else await self._ask(secret, end_s)

    async def _current_secret(self, end_s: float) -> Secret | Failure:
        if self._secret is None:
            assert self._ask_for is not None
            try:
                self._secret = await ask(
                    self._ask_for,
                    field="client_secret",
                    clean=clean_secret,
                    within_s=self._left_s(end_s),
                )
            except FlipError as error:
                return Failure(error, retryable=False)
        return self._secret

    def _left_s(self, end_s: float) -> float:
        return max(0.0, end_s - self._clock.monotonic())

    async def _ask(self, secret: Secret, end_s: float) -> Obtained | Failure:
        issued = self._clock.now()
        within_s = self._left_s(end_s)
        echoed = self._echoed(secret)
        try:
            result = await send_alone(
                self._request(secret), self._http_client, within_s, self._clock, *echoed
            )
        except FlipError as error:  # of the environment
            return Failure(error, retryable=False)
        if isinstance(result, NoAnswer):
            return Failure(self._unavailable(result.reason), retryable=result.is_worth_repeating)
        if isinstance(result, Unreadable):
            return Failure(TokenResponseError(f"{self._url}: {result.reason}"), retryable=False)
        if not result.is_success:
            return self._read_refusal(result, echoed)
        token = parse_token_response(
            result.content,
            issued_at=issued.wall_s,
            default_lifetime_s=self._default_lifetime_s,
        )
        if isinstance(token, Token):
            return Obtained(token, issued)
        return Failure(token, retryable=False)

    def _request(self, secret: Secret) -> httpx.Request:
        form = {"grant_type": "client_credentials"}
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        if self._client_auth == "client_secret_basic":
            headers["Authorization"] = f"Basic {self._basic(secret).reveal()}"
        else:
            form |= {"client_id": self._client_id, "client_secret": secret.reveal()}
        if self._scope is not None:
            form["scope"] = self._scope
        return httpx.Request(
            "POST", self._url, headers=headers, content=urlencode(form).encode("ascii")
        )

    def _basic(self, secret: Secret) -> Secret:
        pair = f"{quote_plus(self._client_id)}:{quote_plus(secret.reveal())}"
        return Secret(base64.b64encode(pair.encode()).decode())

    def _echoed(self, secret: Secret) -> tuple[Secret, ...]:
        """What a server may echo of the credential."""
        plain = f"{self._client_id}:{secret.reveal()}"
        pair = Secret(base64.b64encode(plain.encode()).decode())
        return (self._basic(secret), pair, secret)

    def _read_refusal(self, answer: httpx.Response, echoed: tuple[Secret, ...]) -> Failure:
        status = answer.status_code
        if status == 429 or status >= 500:
            retry_after_s = retry_after_of(answer.headers, self._clock.now().wall_s)
            error = self._unavailable(f"it answered {status}", retry_after_s)
            return Failure(error, retryable=True, retry_after_s=retry_after_s)
        return Failure(self._refused(answer, echoed), retryable=False)

    def _unavailable(
        self, reason: str, retry_after_s: float | None = None
    ) -> TokenUnavailableError:
        return TokenUnavailableError(
            f"no token from {self._url}: {reason}", retry_after_s=retry_after_s
        )

    def _refused(self, answer: httpx.Response, echoed: tuple[Secret, ...]) -> TokenRequestError:
        document = _object_or_empty(answer.content)

        def text(name: str) -> str | None:
            value = document.get(name)
            # Scrubbed before it is cut: half a secret is found by nobody.
            return scrub(value, *echoed)[:_LONGEST_SERVER_TEXT] if isinstance(value, str) else None

        error, description = text("error"), text("error_description")
        says = ": ".join(part for part in (error, description) if part)
        return TokenRequestError(
            f"{self._url} refused to give a token ({answer.status_code})"
            + (f": {says}" if says else ""),
            status_code=answer.status_code,
            error=error,
            error_description=description,
            error_uri=text("error_uri"),
        )


def _is_invalid_client(result: Obtained | Failure) -> bool:
    return (
        isinstance(result, Failure)
        and isinstance(result.error, TokenRequestError)
        and result.error.error == "invalid_client"
    )


def _object_or_empty(content: bytes) -> dict[str, object]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
