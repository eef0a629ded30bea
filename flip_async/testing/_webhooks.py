"""Webhooks as Flip would send them, to an application that is tested."""

import json
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final

import attrs
import httpx

from flip_async._checks import check_clock, check_mapping, check_text
from flip_async._clock import Clock, SystemClock
from flip_async.errors import InvalidArgumentError
from flip_async.models._base import Model
from flip_async.webhooks import sign

AsgiApp = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]
"""An application as ASGI has it, such as a `FastAPI`."""

_OBJECT_TYPES: Final = ("event", "command", "enrollment")
_ORIGIN: Final = "http://app.localhost"
_TIME_LIMIT_S: Final = 5.0
"""As long as Flip waits for an answer."""


@attrs.frozen
class SignedWebhook:
    """A webhook that can be sent, by any client: `http.post(path, content=..., headers=...)`.

    Attributes:
        body: Its body.
        headers: Its headers, with the signature.
        webhook_id: Its `Webhook-Id`; one that is sent twice is one event to Flip.
    """

    body: bytes
    headers: dict[str, str] = attrs.field(repr=False)
    webhook_id: str


@attrs.frozen
class WebhookAnswer:
    """What an application answered.

    Attributes:
        status_code: The status.
        text: The body.
        webhook_id: `Webhook-Id` of what was sent.
    """

    status_code: int
    text: str
    webhook_id: str

    @property
    def is_accepted(self) -> bool:
        """Whether Flip would not send it again."""
        return self.status_code in (200, 204)


class FlipWebhooks:
    """Signs events as Flip does, and delivers them to an application that is tested.

    Args:
        secret: The signing key that the application checks with, `whsec_...`.
        clock: The time at which they are signed; without it the machine's.
    """

    def __init__(self, secret: str, *, clock: Clock | None = None) -> None:
        check_text(secret, field="secret")
        check_clock(clock)
        self._secret: Final = secret
        self._clock: Final[Clock] = SystemClock() if clock is None else clock

    def sign(
        self,
        event_type: str,
        event_object: Model | Mapping[str, object],
        *,
        webhook_id: str | None = None,
        sent_at: datetime | None = None,
    ) -> SignedWebhook:
        """Make a webhook that tells of something.

        Args:
            event_type: What happened, such as `command.created`.
            event_object: What it happened to: a model, or a mapping with what JSON has.
            webhook_id: Its `Webhook-Id`, to repeat an event; without it a new one.
            sent_at: When it is sent, for one that is too old; without it now.

        Returns:
            Its body and its headers.

        Raises:
            InvalidArgumentError: An argument is of no use.
        """
        check_text(event_type, field="event_type")
        moment = datetime.fromtimestamp(self._clock.wall(), UTC) if sent_at is None else sent_at
        if moment.utcoffset() is None:
            raise InvalidArgumentError("has no time zone: give it one", field="sent_at")
        envelope = {
            "event_type": event_type,
            "event_object": _object(event_type, event_object),
            "timestamp": moment.isoformat(),
        }
        try:
            body = json.dumps(envelope, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidArgumentError(
                f"cannot be written as JSON: {error}", field="event_object"
            ) from None
        webhook_id = f"msg_{uuid.uuid4().hex[:20]}" if webhook_id is None else webhook_id
        headers = sign(body, self._secret, webhook_id=webhook_id, timestamp=moment.timestamp())
        return SignedWebhook(body, {**headers, "Content-Type": "application/json"}, webhook_id)

    async def deliver(
        self,
        target: AsgiApp | str,
        event_type: str,
        event_object: Model | Mapping[str, object],
        *,
        path: str = "/webhooks/flip",
        webhook_id: str | None = None,
        sent_at: datetime | None = None,
    ) -> WebhookAnswer:
        """Sign an event and deliver it once.

        Args:
            target: An ASGI application, which is asked without a socket and whose lifespan runs
                already; or a URL.
            event_type: As for `sign`.
            event_object: As for `sign`.
            path: Where the application takes webhooks; a URL has its own.
            webhook_id: As for `sign`.
            sent_at: As for `sign`.

        Returns:
            What was answered. An exception that an application lets out comes out here.

        Raises:
            InvalidArgumentError: An argument is of no use.
        """
        signed = self.sign(event_type, event_object, webhook_id=webhook_id, sent_at=sent_at)
        if isinstance(target, str):
            url, transport = target, None
        elif callable(target):
            url, transport = f"{_ORIGIN}{path}", httpx.ASGITransport(target)
        else:
            raise InvalidArgumentError("is an ASGI application or a URL", field="target")
        async with httpx.AsyncClient(
            transport=transport, trust_env=False, timeout=_TIME_LIMIT_S
        ) as http:
            answer = await http.post(url, content=signed.body, headers=signed.headers)
        return WebhookAnswer(answer.status_code, answer.text, signed.webhook_id)

    def __repr__(self) -> str:
        return "<FlipWebhooks>"


def _object(event_type: str, event_object: Model | Mapping[str, object]) -> dict[str, object]:
    """What it is about, with its kind, which Flip's webhooks have and its answers have not."""
    if isinstance(event_object, Model):
        written = event_object.to_dict()
    else:
        check_mapping(event_object, field="event_object")
        written = dict(event_object)
    kind = event_type.partition(".")[0]
    if kind in _OBJECT_TYPES and written.get("object_type") is None:
        written["object_type"] = kind
    return written
