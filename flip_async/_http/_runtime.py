"""What all views of a client share: connections, credentials, and what runs."""

import asyncio
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Final, TypeVar

import anyio
import httpx

from flip_async._auth._bearer import BearerAuth
from flip_async._auth._site_token import SiteTokenAuth
from flip_async._clock import Clock
from flip_async._environment import Environment
from flip_async._http._retry import RetryBudget
from flip_async._http._tracing import make_tracing
from flip_async._version import __version__
from flip_async.errors import ClientClosedError

T = TypeVar("T")
SITE_TOKENS_KEPT: Final = 1000


class Core:
    """Keeps what changes; everything else about a client is frozen.

    Only the event loop that the client works in may touch it.
    """

    def __init__(
        self,
        *,
        environment: Environment,
        api_url: str,
        http: httpx.AsyncClient,
        owns_http: bool,
        carries_tokens: bool,
        clock: Clock,
        budget: RetryBudget,
    ) -> None:
        self.closed = False
        self.in_use = False
        self.environment: Final = environment
        self.api_url: Final = api_url
        self.tracing: Final = make_tracing(api_url, __version__)
        self.http: Final = http
        self.owns_http: Final = owns_http
        self.carries_tokens: Final = carries_tokens  # for the auths that we make
        self.clock: Final = clock
        self.budget: Final = budget
        self.site_tokens: Final = SiteTokens(self)
        # Weak: a view with a credential of its own may come and go with every request.
        self.owned_auths: Final[weakref.WeakSet[BearerAuth]] = weakref.WeakSet()
        self._calls: Final[set[asyncio.Timeout]] = set()
        self._tasks: Final[set[asyncio.Task[object]]] = set()

    def check_open(self) -> None:
        """Refuse to work once closed.

        Raises:
            ClientClosedError: It is.
        """
        if self.closed:
            raise ClientClosedError("this client is closed: make another one")
        if self.http.is_closed:
            raise ClientClosedError("the http_client that was given is closed")
        self.in_use = True

    def began(self, call: asyncio.Timeout) -> None:
        """A call runs; `aclose()` will end it."""
        self._calls.add(call)

    def ended(self, call: asyncio.Timeout) -> None:
        """A call is over."""
        self._calls.discard(call)

    def spawn(self, job: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Run a job that makes calls and outlives the one that begins it."""
        task = asyncio.get_running_loop().create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def aclose(self) -> None:
        """End what runs and close what is ours; a second time does nothing."""
        if self.closed:
            return
        self.closed = True
        now = asyncio.get_running_loop().time()
        for call in list(self._calls):
            if not call.expired():
                call.reschedule(now)
        with anyio.CancelScope(shield=True):
            # Each is inside a call that was just ended, or about to find the client closed.
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self.site_tokens.aclose()
            for auth in list(self.owned_auths):
                await auth.aclose()
            if self.owns_http:
                await self.http.aclose()

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if self.in_use and not self.closed:
            _warn(
                f"unclosed Flip client for {self.api_url}: use `async with`, or "
                "`await client.aclose()`",
                ResourceWarning,
                source=self,
            )


class SiteTokens:
    """One auth for each credential and site, so that asking again costs nothing [A19].

    A bounded number of them is kept; one that a view holds is found as long as it does.
    """

    def __init__(self, core: Core, *, kept: int = SITE_TOKENS_KEPT) -> None:
        self._core: Final = weakref.ref(core)
        self._kept: Final = kept
        self._recent: Final[OrderedDict[tuple[int, str], SiteTokenAuth]] = OrderedDict()
        self._alive: Final[weakref.WeakValueDictionary[tuple[int, str], SiteTokenAuth]] = (
            weakref.WeakValueDictionary()
        )

    def get(self, site_id: str, auth: httpx.Auth) -> SiteTokenAuth:
        """The auth of a site, whose tokens are asked for with `auth`."""
        # The id of an object is its own only while it lives: the site's auth keeps it alive.
        key = (id(auth), site_id)
        site_auth = self._alive.get(key)
        if site_auth is None:
            core = self._core()
            assert core is not None  # a session that asks holds it
            site_auth = self._alive[key] = SiteTokenAuth(
                site_id,
                auth=auth,
                api_url=core.api_url,
                insecure_http=core.environment.insecure_http,
                http_client=core.http,
                clock=core.clock,
            )
        self._recent[key] = site_auth
        self._recent.move_to_end(key)
        if len(self._recent) > self._kept * 1.1:  # now and then, as it looks at all of them
            self._let_go()
        return site_auth

    def _let_go(self) -> None:
        surplus = len(self._recent) - self._kept
        idle = [key for key, auth in self._recent.items() if auth.is_idle]
        resting = [key for key, auth in self._recent.items() if not auth.is_busy]
        for key in dict.fromkeys(idle + resting):
            if surplus <= 0:
                break
            del self._recent[key]
            surplus -= 1

    async def aclose(self) -> None:
        """End the refreshes that run."""
        for auth in list(self._alive.values()):
            await auth.aclose()
        self._recent.clear()
