"""Send: one call, over all its attempts."""

import logging
import math
from collections.abc import Awaitable
from typing import Final

import anyio
import attrs
import httpx

from flip_async import errors
from flip_async._aio._tasks import running_loop
from flip_async._auth._bearer import BearerAuth
from flip_async._auth._signing import signer_of
from flip_async._backoff import retry_after_of
from flip_async._endpoint import Endpoint
from flip_async._http._retry import Answered, Outcome, Retries, RetryEvent, logger
from flip_async._http._runtime import Runtime
from flip_async._transport._attempt import (
    Attempted,
    NoAnswer,
    SendSigned,
    Unreadable,
    attempt,
)
from flip_async._transport._progress import NOTE, Progress
from flip_async.errors import (
    ClientClosedError,
    ConnectionFailedError,
    DeadlineError,
    DecodeError,
    FlipError,
    OutcomeUnknownError,
)

_MAY_BE_DONE: Final = frozenset({500, 502, 504})
"""Statuses that leave open whether the request was carried out."""


@attrs.frozen
class Call:
    """A request, with what its sending has to know."""

    endpoint: Endpoint[object]
    path: str
    request: httpx.Request
    auth: httpx.Auth
    repeatable: bool
    progress: Progress | None  # only where a guess would be wrong

    @property
    def may_have_been_carried_out(self) -> bool:
        """Whether the server may have seen it, and twice would be once too often."""
        return self.progress is not None and self.progress.may_have_arrived


@attrs.frozen
class Answer:
    """What a call came to.

    Attributes:
        response: A success.
        path: The path that was called.
        attempts: How often it was sent.
    """

    response: httpx.Response
    path: str
    attempts: int


