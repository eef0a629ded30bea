"""The one border between our code and Redis: limits, errors, and whose loop it is.

Each command runs in a task of its own, which redis-py's connection belongs to until it is given
back. Whoever waits for it may be cancelled at any await: the command then goes on to its end, and
its answer is thrown away. So no cancellation of a caller reaches redis-py, which may swallow one,
or keep a connection of its pool for ever; and none of ours is lost.

No answer within `LIMIT_S` is a `StorageError`, and the command may have been carried out all the
same: scripts bear that, and being run twice.
"""

import asyncio
import hashlib
import importlib.resources
import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Self
from urllib.parse import urlsplit

import anyio
import attrs
from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from flip_async._aio._per_loop import PerLoop
from flip_async._aio._tasks import attached, detached, running_loop
from flip_async._checks import check_text, refuse
from flip_async._environment import is_loopback
from flip_async.errors import ConfigurationError, FlipError, InvalidArgumentError, StorageError

logger: Final = logging.getLogger("flip_async.redis")

LIMIT_S: Final = 2.0
_TAKES_DRIVER_INFO: Final = "driver_info" in inspect.signature(Redis.__init__).parameters
# What redis-py would tell of itself it reads from package metadata, for each connection.
_UNNAMED: Final[Mapping[str, None]] = (
    {"driver_info": None} if _TAKES_DRIVER_INFO else {"lib_name": None, "lib_version": None}
)
_CONNECTIONS: Final = 16
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_SCHEMES: Final = ("redis", "rediss", "unix")
_OLDEST: Final = 7
_HINTS: Final = {
    "OOM": "it is full: `maxmemory` is reached",
    "READONLY": "it is a read-only replica",
    "LOADING": "it is still loading its data",
    "MASTERDOWN": "it is a replica that has lost its master",
    "CLUSTERDOWN": "its cluster is down",
    "NOREPLICAS": "it has too few replicas",
    "WRONGTYPE": "something else is kept under our keys: choose another namespace",
    "NOAUTH": "it wants a password",
    "WRONGPASS": "it refuses the user name or the password",
    "NOPERM": "its ACL does not let this user do that; the documentation has the least that is "
    "needed",
}
# Redis 7.0, and later ones: without a code, as it is the script's error.
_NO_PERMISSION_IN_A_SCRIPT: Final = ("can't run this command", "ACL failure in script")
_CODES: Final = {
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "BusyLoadingError": "LOADING",
    "NoPermissionError": "NOPERM",
    "AuthenticationError": "WRONGPASS",
    "AuthenticationWrongNumberOfArgsError": "WRONGPASS",
    "MasterDownError": "MASTERDOWN",
    "ClusterDownError": "CLUSTERDOWN",
}

Key = str
Argument = str | bytes | int | float


@attrs.frozen
class Script:
    """A Lua script, which stands in a file of its own.

    Attributes:
        text: What runs.
        digest: What Redis calls it once it knows it.
    """

    text: str
    digest: str

    @classmethod
    def load(cls, name: str) -> Self:
        """Read one of this package's files; at import, where reading blocks nobody."""
        return cls.of((importlib.resources.files("flip_async.redis") / f"{name}.lua").read_text())

    @classmethod
    def of(cls, text: str) -> Self:
        """Make one of its text."""
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    def that_may_run_when_full(self) -> Self:
        """The same, to be run on a server that has no memory left."""
        return self.of(self.text.replace("#!lua\n", "#!lua flags=allow-oom\n", 1))


