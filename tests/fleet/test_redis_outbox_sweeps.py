"""Cancelled at every turn, an uploader loses no point that waits in Redis [B1], [B12]."""

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from flip_async.errors import FlipError
from flip_async.redis import RedisOutbox
from tests.support.redis_server import RedisServer
from tests.support.sweeps import How, Scenario, sweep
from tests.system.test_telemetry_sweeps import Books, both, client


@both
@pytest.mark.parametrize("counters", [False, True], ids=["intervals", "counters"])
@pytest.mark.timeout(120)
async def test_a_point_in_redis_is_sent_told_or_kept(
    how: How, counters: bool, redis_server: RedisServer
) -> None:
    """What the next uploader finds there is what this one did not settle; nothing is claimed."""
    names = itertools.count()

    @asynccontextmanager
    async def arrange() -> AsyncIterator[Scenario]:
        books, namespace = Books(counters=counters), f"sweep-{next(names)}"
        async with client(books) as flip:
            uploader = books.uploads(
                flip, RedisOutbox(redis_server.url, namespace=namespace, max_points=3)
            )

            async def check() -> None:
                books.kept.update(kept_in(redis_server, namespace, books))
                books.assert_balanced(on_disk=True)

            yield Scenario(act=lambda: books.act(uploader), check=check, may_raise=(FlipError,))

    (await sweep(arrange, how, step=5)).assert_clean(at_least=10)


def kept_in(server: RedisServer, namespace: str, books: Books) -> list[int]:
    bodies: list[bytes] = []
    counts: dict[bytes, bytes] = {}
    waiting = 0
    with server.admin() as admin:
        for key in admin.scan_iter(f"{namespace}:*", count=10_000):
            part = key.decode().rpartition("}:")[2]
            assert part.partition(":")[0] not in ("claimed", "claims", "leases", "owners", "trips")
            if part == "chunks":
                for payload in admin.hvals(key):
                    bodies += msgspec.msgpack.decode(payload)[1]
            elif part == "counts":
                counts = admin.hgetall(key)
            elif part.startswith(("waiting", "refused")):
                waiting += admin.zcard(key)
            elif part == "facts":
                waiting -= admin.hlen(key)
    assert waiting == 0, "what is kept, and what waits, are not the same"
    told = {name: int(counts.get(name, 0)) for name in (b"points", b"waiting", b"bytes")}
    assert told == {
        b"points": len(bodies), b"waiting": len(bodies), b"bytes": sum(map(len, bodies)),
    }  # fmt: skip
    return [books._number(json.loads(body)) for body in bodies]
