"""Build, send, read: the road of every call."""

import asyncio
import logging
import platform
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, TypeVar, Unpack
from urllib.parse import urlencode

import attrs
import httpx

from flip_async import errors
from flip_async._auth._bearer import BearerAuth
from flip_async._backoff import parse_retry_after
from flip_async._core import Core
from flip_async._endpoint import Endpoint, TokenKind
from flip_async._options import CallOptions, QueryValue, Settings, check_options
from flip_async._pages import Pages
from flip_async._retry import Answered, NoAnswer, Outcome, Retries
from flip_async._send_state import NOTE, SendState
from flip_async._version import __version__
from flip_async._wire import decode, encode
from flip_async.errors import (
    ClientClosedError,
    ConnectionFailedError,
    DeadlineError,
    DecodeError,
    FlipError,
    InvalidArgumentError,
    OutcomeUnknownError,
)

T = TypeVar("T")
logger: Final = logging.getLogger("flip_async.http")

USER_AGENT: Final = (
    f"flip_async/{__version__} httpx/{httpx.__version__} Python/{platform.python_version()}"
)
_HEADERS: Final = [
    (b"Accept", b"application/json"),
    (b"User-Agent", USER_AGENT.encode("ascii")),
]
_HEADERS_WITH_BODY: Final = [*_HEADERS, (b"Content-Type", b"application/json")]

_BEFORE_SENDING: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
)
_HOPELESS: Final = (httpx.LocalProtocolError, httpx.UnsupportedProtocol)


@lru_cache(maxsize=4096)
def _url(text: str) -> httpx.URL:
    return httpx.URL(text)  # immutable, and worth 14 µs


@attrs.frozen
class _Call:
    """One call, over all its attempts."""

    endpoint: Endpoint[object]
    path: str
    request: httpx.Request
    auth: httpx.Auth
    repeatable: bool
    state: SendState | None  # only where a guess would be wrong

    @property
    def may_have_been_carried_out(self) -> bool:
        return self.state is not None and self.state.may_have_arrived


