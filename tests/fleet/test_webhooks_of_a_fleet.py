"""Webhooks at several processes with one inbox in Redis, one of which dies [F5]."""

from tests.support.fleet_webhooks import Fleet
from tests.support.redis_server import RedisServer


async def test_each_webhook_is_handled_though_a_worker_is_killed(own_redis: RedisServer) -> None:
    """Twice only where it died in the middle."""
    fleet = Fleet(own_redis.url, workers=3, webhooks=100, kills=1, lease_s=5)

    report = await fleet.run()

    assert report.answered == 200
    assert report.handled == 100
    assert report.twice_without_a_death == 0
    with own_redis.admin() as admin:
        assert admin.zcard("flip:{inbox}:ended") == 100
        assert admin.hlen("flip:{inbox}:letters") == admin.zcard("flip:{inbox}:claimed") == 0
