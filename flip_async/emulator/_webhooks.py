"""Webhooks as Flip sends them: signed, with a time limit, and again where they fail."""

import asyncio
import json
import secrets
from collections.abc import Collection, Sequence
from typing import Final

import attrs
import httpx

from flip_async._clock import SystemClock
from flip_async.emulator._grid import Json, iso
from flip_async.webhooks import sign

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


@attrs.frozen
class Endpoint:
    """Where webhooks go.

    Attributes:
        url: The URL.
        event_types: Only these; `None` for all.
        copies: How many times each attempt is sent at the same moment.
        http: What sends them.
    """

    url: str
    event_types: Collection[str] | None
    copies: int
    http: httpx.AsyncClient


class WebhookSender:
    """Delivers each webhook to all endpoints that want it, in tasks of its own."""

    def __init__(self, secret: str, pauses_s: Sequence[float]) -> None:
        self.deliveries: Final[list[WebhookDelivery]] = []
        self._secret: Final = secret
        self._pauses_s: Final = tuple(pauses_s)
        self._endpoints: Final[list[Endpoint]] = []
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._clock: Final = SystemClock()
        self._places = asyncio.Semaphore(_CONNECTIONS)

    def register(
        self,
        url: str,
        *,
        event_types: Collection[str] | None,
        copies: int,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        http = httpx.AsyncClient(
            transport=transport, timeout=TIME_LIMIT_S, trust_env=False, follow_redirects=False
        )
        self._endpoints.append(Endpoint(url, event_types, copies, http))

    def announce(self, event_type: str, event_object: Json, now_s: float) -> None:
        """Something has happened that is told."""
        envelope = {"event_type": event_type, "event_object": event_object, "timestamp": iso(now_s)}
        body = json.dumps(envelope, separators=(",", ":")).encode()
        for endpoint in self._endpoints:
            if endpoint.event_types is None or event_type in endpoint.event_types:
                webhook_id = f"msg_{secrets.token_hex(10)}"
                delivery = WebhookDelivery(webhook_id, endpoint.url, event_type, body)
                self.deliveries.append(delivery)
                task = asyncio.get_running_loop().create_task(self._deliver(delivery, endpoint))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _deliver(self, delivery: WebhookDelivery, endpoint: Endpoint) -> None:
        for pause_s in (None, *self._pauses_s):
            if pause_s is not None:
                await asyncio.sleep(pause_s)
            copies = (self._attempt(delivery, endpoint) for _ in range(endpoint.copies))
            if any(await asyncio.gather(*copies)):
                break
        delivery.is_over = True

    async def _attempt(self, delivery: WebhookDelivery, endpoint: Endpoint) -> bool:
        # By the real clock, whatever the emulator's own says: it is looked at right away.
        headers = sign(
            delivery.body,
            self._secret,
            webhook_id=delivery.webhook_id,
            timestamp=self._clock.wall(),
        )
        headers["Content-Type"] = "application/json"
        async with self._places:
            began = self._clock.monotonic()
            outcome: int | str
            try:
                async with asyncio.timeout(TIME_LIMIT_S):
                    response = await endpoint.http.post(
                        endpoint.url, content=delivery.body, headers=headers
                    )
                outcome = response.status_code
            except (httpx.HTTPError, TimeoutError) as error:
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
        for endpoint in self._endpoints:
            await endpoint.http.aclose()
