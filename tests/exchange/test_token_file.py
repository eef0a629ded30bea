"""Tokens in a file: one sign-in for the programs of a machine [F12]."""

import asyncio
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from flip_async import ClientCredentialsAuth, FileTokenStore, Token
from flip_async.emulator import Emulator
from flip_async.errors import ConfigurationError, InvalidArgumentError, StorageError
from tests.support import ManualClock
from tests.support.processes import ROOT, Process

KEY = '["https://oauth.flip.energy/token", "your_client_id", "read write"]'
NAME = hashlib.sha256(KEY.encode()).hexdigest()
WORKER = "tests.support.file_token_worker"


def token(clock: ManualClock, value: str = "at_secret", *, lifetime_s: float = 100.0) -> Token:
    return Token(access_token=value, issued_at=clock.wall(), lifetime_s=lifetime_s, scope="read")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


@pytest.fixture
def store(path: Path, clock: ManualClock) -> FileTokenStore:
    return FileTokenStore(path, clock=clock)


async def test_a_token_is_given_back_as_it_was(
    store: FileTokenStore, path: Path, clock: ManualClock
) -> None:
    await store.save(KEY, token(clock))
    await store.save(KEY + "2", token(clock, "at_other"))

    assert await FileTokenStore(path, clock=clock).load(KEY) == token(clock)
    assert await store.load(KEY + "3") is None


async def test_the_file_is_for_nobody_else(
    store: FileTokenStore, path: Path, clock: ManualClock
) -> None:
    old = os.umask(0)
    try:
        await store.save(KEY, token(clock))
    finally:
        os.umask(old)

    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    assert "your_client_id" not in path.read_text()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
async def test_a_file_that_others_can_read_or_write_is_refused(
    store: FileTokenStore, path: Path, clock: ManualClock, mode: int
) -> None:
    await store.save(KEY, token(clock))
    path.chmod(mode)

    with pytest.raises(ConfigurationError, match="chmod 600"):
        FileTokenStore(path)
    for attempt in (
        store.load(KEY),
        store.save(KEY, token(clock)),
        store.acquire(KEY, owner="a", lease_s=10),
        store.release(KEY, owner="a"),
    ):
        with pytest.raises(ConfigurationError, match="chmod 600"):
            await attempt


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
async def test_a_file_of_somebody_else_is_refused(path: Path) -> None:
    path.touch(0o600)
    os.chown(path, 12345, 12345)

    with pytest.raises(ConfigurationError, match="another user's"):
        FileTokenStore(path)


def test_what_is_no_file_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(ConfigurationError, match="no regular file"):
        FileTokenStore(path)
    path.rmdir()
    os.mkfifo(path, 0o600)
    with pytest.raises(ConfigurationError, match="no regular file"):
        FileTokenStore(path)
    with pytest.raises(ConfigurationError, match="folder is not there"):
        FileTokenStore(path.parent / "nowhere" / "tokens.json")


async def test_a_pipe_that_comes_later_holds_nobody(store: FileTokenStore, path: Path) -> None:
    os.mkfifo(path, 0o600)

    with pytest.raises(ConfigurationError, match="no regular file"):
        await store.load(KEY)


async def test_a_link_is_followed_and_stays(path: Path, clock: ManualClock) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    store = FileTokenStore(link, clock=clock)

    await store.save(KEY, token(clock))

    assert link.is_symlink()
    assert await FileTokenStore(path, clock=clock).load(KEY) == token(clock)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"format": 2, "tokens": {}, "locks": {}}',
        b'{"format": 1, "tokens": [], "locks": {}}',
        b'{"format": 1, "tokens": {"a": {}}, "locks": {}}',
        b'{"format": 1, "tokens": {"a": {"text": 1, "issued_at": "x", "expires_at": 1}}, "locks": {}}',
        b'{"format": 1, "tokens": {}, "locks": {"a": {"owner": 1}}}',
        b"[" * 100_000,
        b'{"format": 1, "tokens": {"a": {"text": "x", "issued_at": 1%0400d, "expires_at": 1}}, '
        b'"locks": {}}' % 0,
        b'{"format": 1, "tokens": {"a": {"text": "\\ud800", "issued_at": 1, "expires_at": 1}}, '
        b'"locks": {}}',
    ],
)
async def test_a_damaged_file_is_written_anew_and_that_is_said_once(
    store: FileTokenStore,
    path: Path,
    clock: ManualClock,
    content: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path.touch(0o600)
    path.write_bytes(content)

    assert await store.load(KEY) is None
    assert await store.load(KEY) is None
    await store.save(KEY, token(clock))

    assert await store.load(KEY) == token(clock)
    assert caplog.text.count("is damaged") == 1
    aside = path.with_name("tokens.json.damaged")
    assert not content or aside.read_bytes() == content, "it may be the user's, by mistake"


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(alphabet=st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_rows = st.dictionaries(
    st.just(NAME) | st.text(max_size=3),
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("text", "issued_at", "expires_at", "owner", "lease_s", "renewed_at_s"), _anything
        ),
    )
    | _anything,
    max_size=3,
)
_documents = st.fixed_dictionaries(
    {}, optional={"format": st.just(1) | _anything, "tokens": _rows, "locks": _rows}
)


