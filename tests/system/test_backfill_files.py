"""`flip telemetry backfill` with files as they are: stopped, broken, on full disks [T5] [B7]."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from flip_async.emulator import Emulator
from tests.support import history
from tests.support.processes import default_signals
from tests.support.telemetry import commission_batteries

TELEMETRY = "/v1/telemetry/BATTERY"
HEAD = "device_id,start_time,duration_s,last_is_online\n"


@pytest.fixture
async def local() -> AsyncIterator[Emulator]:
    async with Emulator() as emulator:
        await commission_batteries(emulator, [f"inv-{number}" for number in range(20)])
        yield emulator


class Run:
    """One run of the command line."""

    def __init__(self, code: int, output: str, listed: list[dict[str, Any]]) -> None:
        self.code, self.output, self.listed = code, output, listed
        self.lines = sorted(row["line"] for row in listed)


async def start(
    local: Emulator, *arguments: object, before: Callable[[], None] = default_signals
) -> asyncio.subprocess.Process:
    def begin() -> None:
        default_signals()
        before()

    # Where coverage is measured, it would write a file of its own in the process.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    variables = (os.environ if before is default_signals else kept) | local.variables()
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "flip_async", "telemetry", *map(str, arguments),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, preexec_fn=begin, env=variables,
    )  # fmt: skip


async def end(process: asyncio.subprocess.Process, path: Path, stdin: bytes = b"") -> Run:
    output, _ = await process.communicate(stdin)
    assert b"Traceback" not in output, output.decode()
    rejected = Path(f"{path}.rejected.jsonl")
    rows = rejected.read_text().splitlines() if rejected.exists() else []
    assert process.returncode is not None
    return Run(process.returncode, output.decode(), [json.loads(row) for row in rows])


async def backfill(
    local: Emulator, path: Path, *options: object, before: Callable[[], None] = default_signals
) -> Run:
    return await end(await start(local, "backfill", path, *options, before=before), path)


def arrived(local: Emulator) -> Counter[tuple[object, object]]:
    return Counter((row["device_id"], row["start_time"]) for row in local.telemetry)


def row(minute: int, device: str = "inv-0", duration: object = 300) -> str:
    return f"{device},2025-01-01T00:{minute:02}:00Z,{duration},false\n"


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not happened():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"]
)
async def test_a_stop_within_a_block_sends_no_row_twice(
    local: Emulator, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Flip takes a part of the block and then nothing: the next run sends what is left of it."""
    path = tmp_path / "h.csv"
    history.write_csv(path, 20, 400)
    local.fail_next(2, path=TELEMETRY, delay_s=0.05)
    process = await start(local, "backfill", path, "--concurrency", "1")
    await until(lambda: len(local.telemetry) >= 2000)
    local.fail_next(None, status=503, path=TELEMETRY)
    process.send_signal(number)
    first = await end(process, path)
    sent = len(local.telemetry)
    local.behave()

    second = await backfill(local, path, "--concurrency", "1")

    assert first.code == code, first.output
    assert "run the same command again" in first.output
    assert second.code == 0, second.output
    assert 0 < sent < 8000
    assert len(arrived(local)) == arrived(local).total() == 8000


async def test_rows_that_flip_refuses_are_matched_by_index(local: Emulator, tmp_path: Path) -> None:
    """Two equal rows, and two in the hour that comes twice, where a time is unequal to itself."""
    path = tmp_path / "h.csv"
    hour = ["01:30", "02:00", "02:30", "02:00", "02:30", "03:00"]
    path.write_text(
        HEAD + row(0) + row(5, "nobody") * 2
        + "".join(f"nobody,2025-10-26T{time}:00,300,false\n" for time in hour)
    )  # fmt: skip

    run = await backfill(local, path, "--time-zone", "Europe/Berlin")

    assert run.code == 1, run.output
    assert run.lines == [3, 4, 5, 6, 7, 8, 9, 10]
    assert {one["reason"] for one in run.listed} == {"The device is not known"}


