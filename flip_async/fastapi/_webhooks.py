"""FastAPI: a client for the application, and a router for Flip's webhooks.

::

    processor = CommandProcessor(on_command)
    app = FastAPI(lifespan=flip_lifespan(SandboxClient))
    app.include_router(webhook_router(commands=processor, inbox=SqliteInbox("inbox.db")))

It needs the extra `fastapi`: `pip install "flip-async[fastapi]"`. Models of
`flip_async.models` are response types as they are, and bodies as `JsonBody[...]`.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Annotated, Final, ParamSpec, TypeVar, cast

from flip_async import FlipClient
from flip_async._checks import conceal_all
from flip_async.commands import CommandProcessor
from flip_async.errors import ConfigurationError
from flip_async.webhooks import Handlers, Inbox, Letter, WebhookReceiver

try:
    from fastapi import APIRouter, Body, Depends, FastAPI, Request, Response
    from fastapi.requests import HTTPConnection
    from fastapi.responses import JSONResponse
except ModuleNotFoundError as _error:
    if (_error.name or "").partition(".")[0] not in {"fastapi", "starlette", "pydantic"}:
        raise
    raise ModuleNotFoundError(
        "flip_async.fastapi needs FastAPI: pip install 'flip-async[fastapi]'", name=_error.name
    ) from None

__all__ = ["FlipDependency", "JsonBody", "flip_lifespan", "webhook_router"]

P = ParamSpec("P")
T = TypeVar("T")
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Mapping[str, object]]]

_STATE: Final = "flip_async_client"
_LARGEST_BODY: Final = 1024 * 1024
"""No webhook of Flip's comes near; what is larger is not even read to its end."""


def flip_lifespan(client: Callable[P, FlipClient], *args: P.args, **options: P.kwargs) -> Lifespan:
    """Make a lifespan that opens a client with the application, and closes it after it.

    The client is made when the application starts: a wrong setting stops it there.

    Args:
        client: What makes it: `SandboxClient`, `ProductionClient`, or any function.
        *args: Its arguments.
        **options: Its keyword arguments.

    Returns:
        What `FastAPI(lifespan=...)` takes.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[Mapping[str, object]]:
        async with client(*args, **options) as flip:
            # Both: the application's state, which every test client has, and the lifespan's,
            # which reaches applications that are mounted within this one.
            setattr(app.state, _STATE, flip)
            try:
                yield {_STATE: flip}
            finally:
                delattr(app.state, _STATE)

    return lifespan


def _client(connection: HTTPConnection) -> FlipClient:
    flip = getattr(connection.state, _STATE, None) or _client_of(connection.app)
    if flip is None:
        raise ConfigurationError(_NO_CLIENT)
    return cast("FlipClient", flip)


def _client_of(app: FastAPI) -> FlipClient | None:
    return cast("FlipClient | None", getattr(app.state, _STATE, None))


_NO_CLIENT: Final = (
    "the application has no Flip client: FastAPI(lifespan=flip_lifespan(SandboxClient)) opens "
    "one; some test clients do not run the lifespan"
)

FlipDependency = Annotated[FlipClient, Depends(_client)]
"""A parameter of this type is the application's client, which `flip_lifespan` opened."""

JsonBody = Annotated[T, Body()]
"""`JsonBody[Site]` is a `Site` in the body of a request, which FastAPI would else look for in
the query."""


def webhook_router(
    path: str = "/webhooks/flip",
    *,
    secret: str | Sequence[str] | None = None,
    on: Handlers | None = None,
    commands: CommandProcessor | None = None,
    inbox: Inbox | None = None,
    tolerance_s: float = 300.0,
    shutdown_timeout_s: float = 20.0,
    give_up_after_s: float = 24 * 3600.0,
    on_given_up: Callable[[Letter, Exception], Awaitable[None] | None] | None = None,
) -> APIRouter:
    """Make a router that takes Flip's webhooks, each with success only when it is safe.

    The router brings a lifespan of its own: include it before the application starts. See
    `flip_async.webhooks.WebhookReceiver` for what is answered when.

    Args:
        path: Where Flip delivers to.
        secret: The signing key, `whsec_...`; several, in a list, while it is replaced; without
            it `FLIP_WEBHOOK_SECRET`.
        on: Who takes which event.
        commands: Takes all events about commands. It runs as long as the application, with the
            client of `flip_lifespan`, unless you run it yourself.
        inbox: Keeps webhooks on disk until they are handled.
        tolerance_s: How far a webhook's time may be from ours, either way, in seconds.
        shutdown_timeout_s: How long a shutdown waits for handlers that run, in seconds.
        give_up_after_s: How long an inbox goes on with a handler that fails, in seconds.
        on_given_up: Is given a `Letter` that the inbox gave up, and the last error.

    Returns:
        What `app.include_router(...)` takes.

    Raises:
        ConfigurationError: There is no signing key, or a handler stands against `commands`.
        InvalidArgumentError: A number is out of range.
    """
    secret = conceal_all(secret)  # type: ignore[assignment]  # no frame shows it
    handlers = Handlers() if on is None else on
    if commands is not None:
        commands.register(handlers)
    receiver = WebhookReceiver(
        handlers,
        secret=secret,
        inbox=inbox,
        tolerance_s=tolerance_s,
        shutdown_timeout_s=shutdown_timeout_s,
        give_up_after_s=give_up_after_s,
        on_given_up=on_given_up,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            if commands is not None and not commands.is_running:
                flip = _client_of(app)
                if flip is None:
                    raise ConfigurationError(_NO_CLIENT)
                await stack.enter_async_context(commands.running(flip))
            await stack.enter_async_context(receiver)
            yield

    router = APIRouter(lifespan=lifespan)

    @router.post(path, status_code=204, response_class=Response, include_in_schema=False)
    async def receive_webhook(request: Request) -> Response:
        body = await _read(request)
        if body is None:
            return JSONResponse({"error": "the body is too large"}, status_code=413)
        reply = await receiver.receive(body, request.headers)
        if reply.reason is None:
            return Response(status_code=reply.status)
        return JSONResponse({"error": reply.reason}, status_code=reply.status)

    return router


async def _read(request: Request) -> bytes | None:
    """The body, unless it is larger than any webhook: whoever sends it is a stranger still."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > _LARGEST_BODY:
            return None
        parts.append(part)
    return b"".join(parts)
