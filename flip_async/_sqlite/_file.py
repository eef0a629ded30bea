"""One SQLite file, used by one thread of its own.

The thread takes orders (jobs, each with whoever waits for it), runs those that wait at the same
time in one transaction, and tells each its outcome. It waits for nobody longer than whoever gave
the order does: where another process holds the file, it asks again every tenth of a second, and
drops an order whose waiter has left. It also does what has to be done every now and then (claims
are renewed, free pages given back), so that a blocked or closing event loop loses no claim.
"""

import asyncio
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

import anyio
import attrs

from flip_async._aio._per_loop import call_in
from flip_async._aio._tasks import running_loop
from flip_async.errors import ConfigurationError, FlipError, StorageError

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]
"""What is done within a transaction; it may be run again, if the transaction failed."""

logger: Final = logging.getLogger("flip_async.storage")

_JOBS_IN_A_COMMIT: Final = 256
_LOOK_AGAIN_S: Final = 0.1
"""How long SQLite itself waits for another process: then the thread looks who still waits."""
_BUSY_S: Final = 30.0
_CLOSE_S: Final = 2.0
_TIDY_EVERY_S: Final = 10.0
_FREE_PAGES: Final = 500
"""So many free pages are kept for what comes; more are given back while nothing else waits."""
_PAGES_AT_ONCE: Final = 2000


@attrs.frozen(kw_only=True)
class Format:
    """What a file holds.

    Attributes:
        what: Its name for errors.
        application_id: A number that tells its kind from others.
        version: Number of this layout.
        schema: Statements that make it.
    """

    what: str
    application_id: int
    version: int
    schema: Sequence[str]


@attrs.frozen(eq=False)
class _Order(Generic[T]):
    """A job, and who waits for it.

    Attributes:
        job: What to do.
        takes_in: It brings something that was not in the file before.
        loop: Where whoever waits does so.
        done: Is given what becomes of it; done already where nobody waits any more.
    """

    job: Job[T]
    takes_in: bool
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[T]

    @property
    def is_dropped(self) -> bool:
        return self.done.cancelled() or self.loop.is_closed()

    def succeed(self, result: T) -> None:
        call_in(self.loop, lambda: None if self.done.done() else self.done.set_result(result))

    def fail(self, error: Exception) -> None:
        call_in(self.loop, lambda: None if self.done.done() else self.done.set_exception(error))


@attrs.define
class _Chore:
    """Something to be done again and again, by the thread."""

    work: Job[object]
    every_s: float
    due_at: float


class _GivenUpError(Exception):
    """Nobody waits for this any more."""