async def test_a_second_run_lists_nothing_twice_and_a_fresh_one_begins_anew(
    local: Emulator, tmp_path: Path
) -> None:
    path = tmp_path / "h.csv"
    path.write_text(HEAD + row(0) + row(5, duration=-1))

    first = await backfill(local, path)
    second = await backfill(local, path)
    path.write_text(HEAD + row(0) + row(5))
    changed = await backfill(local, path)
    fresh = await backfill(local, path, "--restart")

    assert (first.code, first.lines) == (1, [3])
    assert (second.code, second.lines) == (1, [3])
    assert "and 1 by earlier runs" in second.output
    assert changed.code == 2
    assert "--restart" in changed.output
    assert (fresh.code, fresh.listed) == (0, [])
    assert not Path(f"{path}.rejected.jsonl").exists()


def nothing_can_grow() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


async def test_a_journal_that_cannot_be_written_is_found_before_the_first_row(
    local: Emulator, tmp_path: Path
) -> None:
    path = tmp_path / "h.csv"
    path.write_text(HEAD + row(0))

    run = await backfill(local, path, before=nothing_can_grow)

    assert run.code == 2
    assert "h.csv.flip-progress" in run.output
    assert local.telemetry == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
async def test_a_list_that_cannot_be_written_stops_the_run_before_its_block_counts(
    local: Emulator, tmp_path: Path
) -> None:
    path = tmp_path / "h.csv"
    path.write_text(HEAD + row(0) + row(5, "nobody") + row(10))

    full = await backfill(local, path, "--rejected", "/dev/full")
    Path(f"{path}.flip-progress").unlink()
    again = await backfill(local, path)

    assert full.code == 2
    assert "cannot write the list of refused rows, /dev/full: No space left" in full.output
    assert (again.code, again.lines) == (1, [3])


async def test_a_list_in_a_folder_that_is_not_there_is_found_before_the_first_row(
    local: Emulator, tmp_path: Path
) -> None:
    path = tmp_path / "h.csv"
    path.write_text(HEAD + row(0))

    run = await backfill(local, path, "--rejected", tmp_path / "missing" / "list.jsonl")

    assert run.code == 2
    assert "pass --rejected" in run.output
    assert local.telemetry == []


async def test_what_was_not_delivered_ends_the_run_and_is_sent_by_the_next(
    local: Emulator, tmp_path: Path
) -> None:
    """Pages of a proxy, with 200, are no answer of Flip's: nobody knows, so it is not done."""
    path = tmp_path / "h.csv"
    history.write_csv(path, 20, 300)
    local.fail_next(3, status=200, path=TELEMETRY, body=b"<html>please sign in</html>")

    first = await backfill(local, path, "--concurrency", "1")
    second = await backfill(local, path, "--concurrency", "1")

    assert first.code == 2, first.output
    assert "rows were not delivered, the first of them line" in first.output
    assert second.code == 0, second.output
    assert len(arrived(local)) == 6000


async def test_the_first_rows_are_shown_as_they_would_be_sent(
    local: Emulator, tmp_path: Path
) -> None:
    path = tmp_path / "h.csv"
    path.write_text("serial;time;kW;soc\ninv-0;1735689600;2,2;0,85\n")
    names = ["device_id=serial", "start_time=time:epoch_s", "solar_last_power_w=kW:kW"]
    options = [word for name in names for word in ("--column", name)]
    soc = "battery_last_state_of_charge_percentage"

    run = await backfill(
        local, path, "--dry-run", *options, "--column", f"{soc}=soc", "--set", "duration_s=300"
    )

    assert run.code == 0
    assert "line 2 would be sent as" in run.output
    seen = [" ".join(text.split()) for text in run.output.splitlines()]
    assert 'start_time "2025-01-01T00:00:00Z" from time = 1735689600 in epoch_s' in seen
    assert "solar_last_power_w 2200.0 W from kW = 2,2 in kW" in seen
    assert f"--column {soc}=soc:ratio" in run.output
    assert "WARNING" in run.output
    assert local.telemetry == []


