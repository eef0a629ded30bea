"""From a request to an answer, for any web framework."""

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Literal, Self, cast

import attrs

from flip_async._aio._shutdown import GracefulShutdown
from flip_async._checks import (
    check_callback,
    check_kind,
    check_methods,
    check_seconds,
    conceal_all,
)
from flip_async._clock import Clock, SystemClock
from flip_async._secret import Secret
from flip_async.errors import (
    ConfigurationError,
    StorageError,
    WebhookBodyError,
    WebhookError,
    WebhookHeaderError,
)
from flip_async.webhooks._deduplicator import Once
from flip_async.webhooks._events import AnyEvent, read_event
from flip_async.webhooks._handlers import Handlers
from flip_async.webhooks._inbox import Inbox, Letter
from flip_async.webhooks._signature import (
    TOLERANCE_S,
    Signed,
    SigningKeys,
    as_bytes,
    check_signature,
)
from flip_async.webhooks._verify import check_tolerance
from flip_async.webhooks._worker import InboxReader, OnGivenUp, Patience

logger: Final = logging.getLogger("flip_async.webhooks")

ANSWER_WITHIN_S: Final = 4.0
SHUTDOWN_TIMEOUT_S: Final = 20.0
GIVE_UP_AFTER_S: Final = 24 * 3600.0
State = Literal["new", "open", "closing", "closed"]


@attrs.frozen
class Reply:
    """What to answer to a webhook.

    Attributes:
        status: HTTP status: 204, or one that lets Flip deliver the webhook again.
        reason: What is wrong with it, for people; `None` with 204.
    """

    status: int
    reason: str | None = None


