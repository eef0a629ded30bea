"""What an outbox on disk promises: an accepted point outlives the process [T4]."""

import asyncio
import os
import random
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from flip_async import PRODUCTION, SANDBOX, FlipClient, errors
from flip_async._sqlite import _file
from flip_async.emulator import Emulator
from flip_async.telemetry import OutboxDraft, SqliteOutbox, _sqlite
from tests.support import ManualClock
from tests.support.processes import default_signals
from tests.support.telemetry import TelemetryServer, commission_batteries, number_of, point

ROUNDS = 50


@pytest.fixture
def server() -> TelemetryServer:
    return TelemetryServer()


@pytest.fixture
async def flip(server: TelemetryServer) -> AsyncIterator[FlipClient]:
    async with FlipClient(
        environment=SANDBOX, api_key="fl_your_api_key", transport=server
    ) as client:
        yield client


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


async def test_points_are_sent_from_the_file_and_leave_it(
    flip: FlipClient, server: TelemetryServer, path: Path
) -> None:
    async with flip.telemetry.uploader(outbox=SqliteOutbox(path)) as uploader:
        await uploader.add_many([point(number) for number in range(2500)])
        await asyncio.gather(*(uploader.add(point(number)) for number in range(2500, 2600)))
        await uploader.flush(timeout_s=30)
        assert uploader.stats.queued == 0

    assert server.numbers() == list(range(2600))
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM points").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM owners").fetchone() == (0,)
    db.close()


async def test_a_point_on_disk_waits_for_others_no_longer_than_max_delay(
    flip: FlipClient, server: TelemetryServer, path: Path
) -> None:
    """Also when it comes while nothing else waits, long before the next look at the file."""
    async with flip.telemetry.uploader(outbox=SqliteOutbox(path), max_delay_s=0.02) as uploader:
        for number in range(3):
            await uploader.add(point(number))
            while uploader.stats.sent <= number:
                await asyncio.sleep(0.005)
            assert uploader._clock.monotonic() < uploader._worker._renew_at_s


async def test_what_could_not_be_sent_stays_for_the_next_time(
    flip: FlipClient, server: TelemetryServer, path: Path
) -> None:
    """It is not handed to `on_undelivered`: the file has it, and a copy would be sent twice."""
    undelivered: list[object] = []
    server.next_answers += [httpx.Response(403)] * 100
    async with flip.telemetry.uploader(
        outbox=SqliteOutbox(path),
        close_timeout_s=0.1,
        on_undelivered=lambda points, error: undelivered.append(points),
    ) as uploader:
        await uploader.add_many([point(number) for number in range(10)])

    server.next_answers.clear()
    async with flip.telemetry.uploader(outbox=SqliteOutbox(path)) as uploader:
        assert uploader.stats.queued == 10
        await uploader.flush(timeout_s=30)

    assert server.numbers() == list(range(10))
    assert undelivered == []


async def test_two_uploaders_share_a_file_and_send_no_point_twice(
    flip: FlipClient, server: TelemetryServer, path: Path
) -> None:
    outboxes = [SqliteOutbox(path) for _ in range(2)]
    async with (
        flip.telemetry.uploader(outbox=outboxes[0], max_delay_s=0.01) as one,
        flip.telemetry.uploader(outbox=outboxes[1], max_delay_s=0.01) as two,
    ):
        for number in range(0, 400, 2):
            await asyncio.gather(one.add(point(number)), two.add(point(number + 1)))
        await one.flush(timeout_s=30)
        await two.flush(timeout_s=30)

    assert server.numbers() == list(range(400))


async def test_a_lease_that_is_renewed_keeps_points_from_others(
    flip: FlipClient, server: TelemetryServer, path: Path
) -> None:
    """However long a request takes."""
    server.gate = asyncio.Event()
    async with flip.telemetry.uploader(
        outbox=SqliteOutbox(path, lease_s=0.3), max_delay_s=0.01
    ) as one:
        await one.add(point())
        while not server.requests:
            await asyncio.sleep(0.01)
        async with flip.telemetry.uploader(
            outbox=SqliteOutbox(path, lease_s=0.3), max_delay_s=0.01
        ) as two:
            with pytest.raises(errors.DeadlineError):
                await two.flush(timeout_s=1.0)
            server.gate.set()

    assert len(server.requests) == 1