@attrs.frozen(kw_only=True)
class Session:
    """How calls are made; a view with other settings is an evolved copy.

    Attributes:
        core: What all views share.
        auth: The client's credential.
        site_auth: The site's credential, in a view of a site.
        settings: Timeouts.
        retries: The retry policy.
    """

    core: Core
    auth: httpx.Auth
    settings: Settings
    retries: Retries
    site_auth: httpx.Auth | None = None

    async def call(
        self,
        endpoint: Endpoint[T],
        *ids: str,
        body: object = None,
        query: Mapping[str, QueryValue] | None = None,
        **options: Unpack[CallOptions],
    ) -> T:
        """Make a call and read its answer.

        Args:
            endpoint: What to call.
            *ids: Ids in the order of the path's placeholders.
            body: A model, or `None`.
            query: Query parameters.
            **options: What every method takes.

        Returns:
            The answer.

        Raises:
            FlipError: As drawn in `flip_async.errors`.
        """
        check_options(options)
        call, response, attempts = await self._exchange(endpoint, ids, body, query or {}, options)
        return self._read(call, endpoint, response, attempts)

    def pages(
        self,
        endpoint: Endpoint[list[T]],
        *ids: str,
        key: Callable[[T], str],
        skip: int,
        limit: int,
        max_items: int | None,
        query: Mapping[str, QueryValue] | None = None,
        **options: Unpack[CallOptions],
    ) -> Pages[T]:
        """A list that comes in pages; `key` tells one row from another."""
        check_options(options)

        async def fetch(*, skip: int, limit: int, previous_first: T | None) -> list[T]:
            paging: dict[str, QueryValue] = {"skip": skip, "limit": limit}
            call, response, attempts = await self._exchange(
                endpoint, ids, None, {**(query or {}), **paging}, options
            )
            page = self._read(call, endpoint, response, attempts)
            if page and previous_first is not None and key(page[0]) == key(previous_first):
                raise DecodeError(
                    f"the page after skip={skip} begins with the same row as the page before: "
                    "the server ignores `skip`",
                    response=response,
                    document_path="$[0]",
                    method=endpoint.method,
                    path=call.path,
                    attempts=attempts,
                )
            return page

        return Pages(fetch, spawn=self.core.spawn, skip=skip, limit=limit, max_items=max_items)

    async def _exchange(
        self,
        endpoint: Endpoint[T],
        ids: tuple[str, ...],
        body: object,
        query: Mapping[str, QueryValue],
        options: CallOptions,
    ) -> tuple[_Call, httpx.Response, int]:
        self.core.check_open()
        call = self._build(endpoint, ids, body, query, options)
        deadline_s = options.get("deadline_s", self.settings.deadline_s)
        response, attempts = await self._send_until(call, deadline_s)
        return call, response, attempts

    # Build

    def _build(
        self,
        endpoint: Endpoint[T],
        ids: tuple[str, ...],
        body: object,
        query: Mapping[str, QueryValue],
        options: CallOptions,
    ) -> _Call:
        path = endpoint.fill(*ids)
        auth = self._auth_for(options.get("token", endpoint.token))
        repeatable = self.retries.may_repeat(endpoint)
        state = None if repeatable else SendState()
        request = self._request(
            endpoint.method,
            path,
            content=None if body is None else encode(body),
            query={**query, **options.get("extra_query", {})},
            extra_headers=options.get("extra_headers"),
            timeout=_as_timeout(options["timeout"])
            if "timeout" in options
            else self.settings.timeout,
            extensions={} if state is None else state.extensions(),
        )
        return _Call(endpoint, path, request, auth, repeatable, state)

    def _auth_for(self, token: TokenKind) -> httpx.Auth:
        if token == "client":
            return self.auth
        if self.site_auth is None:
            raise InvalidArgumentError(
                "there is no site here: use flip.site(site_id)", field="token"
            )
        return self.site_auth

    def _request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None,
        query: Mapping[str, QueryValue],
        extra_headers: Mapping[str, str] | None,
        timeout: httpx.Timeout,
        extensions: dict[str, object],
    ) -> httpx.Request:
        text = self.core.environment.api_url + path
        if query:
            text = f"{text}?{urlencode(_query_pairs(query))}"
        extensions["timeout"] = timeout.as_dict()
        headers = _HEADERS if content is None else _HEADERS_WITH_BODY
        if not self.core.owns_http:
            # The user's own client: its headers, params and cookies count.
            request = self.core.http.build_request(
                method, text, headers=headers, content=content, extensions=extensions
            )
        else:
            request = httpx.Request(
                method, _url(text), headers=headers, content=content, extensions=extensions
            )
        if extra_headers:
            request.headers.update(extra_headers)
        return request

    # Send

    async def _send_until(
        self, call: _Call, deadline_s: float | None
    ) -> tuple[httpx.Response, int]:
        core, tries = self.core, _Tries()
        error: FlipError
        timer = asyncio.timeout(deadline_s)
        try:
            async with timer:
                core.began(timer)
                return await self._send(call, tries, timer)
        except TimeoutError:
            if not timer.expired():
                raise
            # Left before raising: the chain would lead to httpx's error and its request.
            error = self._cut_off(call, tries.made, deadline_s)
        except FlipError as raised:
            _say_where(raised, call)
            raise
        finally:
            core.ended(timer)
        raise error

    def _cut_off(self, call: _Call, attempts: int, deadline_s: float | None) -> FlipError:
        where = {"method": call.endpoint.method, "path": call.path}
        why = "the client was closed" if self.core.closed else f"no answer within {deadline_s:g} s"
        trouble = call.auth.trouble if isinstance(call.auth, BearerAuth) else None
        if trouble is not None:
            why = f"{why}; {trouble.message}"
        if call.may_have_been_carried_out:
            return OutcomeUnknownError(
                f"{why}, and the request may have been carried out", attempts=attempts, **where
            )
        kind = ClientClosedError if self.core.closed else DeadlineError
        return kind(why, attempts=attempts, **where)

    async def _send(
        self, call: _Call, tries: "_Tries", timer: asyncio.Timeout
    ) -> tuple[httpx.Response, int]:
        while True:
            tries.made += 1
            result = await self._attempt(call, tries.made)
            if isinstance(result, httpx.Response):
                if result.is_success or self._is_gone(call, result, tries.made):
                    self.core.budget.succeeded()
                    return result, tries.made
                outcome: Outcome = Answered(result.status_code, self._retry_after_s(result))
            else:
                outcome = result
            pause_s = self.retries.pause_s(
                outcome,
                attempt=tries.made,
                repeatable=call.repeatable,
                luck=self.core.clock.random(),
            )
            if pause_s is None or _is_too_long(pause_s, timer) or not self.core.budget.take():
                raise self._error(call, result, tries.made)
            logger.warning(
                "%s %s: %s, again in %.2f s (attempt %d)",
                call.endpoint.method,
                call.path,
                outcome.status if isinstance(outcome, Answered) else outcome.reason,
                pause_s,
                tries.made,
            )
            await self.core.clock.sleep(pause_s)

    async def _attempt(self, call: _Call, number: int) -> httpx.Response | NoAnswer:
        if call.state is not None and not isinstance(call.auth, BearerAuth):
            call.state.leaves()  # somebody else's auth tells us nothing
        try:
            response = await self.core.http.send(
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
            if self.core.closed or not self.core.http.is_closed:
                raise
            return NoAnswer("the http_client was closed", sent=True, final=True)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug(
                "%s %s: %d (attempt %d)",
                call.endpoint.method,
                call.path,
                response.status_code,
                number,
            )
        return response

    def _is_gone(self, call: _Call, response: httpx.Response, attempts: int) -> bool:
        # The attempt before, whose answer was lost, has done it.
        return call.endpoint.method == "DELETE" and response.status_code == 404 and attempts > 1

    def _retry_after_s(self, response: httpx.Response) -> float | None:
        header = response.headers.get("Retry-After")
        return None if header is None else parse_retry_after(header, self.core.clock.now().wall_s)

    def _error(self, call: _Call, result: httpx.Response | NoAnswer, attempts: int) -> FlipError:
        method, path = call.endpoint.method, call.path
        if isinstance(result, httpx.Response):
            note = result.extensions.get(NOTE)
            return errors.from_response(
                result,
                method=method,
                path=path,
                wall_now_s=self.core.clock.now().wall_s,
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

    # Read

    def _read(
        self, call: _Call, endpoint: Endpoint[T], response: httpx.Response, attempts: int
    ) -> T:
        return decode(
            response,
            endpoint.returns,
            method=endpoint.method,
            path=call.path,
            attempts=attempts,
        )


@attrs.define
class _Tries:
    """How many attempts a call has made; outlives the scope that counts them."""

    made: int = 0


def _say_where(error: FlipError, call: _Call) -> None:
    # The auth and the life cycle do not know which call they fail.
    if error.method is None:
        error.method, error.path = call.endpoint.method, call.path


def _is_too_long(pause_s: float, timer: asyncio.Timeout) -> bool:
    when = timer.when()
    return when is not None and asyncio.get_running_loop().time() + pause_s >= when


def _as_timeout(value: float | httpx.Timeout | None) -> httpx.Timeout:
    return value if isinstance(value, httpx.Timeout) else httpx.Timeout(value)


def _query_pairs(query: Mapping[str, QueryValue]) -> list[tuple[str, str]]:
    pairs = []
    for name, value in query.items():
        several = value if isinstance(value, list | tuple) else (value,)
        pairs += [(name, _query_text(item)) for item in several]
    return pairs


def _query_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
