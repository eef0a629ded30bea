"""A real Redis or Valkey, as a process of its own, that tests may stop, hang and fill."""

import inspect
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import redis
import redis.asyncio

from tests.support.processes import default_signals, free_port

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")
MISSING = "neither redis-server nor valkey-server is on the path"


_IS_NEW = "driver_info" in inspect.signature(redis.asyncio.Redis.__init__).parameters
UNNAMED: dict[str, Any] = (
    {"driver_info": None} if _IS_NEW else {"lib_name": None, "lib_version": None}
)
"""What a client would tell of itself it reads from a file, for each connection: here it does not."""


def given_client(url: str, **options: object) -> redis.asyncio.Redis:
    """A client as users make them."""
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(url, **UNNAMED, **options)
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
        self._copies: list[RedisServer] = []
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def url_of(self, user: str, password: str = "your_password") -> str:
        return f"redis://{user}:{password}@127.0.0.1:{self.port}/0"

    def start_sentinel(self, name: str, port: int) -> None:
        """As a Sentinel, which wants a file of its own to write to."""
        config = self._folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self._folder}\n"
            f"sentinel monitor {name} 127.0.0.1 {port} 1\n"
        )
        self._start(str(config), "--sentinel")

    def start(self) -> Self:
        return self._start(
            "--port", str(self.port), "--bind", "127.0.0.1",
            "--dir", str(self._folder), "--save", "", "--repl-diskless-sync-delay", "0",
            *self._options,
        )  # fmt: skip

    def _start(self, *arguments: str) -> Self:
        assert PROGRAM is not None, MISSING
        self._process = subprocess.Popen(
            [PROGRAM, *arguments],
            stdout=subprocess.DEVNULL,
            preexec_fn=default_signals,  # noqa: PLW1509  # it takes no lock
        )
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
        """A replica, in step with it, and closed with it; `promote` makes it a master."""
        replica = RedisServer("--replicaof", f"127.0.0.1 {self.port}")
        replica.start()
        with replica.admin() as admin:
            while admin.info("replication")["master_link_status"] != "up":
                time.sleep(0.02)
        with self.admin() as admin:
            while not admin.execute_command("WAIT", 1, 100):
                time.sleep(0.02)
        self._copies.append(replica)
        return replica

    def until_in_step(self) -> None:
        """Wait until the copies have all that it has."""
        with self.admin() as admin:
            offset = admin.info("replication")["master_repl_offset"]
        for copy in self._copies:
            with copy.admin() as admin:
                while admin.info("replication")["slave_repl_offset"] < offset:
                    time.sleep(0.01)

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
        for copy in self._copies:
            copy.close()
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


class RedisWithSentinel:
    """A master, its replica, and a Sentinel that makes one of the other when it is told to."""

    NAME = "flip"

    def __init__(self) -> None:
        self.master = RedisServer()
        self.replica: RedisServer | None = None
        self._sentinel = RedisServer()

    @property
    def sentinels(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", self._sentinel.port)]

    def start(self) -> Self:
        self.master.start()
        self.replica = self.master.copy()
        self._sentinel.start_sentinel(self.NAME, self.master.port)
        with self._sentinel.admin() as admin:
            while not admin.execute_command("SENTINEL", "REPLICAS", self.NAME):
                time.sleep(0.05)
        return self

    def fail_over(self) -> None:
        """Promote the replica; ends when the Sentinel tells everybody so."""
        assert self.replica is not None
        with self._sentinel.admin() as admin:
            while True:
                try:
                    admin.execute_command("SENTINEL", "FAILOVER", self.NAME)
                    break
                except redis.exceptions.ResponseError:  # it does not know the replica well yet
                    time.sleep(0.1)
            port = str(self.replica.port).encode()
            while True:
                address = admin.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.NAME)
                if port in address or self.replica.port in address:
                    return
                time.sleep(0.05)

    def close(self) -> None:
        for server in (self._sentinel, self.replica, self.master):
            if server is not None:
                server.close()


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
