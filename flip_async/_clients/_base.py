"""What all clients share: they put the parts together, and close them."""

import os
from collections.abc import Awaitable, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import ClassVar, Final, Literal, NoReturn, Self, TypeVar, Unpack

import attrs
import httpx

from flip_async._auth._bearer import BearerAuth
from flip_async._auth._credential import CredentialSource
from flip_async._auth._store import TokenStore, check_store
from flip_async._checks import (
    check_callback,
    check_clock,
    check_count,
    check_kind,
    check_kind_or_none,
    check_seconds_or_none,
    conceal,
)
from flip_async._clients._config import (
    Credentials,
    Variables,
    make_auth,
    resolve_credentials,
    resolve_environment,
)
from flip_async._clock import Clock, SystemClock
from flip_async._endpoint import Method
from flip_async._environment import Environment
from flip_async._http._retry import OnRetry, Retries, RetryBudget
from flip_async._http._runtime import Outlet, Runtime
from flip_async._http._session import Session, with_answer
from flip_async._options import CallOptions, QueryValue, Settings, TimeoutTypes, as_timeout
from flip_async._transport._engines import refuse_unsafe
from flip_async._transport._pool import ConnectionPool
from flip_async._transport._reading import LARGEST_ANSWER
from flip_async._transport._roads import (
    HttpClient,
    check_http_client,
    through_client,
    through_transport,
    transport_over,
)
from flip_async.errors import ConfigurationError
from flip_async.models._base import UNSET, UnsetType

T = TypeVar("T")
ApiName = Literal["api_url", "utility_url", "aggregator_url"]
DEFAULT_TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0)
DEFAULT_DEADLINE_S: Final = 60.0


