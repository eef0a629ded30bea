"""A real Redis or Valkey, as a process of its own, that tests may stop, hang and fill."""

import inspect
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import redis
import redis.asyncio

from tests.support.processes import default_signals, free_port

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")
MISSING = "neither redis-server nor valkey-server is on the path"


def given_client(url: str, **options: object) -> redis.asyncio.Redis:
    """A client as users make them; but what it tells of itself it reads from a file, each time."""
    new = "driver_info" in inspect.signature(redis.asyncio.Redis.__init__).parameters
    unnamed = {"driver_info": None} if new else {"lib_name": None, "lib_version": None}
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(url, **unnamed, **options)
    return client


class RedisServer:
    """Listens on a free port of loopback, and keeps its files in a folder of its own.

    Args:
        options: Of the server, as on its command line: `"--maxmemory", "5mb"`.
    """

    def __init__(self, *options: str) -> None:
        self._options = options
        self._folder = Path(tempfile.mkdtemp(prefix="flip-redis-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def url_of(self, user: str, password: str = "your_password") -> str:
        return f"redis://{user}:{password}@127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        assert PROGRAM is not None, MISSING
        self._process = subprocess.Popen(
            [
                PROGRAM, "--port", str(self.port), "--bind", "127.0.0.1",
                "--dir", str(self._folder), "--save", "", "--repl-diskless-sync-delay", "0",
                *self._options,
            ],
            stdout=subprocess.DEVNULL,
            preexec_fn=default_signals,  # noqa: PLW1509  # it takes no lock
        )  # fmt: skip
        while True:
            assert self._process.poll() is None, "redis-server ended at once"
            try:
                with self.admin() as admin:
                    admin.ping()
                return self
            except redis.exceptions.RedisError:
                time.sleep(0.01)

    def admin(self) -> redis.Redis:
        """A blocking client, for the test's own looks; not for use within the event loop."""
        return redis.Redis(port=self.port, socket_timeout=10)

    def user(self, name: str, *rules: str) -> str:
        """Make a user who may do so much and no more; gives its URL."""
        with self.admin() as admin:
            admin.execute_command(
                "ACL", "SETUSER", name, "reset", "on", ">your_password", "-@all", *rules
            )
        return self.url_of(name)

    def copy(self) -> "RedisServer":
        """A replica, in step with it; `promote` makes it a master."""
        replica = RedisServer("--replicaof", f"127.0.0.1 {self.port}")
        replica.start()
        with replica.admin() as admin:
            while admin.info("replication")["master_link_status"] != "up":
                time.sleep(0.02)
        with self.admin() as admin:
            while not admin.execute_command("WAIT", 1, 100):
                time.sleep(0.02)
        return replica

    def promote(self) -> None:
        with self.admin() as admin:
            admin.execute_command("REPLICAOF", "NO", "ONE")

    def stop(self) -> None:
        """End it as an operator does; what it may keep, it keeps."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It hangs: connections are there, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


class RedisClusterOfThree:
    """Three masters on one machine, which share the slots."""

    def __init__(self) -> None:
        self.nodes = [RedisServer("--cluster-enabled", "yes") for _ in range(3)]

    @property
    def url(self) -> str:
        return self.nodes[0].url.removesuffix("/0")

    def start(self) -> Self:
        for node in self.nodes:
            node.start()
        bounds = [0, 5461, 10923, 16384]
        for node, first, end in zip(self.nodes, bounds[:-1], bounds[1:], strict=True):
            with node.admin() as admin:
                admin.execute_command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
                for other in self.nodes:
                    admin.execute_command("CLUSTER", "MEET", "127.0.0.1", other.port)
        for node in self.nodes:
            with node.admin() as admin:
                # Said as two words, the answer is not parsed.
                while b"cluster_state:ok" not in admin.execute_command("CLUSTER", "INFO"):
                    time.sleep(0.02)
        return self

    def close(self) -> None:
        for node in self.nodes:
            node.close()
