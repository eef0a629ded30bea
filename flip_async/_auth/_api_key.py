"""API keys."""

import math
import os
from collections.abc import Iterable
from typing import Final

from flip_async._auth._bearer import BearerAuth
from flip_async._auth._credential import CredentialSource, ask
from flip_async._auth._decisions import Failure, Obtained, Policy
from flip_async._auth._store import store_key
from flip_async._auth._token import Token
from flip_async._checks import clean_bearer, conceal
from flip_async._clock import Clock, SystemClock
from flip_async._secret import Secret, digest
from flip_async._secret_file import SecretFile
from flip_async.errors import FlipError


class ApiKeyAuth(BearerAuth):
    """Signs requests with an API key (`fl_…`).

    Given a callable, it asks that for the key once, and again when the API answers 401;
    if the key has changed, the request is sent once more. So a key can be rotated in a
    secrets manager while the program runs.

    Args:
        key: The key, or a callable (sync or async) that gives it. A sync one runs in a
            thread; either has 30 s.
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
        key = conceal(key)  # type: ignore[assignment]  # no frame shows it from here on
        clock = SystemClock() if clock is None else clock
        source = _Keys(key if callable(key) else clean_bearer(key, field="api_key"), clock)
        super().__init__(
            source,
            Policy(repeat_same=False),
            renewable=source.callable is not None,
            origins=origins,
            insecure_http=insecure_http,
            clock=clock,
        )
        if source.static is not None:
            now = clock.now()
            self._refresher.life.refreshed(_token(source.static, now.wall_s), now, now)

    def __repr__(self) -> str:
        source = getattr(self, "_source", None)
        shown = source.callable if isinstance(source, _Keys) and source.callable else "***"
        return f"ApiKeyAuth({shown!r})"


class _Keys:
    """A key as a source of tokens: one that is always the same, or a callable's."""

    def __init__(self, key: Secret | CredentialSource, clock: Clock) -> None:
        self.static: Final = key if isinstance(key, Secret) else None
        self.callable: Final = None if isinstance(key, Secret) else key
        self._clock: Final = clock
        self.identity: Final = store_key("api_key", _which(key))

    async def fetch(self, within_s: float) -> Obtained | Failure:
        """Ask the callable."""
        issued = self._clock.now()
        secret = self.static
        if secret is None:
            assert self.callable is not None
            try:
                secret = await ask(
                    self.callable, field="api_key", clean=clean_bearer, within_s=within_s
                )
            except FlipError as error:
                return Failure(error, retryable=False)
        return Obtained(_token(secret, issued.wall_s), issued)


def _which(key: Secret | CredentialSource) -> str:
    if isinstance(key, SecretFile):
        return key.identity
    # What a callable will give nobody knows yet, so that it is shared with nobody.
    return digest(key) if isinstance(key, Secret) else os.urandom(16).hex()


def _token(secret: Secret, issued_at: float) -> Token:
    return Token(access_token=secret, issued_at=issued_at, lifetime_s=math.inf)