class BaseClient:
    """What all clients share: construction, views, closing. Their classes document it."""

    _api: ClassVar[ApiName] = "api_url"

    _default_environment: ClassVar[Environment | None] = None
    _session: Session
    _is_view: bool = False

    def __init__(
        self,
        *,
        environment: Environment | None = None,
        api_key: str | CredentialSource | None = None,
        client_id: str | None = None,
        client_secret: str | CredentialSource | None = None,
        auth: httpx.Auth | None = None,
        scope: str | Sequence[str] | None = None,
        timeout: TimeoutTypes = DEFAULT_TIMEOUT,
        deadline_s: float | None = DEFAULT_DEADLINE_S,
        retries: Retries | None = None,
        http_client: HttpClient | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        token_store: TokenStore | None = None,
        on_retry: OnRetry | None = None,
        max_response_bytes: int = LARGEST_ANSWER,
        clock: Clock | None = None,
    ) -> None:
        # No frame shows them from here on [B10].
        api_key, client_secret = conceal(api_key), conceal(client_secret)  # type: ignore[assignment]
        _check_parts(
            http_client=http_client,
            transport=transport,
            retries=retries,
            on_retry=on_retry,
            token_store=token_store,
            clock=clock,
        )
        check_count(max_response_bytes, field="max_response_bytes")
        settings = Settings(
            timeout=as_timeout(timeout),
            deadline_s=check_seconds_or_none(deadline_s, field="deadline_s"),
        )
        environ = Variables(os.environ)
        environment = _environment_or(environment, self._default_environment, environ)
        credentials = resolve_credentials(
            Credentials(
                api_key=api_key,
                client_id=client_id,
                client_secret=client_secret,
                auth=auth,
                scope=scope,
            ),
            environ,
        )
        retries = Retries() if retries is None else retries
        clock = SystemClock() if clock is None else clock
        api_url = _api_url_of(environment, self._api)
        runtime = Runtime(
            environment=environment,
            api_url=api_url,
            outlet=_outlet(api_url, http_client, transport, max_response_bytes, clock),
            clock=clock,
            budget=RetryBudget(retries.budget),
            on_retry=on_retry,
        )
        self._session = Session(
            runtime=runtime,
            auth=_auth_of(runtime, credentials, token_store),
            settings=settings,
            retries=retries,
            token_store=token_store,
        )

    @property
    def environment(self) -> Environment:
        """Where this client's Flip is."""
        return self._session.runtime.environment

    @property
    def auth(self) -> httpx.Auth:
        """The credential, to share with a plain `httpx.AsyncClient` or to watch."""
        return self._session.auth

    @property
    def is_closed(self) -> bool:
        """Whether `aclose()` was called."""
        return self._session.runtime.closed

    # Beyond the methods

    async def request(
        self,
        method: Method,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, QueryValue] | None = None,
        **options: Unpack[CallOptions],
    ) -> httpx.Response:
        """Reach an endpoint that has no method yet, with all that methods have.

        Args:
            method: `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
            path: The path, beginning with `/v1/`; ids in it are percent-encoded by you.
            body: What to send as JSON: a mapping, a list or a model.
            query: Query parameters.
            **options: What every method takes.

        Returns:
            The answer as it came, if it is a success.

        Raises:
            InvalidArgumentError: The path is none, or the body cannot be written as JSON.
            FlipError: As everywhere.
        """
        return await self._session.request(method, path, body=body, query=query, **options)

    async def with_raw_response(self, call: Awaitable[T]) -> tuple[T, httpx.Response]:
        """Give the answer as it came beside what was made of it.

        There you find what a model does not have: headers, and fields that are new::

            site, response = await flip.with_raw_response(flip.site("hh-1042").get())

        Args:
            call: A call of this client that was not awaited yet.

        Returns:
            Its result, and the `httpx.Response` (of a list, the last).

        Raises:
            FlipError: As the call does.
        """
        return await with_answer(call)

    def with_options(
        self,
        *,
        timeout: TimeoutTypes | UnsetType = UNSET,
        deadline_s: float | UnsetType | None = UNSET,
        retries: Retries | UnsetType = UNSET,
        api_key: str | CredentialSource | None = None,
        client_id: str | None = None,
        client_secret: str | CredentialSource | None = None,
        auth: httpx.Auth | None = None,
        scope: str | Sequence[str] | None = None,
        token_store: TokenStore | None = None,
    ) -> Self:
        """A view of this client with other settings, on the same connections.

        What is not given stays. Closing the view closes nothing. The budget of retries is
        shared by all views.

        Args:
            timeout: For each attempt.
            deadline_s: Over all attempts of a call, in seconds; `None` for no end.
            retries: The retry policy.
            api_key: Another credential, as in the constructor; likewise the next ones.
            client_id: An OAuth client's id.
            client_secret: Its secret.
            auth: Any `httpx.Auth`.
            scope: OAuth scopes.
            token_store: Shares OAuth tokens.

        Returns:
            The view.

        Raises:
            ConfigurationError: A credential cannot work.
            InvalidArgumentError: Another argument cannot be what it is.
        """
        api_key, client_secret = conceal(api_key), conceal(client_secret)  # type: ignore[assignment]
        check_store(token_store)
        session = self._session
        settings = session.settings
        if not isinstance(timeout, UnsetType):
            settings = attrs.evolve(settings, timeout=as_timeout(timeout))
        if not isinstance(deadline_s, UnsetType):
            settings = attrs.evolve(
                settings, deadline_s=check_seconds_or_none(deadline_s, field="deadline_s")
            )
        session = attrs.evolve(session, settings=settings)
        if not isinstance(retries, UnsetType):
            check_kind(retries, Retries, field="retries")
            session = attrs.evolve(session, retries=retries)
        given = Credentials(
            api_key=api_key,
            client_id=client_id,
            client_secret=client_secret,
            auth=auth,
            scope=scope,
        )
        if given.is_there:
            # Not from the environment: that is where this client's own credential may be from.
            found = resolve_credentials(given, None)
            auth = _auth_of(session.runtime, found, token_store)
            session = attrs.evolve(session, auth=auth, token_store=token_store)
        elif scope is not None or token_store is not None:
            name = "token_store=" if scope is None else "scope="
            raise ConfigurationError(
                f"{name} belongs to a credential: pass client_id= and client_secret= with it"
            )
        return self._view(session)

    def _view(self, session: Session) -> Self:
        """A copy, with what a subclass has set, and namespaces of its own session."""
        view = type(self).__new__(type(self))
        for name, value in vars(self).items():
            if not isinstance(getattr(type(self), name, None), cached_property):
                vars(view)[name] = value
        view._session = session
        view._is_view = True
        return view

    def __copy__(self) -> Self:
        return self._view(self._session)

    def __deepcopy__(self, memo: dict[int, object]) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is not copied: with_options() gives a view")

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is not pickled: make one in each process")

    # Closing

    async def aclose(self) -> None:
        """Close the connections; what still runs fails with a `ClientClosedError`."""
        if not self._is_view:
            await self._session.runtime.aclose()

    async def __aenter__(self) -> Self:
        self._session.runtime.check_open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        if "_session" not in vars(self):
            return f"<{type(self).__name__} half made>"
        state = " closed" if self.is_closed else ""
        where = f"{self.environment.name} {self._session.runtime.api_url}"
        return f"<{type(self).__name__} {where}{state}>"