async def test_counters_in_a_file_keep_their_order(
    flip: FlipClient, server: TelemetryServer, path: Path
) -> None:
    server.gate = asyncio.Event()
    async with flip.telemetry.counter_uploader(
        outbox=SqliteOutbox(path, lease_s=0.5), max_delay_s=0.01
    ) as uploader:
        for number in range(60):
            await uploader.add({"device_id": f"inv-{number % 3}", "timestamp": number})
            if number == 30:
                await asyncio.sleep(0.1)
        server.gate.set()
        await uploader.flush(timeout_s=30)

    for device in range(3):
        mine = [number for number in server.in_turn if number % 3 == device]
        assert mine == list(range(device, 60, 3))


async def test_counters_that_were_refused_come_before_their_successors(
    flip: FlipClient, server: TelemetryServer, path: Path
) -> None:
    outbox = SqliteOutbox(path)
    await outbox.open(origin="https://x", endpoint="BATTERY_COUNTER", in_order=True)
    await outbox.put([OutboxDraft("a", b"1"), OutboxDraft("a", b"2"), OutboxDraft("b", b"3")])
    first = await outbox.claim(1)
    assert [entry.body for entry in await outbox.claim(10)] == [b"3"]
    await outbox.release(first, was_refused=True)

    again = await outbox.claim(10)
    assert [(entry.body, entry.was_refused) for entry in again] == [(b"1", True)]
    await outbox.settle(again)
    assert [entry.body for entry in await outbox.claim(10)] == [b"2"]
    await outbox.aclose()


async def test_refused_points_leave_half_of_a_batch_to_others(path: Path) -> None:
    outbox = SqliteOutbox(path)
    await outbox.open(origin="https://x", endpoint="BATTERY", in_order=False)
    await outbox.put([OutboxDraft("a", b"%d" % number) for number in range(10)])
    await outbox.release(await outbox.claim(5), was_refused=True)

    batch = await outbox.claim(4)
    assert [entry.body for entry in batch] == [b"5", b"6", b"0", b"1"]
    rest = await outbox.claim(100)
    assert [entry.was_refused for entry in rest] == [False] * 3 + [True] * 3
    assert outbox.depth.waiting == 0
    await outbox.aclose()


# What it refuses


async def test_a_file_of_another_origin_is_refused(
    flip: FlipClient, server: TelemetryServer, path: Path
) -> None:
    """Data of the sandbox never goes to production."""
    async with flip.telemetry.uploader(outbox=SqliteOutbox(path)):
        pass

    async with FlipClient(
        environment=PRODUCTION, api_key="fl_your_api_key", transport=server
    ) as production:
        with pytest.raises(errors.ConfigurationError, match=r"holds points for .*sandbox"):
            async with production.telemetry.uploader(outbox=SqliteOutbox(path)):
                pass
    with pytest.raises(errors.ConfigurationError, match="a file of its own"):
        async with flip.telemetry.counter_uploader(outbox=SqliteOutbox(path)):
            pass


async def refusal(flip: FlipClient, outbox: SqliteOutbox) -> errors.FlipError:
    with pytest.raises(errors.FlipError) as caught:
        async with flip.telemetry.uploader(outbox=outbox):
            pass
    return caught.value


async def test_what_is_no_outbox_is_refused_and_left_alone(flip: FlipClient, path: Path) -> None:
    path.write_text("precious notes " * 100)
    assert isinstance(await refusal(flip, SqliteOutbox(path)), errors.ConfigurationError)
    assert path.read_text() == "precious notes " * 100

    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE recipes (name TEXT)")
    db.close()
    error = await refusal(flip, SqliteOutbox(path))
    assert "of something else" in str(error)


async def test_a_file_of_a_newer_format_is_refused(flip: FlipClient, path: Path) -> None:
    async with flip.telemetry.uploader(outbox=SqliteOutbox(path)):
        pass
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()

    assert "format 99" in str(await refusal(flip, SqliteOutbox(path)))


async def test_a_file_that_cannot_be_opened_is_told(flip: FlipClient, tmp_path: Path) -> None:
    nowhere = await refusal(flip, SqliteOutbox(tmp_path / "nowhere" / "outbox.db"))
    assert isinstance(nowhere, errors.StorageError)
    assert "no such directory" in str(nowhere)

    assert isinstance(await refusal(flip, SqliteOutbox(tmp_path)), errors.StorageError)


