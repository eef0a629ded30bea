"""Webhooks for a fleet: each twice, to any of its processes, some of which are killed meanwhile."""

import asyncio
import json
import random
import signal
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import attrs
import httpx

from flip_async.webhooks import sign
from tests.support.processes import Uvicorn, free_port
from tests.support.webhooks import SECRET

APP = "tests.support.fleet_webhook_app:app"


@attrs.define
class FleetReport:
    """What became of the webhooks.

    Attributes:
        sent: How many there were.
        answered: Answers with success: two for each.
        handled: How many were handled to the end.
        twice: How many were begun more than once.
        twice_without_a_death: Of these, those that two processes which lived both began.
        in_the_middle: How many a process that was killed had begun and not done.
        took_s: Until all were answered.
        caught_up_s: From then until all were handled.
    """

    sent: int
    answered: int = 0
    handled: int = 0
    twice: int = 0
    twice_without_a_death: int = 0
    in_the_middle: int = 0
    took_s: float = 0.0
    caught_up_s: float = 0.0


class Fleet:
    """Worker processes at one Redis, and Flip, who delivers until there is a success."""

    def __init__(
        self, url: str, *, workers: int, webhooks: int, kills: int, lease_s: float
    ) -> None:
        self._url = url
        self._workers = workers
        self._kills = kills
        self._lease_s = lease_s
        self._luck = random.Random(13)
        self._names = [f"msg_{number}" for number in range(webhooks)]
        self._alive: dict[int, Uvicorn] = {}
        self._killed: set[int] = set()
        self.report = FleetReport(webhooks)

    async def run(self, *, give_up_after_s: float = 120.0) -> FleetReport:
        """Deliver each webhook twice, killing processes in between, and see what is handled."""
        with tempfile.TemporaryDirectory() as folder:
            async with AsyncExitStack() as stack:
                log = Path(folder) / "handled"
                environ = {
                    "REDIS": self._url,
                    "LEASE_S": str(self._lease_s),
                    "HANDLED": str(log),
                    "FLIP_WEBHOOK_SECRET": SECRET,
                }
                servers = [
                    Uvicorn(APP, port=free_port(), environ=environ) for _ in range(self._workers)
                ]
                await asyncio.gather(*(stack.enter_async_context(one) for one in servers))
                self._alive = {pid_of(one): one for one in servers}
                http = await stack.enter_async_context(
                    httpx.AsyncClient(trust_env=False, timeout=10)
                )
                began_s = time.monotonic()
                await self._deliver_all(http)
                self.report.took_s = time.monotonic() - began_s
                began_s = time.monotonic()
                while done(log) < set(self._names):
                    if time.monotonic() > began_s + give_up_after_s:
                        break
                    await asyncio.sleep(0.05)
                self.report.caught_up_s = time.monotonic() - began_s
                await asyncio.gather(*(one.end(signal.SIGTERM) for one in self._alive.values()))
                self._count(log)
        return self.report

    async def _deliver_all(self, http: httpx.AsyncClient) -> None:
        names = self._names * 2
        self._luck.shuffle(names)
        kill_at = {len(names) * (n + 1) // (self._kills + 1) for n in range(self._kills)}

        async def deliver() -> None:
            while names:
                await self._deliver(http, names.pop())
                self.report.answered += 1
                if self.report.answered in kill_at:
                    await self._kill_one()

        await asyncio.gather(*(deliver() for _ in range(32)))

    async def _deliver(self, http: httpx.AsyncClient, name: str) -> None:
        body = json.dumps({"event_type": "settings.apply", "event_object": {"id": name}}).encode()
        while True:
            server = self._alive[self._luck.choice(list(self._alive))]
            headers = sign(body, SECRET, webhook_id=name, timestamp=time.time())
            try:
                answer = await http.post(server.url, content=body, headers=headers)
            except httpx.TransportError:
                continue  # it was killed in the middle
            if answer.status_code == 204:
                return

    async def _kill_one(self) -> None:
        pid = self._luck.choice(list(self._alive))
        server = self._alive.pop(pid)
        self._killed.add(pid)
        await server.end(signal.SIGKILL)

    def _count(self, log: Path) -> None:
        begun: dict[str, list[int]] = {name: [] for name in self._names}
        ended: Counter[tuple[str, int]] = Counter()
        for what, name, pid in lines(log):
            if what == "begun":
                begun[name].append(int(pid))
            else:
                ended[name, int(pid)] += 1
        report = self.report
        report.handled = len(done(log))
        report.twice = sum(len(pids) > 1 for pids in begun.values())
        report.twice_without_a_death = sum(
            sum(pid not in self._killed for pid in pids) > 1 for pids in begun.values()
        )
        report.in_the_middle = sum(
            pid in self._killed and not ended[name, pid]
            for name, pids in begun.items()
            for pid in pids
        )


def pid_of(server: Any) -> int:
    process = server._process
    assert process is not None
    pid: int = process.pid
    return pid


def lines(log: Path) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def done(log: Path) -> set[str]:
    return {name for what, name, _ in lines(log) if what == "done"}
