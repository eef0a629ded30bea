"""`flip telemetry backfill` and `flip telemetry send`, as a shell runs them [T5]."""

import asyncio
import csv
import json
import os
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

DEVICES = 20
WRITERS: dict[str, Callable[[Path, int, int], None]] = {
    "csv": history.write_csv,
    "jsonl": history.write_jsonl,
    "parquet": history.write_parquet,
}


@pytest.fixture
async def local() -> AsyncIterator[Emulator]:
    async with Emulator() as emulator:
        await commission_batteries(emulator, [f"inv-{number}" for number in range(DEVICES)])
        yield emulator


async def start(local: Emulator | None, *arguments: object) -> asyncio.subprocess.Process:
    variables = {} if local is None else local.variables()
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "flip_async", "telemetry", *map(str, arguments),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        preexec_fn=default_signals,
        stderr=asyncio.subprocess.STDOUT, env=os.environ | variables | {"COLUMNS": "300"},
    )  # fmt: skip


async def run(local: Emulator | None, *arguments: object, stdin: bytes = b"") -> tuple[int, str]:
    process = await start(local, *arguments)
    output, _ = await process.communicate(stdin)
    assert process.returncode is not None
    assert b"Traceback" not in output, output.decode()
    return process.returncode, output.decode()


def arrived(local: Emulator) -> Counter[tuple[object, object]]:
    return Counter((row["device_id"], row["start_time"]) for row in local.telemetry)


