"""A history of 200,000 rows with 50 bad ones, through 20 interruptions of every kind.

Afterwards exactly the good rows are at the emulator, the bad ones are listed with their lines,
and for each `kill -9` at most one block arrived twice. `python -m tests.benchmarks.soak_backfill`.
"""

import asyncio
import json
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from flip_async.emulator import Emulator
from tests.support.processes import default_signals
from tests.support.telemetry import commission_batteries

ROWS, DEVICES, BLOCK = 200_000, 100, 4000
PATH = "/v1/telemetry/BATTERY"
INTERRUPTIONS = ["SIGINT", "SIGTERM", "SIGKILL", "odd answers", "no network"] * 4


def write(path: Path) -> set[int]:
    """Write the history; gives the lines of the bad rows."""
    bad = set(random.sample(range(2, ROWS + 2), 50))
    with path.open("w", encoding="utf-8") as file:
        file.write("device_id,start_time,duration_s,last_is_online\n")
        for line in range(2, ROWS + 2):
            minutes, device = divmod(line, DEVICES)
            name, duration = f"inv-{device}", "300"
            if line in bad:  # half of them are refused here, and half by Flip
                name, duration = (f"unknown-{device}", "300") if line % 2 else (name, "no number")
            start = (
                f"2025-01-{1 + minutes // 1440:02}T{minutes // 60 % 24:02}:{minutes % 60:02}:00Z"
            )
            file.write(f"{name},{start},{duration},false\n")
    return bad


async def run(path: Path, emulator: Emulator, how: str | None) -> int:
    variables = {
        "FLIP_API_URL": emulator.api_url,
        "FLIP_OAUTH_URL": emulator.oauth_url,
        "FLIP_API_KEY": emulator.api_key,
    }
    asked = emulator.count("POST", PATH)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "flip_async", "telemetry", "backfill", str(path),
        env={**os.environ, **variables},
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        preexec_fn=default_signals,
    )  # fmt: skip
    if how is not None:
        requests = random.randrange(1, 2 * ROWS // 1000 // len(INTERRUPTIONS))
        while emulator.count("POST", PATH) < asked + requests and process.returncode is None:
            await asyncio.sleep(0.001)
        await interrupt(process, emulator, how)
    return await process.wait()


async def interrupt(process: asyncio.subprocess.Process, emulator: Emulator, how: str) -> None:
    if how.startswith("SIG"):
        process.send_signal(signal.Signals[how])
    else:
        if how == "odd answers":
            emulator.fail_next(None, path=PATH, status=200, body=b"<html>please sign in</html>")
        else:
            emulator.fail_next(None, path=PATH, cut="before")
        await asyncio.sleep(1.0)
        process.send_signal(signal.SIGINT)
    await process.wait()
    emulator.behave()


async def main() -> int:
    arrived = Counter[tuple[str, str]]()
    ends = Counter[tuple[str, int]]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.csv"
        bad = write(path)
        async with Emulator(
            on_telemetry=lambda row: arrived.update([(row["device_id"], row["start_time"])])
        ) as emulator:
            await commission_batteries(emulator, [f"inv-{n}" for n in range(DEVICES)])
            for how in random.sample(INTERRUPTIONS, len(INTERRUPTIONS)):
                ends[how, await run(path, emulator, how)] += 1
            code = await run(path, emulator, None)
        text = Path(f"{path}.rejected.jsonl").read_text(encoding="utf-8")
        listed = [json.loads(line)["line"] for line in text.splitlines()]
    twice = sum(arrived.values()) - len(arrived)
    killed = sum(count for (how, _), count in ends.items() if how == "SIGKILL")
    print(f"interruptions and exit codes: {dict(ends)}; the last run: {code}")
    print(f"{len(arrived):,} of {ROWS - len(bad):,} good rows arrived, {twice} of them twice")
    print(f"{len(set(listed) & bad)} of {len(bad)} bad rows are listed, {len(listed)} lines")
    is_right = len(arrived) == ROWS - len(bad) and set(listed) == bad and twice <= killed * BLOCK
    return 0 if is_right and code == 1 else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
