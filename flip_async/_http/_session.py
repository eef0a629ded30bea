"""Build, send, read: the road of every call."""

import inspect
import platform
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Final, TypeVar, Unpack, cast, get_args
from urllib.parse import urlencode

import attrs
import httpx

from flip_async._auth._store import TokenStore
from flip_async._checks import check_mapping, check_one_of, check_path, query_pairs, refuse
from flip_async._endpoint import (
    ANY_JSON,
    JSON_OBJECT,
    NO_CONTENT,
    Endpoint,
    Method,
    TokenKind,
)
from flip_async._http._pages import PAGE_SIZE, Pages
from flip_async._http._retry import Retries
from flip_async._http._runtime import Runtime
from flip_async._http._sending import Answer, Call, Sending
from flip_async._options import CallOptions, QueryValue, Settings, as_timeout, check_options
from flip_async._transport._progress import Progress
from flip_async._version import __version__
from flip_async._wire import decode, encode
from flip_async.errors import DecodeError, InvalidArgumentError

T = TypeVar("T")
_answers: Final[ContextVar[list[httpx.Response] | None]] = ContextVar("answers", default=None)

USER_AGENT: Final = (
    f"flip_async/{__version__} httpx/{httpx.__version__} Python/{platform.python_version()}"
)
_ACCEPT: Final = (b"Accept", b"application/json")
_AGENT: Final = (b"User-Agent", USER_AGENT.encode("ascii"))
_ENCODINGS: Final = (b"Accept-Encoding", b"gzip, deflate")
_CONTENT_TYPE: Final = (b"Content-Type", b"application/json")
_METHODS_WITH_LENGTH: Final = frozenset({"POST", "PUT", "PATCH"})


@lru_cache(maxsize=4096)
def _url(text: str) -> httpx.URL:
    """A URL, which is immutable, and worth 14 µs.

    Raises:
        InvalidArgumentError: httpx cannot send to it.
    """
    try:
        return httpx.URL(text)
    except (httpx.InvalidURL, ValueError):
        raise _no_url() from None


@lru_cache(maxsize=64)
def _headers(api_url: str) -> httpx.Headers:
    """What every request to an API has; httpx copies it."""
    return httpx.Headers([(b"Host", _url(api_url).netloc), _ACCEPT, _AGENT, _ENCODINGS])


