"""What all clients share: they put the parts together, and close them."""

import os
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import ClassVar, Final, Literal, Self, TypeVar, Unpack

import attrs
import httpx

from flip_async._auth._bearer import BearerAuth
from flip_async._auth._credential import CredentialSource
from flip_async._auth._store import TokenStore
from flip_async._clients._config import (
    Credentials,
    check_kinds,
    make_auth,
    resolve_credentials,
    resolve_environment,
)
from flip_async._clock import Clock, SystemClock
from flip_async._endpoint import Method
from flip_async._environment import Environment
from flip_async._http._retry import Retries, RetryBudget
from flip_async._http._runtime import Core
from flip_async._http._session import Session, with_answer
from flip_async._options import (
    CallOptions,
    QueryValue,
    Settings,
    TimeoutTypes,
    as_deadline,
    as_timeout,
)
from flip_async._secret import shape
from flip_async._transport._pool import QueueingTransport, open_transport
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
        http_client: httpx.AsyncClient | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        token_store: TokenStore | None = None,
        clock: Clock | None = None,
    ) -> None:
        check_kinds(
            http_client=(http_client, httpx.AsyncClient),
            transport=(transport, httpx.AsyncBaseTransport),
        )
        settings = Settings(timeout=as_timeout(timeout), deadline_s=as_deadline(deadline_s))
        environment = _environment_or(environment, self._default_environment)
        credentials = resolve_credentials(
            Credentials(
                api_key=api_key,
                client_id=client_id,
                client_secret=client_secret,
                auth=auth,
                scope=scope,
            ),
            os.environ,
        )
        if http_client is not None and transport is not None:
            raise ConfigurationError("http_client= and transport= given: keep one of them")
        check_kinds(retries=(retries, Retries))
        retries = Retries() if retries is None else retries
        api_url = _api_url_of(environment, self._api)
        core = Core(
            environment=environment,
            api_url=api_url,
            http=http_client or _make_http(api_url, transport),
            owns_http=http_client is None,
            carries_tokens=http_client is not None or transport is not None,
            clock=clock or SystemClock(),
            budget=RetryBudget(retries.budget),
        )
        self._session = Session(
            core=core,
            auth=_auth_of(core, credentials, token_store),
            settings=settings,
            retries=retries,
        )

    @property
    def environment(self) -> Environment:
        """Where this client's Flip is."""
        return self._session.core.environment

    @property
    def auth(self) -> httpx.Auth:
        """The credential, to share with a plain `httpx.AsyncClient` or to watch."""
        return self._session.auth

    @property
    def is_closed(self) -> bool:
        """Whether `aclose()` was called."""
        return self._session.core.closed

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
            ConfigurationError: A credential or a policy cannot work.
            InvalidArgumentError: A timeout is out of range.
        """
        session = self._session
        settings = session.settings
        if not isinstance(timeout, UnsetType):
            settings = attrs.evolve(settings, timeout=as_timeout(timeout))
        if not isinstance(deadline_s, UnsetType):
            settings = attrs.evolve(settings, deadline_s=as_deadline(deadline_s))
        session = attrs.evolve(session, settings=settings)
        if not isinstance(retries, UnsetType):
            check_kinds(retries=(retries, Retries))
            session = attrs.evolve(session, retries=retries)
        given = Credentials(
            api_key=api_key,
            client_id=client_id,
            client_secret=client_secret,
            auth=auth,
            scope=scope,
        )
        if given != Credentials() or token_store is not None:
            if not given.is_there:
                raise ConfigurationError(
                    "scope= and token_store= belong to a credential: pass client_id= and "
                    "client_secret= with them"
                )
            # Not from the environment: that is where this client's own credential may be from.
            found = resolve_credentials(given, {})
            session = attrs.evolve(session, auth=_auth_of(session.core, found, token_store))
        view = type(self).__new__(type(self))  # not a copy: that has the session's namespaces
        view._session = session
        view._is_view = True
        return view

    # Closing

    async def aclose(self) -> None:
        """Close the connections; what still runs fails with a `ClientClosedError`."""
        if not self._is_view:
            await self._session.core.aclose()

    async def __aenter__(self) -> Self:
        self._session.core.check_open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        state = " closed" if self.is_closed else ""
        return (
            f"<{type(self).__name__} {self.environment.name} {self._session.core.api_url}{state}>"
        )


def _environment_or(given: object, default: Environment | None) -> Environment:
    if given is None:
        return resolve_environment(os.environ, default=default)
    if not isinstance(given, Environment):
        raise ConfigurationError(f"environment is an Environment, not {shape(given)}")
    if default is not None and given != default:
        raise ConfigurationError(
            f"this class is for {default.name}: use FlipClient(environment=...) for another"
        )
    return given


def _auth_of(core: Core, credentials: Credentials, token_store: TokenStore | None) -> httpx.Auth:
    """Make the auth of a credential; what we make, the core closes."""
    auth = make_auth(
        credentials,
        core.environment,
        api_url=core.api_url,
        http_client=core.http if core.carries_tokens else None,
        token_store=token_store,
        clock=core.clock,
    )
    if auth is not credentials.auth and isinstance(auth, BearerAuth):
        core.owned_auths.add(auth)
    return auth


def _api_url_of(environment: Environment, api: ApiName) -> str:
    url: str | None = getattr(environment, api)
    if url is None:
        raise ConfigurationError(
            f"the environment {environment.name!r} has no {api}: pass "
            f"environment=Environment(..., {api}=...)"
        )
    return url


def _make_http(api_url: str, transport: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
    opener = partial(open_transport, httpx.URL(api_url))
    # No proxies and no netrc of httpx's own: the transport has seen to the former.
    return httpx.AsyncClient(transport=QueueingTransport(transport or opener), trust_env=False)
