"""`flip webhooks listen`: a small server that shows what arrives."""

import asyncio
import contextlib
import json as codec
import socket
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import httpx

from flip_async import errors
from flip_async._cli._operation import FINE, Json, UsageError, cannot_listen, operate
from flip_async._cli._output import complain, plain, print_json_line
from flip_async._cli._recorded import Recorded, reason_of, signing_keys
from flip_async.webhooks import SigningKeys, verify

if TYPE_CHECKING:
    import uvicorn

_LARGEST: Final = 1024 * 1024
_OK, _BAD, _NO_SUCH, _TOO_LARGE = 204, 400, 404, 413
_SHOWN: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")
_NEEDS: Final = "flip webhooks listen needs uvicorn: pip install 'flip-async[cli,emulator]'"


def listen(
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    path: str = "/webhooks/flip",
    save: Path | None = None,
    json: Json = False,
) -> int:
    """Show the webhooks that arrive, and whether their signatures hold, until Ctrl-C.

    One whose signature holds is answered with 204, any other with 400. It needs the extra
    emulator, for its server. It ends with 130 after Ctrl-C, and with 1 where the port is taken.

    Parameters
    ----------
    host
        Address to listen on.
    port
        Port to listen on; 0 for a free one.
    path
        The path that webhooks come to.
    save
        A folder for them: a file each, which flip webhooks verify and replay take.
    """
    return operate(
        lambda: _serve(Listener(signing_keys(), path, save, as_json=json), _server(), host, port)
    )


async def _serve(
    listener: "Listener", make: "Callable[[Listener], uvicorn.Server]", host: str, port: int
) -> int:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        return cannot_listen(host, port, error)
    server = make(listener)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    shown = f"[{host}]" if ":" in host else host
    where = f"http://{shown}:{listening.getsockname()[1]}{listener.path}"
    complain(f"listening on {where}; Ctrl-C stops it")
    try:
        await asyncio.shield(task)
    finally:
        server.should_exit = True
        await task
    return FINE


def _server() -> "Callable[[Listener], uvicorn.Server]":
    """What makes the server.

    Raises:
        UsageError: Its extra is not installed.
    """
    try:
        import uvicorn
    except ModuleNotFoundError:
        raise UsageError(_NEEDS) from None

    class Server(uvicorn.Server):
        """Leaves the signals to the event loop, which ends the subcommand."""

        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None]:
            yield

    def make(listener: Listener) -> uvicorn.Server:
        config = uvicorn.Config(
            listener,
            interface="asgi3",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        return Server(config)

    return make


@attrs.frozen
class Listener:
    """An ASGI application that tells what it is sent.

    Attributes:
        keys: What webhooks are signed with.
        path: Where they come to.
        folder: Where to keep them.
        as_json: Tell it as JSON.
    """

    keys: SigningKeys
    path: str
    folder: Path | None
    as_json: bool = attrs.field(kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot work, before it listens."""
        if not self.path.startswith("/"):
            raise UsageError("--path begins with a slash, as in /webhooks/flip")
        if self.folder is not None and not self.folder.is_dir():
            raise UsageError(f"--save {self.folder} is no folder: make it first")

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer a request."""
        body = await _body_of(receive)
        if scope["path"] != self.path or scope["method"] != "POST":
            complain(f"{scope['method']} {scope['path']}: not POST {self.path}")
            status = _NO_SUCH
        elif body is None:
            complain(f"a body of more than {_LARGEST // 1024} KiB is refused")
            status = _TOO_LARGE
        else:
            status = self._take(Recorded(httpx.Headers(scope["headers"]), body))
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def _take(self, recorded: Recorded) -> int:
        """Tell of one, and keep it.

        Returns:
            The status of the answer.
        """
        error: errors.WebhookError | None = None
        event_type = None
        try:
            event_type = verify(recorded.body, recorded.headers, self.keys).event_type
        except errors.WebhookError as refused:
            error = refused
        moment = datetime.now(UTC)
        if self.as_json:
            print_json_line(
                {
                    "received_at": moment.isoformat(),
                    "ok": error is None,
                    "error": None if error is None else reason_of(error),
                    "event_type": event_type,
                    "headers": {
                        name: recorded.headers[name] for name in _SHOWN if name in recorded.headers
                    },
                    "body": recorded.body.decode(errors="replace"),
                }
            )
        else:
            told = f"holds    {event_type}" if error is None else f"refused  {reason_of(error)}"
            print(f"{moment:%H:%M:%S}  {plain(told)}  {_id_of(recorded)}")
            print(f"  {_in_a_line(recorded.body)}", flush=True)
        if self.folder is not None:
            self._keep(recorded, moment)
        return _OK if error is None else _BAD

    def _keep(self, recorded: Recorded, moment: datetime) -> None:
        assert self.folder is not None
        kept = Recorded(
            httpx.Headers({name: recorded.headers.get(name, "") for name in _SHOWN}), recorded.body
        )
        (self.folder / f"{moment:%Y%m%dT%H%M%S.%f}.webhook").write_bytes(kept.written())


def _in_a_line(body: bytes) -> str:
    try:
        return codec.dumps(codec.loads(body))
    except (ValueError, RecursionError):
        return plain(body.decode(errors="replace"))


def _id_of(recorded: Recorded) -> str:
    return plain(recorded.headers.get("webhook-id", ""))[:80]


async def _body_of(receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> bytes | None:
    """The body; `None` where it is too large."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        if size <= _LARGEST:
            parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts) if size <= _LARGEST else None