class WebhookReceiver:
    """Answers webhooks, each with success only when it is handled or safe on disk.

    Without an inbox the handler's outcome is the answer: 204, or 500 so that Flip delivers
    again. A handler that is still busy after `answer_within_s` goes on, and a re-delivery
    joins it or gets its outcome. With an inbox the webhook is stored, answered, and handled
    after that, again after a failure.

    Each `Webhook-Id` is handled once, also where deliveries overlap. Use it as a context
    manager, in the event loop that the requests come in; `flip_async.fastapi.webhook_router`
    does so for you.

    Args:
        handlers: Who takes which event.
        secret: The signing key, `whsec_...`; several, in a list, while it is replaced; without
            it `FLIP_WEBHOOK_SECRET`.
        inbox: Keeps webhooks on disk until they are handled.
        tolerance_s: How far a webhook's time may be from ours, either way, in seconds.
        answer_within_s: How long a handler may take before Flip is told to come again, in
            seconds; Flip itself waits for 5.
        shutdown_timeout_s: How long closing waits for handlers that run, in seconds.
        give_up_after_s: How long an inbox goes on with a handler that fails, in seconds.
        on_given_up: Is given a `Letter` that the inbox gave up, and the last error; it may be
            async.
        clock: Time and luck, for tests.

    Raises:
        ConfigurationError: There is no signing key, or it is none.
        InvalidArgumentError: A number is out of range, or another argument is of no use.
    """

    _state: State = "new"  # of one that is half made too, whose repr a traceback may print

    def __init__(
        self,
        handlers: Handlers,
        *,
        secret: str | Sequence[str] | None = None,
        inbox: Inbox | None = None,
        tolerance_s: float = TOLERANCE_S,
        answer_within_s: float = ANSWER_WITHIN_S,
        shutdown_timeout_s: float = SHUTDOWN_TIMEOUT_S,
        give_up_after_s: float = GIVE_UP_AFTER_S,
        on_given_up: OnGivenUp | None = None,
        clock: Clock | None = None,
    ) -> None:
        secret = conceal_all(secret)  # type: ignore[assignment]  # no frame shows it
        check_tolerance(tolerance_s)
        check_seconds(answer_within_s, field="answer_within_s")
        check_seconds(shutdown_timeout_s, field="shutdown_timeout_s")
        check_seconds(give_up_after_s, field="give_up_after_s")
        check_callback(on_given_up, field="on_given_up")
        check_kind(handlers, Handlers, field="handlers")
        check_methods(inbox, ("open", "put", "claim", "aclose"), field="inbox")
        self._handlers: Final = handlers
        self._keys: Final = _keys_of(secret)
        self._inbox: Final = inbox
        self._tolerance_s: Final = tolerance_s
        self._answer_within_s: Final = answer_within_s
        self._shutdown_timeout_s: Final = shutdown_timeout_s
        self._patience: Final = Patience(give_up_after_s=give_up_after_s)
        self._on_given_up: Final = on_given_up
        self._clock: Final = SystemClock() if clock is None else clock
        self._state = "new"
        self._once: Final = Once(self._clock)
        self._reader: InboxReader | None = None

    async def receive(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Take a webhook, and tell what to answer.

        Whoever waits for the answer may leave: what was begun goes on.

        Args:
            body: The body as it came, byte for byte.
            headers: The headers; their names may have any case.

        Returns:
            204 where it is handled, or safe in the inbox. Else the status says why not: 400
            where it cannot be read, 401 where it is not Flip's or of another time, 500 where
            its handler failed, 503 where it is still handled, or cannot be taken now.

        Raises:
            ConfigurationError: The receiver was not entered.
            InvalidArgumentError: The body is no bytes.
        """
        if self._state == "new":
            raise ConfigurationError(
                "this receiver is not open: use `async with`; a router's is opened by the "
                "application's lifespan, which some test clients do not run"
            )
        if self._state != "open":
            return Reply(503, "closing")
        content = as_bytes(body)
        try:
            signed = check_signature(
                content,
                headers,
                self._keys,
                tolerance_s=self._tolerance_s,
                now_s=self._clock.wall(),
            )
            event = read_event(signed, content)
        except WebhookError as error:
            return _refusal(error)
        if self._reader is None:
            return await self._handle(event)
        return await self._keep(signed, event, self._reader)

    async def _handle(self, event: AnyEvent) -> Reply:
        key = event.webhook_id
        task = self._once.begin(key, lambda: self._run(event))
        if task is None:
            logger.debug("webhook %s was handled before", key)
            return Reply(204)
        # Not awaited itself: a request that goes away must not take the handler with it.
        done, _ = await asyncio.wait({task}, timeout=self._answer_within_s)
        if not done:
            logger.info("webhook %s is not handled yet: Flip shall come again", key)
            return Reply(503, "still handled")
        if task.cancelled():
            return Reply(503, "closing")
        return Reply(204) if task.exception() is None else Reply(500, "the handler failed")

    async def _run(self, event: AnyEvent) -> None:
        try:
            await self._handlers.dispatch(event)
        except Exception:
            # Here, as no request may be waiting any more.
            logger.exception("webhook %s (%s): its handler failed", *_names(event))
            raise

    async def _keep(self, signed: Signed, event: AnyEvent, reader: InboxReader) -> Reply:
        assert self._inbox is not None  # there is a reader
        letter = Letter(signed.webhook_id, signed.sent_at, event.body)
        try:
            is_new = await self._inbox.put(letter)
        except StorageError as error:
            logger.error("webhook %s cannot be kept: %s", signed.webhook_id, error)
            return Reply(503, "cannot be kept")
        finally:
            reader.arrived()  # also where the request went away meanwhile
        if not is_new:
            logger.debug("webhook %s was kept before", signed.webhook_id)
        return Reply(204)

    async def _handle_letter(self, letter: Letter) -> None:
        event = read_event(Signed(letter.webhook_id, letter.sent_at), letter.body)
        await self._handlers.dispatch(event)

    # Life

    async def __aenter__(self) -> Self:
        if self._state not in ("new", "closed"):
            raise ConfigurationError("this receiver is open already")
        if self._inbox is not None:
            await self._inbox.open()
            self._reader = InboxReader(
                self._inbox,
                self._handle_letter,
                patience=self._patience,
                on_given_up=self._on_given_up,
                clock=self._clock,
            )
            self._reader.start()
        self._state = "open"
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._state != "open":
            return
        self._state = "closing"
        last = GracefulShutdown(is_cancelled_already=isinstance(exc_value, asyncio.CancelledError))
        reader, self._reader = self._reader, None
        if reader is not None:
            await last.until_ended(reader.stop())
        running = self._once.running if reader is None else reader.running
        self._handlers.wind_down()
        await last.until_done(self._wait_for(running))
        await last.until_ended(_give_up(running))
        if self._inbox is not None:
            await last.until_done(self._inbox.aclose())
        self._state = "closed"
        if last.cancelled is not None:
            raise last.cancelled

    async def _wait_for(self, running: Mapping[str, asyncio.Task[None]]) -> None:
        if running:
            await asyncio.wait(running.values(), timeout=self._shutdown_timeout_s)

    def __repr__(self) -> str:
        return f"<WebhookReceiver {self._state}>"


def _names(event: AnyEvent) -> tuple[str, str]:
    return event.webhook_id, event.event_type


def _refusal(error: WebhookError) -> Reply:
    if isinstance(error, WebhookBodyError):
        # It is Flip's, and nobody will handle it: that is no stranger's mistake.
        logger.error("a webhook of Flip's cannot be read: %s", error)
        return Reply(400, str(error))
    logger.warning("a webhook is refused: %s", error)
    return Reply(400 if isinstance(error, WebhookHeaderError) else 401, str(error))


def _give_up(running: Mapping[str, asyncio.Task[None]]) -> list[asyncio.Task[None]]:
    if running:
        logger.error("handlers still ran and were given up: webhooks %s", ", ".join(running))
    tasks = list(running.values())
    for task in tasks:
        task.cancel()
    return tasks


def _keys_of(concealed: object) -> SigningKeys:
    if concealed is not None:
        return SigningKeys.of(cast("SigningKeys", concealed))  # what it is, that finds out
    found = Secret(os.environ.get("FLIP_WEBHOOK_SECRET", ""))
    if not found.reveal().strip():
        raise ConfigurationError(
            "no signing key: set FLIP_WEBHOOK_SECRET in the environment, or pass secret="
        )
    return SigningKeys.of(cast("SigningKeys", found), "FLIP_WEBHOOK_SECRET")