class RedisClient:
    """What one object of ours has of Redis.

    Of a URL each event loop has a client of its own, closed by `aclose` or with its loop; a
    client that is given belongs to the first loop that uses it, and is not closed.

    What changes: the commands that run, the loop of a given client, once, and whether the last
    command failed.

    Args:
        redis: A URL, or a client of `redis.asyncio`: `Redis` (a Sentinel's too) or
            `RedisCluster`.
        namespace: What all key names begin with.
        name: What `CLIENT SETNAME` tells of a URL's connections.

    Raises:
        ConfigurationError: It is of no use: another scheme, a client that decodes answers.
        InvalidArgumentError: It is neither, or the namespace has other characters in it.
    """

    def __init__(self, redis: "str | Redis | RedisCluster", *, namespace: str, name: str) -> None:
        self.namespace: Final = _check_namespace(namespace)
        self._given: Final = None if isinstance(redis, str) else _check_client(redis)
        self._given_loop: asyncio.AbstractEventLoop | None = None
        self.is_degraded = False
        self._commands: Final[set[asyncio.Task[_Outcome]]] = set()
        self._per_loop: PerLoop[Redis] | None = None
        # How a client that is given reaches Redis is its maker's business.
        self.where, self.is_private = "Redis", True
        if isinstance(redis, str):
            make, self.where, self.is_private = _from_url(redis, name)
            self._per_loop = PerLoop(make, _close)

    def key(self, tag: str, part: str) -> Key:
        """The name of a key; those with the same tag stand on one node of a Cluster [F8]."""
        return f"{self.namespace}:{{{tag}}}:{part}"

    async def run(
        self,
        script: Script,
        keys: Sequence[Key],
        arguments: Sequence[Argument] = (),
        *,
        min_replicas: int = 0,
    ) -> Any:  # noqa: ANN401  # what a script gives, as redis-py reads it
        """Run a script, once or, where the client given repeats commands, more often.

        Args:
            script: Which.
            keys: All the keys that it touches.
            arguments: What it gets besides.
            min_replicas: How many replicas have to have what it wrote.

        Raises:
            StorageError: It failed, or there was no answer in time; then it may have run.
            ConfigurationError: The client given is of another event loop.
        """
        client = self._client()

        async def call() -> object:
            if min_replicas:
                return await _run_and_wait(client, script, keys, arguments, min_replicas)
            return await _run(client, script, keys, arguments)

        outcome = await self._outcome_of(call)
        # No frame of ours holds what may be a token while an error is made [B10].
        arguments = ()
        return outcome.get()

    async def command(self, *parts: Argument, key: Key) -> Any:  # noqa: ANN401  # likewise
        """Give one command.

        Args:
            parts: The command's name and arguments; no secret.
            key: A key of ours, whose node is asked where it is a Cluster.

        Raises:
            StorageError: It failed, or there was no answer in time.
            ConfigurationError: The client given is of another event loop.
        """
        client = self._client()

        async def call() -> object:
            if isinstance(client, RedisCluster):
                await client.initialize()
                node = client.get_node_from_key(key)
                return await client.execute_command(*parts, target_nodes=node)
            answer: object = await client.execute_command(*parts)  # type: ignore[no-untyped-call]
            return answer

        return (await self._outcome_of(call)).get()

    async def check_server(self, key: Key, *, keeps: str) -> None:
        """Look whether the server can be trusted with what is kept there [F9].

        Args:
            key: A key of ours.
            keeps: What is kept, for the words of the error.

        Raises:
            ConfigurationError: It is too old, or may throw keys away.
            StorageError: It cannot be asked.
        """
        info = _flat(await self.command("INFO", key=key))
        version = str(info.get("valkey_version") or info.get("redis_version") or "")
        major = version.partition(".")[0]
        if "valkey_version" not in info and major.isdigit() and int(major) < _OLDEST:
            raise ConfigurationError(
                f"{self.where} is Redis {version}: Redis {_OLDEST} or Valkey is needed"
            )
        policy = str(info.get("maxmemory_policy", ""))
        if policy.startswith("allkeys"):
            raise ConfigurationError(
                f"{self.where} has maxmemory-policy {policy}, and would throw {keeps} away when it "
                "is full: set noeviction, or a policy that begins with volatile-"
            )
        if str(info.get("aof_enabled")) == "0" and await self._has_no_save_points(key):
            logger.warning(
                "%s has neither an append-only file nor save points: a restart of it loses %s",
                self.where,
                keeps,
            )

    async def _has_no_save_points(self, key: Key) -> bool:
        try:
            answer = await self.command("CONFIG", "GET", "save", key=key)
        except StorageError:
            return False  # a hosted one refuses to tell: nothing is claimed
        return not _flat(answer).get("save", "?")

    async def aclose(self) -> None:
        """Let commands that run come to their end, and close what is of this loop.

        Whoever is cancelled meanwhile leaves that to go on, for as long as a command may take.
        """
        closing = attached(self._close_all())
        with anyio.CancelScope(shield=True):
            await asyncio.wait({closing})

    async def _close_all(self) -> None:
        await self.until_idle()
        if self._per_loop is not None:
            await self._per_loop.aclose()

    async def until_idle(self) -> None:
        """Let commands that run in this loop come to their end, also those nobody waits for."""
        here = running_loop()
        running = {task for task in self._commands if task.get_loop() is here}
        if running:
            await asyncio.wait(running)  # each has a limit of its own

    # How a command runs

    def _client(self) -> "Redis | RedisCluster":
        if self._per_loop is not None:
            return self._per_loop.get()
        assert self._given is not None
        here = running_loop()
        if self._given_loop is None:
            self._given_loop = here
        if self._given_loop is not here:
            raise ConfigurationError(
                "this redis client belongs to the event loop that used it first: give a URL, or "
                "each loop a client of its own"
            )
        return self._given

    async def _outcome_of(self, call: Callable[[], Awaitable[object]]) -> "_Outcome":
        task = detached(_outcome(call, self.where))
        self._commands.add(task)
        task.add_done_callback(self._commands.discard)
        timer = running_loop().call_later(LIMIT_S, task.cancel)
        task.add_done_callback(lambda _: timer.cancel())
        # Not `await task`: that would hand a cancellation of the caller on to it.
        done, _ = await asyncio.wait({task}, timeout=LIMIT_S * 1.5)
        outcome = _Outcome(error=_too_late(self.where))
        if done and not task.cancelled():
            outcome = task.result()
        self.is_degraded = outcome.error is not None
        return outcome


