"""A Redis for each test; where there is none, these tests say so."""

import os
from collections.abc import Iterator

import pytest

redis = pytest.importorskip("redis", reason="redis-py is not installed")

from tests.support.redis_server import (  # noqa: E402
    MISSING,
    PROGRAM,
    RedisClusterOfThree,
    RedisServer,
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if PROGRAM is not None:
        return
    if os.environ.get("REDIS_IS_NEEDED"):
        raise pytest.UsageError(MISSING)
    for item in items:
        if "tests/fleet/" in item.path.as_posix():
            item.add_marker(pytest.mark.skip(reason=MISSING))


@pytest.fixture(scope="session")
def _one_server() -> Iterator[RedisServer]:
    server = RedisServer().start()
    yield server
    server.close()


@pytest.fixture
def redis_server(_one_server: RedisServer) -> RedisServer:
    """A server that is shared, and empty; for tests that leave it running."""
    with _one_server.admin() as admin:
        admin.flushall()
        admin.script_flush()
        for user in admin.acl_users():
            if user != "default":
                admin.acl_deluser(user)
    return _one_server


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server of the test's own, which it may stop, hang and fill."""
    server = RedisServer().start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisClusterOfThree]:
    """A Cluster of three nodes, which no test may disturb; use a namespace of the test's own."""
    cluster = RedisClusterOfThree().start()
    yield cluster
    cluster.close()