@attrs.frozen(kw_only=True)
class Session:
    """How calls are made; a view with other settings is an evolved copy.

    Attributes:
        runtime: What all views share.
        auth: The client's credential.
        site_auth: The site's credential, in a view of a site.
        settings: Timeouts.
        retries: The retry policy.
        token_store: Shares the tokens of sites.
    """

    runtime: Runtime
    auth: httpx.Auth
    settings: Settings
    retries: Retries
    site_auth: httpx.Auth | None = None
    token_store: TokenStore | None = None

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
        answer = await self._exchange(endpoint, ids, body, query, options)
        return self._read(endpoint, answer)

    async def request(
        self,
        method: Method,
        path: str,
        *,
        body: object,
        query: Mapping[str, QueryValue] | None,
        **options: Unpack[CallOptions],
    ) -> httpx.Response:
        """Reach what has no method yet; as `call`, with the answer as it came."""
        check_options(options)
        check_path(path)
        check_one_of(method, get_args(Method), field="method")
        token: TokenKind = "client" if self.site_auth is None else "site"
        endpoint = Endpoint(method=method, path=path, token=token, returns=object)
        answer = await self._exchange(endpoint, (), body, query, options)
        _note_answer(answer.response)
        return answer.response

    def pages(
        self,
        endpoint: Endpoint[list[T]],
        *ids: str,
        key: Callable[[T], str] | None = None,
        skip: int = 0,
        limit: int = PAGE_SIZE,
        max_items: int | None = None,
        query: Mapping[str, QueryValue] | None = None,
        **options: Unpack[CallOptions],
    ) -> Pages[T]:
        """A list that comes in pages, where `key` tells one row from another; else in one."""
        check_options(options)
        endpoint.fill(*ids)  # a wrong id is told at once, not when the list is read

        async def fetch(*, skip: int, limit: int, previous_first: T | None) -> list[T]:
            paging: Mapping[str, QueryValue] | None = query
            if key is not None:
                paging = {**(query or {}), "skip": skip, "limit": limit}
            answer = await self._exchange(endpoint, ids, None, paging, options)
            page = self._read(endpoint, answer)
            if key and page and previous_first is not None and key(page[0]) == key(previous_first):
                raise DecodeError(
                    f"the page after skip={skip} begins with the same row as the page before: "
                    "the server ignores `skip`",
                    response=answer.response,
                    document_path="$[0]",
                    method=endpoint.method,
                    path=answer.path,
                    attempts=answer.attempts,
                )
            return page

        return Pages(
            fetch,
            spawn=self.runtime.spawn,
            skip=skip,
            limit=limit,
            max_items=max_items,
            one_page=key is None,
        )

    async def _exchange(
        self,
        endpoint: Endpoint[T],
        ids: tuple[str, ...],
        body: object,
        query: Mapping[str, QueryValue] | None,
        options: CallOptions,
    ) -> Answer:
        self.runtime.check_open()
        if not self.runtime.is_ready:
            await self.runtime.get_ready()
        call = self._build(endpoint, ids, body, query, options)
        deadline_s = options.get("deadline_s", self.settings.deadline_s)
        return await Sending(call, self.runtime, self.retries).until(deadline_s)

    # Build

    def _build(
        self,
        endpoint: Endpoint[T],
        ids: tuple[str, ...],
        body: object,
        query: Mapping[str, QueryValue] | None,
        options: CallOptions,
    ) -> Call:
        path = endpoint.fill(*ids)
        auth = self._auth_for(options.get("token", endpoint.token))
        repeatable = self.retries.may_repeat(endpoint)
        progress = None if repeatable else Progress()
        request = self._request(
            endpoint.method,
            path,
            content=None if body is None else encode(body),
            query=_query(query, options.get("extra_query")),
            extra_headers=options.get("extra_headers"),
            timeout=as_timeout(options["timeout"])
            if "timeout" in options
            else self.settings.timeout,
            extensions={} if progress is None else progress.extensions(),
        )
        return Call(endpoint, path, request, auth, repeatable, progress)

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
        query: list[tuple[str, str]],
        extra_headers: Mapping[str, str] | None,
        timeout: httpx.Timeout,
        extensions: dict[str, object],
    ) -> httpx.Request:
        extensions["timeout"] = timeout.as_dict()
        text = self.runtime.api_url + path
        user_http = self.runtime.outlet.user_http
        if user_http is not None:
            request = _request_of(
                user_http, method, text, query=query, content=content, extensions=extensions
            )
        else:
            request = httpx.Request(
                method,
                _url(f"{text}?{urlencode(query)}" if query else text),
                headers=_headers(self.runtime.api_url),
                stream=httpx.ByteStream(content or b""),
                extensions=extensions,
            )
            _complete(request, content)
        if extra_headers:
            request.headers.update(extra_headers)
        return request

    # Read

    def _read(self, endpoint: Endpoint[T], answer: Answer) -> T:
        response = answer.response
        _note_answer(response)
        if endpoint.returns is NO_CONTENT:
            return cast("T", None)  # whatever the body says: the API's reference knows of none
        if not response.content and endpoint.returns is JSON_OBJECT:
            return cast("T", {})
        if not response.content and endpoint.returns is ANY_JSON:
            return cast("T", None)
        return decode(
            response,
            endpoint.returns,
            method=endpoint.method,
            path=answer.path,
            attempts=answer.attempts,
            outcome_unknown=not self.retries.may_repeat(endpoint),
        )


def _complete(request: httpx.Request, content: bytes | None) -> None:
    """Do what httpx does for `content=`, which puts all headers together anew (25 µs)."""
    if content is not None:
        request.headers["Content-Type"] = "application/json"
    if content is not None or request.method in _METHODS_WITH_LENGTH:
        request.headers["Content-Length"] = str(len(content or b""))
    request.read()


def _request_of(
    http: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    query: list[tuple[str, str]],
    content: bytes | None,
    extensions: dict[str, object],
) -> httpx.Request:
    """A request of the user's own client, whose headers, params and cookies count."""
    is_default = http.headers.get("User-Agent", "").startswith("python-httpx")
    headers = [_ACCEPT, *([_AGENT] if is_default else [])]
    try:
        return http.build_request(
            method,
            url,
            params=httpx.QueryParams(tuple(query)),  # in the URL, theirs would replace it
            headers=headers if content is None else [*headers, _CONTENT_TYPE],
            content=content,
            extensions=extensions,
        )
    except httpx.InvalidURL:
        raise _no_url() from None


def _no_url() -> InvalidArgumentError:
    return InvalidArgumentError("makes no URL that can be sent to", field="path")


def _query(
    query: Mapping[str, QueryValue] | None, extra: Mapping[str, QueryValue] | None
) -> list[tuple[str, str]]:
    if query is None and extra is None:
        return []
    if query is not None:
        check_mapping(query, field="query")
    return query_pairs({**(query or {}), **(extra or {})})


async def with_answer(call: Awaitable[T]) -> tuple[T, httpx.Response]:
    """Await a call, and give the answer that it read last beside its result.

    Raises:
        InvalidArgumentError: It made no call.
    """
    if not inspect.isawaitable(call):
        refuse("call", "a call of this client that was not awaited yet", call)
    answers: list[httpx.Response] = []
    token = _answers.set(answers)
    try:
        result = await call
    finally:
        _answers.reset(token)
    if not answers:
        raise InvalidArgumentError("makes no call of this client", field="call")
    return result, answers[-1]


def _note_answer(response: httpx.Response) -> None:
    answers = _answers.get()
    if answers is not None:
        answers.append(response)
