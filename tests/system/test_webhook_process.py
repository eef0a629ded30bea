"""A FastAPI application under a real uvicorn: bursts, SIGTERM in the middle, and `kill -9` [W2]."""

import asyncio
import json
import random
import re
import signal
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from flip_async.emulator import Emulator
from flip_async.webhooks import sign
from tests.support.processes import ROOT, Process, Uvicorn, free_port
from tests.system.test_fastapi import enrolled, until_acknowledged

BURST = 5000
ROUNDS = 8
PAGE = (ROOT / "docs" / "how-to" / "receive-webhooks.md").read_text()


def app_under_uvicorn(port: int, secret: str, **environ: str) -> Uvicorn:
    return Uvicorn(
        "tests.support.webhook_app:app",
        port=port,
        environ={"FLIP_WEBHOOK_SECRET": secret} | environ,
    )


def handled_in(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


@pytest.mark.parametrize("with_inbox", [False, True])
async def test_a_burst_is_handled_once_and_completely_though_the_server_is_stopped_in_it(
    tmp_path: Path, with_inbox: bool
) -> None:
    """5,000 webhooks at once, and SIGTERM when about half of them are handled."""
    handled = tmp_path / "handled"
    files = {"HANDLED": str(handled)}
    if with_inbox:
        files["INBOX"] = str(tmp_path / "inbox.db")
    port = free_port()
    async with (
        Emulator(in_process=True, webhook_pauses_s=[1, 2, 4, 8]) as emulator,
        app_under_uvicorn(port, emulator.webhook_secret, **files) as server,
    ):
        emulator.register_webhook(f"http://127.0.0.1:{port}/webhooks/flip")
        for number in range(BURST):
            emulator.send_webhook("settings.apply", {"id": str(number)})
        while len(handled_in(handled)) < BURST / 2:
            await asyncio.sleep(0.05)
        await server.end(signal.SIGTERM)
        assert "Application shutdown complete" in server.output
        at_the_stop = len(handled_in(handled))
        await server.start()
        await emulator.webhooks_settled()
        while len(handled_in(handled)) < BURST:
            await asyncio.sleep(0.05)
        await server.end(signal.SIGTERM)

    assert at_the_stop < BURST  # it was in the middle
    assert all(delivery.is_delivered for delivery in emulator.webhooks)
    assert Counter(handled_in(handled)) == {str(number): 1 for number in range(BURST)}


class Sender:
    """Delivers webhooks as fast as it can, and notes which were answered with success."""

    def __init__(self, port: int, secret: str) -> None:
        self.answered: list[str] = []
        self._url = f"http://127.0.0.1:{port}/webhooks/flip"
        self._secret = secret
        self._number = 0

    async def send_for_ever(self, http: httpx.AsyncClient) -> None:
        while True:
            number = str(self._number)
            self._number += 1
            event = {"event_type": "settings.apply", "event_object": {"id": number}}
            body = json.dumps(event).encode()
            headers: Mapping[str, str] = sign(
                body, self._secret, webhook_id=number, timestamp=datetime.now(UTC)
            )
            try:
                answer = await http.post(self._url, content=body, headers=headers)
            except httpx.TransportError:
                await asyncio.sleep(0.02)
                continue
            if answer.status_code == 204:
                self.answered.append(number)


async def test_what_an_inbox_answered_with_success_is_handled_through_kill_9(
    tmp_path: Path, emulator: Emulator
) -> None:
    handled, port = tmp_path / "handled", free_port()
    sender = Sender(port, emulator.webhook_secret)
    luck = random.Random(6)
    files = {"HANDLED": str(handled), "INBOX": str(tmp_path / "inbox.db")}
    async with (
        httpx.AsyncClient(trust_env=False) as http,
        app_under_uvicorn(port, emulator.webhook_secret, **files) as server,
    ):
        sending = [asyncio.create_task(sender.send_for_ever(http)) for _ in range(8)]
        for _ in range(ROUNDS):
            before = len(sender.answered)
            while len(sender.answered) < before + 20:
                await asyncio.sleep(0.01)
            await asyncio.sleep(luck.random() * 0.3)
            assert await server.end(signal.SIGKILL) == -signal.SIGKILL
            await server.start()
        for one in sending:
            one.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        while not set(sender.answered) <= set(handled_in(handled)):
            await asyncio.sleep(0.05)

    assert len(sender.answered) >= ROUNDS * 20
    counts = Counter(handled_in(handled))
    # Twice is for what was in hand when the process died, and for nothing else.
    assert max(counts.values()) <= 3
    assert sum(count > 1 for count in counts.values()) < len(counts) / 2


def block(name: str) -> str:
    found = re.search(rf"<!-- the {name} -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


async def test_the_application_of_the_documentation_acts_on_a_dispatch(tmp_path: Path) -> None:
    """As a user has it: the page's code in a file, under uvicorn, against the local Flip."""
    (tmp_path / "app.py").write_text(block("application"))
    port = free_port()
    async with (
        Emulator() as emulator,
        Uvicorn("app:app", port=port, cwd=tmp_path, environ=emulator.variables()) as server,
        emulator.client() as flip,
        httpx.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{port}") as http,
    ):
        emulator.register_webhook(f"http://127.0.0.1:{port}/webhooks/flip")
        await enrolled(flip, emulator, devices=3)
        (event_id,) = emulator.dispatch()
        await until_acknowledged(emulator)
        assert len((await http.get("/schedule")).json()) == 3
        assert (await http.get("/sites/hh-1")).json()["zip_code"] == "88801"
        assert "/schedule" in (await http.get("/openapi.json")).json()["paths"]
        emulator.cancel_event(event_id)
        await until_acknowledged(emulator)
        assert (await http.get("/schedule")).json() == []
        assert await server.end(signal.SIGTERM) in {0, -signal.SIGTERM}

    assert "hh-1 ACTIVE" in server.output
    assert "Application shutdown complete" in server.output
    assert "Traceback" not in server.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
async def test_the_worker_of_the_documentation_acts_on_a_dispatch_until_it_is_stopped(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "worker.py").write_text(block("worker"))
    async with Emulator() as emulator, emulator.client() as flip:
        await enrolled(flip, emulator)
        emulator.dispatch()
        async with Process("worker.py", cwd=tmp_path, **emulator.variables()) as worker:
            await worker.until_it_says("schedule inv-0 DISCHARGE")
            await until_acknowledged(emulator)
            assert await worker.end(number) == 128 + number

    assert "Traceback" not in worker.output
    assert "never" not in worker.output
