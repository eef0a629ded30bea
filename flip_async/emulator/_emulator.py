"""The emulator as a user sees it."""

import asyncio
import base64
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Final, Self, TypedDict, Unpack

import httpx

from flip_async import Environment, FlipClient, Retries
from flip_async.emulator._app import make_app, make_routes
from flip_async.emulator._faults import Cut, Fault, Faults
from flip_async.emulator._oauth import OAuthClient
from flip_async.emulator._server import InProcessTransport, SocketServer
from flip_async.emulator._webhooks import PAUSES_S, WebhookDelivery, WebhookSender
from flip_async.emulator._world import World

IN_PROCESS_URL: Final = "http://flip.localhost"
_TICK_S: Final = 0.1


class ClientOptions(TypedDict, total=False):
    """Arguments of `Emulator.client()`, as those of `FlipClient`."""

    api_key: str
    client_id: str
    client_secret: str
    auth: httpx.Auth
    scope: str | Sequence[str]
    timeout: float | httpx.Timeout | None
    deadline_s: float | None
    retries: Retries


class Emulator:
    """A local Flip, with its OAuth host, for tests and demos; all state is in memory.

    Args:
        in_process: Answer without a socket: faster, and reached through `client()` or
            `transport` alone. Else it listens on loopback, in the running event loop.
        token_lifetime_s: Life of its access tokens, in seconds.
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.
        scopes: Scopes that its OAuth client may ask for; `None` for any.
        max_limit: The most rows that a list gives in one page, whatever is asked for.
        on_telemetry: Is given each point that is accepted, which is then not kept: for
            more points than memory holds.
        webhook_pauses_s: How long a webhook waits before each re-delivery, in seconds. There
            are four at Flip; how long they wait is not documented.

    Attributes:
        api_key: A key that it accepts.
        client_id: Id of the OAuth client that it knows.
        client_secret: Secret of that client.
        webhook_secret: What its webhooks are signed with.
    """

    def __init__(
        self,
        *,
        in_process: bool = False,
        token_lifetime_s: float = 3600.0,
        host: str = "127.0.0.1",
        port: int = 0,
        scopes: Sequence[str] | None = None,
        max_limit: int | None = None,
        on_telemetry: Callable[[dict[str, object]], object] | None = None,
        webhook_pauses_s: Sequence[float] = PAUSES_S,
    ) -> None:
        self.api_key: Final = f"fl_emulator_{secrets.token_hex(8)}"
        self.client_id: Final = "emulator"
        self.client_secret: Final = secrets.token_hex(16)
        self.webhook_secret: Final = (
            f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode('ascii')}"
        )
        self._host: Final = host
        self._port: Final = port
        self._in_process: Final = in_process
        self._world: Final = World(
            api_key=self.api_key,
            token_lifetime_s=token_lifetime_s,
            max_limit=max_limit,
            on_telemetry=on_telemetry,
        )
        oauth = OAuthClient(
            self.client_id, self.client_secret, None if scopes is None else frozenset(scopes)
        )
        routes = make_routes(self._world, oauth)
        self._app: Final = Faults(make_app(routes), routes)
        self._sender: Final = WebhookSender(self.webhook_secret, webhook_pauses_s)
        self._world.listeners.append(self._sender.announce)
        self._ticking: asyncio.Task[None] | None = None
        self._server: SocketServer | None = None
        self._transport: httpx.AsyncBaseTransport | None = None

    # Where it is

    @property
    def api_url(self) -> str:
        """Origin of the API."""
        if self._in_process:
            return IN_PROCESS_URL
        if self._server is None:
            raise RuntimeError("the emulator does not run: use `async with Emulator() as ...`")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._server.port}"

    @property
    def oauth_url(self) -> str:
        """Origin of the OAuth host; here the same."""
        return self.api_url

    @property
    def environment(self) -> Environment:
        """What a `FlipClient` takes."""
        return Environment(name="emulator", api_url=self.api_url, oauth_url=self.oauth_url)

    @property
    def transport(self) -> httpx.AsyncBaseTransport | None:
        """In process: what a client takes as its `transport`; else `None`."""
        return self._transport

    def client(self, **options: Unpack[ClientOptions]) -> FlipClient:
        """A client for this emulator, with its OAuth credential where none is given."""
        if not options.keys() & {"api_key", "client_id", "client_secret", "auth"}:
            options["client_id"] = self.client_id
            options["client_secret"] = self.client_secret
        return FlipClient(environment=self.environment, transport=self._transport, **options)

    def variables(self) -> dict[str, str]:
        """Environment variables that point `SandboxClient()` here."""
        return {
            "FLIP_API_URL": self.api_url,
            "FLIP_OAUTH_URL": self.oauth_url,
            "FLIP_CLIENT_ID": self.client_id,
            "FLIP_CLIENT_SECRET": self.client_secret,
            "FLIP_WEBHOOK_SECRET": self.webhook_secret,
        }

    # What it was asked, and what it knows

    def count(self, method: str, path: str) -> int:
        """How many requests there were of a method and a path, or a template of a path."""
        return self._app.count(method, path)

    def forget_counts(self) -> None:
        """Begin to count anew."""
        self._app.forget_counts()

    @property
    def telemetry(self) -> list[dict[str, object]]:
        """The points that were accepted, as they were sent."""
        return list(self._world.telemetry)

    @property
    def site_ids(self) -> list[str]:
        """The ids of the sites that were commissioned."""
        return list(self._world.sites)

    def use_session(self, token: str) -> str | None:
        """Open the portal with a session token: gives the site's id, once."""
        return self._world.use_session(token)

    # What Flip and the utilities do

    def review_enrollments(self, status: str = "ACTIVE", *, reason: str | None = None) -> int:
        """Give every `PENDING` enrollment another status, as a review does.

        Args:
            status: The new status.
            reason: Why.

        Returns:
            How many there were.
        """
        pending = [
            str(row["id"]) for row in self._world.enrollments.values() if row["status"] == "PENDING"
        ]
        for enrollment_id in pending:
            self._world.review(enrollment_id, status, reason)
        return len(pending)

    def dispatch(
        self,
        *,
        program_id: str | None = None,
        starts_in_s: float = 3600.0,
        duration_s: float = 7200.0,
        mode: str = "DISCHARGE",
        setpoint_w: int = 5000,
    ) -> list[str]:
        """Call for power: an event for each `ACTIVE` enrollment, a command for each device.

        Args:
            program_id: Only enrollments in this program.
            starts_in_s: Seconds until it begins.
            duration_s: Length in seconds.
            mode: What the batteries shall do.
            setpoint_w: How much, in watts.

        Returns:
            The ids of the events.
        """
        battery_commands = {
            "mode": mode,
            "power_mode": "SETPOINT",
            "setpoint_w": setpoint_w,
            "backup_reserve_percentage": 20,
            "enable_grid_import": False,
        }
        return [
            self._world.grid.dispatch(
                enrollment,
                starts_in_s=starts_in_s,
                duration_s=duration_s,
                battery_commands=battery_commands,
            )
            for enrollment in self._world.enrollments.values()
            if enrollment["status"] == "ACTIVE" and program_id in (None, enrollment["program_id"])
        ]

    def cancel_event(self, event_id: str) -> None:
        """The utility cancels an event."""
        self._world.grid.cancel(event_id)

    def participate(self, event_id: str, *, is_participating: bool) -> None:
        """The participant leaves an event, or comes back."""
        event = self._world.grid.events_now()[event_id]
        self._world.grid.participate(event, {"is_participating": is_participating})

    @property
    def commands(self) -> list[dict[str, object]]:
        """All commands, as Flip has them now."""
        return self._world.grid.commands_now()

    # Webhooks

    def register_webhook(
        self,
        url: str,
        *,
        event_types: Collection[str] | None = None,
        copies: int = 1,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Tell by webhook what happens from now on, as if registered in the console.

        A webhook is delivered when it is answered with 200 or 204 within five seconds; else
        it is sent again, four times at the most.

        Args:
            url: Where to.
            event_types: Only these; `None` for all.
            copies: How many times to send each at the same moment: Flip may send one twice.
            transport: How to get there: `httpx.ASGITransport(app)` for an application that
                listens on no socket.
        """
        self._sender.register(url, event_types=event_types, copies=copies, transport=transport)

    def send_webhook(self, event_type: str, event_object: Mapping[str, object]) -> None:
        """Tell anything by webhook, such as `settings.apply`."""
        self._sender.announce(event_type, dict(event_object), self._world.now())

    @property
    def webhooks(self) -> list[WebhookDelivery]:
        """The webhooks that were sent, and what became of them."""
        return list(self._sender.deliveries)

    async def webhooks_settled(self) -> None:
        """Wait until no webhook is on its way any more, nor waits to be sent again."""
        await self._sender.settled()

    async def _tick(self) -> None:
        # Commands begin and end by themselves; `advance` moves the clock they go by.
        while True:
            await asyncio.sleep(_TICK_S)
            self._world.grid.pass_time()

    # Misbehaviour

    @property
    def token_lifetime_s(self) -> float:
        """Life of the access tokens that are given from now on, in seconds."""
        return self._world.token_lifetime_s

    @token_lifetime_s.setter
    def token_lifetime_s(self, seconds: float) -> None:
        self._world.token_lifetime_s = seconds

    def advance(self, seconds: float) -> None:
        """Move the emulator's own clock forward: its tokens and commands age by that much."""
        self._world.advance(seconds)
        self._world.grid.pass_time()

    def revoke_tokens(self) -> None:
        """Forget all access tokens and site tokens: they are answered 401."""
        self._world.revoke_tokens()

    def fail_next(
        self,
        times: int | None = 1,
        *,
        method: str | None = None,
        path: str | None = None,
        status: int | None = None,
        retry_after: str | None = None,
        body: bytes | None = None,
        cut: Cut | None = None,
        delay_s: float = 0.0,
        until: asyncio.Event | None = None,
    ) -> None:
        """Let the next requests go wrong; several faults take their turns.

        Args:
            times: How many requests; `None` for all from now on.
            method: Only those with this method.
            path: Only those with this path, or this template (`/v1/site/{siteId}`).
            status: Answer with this status, without carrying the request out.
            retry_after: `Retry-After` of that answer.
            body: Body of that answer: a malformed token, for instance, with status 200.
            cut: Cut the connection `before` the request is carried out, `in` the answer,
                or `after` it was carried out and before the answer.
            delay_s: Wait so long first, in seconds.
            until: Wait for this event first.
        """
        fault = Fault(
            times=times,
            method=method,
            path=path,
            status=status,
            retry_after=retry_after,
            body=body,
            cut=cut,
            delay_s=delay_s,
            until=until,
        )
        self._app.add(fault)

    def behave(self) -> None:
        """Forget all faults that are still to come."""
        self._app.clear()

    # Life

    async def __aenter__(self) -> Self:
        if self._in_process:
            self._transport = InProcessTransport(self._app)
        else:
            self._server = SocketServer(self._app, host=self._host, port=self._port)
            await self._server.start()
        self._ticking = asyncio.create_task(self._tick())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
        await self._sender.stop()
        if self._server is not None:
            await self._server.stop()
            self._server = None

    def __repr__(self) -> str:
        where = "in process" if self._in_process else "on a socket"
        return f"<Emulator {where}>"
