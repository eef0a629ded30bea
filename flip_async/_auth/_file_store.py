"""Tokens in a file, for the programs of one machine [F12].

The file is read without a lock, since it is only ever replaced as a whole; whoever changes it
has the lock of `filelock` beside it. That lock lasts for a moment. The lock of a token, which lasts
for a token request, stands in the file: so it ends with its lease where its holder is killed or
hangs. It counts on the monotonic clock, which all processes of a machine share.
"""

import importlib
import json
import math
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar, final

import attrs

from flip_async._aio._tasks import in_thread
from flip_async._auth._sealing import EncryptionKey, TokenWriter, conceal_keys, name_of
from flip_async._auth._token import Token
from flip_async._checks import check_clock, check_file_path, check_seconds, check_text
from flip_async._clock import Clock, SystemClock
from flip_async.errors import ConfigurationError, FlipError, StorageError

T = TypeVar("T")

_FORMAT: Final = 1
_MODE: Final = 0o600
_READING: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)  # a pipe would hold us for ever
_OTHERS: Final = 0o077
_WAIT_S: Final = 3.0
"""For the lock of the file: less than a call of a store may take."""
_LARGEST: Final = 10_000_000
_NO_FOLDER: Final = "its folder is not there"


@attrs.frozen
class _Kept:
    """A token as it stands in the file."""

    text: str
    issued_at: float
    expires_at: float


@attrs.frozen
class _Lock:
    owner: str
    lease_s: float
    renewed_at_s: float  # on the monotonic clock

    def holds(self, now_s: float) -> bool:
        return now_s - self.renewed_at_s < self.lease_s

    def no_later_than(self, now_s: float) -> "_Lock":
        """One of the future is from before the machine was started anew, and counts from now."""
        return attrs.evolve(self, renewed_at_s=min(self.renewed_at_s, now_s))


@attrs.define
class _Content:
    tokens: dict[str, _Kept] = attrs.field(factory=dict)
    locks: dict[str, _Lock] = attrs.field(factory=dict)
    is_damaged: bool = False


