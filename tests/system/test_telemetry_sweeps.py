"""Cancelled or failed at every turn, an uploader loses no point and tells none twice [B1], [B12]."""

import asyncio
import itertools
import json
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from flip_async import SANDBOX, FlipClient
from flip_async.errors import FlipError
from flip_async.models import TelemetryPoint, TelemetryResult
from flip_async.telemetry import (
    MemoryOutbox,
    Outbox,
    OutboxDraft,
    OutboxEntry,
    PutResult,
    QueueDepth,
    SqliteOutbox,
    TelemetryUploader,
    UploaderStats,
)
from tests.support.sweeps import How, Scenario, Trap, sweep, sweep_calls
from tests.support.telemetry import TelemetryServer, number_of, point

both = pytest.mark.parametrize("how", [How.NATIVE, How.SCOPE], ids=["natively", "by a scope"])


class Books:
    """What became of each point, as its user can know it."""

    def __init__(self, *, counters: bool) -> None:
        self.counters = counters
        self.server = TelemetryServer()
        self.server.fails = lambda row: "broken" if self._number(row) == 1 else None
        self.server.refuses = lambda row: self._number(row) == 6
        self.added: list[int] = []
        self.rejected: Counter[int] = Counter()
        self.undelivered: Counter[int] = Counter()
        self.kept: Counter[int] = Counter()
        self.uploader: TelemetryUploader[Any] | None = None

    def _number(self, row: dict[str, Any]) -> int:
        return number_of(row) if "start_time" in row else int(row["timestamp"])

    def make(self, number: int) -> Any:
        if self.counters:
            return {"device_id": "d", "timestamp": str(number)}
        return point(number)

    def number(self, one: Any) -> int:
        return (
            int(one["timestamp"])
            if self.counters
            else number_of({"start_time": one.start_time.isoformat()})
        )

    def on_rejected(self, one: Any, why: str) -> None:
        self.rejected[self.number(one)] += 1

    async def on_undelivered(self, points: Sequence[Any], error: FlipError) -> None:
        self.undelivered.update(map(self.number, points))
        await asyncio.sleep(0)

    def uploads(self, flip: FlipClient, outbox: Outbox, **options: Any) -> TelemetryUploader[Any]:
        make = flip.telemetry.counter_uploader if self.counters else flip.telemetry.uploader
        options = {"on_rejected": self.on_rejected, "on_undelivered": self.on_undelivered} | options
        self.uploader = make(outbox=outbox, close_timeout_s=2.0, **options)  # type: ignore[operator]
        return self.uploader

    def stats(self) -> UploaderStats:
        assert self.uploader is not None
        return self.uploader.stats

    async def act(self, uploader: TelemetryUploader[Any]) -> None:
        async with uploader:
            for number in range(5):
                await uploader.add(self.make(number))
                self.added.append(number)
            await uploader.flush()
            await uploader.add_many([self.make(number) for number in range(5, 8)])
            self.added += range(5, 8)

    def assert_balanced(self, *, on_disk: bool = False) -> None:
        """Accepted is sent, told or kept; nothing is told twice; counters keep their order."""
        told = self.rejected + self.undelivered
        assert max(told.values(), default=0) <= 1, f"told twice: {told}"
        known = set(self.server.numbers()) | set(told) | set(self.kept)
        assert set(self.added) <= known, f"lost: {set(self.added) - known}"
        stats = self.stats()
        settled = stats.sent + stats.rejected + stats.undelivered
        if on_disk:  # a put may be there though its `add` was cancelled
            assert stats.accepted <= settled + self.kept.total(), stats
        else:
            assert stats.accepted == settled, stats
            assert stats.in_flight == stats.queued == 0, stats
        if self.counters and len(self.server.in_turn) == len(set(self.server.in_turn)):
            assert self.server.in_turn == sorted(self.server.in_turn)


def client(books: Books) -> FlipClient:
    return FlipClient(environment=SANDBOX, api_key="fl_a_b", transport=books.server)


@both
@pytest.mark.parametrize("counters", [False, True], ids=["intervals", "counters"])
async def test_a_point_in_memory_is_sent_or_told(how: How, counters: bool) -> None:
    """Also where a task never began, and where the outbox was full [T3]."""

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        books = Books(counters=counters)
        async with client(books) as flip:
            uploader = books.uploads(flip, MemoryOutbox(max_points=3))

            async def check() -> None:
                books.assert_balanced()

            yield Scenario(act=lambda: books.act(uploader), check=check, may_raise=(FlipError,))

    (await sweep(arrange, how)).assert_clean(at_least=10)