class Sending:
    """Sends a call until it is answered.

    What changes: how often it was sent, and whether an attempt may have been carried out whose
    answer was lost.
    """

    def __init__(self, call: Call, runtime: Runtime, retries: Retries) -> None:
        self._attempts = 0
        self._may_be_done = False
        self._call: Final = call
        self._runtime: Final = runtime
        self._retries: Final = retries
        self._signed: Final[SendSigned] = signer_of(call.auth)

    async def until(self, deadline_s: float | None) -> Answer:
        """Send, and send again, until there is an answer or an error.

        Args:
            deadline_s: Over all attempts and pauses and the wait for a token, in seconds.

        Returns:
            An answer that is a success.

        Raises:
            FlipError: There was none.
        """
        calls = self._runtime.calls()
        # A scope of anyio's, also for its own sake: httpcore shields its clean-up from these
        # alone, and a user's client has its pool beneath [B1].
        ends_at = math.inf if deadline_s is None else running_loop().time() + deadline_s
        scope = anyio.CancelScope(deadline=ends_at)
        calls.add(scope)
        try:
            with scope:
                tracing = self._runtime.tracing
                if tracing is None:
                    return await self._repeat(scope)
                endpoint = self._call.endpoint
                with tracing.call(endpoint.method, endpoint.path):
                    return await self._repeat(scope)
        except FlipError as error:
            _say_where(error, self._call)
            raise
        finally:
            calls.discard(scope)
        raise self._cut_off(deadline_s)

    def _cut_off(self, deadline_s: float | None) -> FlipError:
        call, is_closed = self._call, self._runtime.closed
        where = {"method": call.endpoint.method, "path": call.path}
        why = "the client was closed" if is_closed else f"no answer within {deadline_s:g} s"
        trouble = call.auth.trouble if isinstance(call.auth, BearerAuth) else None
        if trouble is not None:
            why = f"{why}; {trouble.message}"
        if call.may_have_been_carried_out:
            return OutcomeUnknownError(
                f"{why}, and the request may have been carried out",
                attempts=self._attempts,
                **where,
            )
        kind = ClientClosedError if is_closed else DeadlineError
        return kind(why, attempts=self._attempts, **where)

    async def _repeat(self, scope: anyio.CancelScope) -> Answer:
        call, runtime = self._call, self._runtime
        while True:
            if runtime.closed:
                raise self._cut_off(None)
            self._attempts += 1
            result = await self._attempt()
            if call.progress is not None:
                call.progress.waits()  # what became of it is known: a pause is no unknown outcome
            if isinstance(result, httpx.Response) and (result.is_success or self._is_gone(result)):
                runtime.budget.succeeded()
                return Answer(result, call.path, self._attempts)
            pause_s = self._pause_s(result, scope)
            if pause_s is None:
                raise self._error(result)
            self._tell(result, pause_s)
            await runtime.clock.sleep(pause_s)

    async def _attempt(self) -> Attempted:
        call, tracing, clock = self._call, self._runtime.tracing, self._runtime.clock
        began_s = clock.monotonic()
        if tracing is None:
            result = await attempt(self._send, call.request)
        else:
            with tracing.attempt(
                call.endpoint.method,
                call.endpoint.path,
                resent=self._attempts - 1,
                headers=call.request.headers,
            ) as watched:
                result = await attempt(self._send, call.request)
                if isinstance(result, NoAnswer):
                    watched.failed(result.reason)
                else:
                    watched.answered(_response_of(result).status_code)
        if logger.isEnabledFor(logging.DEBUG) and not isinstance(result, NoAnswer):
            self._log(_response_of(result), clock.monotonic() - began_s)
        return result

    def _send(self, request: httpx.Request) -> Awaitable[httpx.Response]:
        return self._signed(request, self._runtime.outlet.send)

    def _log(self, response: httpx.Response, duration_s: float) -> None:
        call = self._call
        logger.debug(
            "%s %s: %d from %s in %.3f s (attempt %d)",
            call.endpoint.method,
            call.path,
            response.status_code,
            call.request.url.host,
            duration_s,
            self._attempts,
            extra={
                **self._fields(),
                "http_status": response.status_code,
                "duration_s": duration_s,
            },
        )

    def _fields(self) -> dict[str, object]:
        """What a structured log shows of a call."""
        return {
            "http_method": self._call.endpoint.method,
            "url_template": self._call.endpoint.path,
            "server_address": self._call.request.url.host,
            "attempt": self._attempts,
        }

    def _is_gone(self, response: httpx.Response) -> bool:
        # An attempt before, whose answer was lost, has done it.
        is_delete = self._call.endpoint.method == "DELETE"
        return is_delete and response.status_code == 404 and self._may_be_done

    def _pause_s(self, result: Attempted, scope: anyio.CancelScope) -> float | None:
        """How long to wait before the next attempt; `None` where there is none."""
        outcome = self._outcome(result)
        if outcome is None:
            return None
        pause_s = self._retries.pause_s(
            outcome,
            attempt=self._attempts,
            repeatable=self._call.repeatable,
            luck=self._runtime.clock.random(),
        )
        if pause_s is None or running_loop().time() + pause_s >= scope.deadline:
            return None
        return pause_s if self._runtime.budget.take() else None

    def _outcome(self, result: Attempted) -> Outcome | None:
        if isinstance(result, NoAnswer):
            self._may_be_done = self._may_be_done or result.may_have_arrived
            return result
        if isinstance(result, Unreadable):
            return None  # it was carried out
        status = result.status_code
        self._may_be_done = self._may_be_done or status in _MAY_BE_DONE
        retry_after_s = retry_after_of(result.headers, self._runtime.clock.now().wall_s)
        return Answered(status, retry_after_s)

    def _tell(self, result: Attempted, pause_s: float) -> None:
        call = self._call
        reason = (
            result.reason if isinstance(result, NoAnswer) else str(_response_of(result).status_code)
        )
        logger.warning(
            "%s %s: %s, again in %.2f s (attempt %d)",
            call.endpoint.method,
            call.path,
            reason,
            pause_s,
            self._attempts,
            extra=self._fields(),
        )
        self._runtime.retries(
            RetryEvent(
                method=call.endpoint.method,
                path=call.path,
                attempt=self._attempts,
                reason=reason,
                pause_s=pause_s,
            )
        )

    def _error(self, result: Attempted) -> FlipError:
        call, attempts = self._call, self._attempts
        method, path = call.endpoint.method, call.path
        if isinstance(result, NoAnswer):
            return self._unanswered(result)
        if isinstance(result, Unreadable):
            return DecodeError(
                f"cannot read the answer: {result.reason}",
                response=result.response,
                document_path=None,
                method=method,
                path=path,
                attempts=attempts,
                outcome_unknown=not call.repeatable,
            )
        note = result.extensions.get(NOTE)
        return errors.from_response(
            result,
            method=method,
            path=path,
            wall_now_s=self._runtime.clock.now().wall_s,
            attempts=attempts,
            outcome_unknown=not call.repeatable and result.status_code in _MAY_BE_DONE,
            not_retried=note if isinstance(note, str) else None,
        )

    def _unanswered(self, result: NoAnswer) -> FlipError:
        call, attempts = self._call, self._attempts
        method, path = call.endpoint.method, call.path
        if result.may_have_arrived and not call.repeatable:
            return OutcomeUnknownError(
                f"{result.reason}: the request was sent and may have been carried out",
                method=method,
                path=path,
                attempts=attempts,
            )
        kind = DeadlineError if result.timed_out else ConnectionFailedError
        return kind(result.reason, method=method, path=path, attempts=attempts)


def _response_of(result: httpx.Response | Unreadable) -> httpx.Response:
    return result.response if isinstance(result, Unreadable) else result


def _say_where(error: FlipError, call: Call) -> None:
    # The auth and the life cycle do not know which call they fail.
    method, path = call.endpoint.method, call.path
    if error.method is None:
        error.method, error.path = method, path
    elif (error.method, error.path) != (method, path):
        error.needed_for = f"{method} {path}"
