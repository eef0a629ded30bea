"""Where tokens are kept, should they outlive one auth object."""

import asyncio
import json
import logging
import os
import weakref
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol, TypeVar, final

import attrs

from flip_async._aio._callbacks import UserCodeError, limited
from flip_async._aio._tasks import detached, running_loop
from flip_async._auth._decisions import Failure, Obtained
from flip_async._auth._token import Token
from flip_async._backoff import doubled
from flip_async._checks import check_methods
from flip_async._clock import Clock, Instant, SystemClock
from flip_async._secret import Secret, shape
from flip_async.errors import FlipError, TokenUnavailableError

logger: Final = logging.getLogger("flip_async.auth")
T = TypeVar("T")

LARGEST_MARGIN_S: Final = 30.0
CALL_LIMIT_S: Final = 5.0
LEASE_S: Final = 10.0
_RENEW_S: Final = 3.0
_LOOK_S, _LOOK_CAP_S = 0.05, 0.25
_AWAY_S, _AWAY_CAP_S = 5.0, 60.0


class TokenStore(Protocol):
    """Keeps tokens where other auth objects, or other processes, find them.

    A token knows its life by Unix time (`Token.issued_at`, `Token.lifetime_s`), and
    `Token.to_dict` is what can be written down of it. Each call has 5 s; whatever a method
    raises is logged and costs no request: the refresh then goes on without the store.
    """

    async def load(self, key: str) -> Token | None:
        """The token kept under `key`, or `None`; an expired one may be given or not.

        Its `issued_at` is on the reader's clock: now less its age.

        Args:
            key: What tells one token from another; it holds no secret.

        Returns:
            The token, or `None` where there is none.
        """
        ...

    async def save(self, key: str, token: Token) -> None:
        """Keep a token under `key` in place of the one that is there.

        Args:
            key: What tells one token from another; it holds no secret.
            token: The token.
        """
        ...

    async def acquire(self, key: str, *, owner: str, lease_s: float) -> bool:
        """Take the lock of `key` for so many seconds, or tell that somebody else has it.

        It never waits. Its owner renews by it.

        Args:
            key: What tells one token from another; it holds no secret.
            owner: Who asks.
            lease_s: How long it holds where it is not renewed, in seconds.

        Returns:
            Whether the owner has it now.
        """
        ...

    async def release(self, key: str, *, owner: str) -> None:
        """Give the lock of `key` back; where another owner has it, do nothing.

        Args:
            key: What tells one token from another; it holds no secret.
            owner: Who had it.
        """
        ...


