"""A process that handles commands for a fleet, and writes down which; run by the tests.

`HANDLED` names the file it writes to, `REDIS_URL` the Redis, `TAKES_S` how long a device takes.
"""

import asyncio
import os

from flip_async import SandboxClient, run_worker
from flip_async.commands import CommandProcessor
from flip_async.models import Command
from flip_async.redis import RedisCommandLedger

handled = os.open(os.environ["HANDLED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


async def on_command(command: Command) -> None:
    os.write(handled, f"{os.getpid()} {command.id}\n".encode())  # one write: no line is cut
    await asyncio.sleep(float(os.environ["TAKES_S"]))


async def main() -> None:
    ledger = RedisCommandLedger(os.environ["REDIS_URL"], lease_s=1.0)
    processor = CommandProcessor(on_command, ledger=ledger, poll_every_s=0.5, concurrency=4)
    async with SandboxClient() as flip, processor.running(flip):
        print("ready", flush=True)
        await asyncio.Event().wait()


run_worker(main)