class SqliteFile:
    """Runs jobs on a file, those that wait at the same time in one commit.

    It is opened once and closed once. Its thread alone touches the connection and the chores;
    the event loop alone sets `_is_closing` and `_close_by`, which the thread only reads, and the
    thread alone sets `is_gone`.

    Args:
        path: The file; it is made where there is none.
        form: What it holds.
        survive_power_cut: Wait for the disk in every commit. Without, what is committed
            survives the death of the process, not that of the machine.

    Attributes:
        is_gone: The file was deleted, moved or replaced since it was opened, as of the last
            commit.

    Source:
        https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous
    """

    def __init__(
        self, path: str | os.PathLike[str], form: Format, *, survive_power_cut: bool = False
    ) -> None:
        self.path: Final = Path(path)
        self.is_gone = False
        self._form: Final = form
        self._synchronous: Final = "FULL" if survive_power_cut else "NORMAL"
        self._orders: Final[queue.SimpleQueue[_Order[object] | None]] = queue.SimpleQueue()
        self._chores: Final[list[_Chore]] = []
        self._thread: threading.Thread | None = None
        self._ended: asyncio.Future[None] | None = None
        self._is_closing = False
        self._close_by: float | None = None
        self._last: _Order[object] | None = None
        self._identity: tuple[int, int] | None = None

    def every(self, seconds: float, job: Job[object]) -> None:
        """Let the thread do something every so many seconds, from `open` on.

        Args:
            seconds: How often.
            job: What; where it fails it is logged, and done again the next time.
        """

        def work(connection: sqlite3.Connection) -> None:
            self._begin(connection, until=lambda: self._is_closing, most_s=seconds)
            _transact(connection, [job])

        self._chores.append(_Chore(work, seconds, time.monotonic() + seconds))

    async def open(self) -> None:
        """Start the thread and open the file.

        Raises:
            ConfigurationError: It is another kind of file, or of a newer version.
            StorageError: It cannot be opened.
        """
        loop = running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        self._ended = loop.create_future()
        ready = _Order(lambda _: None, False, loop, opened)
        self._thread = threading.Thread(
            target=self._work,
            args=(ready, _Order(lambda _: None, False, loop, self._ended)),
            name=f"flip_async {self.path.name}",
            daemon=True,
        )
        self._thread.start()
        try:
            await opened
        except BaseException:
            # Whoever was cancelled here cannot close it: the thread has to end by itself.
            await self.aclose()
            raise

    async def run(self, job: Job[T], *, takes_in: bool = False) -> T:
        """Run a job in a transaction; it is committed when this returns.

        A caller who is cancelled does not take the job back, if it has begun.

        Args:
            job: What to do.
            takes_in: It brings something that was not in the file before, and is refused where
                the file was deleted, moved or replaced.

        Raises:
            StorageError: It could not be done.
        """
        if self._is_closing or self._thread is None:
            raise StorageError(f"{self.path} is closed")
        loop = running_loop()
        order: _Order[T] = _Order(job, takes_in, loop, loop.create_future())
        self._orders.put(order)  # type: ignore[arg-type]  # its future takes what its job gives
        return await order.done

    async def aclose(self, *, last: Job[object] | None = None) -> None:
        """Run what waits, and close the file; a second time waits for the first.

        Where another process holds the file, what waits is given up after 2 s.

        Args:
            last: What to do at last; where it cannot be done, that is logged.
        """
        if self._ended is None:
            return
        if not self._is_closing:
            self._is_closing = True
            self._close_by = time.monotonic() + _CLOSE_S
            if last is not None:
                self._last = _Order(last, False, running_loop(), running_loop().create_future())
                self._orders.put(self._last)
            self._orders.put(None)
        # Shielded from a scope: it comes back at every wait, and this wait is short.
        with anyio.CancelScope(shield=True):
            await asyncio.wait([self._ended])
        if self._last is not None and (error := self._last.done.exception()) is not None:
            logger.warning("on closing, claims stay until their lease ends: %s", error)
            self._last = None

    # In the thread

    def _work(self, ready: _Order[None], ended: _Order[None]) -> None:
        try:
            self._live(ready)
        finally:
            ended.succeed(None)

    def _live(self, ready: _Order[None]) -> None:
        try:
            connection = self._connect(ready)
        except FlipError as error:
            ready.fail(error)
            return
        except _GivenUpError:
            ready.fail(StorageError(f"cannot open {self.path}: another process holds it"))
            return
        except (sqlite3.Error, OSError) as error:
            ready.fail(StorageError(f"cannot open {self.path}: {error}"))
            return
        try:
            ready.succeed(None)
            while self._serve(connection):
                pass
        finally:
            connection.close()

    def _serve(self, connection: sqlite3.Connection) -> bool:
        """Do what waits or is due now; whether to go on."""
        orders: list[_Order[object]] = []
        order = self._next_order()
        if isinstance(order, _Order):
            orders.append(order)
            while len(orders) < _JOBS_IN_A_COMMIT and not self._orders.empty():
                order = self._orders.get_nowait()
                if order is None:
                    break
                orders.append(order)
        self._commit(connection, orders)
        self._do_chores(connection)
        return order is not None

    def _next_order(self) -> _Order[object] | bool | None:
        """The next order; `True` where a chore is due first, `None` at the end."""
        due_at = min((chore.due_at for chore in self._chores), default=None)
        try:
            left_s = None if due_at is None else max(0.0, due_at - time.monotonic())
            return self._orders.get(timeout=left_s)
        except queue.Empty:
            return True

    def _do_chores(self, connection: sqlite3.Connection) -> None:
        now = time.monotonic()
        for chore in self._chores:
            if chore.due_at > now:
                continue
            chore.due_at = now + chore.every_s
            try:
                chore.work(connection)
            except _GivenUpError:
                logger.warning("%s: another process holds it", self.path)
            except sqlite3.Error as error:
                level = logging.DEBUG if _is_busy(error) else logging.WARNING
                logger.log(level, "%s: %s", self.path, error)
            except Exception:  # a clock may be a user's; without a thread nobody would be answered
                logger.exception("%s: a chore failed", self.path)

    def _commit(self, connection: sqlite3.Connection, orders: Sequence[_Order[object]]) -> None:
        orders = self._without_what_is_vain(orders)
        if not orders or not self._has_begun(connection, orders):
            return
        try:
            results = _transact(connection, [order.job for order in orders])
        except Exception as error:  # handed to whoever waits
            if len(orders) > 1:  # find out whose fault it is
                for order in orders:
                    self._commit(connection, [order])
                return
            known = isinstance(error, sqlite3.Error)
            orders[0].fail(StorageError(f"{self.path}: {error}") if known else error)
        else:
            for order, result in zip(orders, results, strict=True):
                order.succeed(result)

    def _without_what_is_vain(self, orders: Sequence[_Order[object]]) -> Sequence[_Order[object]]:
        orders = [order for order in orders if not order.is_dropped]
        self.is_gone = _identity_of(self.path) != self._identity
        if not self.is_gone:
            return orders
        for order in [order for order in orders if order.takes_in]:
            order.fail(
                StorageError(
                    f"{self.path} was deleted, moved or replaced while it was open: "
                    "it takes nothing more"
                )
            )
        return [order for order in orders if not order.takes_in]

    def _has_begun(self, connection: sqlite3.Connection, orders: Sequence[_Order[object]]) -> bool:
        try:
            self._begin(connection, until=lambda: all(order.is_dropped for order in orders))
        except _GivenUpError:
            why = "another process holds it"
        except sqlite3.Error as error:
            why = str(error)
        else:
            return True
        for order in orders:  # it was nobody's job
            order.fail(StorageError(f"{self.path}: {why}"))
        return False

    def _begin(
        self,
        connection: sqlite3.Connection,
        *,
        until: Callable[[], bool],
        most_s: float | None = None,
    ) -> None:
        """Begin to write; another process may do so now, and is waited for."""
        # At once for writing: a reader that becomes a writer may be refused without a wait.
        self._patiently(lambda: connection.execute("BEGIN IMMEDIATE"), until, most_s)

    def _patiently(
        self,
        statement: Callable[[], object],
        until: Callable[[], bool],
        most_s: float | None = None,
    ) -> None:
        give_up_at = time.monotonic() + (_BUSY_S if most_s is None else most_s)
        while True:
            try:
                statement()
            except sqlite3.OperationalError as error:
                if not _is_busy(error):
                    raise
                now = time.monotonic()
                is_late = self._close_by is not None and now >= self._close_by
                if until() or is_late or now >= give_up_at:
                    raise _GivenUpError from None
            else:
                return

    def _connect(self, ready: _Order[None]) -> sqlite3.Connection:
        if not self.path.parent.is_dir():
            raise StorageError(f"cannot open {self.path}: there is no such directory")
        connection = sqlite3.connect(
            self.path, timeout=_LOOK_AGAIN_S, isolation_level=None, check_same_thread=True
        )
        try:
            self._prepare(connection, lambda: ready.is_dropped or self._is_closing)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection, is_dropped: Callable[[], bool]) -> None:
        form = self._form
        try:
            # Counts for a new file.
            self._patiently(lambda: connection.execute("PRAGMA auto_vacuum = 2"), is_dropped)
            self._patiently(lambda: _use_wal(connection), is_dropped)
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            self._begin(connection, until=is_dropped)
            _transact(connection, [self._check_or_make])
            self._identity = _identity_of(self.path)
        except sqlite3.DatabaseError as error:
            if "not a database" not in str(error):
                raise
            raise ConfigurationError(f"{self.path} is no {form.what}, and no SQLite file") from None
        # What a long outage left is given back at once, and then while it stands open.
        self._chores.append(_Chore(_give_pages_back, _TIDY_EVERY_S, 0.0))

    def _check_or_make(self, connection: sqlite3.Connection) -> None:
        form = self._form
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables and not application_id:
            for statement in form.schema:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {form.application_id}")
            connection.execute(f"PRAGMA user_version = {form.version}")
        elif application_id != form.application_id:
            raise ConfigurationError(
                f"{self.path} is a SQLite file of something else: "
                f"give the {form.what} a file of its own"
            )
        elif version != form.version:
            raise ConfigurationError(
                f"{self.path} is a {form.what} of format {version}, and this version of "
                f"flip_async knows format {form.version}"
            )


def _identity_of(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    )


def _transact(connection: sqlite3.Connection, jobs: Sequence[Job[object]]) -> list[object]:
    """Run jobs in the transaction that has begun, and commit it."""
    try:
        results = [job(connection) for job in jobs]
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return results


def _use_wal(connection: sqlite3.Connection) -> None:
    # Another process that opens the file at the same moment makes this fail without a wait.
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError:
        time.sleep(0.02)
        raise


def _give_pages_back(connection: sqlite3.Connection) -> None:
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    if free > _FREE_PAGES:
        # One step gives one page back, and of what has no rows `execute` takes one step alone.
        connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})")
