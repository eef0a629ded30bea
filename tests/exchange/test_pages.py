"""Lists that come page by page [R5]."""

import asyncio
import gc
from typing import Any

import httpx
import pytest

from flip_async import PRODUCTION, FlipClient, errors
from tests.support import settle

NOW = "2025-06-19T22:41:07Z"


class Rows(httpx.AsyncBaseTransport):
    """A list of so many sites."""

    def __init__(self, count: int, *, cap: int = 1000) -> None:
        self.count, self.cap = count, cap
        self.asked: list[tuple[int, int]] = []
        self.gate: asyncio.Event | None = None
        self.fail_at: int | None = None
        self.ignores_skip = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        params = request.url.params
        skip, limit = int(params["skip"]), int(params["limit"])
        self.asked.append((skip, limit))
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(0)
        if self.fail_at == skip:
            return httpx.Response(400)
        first = 0 if self.ignores_skip else skip
        numbers = range(first, min(first + min(limit, self.cap), self.count))
        rows = [{"id": f"s{n}", "created_at": NOW, "updated_at": NOW} for n in numbers]
        return httpx.Response(200, json=rows)


def client(rows: Rows) -> FlipClient:
    return FlipClient(environment=PRODUCTION, api_key="fl_your_api_key", transport=rows)


async def ids(pages: Any) -> list[int]:
    return [int(site.id[1:]) async for site in pages]


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
async def test_every_row_comes_once_and_only_an_empty_page_ends_the_list(count: int) -> None:
    rows = Rows(count)
    async with client(rows) as flip:
        assert await ids(flip.sites.list()) == list(range(count))

    assert rows.asked[-1][0] == count


async def test_a_server_may_cap_the_page() -> None:
    """`skip` advances by the rows received, and a short page ends nothing."""
    rows = Rows(25, cap=10)
    async with client(rows) as flip:
        assert await ids(flip.sites.list(limit=100)) == list(range(25))

    assert [skip for skip, _ in rows.asked] == [0, 10, 20, 25]


@pytest.mark.parametrize("max_items", [0, 1, 7, 10, 11, 20, 99])
async def test_nothing_is_read_beyond_max_items(max_items: int) -> None:
    rows = Rows(50, cap=10)
    async with client(rows) as flip:
        found = await flip.sites.list(limit=10, max_items=max_items)

    assert len(found) == min(50, max_items)
    assert sum(limit for _, limit in rows.asked) <= max(max_items, 0) + 50 * (max_items > 50)


async def test_a_list_may_begin_later() -> None:
    rows = Rows(20)
    async with client(rows) as flip:
        assert await ids(flip.sites.list(skip=15)) == [15, 16, 17, 18, 19]


async def test_whole_pages_can_be_read() -> None:
    rows = Rows(25)
    async with client(rows) as flip:
        assert [len(page) async for page in flip.sites.list(limit=10).pages()] == [10, 10, 5]


async def test_the_next_page_is_fetched_while_this_one_is_read() -> None:
    rows = Rows(30)
    async with client(rows) as flip:
        async for site in flip.sites.list(limit=10):
            if site.id == "s0":
                await settle()
                assert [skip for skip, _ in rows.asked] == [0, 10]


async def test_a_server_that_ignores_skip_is_an_error_not_an_endless_list() -> None:
    rows = Rows(30)
    rows.ignores_skip = True
    async with client(rows) as flip:
        with pytest.raises(errors.DecodeError, match="ignores `skip`"):
            await flip.sites.list(limit=10)


async def test_an_error_comes_when_its_page_is_reached() -> None:
    rows = Rows(30)
    rows.fail_at = 10
    seen: list[str] = []
    async with client(rows) as flip:
        with pytest.raises(errors.BadRequestError):
            async for site in flip.sites.list(limit=10):
                await settle()
                seen.append(site.id)

    assert len(seen) == 10


async def test_an_iterator_that_has_raised_is_over() -> None:
    rows = Rows(30)
    rows.fail_at = 0
    async with client(rows) as flip:
        iterator = aiter(flip.sites.list(limit=10))
        with pytest.raises(errors.BadRequestError):
            await anext(iterator)
        with pytest.raises(StopAsyncIteration):
            await anext(iterator)


async def test_an_iterator_that_is_dropped_ends_its_fetching() -> None:
    rows = Rows(100)
    async with client(rows) as flip:
        before = asyncio.all_tasks()
        async for _ in flip.sites.list(limit=10):
            rows.gate = asyncio.Event()
            await settle()
            break
        gc.collect()
        await settle()

        assert asyncio.all_tasks() == before
        assert len(rows.asked) == 2


async def test_an_iterator_that_is_closed_is_over() -> None:
    rows = Rows(100)
    async with client(rows) as flip:
        before = asyncio.all_tasks()
        iterator = aiter(flip.sites.list(limit=10))
        await anext(iterator)
        rows.gate = asyncio.Event()
        await settle()

        await iterator.aclose()  # type: ignore[attr-defined]
        await settle()

        assert asyncio.all_tasks() == before
        with pytest.raises(StopAsyncIteration):
            await anext(iterator)


async def test_closing_the_client_ends_the_iterator_with_an_error() -> None:
    rows = Rows(100)
    flip = client(rows)
    iterator = aiter(flip.sites.list(limit=10).pages())
    await anext(iterator)
    rows.gate = asyncio.Event()
    await settle()

    await flip.aclose()

    with pytest.raises(errors.ClientClosedError):
        await anext(iterator)


async def test_a_reader_that_is_cancelled_cancels_its_fetching() -> None:
    rows = Rows(100)
    async with client(rows) as flip:
        before = asyncio.all_tasks()
        rows.gate = asyncio.Event()
        pages = aiter(flip.sites.list(limit=10).pages())
        rows.gate.set()
        await anext(pages)
        rows.gate = asyncio.Event()
        await settle()
        reader = asyncio.ensure_future(anext(pages))
        await settle()

        reader.cancel()
        await settle()

        assert reader.cancelled()
        assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"skip": -1}, "skip"),
        ({"limit": 0}, "limit"),
        ({"limit": "10"}, "limit"),
        ({"max_items": -1}, "max_items"),
        ({"max_items": True}, "max_items"),
    ],
)
async def test_a_number_out_of_range_is_refused_at_once(
    arguments: dict[str, Any], field: str
) -> None:
    async with client(Rows(1)) as flip:
        with pytest.raises(errors.InvalidArgumentError) as caught:
            flip.sites.list(**arguments)

    assert caught.value.field == field
