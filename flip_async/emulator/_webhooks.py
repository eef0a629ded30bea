"""Webhooks as Flip sends them: signed, with a time limit, and again where they fail."""

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Final

import anyio
import attrs
import httpx

from flip_async._aio._callbacks import run_user_code
from flip_async._clock import Clock
from flip_async.emulator._grid import Json, iso
from flip_async.emulator._random_source import RandomSource
from flip_async.webhooks import sign

logger: Final = logging.getLogger("flip_async.emulator")

TIME_LIMIT_S: Final = 5.0
PAUSES_S: Final = (1.0, 5.0, 30.0, 120.0)
"""Before each of the four re-deliveries; how long they really are is not documented."""
_SUCCESS: Final = (200, 204)
_CONNECTIONS: Final = 20


@attrs.define
class WebhookDelivery:
    """One webhook on its way to one URL.

    Attributes:
        webhook_id: Its `Webhook-Id`, the same at each attempt.
        url: Where it goes.
        event_type: What it tells.
        body: Its body.
        outcomes: What came of each attempt: a status, or the name of an exception.
        seconds: How long each attempt took.
        is_over: Whether it was delivered, or will not be tried again.
    """

    webhook_id: str
    url: str
    event_type: str
    body: bytes
    outcomes: list[int | str] = attrs.field(factory=list)
    seconds: list[float] = attrs.field(factory=list)
    is_over: bool = False

    @property
    def is_delivered(self) -> bool:
        """Whether it was answered with success."""
        return any(outcome in _SUCCESS for outcome in self.outcomes)


@attrs.define
class Endpoint:
    """Where webhooks go.

    Attributes:
        url: The URL.
        event_types: Only these; `None` for all.
        copies: How many times each attempt is sent at the same moment.
        transport: How to get there; `None` for the network.
    """

    url: httpx.URL
    event_types: frozenset[str] | None
    copies: int
    transport: httpx.AsyncBaseTransport | None
    _http: httpx.AsyncClient | None = attrs.field(default=None, init=False)

    @property
    def shown(self) -> str:
        """Its URL for a log: what may be a password in it stays away."""
        return str(self.url.copy_with(username=None, password=None, query=None))

    def http(self) -> httpx.AsyncClient:
        if self._http is None or self._http.is_closed:
            self._http = httpx.AsyncClient(
                transport=self.transport,
                timeout=TIME_LIMIT_S,
                trust_env=False,
                follow_redirects=False,
            )
        return self._http

    async def aclose(self) -> None:
        if self._http is not None:
            await self._http.aclose()


class WebhookSender:
    """Delivers each webhook to all endpoints that want it, in tasks of its own.

    `deliveries`, `_endpoints` and `_tasks` are touched in the emulator's event loop alone.
    """

    def __init__(
        self, secret: str, pauses_s: Sequence[float], *, clock: Clock, ids: RandomSource
    ) -> None:
        self.deliveries: Final[list[WebhookDelivery]] = []
        self._secret: Final = secret
        self._pauses_s: Final = tuple(pauses_s)
        self._endpoints: Final[list[Endpoint]] = []
        self._retired: Final[list[Endpoint]] = []  # of before a reset, still to be closed
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._clock: Final = clock
        self._ids: Final = ids
        self._places = asyncio.Semaphore(_CONNECTIONS)

    def register(self, endpoint: Endpoint) -> None:
        self._endpoints.append(endpoint)

    def reset(self) -> None:
        """Send nothing more of what has happened, and to nobody who was registered."""
        for task in self._tasks:
            task.cancel()
        self._retired.extend(self._endpoints)
        self._endpoints.clear()
        self.deliveries.clear()

    def announce(self, event_type: str, event_object: Json, now_s: float) -> None:
        """Something has happened that is told."""
        envelope = {"event_type": event_type, "event_object": event_object, "timestamp": iso(now_s)}
        body = json.dumps(envelope, separators=(",", ":")).encode()
        for endpoint in self._endpoints:
            if endpoint.event_types is None or event_type in endpoint.event_types:
                webhook_id = f"msg_{self._ids.hex(10)}"
                delivery = WebhookDelivery(webhook_id, str(endpoint.url), event_type, body)
                self.deliveries.append(delivery)
                task = asyncio.get_running_loop().create_task(self._deliver(delivery, endpoint))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _deliver(self, delivery: WebhookDelivery, endpoint: Endpoint) -> None:
        for pause_s in (*self._pauses_s, None):
            copies = (self._attempt(delivery, endpoint) for _ in range(endpoint.copies))
            if any(await asyncio.gather(*copies)):
                break
            self._tell_failure(delivery, endpoint, pause_s)
            if pause_s is not None:
                await self._clock.sleep(pause_s)
        delivery.is_over = True

    def _tell_failure(
        self, delivery: WebhookDelivery, endpoint: Endpoint, pause_s: float | None
    ) -> None:
        logger.warning(
            "webhook %s (%s) to %s failed with %s: %s",
            delivery.webhook_id,
            delivery.event_type,
            endpoint.shown,
            delivery.outcomes[-1],
            "given up" if pause_s is None else f"again in {pause_s:g} s",
        )

    async def _attempt(self, delivery: WebhookDelivery, endpoint: Endpoint) -> bool:
        # By the clock as it was given, however far the emulator's own was moved ahead of it: who
        # takes it looks at the same one.
        headers = sign(
            delivery.body,
            self._secret,
            webhook_id=delivery.webhook_id,
            timestamp=self._clock.wall(),
        )
        headers["Content-Type"] = "application/json"

        async def post() -> httpx.Response:
            return await endpoint.http().post(endpoint.url, content=delivery.body, headers=headers)

        async with self._places:
            began = self._clock.monotonic()
            outcome: int | str
            try:
                with anyio.fail_after(TIME_LIMIT_S):
                    outcome = (await run_user_code(post)).status_code
            except (httpx.HTTPError, TimeoutError) as error:
                outcome = type(error).__name__
            except Exception as error:  # an application that is asked in process lets out anything
                logger.exception("webhook %s: the application failed", delivery.webhook_id)
                outcome = type(error).__name__
            delivery.seconds.append(self._clock.monotonic() - began)
        delivery.outcomes.append(outcome)
        return outcome in _SUCCESS

    async def settled(self) -> None:
        """Wait until no webhook is on its way any more, nor waits to be sent again."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for endpoint in (*self._endpoints, *self._retired):
            await endpoint.aclose()
        self._retired.clear()
