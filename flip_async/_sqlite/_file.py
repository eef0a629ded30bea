"""One SQLite file, used by one thread of its own."""

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

import attrs

from flip_async.errors import ConfigurationError, FlipError, StorageError

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]
"""What is done within a transaction; it may be run again, if the transaction failed."""

_JOBS_IN_A_COMMIT: Final = 256
_BUSY_TIMEOUT_S: Final = 30.0


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


@attrs.frozen
class _Order(Generic[T]):
    """A job, and who waits for it."""

    job: Job[T]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[T]

    def succeed(self, result: T) -> None:
        self._tell(lambda: None if self.done.done() else self.done.set_result(result))

    def fail(self, error: Exception) -> None:
        self._tell(lambda: None if self.done.done() else self.done.set_exception(error))

    def _tell(self, callback: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is over, and nobody waits
            self.loop.call_soon_threadsafe(callback)


class Storage:
    """Runs jobs on a file, those that wait at the same time in one commit.

    Args:
        path: The file; it is made where there is none.
        form: What it holds.
        survive_power_cut: Wait for the disk in every commit. Without, what is committed
            survives the death of the process, not that of the machine.

    Source:
        https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous
    """

    def __init__(
        self, path: str | os.PathLike[str], form: Format, *, survive_power_cut: bool = False
    ) -> None:
        self.path: Final = Path(path)
        self._form: Final = form
        self._synchronous: Final = "FULL" if survive_power_cut else "NORMAL"
        self._orders: Final[queue.SimpleQueue[_Order[object] | None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._closed: _Order[None] | None = None

    @property
    def was_opened(self) -> bool:
        """Whether the file is or was open."""
        return self._thread is not None

    async def open(self) -> None:
        """Start the thread and open the file.

        Raises:
            ConfigurationError: It is another kind of file, or of a newer version.
            StorageError: It cannot be opened.
        """
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ready = _Order(lambda _: None, asyncio.get_running_loop(), opened)
        self._thread = threading.Thread(
            target=self._work, args=(ready,), name=f"flip_async {self.path.name}", daemon=True
        )
        self._thread.start()
        try:
            await opened
        except FlipError:
            self._thread = None
            raise

    async def run(self, job: Job[T]) -> T:
        """Run a job in a transaction; it is committed when this returns.

        A caller who is cancelled does not take the job back.

        Raises:
            StorageError: It could not be done.
        """
        if self._is_closed or self._thread is None:
            raise StorageError(f"{self.path} is closed")
        loop = asyncio.get_running_loop()
        order: _Order[T] = _Order(job, loop, loop.create_future())
        self._orders.put(order)  # type: ignore[arg-type]  # its future takes what its job gives
        return await order.done

    async def aclose(self) -> None:
        """Run what waits, and close the file; a second time does nothing."""
        if self._is_closed or self._thread is None:
            return
        self._is_closed = True
        loop = asyncio.get_running_loop()
        self._closed = _Order(lambda _: None, loop, loop.create_future())
        self._orders.put(None)
        await self._closed.done

    # In the thread

    def _work(self, ready: _Order[None]) -> None:
        try:
            connection = self._connect()
        except FlipError as error:
            ready.fail(error)
            return
        except (sqlite3.Error, OSError) as error:
            ready.fail(StorageError(f"cannot open {self.path}: {error}"))
            return
        ready.succeed(None)
        try:
            while self._serve(connection):
                pass
        finally:
            connection.close()
            if self._closed is not None:
                self._closed.succeed(None)

    def _serve(self, connection: sqlite3.Connection) -> bool:
        """Run what waits now, at least one job; whether to go on."""
        orders: list[_Order[object]] = []
        order = self._orders.get()
        while order is not None:
            orders.append(order)
            if len(orders) == _JOBS_IN_A_COMMIT or self._orders.empty():
                break
            order = self._orders.get_nowait()
        self._commit(connection, orders)
        return order is not None

    def _commit(self, connection: sqlite3.Connection, orders: Sequence[_Order[object]]) -> None:
        if not orders:
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:  # nobody's job: each of them would wait as long again
            for order in orders:
                order.fail(StorageError(f"{self.path}: {error}"))
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

    def _connect(self) -> sqlite3.Connection:
        if not self.path.parent.is_dir():
            raise StorageError(f"cannot open {self.path}: there is no such directory")
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=True
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        form = self._form
        try:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # counts for a new file
            _use_wal(connection)
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            # At once for writing: a reader that becomes a writer may be refused without a wait.
            connection.execute("BEGIN IMMEDIATE")
            _transact(connection, [self._check_or_make])
            connection.execute("PRAGMA incremental_vacuum")  # what a long outage left
        except sqlite3.DatabaseError as error:
            if "not a database" not in str(error):
                raise
            raise ConfigurationError(f"{self.path} is no {form.what}, and no SQLite file") from None

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
    pause = threading.Event()
    for patience in range(100, -1, -1):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if not patience:
                raise
            pause.wait(0.02)
        else:
            return
