"""What all views of a client share: the way out, credentials, and what runs."""

import asyncio
import warnings
import weakref
from collections.abc import Callable, Coroutine
from typing import Final, TypeVar

import anyio
import attrs
import httpx

from flip_async._aio._callbacks import notify_soon
from flip_async._aio._late import ANYIO_BACKEND, load_late
from flip_async._aio._per_loop import PerLoop, call_in
from flip_async._aio._tasks import attached, detached
from flip_async._auth._bearer import BearerAuth
from flip_async._auth._site_auths import SiteAuths
from flip_async._auth._site_token import SiteTokenAuth
from flip_async._auth._store import TokenStore
from flip_async._clock import Clock
from flip_async._environment import Environment
from flip_async._http._retry import OnRetry, RetryBudget, RetryEvent, logger
from flip_async._http._tracing import OPENTELEMETRY, Tracing, make_tracing
from flip_async._transport._attempt import Send
from flip_async._transport._roads import Httpx2Client
from flip_async._version import __version__
from flip_async.errors import ClientClosedError

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Outlet:
    """Where requests leave.

    Attributes:
        send: Sends one.
        http: The same for token requests, as a client that is not ours to show.
        user_http: The user's own client, whose headers, params and cookies count.
        user_http2: The same, of httpx2; the transport adds what is its.
        carries_tokens: Whether all token requests go this way, those to the OAuth host too.
    """

    send: Send
    http: httpx.AsyncClient
    user_http: httpx.AsyncClient | None = None
    user_http2: Httpx2Client | None = None
    carries_tokens: bool


@attrs.frozen
class _Running:
    """What runs in one event loop."""

    calls: set[anyio.CancelScope] = attrs.field(factory=set)
    tasks: set[asyncio.Task[object]] = attrs.field(factory=set)

    def end_calls(self) -> None:
        for scope in list(self.calls):
            scope.cancel()


class Runtime:
    """Keeps what changes; everything else about a client is frozen.

    What changes: whether it is closed, whether it was made ready, the budget of retries, and
    what runs in each event loop, which that loop alone may touch.
    """

    def __init__(
        self,
        *,
        environment: Environment,
        api_url: str,
        outlet: Outlet,
        clock: Clock,
        budget: RetryBudget,
        on_retry: OnRetry | None,
    ) -> None:
        self.closed = False
        self.in_use = False
        self.environment: Final = environment
        self.api_url: Final = api_url
        self.tracing: Tracing | None = None
        self.is_ready = False
        self.outlet: Final = outlet
        self.clock: Final = clock
        self.budget: Final = budget
        self._on_retry: Final = on_retry

        def make_site_auth(
            site_id: str, auth: httpx.Auth, token_store: TokenStore | None
        ) -> SiteTokenAuth:
            return SiteTokenAuth(
                site_id,
                auth=auth,
                api_url=api_url,
                insecure_http=environment.insecure_http,
                http_client=outlet.http,
                token_store=token_store,
                clock=clock,
            )

        self.site_auths: Final = SiteAuths(make_site_auth)
        # Weak: a view with a credential of its own may come and go with every request.
        self.owned_auths: Final[weakref.WeakSet[BearerAuth]] = weakref.WeakSet()
        self._running: Final = PerLoop(_Running)
        self._closing: asyncio.Task[None] | None = None

    async def get_ready(self) -> None:
        """Before the first call: load what httpx and anyio load late, and what traces."""
        await load_late("httpcore", ANYIO_BACKEND, *OPENTELEMETRY)
        if not self.is_ready:
            self.tracing = make_tracing(self.api_url, __version__, self.clock)
            self.is_ready = True

    def check_open(self) -> None:
        """Refuse to work once closed.

        Raises:
            ClientClosedError: It is.
        """
        if self.closed:
            raise ClientClosedError("this client is closed: make another one")
        user_http = self.outlet.user_http or self.outlet.user_http2
        if user_http is not None and user_http.is_closed:
            raise ClientClosedError("the http_client that was given is closed")
        self.in_use = True

    def calls(self) -> set[anyio.CancelScope]:
        """The calls that run in this event loop: `aclose()` ends them."""
        return self._running.get().calls

    def spawn(self, job: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Run a job that makes calls and outlives the one that begins it."""
        tasks = self._running.get().tasks
        task = attached(job)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    def retries(self, event: RetryEvent) -> None:
        """Tell the user that an attempt is made again."""
        if self._on_retry is not None:
            notify_soon(logger, self._on_retry, event)

    async def aclose(self) -> None:
        """End what runs and close what is ours.

        A second caller waits for the first, and whoever is cancelled leaves the work to go on.
        """
        self.closed = True
        running = self._running.get()
        running.end_calls()
        closing = self._closing
        if closing is None or closing.cancelled() or _is_of_another_loop(closing):
            closing = self._closing = detached(self._close(running))
        await asyncio.shield(closing)

    async def _close(self, mine: _Running) -> None:
        for loop, running in self._running.items():
            if running is not mine:
                call_in(loop, running.end_calls)
        # Each is inside a call that was just ended, or about to find the client closed.
        await asyncio.gather(*mine.tasks, return_exceptions=True)
        await self.site_auths.aclose()
        for auth in list(self.owned_auths):
            await auth.aclose()
        if self.outlet.user_http is None:
            await self.outlet.http.aclose()

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if getattr(self, "in_use", False) and not self.closed:
            _warn(
                f"unclosed Flip client for {self.api_url}: use `async with`, or "
                "`await client.aclose()`",
                ResourceWarning,
                source=self,
            )


def _is_of_another_loop(task: asyncio.Task[None]) -> bool:
    return task.get_loop() is not asyncio.get_running_loop()
