"""Lists that come page by page."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Generator
from typing import Final, Generic, Protocol, TypeVar

from flip_async._aio._per_loop import call_in
from flip_async._checks import check_count
from flip_async.errors import FlipError

T = TypeVar("T")
U = TypeVar("U")

PAGE_SIZE: Final = 100


class FetchPage(Protocol[T]):
    """Gets one page: `previous_first` is the first row of the page before, or `None`."""

    def __call__(
        self, *, skip: int, limit: int, previous_first: T | None
    ) -> Coroutine[object, object, list[T]]: ...


class Spawn(Protocol):
    """Runs a job that outlives the call that begins it."""

    def __call__(self, job: Coroutine[object, object, U]) -> asyncio.Task[U]: ...


class Pages(Generic[T]):
    """A list of the API, fetched page by page while it is read.

    Each of these reads it::

        async for site in flip.sites.list(): ...
        async for page in flip.sites.list().pages(): ...
        sites = await flip.sites.list(max_items=500)

    While a page is read the next is fetched. Rows that are added or removed meanwhile
    may shift between pages, so that one comes twice or not at all: the API has no cursor.
    """

    def __init__(
        self,
        fetch: FetchPage[T],
        *,
        spawn: Spawn,
        skip: int = 0,
        limit: int = PAGE_SIZE,
        max_items: int | None = None,
        one_page: bool = False,
    ) -> None:
        check_count(skip, field="skip", at_least=0)
        check_count(limit, field="limit")
        if max_items is not None:
            check_count(max_items, field="max_items", at_least=0)
        self._fetch: Final = fetch
        self._spawn: Final = spawn
        self._skip: Final = skip
        self._limit: Final = limit
        self._max_items: Final = max_items
        self._one_page: Final = one_page

    def pages(self) -> "PageIterator[T]":
        """Iterate over whole pages, as lists.

        Returns:
            An iterator over lists of rows.
        """
        return PageIterator(
            self._fetch,
            self._spawn,
            skip=self._skip,
            limit=self._limit,
            most=self._max_items,
            one_page=self._one_page,
        )

    def __aiter__(self) -> AsyncIterator[T]:
        return _RowIterator(self.pages())

    async def collect(self) -> list[T]:
        """Fetch all rows, or the first `max_items`, into a list.

        Returns:
            The rows.
        """
        pages = self.pages()  # nobody else reads these: no need to wait for a turn
        rows: list[T] = []
        while page := await pages._next_page():
            rows += page
        return rows

    def __await__(self) -> Generator[object, None, list[T]]:
        return self.collect().__await__()


class PageIterator(Generic[T]):
    """Gives a page at a time, and fetches the next meanwhile."""

    def __init__(
        self,
        fetch: FetchPage[T],
        spawn: Spawn,
        *,
        skip: int,
        limit: int,
        most: int | None,
        one_page: bool,
    ) -> None:
        self._fetch: Final = fetch
        self._spawn: Final = spawn
        self._skip = skip
        self._limit: Final = limit
        self._left: Final = most
        self._one_page: Final = one_page
        self._received = 0
        self._first: T | None = None
        self._next: asyncio.Task[list[T] | FlipError] | None = None
        self._over = False
        self._turn: Final = asyncio.Lock()  # two tasks may read: each page is one's

    def __aiter__(self) -> "PageIterator[T]":
        return self

    async def __anext__(self) -> list[T]:
        async with self._turn:
            page = await self._next_page()
        if not page:
            raise StopAsyncIteration
        return page

    async def _next_page(self) -> list[T]:
        """The next page, for the one task that reads; empty where there is none."""
        if self._over:
            return []
        try:
            page = await self._page()
        except BaseException:
            self._over = True  # as a generator is over once it has raised
            raise
        if not page:
            self._over = True
            return []
        if self._left is not None:
            page = page[: self._left - self._received]
        self._skip += len(page)
        self._received += len(page)
        self._first = page[0]
        if self._wanted() > 0 and not self._one_page:
            self._next = self._spawn(_outcome(self._request()))
        else:
            self._over = True
        return page

    async def _page(self) -> list[T]:
        if self._wanted() == 0:
            return []
        if self._next is None:
            return await self._request()
        task, self._next = self._next, None
        try:
            outcome = await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if isinstance(outcome, FlipError):
            raise outcome
        return outcome

    def _wanted(self) -> int:
        if self._left is None:
            return self._limit
        return min(self._limit, self._left - self._received)

    def _request(self) -> Coroutine[object, object, list[T]]:
        return self._fetch(skip=self._skip, limit=self._wanted(), previous_first=self._first)

    async def aclose(self) -> None:
        """End the fetching of the next page."""
        self._over = True
        self._cancel()

    def _cancel(self) -> None:
        task, self._next = self._next, None
        if task is None or task.done():
            return
        loop = task.get_loop()
        call_in(loop, task.cancel)  # the collector may run in any thread

    def __del__(self) -> None:
        self._cancel()


class _RowIterator(Generic[T]):
    """Gives the rows of pages, one by one."""

    def __init__(self, pages: PageIterator[T]) -> None:
        self._pages: Final = pages
        self._rows: Final[deque[T]] = deque()

    def __aiter__(self) -> "_RowIterator[T]":
        return self

    async def __anext__(self) -> T:
        if not self._rows:
            self._rows.extend(await self._pages.__anext__())
        return self._rows.popleft()

    async def aclose(self) -> None:
        """End the fetching of the next page."""
        self._rows.clear()
        await self._pages.aclose()


async def _outcome(job: Coroutine[object, object, list[T]]) -> list[T] | FlipError:
    """An error belongs to the page it is for: it waits as a value until that is reached."""
    try:
        return await job
    except FlipError as error:
        return error
