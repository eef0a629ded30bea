"""Commands through several lives of an application that is left in any order and any way [W4].

Flip is down now and then, answers are lost, functions fail, transports have bugs, and clients,
processors and receivers are closed in any order, by an end, a cancellation or a scope. In a last
life that ends well, every command whose delivery was answered with success is acknowledged.
"""

import asyncio
import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from flip_async import SANDBOX, FlipClient
from flip_async.commands import CommandProcessor
from flip_async.emulator._grid import iso
from flip_async.models import Command
from flip_async.webhooks import Handlers, SqliteInbox, WebhookReceiver
from tests.support import FastClock
from tests.support.sweeps import becomes
from tests.support.webhooks import SECRET, body_of, command_row, signed

LIVES = 40
TROUBLE: list[Any] = [
    *[httpx.Response(503)] * 5,
    httpx.ReadTimeout("never arrived"),
    RuntimeError("a bug"),
    asyncio.CancelledError("of another task"),
    *[None] * 12,
]


class World(httpx.AsyncBaseTransport):
    """A Flip, a device, and what is delivered to the application."""

    def __init__(self, luck: random.Random, inbox: Path | None) -> None:
        self.luck = luck
        self.clock = FastClock()
        self.is_well = False
        self.rows: dict[str, dict[str, Any]] = {}
        self.undelivered: set[str] = set()
        self._inbox = inbox
        self._processor: CommandProcessor | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        trouble = None if self.is_well else self.luck.choice(TROUBLE)
        if isinstance(trouble, BaseException):
            raise trouble
        if trouble is not None:
            return httpx.Response(503)
        await request.aread()
        row = self.rows[request.url.path.rsplit("/", 1)[1]]
        row |= json.loads(request.content) | {"updated_at": iso(self.clock.wall())}
        if not self.is_well and self.luck.random() < 0.1:
            raise httpx.ReadTimeout("the answer is lost")
        return httpx.Response(200, json=row)

    async def on_command(self, command: Command) -> None:
        await asyncio.sleep(0)
        if self.is_well or self.luck.random() < 0.8:
            return
        if self.luck.random() < 0.7:
            raise ValueError("busy")
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    def dispatch(self) -> None:
        for _ in range(self.luck.randint(1, 5)):
            command_id = f"c{len(self.rows)}"
            self.undelivered.add(command_id)
            self.rows[command_id] = command_row(
                id=command_id,
                updated_at=iso(self.clock.wall()),
                ends_at="2999-01-01T00:00:00Z",
                device_status="PENDING",
            )

    async def deliver(self, receiver: WebhookReceiver, command_id: str) -> None:
        body = body_of("command.created", self.rows[command_id])
        headers = signed(body, command_id, at_s=self.clock.wall())
        if (await receiver.receive(body, headers)).status == 204:
            self.undelivered.discard(command_id)

    def is_done(self) -> bool:
        return all(row["device_status"] == "OK" for row in self.rows.values())

    # Lives

    def parts(self) -> dict[str, Any]:
        """Client, processor and receiver; the processor may be the one of the life before."""
        timeout_s = self.luck.choice([0.005, 1])
        if self._processor is None or self.luck.random() < 0.5:
            self._processor = CommandProcessor(
                self.on_command, poll_every_s=None, clock=self.clock, shutdown_timeout_s=timeout_s
            )
        handlers = Handlers()
        self._processor.register(handlers)
        inbox = self._inbox and SqliteInbox(self._inbox, lease_s=1e6, clock=self.clock)
        client = FlipClient(environment=SANDBOX, api_key="fl_your_api_key", transport=self)
        return {
            "client": client,
            "processor": self._processor.running(client),
            "receiver": WebhookReceiver(
                handlers,
                secret=SECRET,
                inbox=inbox or None,
                clock=self.clock,
                answer_within_s=4 if self.is_well else 0.02,
                shutdown_timeout_s=timeout_s,
            ),
        }

    async def live(self) -> None:
        parts = self.parts()
        opened: list[str] = []
        deliveries: list[asyncio.Task[None]] = []
        try:
            for name, part in parts.items():
                await part.__aenter__()
                opened.append(name)
            if not self.is_well:
                self.dispatch()
            deliveries += [
                asyncio.create_task(self.deliver(parts["receiver"], one))
                for one in sorted(self.undelivered)
            ]
            if self.is_well:
                await asyncio.gather(*deliveries)
                await becomes(self.is_done)
            else:
                await asyncio.sleep(self.luck.random() * 0.05)
        finally:
            self.luck.shuffle(opened)
            for name in opened:
                with suppress(asyncio.CancelledError):  # the others are to be left too
                    await parts[name].__aexit__(None, None, None)
            await asyncio.gather(*deliveries, return_exceptions=True)

    async def live_a_little(self) -> None:
        seconds = self.luck.random() * 0.05
        match self.luck.choice(["to its end", "natively", "by a scope"]):
            case "to its end":
                await self.live()
            case "natively":
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self.live()
            case _:
                with anyio.move_on_after(seconds):
                    await self.live()


@pytest.mark.parametrize("has_inbox", [False, True], ids=["without an inbox", "with an inbox"])
async def test_every_command_that_was_taken_is_acknowledged_in_the_end(
    has_inbox: bool, tmp_path: Path
) -> None:
    taken, before = 0, asyncio.all_tasks()
    for seed in range(LIVES):
        world = World(random.Random(seed), tmp_path / f"{seed}.db" if has_inbox else None)
        for _ in range(3):
            await world.live_a_little()
        taken += len(world.rows) - len(world.undelivered)
        world.is_well = True
        await world.live()

        assert world.is_done(), seed
        assert not world.undelivered, seed
        assert await becomes(lambda: asyncio.all_tasks() <= before), seed

    assert taken > LIVES  # else it would hold for a receiver that takes nothing
