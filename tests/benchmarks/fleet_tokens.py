"""One token for a fleet [F1] to [F4]: 32 processes, expiries, a dead holder, a Redis that is away.

`python -m tests.benchmarks.fleet_tokens [quick]`
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from cryptography.fernet import Fernet

from flip_async.emulator import Emulator
from tests.support.processes import Process
from tests.support.redis_server import RedisServer

WORKER = "tests.support.token_worker"
QUICK = "quick" in sys.argv
PROCESSES, CALLS = (4, 10) if QUICK else (32, 50)
LIFETIME_S = 15.0
REFRESH_S = 0.8 * LIFETIME_S


def tokens(flip_local: Emulator) -> int:
    return flip_local.count("POST", "/token")


async def workers_of(
    flip_local: Emulator,
    server: RedisServer,
    count: int,
    calls: int,
    seconds: float,
    meanwhile: Callable[[], Awaitable[None]] | None = None,
    **environ: str,
) -> list[dict[str, Any]]:
    variables = flip_local.variables() | {"REDIS_URL": server.url} | environ
    workers = [Process("-m", WORKER, str(calls), str(seconds), **variables) for _ in range(count)]
    await asyncio.gather(*(worker.start() for worker in workers))
    await asyncio.gather(*(worker.until_it_says("starting") for worker in workers))
    if meanwhile is not None:
        await meanwhile()
    await asyncio.gather(*(worker.until_it_says('"done"') for worker in workers))
    await asyncio.gather(*(worker.end(signal.SIGTERM) for worker in workers))
    return [json.loads(worker.output.splitlines()[-1]) for worker in workers]


def summed(told: list[dict[str, Any]]) -> str:
    done, failed = (sum(one[name] for one in told) for name in ("done", "failed"))
    why = sorted({reason for one in told for reason in one["why"]})
    return f"{done:,} requests, {failed} failed{f' {why}' if why else ''}"


async def cold(server: RedisServer) -> None:
    async with Emulator() as flip_local:
        key = Fernet.generate_key().decode()
        told = await workers_of(flip_local, server, PROCESSES, CALLS, 0, ENCRYPTION_KEY=key)
        print(
            f"{PROCESSES} processes x {CALLS} requests from cold: {summed(told)}, "
            f"{tokens(flip_local)} token request"
        )
        with server.admin() as admin:
            names = sorted(admin.scan_iter())
            dump = b" ".join([*names, *(admin.get(name) or b"" for name in names)])
        hidden = [flip_local.client_secret, flip_local.client_id, "access_token", "scope"]
        found = [one for one in hidden if one.encode() in dump]
        print(f"  a dump of its {len(names)} key(s), encrypted: {found or 'no secret, no id'}")


async def expiries(server: RedisServer) -> None:
    async with Emulator(token_lifetime_s=LIFETIME_S) as flip_local:
        # A token request takes longer than any other here: whoever waited for one would show it.
        flip_local.fail_next(None, path="/token", delay_s=0.5)
        count = 8
        told = await workers_of(flip_local, server, count, 5, 3.4 * REFRESH_S)
        longest_s = max(one["longest_s"] for one in told)
        print(
            f"{count} processes through three expiries, token requests of 0.5 s: {summed(told)}, "
            f"{tokens(flip_local)} token requests in all, longest request {longest_s * 1000:.0f} ms"
        )


async def dead_holder(server: RedisServer) -> None:
    """What a holder leaves that `kill -9` has ended: its lock, for 10 s."""
    async with Emulator(token_lifetime_s=70.0) as flip_local:

        async def leave_a_lock() -> None:
            await asyncio.sleep(51.0)  # the refresh is due at 56 s, and the token ends at 70 s
            with server.admin() as admin:
                (name,) = admin.scan_iter("*:token")
                admin.set(name.replace(b":token", b":lock"), "dead", px=10_000)

        told = await workers_of(flip_local, server, 2, 5, 66.0, leave_a_lock)
        print(
            "a refresh whose lock a dead process has, while the old token lives: "
            f"{summed(told)}, {tokens(flip_local)} token requests in all"
        )
    with server.admin() as admin:
        admin.flushall()
    async with Emulator() as flip_local:
        first = Process(
            "-m", WORKER, "1", "0", **flip_local.variables() | {"REDIS_URL": server.url}
        )
        flip_local.fail_next(path="/token", delay_s=5.0)
        await first.start()
        await first.until_it_says("starting")
        while not tokens(flip_local):
            await asyncio.sleep(0.01)
        await first.end(signal.SIGKILL)
        begun = time.monotonic()
        told = await workers_of(flip_local, server, 4, 5, 0)
        print(
            f"the holder is killed with no token at hand: {summed(told)}, the others served after "
            f"{time.monotonic() - begun:.1f} s (its lease is 10 s), start of processes included"
        )


async def away(server: RedisServer) -> None:
    async with Emulator(token_lifetime_s=LIFETIME_S) as flip_local:

        async def trouble() -> None:
            await asyncio.sleep(3)
            server.stop()
            await asyncio.sleep(5)
            server.start()
            await asyncio.sleep(5)
            server.freeze()
            await asyncio.sleep(5)
            server.thaw()

        told = await workers_of(flip_local, server, 4, 5, 24.0, trouble)
        print(
            f"Redis stopped for 5 s, back and empty, hung for 5 s, under load: {summed(told)}, "
            f"{tokens(flip_local)} token requests"
        )


async def main() -> None:
    for play in (cold,) if QUICK else (cold, expiries, dead_holder, away):
        server = RedisServer().start()
        try:
            await play(server)
        finally:
            server.close()


if __name__ == "__main__":
    asyncio.run(main())