@pytest.mark.parametrize(
    "options", [{"max_points": 0}, {"lease_s": 0}, {"when_full": "drop"}], ids=str
)
def test_wrong_options_are_refused_at_once(path: Path, options: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError):
        SqliteOutbox(path, **options)


@pytest.mark.parametrize("path", [None, 5, b"outbox.db"])
def test_a_path_that_is_none_is_named(path: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="^path: is a str or an os.PathLike"):
        SqliteOutbox(path)


async def test_nothing_is_safe_at_once_on_a_disk(flip: FlipClient, path: Path) -> None:
    async with flip.telemetry.uploader(outbox=SqliteOutbox(path)) as uploader:
        with pytest.raises(errors.ConfigurationError, match="await add"):
            uploader.add_nowait(point())


async def test_an_outbox_that_is_full_says_so_or_waits(
    flip: FlipClient, server: TelemetryServer, path: Path
) -> None:
    server.gate = asyncio.Event()
    full = SqliteOutbox(path, max_points=3, when_full="raise")
    async with flip.telemetry.uploader(outbox=full) as uploader:
        await uploader.add_many([point(number) for number in range(3)])
        with pytest.raises(errors.OutboxFullError, match="holds 3 points"):
            await uploader.add(point(3))
        server.gate.set()
        await uploader.flush(timeout_s=30)
        await uploader.add(point(3))

    path = path.with_name("waits.db")
    async with flip.telemetry.uploader(
        outbox=SqliteOutbox(path, max_points=3), max_delay_s=0.01
    ) as uploader:
        async with asyncio.timeout(30):
            await uploader.add_many([point(number) for number in range(4, 20)])

    assert server.numbers() == list(range(20))


