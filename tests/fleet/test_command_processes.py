"""Processes that poll one Flip, and one of them is killed, or hangs [F7]."""

import asyncio
import os
import signal
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from flip_async.emulator import Emulator
from tests.support.processes import Process
from tests.support.redis_server import RedisServer
from tests.system.test_fastapi import enrolled


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
async def test_commands_of_a_process_that_is_gone_are_handled_and_no_other_one_twice(
    redis_server: RedisServer,
    socket_emulator: Emulator,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    """One that hung for longer than its lease wakes up, and goes by what the others have done."""
    handled = tmp_path / "handled"
    handled.touch()
    variables = socket_emulator.variables() | {
        "HANDLED": str(handled), "REDIS_URL": redis_server.url, "TAKES_S": "0.3",
    }  # fmt: skip
    async with socket_emulator.client() as flip:
        await enrolled(flip, socket_emulator, devices=24)
    async with AsyncExitStack() as stack:
        workers = [Process("tests/support/command_worker.py", **variables) for _ in range(3)]
        for worker in workers:
            await stack.enter_async_context(worker)
            await worker.until_it_says("ready")

        socket_emulator.dispatch()
        while len(lines := lines_of(handled)) < 6:
            await asyncio.sleep(0.01)
        victim = lines[-1][0]
        os.kill(int(victim), number)
        while {command["device_status"] for command in socket_emulator.commands} != {"OK"}:
            await asyncio.sleep(0.02)

        lines = lines_of(handled)
        times = Counter(command_id for _, command_id in lines)
        assert len(times) == 24
        twice = {command_id for command_id, count in times.items() if count > 1}
        assert twice <= {command_id for pid, command_id in lines if pid == victim}
        assert max(times.values()) <= 2
        if number is signal.SIGSTOP:
            os.kill(int(victim), signal.SIGCONT)
        codes = {await worker.end(signal.SIGTERM) for worker in workers}
        assert codes == ({-9, 143} if number is signal.SIGKILL else {143})
        if number is signal.SIGSTOP:
            # It may have been in the middle of telling Flip of the four that it works on at once.
            assert 24 <= socket_emulator.count("PATCH", "/v1/command/{id}") <= 28


def lines_of(handled: Path) -> list[tuple[str, str]]:
    return [tuple(line.split()) for line in handled.read_text().splitlines()]  # type: ignore[misc]
