"""Webhooks as Flip would send them, for tests."""

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flip_async._claim_queue import QueueDepth
from flip_async._clock import Clock
from flip_async.webhooks import InboxEntry, InboxHome, Letter, sign
from tests.support import START

SECRET = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
OTHER_SECRET = "whsec_b3RoZXItb3RoZXItb3RoZXItb3RoZXItb3RoZXI="
DATA = Path(__file__).parents[1] / "data" / "examples"


class MemoryInbox:
    """The smallest inbox that keeps the promises; `at` is told of each call, and may raise."""

    def __init__(self, clock: Clock, at: Callable[[str], object] = lambda call: None) -> None:
        self.waiting: dict[int, tuple[float, InboxEntry]] = {}
        self.claimed: dict[int, InboxEntry] = {}
        self.settled: list[str] = []
        self.dead: list[tuple[str, str]] = []
        self.is_open = False
        self._ids: set[str] = set()
        self._clock = clock
        self._at = at

    @property
    def depth(self) -> QueueDepth:
        due = [due_at for due_at, _ in self.waiting.values()]
        return QueueDepth(waiting=len(due), next_due_at=min(due, default=None))

    @property
    def renew_every_s(self) -> float | None:
        return 5.0

    async def _call(self, name: str) -> None:
        await asyncio.sleep(0)
        self._at(name)

    async def open(self, *, home: InboxHome) -> None:
        await self._call("open")
        self.is_open = True

    async def put(self, letter: Letter) -> bool:
        await self._call("put")
        if letter.webhook_id in self._ids:
            return False
        self._ids.add(letter.webhook_id)
        entry = InboxEntry(len(self._ids), letter, self._clock.wall(), 0)
        self.waiting[entry.id] = (self._clock.wall(), entry)
        return True

    async def claim(self, most: int) -> Sequence[InboxEntry]:
        await self._call("claim")
        now = self._clock.wall()
        due = [entry for due_at, entry in self.waiting.values() if due_at <= now][:most]
        for entry in due:
            self.claimed[entry.id] = self.waiting.pop(entry.id)[1]
        return due

    async def settle(self, entries: Sequence[InboxEntry]) -> None:
        await self._call("settle")
        for entry in entries:
            self.claimed.pop(entry.id)
            self.settled.append(entry.letter.webhook_id)

    async def release(self, entries: Sequence[InboxEntry], *, due_at: float | None = None) -> None:
        await self._call("release")
        for entry in entries:
            self.claimed.pop(entry.id)
            failed = entry._replace(failures=entry.failures + (due_at is not None))
            self.waiting[entry.id] = (due_at or 0.0, failed)

    async def dead_letter(self, entries: Sequence[InboxEntry], reason: str) -> None:
        await self._call("dead_letter")
        for entry in entries:
            self.claimed.pop(entry.id)
            self.dead.append((entry.letter.webhook_id, reason))

    async def renew(self) -> QueueDepth:
        await self._call("renew")
        return self.depth

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        for entry in self.claimed.values():
            self.waiting[entry.id] = (0.0, entry)
        self.claimed.clear()
        self.is_open = False


def example(event_type: str) -> dict[str, Any]:
    """A documented webhook, such as `command.created`."""
    path = DATA / f"webhook-{event_type.replace('.', '-')}.json"
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def command_row(**fields: Any) -> dict[str, Any]:
    """A command as Flip prints it; it begins in an hour, by the clock of the tests."""
    return {
        **example("command.created")["event_object"],
        "created_at": iso(0),
        "updated_at": iso(0),
        "starts_at": iso(3600),
        "ends_at": iso(7200),
        **fields,
    }


def iso(after_s: float) -> str:
    """A moment after the tests' clock was started."""
    from flip_async.emulator._grid import iso

    return iso(START.wall_s + after_s)


def body_of(event_type: str, event_object: object) -> bytes:
    envelope = {"event_type": event_type, "event_object": event_object, "timestamp": iso(0)}
    return json.dumps(envelope).encode()


def signed(
    body: bytes, webhook_id: str = "msg_1", *, at_s: float | None = None, secret: str = SECRET
) -> dict[str, str]:
    """The headers of a webhook."""
    sent_at = START.wall_s if at_s is None else at_s
    return sign(body, secret, webhook_id=webhook_id, timestamp=sent_at)