@both
@pytest.mark.parametrize("counters", [False, True], ids=["intervals", "counters"])
async def test_a_point_on_disk_is_sent_told_or_kept(
    how: How, counters: bool, tmp_path: Path
) -> None:
    """What the next uploader finds in the file is what this one did not settle [T4]."""
    names = itertools.count()

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        books, path = Books(counters=counters), tmp_path / f"{next(names)}.db"
        async with client(books) as flip:
            uploader = books.uploads(flip, SqliteOutbox(path, max_points=3))

            async def check() -> None:
                books.kept.update(await asyncio.to_thread(kept_in, path, books))
                books.assert_balanced(on_disk=True)

            yield Scenario(act=lambda: books.act(uploader), check=check, may_raise=(FlipError,))

    (await sweep(arrange, how, step=41)).assert_clean(at_least=10)


def kept_in(path: Path, books: Books) -> list[int]:
    if not path.exists():
        return []
    db = sqlite3.connect(path)
    try:
        if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return []
        assert db.execute("SELECT count(*) FROM owners").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM points WHERE claim IS NOT NULL").fetchone() == (0,)
        (counted,) = db.execute("SELECT points FROM home").fetchone() or (0,)
        bodies = [body for (body,) in db.execute("SELECT body FROM points")]
        assert counted == len(bodies)
        return [books._number(json.loads(body)) for body in bodies]
    finally:
        db.close()


class TrappedOutbox(MemoryOutbox):
    """A user's outbox, which fails at one of its calls."""

    def __init__(self, trap: Trap) -> None:
        super().__init__()
        self.trap = trap

    async def claim(self, most: int) -> Sequence[OutboxEntry]:
        self.trap("claim")
        return await super().claim(most)

    async def settle(self, entries: Sequence[OutboxEntry]) -> None:
        self.trap("settle")
        await super().settle(entries)

    async def release(self, entries: Sequence[OutboxEntry], *, was_refused: bool = False) -> None:
        self.trap("release")
        await super().release(entries, was_refused=was_refused)

    async def renew(self) -> QueueDepth:
        self.trap("renew")
        return await super().renew()

    async def put(self, drafts: Sequence[OutboxDraft]) -> PutResult:
        self.trap("put")
        return await super().put(drafts)


def a_bug() -> BaseException:
    return RuntimeError("of a user's")


def from_within() -> BaseException:
    return asyncio.CancelledError("of another task")


@pytest.mark.parametrize(
    "make_error", [a_bug, from_within], ids=["an error", "a CancelledError from within"]
)
async def test_no_callback_changes_what_becomes_of_a_point(
    make_error: Callable[[], BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent, rejected or told it is, whatever a user's code raises [B4]."""
    hurry(monkeypatch)

    @asynccontextmanager
    async def arrange(trap: Trap) -> AsyncIterator[Scenario]:
        books = Books(counters=False)

        def on_rejected(one: TelemetryPoint, why: str) -> None:
            books.on_rejected(one, why)
            trap("on_rejected")

        def retry_point(one: TelemetryPoint, result: TelemetryResult) -> bool:
            trap("retry_point")
            return False

        original = books.server.handle_async_request

        async def transport(request: Any) -> Any:
            trap("transport")
            return await original(request)

        books.server.handle_async_request = transport  # type: ignore[method-assign]
        async with client(books) as flip:
            uploader = books.uploads(
                flip, MemoryOutbox(), on_rejected=on_rejected, retry_point=retry_point
            )

            async def check() -> None:
                books.assert_balanced()
                assert set(books.added) == set(range(8))

            yield Scenario(act=lambda: books.act(uploader), check=check)

    (await sweep_calls(arrange, make_error)).assert_clean(at_least=4)


async def test_an_outbox_that_fails_at_one_call_loses_no_point(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may be a user's, or a disk that is full for a while [B3]."""
    hurry(monkeypatch)

    @asynccontextmanager
    async def arrange(trap: Trap) -> AsyncIterator[Scenario]:
        books = Books(counters=False)
        async with client(books) as flip:
            uploader = books.uploads(flip, TrappedOutbox(trap))

            async def check() -> None:
                books.assert_balanced()

            yield Scenario(
                act=lambda: books.act(uploader), check=check, may_raise=(FlipError, RuntimeError)
            )

    (await sweep_calls(arrange, a_bug)).assert_clean(at_least=6)  # type: ignore[arg-type]


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    from flip_async.telemetry import _delivery, _worker

    monkeypatch.setattr(_delivery, "_STORE_S", 0.01)
    monkeypatch.setattr(_worker, "_STORE_S", 0.01)