@attrs.frozen
class _Outcome:
    """What came of a command: an answer, or an error that has no traceback yet."""

    answer: object = None
    error: Exception | None = None

    def get(self) -> object:
        if self.error is not None:
            raise self.error
        return self.answer


async def _outcome(call: Callable[[], Awaitable[object]], where: str) -> _Outcome:
    try:
        return _Outcome(await _on_a_live_connection(call))
    except asyncio.CancelledError:
        # The limit's, or one that redis-py lets out of a task of its own.
        return _Outcome(error=_too_late(where))
    except FlipError as error:
        return _Outcome(error=error.again())
    except (exceptions.RedisError, OSError, EOFError, TimeoutError) as error:
        return _Outcome(error=StorageError(f"{where}: {_reason(error)}"))
    except Exception as error:
        # The client may be a user's. Its arguments may be in its text: the type has to do.
        return _Outcome(error=StorageError(f"{where}: the client failed ({type(error).__name__})"))


async def _on_a_live_connection(call: Callable[[], Awaitable[object]]) -> object:
    """Call, and once more where the connection was dead.

    Redis, or what is between, ends those that are idle. redis-py 8 does not look before it takes
    one from its pool, and would fail the first command after each restart, once a connection.
    """
    try:
        return await call()
    except exceptions.ConnectionError as error:
        if type(error) is not exceptions.ConnectionError:  # a password, a server that loads
            raise
    return await call()


def _too_late(where: str) -> StorageError:
    return StorageError(f"{where} did not answer within {LIMIT_S:g} s")


def _reason(error: Exception) -> str:
    """What went wrong, in our words where there may be a value in Redis's."""
    text = str(error)
    code = re.match(r"[A-Z]{3,}\b", text)
    if code is not None and code[0] in _HINTS:
        return f"{_HINTS[code[0]]} ({code[0]})"
    if type(error).__name__ in _CODES:  # redis-py has cut the code off
        name = _CODES[type(error).__name__]
        return f"{_HINTS[name]} ({name})"
    if any(words in text for words in _NO_PERMISSION_IN_A_SCRIPT):
        return f"{_HINTS['NOPERM']} (NOPERM)"
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return "no answer in time"
    if isinstance(error, exceptions.ConnectionError | OSError | EOFError):
        return f"it cannot be reached ({type(error).__name__})"
    # "unknown command …, with args beginning with" shows arguments.
    return f"it refused the command ({text.partition(', with args')[0][:120]})"


async def _run(
    client: "Redis | RedisCluster",
    script: Script,
    keys: Sequence[Key],
    arguments: Sequence[Argument],
) -> object:
    try:
        return await client.evalsha(script.digest, len(keys), *keys, *arguments)
    except exceptions.NoScriptError:
        return await client.eval(script.text, len(keys), *keys, *arguments)