@given(content=st.binary() | (_documents | _anything).map(lambda one: json.dumps(one).encode()))
def test_whatever_is_in_the_file_a_token_can_be_kept_in_it(content: bytes) -> None:
    async def use(path: Path) -> None:
        clock = ManualClock()
        store = FileTokenStore(path, clock=clock)
        await store.load(KEY)
        await store.acquire(KEY, owner="a", lease_s=10)
        await store.save(KEY, token(clock))
        assert await store.load(KEY) == token(clock)
        await store.release(KEY, owner="a")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.json"
        path.touch(0o600)
        path.write_bytes(content)
        asyncio.run(use(path))


async def test_what_a_newer_version_writes_beside_is_borne(
    store: FileTokenStore, path: Path, clock: ManualClock
) -> None:
    await store.save(KEY, token(clock))
    document = json.loads(path.read_text())
    (row,) = document["tokens"].values()
    row["color"] = "blue"
    path.write_text(json.dumps({**document, "more": 1}))

    assert await store.load(KEY) == token(clock)


async def test_expired_tokens_and_locks_of_the_dead_are_dropped(
    store: FileTokenStore, path: Path, clock: ManualClock
) -> None:
    await store.save(KEY, token(clock))
    await store.acquire(KEY, owner="dead", lease_s=10)
    clock.move(100)
    await store.acquire(KEY + "2", owner="alive", lease_s=10)
    await store.save(KEY + "2", token(clock))

    document = json.loads(path.read_text())
    assert len(document["tokens"]) == 1
    assert [lock["owner"] for lock in document["locks"].values()] == ["alive"]


async def test_a_clock_that_is_set_back_prolongs_no_life(
    store: FileTokenStore, clock: ManualClock
) -> None:
    await store.save(KEY, token(clock))
    clock.wall_s -= 3600

    found = await store.load(KEY)

    assert found is not None
    assert found.expires_at == clock.wall() + 100


async def test_with_keys_the_file_shows_no_token(path: Path, clock: ManualClock) -> None:
    old, new = Fernet.generate_key(), Fernet.generate_key().decode()
    await FileTokenStore(path, encryption_keys=old, clock=clock).save(KEY, token(clock))
    assert "at_secret" not in path.read_text()

    replaced = FileTokenStore(path, encryption_keys=[new, old], clock=clock)
    assert await replaced.load(KEY) == token(clock)
    await replaced.save(KEY, token(clock))

    assert await FileTokenStore(path, encryption_keys=[new], clock=clock).load(KEY) is not None
    assert await FileTokenStore(path, encryption_keys=[old], clock=clock).load(KEY) is None


# The lock of a token


async def test_the_lock_is_one_owners_until_its_lease_is_over(
    store: FileTokenStore, path: Path, clock: ManualClock
) -> None:
    other = FileTokenStore(path, clock=clock)
    assert await store.acquire(KEY, owner="a", lease_s=10)
    assert not await other.acquire(KEY, owner="b", lease_s=10)
    clock.move(9)
    assert await store.acquire(KEY, owner="a", lease_s=10)
    clock.move(9)
    assert not await other.acquire(KEY, owner="b", lease_s=10)
    await other.release(KEY, owner="b")
    assert not await other.acquire(KEY, owner="b", lease_s=10)
    clock.move(1)
    assert await other.acquire(KEY, owner="b", lease_s=10)