async def test_a_warning_comes_before_the_first_row_goes_out(
    local: Emulator, tmp_path: Path
) -> None:
    path = tmp_path / "h.csv"
    path.write_text(
        HEAD.replace("last_is_online", "solar_last_power_w") + row(0).replace("false", "2.2")
    )
    local.fail_next(None, status=503, path=TELEMETRY)
    process = await start(local, "backfill", path)
    assert process.stdout is not None

    async with asyncio.timeout(60):
        said = await process.stdout.readline()

    assert b"WARNING" in said
    assert b":kW" in said
    assert local.telemetry == []
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.communicate()


async def test_a_pipe_is_read_by_send_alone(local: Emulator, tmp_path: Path) -> None:
    fifo = tmp_path / "h.csv"
    os.mkfifo(fifo)

    run = await backfill(local, fifo)

    assert run.code == 2
    assert "use `flip telemetry send`" in run.output


async def test_a_burst_from_a_pipe_goes_out_in_large_requests(
    local: Emulator, tmp_path: Path
) -> None:
    rows = "".join(
        json.dumps(one | {"start_time": one["start_time"].isoformat()}) + "\n"
        for one in history.rows(20, 100)
    )
    process = await start(
        local, "send", "-", "--format", "jsonl", "--rejected", tmp_path / "list.jsonl"
    )

    run = await end(process, tmp_path / "list", rows.encode())

    assert run.code == 0, run.output
    assert len(local.telemetry) == 2000
    assert local.count("POST", TELEMETRY) < 200


async def test_nothing_from_a_pipe_is_nothing_to_send(local: Emulator, tmp_path: Path) -> None:
    for form in ("csv", "jsonl"):
        where = tmp_path / "list.jsonl"
        process = await start(local, "send", "-", "--format", form, "--rejected", where)

        run = await end(process, tmp_path / "list")

        assert run.code == 0, run.output
        assert not where.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--column"], ""),
        (["--decimal", "dot"], "decimal"),
        (["--no-such-option"], "no-such-option"),
    ],
)
async def test_a_command_line_that_makes_no_sense_ends_with_2(
    local: Emulator, tmp_path: Path, options: list[str], says: str
) -> None:
    run = await backfill(local, tmp_path / "h.csv", *options)

    assert run.code == 2
    assert says in run.output


async def test_a_list_is_never_written_over_something_else(local: Emulator, tmp_path: Path) -> None:
    path, other = tmp_path / "h.csv", tmp_path / "other.csv"
    path.write_text(HEAD + row(0))
    other.write_text(HEAD)

    itself = await backfill(local, path, "--rejected", path)
    another = await backfill(local, path, "--rejected", other)

    assert (itself.code, another.code) == (2, 2)
    assert "is the file that is sent" in itself.output
    assert "is no list of refused rows" in another.output
    assert (path.read_text(), other.read_text()) == (HEAD + row(0), HEAD)
    assert local.telemetry == []


async def test_two_runs_do_not_send_one_file_at_once(local: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    history.write_csv(path, 20, 100)
    gate = asyncio.Event()
    local.fail_next(None, path=TELEMETRY, until=gate)
    process = await start(local, "backfill", path)
    await until(lambda: local.count("POST", TELEMETRY) > 0)

    second = await backfill(local, path)
    gate.set()
    first = await end(process, path)

    assert second.code == 2
    assert "another run writes to" in second.output
    assert first.code == 0, first.output
    assert len(arrived(local)) == arrived(local).total() == 2000


async def test_a_file_that_has_grown_goes_on_and_another_does_not(
    local: Emulator, tmp_path: Path
) -> None:
    """A log that is sent each day; the row up to which all is settled has to be what it was."""
    path = tmp_path / "h.csv"
    path.write_text(HEAD + row(0) + row(5))

    first = await backfill(local, path)
    path.write_text(path.read_text() + row(10))
    grown = await backfill(local, path)
    path.write_text(HEAD + row(0) + row(5) + row(15) + row(20))
    another = await backfill(local, path)
    path.write_text(HEAD + row(0))
    shorter = await backfill(local, path)

    assert [run.code for run in (first, grown, another, shorter)] == [0, 0, 2, 2]
    assert "going on after row 2 (line 3)" in grown.output
    assert "--restart" in another.output
    assert "--restart" in shorter.output
    assert len(arrived(local)) == arrived(local).total() == 3
