"""The part of the demo in which a FastAPI application acts on a dispatch."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from flip_async import FlipClient
from flip_async.commands import CommandProcessor
from flip_async.emulator import Emulator
from flip_async.emulator._server import SocketServer
from flip_async.fastapi import flip_lifespan, webhook_router
from flip_async.models import Command, EnrollmentCreate
from flip_async.webhooks import SqliteInbox

PATH = "/webhooks/flip"


async def act_on_dispatch(flip_local: Emulator, flip: FlipClient, site_id: str) -> list[str]:
    """Enroll a site, call for power, cancel it, and see what the device was told.

    Args:
        flip_local: The local Flip.
        flip: A client for it.
        site_id: A site that is commissioned.

    Returns:
        The status of each command that the device was told, in order.
    """
    told: list[str] = []

    async def on_command(command: Command) -> None:
        told.append(str(command.status))

    async with _application(flip_local, CommandProcessor(on_command, poll_every_s=None)) as url:
        flip_local.register_webhook(url, event_types=_COMMANDS, copies=2)
        await _enroll(flip_local, flip, site_id)
        (event_id,) = flip_local.dispatch()
        await _until_acknowledged(flip_local)
        flip_local.cancel_event(event_id)
        await _until_acknowledged(flip_local)
        await flip_local.webhooks_settled()
    return told


_COMMANDS = ("command.created", "command.canceled")


@asynccontextmanager
async def _application(flip_local: Emulator, commands: CommandProcessor) -> AsyncGenerator[str]:
    """An application on a port of its own; gives the URL of its webhooks."""
    with tempfile.TemporaryDirectory() as directory:
        app = FastAPI(lifespan=flip_lifespan(flip_local.client))
        inbox = SqliteInbox(Path(directory) / "inbox.db")
        router = webhook_router(
            PATH, secret=flip_local.webhook_secret, commands=commands, inbox=inbox
        )
        app.include_router(router)
        server = SocketServer(app, host="127.0.0.1", port=0, lifespan="on")
        await server.start()
        try:
            yield f"http://127.0.0.1:{server.port}{PATH}"
        finally:
            await server.stop()


async def _enroll(flip_local: Emulator, flip: FlipClient, site_id: str) -> None:
    site = flip.site(site_id)
    device_ids = [device.id async for device in site.devices.list()]
    programs = await site.programs.list(zip_code="88801", device_type="BATTERY")
    program = next(program for program in programs if not program.enrollment_form)
    wanted = EnrollmentCreate(device_ids=device_ids, program_id=program.id)
    await site.enrollments.create(wanted)
    flip_local.review_enrollments()


async def _until_acknowledged(flip_local: Emulator) -> None:
    async with asyncio.timeout(30):
        # Asked again and again, as Flip itself would be.
        while any(one["device_status"] == "PENDING" for one in flip_local.commands):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
