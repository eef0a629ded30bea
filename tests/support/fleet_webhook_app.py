"""A bare ASGI application that takes webhooks into Redis, one of a fleet; run under uvicorn.

`REDIS` is the URL, `LEASE_S` the lease, and `HANDLED` names the file where it writes down what
it begins: `begun <webhook> <process>`, and what it has done: `done <webhook> <process>`.
"""

import asyncio
import os
from typing import Any

from flip_async.redis import RedisInbox
from flip_async.webhooks import Handlers, SettingsEvent, WebhookReceiver

handled = os.open(os.environ["HANDLED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
handlers = Handlers()


def note(what: str, event: SettingsEvent) -> None:
    line = f"{what} {event.webhook_id} {os.getpid()}\n"
    os.write(handled, line.encode())  # one write: no line is cut


@handlers.on("settings.apply")
async def on_settings(event: SettingsEvent) -> None:
    note("begun", event)
    await asyncio.sleep(0.02)
    note("done", event)


inbox = RedisInbox(os.environ["REDIS"], lease_s=float(os.environ["LEASE_S"]))
receiver = WebhookReceiver(handlers, inbox=inbox)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        async with receiver:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body, is_more = b"", True
    while is_more:
        message = await receive()
        body += message.get("body", b"")
        is_more = message.get("more_body", False)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    reply = await receiver.receive(body, headers)
    await send({"type": "http.response.start", "status": reply.status, "headers": []})
    await send({"type": "http.response.body", "body": b""})
