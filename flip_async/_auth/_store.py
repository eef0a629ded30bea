"""Where tokens are kept, should they outlive one auth object."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol, final

import attrs

from flip_async._aio._per_loop import PerLoop
from flip_async._auth._decisions import Failure
from flip_async._auth._token import Token
from flip_async._clock import Clock, Instant
from flip_async._secret import Secret

logger: Final = logging.getLogger("flip_async.auth")

LARGEST_MARGIN_S: Final = 30.0


class TokenStore(Protocol):
    """Keeps tokens where other auth objects, or other processes, find them.

    A token knows its life by Unix time (`Token.issued_at`, `Token.lifetime_s`), so it can
    be kept anywhere. Whatever a method raises is logged and costs no request: the
    refresh then goes on without the store [A20].
    """

    async def load(self, key: str) -> Token | None:
        """The token kept under `key`, or `None`; an expired one may be given or not."""
        ...

    async def save(self, key: str, token: Token) -> None:
        """Keep a token under `key` in place of the one that is there."""
        ...

    def lock(self, key: str) -> AbstractAsyncContextManager[object]:
        """Let one at a time into `load`, token request and `save`."""
        ...


@final
class MemoryTokenStore:
    """Shares tokens between the auth objects of one process.

    It may serve several event loops; with loops in two threads, one refresh for each
    loop is the worst that happens.
    """

    def __init__(self) -> None:
        self._tokens: Final[dict[str, Token]] = {}
        self._locks: Final[PerLoop[dict[str, asyncio.Lock]]] = PerLoop(dict)

    async def load(self, key: str) -> Token | None:
        """The token kept under `key`, or `None`."""
        return self._tokens.get(key)

    async def save(self, key: str, token: Token) -> None:
        """Keep a token under `key`."""
        self._tokens[key] = token

    def lock(self, key: str) -> AbstractAsyncContextManager[object]:
        """A lock for each key and event loop."""
        return self._locks.get().setdefault(key, asyncio.Lock())

    def __repr__(self) -> str:
        return f"MemoryTokenStore({len(self._tokens)} tokens)"


def store_key(*parts: str | None) -> str:
    """One text for what tells one token from another; no part may be a secret."""
    return json.dumps(parts)


@attrs.frozen
class Obtained:
    """A token that was had, and the moment from which its life counts on our clocks."""

    token: Token
    issued: Instant


@attrs.frozen
class StoredTokens:
    """One key of a store, as a refresh uses it."""

    store: TokenStore
    key: str
    clock: Clock

    async def obtain(
        self, fetch: Callable[[], Awaitable[Obtained | Failure]], *, replaced: Iterable[Secret]
    ) -> Obtained | Failure:
        """Take the store's token, or fetch one and keep it; the lock covers both."""
        result: Obtained | Failure | None = None
        try:
            async with self.store.lock(self.key):
                token = await self.store.load(self.key)
                if token is not None and token.access_token not in replaced:
                    result = self._on_our_clocks(token)
                if result is None:
                    result = await fetch()
                    if isinstance(result, Obtained):
                        await self.store.save(self.key, result.token)
        except Exception as error:  # somebody else's code: it must not cost a request
            logger.warning("the token store failed (%s): going on without", type(error).__name__)
        return result if result is not None else await fetch()

    def _on_our_clocks(self, token: Token) -> Obtained | None:
        now = self.clock.now()
        margin_s = min(LARGEST_MARGIN_S, token.lifetime_s * 0.1)
        if token.expires_at - margin_s <= now.wall_s:
            return None
        age_s = max(0.0, now.wall_s - token.issued_at)
        return Obtained(token, Instant(now.monotonic_s - age_s, now.wall_s - age_s))