def written(path: Path, lines: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return path


def line(**fields: Any) -> dict[str, Any]:
    row = next(history.rows(1, 1))
    return row | {"start_time": row["start_time"].isoformat()} | fields


@pytest.mark.parametrize("form", sorted(WRITERS))
async def test_a_file_of_history_arrives_once(local: Emulator, tmp_path: Path, form: str) -> None:
    path = tmp_path / f"history.{form}"
    WRITERS[form](path, DEVICES, 110)

    code, output = await run(local, "backfill", path)

    assert code == 0, output
    assert "2,200 points sent, 0 rows refused" in output
    assert len(arrived(local)) == arrived(local).total() == 2200
    assert local.telemetry[0]["battery_last_stored_energy_wh"] == 6750.0
    assert local.telemetry[0]["last_is_online"] is True
    assert not Path(f"{path}.rejected.jsonl").exists()

    code, output = await run(local, "backfill", path)
    assert (code, arrived(local).total()) == (0, 2200)  # a second run has nothing left to do
    assert "going on after row 2,200" in output


@pytest.mark.parametrize("form", ["csv", "parquet"])
async def test_a_backfill_that_is_interrupted_goes_on_where_it_stopped(
    local: Emulator, tmp_path: Path, form: str
) -> None:
    """Ctrl-C twice in the middle: every row arrives, and none of them twice."""
    path = tmp_path / f"history.{form}"
    WRITERS[form](path, DEVICES, 2000)
    local.fail_next(None, path="/v1/telemetry/BATTERY", delay_s=0.05)

    codes, outputs = [], []
    for stop_after in (9_000, 22_000, None):
        process = await start(local, "backfill", path)
        while stop_after is not None and len(local.telemetry) < stop_after:
            await asyncio.sleep(0.01)
        if stop_after is not None:
            process.send_signal(signal.SIGINT)
        output, _ = await process.communicate()
        codes.append(process.returncode)
        outputs.append(output.decode())

    assert codes == [130, 130, 0], outputs
    assert "run the same command again" in outputs[0]
    assert "going on after row" in outputs[2]
    assert len(arrived(local)) == 40_000
    assert arrived(local).total() == 40_000


async def test_a_backfill_that_is_killed_loses_nothing(local: Emulator, tmp_path: Path) -> None:
    """The block that was being sent is sent again, and no more than that."""
    path = tmp_path / "history.csv"
    WRITERS["csv"](path, DEVICES, 1000)
    local.fail_next(None, path="/v1/telemetry/BATTERY", delay_s=0.05)
    process = await start(local, "backfill", path)
    while len(local.telemetry) < 9_000:
        await asyncio.sleep(0.01)
    process.kill()
    await process.communicate()

    code, _ = await run(local, "backfill", path)

    assert code == 0
    assert len(arrived(local)) == 20_000
    assert arrived(local).total() <= 24_000


async def test_rows_that_are_refused_are_written_down_with_the_reason(
    local: Emulator, tmp_path: Path
) -> None:
    """By us or by Flip; the others arrive."""
    path = written(
        tmp_path / "history.csv",
        [
            line(),
            line(device_id="nobody"),
            line(home_last_power_w="lots"),
            line(home_last_power_w="-5"),
            line(start_time="2025-01-01T00:00:00"),
            line(device_id=""),
            line(device_id="inv-1", last_is_online="no", solar_last_power_w=""),
        ],
    )

    code, output = await run(local, "backfill", path)
    refused = [json.loads(text) for text in Path(f"{path}.rejected.jsonl").read_text().splitlines()]

    assert code == 1
    assert "2 points sent, 5 rows refused" in output
    assert sorted((row["line"], row["reason"]) for row in refused) == [
        (3, "The device is not known"),
        (4, "home_last_power_w: is no number: 'lots'"),
        (5, "home_last_power_w: is a number of at least 0 and finite, not -5.0"),
        (6, "start_time: has no time zone: pass --time-zone"),
        (7, "device_id: is missing"),
    ]
    assert {row["values"]["device_id"] for row in refused} == {"nobody", "inv-0", ""}
    assert local.telemetry[1]["last_is_online"] is False
    assert local.telemetry[1]["solar_last_power_w"] is None


async def test_columns_may_have_other_names_and_fields_one_value(
    local: Emulator, tmp_path: Path
) -> None:
    path = written(
        tmp_path / "export.txt",
        [{"serial": "inv-3", "ts": "2025-01-01 12:00", "soc": "40.5", "note": "?"}],
    )
    options = [
        "--format", "csv", "--column", "device_id=serial", "--column", "start_time=ts",
        "--column", "battery_last_state_of_charge_percentage=soc", "--set", "duration_s=300",
        "--time-zone", "America/Los_Angeles",
    ]  # fmt: skip

    code, output = await run(local, "backfill", path, *options)
    assert code == 2
    assert "no field of telemetry: note" in output
    code, output = await run(local, "backfill", path, *options, "--ignore-unknown")

    assert code == 0, output
    (sent,) = local.telemetry
    assert sent == {
        "device_id": "inv-3",
        "start_time": "2025-01-01T12:00:00-08:00",
        "duration_s": 300.0,
        "battery_last_state_of_charge_percentage": 40.5,
    }


async def test_a_dry_run_needs_no_account_and_sends_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "history.csv", [line(), line(duration_s="-1"), line(last_mode="")])

    code, output = await run(None, "backfill", path, "--dry-run")
    assert code == 1
    assert "line 3 is refused: duration_s: is a number of at least 0" in output
    assert "2 rows can be sent, 1 cannot; nothing was sent" in output

    code, output = await run(None, "backfill", path, "--dry-run", "--strict")
    assert "line 4 is refused: point: the device is online and lacks last_mode" in output
    assert "1 rows can be sent, 2 cannot" in output


async def test_points_from_a_pipe_are_sent_as_they_come(local: Emulator) -> None:
    process = await start(local, "send", "-", "--format", "jsonl")
    assert process.stdin is not None
    process.stdin.write(json.dumps(line()).encode() + b"\n")
    async with asyncio.timeout(60):
        while not local.telemetry:
            await asyncio.sleep(0.05)
    process.stdin.write(json.dumps(line(device_id="inv-1")).encode() + b"\n")
    process.stdin.close()
    output, _ = await process.communicate()

    assert process.returncode == 0, output
    assert b"2 points sent" in output
    assert len(local.telemetry) == 2


