"""A router that takes Flip's webhooks."""

import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import anyio
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from flip_async._checks import (
    check_kind,
    check_kind_or_none,
    check_seconds,
    conceal_all,
)
from flip_async._clock import Clock
from flip_async.commands import CommandProcessor
from flip_async.errors import ConfigurationError
from flip_async.fastapi._client import FlipLifespan, client_of, is_mounted
from flip_async.webhooks import Handlers, Inbox, Letter, WebhookReceiver

_LARGEST_BODY: Final = 1024 * 1024
"""No webhook of Flip's comes near; what is larger is not even read to its end."""
_ANY_KEY: Final = "whsec_YSBrZXkgdG8gdHJ5IHRoZSBvdGhlciBhcmd1bWVudHM="


def webhook_router(
    path: str = "/webhooks/flip",
    *,
    secret: str | Sequence[str] | None = None,
    on: Handlers | None = None,
    commands: CommandProcessor | None = None,
    client: FlipLifespan[Any] | None = None,
    inbox: Inbox | None = None,
    tolerance_s: float = 300.0,
    body_timeout_s: float = 5.0,
    shutdown_timeout_s: float = 20.0,
    give_up_after_s: float = 24 * 3600.0,
    on_given_up: Callable[[Letter, Exception], Awaitable[None] | None] | None = None,
    clock: Clock | None = None,
) -> APIRouter:
    """Make a router that takes Flip's webhooks, each with success only when it is safe.

    The router brings a lifespan of its own: include it before the application starts, and in
    the outermost application, since nobody runs the lifespan of a mounted one. See
    `flip_async.webhooks.WebhookReceiver` for what is answered when.

    Args:
        path: Where Flip delivers to.
        secret: The signing key, `whsec_...`; several, in a list, while it is replaced; without
            it `FLIP_WEBHOOK_SECRET`, or the file that `FLIP_WEBHOOK_SECRET_FILE` names, which is
            read when the application starts.
        on: Who takes which event. It is not changed, and may be given to several routers.
        commands: Takes all events about commands. It runs as long as the application, with the
            client of `flip_lifespan`, unless it runs already.
        client: The lifespan whose client commands are acknowledged with, where the application
            has several.
        inbox: Keeps webhooks on disk until they are handled.
        tolerance_s: How far a webhook's time may be from ours, either way, in seconds.
        body_timeout_s: How long a body may take to come, in seconds.
        shutdown_timeout_s: How long a shutdown waits for handlers that run, in seconds.
        give_up_after_s: How long an inbox goes on with a handler that fails, in seconds.
        on_given_up: Is given a `Letter` that the inbox gave up, and the last error.
        clock: Time and luck, for tests.

    Returns:
        What `app.include_router(...)` takes.

    Raises:
        ConfigurationError: The signing key is none, or a handler stands against `commands`.
            Without `secret`, the application does not start where the environment has no key.
        InvalidArgumentError: A number is out of range, or another argument is of no use.
    """
    secret = conceal_all(secret)  # type: ignore[assignment]  # no frame shows it
    check_seconds(body_timeout_s, field="body_timeout_s")
    check_kind_or_none(commands, CommandProcessor, field="commands")
    check_kind_or_none(client, FlipLifespan, field="client")
    on = Handlers() if on is None else on
    check_kind(on, Handlers, field="on")
    make_receiver = functools.partial(
        WebhookReceiver,
        inbox=inbox,
        tolerance_s=tolerance_s,
        shutdown_timeout_s=shutdown_timeout_s,
        give_up_after_s=give_up_after_s,
        on_given_up=on_given_up,
        clock=clock,
    )
    # What is wrong with an argument is told here; the environment may still be filled.
    make_receiver(_registry(on, commands), secret=_ANY_KEY if secret is None else secret)
    receivers: dict[object, WebhookReceiver] = {}  # by application; the lifespan alone writes it

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        if app in receivers:  # included twice: the outer one of the two lifespans does it all
            yield
            return
        receiver = make_receiver(_registry(on, commands), secret=secret)
        async with AsyncExitStack() as stack:
            if commands is not None and not commands.is_running:
                flip = client_of(app, client)
                await stack.enter_async_context(commands.running(flip))
            stack.callback(receivers.pop, app)
            receivers[app] = receiver
            await stack.enter_async_context(receiver)
            yield

    router = APIRouter(lifespan=lifespan)

    @router.post(path, status_code=204, response_class=Response, include_in_schema=False)
    async def receive_webhook(request: Request) -> Response:
        receiver = receivers.get(request.app)
        if receiver is None:
            raise ConfigurationError(_MOUNTED if is_mounted(request) else _NOT_STARTED)
        try:
            with anyio.fail_after(body_timeout_s):
                body = await _read(request)
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody reads
        except TimeoutError:
            return _unread(request, 408, "the body takes too long")
        if body is None:
            return _unread(request, 413, "the body is too large")
        reply = await receiver.receive(body, request.headers)
        if reply.reason is None:
            return Response(status_code=reply.status)
        return JSONResponse({"error": reply.reason}, status_code=reply.status)

    return router


def _registry(on: Handlers, commands: CommandProcessor | None) -> Handlers:
    """Both together, leaving alone what the user's module has: it may be used again."""
    if commands is None:
        return on
    both = Handlers(on)
    commands.register(both)
    return both


async def _read(request: Request) -> bytes | None:
    """The body, unless it is larger than any webhook: whoever sends it is a stranger still."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > _LARGEST_BODY:
            return None
        parts.append(part)
    return b"".join(parts)


def _unread(request: Request, status: int, reason: str) -> Response:
    """Refuse a body that was not read to its end: no other request can follow it."""
    response = JSONResponse({"error": reason}, status_code=status)
    if str(request.scope.get("http_version", "1.1")).startswith("1"):
        response.headers["Connection"] = "close"  # HTTP/2 has no such header
    return response


_NOT_STARTED: Final = (
    "the webhook router is not open: include it before the application starts; some test clients "
    "do not run the lifespan"
)
_MOUNTED: Final = (
    "the webhook router is not open: its application is mounted in another one, and nobody runs "
    "the lifespan of a mounted application: include the router in the outermost one"
)
