"""Send: one call, over all its attempts."""

import asyncio
import logging
from typing import Final

import attrs
import httpx

from flip_async import errors
from flip_async._auth._bearer import BearerAuth
from flip_async._backoff import parse_retry_after
from flip_async._endpoint import Endpoint
from flip_async._http._retry import Answered, NoAnswer, Outcome, Retries
from flip_async._http._runtime import Core
from flip_async._transport._progress import NOTE, SendState
from flip_async.errors import (
    ClientClosedError,
    ConnectionFailedError,
    DeadlineError,
    FlipError,
    OutcomeUnknownError,
)

logger: Final = logging.getLogger("flip_async.http")

_BEFORE_SENDING: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
)
_HOPELESS: Final = (httpx.LocalProtocolError, httpx.UnsupportedProtocol)


@attrs.frozen
class Call:
    """A request, with what its sending has to know."""

    endpoint: Endpoint[object]
    path: str
    request: httpx.Request
    auth: httpx.Auth
    repeatable: bool
    state: SendState | None  # only where a guess would be wrong

    @property
    def may_have_been_carried_out(self) -> bool:
        """Whether the server may have seen it, and twice would be once too often."""
        return self.state is not None and self.state.may_have_arrived


class Sending:
    """Sends a call until it is answered.

    Attributes:
        attempts: How often it was sent so far.
    """

    def __init__(self, call: Call, core: Core, retries: Retries) -> None:
        self.attempts = 0
        self._call: Final = call
        self._core: Final = core
        self._retries: Final = retries

    async def until(self, deadline_s: float | None) -> httpx.Response:
        """Send, and send again, until there is an answer or an error.

        Args:
            deadline_s: Over all attempts and pauses and the wait for a token, in seconds.

        Returns:
            An answer that is a success.

        Raises:
            FlipError: There was none.
        """
        core = self._core
        error: FlipError
        timer = asyncio.timeout(deadline_s)
        try:
            async with timer:
                core.began(timer)
                return await self._repeat(timer)
        except TimeoutError:
            if not timer.expired():
                raise
            # Left before raising: the chain would lead to httpx's error and its request.
            error = self._cut_off(deadline_s)
        except FlipError as raised:
            _say_where(raised, self._call)
            raise
        finally:
            core.ended(timer)
        raise error

    def _cut_off(self, deadline_s: float | None) -> FlipError:
        call = self._call
        where = {"method": call.endpoint.method, "path": call.path}
        why = "the client was closed" if self._core.closed else f"no answer within {deadline_s:g} s"
        trouble = call.auth.trouble if isinstance(call.auth, BearerAuth) else None
        if trouble is not None:
            why = f"{why}; {trouble.message}"
        if call.may_have_been_carried_out:
            return OutcomeUnknownError(
                f"{why}, and the request may have been carried out", attempts=self.attempts, **where
            )
        kind = ClientClosedError if self._core.closed else DeadlineError
        return kind(why, attempts=self.attempts, **where)

    async def _repeat(self, timer: asyncio.Timeout) -> httpx.Response:
        call = self._call
        while True:
            self.attempts += 1
            with self._core.tracing.attempt(
                call.endpoint.method, call.endpoint.path, resent=self.attempts - 1
            ) as watched:
                result = await self._attempt()
                if isinstance(result, httpx.Response):
                    watched.answered(result.status_code)
                else:
                    watched.failed(result.reason)
            if call.state is not None:
                call.state.waits()  # what became of it is known: a pause is no unknown outcome
            if isinstance(result, httpx.Response):
                if result.is_success or self._is_gone(result):
                    self._core.budget.succeeded()
                    return result
                outcome: Outcome = Answered(result.status_code, self._retry_after_s(result))
            else:
                outcome = result
            pause_s = self._retries.pause_s(
                outcome,
                attempt=self.attempts,
                repeatable=call.repeatable,
                luck=self._core.clock.random(),
            )
            if pause_s is None or _is_too_long(pause_s, timer) or not self._core.budget.take():
                raise self._error(result)
            logger.warning(
                "%s %s: %s, again in %.2f s (attempt %d)",
                call.endpoint.method,
                call.path,
                outcome.status if isinstance(outcome, Answered) else outcome.reason,
                pause_s,
                self.attempts,
            )
            await self._core.clock.sleep(pause_s)

    async def _attempt(self) -> httpx.Response | NoAnswer:
        call = self._call
        if call.state is not None and not isinstance(call.auth, BearerAuth):
            call.state.leaves()  # somebody else's auth tells us nothing
        try:
            response = await self._core.http.send(
                call.request, auth=call.auth, follow_redirects=False
            )
        except httpx.TransportError as error:
            sent = not isinstance(error, _BEFORE_SENDING)
            final = isinstance(error, _HOPELESS)
            # Its text may quote a header where it is hopeless.
            detail = "" if final or not str(error) else f": {error}"
            return NoAnswer(
                f"{type(error).__name__}{detail}",
                sent=sent,
                final=final,
                timed_out=isinstance(error, httpx.TimeoutException),
            )
        except (httpx.DecodingError, httpx.InvalidURL, httpx.TooManyRedirects) as error:
            return NoAnswer(type(error).__name__, sent=True, final=True)
        except RuntimeError:
            if self._core.closed or not self._core.http.is_closed:
                raise
            return NoAnswer("the http_client was closed", sent=True, final=True)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug(
                "%s %s: %d (attempt %d)",
                call.endpoint.method,
                call.path,
                response.status_code,
                self.attempts,
            )
        return response

    def _is_gone(self, response: httpx.Response) -> bool:
        # The attempt before, whose answer was lost, has done it.
        is_delete = self._call.endpoint.method == "DELETE"
        return is_delete and response.status_code == 404 and self.attempts > 1

    def _retry_after_s(self, response: httpx.Response) -> float | None:
        header = response.headers.get("Retry-After")
        return None if header is None else parse_retry_after(header, self._core.clock.now().wall_s)

    def _error(self, result: httpx.Response | NoAnswer) -> FlipError:
        call, attempts = self._call, self.attempts
        method, path = call.endpoint.method, call.path
        if isinstance(result, httpx.Response):
            note = result.extensions.get(NOTE)
            return errors.from_response(
                result,
                method=method,
                path=path,
                wall_now_s=self._core.clock.now().wall_s,
                attempts=attempts,
                outcome_unknown=not call.repeatable and result.status_code in (500, 502, 504),
                not_retried=note if isinstance(note, str) else None,
            )
        if result.sent and not call.repeatable and not result.final:
            return OutcomeUnknownError(
                f"{result.reason}: the request was sent and may have been carried out",
                method=method,
                path=path,
                attempts=attempts,
            )
        kind = DeadlineError if result.timed_out else ConnectionFailedError
        return kind(result.reason, method=method, path=path, attempts=attempts)


def _say_where(error: FlipError, call: Call) -> None:
    # The auth and the life cycle do not know which call they fail.
    if error.method is None:
        error.method, error.path = call.endpoint.method, call.path


def _is_too_long(pause_s: float, timer: asyncio.Timeout) -> bool:
    when = timer.when()
    return when is not None and asyncio.get_running_loop().time() + pause_s >= when
