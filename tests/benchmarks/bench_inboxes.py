"""Inboxes on disk and in Redis: what a webhook of 750 bytes costs, 40 at once."""

import asyncio
import gc
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from flip_async.redis import RedisInbox
from flip_async.webhooks import Inbox, Letter, SqliteInbox
from tests.support.redis_server import PROGRAM, RedisServer

AT_ONCE = 40
CALLS = 2_000
ROUNDS = 9
BODY = b"x" * 750
SERVER = "of Redis itself"


class Run:
    """CPU per webhook in µs, for each inbox and each step, in rounds that take turns."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._numbers = itertools.count()
        self._took: dict[tuple[str, str], list[float]] = {}

    async def round(self, name: str, inbox: Inbox) -> None:
        letters = [
            Letter(f"msg_{next(self._numbers)}", 1_750_000_000, BODY, "settings.apply")
            for _ in range(CALLS)
        ]

        async def put_all() -> None:
            for first in range(0, CALLS, AT_ONCE):
                await asyncio.gather(*(inbox.put(one) for one in letters[first : first + AT_ONCE]))

        entries = []

        async def claim_all() -> None:
            while len(entries) < CALLS:
                entries.extend(await inbox.claim(10_000))

        async def settle_all() -> None:
            for first in range(0, CALLS, AT_ONCE):
                some = entries[first : first + AT_ONCE]
                await asyncio.gather(*(inbox.settle([one]) for one in some))

        for step, work in (("put", put_all), ("claim", claim_all), ("settle", settle_all)):
            gc.collect()
            before, began = self._server_s(), time.process_time()
            await work()
            self._note(step, name, time.process_time() - began)
            if name == "RedisInbox":
                self._note(step, SERVER, self._server_s() - before)

    async def one_by_one(self, name: str, inbox: Inbox) -> None:
        began = time.process_time()
        for _ in range(CALLS // 4):
            await inbox.put(
                Letter(f"msg_{next(self._numbers)}", 1_750_000_000, BODY, "settings.apply")
            )
        self._note("put, one alone", name, (time.process_time() - began) * 4)
        while entries := await inbox.claim(10_000):
            await inbox.settle(entries)

    def _note(self, step: str, name: str, seconds: float) -> None:
        self._took.setdefault((step, name), []).append(seconds / CALLS * 1e6)

    def _server_s(self) -> float:
        with self._server.admin() as admin:
            info = admin.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    def show(self) -> None:
        print(f"CPU of a webhook of {len(BODY)} bytes in µs, {AT_ONCE} at once")
        median: Callable[[str, str], float] = lambda step, name: statistics.median(  # noqa: E731
            self._took[step, name]
        )
        for step in ("put", "claim", "settle", "put, one alone"):
            disk, ours = median(step, "SqliteInbox"), median(step, "RedisInbox")
            server = f"{median(step, SERVER):6.1f}" if (step, SERVER) in self._took else "     -"
            print(
                f"  {step:<16} SqliteInbox {disk:6.1f}   RedisInbox {ours:6.1f}   "
                f"ratio {ours / disk:5.2f}   {SERVER} {server}"
            )


async def main() -> None:
    if PROGRAM is None:
        print("no redis-server on the path: nothing is measured")
        return
    server = RedisServer().start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            inboxes: dict[str, Inbox] = {
                "SqliteInbox": SqliteInbox(Path(folder) / "inbox.db"),
                "RedisInbox": RedisInbox(server.url),
            }
            run = Run(server)
            for inbox in inboxes.values():
                await inbox.open()
            for _ in range(ROUNDS):
                for name, inbox in inboxes.items():
                    await run.round(name, inbox)
                    await run.one_by_one(name, inbox)
            for inbox in inboxes.values():
                await inbox.aclose()
            run.show()
    finally:
        server.close()


if __name__ == "__main__":
    asyncio.run(main())
