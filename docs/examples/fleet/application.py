"""Flip in an application of several processes: what they share is in Redis.

Run it with `uvicorn --factory application:make_app --workers 4`.
"""

import logging
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request

from flip_async import SandboxClient
from flip_async.commands import CommandProcessor
from flip_async.errors import FlipError
from flip_async.fastapi import (
    FlipDependency,
    JsonBody,
    flip_error_handler,
    flip_lifespan,
    webhook_router,
)
from flip_async.models import Command, CommandStatus, Site, TelemetryPoint
from flip_async.redis import RedisCommandLedger, RedisInbox, RedisOutbox, RedisTokenStore
from flip_async.telemetry import TelemetryUploader

logging.basicConfig(level=logging.WARNING, format="%(message)s")
logger = logging.getLogger("fleet")
logger.setLevel(logging.INFO)


async def on_command(command: Command) -> None:
    """Here you would tell the inverter."""
    does = "schedule" if command.status == CommandStatus.OK else "forget"
    logger.info("%s %s for %s in process %d", does, command.id, command.device_id, os.getpid())


def make_tokens() -> RedisTokenStore:
    """One token for all processes, encrypted where there are keys."""
    keys = os.environ.get("FLIP_TOKEN_KEYS", "").split()
    return RedisTokenStore(os.environ["REDIS_URL"], encryption_keys=keys)


def make_app() -> FastAPI:
    """The application; each process makes its own."""
    url, lease_s = os.environ["REDIS_URL"], float(os.environ.get("LEASE_S", "30"))
    flip = SandboxClient(token_store=make_tokens())
    open_client = flip_lifespan(lambda: flip)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        outbox = RedisOutbox(url, lease_s=lease_s)
        async with open_client(app), flip.telemetry.uploader(outbox=outbox) as uploader:
            app.state.uploader = uploader
            yield

    app = FastAPI(lifespan=lifespan)
    app.include_router(
        webhook_router(
            "/webhooks/flip",
            commands=CommandProcessor(on_command, ledger=RedisCommandLedger(url, lease_s=lease_s)),
            inbox=RedisInbox(url, lease_s=lease_s),
        )
    )
    app.add_exception_handler(FlipError, flip_error_handler)

    @app.get("/homes/{home_id}")
    async def home(home_id: str, flip: FlipDependency) -> Site:
        return await flip.site(home_id).get()

    @app.post("/points", status_code=202)
    async def report(point: JsonBody[TelemetryPoint], request: Request) -> None:
        uploader: TelemetryUploader[TelemetryPoint] = request.app.state.uploader
        await uploader.add(point)  # returns when Redis has it; else the answer is 503

    return app