async def test_a_wall_clock_that_is_set_frees_no_lock(
    store: FileTokenStore, clock: ManualClock
) -> None:
    await store.acquire(KEY, owner="a", lease_s=10)
    clock.wall_s += 1e6

    assert not await store.acquire(KEY, owner="b", lease_s=10)


async def test_a_lock_from_before_the_machine_was_started_anew_counts_from_now(
    store: FileTokenStore, clock: ManualClock
) -> None:
    await store.acquire(KEY, owner="a", lease_s=10)
    clock.monotonic_s -= 500

    assert not await store.acquire(KEY, owner="b", lease_s=10)
    clock.move(10)
    assert await store.acquire(KEY, owner="b", lease_s=10)


async def test_of_many_at_once_one_has_the_lock(path: Path, clock: ManualClock) -> None:
    stores = [FileTokenStore(path, clock=clock) for _ in range(10)]

    had = await asyncio.gather(
        *(one.acquire(KEY, owner=str(n), lease_s=10) for n, one in enumerate(stores))
    )

    assert had.count(True) == 1


async def test_who_waits_for_the_file_does_not_take_what_another_got_meanwhile(
    store: FileTokenStore, path: Path, clock: ManualClock
) -> None:
    """The clock is read when the file is had: an earlier look would see a lock of the future."""
    elsewhere = path.with_name("elsewhere.json")
    with FileLock(f"{path}.lock"):
        waiting = asyncio.ensure_future(store.acquire(KEY, owner="a", lease_s=10))
        await asyncio.sleep(0)
        clock.move(1)
        await FileTokenStore(elsewhere, clock=clock).acquire(KEY, owner="b", lease_s=10)
        elsewhere.replace(path)

    assert not await waiting


async def test_of_many_at_once_one_has_the_lock_by_real_clocks(path: Path) -> None:
    for n in range(25):
        stores = [FileTokenStore(path) for _ in range(8)]
        had = await asyncio.gather(
            *(one.acquire(f"{KEY}{n}", owner=str(m), lease_s=60) for m, one in enumerate(stores))
        )
        assert had.count(True) == 1


