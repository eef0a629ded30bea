"""Tokens that all processes of a fleet share."""

import logging
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, final

import attrs

from flip_async._auth._sealing import EncryptionKey, TokenWriter, conceal_keys, name_of
from flip_async._auth._store import state_of
from flip_async._auth._token import Token
from flip_async._checks import check_clock, check_seconds, check_text
from flip_async._clock import Clock, SystemClock
from flip_async.redis._client import Key, RedisClient, Script
from flip_async.redis._metrics import watch

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

logger: Final = logging.getLogger("flip_async.redis")

_LOAD: Final = Script.load("token_load")
_SAVE: Final = Script.load("token_save")
_ACQUIRE: Final = Script.load("lock_acquire")
_RELEASE: Final = Script.load("lock_release")


@attrs.frozen(kw_only=True)
class TokenStoreStats:
    """What a token store has done in this process since it was made.

    Attributes:
        refreshes_avoided: How often a refresh took the store's token, and asked Flip for none.
        saved: How many tokens this process left there.
        is_degraded: Whether the store failed the last time, and each process has tokens of its
            own.
    """

    refreshes_avoided: int
    saved: int
    is_degraded: bool


@final
class RedisTokenStore:
    """Shares tokens between processes and machines by Redis or Valkey.

    A fleet signs in once: one process asks for a token, all others take it as soon as it is
    there. Where Redis is away, each takes a token of its own, and no request fails for it.

    One store may serve many clients, event loops and threads; a client of yours that is given
    belongs to one loop. `aclose()`, or leaving `async with`, closes the connections of the
    running loop, when the clients that use it are closed; used again, it opens new ones.

    Args:
        redis: A URL, or a client of `redis.asyncio` (a Sentinel's too, or a `RedisCluster`).
        namespace: What all names of keys begin with.
        encryption_keys: One or several keys as `cryptography.fernet.Fernet.generate_key()` gives
            them: the first encrypts, all decrypt. Without, whoever reads Redis reads tokens.
        clock: Time, for tests.

    Raises:
        ConfigurationError: The URL or the client is of no use, or `cryptography` is missing.
        InvalidArgumentError: Another argument cannot be what it is; no key is shown.
    """

    def __init__(
        self,
        redis: "str | Redis | RedisCluster",
        *,
        namespace: str = "flip",
        encryption_keys: EncryptionKey | Sequence[EncryptionKey] = (),
        clock: Clock | None = None,
    ) -> None:
        encryption_keys = conceal_keys(encryption_keys)  # type: ignore[assignment]  # no frame shows them
        check_clock(clock)
        self._writer: Final = TokenWriter(encryption_keys, extra="redis")
        self._client: Final = RedisClient(redis, namespace=namespace, name="tokens")
        self._clock: Final = SystemClock() if clock is None else clock
        self._saved = 0
        if not (self._writer.encrypts or self._client.is_private):
            logger.warning(
                "access tokens go to %s in plain, over a connection in plain: give the token store "
                "encryption_keys=, or a URL that begins with rediss://",
                self._client.where,
            )
        watch(self, "tokens")

    def measure(self) -> Mapping[str, float]:
        """What OpenTelemetry is told, where its API is installed."""
        stats = self.stats
        return {
            "flip_async.store.degraded": float(stats.is_degraded),
            "flip_async.token.refreshes_avoided": stats.refreshes_avoided,
        }

    @property
    def stats(self) -> TokenStoreStats:
        """What it has done, in this process."""
        state = state_of(self)
        return TokenStoreStats(
            refreshes_avoided=state.refreshes_avoided,
            saved=self._saved,
            is_degraded=state.away_s is not None,
        )

    async def load(self, key: str) -> Token | None:
        """The token kept under `key`, or `None`, also where what is kept is of no use.

        Raises:
            StorageError: Redis cannot be asked.
        """
        name = name_of(key)
        answer = await self._client.run(_LOAD, [self._token(name)])
        if answer is None:
            return None
        value, now = answer
        issued, _, text = value.partition(b":")
        if not issued.isdigit():
            self._writer.cannot_use("it cannot be read")
            return None
        lived_s = max(0.0, (int(now) - int(issued)) / 1000)
        return self._writer.read(name, text, issued_at=self._clock.wall() - lived_s)

    async def save(self, key: str, token: Token) -> None:
        """Keep a token under `key` for as long as it lives.

        Raises:
            StorageError: Redis cannot be asked, or is full.
        """
        name = name_of(key)
        lifetime_s = check_seconds(token.lifetime_s, field="lifetime_s")
        lived_s = max(0.0, self._clock.wall() - token.issued_at)
        lived_ms, left_ms = int(lived_s * 1000), int((lifetime_s - lived_s) * 1000)
        if left_ms > 0:
            await self._client.run(
                _SAVE,
                [self._token(name)],
                # No local of ours holds a token in plain, should this fail [B10].
                [self._writer.write(name, token), lived_ms, left_ms],
            )
            self._saved += 1

    async def acquire(self, key: str, *, owner: str, lease_s: float) -> bool:
        """Take the lock of `key`, renew it, or tell that somebody else has it.

        Raises:
            StorageError: Redis cannot be asked; the lock may be had.
        """
        lease_ms = max(1, int(check_seconds(lease_s, field="lease_s") * 1000))
        owner = check_text(owner, field="owner")
        answer = await self._client.run(_ACQUIRE, [self._lock(name_of(key))], [owner, lease_ms])
        return bool(answer)

    async def release(self, key: str, *, owner: str) -> None:
        """Give the lock of `key` back.

        Raises:
            StorageError: Redis cannot be asked.
        """
        owner = check_text(owner, field="owner")
        await self._client.run(_RELEASE, [self._lock(name_of(key))], [owner])

    def _token(self, name: str) -> Key:
        return self._client.key(f"token:{name}", "token")

    def _lock(self, name: str) -> Key:
        return self._client.key(f"token:{name}", "lock")

    async def aclose(self) -> None:
        """Close the connections of the running loop; a client that was given stays open."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        client = vars(self).get("_client")  # it may be half made
        return f"<RedisTokenStore {client.where}>" if client else "<RedisTokenStore half made>"
