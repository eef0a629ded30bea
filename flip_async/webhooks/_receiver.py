"""From a request to an answer, for any web framework."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Literal, Self, cast

import attrs

from flip_async._aio._callbacks import UserCodeError, notify_within, run_user_code
from flip_async._aio._late import ANYIO_BACKEND, load_late
from flip_async._aio._shutdown import GracefulShutdown
from flip_async._aio._tasks import detached
from flip_async._aio._work import GivenUpError
from flip_async._checks import (
    check_callback,
    check_clock,
    check_kind,
    check_methods,
    check_seconds,
    conceal_all,
)
from flip_async._clock import Clock, SystemClock
from flip_async._secret import Secret
from flip_async._secret_file import SecretFile
from flip_async.errors import (
    ClientClosedError,
    ConfigurationError,
    StorageError,
    WebhookBodyError,
    WebhookError,
    WebhookHeaderError,
    WebhookSignatureError,
)
from flip_async.webhooks._deduplicator import Deduplicator
from flip_async.webhooks._events import AnyEvent, read_event
from flip_async.webhooks._handlers import Handlers
from flip_async.webhooks._inbox import Inbox, InboxHome, Letter
from flip_async.webhooks._mounted_keys import FixedKeys, MountedKeys
from flip_async.webhooks._signature import (
    TOLERANCE_S,
    Signed,
    SigningKeys,
    as_bytes,
    check_signature,
    check_tolerance,
)
from flip_async.webhooks._worker import InboxWorker, Patience, Tally

logger: Final = logging.getLogger("flip_async.webhooks")

ANSWER_WITHIN_S: Final = 4.0
SHUTDOWN_TIMEOUT_S: Final = 20.0
GIVE_UP_AFTER_S: Final = 24 * 3600.0
_TOLD_WITHIN_S: Final = 60.0
State = Literal["new", "opening", "open", "closing", "closed"]
OnGivenUp = Callable[[Letter, Exception], Awaitable[None] | None]


_INBOX_METHODS: Final = (
    "open", "put", "claim", "settle", "release", "dead_letter", "renew", "aclose",
)  # fmt: skip


@attrs.frozen
class Reply:
    """What to answer to a webhook.

    Attributes:
        status: HTTP status: 204, or one that lets Flip deliver the webhook again.
        reason: What is wrong with it, for people; `None` with 204.
    """

    status: int
    reason: str | None = None


@attrs.frozen(kw_only=True)
class ReceiverStats:
    """What a receiver does at this moment, and has done since it was made.

    Attributes:
        waiting: Webhooks in the inbox that nobody has in hand, as of the last look.
        in_hand: Webhooks whose handler runs, or whose end is being written down.
        handled: How often a handler came to its end.
        failed: How often one failed.
        given_up: Webhooks that the inbox gave up.
        last_error: What went wrong last, in a handler or with the inbox; `None` if nothing did.
    """

    waiting: int
    in_hand: int
    handled: int
    failed: int
    given_up: int
    last_error: str | None


class WebhookReceiver:
    """Answers webhooks, each with success only when it is handled or safe on disk.

    Without an inbox the handler's outcome is the answer: 204, or 500 so that Flip delivers
    again. A handler that is still busy after `answer_within_s` goes on, and a re-delivery
    joins it or gets its outcome. With an inbox the webhook is stored, answered, and handled
    after that, again after a failure.

    What is not finished when it closes comes again: it was not answered with success, or goes
    back into the inbox. A handler that only waits, as a command does between two tries, is not
    waited for. `stats` tells what is going on.

    Each `Webhook-Id` is handled once, also where deliveries overlap. Use it as a context
    manager, in the event loop that the requests come in; `flip_async.fastapi.webhook_router`
    does so for you.

    Args:
        handlers: Who takes which event.
        secret: The signing key, `whsec_...`; several, in a list, while it is replaced; without
            it `FLIP_WEBHOOK_SECRET`, or the file that `FLIP_WEBHOOK_SECRET_FILE` names.
        inbox: Keeps webhooks on disk until they are handled.
        tolerance_s: How far a webhook's time may be from ours, either way, in seconds.
        answer_within_s: How long a handler, or the inbox's disk, may take before Flip is told
            to come again, in seconds; Flip itself waits for 5.
        shutdown_timeout_s: How long closing waits for handlers that run, in seconds.
        give_up_after_s: How long an inbox goes on with a handler that fails, in seconds: its
            pauses, as they are on average, together.
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
        check_methods(inbox, _INBOX_METHODS, field="inbox")
        check_clock(clock)
        self._clock: Final = SystemClock() if clock is None else clock
        self._handlers: Final = handlers
        self._keys: Final = _keys_of(secret, self._clock)
        self._inbox: Final = inbox
        self._tolerance_s: Final = tolerance_s
        self._answer_within_s: Final = answer_within_s
        self._shutdown_timeout_s: Final = shutdown_timeout_s
        self._patience: Final = Patience(give_up_after_s=give_up_after_s)
        self._on_given_up: Final = on_given_up
        # These change: the state with opening and closing, the others with each webhook.
        self._state = "new"
        self._tally: Final = Tally()
        self._deduplicator: Final = Deduplicator(self._clock)
        self._worker: InboxWorker | None = None
        self._told: SigningKeys | None = None  # the keys that the inbox knows

    @property
    def stats(self) -> ReceiverStats:
        """What it does now, and has done."""
        worker = self._worker
        deliveries = self._deduplicator.deliveries if worker is None else worker.deliveries
        return ReceiverStats(
            waiting=0 if self._inbox is None else self._inbox.depth.waiting,
            in_hand=len(deliveries),
            **attrs.asdict(self._tally),
        )

    async def receive(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Take a webhook, and tell what to answer.

        Whoever waits for the answer may leave: what was begun goes on.

        Args:
            body: The body as it came, byte for byte.
            headers: The headers; their names may have any case.

        Returns:
            204 where it is handled, or safe in the inbox. Else the status says why not, 400
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
            return Reply(503, self._state)
        content = as_bytes(body)
        try:
            signed = await self._check(content, headers)
            event = read_event(signed, content)
        except WebhookError as error:
            return _refusal(error)
        if self._worker is None:
            return await self._handle(event)
        letter = Letter(signed.webhook_id, signed.sent_at, event.body, event.event_type)
        keeping = detached(self._keep(letter, self._worker))
        done, _ = await asyncio.wait({keeping}, timeout=self._answer_within_s)
        if not done or keeping.cancelled():
            logger.error("webhook %s is not kept in time", letter.webhook_id)
            return Reply(503, "cannot be kept")
        return keeping.result()

    async def _check(self, content: bytes, headers: Mapping[str, str]) -> Signed:
        """Check the signature, once more where the file of the keys has new ones."""
        try:
            return self._check_once(content, headers)
        except WebhookSignatureError:
            if not await self._keys.look_again(within_s=self._answer_within_s):
                raise
        return self._check_once(content, headers)

    def _check_once(self, content: bytes, headers: Mapping[str, str]) -> Signed:
        return check_signature(
            content,
            headers,
            self._keys.now,
            tolerance_s=self._tolerance_s,
            now_s=self._clock.wall(),
        )

    async def _tell_inbox(self) -> None:
        """Its home has new keys, and the next start may have these alone: tried until it knows."""
        keys, adopt = self._keys.now, getattr(self._inbox, "adopt_keys", None)
        if adopt is None or keys is self._told:
            return
        try:
            await run_user_code(adopt, keys.digests)
        except Exception as error:
            self._tally.trouble(error)
            logger.warning("the inbox does not know the new signing keys: %s", error)
            return
        self._told = keys

    async def _handle(self, event: AnyEvent) -> Reply:
        key = event.webhook_id
        work = self._deduplicator.begin(key, lambda: self._dispatch(event))
        if work is None:
            logger.debug("webhook %s was handled before", key)
            return Reply(204)
        # Not awaited itself: a request that goes away must not take the handler with it.
        done, _ = await asyncio.wait({work.task}, timeout=self._answer_within_s)
        if not done:
            logger.info("webhook %s is not handled yet: Flip shall come again", key)
            return Reply(503, "still handled")
        if isinstance(work.error, GivenUpError | ClientClosedError):
            return Reply(503, "closing")
        return Reply(204) if work.error is None else Reply(500, "the handler failed")

    async def _dispatch(self, event: AnyEvent) -> None:
        try:
            await self._handlers.dispatch(event)
        except ClientClosedError as error:
            logger.info("webhook %s (%s) is not finished: %s", *_names(event), error)
            raise
        except Exception as error:
            self._tally.failed += 1
            self._tally.trouble(error)
            if self._worker is None:  # here, as no request may be waiting any more
                logger.exception("webhook %s (%s): its handler failed", *_names(event))
            raise
        self._tally.handled += 1

    async def _keep(self, letter: Letter, worker: InboxWorker) -> Reply:
        assert self._inbox is not None  # there is a worker
        # Here, and not where new keys are found: whoever found them may have left since.
        await self._tell_inbox()
        try:
            is_new = await run_user_code(self._inbox.put, letter)
        except Exception as error:  # an inbox may be a user's
            self._tally.trouble(error)
            trace = None if isinstance(error, StorageError) else error
            text = "webhook %s cannot be kept: %s"
            logger.error(text, letter.webhook_id, error, exc_info=trace)
            return Reply(503, "cannot be kept")
        worker.arrived()
        if not is_new:
            logger.debug("webhook %s was kept before", letter.webhook_id)
        return Reply(204)

    async def _handle_letter(self, letter: Letter) -> None:
        await self._dispatch(read_event(Signed(letter.webhook_id, letter.sent_at), letter.body))

    async def _give_up(self, letter: Letter, error: Exception) -> None:
        self._tally.given_up += 1
        if self._on_given_up is not None:
            await notify_within(_TOLD_WITHIN_S, logger, self._on_given_up, letter, error)

    # Life

    async def __aenter__(self) -> Self:
        if self._state not in ("new", "closed"):
            raise ConfigurationError("this receiver is open already")
        keys = self._keys.now
        home = InboxHome(key_digests=keys.digests, event_types=self._handlers.event_types)
        before, self._state = self._state, "opening"
        try:
            await load_late(ANYIO_BACKEND)  # not when the first webhook waits
            if self._inbox is not None:
                await self._open(self._inbox, home)
        except BaseException:
            self._state = before
            raise
        self._state, self._told = "open", keys
        return self

    async def _open(self, inbox: Inbox, home: InboxHome) -> None:
        try:
            await run_user_code(lambda: inbox.open(home=home))
        except UserCodeError as error:
            raise StorageError(f"the inbox cannot be opened: it {error}") from error
        self._worker = InboxWorker(
            inbox,
            self._handle_letter,
            patience=self._patience,
            give_up=self._give_up,
            tally=self._tally,
            clock=self._clock,
        )
        self._worker.start()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._state != "open":
            return
        self._state = "closing"
        is_cancelled = isinstance(exc_value, asyncio.CancelledError)
        last = GracefulShutdown(is_cancelled_already=is_cancelled)
        worker, within_s = self._worker, self._shutdown_timeout_s
        if worker is None or self._inbox is None:
            await self._deduplicator.deliveries.finish(last, within_s=within_s)
        else:
            await worker.finish(last, within_s=within_s)
            await self._close(self._inbox, last)
        self._worker, self._state = None, "closed"
        if last.cancelled is not None and not is_cancelled:
            raise last.cancelled

    async def _close(self, inbox: Inbox, last: GracefulShutdown) -> None:
        try:
            await last.until_done(inbox.aclose())
        except Exception as error:  # it may be a user's, and others are to be closed too
            self._tally.trouble(error)
            logger.exception("the inbox cannot be closed")

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


def _keys_of(concealed: object, clock: Clock) -> "MountedKeys | FixedKeys":
    if concealed is not None:
        return FixedKeys(SigningKeys.of(cast("SigningKeys", concealed)))  # what it is: it finds out
    name, file_name = "FLIP_WEBHOOK_SECRET", "FLIP_WEBHOOK_SECRET_FILE"
    found = Secret(os.environ.get(name, ""))
    path = Secret(os.environ.get(file_name, "").strip())  # which may be the key, by mistake
    if found.reveal().strip() and path.reveal():
        raise ConfigurationError(
            f"two signing keys given, {name} and {file_name}: keep one of them"
        )
    if path.reveal():
        return MountedKeys(SecretFile(file_name, path), clock)
    if not found.reveal().strip():
        raise ConfigurationError(
            f"no signing key: set {name} or {file_name} in the environment, or pass secret="
        )
    return FixedKeys(SigningKeys.of(cast("SigningKeys", found), name))
