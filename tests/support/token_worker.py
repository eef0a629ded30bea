"""One worker of a fleet that shares its tokens: python -m tests.support.token_worker CALLS ROUNDS

It makes CALLS requests at once and tells what became of them; with ROUNDS, so many seconds long,
again and again. The last line that it prints is JSON.
"""

import asyncio
import json
import os
import sys
import time

from flip_async import SandboxClient
from flip_async.errors import FlipError
from flip_async.redis import RedisTokenStore


async def main(calls: int, seconds: float) -> None:
    keys = os.environ.get("ENCRYPTION_KEY", "").split()
    store = RedisTokenStore(os.environ["REDIS_URL"], encryption_keys=keys)
    done = failed = 0
    longest_s = 0.0
    why: set[str] = set()

    async with store, SandboxClient(token_store=store) as flip:

        async def call() -> None:
            nonlocal done, failed, longest_s
            begun = time.monotonic()
            try:
                await flip.sites.list()
            except FlipError as error:
                failed += 1
                why.add(f"{type(error).__name__}: {error}")
            else:
                done += 1
                if seconds == 0 or begun > warm_s:
                    longest_s = max(longest_s, time.monotonic() - begun)

        print("starting", flush=True)
        warm_s = time.monotonic() + min(2.0, seconds / 4)
        end_s = time.monotonic() + seconds
        while True:
            await asyncio.gather(*(call() for _ in range(calls)))
            if time.monotonic() >= end_s:
                break
            await asyncio.sleep(0.1)
        avoided = store.stats.refreshes_avoided
    print(
        json.dumps(
            {
                "done": done,
                "failed": failed,
                "longest_s": longest_s,
                "avoided": avoided,
                "why": sorted(why),
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