async def test_a_disk_that_is_full_for_a_while_costs_no_point(
    flip: FlipClient, server: TelemetryServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent and cannot be crossed off is not sent again when there is room."""
    from flip_async.telemetry import _delivery

    monkeypatch.setattr(_delivery, "_STORE_S", 0.05)
    outbox = SqliteOutbox(path)
    async with flip.telemetry.uploader(outbox=outbox, max_delay_s=0.01) as uploader:
        await uploader.add(point(0))
        await uploader.flush(timeout_s=30)

        def no_room(db: sqlite3.Connection, ids: str) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(_sqlite, "_forget", no_room)
        await uploader.add(point(1))
        await asyncio.sleep(0.2)
        monkeypatch.undo()
        await uploader.flush(timeout_s=30)

    assert server.numbers() == [0, 1]


async def test_a_disk_that_never_works_again_does_not_hold_up_closing(
    flip: FlipClient, server: TelemetryServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = SqliteOutbox(path)
    async with asyncio.timeout(30):
        async with flip.telemetry.uploader(
            outbox=outbox, max_delay_s=0.01, close_timeout_s=0.2
        ) as uploader:
            await uploader.add(point(0))

            def broken(*arguments: object) -> None:
                raise sqlite3.OperationalError("disk I/O error")

            monkeypatch.setattr(_sqlite, "_forget", broken)
            monkeypatch.setattr(outbox._leases, "sign_out", broken)
            while not server.accepted:
                await asyncio.sleep(0.01)

    assert server.numbers() == [0]


async def test_a_file_that_somebody_holds_fails_all_who_wait_at_once(
    flip: FlipClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one after the other, each with a wait of its own."""
    monkeypatch.setattr(_file, "_BUSY_S", 0.2)
    async with flip.telemetry.uploader(outbox=SqliteOutbox(path), max_delay_s=100) as uploader:
        with sqlite3.connect(path, isolation_level=None) as holder:
            holder.execute("BEGIN IMMEDIATE")
            outcomes = await asyncio.gather(
                *(uploader.add(point(number)) for number in range(20)), return_exceptions=True
            )
            holder.execute("ROLLBACK")
        holder.close()
        await uploader.add(point(99))

    assert {type(outcome) for outcome in outcomes} == {errors.StorageError}
    assert "another process holds it" in str(outcomes[0])


async def test_whoever_waits_for_room_on_disk_when_the_uploader_is_left_is_told(
    flip: FlipClient, server: TelemetryServer, path: Path
) -> None:
    server.next_answers += [httpx.Response(403)] * 100
    async with flip.telemetry.uploader(
        outbox=SqliteOutbox(path, max_points=1), close_timeout_s=0.1
    ) as uploader:
        await uploader.add(point(0))
        waiting = asyncio.create_task(uploader.add(point(1)))
        await asyncio.sleep(0.05)

    with pytest.raises((errors.ClientClosedError, errors.StorageError)):
        await waiting


async def test_opening_can_be_cancelled(flip: FlipClient, path: Path) -> None:
    outbox = SqliteOutbox(path)
    opening = asyncio.create_task(outbox.open(origin="https://x", endpoint="y", in_order=False))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening

    with pytest.raises(errors.StorageError, match="is closed"):
        await outbox.renew()


async def test_a_store_that_fails_tells_the_one_who_adds(
    flip: FlipClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nobody else whose points would have been in the same commit."""
    outbox = SqliteOutbox(path)
    async with flip.telemetry.uploader(outbox=outbox, max_delay_s=100) as uploader:
        put = outbox.put

        async def fail() -> None:
            await outbox._file.run(lambda db: db.execute("INSERT INTO nowhere VALUES (1)"))

        results = await asyncio.gather(
            uploader.add(point(1)), fail(), uploader.add(point(2)), return_exceptions=True
        )
        assert put is not None
        assert [type(result) for result in results] == [
            type(None), errors.StorageError, type(None)
        ]  # fmt: skip
        assert uploader.stats.queued == 2


async def test_a_power_cut_is_waited_for_where_it_is_asked_for(
    flip: FlipClient, path: Path
) -> None:
    for outbox, synchronous in (
        (SqliteOutbox(path), 1),
        (SqliteOutbox(path, survive_power_cut=True), 2),
    ):
        async with flip.telemetry.uploader(outbox=outbox):
            asked = await outbox._file.run(lambda db: db.execute("PRAGMA synchronous").fetchone())
            mode = await outbox._file.run(lambda db: db.execute("PRAGMA journal_mode").fetchone())
        assert (asked, mode) == ((synchronous,), ("wal",))


# The file is not alone in the world


async def test_a_file_that_is_deleted_takes_no_more_points_and_the_old_ones_are_sent(
    flip: FlipClient, server: TelemetryServer, path: Path
) -> None:
    """Nothing is accepted into nowhere, and what was accepted is not lost either."""
    async with flip.telemetry.uploader(outbox=SqliteOutbox(path), max_delay_s=100) as uploader:
        await uploader.add(point(0))
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
        with pytest.raises(errors.StorageError, match="deleted, moved or replaced"):
            await uploader.add(point(1))

    assert server.numbers() == [0]


async def test_what_a_deleted_file_had_is_told_where_it_cannot_be_sent(
    flip: FlipClient, server: TelemetryServer, path: Path
) -> None:
    server.next_answers += [httpx.Response(503)] * 100
    with pytest.raises(errors.UndeliveredTelemetryError) as caught:
        async with flip.telemetry.uploader(
            outbox=SqliteOutbox(path), close_timeout_s=0.1
        ) as uploader:
            await uploader.add(point(0))
            path.rename(path.with_suffix(".moved"))

    assert caught.value.points == (point(0),)


async def test_a_point_that_the_disk_damaged_is_passed_over_and_kept_aside(
    flip: FlipClient, server: TelemetryServer, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It costs none of its batch, and is there to be looked at."""
    server.next_answers += [httpx.Response(503)] * 100
    async with flip.telemetry.uploader(outbox=SqliteOutbox(path), close_timeout_s=0.05) as uploader:
        await uploader.add_many([point(number) for number in range(4)])
    db = sqlite3.connect(path)
    with db:
        db.execute("UPDATE points SET body = substr(body, 1, 40) WHERE id = 2")
    db.close()
    server.next_answers.clear()

    async with flip.telemetry.uploader(outbox=SqliteOutbox(path)) as uploader:
        await uploader.flush(timeout_s=30)
        assert (uploader.stats.sent, uploader.stats.undelivered) == (3, 1)

    assert server.numbers() == [0, 2, 3]
    assert "points are lost (the outbox gave back what is no JSON): 2 of inv-1" in caplog.text
    db = sqlite3.connect(path)
    assert db.execute("SELECT id, reason FROM dead_letters").fetchall() == [
        (2, "the outbox gave back what is no JSON")
    ]
    db.close()


async def test_a_file_gives_its_room_back_when_all_is_sent(
    flip: FlipClient, server: TelemetryServer, path: Path
) -> None:
    server.next_answers += [httpx.Response(503)] * 100
    async with flip.telemetry.uploader(outbox=SqliteOutbox(path), close_timeout_s=0.05) as uploader:
        await uploader.add_many([point(number) for number in range(8000)])
    largest = path.stat().st_size
    server.next_answers.clear()

    for _ in range(3):
        async with flip.telemetry.uploader(outbox=SqliteOutbox(path)) as uploader:
            await uploader.flush(timeout_s=30)

    assert path.stat().st_size < largest / 10


async def test_waiting_for_a_held_file_ends_with_the_callers_own_limit(
    flip: FlipClient, path: Path
) -> None:
    """Not with the database's, which is thirty seconds [B11]."""
    uploader = flip.telemetry.uploader(
        outbox=SqliteOutbox(path), close_timeout_s=0.1, max_delay_s=100
    )
    holder = sqlite3.connect(path, isolation_level=None)
    async with asyncio.timeout(20):
        async with uploader:
            await uploader.add(point())
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises(errors.DeadlineError):
                await uploader.flush(timeout_s=0.1)
    holder.execute("ROLLBACK")
    holder.close()


async def test_an_opening_that_is_cancelled_while_somebody_holds_the_file_leaves_no_thread(
    path: Path,
) -> None:
    first = SqliteOutbox(path)
    await first.open(origin="https://x", endpoint="y", in_order=False)
    await first.aclose()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    before = threading.active_count()
    opening = asyncio.create_task(
        SqliteOutbox(path).open(origin="https://x", endpoint="y", in_order=False)
    )
    await asyncio.sleep(0.05)
    opening.cancel()

    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(20):
            await opening
    while threading.active_count() > before:
        await asyncio.sleep(0.01)
    holder.execute("ROLLBACK")
    holder.close()


@pytest.mark.parametrize("hours", [-24.0, 24.0])
async def test_a_claim_holds_for_its_lease_whatever_clock_it_was_written_by(
    path: Path, hours: float
) -> None:
    """A machine that starts anew has a monotonic clock that is behind the file's [B6]."""
    dead_clock, clock = ManualClock(), ManualClock()
    dead_clock.monotonic_s += hours * 3600
    dead = SqliteOutbox(path, lease_s=30, clock=dead_clock)
    await dead.open(origin="https://x", endpoint="y", in_order=False)
    await dead.put([OutboxDraft("a", b"1")])
    assert len(await dead.claim(10)) == 1
    await dead._file.aclose()  # and not its own aclose, which lets go

    outbox = SqliteOutbox(path, lease_s=30, clock=clock)
    await outbox.open(origin="https://x", endpoint="y", in_order=False)
    clock.monotonic_s += 30.1
    await outbox.renew()

    assert len(await outbox.claim(10)) == 1
    await outbox.aclose()


# kill -9


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
async def test_no_accepted_point_is_lost_by_a_process_that_is_killed(path: Path) -> None:
    """A real process, killed at random moments while it adds and sends."""
    luck = random.Random(20250115)
    arrived: Counter[int] = Counter()
    async with Emulator(on_telemetry=lambda row: arrived.update([number_of(row)])) as emulator:
        await commission_batteries(emulator, [f"inv-{number}" for number in range(10)])
        writer = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.writer",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        preexec_fn=default_signals,
            env=os.environ | {"FLIP_API_KEY": emulator.api_key},
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert writer.stdin is not None
        assert writer.stdout is not None
        accepted: list[int] = []
        for turn in range(ROUNDS):
            delay = luck.uniform(0.02, 0.25)
            writer.stdin.write(f"{path} {turn * 1000} {delay} {emulator.api_url}\n".encode())
            while (line := await writer.stdout.readline()) != b"killed\n":
                accepted.append(int(line))
        writer.stdin.close()
        await writer.wait()

        async with (
            emulator.client() as flip,
            flip.telemetry.uploader(outbox=SqliteOutbox(path, lease_s=0.3)) as uploader,
        ):
            await uploader.flush(timeout_s=60)

    assert len(accepted) > ROUNDS
    assert not set(accepted) - arrived.keys()
    assert len(arrived) < arrived.total() * 1.5  # what arrives twice is what was in flight