async def _run_and_wait(
    client: "Redis | RedisCluster",
    script: Script,
    keys: Sequence[Key],
    arguments: Sequence[Argument],
    min_replicas: int,
) -> object:
    """As `_run`, and by the same connection, wait for replicas: `WAIT` counts its own writes."""
    if isinstance(client, RedisCluster):
        raise ConfigurationError("min_replicas cannot be had of a Cluster")
    limit_ms = int(LIMIT_S * 400)  # twice, where the script is not known yet
    answer, replicas = None, 0
    for command in (("EVALSHA", script.digest), ("EVAL", script.text)):
        pipeline = client.pipeline(transaction=False)
        pipeline.execute_command(*command, len(keys), *keys, *arguments)
        pipeline.execute_command("WAIT", min_replicas, limit_ms)
        answer, replicas = await pipeline.execute(raise_on_error=False)
        if not isinstance(answer, exceptions.NoScriptError):
            break
    for outcome in (answer, replicas):
        if isinstance(outcome, Exception):
            raise outcome
    if replicas < min_replicas:
        raise StorageError(
            f"{replicas} replicas of Redis have it, not {min_replicas}: it may be there, or be lost"
        )
    return answer


# What is given


def _check_namespace(namespace: object) -> str:
    check_text(namespace, field="namespace")
    if not isinstance(namespace, str) or not _NAMESPACE.fullmatch(namespace):
        raise InvalidArgumentError(
            "is 1 to 100 letters, digits and _ . : -, which key names begin with",
            field="namespace",
        )
    return namespace


def _check_client(client: object) -> "Redis | RedisCluster":
    if not isinstance(client, Redis | RedisCluster):
        refuse("redis", "a URL, or a client of redis.asyncio", client)
    if _decodes(client):
        raise ConfigurationError(
            "this redis client has decode_responses=True, which breaks what is kept as bytes: give "
            "a client without it, or a URL"
        )
    return client


def _decodes(client: "Redis | RedisCluster") -> bool:
    encoder = client.get_encoder()  # type: ignore[no-untyped-call, unused-ignore]
    return bool(encoder.decode_responses)


def _from_url(url: str, name: str) -> tuple[Callable[[], Redis], str, bool]:
    """How to make a client; what to call it without its password; whether nobody can listen."""

    def make() -> Redis:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=LIMIT_S,
            socket_connect_timeout=LIMIT_S,
            socket_timeout=None,  # by which redis-py may swallow a cancellation
            retry=Retry(NoBackoff(), 0),
            client_name=f"flip_async:{name}",
            **_UNNAMED,
        )
        return Redis.from_pool(pool)

    problem = _problem_of(url, make)
    if problem is not None:
        raise ConfigurationError(f"redis: {problem}")
    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    where = "Redis at a Unix socket" if parts.scheme == "unix" else f"Redis at {host}"
    return make, where, parts.scheme in ("unix", "rediss") or is_loopback(host)


def _problem_of(url: str, make: Callable[[], Redis]) -> str | None:
    """Why a URL is of no use; never with its text, which has a password in it."""
    try:
        if urlsplit(url).scheme not in _SCHEMES:
            return f"the URL begins with {', '.join(f'{scheme}://' for scheme in _SCHEMES)}"
        client = make()
    except (ValueError, TypeError, exceptions.RedisError):
        return "the URL cannot be read"
    if _decodes(client):
        return "the URL asks for decode_responses, which breaks what is kept as bytes"
    return None


async def _close(client: Redis) -> None:
    # Cancelled or not, and whatever it says: it is over with it.
    await asyncio.wait({attached(_close_quietly(client))}, timeout=LIMIT_S)


async def _close_quietly(client: Redis) -> None:
    try:
        await client.aclose()
    except (exceptions.RedisError, OSError) as error:
        logger.debug("closing redis: %s", type(error).__name__)


def _flat(answer: object) -> Mapping[str, object]:
    """What `INFO` and `CONFIG GET` give, of RESP2 and RESP3, of one server and of a Cluster."""
    if isinstance(answer, Mapping):
        values = list(answer.values())
        if len(values) == 1 and isinstance(values[0], Mapping):
            return _flat(values[0])
        return {_text(name): _text(value) for name, value in answer.items()}
    if isinstance(answer, list | tuple):
        pairs = zip(answer[::2], answer[1::2], strict=False)
        return {_text(name): _text(value) for name, value in pairs}
    lines = (line.partition(":") for line in _text(answer).splitlines())
    return {name: value for name, _, value in lines}


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