async def test_a_file_that_another_process_holds_is_a_storage_error(
    store: FileTokenStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flip_async._auth._file_store._WAIT_S", 0.05)
    with FileLock(f"{path}.lock"), pytest.raises(StorageError, match="held by another process"):
        await store.acquire(KEY, owner="a", lease_s=10)


async def test_a_disk_that_is_full_is_a_storage_error_and_leaves_the_file_whole(
    store: FileTokenStore, path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.save(KEY, token(clock))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="No space left on device") as caught:
        await store.save(KEY, token(clock, "at_new"))
    monkeypatch.undo()

    assert caught.value.__context__ is None
    assert await store.load(KEY) == token(clock)
    assert not path.with_name("tokens.json.new").exists()


async def test_a_file_that_would_grow_too_large_is_kept_as_it_is(
    store: FileTokenStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.save(KEY, token(clock))
    monkeypatch.setattr("flip_async._auth._file_store._LARGEST", 1000)

    with pytest.raises(StorageError, match="is full"):
        await store.save(KEY + "2", token(clock, "at_" + "x" * 1000))

    assert await store.load(KEY) == token(clock)


async def test_what_a_killed_writer_left_is_in_nobodys_way(
    store: FileTokenStore, path: Path, clock: ManualClock
) -> None:
    left = path.with_name("tokens.json.new")
    left.write_text('{"format": 1, "tok')

    await store.save(KEY, token(clock))

    assert await store.load(KEY) == token(clock)
    assert not left.exists()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_folder_that_is_gone_is_a_storage_error_and_not_made_anew(
    path: Path, clock: ManualClock
) -> None:
    folder = path.parent / "folder"
    folder.mkdir()
    store = FileTokenStore(folder / "tokens.json", clock=clock)
    folder.rmdir()

    assert await store.load(KEY) is None
    with pytest.raises(StorageError, match="folder is not there"):
        await store.save(KEY, token(clock))
    assert not folder.exists()


async def test_a_file_system_without_locks_is_a_storage_error(
    store: FileTokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def enter(_: FileLock) -> None:
        raise NotImplementedError  # as its older versions do

    monkeypatch.setattr("filelock.BaseFileLock.__enter__", enter)
    with pytest.raises(StorageError, match="has no locks"):
        await store.acquire(KEY, owner="a", lease_s=10)


async def test_wherever_a_caller_is_cut_off_the_file_is_whole_and_free(
    store: FileTokenStore, clock: ManualClock
) -> None:
    """The thread goes on to its end [B12]."""
    for turns in range(6):
        task = asyncio.ensure_future(store.save(KEY, token(clock, f"at_{turns}")))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        await store.save(KEY + "2", token(clock))
        assert await store.load(KEY + "2") == token(clock)


# Programs


def sign_in(flip_local: Emulator, path: Path) -> Process:
    return Process("-m", WORKER, str(path), **flip_local.variables())


async def test_programs_that_run_one_after_the_other_sign_in_once(
    socket_emulator: Emulator, path: Path
) -> None:
    for _ in range(5):
        async with sign_in(socket_emulator, path) as program:
            await program.until_it_says("done")

    assert socket_emulator.count("POST", "/token") == 1


async def test_programs_that_start_at_once_sign_in_once(
    socket_emulator: Emulator, path: Path
) -> None:
    programs = [sign_in(socket_emulator, path) for _ in range(5)]
    await asyncio.gather(*(program.start() for program in programs))
    await asyncio.gather(*(program.until_it_says("done") for program in programs))
    await asyncio.gather(*(program.end(signal.SIGTERM) for program in programs))

    assert socket_emulator.count("POST", "/token") == 1


async def test_a_holder_that_is_killed_holds_up_the_next_one_for_its_lease_at_most(
    socket_emulator: Emulator, path: Path
) -> None:
    socket_emulator.fail_next(path="/token", delay_s=60)
    async with sign_in(socket_emulator, path) as dying:
        await dying.until_it_says("starting")
        while not socket_emulator.count("POST", "/token"):
            await asyncio.sleep(0.01)
        await dying.end(signal.SIGKILL)

    async with sign_in(socket_emulator, path) as program:
        await program.until_it_says("done")

    assert socket_emulator.count("POST", "/token") == 2


async def test_a_401_costs_two_clients_one_token_request(
    socket_emulator: Emulator, path: Path
) -> None:
    auths = [
        ClientCredentialsAuth(
            socket_emulator.client_id,
            socket_emulator.client_secret,
            token_url=f"{socket_emulator.oauth_url}/token",
            token_store=FileTokenStore(path),
        )
        for _ in range(2)
    ]
    clients = [socket_emulator.client(auth=auth) for auth in auths]
    await asyncio.gather(*(flip.sites.list() for flip in clients))
    socket_emulator.revoke_tokens()

    await asyncio.gather(*(flip.sites.list() for flip in clients for _ in range(3)))

    for closing in (*clients, *auths):
        await closing.aclose()
    assert socket_emulator.count("POST", "/token") == 2


# Making one


@pytest.mark.parametrize("missing", ["filelock", "cryptography"])
def test_a_package_that_is_missing_is_named(missing: str, path: Path) -> None:
    code = f"""
import sys
sys.modules[{missing!r}] = None
from flip_async import FileTokenStore, errors
try:
    FileTokenStore({str(path)!r}, encryption_keys="x")
except errors.ConfigurationError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert f"needs {missing}: pip install 'flip-async[files]'" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((1,), {}),
        (("tokens.json",), {"clock": 1}),
        (("tokens.json",), {"encryption_keys": 1}),
        (("tokens.json",), {"encryption_keys": "no_key"}),
    ],
)
def test_arguments_are_checked(
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InvalidArgumentError) as caught:
        FileTokenStore(*arguments, **options)

    assert "no_key" not in str(caught.value)


@pytest.mark.parametrize("name", ["a\0b", "a\ud800"])
def test_a_name_that_no_file_can_have_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigurationError, InvalidArgumentError), match="file.s name"):
        FileTokenStore(f"{tmp_path}/{name}")


def test_it_shows_its_path_alone(store: FileTokenStore, path: Path) -> None:
    assert repr(store) == f"FileTokenStore({str(path)!r})"
