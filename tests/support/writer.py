"""A process that adds points to an outbox on disk until it is killed; see the tests.

It is asked on its standard input, `FILE FIRST DELAY` a line, and forks for each: the child
writes the number of each point that `add` accepted to its standard output, until the parent is
told to kill it after the delay.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time

from flip_async import Environment, FlipClient
from flip_async.telemetry import SqliteOutbox
from tests.support.telemetry import point


async def add_for_ever(path: str, first: int, api_url: str) -> None:
    environment = Environment(name="emulator", api_url=api_url, oauth_url=api_url)
    outbox = SqliteOutbox(path, lease_s=0.3)
    async with (
        FlipClient(environment=environment, api_key=os.environ["FLIP_API_KEY"]) as flip,
        flip.telemetry.uploader(outbox=outbox, max_delay_s=0.01) as uploader,
    ):

        async def add(number: int) -> None:
            await uploader.add(point(number, device_id=f"inv-{number % 10}"))
            os.write(1, b"%d\n" % number)

        for number in range(first, first + 1_000_000, 5):
            await asyncio.gather(*(add(number + more) for more in range(5)))


def main() -> None:
    for line in sys.stdin:
        path, first, delay, api_url = line.split()
        child = os.fork()
        if child == 0:
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(add_for_ever(path, int(first), api_url))
            os._exit(1)  # it is killed before
        time.sleep(float(delay))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.write(1, b"killed\n" if os.WIFSIGNALED(status) else b"ended by itself\n")


if __name__ == "__main__":
    main()
