"""A backend that commissions homes, reports what batteries measure, and does what Flip asks."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import homes
import readings
from devices import on_command
from fastapi import FastAPI

from flip_async import SandboxClient
from flip_async.commands import CommandProcessor
from flip_async.errors import FlipError
from flip_async.fastapi import flip_error_handler, flip_lifespan, webhook_router
from flip_async.telemetry import SqliteOutbox
from flip_async.webhooks import SqliteInbox


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """One client and one uploader, as long as the application runs."""
    flip = SandboxClient()
    uploader = flip.telemetry.uploader(
        outbox=SqliteOutbox("readings.db"),
        on_rejected=readings.refused,
        close_timeout_s=3,  # the file keeps what is not sent by then
    )
    async with flip_lifespan(lambda: flip)(app), uploader:
        app.state.uploader = uploader
        yield


app = FastAPI(lifespan=lifespan)
app.add_exception_handler(FlipError, flip_error_handler)
app.include_router(homes.router)
app.include_router(readings.router)
app.include_router(
    webhook_router(
        "/webhooks/flip",
        commands=CommandProcessor(on_command),
        inbox=SqliteInbox("inbox.db"),
    )
)