async def test_ctrl_c_ends_a_pipe_that_gives_nothing(local: Emulator) -> None:
    process = await start(local, "send", "-", "--format", "jsonl")
    assert process.stdin is not None
    process.stdin.write(json.dumps(line()).encode() + b"\n")
    async with asyncio.timeout(60):
        while not local.telemetry:
            await asyncio.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    output = await process.stdout.read()
    process.stdin.close()

    assert await process.wait() == 130, output


async def test_a_wrong_key_ends_it_at_once_and_loses_nothing(
    local: Emulator, tmp_path: Path
) -> None:
    path = tmp_path / "history.csv"
    WRITERS["csv"](path, DEVICES, 10)
    variables = local.variables() | {"FLIP_CLIENT_SECRET": "your_wrong_secret"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "flip_async", "telemetry", "backfill", str(path),
        stderr=asyncio.subprocess.PIPE, env=os.environ | variables,
    )  # fmt: skip
    _, stderr = await process.communicate()
    assert process.returncode == 2
    assert b"TokenRequestError" in stderr
    assert b"your_wrong_secret" not in stderr

    code, _ = await run(local, "backfill", path)
    assert code == 0
    assert len(local.telemetry) == 200


@pytest.mark.parametrize(
    ("content", "arguments", "says"),
    [
        (b"a,b\n1,2\n", ["--ignore-unknown"], "no column device_id"),
        (b"a\xff,b\n1,2\n", [], "line 1, the header, has a byte that is no UTF-8 (0xff"),
        (b"not a parquet file", ["--format", "parquet"], "cannot read"),
        (b"", ["--time-zone", "Mars/Olympus"], "--time-zone Mars/Olympus is not known"),
        (b"", ["--column", "oops"], "--column oops: is FIELD=VALUE"),
        (b"", ["--set", "colour=red"], "colour is no field"),
        (None, [], "No such file"),
    ],
)
async def test_a_file_that_cannot_be_read_is_told(
    tmp_path: Path, content: bytes | None, arguments: list[str], says: str
) -> None:
    path = tmp_path / "history.csv"
    if content is not None:
        path.write_bytes(content)

    code, output = await run(None, "backfill", path, "--dry-run", *arguments)

    assert code == 2
    assert says in output


async def test_a_name_that_tells_no_format_is_told(tmp_path: Path) -> None:
    assert "pass --format" in (await run(None, "backfill", tmp_path / "x", "--dry-run"))[1]


async def test_a_journal_of_another_run_is_not_used(local: Emulator, tmp_path: Path) -> None:
    """Another file under the same name, or other options: the rows would be others."""
    path = tmp_path / "history.csv"
    WRITERS["csv"](path, DEVICES, 10)
    journal = Path(f"{path}.flip-progress")
    journal.write_text(json.dumps({"identity": "another", "rows_done": 100}))

    code, output = await run(local, "backfill", path)
    assert code == 2
    assert "--restart" in output
    journal.write_text("nonsense")
    assert "delete it" in (await run(local, "backfill", path))[1]
    assert local.telemetry == []

    assert (await run(local, "backfill", path, "--restart"))[0] == 0
    assert len(local.telemetry) == 200
    assert json.loads(journal.read_text())["rows_done"] == 200


async def test_a_shell_loop_signs_in_once_by_a_token_file(local: Emulator, tmp_path: Path) -> None:
    """[F12]."""
    path, tokens = written(tmp_path / "points.csv", [line()]), tmp_path / "tokens.json"
    local.forget_counts()

    for _ in range(4):
        code, output = await run(local, "send", path, "--token-file", tokens)
        assert code == 0, output

    assert local.count("POST", "/token") == 1


async def test_a_token_file_that_others_can_read_ends_it(local: Emulator, tmp_path: Path) -> None:
    path, tokens = written(tmp_path / "points.csv", [line()]), tmp_path / "tokens.json"
    tokens.touch(0o644)

    code, output = await run(local, "send", path, "--token-file", tokens)

    assert code == 2
    assert "chmod 600" in output
