"""The application's clients: opened and closed with it, and handed to who asks for them."""

import functools
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any, Final, Generic, ParamSpec, TypeVar, cast

from fastapi import Depends, FastAPI
from fastapi.requests import HTTPConnection

from flip_async import FlipClient
from flip_async._checks import check_kind
from flip_async.errors import ConfigurationError, InvalidArgumentError

P = ParamSpec("P")
C = TypeVar("C", bound=FlipClient)
Clients = dict["FlipLifespan[Any]", FlipClient]

_CLIENTS: Final = "flip_async_clients"
"""Name of the one thing that changes here: the open clients, which the router of their
application keeps. Only `FlipLifespan.__call__` writes there, as the application starts and ends.

They are the router's and not the application's, since a request to an application that is mounted
in another one knows the router of the outermost, and nothing else of it."""


class FlipLifespan(Generic[C]):
    """Opens a client with the application and closes it after it; `flip_lifespan` makes one.

    Several of them tell several clients of one application apart::

        production, sandbox = flip_lifespan(ProductionClient), flip_lifespan(SandboxClient)

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
            async with production(app), sandbox(app):
                yield

        Sandbox = Annotated[FlipClient, Depends(sandbox.client)]

    Args:
        make: What makes the client.
    """

    def __init__(self, make: Callable[[], C]) -> None:
        self._make: Final = make

    def __call__(self, app: FastAPI) -> AbstractAsyncContextManager[None]:
        """Run it: what `FastAPI(lifespan=...)` calls, or a lifespan of your own.

        Args:
            app: The application that has the client.

        Raises:
            ConfigurationError: It is open in this application.
        """
        return self._open_in(app)

    @asynccontextmanager
    async def _open_in(self, app: FastAPI) -> AsyncGenerator[None]:
        clients: Clients = vars(app.router).setdefault(_CLIENTS, {})
        if self in clients:
            raise ConfigurationError(
                "this flip_lifespan is open in this application: give a second client a "
                "flip_lifespan of its own"
            )
        flip = self._make()
        check_kind(flip, FlipClient, field="what client() gives")
        async with flip:
            clients[self] = flip
            try:
                yield
            finally:
                del clients[self]

    async def client(self, connection: HTTPConnection) -> C:
        """The client that this lifespan opened: a dependency, as `Depends(sandbox.client)`.

        Args:
            connection: The request, which FastAPI gives.

        Raises:
            ConfigurationError: It is not open in the request's application.
        """
        for clients in _all_clients(connection):
            if self in clients:
                return cast("C", clients[self])
        raise ConfigurationError(_why_none(connection))

    def __repr__(self) -> str:
        return "<FlipLifespan>"


def flip_lifespan(client: Callable[P, C], /, *args: P.args, **options: P.kwargs) -> FlipLifespan[C]:
    """Make a lifespan that opens a client with the application, and closes it after it.

    The client is made when the application starts: a wrong setting stops it there.

    Args:
        client: What makes it: `SandboxClient`, `ProductionClient`, or any function.
        *args: Its arguments.
        **options: Its keyword arguments.

    Returns:
        What `FastAPI(lifespan=...)` takes.

    Raises:
        InvalidArgumentError: `client` is a client, or something else that makes none.
    """
    if not callable(client):
        raise InvalidArgumentError(
            "is what makes a client, such as the class SandboxClient", field="client"
        )
    return FlipLifespan(functools.partial(client, *args, **options))


async def get_flip_client(connection: HTTPConnection) -> FlipClient:
    """The application's client: the dependency that is behind `FlipDependency`.

    Tests put another one in its place:
    `app.dependency_overrides[get_flip_client] = lambda: flip`.

    Args:
        connection: The request, which FastAPI gives.

    Raises:
        ConfigurationError: The application has no client, or more than one.
    """
    for clients in _all_clients(connection):
        if clients:
            return only_client(clients)
    raise ConfigurationError(_why_none(connection))


FlipDependency = Annotated[FlipClient, Depends(get_flip_client)]
"""A parameter of this type is the application's client, which `flip_lifespan` opened."""


def client_of(app: FastAPI, lifespan: FlipLifespan[Any] | None) -> FlipClient:
    """The client of an application that starts: a certain one, or its only one."""
    clients = _clients_at(app.router)
    if lifespan is not None:
        clients = {one: flip for one, flip in clients.items() if one is lifespan}
    if not clients:
        raise ConfigurationError(_NO_CLIENT)
    return only_client(clients)


def only_client(clients: Clients) -> FlipClient:
    """The one that there is."""
    if len(clients) > 1:
        raise ConfigurationError(
            f"the application has {len(clients)} Flip clients: name one, by "
            "Depends(lifespan.client), or webhook_router(client=lifespan), where lifespan is what "
            "its flip_lifespan gave"
        )
    (flip,) = clients.values()
    return flip


def _all_clients(connection: HTTPConnection) -> tuple[Clients, Clients]:
    """Those of the request's own application, and of the outermost that it is mounted in."""
    own = getattr(connection.scope.get("app"), "router", None)
    return _clients_at(own), _clients_at(connection.scope.get("router"))


def _clients_at(router: object) -> Clients:
    return cast("Clients", getattr(router, _CLIENTS, {}))


def is_mounted(connection: HTTPConnection) -> bool:
    """Whether the request's application stands within another one."""
    own = getattr(connection.scope.get("app"), "router", None)
    return connection.scope.get("router") is not own


def _why_none(connection: HTTPConnection) -> str:
    return _NO_CLIENT_MOUNTED if is_mounted(connection) else _NO_CLIENT


_NO_CLIENT: Final = (
    "the application has no Flip client: FastAPI(lifespan=flip_lifespan(SandboxClient)) opens "
    "one; some test clients do not run the lifespan"
)
_NO_CLIENT_MOUNTED: Final = (
    "the application has no Flip client: it is mounted in another one, and nobody runs the "
    "lifespan of a mounted application: give flip_lifespan to the outermost one, whose client this "
    "one has too"
)
