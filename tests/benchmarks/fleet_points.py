"""A million points from eight processes that share one outbox in Redis, and are killed.

In each of twenty rounds two of the processes get a `kill -9`, and are started again. No accepted
point may be lost. `python -m tests.benchmarks.fleet_points [POINTS] [intervals|counters]`, on a
`redis-server` of its own.
"""

import asyncio
import sys

from tests.support import points_fleet
from tests.support.redis_server import RedisServer

WORKERS = 8
ROUNDS = 20


def main(count: int, kind: str) -> int:
    server = RedisServer().start()
    try:
        job = points_fleet.run(server.url, count=count, workers=WORKERS, rounds=ROUNDS, kind=kind)
        outcome = asyncio.run(asyncio.wait_for(job, 1800))
        with server.admin() as admin:
            kept = {key.decode(): admin.type(key).decode() for key in admin.scan_iter()}
    finally:
        server.close()
    print(
        f"{count:,} {kind}, {WORKERS} processes, {ROUNDS} rounds, {outcome.kills} killed: "
        f"{outcome.lost} lost, {outcome.twice:,} arrived twice (up to {outcome.added_twice:,} were "
        f"added twice), {outcome.disorder} out of order, {outcome.took_s:.0f} s"
    )
    print(f"what is left in Redis: {kept}")
    return 1 if outcome.lost else 0


if __name__ == "__main__":
    how_many = int(sys.argv[1]) if sys.argv[1:] else 1_000_000
    sys.exit(main(how_many, sys.argv[2] if sys.argv[2:] else "intervals"))