def _check_parts(
    *,
    http_client: object,
    transport: object,
    retries: object,
    on_retry: object,
    token_store: object,
    clock: object,
) -> None:
    check_http_client(http_client)
    check_kind_or_none(transport, httpx.AsyncBaseTransport, field="transport")
    refuse_unsafe(http_client, transport)
    check_kind_or_none(retries, Retries, field="retries")
    check_callback(on_retry, field="on_retry")
    check_clock(clock)
    check_store(token_store)


def _environment_or(
    given: Environment | None, default: Environment | None, environ: Variables
) -> Environment:
    if given is None:
        return resolve_environment(environ, default=default)
    check_kind(given, Environment, field="environment")
    if default is not None and given != default:
        raise ConfigurationError(
            f"this class is for {default.name}: use FlipClient(environment=...) for another"
        )
    return given


def _auth_of(
    runtime: Runtime, credentials: Credentials, token_store: TokenStore | None
) -> httpx.Auth:
    """Make the auth of a credential; what we make, the runtime closes."""
    auth = make_auth(
        credentials,
        runtime.environment,
        api_url=runtime.api_url,
        http_client=runtime.outlet.http if runtime.outlet.carries_tokens else None,
        token_store=token_store,
        clock=runtime.clock,
    )
    if auth is not credentials.auth and isinstance(auth, BearerAuth):
        runtime.owned_auths.add(auth)
    return auth


def _api_url_of(environment: Environment, api: ApiName) -> str:
    url: str | None = getattr(environment, api)
    if url is None:
        raise ConfigurationError(
            f"the environment {environment.name!r} has no {api}: pass "
            f"environment=Environment(..., {api}=...)"
        )
    return url


def _outlet(
    api_url: str,
    http_client: HttpClient | None,
    transport: httpx.AsyncBaseTransport | None,
    most: int,
    clock: Clock,
) -> Outlet:
    if http_client is not None and transport is not None:
        raise ConfigurationError("http_client= and transport= given: keep one of them")
    if isinstance(http_client, httpx.AsyncClient):
        send = through_client(http_client, most=most)
        return Outlet(send=send, http=http_client, user_http=http_client, carries_tokens=True)
    if http_client is not None:
        transport = transport_over(http_client)
    if transport is not None:
        send = through_transport(transport, clock=clock, most=most)
        http = _client_of(transport)
        return Outlet(send=send, http=http, user_http2=http_client, carries_tokens=True)
    pool = ConnectionPool(httpx.URL(api_url), clock=clock, most=most)
    http = _client_of(pool)
    return Outlet(send=pool.handle_async_request, http=http, carries_tokens=False)


def _client_of(transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    # No proxies and no netrc of httpx's own: the transport has seen to the former.
    return httpx.AsyncClient(transport=transport, trust_env=False)
