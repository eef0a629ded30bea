"""Webhooks twice each to 8 workers with an inbox in Redis, and `kill -9` of two in the middle."""

import argparse
import asyncio

from tests.support.fleet_webhooks import Fleet
from tests.support.redis_server import RedisServer


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--webhooks", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--lease-s", type=float, default=5.0)
    options = parser.parse_args()
    server = RedisServer().start()
    try:
        fleet = Fleet(
            server.url,
            workers=options.workers,
            webhooks=options.webhooks,
            kills=options.kills,
            lease_s=options.lease_s,
        )
        report = await fleet.run()
    finally:
        server.close()
    print(
        f"{report.sent} webhooks, each twice, to {options.workers} workers, {options.kills} killed\n"
        f"  answered with success {report.answered} in {report.took_s:.1f} s "
        f"({report.answered / report.took_s:,.0f}/s), the last handled {report.caught_up_s:.1f} s "
        "after that\n"
        f"  handled {report.handled}, lost {report.sent - report.handled}\n"
        f"  begun twice {report.twice}, of which a worker that died had begun all but "
        f"{report.twice_without_a_death}; in the middle at a death {report.in_the_middle}"
    )
    assert report.handled == report.sent
    assert report.twice_without_a_death == 0


if __name__ == "__main__":
    asyncio.run(main())