@final
class FileTokenStore:
    """Shares tokens between the programs of one user and machine, by a file.

    A shell loop of a thousand calls signs in once. The file has mode 0600; one that others can
    read or write, or that is somebody else's, is refused. A link is followed: what counts is the
    file that it leads to. It needs `filelock`, and `cryptography` where there are keys.

    Args:
        path: The file; it is made where there is none. Not on a network's file system.
        encryption_keys: One or several keys as `cryptography.fernet.Fernet.generate_key()` gives
            them: the first encrypts, all decrypt. Without, whoever reads the file reads tokens.
        clock: Time, for tests.

    Raises:
        ConfigurationError: The file or its folder is of no use, or a package is missing.
        InvalidArgumentError: Another argument cannot be what it is; no key is shown.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        encryption_keys: EncryptionKey | Sequence[EncryptionKey] = (),
        clock: Clock | None = None,
    ) -> None:
        encryption_keys = conceal_keys(encryption_keys)  # type: ignore[assignment]  # no frame shows them
        check_file_path(path)
        check_clock(clock)
        _check_filelock()
        self._writer: Final = TokenWriter(encryption_keys, extra="files")
        self._clock: Final = SystemClock() if clock is None else clock
        self._path: Final = Path(os.fspath(path)).absolute()
        _check_at_start(self._path)

    async def load(self, key: str) -> Token | None:
        """The token kept under `key`, or `None`.

        Raises:
            StorageError: The file cannot be read.
            ConfigurationError: Others can read it, or it is somebody else's.
        """
        name = name_of(key)
        kept = (await self._do(self._read)).tokens.get(name)
        if kept is None:
            return None
        # Of the future: the clock was set back. Its life is no longer than it was.
        issued_at = min(kept.issued_at, self._clock.wall())
        return self._writer.read(name, kept.text.encode(), issued_at=issued_at)

    async def save(self, key: str, token: Token) -> None:
        """Keep a token under `key` for as long as it lives.

        Raises:
            StorageError: The file cannot be written.
            ConfigurationError: Others can read it, or it is somebody else's.
        """
        name, now = name_of(key), self._clock.wall()

        def keep(content: _Content) -> None:
            text = self._writer.write(name, token).decode()
            content.tokens[name] = _Kept(text, token.issued_at, token.expires_at)
            now_s = self._clock.monotonic()
            content.tokens = {k: v for k, v in content.tokens.items() if v.expires_at > now}
            content.locks = {k: v for k, v in content.locks.items() if v.holds(now_s)}

        await self._do(lambda: self._change(keep))

    async def acquire(self, key: str, *, owner: str, lease_s: float) -> bool:
        """Take the lock of `key`, renew it, or tell that somebody else has it.

        Raises:
            StorageError: The file cannot be written.
            ConfigurationError: Others can read it, or it is somebody else's.
        """
        name = name_of(key)
        owner, lease_s = check_text(owner, field="owner"), check_seconds(lease_s, field="lease_s")

        def take(content: _Content) -> bool:
            # Not before the file is ours: whoever had it meanwhile would seem to be of the future.
            now_s = self._clock.monotonic()
            lock = content.locks.get(name)
            if lock is not None and lock.owner != owner and lock.holds(now_s):
                content.locks[name] = lock.no_later_than(now_s)
                return False
            content.locks[name] = _Lock(owner, lease_s, now_s)
            return True

        return await self._do(lambda: self._change(take))

    async def release(self, key: str, *, owner: str) -> None:
        """Give the lock of `key` back.

        Raises:
            StorageError: The file cannot be written.
            ConfigurationError: Others can read it, or it is somebody else's.
        """
        name = name_of(key)

        def give(content: _Content) -> None:
            lock = content.locks.get(name)
            if lock is not None and lock.owner == owner:
                del content.locks[name]

        await self._do(lambda: self._change(give))

    def __repr__(self) -> str:
        return f"FileTokenStore({str(vars(self).get('_path', ''))!r})"

    # In a thread, which goes on to its end whoever leaves

    async def _do(self, job: Callable[[], T]) -> T:
        def attempt() -> T | FlipError:
            # What a frame of the thread holds, a token in plain perhaps, ends here [B10].
            try:
                return job()
            except FlipError as error:
                return error.again()
            except OSError as error:
                return StorageError(f"{self._path}: {_reason(error)}")

        outcome = await in_thread(attempt, name="token file")
        if isinstance(outcome, FlipError):
            raise outcome
        return outcome

    def _change(self, change: Callable[[_Content], T]) -> T:
        from filelock import FileLock, Timeout

        path = Path(os.path.realpath(self._path))
        if not path.parent.is_dir():  # filelock would make it, for others to read perhaps
            raise StorageError(f"{self._path}: {_NO_FOLDER}")
        try:
            with FileLock(f"{path}.lock", timeout=_WAIT_S, mode=_MODE):
                content = self._read()
                before = _written(content)
                result = change(content)
                after = _written(content)
                if len(after) > _LARGEST:  # it would be read as damaged
                    raise StorageError(f"{self._path} is full: give some clients another file")
                if content.is_damaged:
                    _put_aside(path)
                if after != before or content.is_damaged:
                    _replace(path, after)
                return result
        except Timeout:
            raise StorageError(f"{self._path} is held by another process") from None
        except NotImplementedError:
            raise StorageError(f"{self._path}: its file system has no locks") from None

    def _read(self) -> _Content:
        try:
            number = os.open(self._path, _READING)
        except FileNotFoundError:
            return _Content()
        with os.fdopen(number, "rb") as file:
            _check_mode(os.fstat(number), self._path)
            text = file.read(_LARGEST)
        content = _parsed(text)
        if content is None:
            self._writer.cannot_use(f"{self._path} is damaged, and is written anew")
            return _Content(is_damaged=True)
        return content


def _check_filelock() -> None:
    try:
        importlib.import_module("filelock")
    except ImportError:
        pass
    else:
        return
    raise ConfigurationError("FileTokenStore needs filelock: pip install 'flip-async[files]'")


def _check_at_start(path: Path) -> None:
    """Say at once what will not work later; one look at a disk, when a store is made."""
    try:
        found = path.stat()
    except FileNotFoundError:
        if path.resolve().parent.is_dir():
            return
        problem = _NO_FOLDER
    except OSError as error:
        problem = _reason(error)
    except ValueError:  # half a surrogate pair, or a null byte
        raise ConfigurationError("path has a character that no file's name can have") from None
    else:
        _check_mode(found, path)
        return
    raise ConfigurationError(f"{path}: {problem}")


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _check_mode(found: os.stat_result, path: Path) -> None:
    problem = None
    if not stat.S_ISREG(found.st_mode):
        problem = "it is no regular file"
    elif os.name != "nt" and found.st_uid != os.geteuid():
        problem = "it is another user's: give this one a file of its own"
    elif os.name != "nt" and found.st_mode & _OTHERS:
        problem = "others may read or write it, and it is for tokens: chmod 600, or delete it"
    if problem is not None:
        raise ConfigurationError(f"{path}: {problem}")


def _replace(path: Path, text: bytes) -> None:
    """Put another file in its place, whole or not at all; its lock is ours."""
    new = path.with_name(f"{path.name}.new")
    with suppress(FileNotFoundError):
        new.unlink()  # of a process that was killed
    try:
        number = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
        with os.fdopen(number, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise


def _put_aside(path: Path) -> None:
    """Keep what is no file of ours: it may be one of the user's, whose name was mistaken."""
    aside = path.with_name(f"{path.name}.damaged")
    if path.stat().st_size and not aside.exists():
        path.replace(aside)


def _written(content: _Content) -> bytes:
    document = {"format": _FORMAT, **attrs.asdict(content)}
    del document["is_damaged"]
    return json.dumps(document, indent=1, sort_keys=True).encode()


def _parsed(text: bytes) -> _Content | None:
    """What is in a file; `None` where that is nothing of ours."""
    try:
        document = json.loads(text)
        if document["format"] != _FORMAT:
            return None
        return _Content(
            {str(name): _kept(**row) for name, row in document["tokens"].items()},
            {str(name): _lock(**row) for name, row in document["locks"].items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return None


def _kept(*, text: str, issued_at: float, expires_at: float, **_: object) -> _Kept:
    return _Kept(_encodable(text), _number(issued_at), _number(expires_at))


def _lock(*, owner: str, lease_s: float, renewed_at_s: float, **_: object) -> _Lock:
    return _Lock(str(owner), _number(lease_s), _number(renewed_at_s))


def _encodable(text: str) -> str:
    return str(text).encode().decode()  # JSON may have half a surrogate pair in it


def _number(value: float) -> float:
    if isinstance(value, bool) or not math.isfinite(value):
        raise ValueError
    return float(value)
