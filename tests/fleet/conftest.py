"""A Redis for each test; where there is none, these tests say so."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.redis_server import RedisClusterOfThree, RedisServer

try:
    import redis  # noqa: F401
except ImportError:
    NO_REDIS_PY = "redis-py is not installed"
    collect_ignore_glob = ["test_*.py"]
else:
    NO_REDIS_PY = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if NO_REDIS_PY:
        return
    from tests.support.redis_server import MISSING, PROGRAM

    if PROGRAM is not None:
        return
    if os.environ.get("REDIS_IS_NEEDED"):
        raise pytest.UsageError(MISSING)
    for item in items:
        if "tests/fleet/" in item.path.as_posix():
            item.add_marker(pytest.mark.skip(reason=MISSING))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if NO_REDIS_PY:
        terminalreporter.write_line(f"SKIPPED tests/fleet: {NO_REDIS_PY}")


@pytest.fixture(scope="session")
def _one_server() -> "Iterator[RedisServer]":
    from tests.support.redis_server import RedisServer

    server = RedisServer().start()
    yield server
    server.close()


@pytest.fixture
def redis_server(_one_server: "RedisServer") -> "RedisServer":
    """A server that is shared, and empty; for tests that leave it running."""
    with _one_server.admin() as admin:
        admin.flushall()
        admin.script_flush()
        for user in admin.acl_users():
            if user != "default":
                admin.acl_deluser(user)
    return _one_server


@pytest.fixture
def own_redis() -> "Iterator[RedisServer]":
    """A server of the test's own, which it may stop, hang and fill."""
    from tests.support.redis_server import RedisServer

    server = RedisServer().start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def redis_cluster() -> "Iterator[RedisClusterOfThree]":
    """A Cluster of three nodes, which no test may disturb; use a namespace of the test's own."""
    from tests.support.redis_server import RedisClusterOfThree

    cluster = RedisClusterOfThree().start()
    yield cluster
    cluster.close()
