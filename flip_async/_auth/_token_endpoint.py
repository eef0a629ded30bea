"""The POST to the OAuth host: one attempt, and what it was worth."""

import base64
import json
from typing import Final, Literal
from urllib.parse import quote_plus, urlencode

import httpx

from flip_async._auth._credential import CredentialSource, ask, clean_text
from flip_async._auth._decisions import Failure
from flip_async._auth._store import Obtained
from flip_async._auth._token import parse_token_response
from flip_async._backoff import parse_retry_after
from flip_async._clock import Clock, Instant
from flip_async._secret import Secret, scrub
from flip_async._transport._attempt import Broken, exchange
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

    Source:
        RFC 6749 sections 2.3.1 and 4.4.
    """

    def __init__(
        self,
        url: httpx.URL,
        *,
        client_id: str,
        client_secret: str | CredentialSource,
        scope: str | None,
        client_auth: ClientAuthMethod,
        default_lifetime_s: float,
        http_client: httpx.AsyncClient | None,
        within_s: float,
        clock: Clock,
    ) -> None:
        self._url: Final = url
        self._client_id: Final = client_id
        self._scope: Final = scope
        self._client_auth: Final = client_auth
        self._default_lifetime_s: Final = default_lifetime_s
        self._http_client: Final = http_client
        self._within_s: Final = within_s
        self._clock: Final = clock
        self._source: CredentialSource | None = None
        self._secret: Secret | None = None  # asked for once, kept until it is refused [A18]
        if callable(client_secret):
            self._source = client_secret
        else:
            self._secret = Secret(clean_text(client_secret, field="client_secret"))

    async def attempt(self) -> Obtained | Failure:
        """Ask once, and once more with a secret that was rotated meanwhile."""
        result = await self._ask_with_secret()
        if self._source is None or not _is_invalid_client(result):
            return result
        refused, self._secret = self._secret, None
        secret = await self._current_secret()
        if isinstance(secret, Failure):
            return secret
        return result if secret == refused else await self._ask(secret)

    async def _ask_with_secret(self) -> Obtained | Failure:
        secret = await self._current_secret()
        return secret if isinstance(secret, Failure) else await self._ask(secret)

    async def _current_secret(self) -> Secret | Failure:
        if self._secret is None:
            assert self._source is not None
            try:
                text = await ask(self._source, field="client_secret")
                self._secret = Secret(clean_text(text, field="client_secret"))
            except FlipError as error:
                return Failure(error, retryable=False)
        return self._secret

    async def _ask(self, secret: Secret) -> Obtained | Failure:
        issued = self._clock.now()
        answer = await exchange(
            self._request(secret),
            http_client=self._http_client,
            auth=None,
            within_s=self._within_s,
        )
        if isinstance(answer, Broken):
            return Failure(self._unavailable(answer.reason), retryable=True)
        if answer.is_success:
            return self._read_token(answer, issued)
        return self._read_refusal(answer, secret)

    def _request(self, secret: Secret) -> httpx.Request:
        form = {"grant_type": "client_credentials"}
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        if self._client_auth == "client_secret_basic":
            pair = f"{quote_plus(self._client_id)}:{quote_plus(secret.reveal())}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": self._client_id, "client_secret": secret.reveal()}
        if self._scope is not None:
            form["scope"] = self._scope
        return httpx.Request(
            "POST", self._url, headers=headers, content=urlencode(form).encode("ascii")
        )

    def _read_token(self, answer: httpx.Response, issued: Instant) -> Obtained | Failure:
        try:
            token = parse_token_response(
                answer.content,
                issued_at=issued.wall_s,
                default_lifetime_s=self._default_lifetime_s,
            )
        except TokenResponseError as error:
            return Failure(error, retryable=False)
        return Obtained(token, issued)

    def _read_refusal(self, answer: httpx.Response, secret: Secret) -> Failure:
        status = answer.status_code
        if status == 429 or status >= 500:
            retry_after_s = parse_retry_after(
                answer.headers.get("Retry-After"), self._clock.now().wall_s
            )
            error = self._unavailable(f"it answered {status}", retry_after_s)
            return Failure(error, retryable=True, retry_after_s=retry_after_s)
        return Failure(self._refused(answer, secret), retryable=False)

    def _unavailable(
        self, reason: str, retry_after_s: float | None = None
    ) -> TokenUnavailableError:
        return TokenUnavailableError(
            f"no token from {self._url}: {reason}", retry_after_s=retry_after_s
        )

    def _refused(self, answer: httpx.Response, secret: Secret) -> TokenRequestError:
        document = _object_or_empty(answer.content)

        def text(name: str) -> str | None:
            value = document.get(name)
            if not isinstance(value, str):
                return None
            encoded = Secret(quote_plus(secret.reveal()))
            return scrub(value[:_LONGEST_SERVER_TEXT], secret, encoded)

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
