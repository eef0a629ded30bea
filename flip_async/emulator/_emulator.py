"""The emulator as a user sees it."""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Collection, Generator, Mapping, Sequence
from types import TracebackType
from typing import Concatenate, Final, ParamSpec, Self, TypedDict, TypeVar, Unpack

import httpx

from flip_async import Environment, FlipClient, Retries, RetryEvent
from flip_async._checks import (
    check_clock,
    check_count,
    check_names,
    check_number,
    check_one_of,
    check_seconds,
    check_text,
)
from flip_async._clock import Clock, SystemClock
from flip_async._environment import is_loopback
from flip_async.emulator._app import make_app, make_routes
from flip_async.emulator._clocks import SeededClock
from flip_async.emulator._credentials import Credentials
from flip_async.emulator._faults import Cut, Fault, Faults
from flip_async.emulator._oauth import OAuthClient
from flip_async.emulator._random_source import RandomSource
from flip_async.emulator._server import InProcessTransport, SocketServer
from flip_async.emulator._thread import LoopThread, ThreadTransport
from flip_async.emulator._webhooks import PAUSES_S, Endpoint, WebhookDelivery, WebhookSender
from flip_async.emulator._world import World
from flip_async.errors import InvalidArgumentError

IN_PROCESS_URL: Final = "http://flip.localhost"
_EVERY_ADDRESS: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""What listens on all addresses is reached at one of them."""
_POWER_MODES: Final = ("SETPOINT", "FOLLOW_LOAD")
_SETPOINT_W: Final = 5000


P = ParamSpec("P")
T = TypeVar("T")


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
    on_retry: Callable[[RetryEvent], Awaitable[None] | None]
    clock: Clock


def _in_its_thread(
    method: Callable[Concatenate["Emulator", P], T],
) -> Callable[Concatenate["Emulator", P], T]:
    """A method that touches what the emulator's event loop touches, for callers anywhere."""

    @functools.wraps(method)
    def call(self: "Emulator", /, *args: P.args, **kwargs: P.kwargs) -> T:
        if self._thread is None:
            return method(self, *args, **kwargs)
        return self._thread.call(method, self, *args, **kwargs)

    return call


