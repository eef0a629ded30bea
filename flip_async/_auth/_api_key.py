"""API keys."""

import hashlib
import math
from collections.abc import Iterable
from typing import Final

from flip_async._auth._bearer import BearerAuth, BearerOptions
from flip_async._auth._credential import CredentialSource, ask, clean_bearer
from flip_async._auth._decisions import Failure, Policy
from flip_async._auth._store import Obtained, store_key
from flip_async._auth._token import Token
from flip_async._clock import Clock, SystemClock
from flip_async._secret import Secret
from flip_async.errors import FlipError


class ApiKeyAuth(BearerAuth):
    """Signs requests with an API key (`fl_…`).

    Given a callable, it asks that for the key once, and again when the API answers 401;
    if the key has changed, the request is sent once more. So a key can be rotated in a
    secrets manager while the program runs.

    Args:
        key: The key, or a callable (sync or async) that gives it. A sync one runs in a
            thread.
        origins: API origins that the key may go to; by default Flip's own.
        insecure_http: Allow `http` beyond loopback, for an emulator on a private network.
        clock: Time and luck, for tests.

    Raises:
        ConfigurationError: The key cannot stand in a header; the error does not show it.

    Source:
        RFC 6750 section 2.1; https://new-docs.flip.energy/authentication.
    """

    def __init__(
        self,
        key: str | CredentialSource,
        *,
        origins: Iterable[str] | None = None,
        insecure_http: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._source: Final = key if callable(key) else None
        self._static: Final = None if callable(key) else clean_bearer(key, field="api_key")
        super().__init__(
            BearerOptions(
                origins=origins, insecure_http=insecure_http, clock=clock or SystemClock()
            ),
            Policy(repeat_same=False),
            renewable=self._source is not None,
        )
        if self._static is not None:
            now = self._clock.now()
            self._supply.life.refreshed(self._token(self._static, now.wall_s), now, now)

    async def _fetch(self) -> Obtained | Failure:
        issued = self._clock.now()
        secret = self._static
        if secret is None:
            assert self._source is not None
            try:
                secret = clean_bearer(await ask(self._source, field="api_key"), field="api_key")
            except FlipError as error:
                return Failure(error, retryable=False)
        return Obtained(self._token(secret, issued.wall_s), issued)

    def _token(self, secret: Secret, issued_at: float) -> Token:
        return Token(access_token=secret, issued_at=issued_at, lifetime_s=math.inf)

    @property
    def identity(self) -> str:
        """Tells this credential from others, with no secret in it."""
        if self._static is None:
            return store_key("api_key", str(id(self)))
        digest = hashlib.sha256(self._static.reveal().encode()).hexdigest()
        return store_key("api_key", digest)

    def __repr__(self) -> str:
        return f"ApiKeyAuth({'***' if self._static is not None else self._source!r})"
