"""Webhooks: checking one, answering one, and a burst of 5,000 at a real uvicorn."""

import asyncio
import itertools
import signal
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
from fastapi import FastAPI, Request, Response
from standardwebhooks import Webhook

from flip_async.emulator import Emulator
from flip_async.fastapi import webhook_router
from flip_async.webhooks import CommandEvent, Handlers, SqliteInbox, sign, verify
from tests.benchmarks._compare import compare, show, tell
from tests.support.processes import Uvicorn, free_port
from tests.support.webhooks import SECRET, body_of, example

BODY = body_of("command.created", example("command.created")["event_object"])
BURST = 5000


async def check() -> None:
    headers = sign(BODY, SECRET, webhook_id="msg_1", timestamp=datetime.now(UTC))
    reference = Webhook(SECRET)

    async def theirs() -> object:
        return reference.verify(BODY, headers)

    async def ours() -> object:
        return verify(BODY, headers, SECRET)

    medians = await compare({"standardwebhooks, to a dict": theirs, "ours, typed": ours}, calls=500)
    show("Check and read one webhook", medians, base="standardwebhooks, to a dict")


async def answer(directory: Path) -> None:
    """In process, so that the server and the client cost the same in all three."""
    handlers = Handlers()

    @handlers.on("command.created")
    async def on_command(event: CommandEvent) -> None: ...

    def posting(app: FastAPI) -> Callable[[], Awaitable[object]]:
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app")
        numbers = itertools.count()

        async def post() -> object:
            headers = sign(
                BODY, SECRET, webhook_id=f"msg_{next(numbers)}", timestamp=datetime.now(UTC)
            )
            response = await http.post("/webhooks/flip", content=BODY, headers=headers)
            assert response.status_code == 204
            return response

        return post

    bare = FastAPI()

    @bare.post("/webhooks/flip", status_code=204, response_class=Response)
    async def by_hand(request: Request) -> Response:
        Webhook(SECRET).verify(await request.body(), dict(request.headers))
        return Response(status_code=204)

    plain, kept = FastAPI(), FastAPI()
    plain.include_router(webhook_router(secret=SECRET, on=handlers))
    inbox = SqliteInbox(directory / "bench.db")
    kept.include_router(webhook_router(secret=SECRET, on=handlers, inbox=inbox))
    async with plain.router.lifespan_context(plain), kept.router.lifespan_context(kept):
        medians = await compare(
            {
                "a route by hand, with standardwebhooks": posting(bare),
                "the router, without an inbox": posting(plain),
                "the router, with an inbox": posting(kept),
            },
            calls=100,
        )
    show("Answer one webhook", medians, base="a route by hand, with standardwebhooks")


async def burst(directory: Path) -> None:
    for name in ("without an inbox", "with an inbox"):
        handled, port = directory / f"handled {name}", free_port()
        files = {"HANDLED": str(handled)}
        if name == "with an inbox":
            files["INBOX"] = str(directory / "burst.db")
        async with Emulator(in_process=True) as emulator:
            environ = {"FLIP_WEBHOOK_SECRET": emulator.webhook_secret} | files
            app = "tests.support.webhook_app:app"
            async with Uvicorn(app, port=port, environ=environ) as server:
                emulator.register_webhook(f"http://127.0.0.1:{port}/webhooks/flip")
                for number in range(BURST):
                    emulator.send_webhook("settings.apply", {"id": str(number)})
                await emulator.webhooks_settled()
                while len(handled.read_text().split()) < BURST:
                    await asyncio.sleep(0.05)
                await server.end(signal.SIGTERM)
        seconds = sorted(one for delivery in emulator.webhooks for one in delivery.seconds)
        values = {
            "p50": statistics.median(seconds) * 1e3,
            "p99": seconds[len(seconds) * 99 // 100] * 1e3,
            "longest": seconds[-1] * 1e3,
        }
        handled_count = len(handled.read_text().split())
        what = f"{BURST:,} webhooks at uvicorn, 20 connections, {name}"
        tell(f"{what}: {len(seconds):,} attempts, {handled_count:,} handled", values, unit="ms")


async def main() -> None:
    await check()
    with tempfile.TemporaryDirectory() as directory:
        await answer(Path(directory))
        await burst(Path(directory))


if __name__ == "__main__":
    asyncio.run(main())