@final
class MemoryTokenStore:
    """Shares tokens between the auth objects of one process, whatever loops they work in.

    Args:
        clock: Time, for tests.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock: Final = SystemClock() if clock is None else clock
        self._tokens: Final[dict[str, Token]] = {}
        self._locks: Final[dict[str, tuple[str, float]]] = {}  # owner, and until when

    async def load(self, key: str) -> Token | None:
        """The token kept under `key`, or `None`."""
        return self._tokens.get(key)

    async def save(self, key: str, token: Token) -> None:
        """Keep a token under `key`."""
        self._tokens[key] = token

    async def acquire(self, key: str, *, owner: str, lease_s: float) -> bool:
        """Take the lock of `key`, or tell that somebody else has it."""
        now_s = self._clock.monotonic()
        holder, until_s = self._locks.get(key, (owner, now_s))
        if holder != owner and now_s < until_s:
            return False
        self._locks[key] = (owner, now_s + lease_s)
        return True

    async def release(self, key: str, *, owner: str) -> None:
        """Give the lock of `key` back."""
        if self._locks.get(key, ("", 0.0))[0] == owner:
            del self._locks[key]

    def __repr__(self) -> str:
        return f"MemoryTokenStore({len(self._tokens)} tokens)"


def check_store(store: object, *, field: str = "token_store") -> None:
    """Refuse what is no `TokenStore`; `None` passes."""
    check_methods(store, ("load", "save", "acquire", "release"), field=field)


def store_key(*parts: str | None) -> str:
    """One text for what tells one token from another; no part may be a secret."""
    return json.dumps(parts)


class StoreAwayError(Exception):
    """The store did not do what it was asked: go on without."""


@attrs.define(eq=False)
class StoreState:
    """What this process knows of a store, whichever keys are asked for.

    What changes: until when it is left alone, and for how long then; how many token requests it
    spared. Threads may both change it, and then one of them asks once too often.
    """

    away_until_s: float = 0.0  # monotonic
    away_s: float | None = None
    refreshes_avoided: int = 0

    def failed(self, reason: str, now_s: float) -> None:
        """Leave it alone; what fails beside what was told of is not told again."""
        if now_s < self.away_until_s:
            return
        level = logging.WARNING if self.away_s is None else logging.INFO
        self.away_s = doubled(self.away_s, first_s=_AWAY_S, cap_s=_AWAY_CAP_S)
        self.away_until_s = now_s + self.away_s
        logger.log(
            level, "the token store failed (%s): going on without, for %g s", reason, self.away_s
        )

    def worked(self) -> None:
        """It answers, again perhaps."""
        if self.away_s is not None:
            self.away_s = None
            logger.info("the token store is back")


_states: Final[weakref.WeakKeyDictionary[object, StoreState]] = weakref.WeakKeyDictionary()


def state_of(store: TokenStore) -> StoreState:
    """The one that all auths of this process share for a store."""
    try:
        return _states.setdefault(store, StoreState())
    except TypeError:  # a user's, that can be no key: each auth finds out for itself
        return StoreState()


Fetch = Callable[[float], Awaitable[Obtained | Failure]]


@attrs.define
class StoredTokens:
    """One key of a store, as a refresh uses it [F1].

    Whoever has the lock asks for a token; whoever has not looks again and again, and takes the
    token as soon as it is there. A store that fails is left alone for a while.

    What changes: what is known of the store; what is still to be saved and released, each in its
    own loop.
    """

    store: TokenStore
    key: str
    clock: Clock
    _state: StoreState = attrs.field(
        init=False, default=attrs.Factory(lambda self: state_of(self.store), takes_self=True)
    )
    _endings: set[asyncio.Task[None]] = attrs.field(init=False, factory=set)

    async def obtain(
        self, fetch: Fetch, *, replaced: Iterable[Secret], within_s: float
    ) -> Obtained | Failure:
        """Take the store's token, or fetch one under its lock."""
        if self.clock.monotonic() < self._state.away_until_s:
            return await fetch(within_s)
        end_s = self.clock.monotonic() + within_s
        lock = _Lock()
        to_save: Token | None = None
        try:
            found = await self._look_or_lock(lock, replaced, end_s)
            if found is None:
                left_s = max(0.0, end_s - self.clock.monotonic())
                found = await self._fetch(fetch, lock, left_s)
                to_save = found.token if isinstance(found, Obtained) else None
            elif isinstance(found, Obtained):
                self._state.refreshes_avoided += 1
            return found
        finally:
            # Whichever way it ends, and where nobody knows whether the lock was had too. Beside
            # whoever waits: a token is in use before it is saved.
            if lock.asking is not None:
                self._end(lock, to_save if lock.is_held else None)

    async def finish(self) -> None:
        """Wait for what is still to be saved and released in this loop; not for long."""
        here = running_loop()
        endings = {task for task in self._endings if task.get_loop() is here}
        if endings:
            await asyncio.wait(endings, timeout=CALL_LIMIT_S)

    async def _look_or_lock(
        self, lock: "_Lock", replaced: Iterable[Secret], end_s: float
    ) -> Obtained | Failure | None:
        """The store's token; `None` where the lock is had, or the store does not answer."""
        try:
            found = await self._look(replaced)
            pause_s = _LOOK_S
            while found is None and not lock.is_held:
                lock.is_held = await self._acquire(lock)
                if not lock.is_held:
                    left_s = end_s - self.clock.monotonic()
                    if left_s <= 0:
                        return _held_too_long()
                    jittered_s = pause_s * (0.75 + self.clock.random() / 2)
                    await self.clock.sleep(min(left_s, jittered_s))
                    pause_s = min(pause_s * 1.5, _LOOK_CAP_S)
                found = await self._look(replaced)
        except StoreAwayError as error:
            self._is_away(error)
            return None
        self._state.worked()
        return found

    async def _fetch(self, fetch: Fetch, lock: "_Lock", within_s: float) -> Obtained | Failure:
        if not lock.is_held:
            return await fetch(within_s)
        renewing = detached(self._renew(lock))
        try:
            return await fetch(within_s)
        finally:
            renewing.cancel()

    async def _renew(self, lock: "_Lock") -> None:
        try:
            while True:
                await self.clock.sleep(_RENEW_S)
                await self._acquire(lock)
        except StoreAwayError as error:
            self._is_away(error)

    async def _acquire(self, lock: "_Lock") -> bool:
        # A task of its own: whoever is cancelled here knows nothing, and one that is still under
        # way must not overtake the release, or a lock that nobody has would hold all others up.
        lock.asking = detached(self._ask_for(lock.owner))
        await asyncio.wait({lock.asking})
        if lock.asking.cancelled():
            raise StoreAwayError("somebody ended its task")
        return lock.asking.result()

    async def _ask_for(self, owner: str) -> bool:
        store, key = self.store, self.key
        return await self._call(lambda: store.acquire(key, owner=owner, lease_s=LEASE_S))

    def _end(self, lock: "_Lock", token: Token | None) -> None:
        ending = detached(self._save_and_release(lock, token))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def _save_and_release(self, lock: "_Lock", token: Token | None) -> None:
        if token is not None:
            await self._try(lambda: self.store.save(self.key, token))
        if lock.asking is not None:
            await asyncio.wait({lock.asking})
        await self._try(lambda: self.store.release(self.key, owner=lock.owner))

    async def _try(self, call: Callable[[], Awaitable[None]]) -> None:
        try:
            await self._call(call)
        except StoreAwayError as error:
            self._is_away(error)

    async def _look(self, replaced: Iterable[Secret]) -> Obtained | None:
        token = await self._call(lambda: self.store.load(self.key))
        if token is not None and not isinstance(token, Token):
            raise StoreAwayError(f"load gave {shape(token)}, not a Token")
        if token is None or token.access_token in replaced:
            return None
        return self._on_our_clocks(token)

    async def _call(self, call: Callable[[], Awaitable[T]]) -> T:
        # Somebody else's code: it must not cost a request.
        try:
            return await limited(call, within_s=CALL_LIMIT_S)
        except (UserCodeError, FlipError) as error:  # in our words, which show nothing
            reason = str(error)
        except Exception as error:
            reason = type(error).__name__
        raise StoreAwayError(reason)

    def _is_away(self, error: StoreAwayError) -> None:
        self._state.failed(str(error), self.clock.monotonic())

    def _on_our_clocks(self, token: Token) -> Obtained | None:
        now = self.clock.now()
        margin_s = min(LARGEST_MARGIN_S, token.lifetime_s * 0.1)
        if token.expires_at - margin_s <= now.wall_s:
            return None
        age_s = max(0.0, now.wall_s - token.issued_at)
        return Obtained(token, Instant(now.monotonic_s - age_s, now.wall_s - age_s))


@attrs.define
class _Lock:
    """What is known of the store's lock, in one refresh.

    Attributes:
        owner: Who has it, if it is had.
        asking: The last time that it was asked for.
        is_held: Whether it was had.
    """

    owner: str = attrs.field(factory=lambda: os.urandom(8).hex())
    asking: asyncio.Task[bool] | None = None
    is_held: bool = False


def _held_too_long() -> Failure:
    error = TokenUnavailableError("whoever has the token store's lock got no token in time")
    return Failure(error, retryable=True)