class Emulator:
    """A local Flip, with its OAuth host, for tests and demos; all state is in memory.

    `async with` runs it in the running event loop, `with` in a thread of its own: for tests that
    are not async, and for several event loops. Its methods may then be called from any thread,
    and `client()` reaches it without a connection, in any event loop.

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
        api_key: The key that it accepts; without it, a new one at each start.
        client_id: Id of its OAuth client.
        client_secret: Secret of that client; without it, a new one at each start.
        webhook_secret: What its webhooks are signed with, `whsec_...`; without it, a new one.
        seed: Whatever is else left to chance is the same each time: the credentials that are not
            given, tokens, ids, and the jitter of `client()`. They can be guessed then.
        clock: The time that it goes by, such as a `ManualClock`.
        accept_unknown_devices: Whether it takes telemetry of devices that were not commissioned.
            What Flip does with it is not documented; without this, such a point is `FAILED`.
        enrolled_sites: Ids of sites that are there from the beginning, as `enroll_site` makes
            them, and again after a `reset`.

    Attributes:
        api_key: A key that it accepts.
        client_id: Id of the OAuth client that it knows.
        client_secret: Secret of that client.
        webhook_secret: What its webhooks are signed with.

    Raises:
        ConfigurationError: A credential cannot be one.
        InvalidArgumentError: Another argument is of no use.
    """

    api_key: Final[str]
    client_id: Final[str]
    client_secret: Final[str]
    webhook_secret: Final[str]

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
        api_key: str | None = None,
        client_id: str | None = None,
        client_secret: str | None = None,
        webhook_secret: str | None = None,
        seed: int | None = None,
        clock: Clock | None = None,
        accept_unknown_devices: bool = False,
        enrolled_sites: Sequence[str] = (),
    ) -> None:
        check_text(host, field="host")
        check_clock(clock)
        if seed is not None:
            check_count(seed, field="seed", at_least=0)
        credentials = Credentials.of(
            api_key=api_key,
            client_id=client_id,
            client_secret=client_secret,
            webhook_secret=webhook_secret,
            source=RandomSource(seed, "credentials"),
        )
        self.api_key = credentials.api_key
        self.client_id = credentials.client_id
        self.client_secret = credentials.client_secret
        self.webhook_secret = credentials.webhook_secret
        self._host: Final = _EVERY_ADDRESS.get(host, host)
        self._port: Final = port
        self._in_process: Final = in_process
        self._listens_on: Final = host
        clock = SystemClock() if clock is None else clock
        self._clients_clock: Final[Clock] = (
            clock if seed is None else SeededClock(clock, RandomSource(seed, "jitter"))
        )
        self._world: Final = World(
            api_key=self.api_key,
            token_lifetime_s=token_lifetime_s,
            clock=clock,
            seed=seed,
            max_limit=max_limit,
            on_telemetry=on_telemetry,
            accept_unknown_devices=accept_unknown_devices,
        )
        oauth = OAuthClient(
            self.client_id, self.client_secret, None if scopes is None else frozenset(scopes)
        )
        routes = make_routes(self._world, oauth)
        self._app: Final = Faults(make_app(routes), routes)
        self._sender: Final = WebhookSender(
            self.webhook_secret, webhook_pauses_s, clock=clock, ids=RandomSource(seed, "webhooks")
        )
        self._world.listeners.append(self._sender.announce)
        self._enrolled_sites: Final = tuple(check_names(enrolled_sites, field="enrolled_sites"))
        self._server: SocketServer | None = None
        self._transport: httpx.AsyncBaseTransport | None = None
        self._thread: LoopThread | None = None
        self._clients: Final[list[FlipClient]] = []  # of one in a thread, still to be closed
        self._begin()

    def _begin(self) -> None:
        for site_id in self._enrolled_sites:
            self._world.enroll_site(site_id, (f"{site_id}-battery",))

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
        return Environment(
            name="emulator",
            api_url=self.api_url,
            oauth_url=self.oauth_url,
            insecure_http=not (self._in_process or is_loopback(self._host)),
        )

    @property
    def transport(self) -> httpx.AsyncBaseTransport | None:
        """What a client takes as its `transport`, in process or in a thread; else `None`."""
        return self._transport

    def client(self, **options: Unpack[ClientOptions]) -> FlipClient:
        """A client for this emulator, with its OAuth credential where none is given.

        Of an emulator in a thread it is closed with it, so that a test which is not async need
        not.

        Args:
            **options: Arguments of `FlipClient`.
        """
        if not options.keys() & {"api_key", "client_id", "client_secret", "auth"}:
            options["client_id"] = self.client_id
            options["client_secret"] = self.client_secret
        options.setdefault("clock", self._clients_clock)
        client = FlipClient(environment=self.environment, transport=self._transport, **options)
        if self._thread is not None:
            self._clients.append(client)
        return client

    def variables(self) -> dict[str, str]:
        """Environment variables that point `SandboxClient()` here.

        Returns:
            Their names and values, `FLIP_API_URL` and `FLIP_OAUTH_URL` and a credential among
            them.
        """
        return {
            "FLIP_API_URL": self.api_url,
            "FLIP_OAUTH_URL": self.oauth_url,
            "FLIP_CLIENT_ID": self.client_id,
            "FLIP_CLIENT_SECRET": self.client_secret,
            "FLIP_WEBHOOK_SECRET": self.webhook_secret,
        }

    # What it was asked, and what it knows

    @_in_its_thread
    def count(self, method: str, path: str) -> int:
        """How many requests there were of a method and a path, or a template of a path.

        Args:
            method: The method, such as `POST`.
            path: The path, or its template (`/v1/site/{siteId}`).
        """
        return self._app.count(method, path)

    @_in_its_thread
    def forget_counts(self) -> None:
        """Begin to count anew."""
        self._app.forget_counts()

    @property
    @_in_its_thread
    def telemetry(self) -> list[dict[str, object]]:
        """The points that were accepted, as they were sent."""
        return list(self._world.telemetry)

    @property
    @_in_its_thread
    def site_ids(self) -> list[str]:
        """The ids of the sites that were commissioned."""
        return list(self._world.sites)

    @_in_its_thread
    def use_session(self, token: str) -> str | None:
        """Open the portal with a session token: gives the site's id, once.

        Args:
            token: The session token.

        Returns:
            The site's id; `None` where the token was used, or is none.
        """
        return self._world.use_session(token)

    # What Flip and the utilities do

    @_in_its_thread
    def enroll_site(self, site_id: str = "hh-1042", device_ids: Sequence[str] | None = None) -> str:
        """Have a site that is commissioned and takes part in a program, as after a review.

        It lies where the sandbox has programs (zip code 88801), and can be dispatched. Its
        webhooks are sent, as of any enrollment.

        Args:
            site_id: Your id of it.
            device_ids: Your ids of its batteries; without them one, `<site_id>-battery`.

        Returns:
            The id of the enrollment, which is `ACTIVE`.

        Raises:
            InvalidArgumentError: An id is none.
        """
        check_text(site_id, field="site_id")
        if device_ids is None:
            device_ids = (f"{site_id}-battery",)
        devices = tuple(check_names(device_ids, field="device_ids"))
        return self._world.enroll_site(site_id, devices)

    @_in_its_thread
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

    @_in_its_thread
    def dispatch(
        self,
        *,
        program_id: str | None = None,
        starts_in_s: float = 3600.0,
        duration_s: float = 7200.0,
        mode: str = "DISCHARGE",
        power_mode: str | None = None,
        setpoint_w: int | None = None,
    ) -> list[str]:
        """Call for power: an event for each `ACTIVE` enrollment, a command for each device.

        Args:
            program_id: Only enrollments in this program.
            starts_in_s: Seconds until it begins.
            duration_s: Length in seconds.
            mode: What the batteries shall do.
            power_mode: `SETPOINT` or `FOLLOW_LOAD`, with `CHARGE` and `DISCHARGE` alone, which
                have `SETPOINT` where nothing is said.
            setpoint_w: How much, in watts, with `SETPOINT` alone; 5000 where nothing is said.

        Returns:
            The ids of the events.

        Raises:
            InvalidArgumentError: A number is out of range, or the mode has no such field.
        """
        check_number(starts_in_s, field="starts_in_s", unit=" of seconds")
        check_seconds(duration_s, field="duration_s")
        battery_commands = _battery_commands(mode, power_mode, setpoint_w)
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

    @_in_its_thread
    def cancel_event(self, event_id: str) -> None:
        """The utility cancels an event; one that is over stays as it is.

        Args:
            event_id: Id of the event.

        Raises:
            InvalidArgumentError: There is no such event.
        """
        self._world.grid.cancel(self._event(event_id))

    @_in_its_thread
    def participate(self, event_id: str, *, is_participating: bool) -> None:
        """The participant leaves an event, or comes back.

        Args:
            event_id: Id of the event.
            is_participating: Whether the site takes part from now on.

        Raises:
            InvalidArgumentError: There is no such event.
        """
        event = self._event(event_id)
        self._world.grid.participate(event, {"is_participating": is_participating})

    def _event(self, event_id: str) -> dict[str, object]:
        event = self._world.grid.events_now().get(event_id)
        if event is None:
            raise InvalidArgumentError("is the id of no event", field="event_id")
        return event

    @property
    @_in_its_thread
    def commands(self) -> list[dict[str, object]]:
        """All commands, as Flip has them now."""
        return [dict(command) for command in self._world.commands_now()]

    # Webhooks

    @_in_its_thread
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
        it is sent again, four times at the most. Each failure is a WARNING of the logger
        `flip_async.emulator`.

        Args:
            url: Where to.
            event_types: Only these; `None` for all.
            copies: How many times to send each at the same moment: Flip may send one twice.
            transport: How to get there: `httpx.ASGITransport(app)` for an application that
                listens on no socket.

        Raises:
            InvalidArgumentError: There can be no such URL, or another argument is of no use.
        """
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, TypeError):
            raise InvalidArgumentError("is no URL", field="url") from None
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise InvalidArgumentError("begins with http:// or https:// and a host", field="url")
        check_count(copies, field="copies")
        if event_types is not None:
            event_types = frozenset(check_names(event_types, field="event_types"))
        self._sender.register(Endpoint(parsed, event_types, copies, transport))

    @_in_its_thread
    def send_webhook(self, event_type: str, event_object: Mapping[str, object]) -> None:
        """Tell anything by webhook, such as `settings.apply`.

        Args:
            event_type: What happened.
            event_object: What it happened to.
        """
        self._sender.announce(event_type, dict(event_object), self._world.now())

    @property
    @_in_its_thread
    def webhooks(self) -> list[WebhookDelivery]:
        """The webhooks that were sent, and what became of them."""
        return list(self._sender.deliveries)

    async def webhooks_settled(self) -> None:
        """Wait until no webhook is on its way any more, nor waits to be sent again."""
        if self._thread is None:
            await self._sender.settled()
        else:
            await self._thread.run_async(self._sender.settled)

    # Misbehaviour

    @property
    def token_lifetime_s(self) -> float:
        """Life of the access tokens that are given from now on, in seconds."""
        return self._world.token_lifetime_s

    @token_lifetime_s.setter
    def token_lifetime_s(self, seconds: float) -> None:
        self._world.token_lifetime_s = seconds

    @_in_its_thread
    def advance(self, seconds: float) -> None:
        """Move the emulator's own clock forward: its tokens and commands age by that much.

        A `ManualClock` that it was given moves too, with all who share it; any other clock is
        left alone.

        Args:
            seconds: How much, at least 0.

        Raises:
            InvalidArgumentError: It would go back.
        """
        check_number(seconds, field="seconds", at_least=0, unit=" of seconds")
        self._world.advance(seconds)

    @_in_its_thread
    def reset(self) -> None:
        """Go back to the beginning, with the same addresses and the same credentials.

        Sites, devices, enrollments, events, commands, telemetry, tokens, faults, counts and
        webhooks that were registered are forgotten, webhooks on their way are dropped, and
        `advance` is undone (but a clock of yours stays where it is). With a seed the ids come
        again as they came first; tokens and the ids of webhooks do not, since a client and an
        application that live on would take them for those of before.
        """
        self._world.reset()
        self._sender.reset()
        self._app.reset()
        self._begin()

    @_in_its_thread
    def revoke_tokens(self) -> None:
        """Forget all access tokens and site tokens: they are answered 401."""
        self._world.revoke_tokens()

    @_in_its_thread
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

        The short form is the status alone: `fail_next(503)`, `fail_next(404, path="/v1/sites")`.

        Args:
            times: How many requests; `None` for all from now on. Where nothing else says what
                goes wrong, the status of one.
            method: Only those with this method.
            path: Only those with this path, or this template (`/v1/site/{siteId}`).
            status: Answer with this status, without carrying the request out.
            retry_after: `Retry-After` of that answer.
            body: Body of that answer: a malformed token, for instance, with status 200.
            cut: Cut the connection `before` the request is carried out, `in` the answer,
                or `after` it was carried out and before the answer.
            delay_s: Wait so long first, in seconds.
            until: Wait for this event first; it belongs to the emulator's event loop. `hold_next`
                needs none.

        Raises:
            InvalidArgumentError: Nothing says what goes wrong.
        """
        if status is None and cut is None and until is None and not delay_s:
            if times is None or not 400 <= times <= 599:
                raise InvalidArgumentError(
                    "says what goes wrong, from 400 to 599; or give cut=, delay_s= or until=",
                    field="status",
                )
            times, status = 1, times
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

    def slow_next(self, delay_s: float, times: int | None = 1, *, path: str | None = None) -> None:
        """Let the next requests wait before they are carried out.

        Args:
            delay_s: How long, in seconds.
            times: How many requests; `None` for all from now on.
            path: Only those with this path, or this template (`/v1/site/{siteId}`).

        Raises:
            InvalidArgumentError: It is no number of seconds.
        """
        check_seconds(delay_s, field="delay_s")
        self.fail_next(times, delay_s=delay_s, path=path)

    @contextlib.contextmanager
    def hold_next(
        self, times: int | None = 1, *, method: str | None = None, path: str | None = None
    ) -> Generator[None]:
        """Hold the next requests back for as long as the context lasts; then carry them out.

        Args:
            times: How many requests; `None` for all from now on.
            method: Only those with this method.
            path: Only those with this path, or this template (`/v1/site/{siteId}`).

        Returns:
            A context; requests are carried out when it is left.
        """
        over = asyncio.Event()
        self.fail_next(times, method=method, path=path, until=over)
        try:
            yield
        finally:
            self._let_go(over)

    @_in_its_thread
    def _let_go(self, over: asyncio.Event) -> None:
        self._app.forget(over)
        over.set()

    @_in_its_thread
    def behave(self) -> None:
        """Forget all faults that are still to come."""
        self._app.clear()

    # Life

    async def __aenter__(self) -> Self:
        if self._in_process:
            self._transport = InProcessTransport(self._app)
        else:
            self._server = SocketServer(self._app, host=self._listens_on, port=self._port)
            await self._server.start()
        self._world.agenda.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        self._world.agenda.stop()
        await self._sender.stop()
        if self._server is not None:
            await self._server.stop()
            self._server = None

    def __enter__(self) -> Self:
        thread = LoopThread("flip_async.emulator")
        thread.start()
        try:
            thread.run(self.__aenter__)
        except BaseException:
            thread.stop()
            raise
        self._transport = ThreadTransport(InProcessTransport(self._app), thread)
        self._thread = thread
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        thread, self._thread = self._thread, None
        assert thread is not None
        try:
            while self._clients:
                thread.run(self._clients.pop().aclose)
            thread.run(self._stop)
        finally:
            self._clients.clear()
            thread.stop()

    def __repr__(self) -> str:
        where = "in process" if self._in_process else "on a socket"
        return f"<Emulator {where}>"


def _battery_commands(
    mode: str, power_mode: str | None, setpoint_w: int | None
) -> dict[str, object]:
    """What a command says; a power mode and a setpoint are for two of the modes alone."""
    check_text(mode, field="mode")
    found: dict[str, object] = {"mode": mode}
    if mode in ("CHARGE", "DISCHARGE"):
        power_mode = power_mode or "SETPOINT"
        check_one_of(power_mode, _POWER_MODES, field="power_mode")
        found["power_mode"] = power_mode
    elif power_mode is not None:
        raise InvalidArgumentError("is for CHARGE and DISCHARGE alone", field="power_mode")
    if power_mode == "SETPOINT":
        setpoint_w = _SETPOINT_W if setpoint_w is None else setpoint_w
        check_count(setpoint_w, field="setpoint_w")
        found["setpoint_w"] = setpoint_w
    elif setpoint_w is not None:
        raise InvalidArgumentError("is for the power mode SETPOINT alone", field="setpoint_w")
    return {**found, "backup_reserve_percentage": 20, "enable_grid_import": False}
