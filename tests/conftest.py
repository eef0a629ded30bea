"""Fixtures, and two rules for all tests: loopback only, and nothing blocks the event loop."""

import asyncio
import ipaddress
import os
import sys
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings
from opentelemetry import context, propagate  # noqa: F401

from flip_async import ClientCredentialsAuth, FlipClient, SandboxClient
from flip_async.emulator import Emulator
from tests.support import API, CLIENT_ID, CLIENT_SECRET, FakeFlip, ManualClock

# Older versions of its API read package metadata at the first span, which blocks.
context.get_current()

settings.register_profile(
    "project",
    deadline=None,  # machines are shared
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")


@pytest.fixture(scope="session", autouse=True)
def _modules_are_loaded() -> None:
    """The first call of a process loads them in a thread; tests count the turns of their loop."""

    async def call() -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(200, json=[]))
        async with SandboxClient(api_key="fl_your_api_key", transport=transport) as flip:
            await flip.sites.list()

    asyncio.run(call())


def _stay_on_loopback(event: str, args: tuple[object, ...]) -> None:
    if event != "socket.connect":
        return
    address = args[1]
    if isinstance(address, tuple) and not ipaddress.ip_address(str(address[0])).is_loopback:
        raise RuntimeError(f"tests stay on loopback, and this one goes to {address}")


sys.addaudithook(_stay_on_loopback)


@pytest.fixture(autouse=True)
def _no_blocking_call() -> Iterator[BlockBuster]:
    with blockbuster_ctx("flip_async") as blockbuster:
        # httpcore imports a module in every request, and Python locks around an import.
        lock = blockbuster.functions["threading.Lock.acquire"]
        lock.can_block_in("importlib._bootstrap>", "acquire")
        # A mounted credential is read when a client is made, and by a thread from then on.
        for name in ("io.BufferedReader.read", "os.stat"):
            read = blockbuster.functions[name]
            read.can_block_in("flip_async/_secret_file.py", "_at_start")
        # One look at a disk when a store is made; its package is imported then too.
        for name in ("os.stat", "os.readlink", "os.getcwd", "os.path.abspath"):
            look = blockbuster.functions[name]
            look.can_block_in("flip_async/_auth/_file_store.py", "__init__")
        # Two threads with a loop each meet here, for as long as a dictionary takes.
        lock.can_block_in("flip_async/_aio/_per_loop.py", {"_new", "items"})
        lock.can_block_in(
            "flip_async/_auth/_refresher.py",
            {"renew", "invalidate", "rejected", "retried", "_left_s", "_failed", "_attempt"},
        )
        # A test waits for an emulator in another thread, for as long as a method of it takes.
        lock.can_block_in("flip_async/emulator/_thread.py", {"start", "call", "run", "stop"})
        lock.can_block_in("coverage/collector.py", "lock_data")  # and where coverage is measured
        yield blockbuster


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FLIP_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def fake() -> FakeFlip:
    return FakeFlip()


@pytest.fixture
async def token_http(fake: FakeFlip) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=fake) as http:
        yield http


@pytest.fixture
async def auth(
    token_http: httpx.AsyncClient, clock: ManualClock
) -> AsyncIterator[ClientCredentialsAuth]:
    async with ClientCredentialsAuth(
        CLIENT_ID, CLIENT_SECRET, http_client=token_http, clock=clock
    ) as auth:
        yield auth


@pytest.fixture
async def http(fake: FakeFlip, auth: ClientCredentialsAuth) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=fake, auth=auth, base_url=API) as http:
        yield http


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(in_process=True) as emulator:
        yield emulator


@pytest.fixture
async def socket_emulator() -> AsyncIterator[Emulator]:
    async with Emulator() as emulator:
        yield emulator


@pytest.fixture
async def flip(emulator: Emulator) -> AsyncIterator[FlipClient]:
    async with emulator.client() as flip:
        yield flip
