"""What becomes of a request: weather or a bug, carried out or not, worth repeating or not [B2]."""

import asyncio
import base64
import contextlib
import gzip
import logging
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import h11
import httpcore
import httpx
import pytest
import respx

from flip_async import (
    PRODUCTION,
    ClientCredentialsAuth,
    FlipClient,
    Retries,
    RetryEvent,
    SandboxClient,
    errors,
)
from flip_async._secret import Secret
from flip_async._transport._attempt import NoAnswer, attempt
from flip_async._transport._progress import Progress
from tests.support import API, CLIENT_ID, CLIENT_SECRET, FakeFlip, ManualClock, settle

KEY = "fl_your_api_key"
AT_ONCE = Retries(max_attempts=3, base_s=0)
CERTIFICATE = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] self-signed")
Answer = Callable[[httpx.Request], httpx.Response]


async def became_of(
    error: BaseException, request: httpx.Request | None = None, *secrets: Secret
) -> object:
    async def send(request: httpx.Request) -> httpx.Response:
        raise error

    return await attempt(send, request or httpx.Request("POST", API), *secrets)


# Weather and bugs

LOST = [
    ssl.SSLError(1, "[SSL: SSLV3_ALERT_BAD_RECORD_MAC] alert"),
    ConnectionResetError(104, "reset"),
    BrokenPipeError(32, "pipe"),
    OSError("odd"),
    EOFError("end"),
    h11.RemoteProtocolError("no HTTP"),
    h11.LocalProtocolError("too much data"),
    anyio.BrokenResourceError(),
    anyio.ClosedResourceError(),
    anyio.EndOfStream(),
    httpcore.ReadError("lost"),
    httpcore.WriteError("lost"),
    httpcore.RemoteProtocolError("no HTTP"),
    httpx.ReadError("lost"),
    httpx.WriteError("lost"),
    httpx.CloseError("lost"),
    httpx.RemoteProtocolError("no HTTP"),
]
TOO_LATE = [TimeoutError("late"), httpx.ReadTimeout("late"), httpx.WriteTimeout("late")]
NEVER_LEFT = [
    httpx.ConnectError("refused"),
    httpx.ConnectTimeout("late"),
    httpx.PoolTimeout("late"),
    httpx.ProxyError("407"),
]
OUR_MISTAKE = [httpx.LocalProtocolError("Illegal header"), httpx.UnsupportedProtocol("ftp")]
BUGS = [RuntimeError("a bug"), KeyError("a bug"), AssertionError("a bug"), TypeError("a bug")]


def named(error: object) -> str:
    return f"{type(error).__module__}.{type(error).__name__}"


@pytest.mark.parametrize("error", [*LOST, *TOO_LATE], ids=named)
async def test_what_networks_do_is_weather_and_may_have_been_carried_out(error: Exception) -> None:
    """Another attempt may end otherwise."""
    result = await became_of(error)

    assert isinstance(result, NoAnswer)
    assert result.may_have_arrived
    assert result.is_worth_repeating
    assert result.timed_out is (error in TOO_LATE)
    assert result.reason.startswith(type(error).__name__)


@pytest.mark.parametrize("error", NEVER_LEFT, ids=named)
async def test_what_never_left_was_not_carried_out(error: Exception) -> None:
    result = await became_of(error)

    assert isinstance(result, NoAnswer)
    assert not result.may_have_arrived
    assert result.is_worth_repeating


@pytest.mark.parametrize("error", OUR_MISTAKE, ids=named)
async def test_what_cannot_be_sent_is_not_repeated(error: Exception) -> None:
    """And its text is not shown: it may quote a header."""
    result = await became_of(error)

    assert result == NoAnswer(
        reason=type(error).__name__, may_have_arrived=False, is_worth_repeating=False
    )


@pytest.mark.parametrize("error", LOST, ids=named)
async def test_a_request_that_still_waited_was_not_carried_out(error: Exception) -> None:
    """Its progress knows more than the error."""
    progress = Progress()
    request = httpx.Request("POST", API, extensions=progress.extensions())

    before = await became_of(error, request)
    progress.leaves()
    after = await became_of(error, request)

    assert isinstance(before, NoAnswer)
    assert isinstance(after, NoAnswer)
    assert (before.may_have_arrived, after.may_have_arrived) == (False, True)


@pytest.mark.parametrize("bug", BUGS, ids=named)
async def test_a_bug_looks_like_a_bug(bug: Exception) -> None:
    with pytest.raises(type(bug)) as caught:
        await became_of(bug)

    assert caught.value is bug


async def test_a_cancellation_is_nobodys_answer() -> None:
    with pytest.raises(asyncio.CancelledError):
        await became_of(asyncio.CancelledError())


@pytest.mark.parametrize("error", [*LOST, *TOO_LATE, *NEVER_LEFT, *OUR_MISTAKE], ids=named)
async def test_a_group_of_one_weather_is_that_weather(error: Exception) -> None:
    """Whoever uses task groups in a transport raises groups."""
    alone = await became_of(error)

    assert await became_of(ExceptionGroup("", [error])) == alone
    assert await became_of(ExceptionGroup("", [ExceptionGroup("", [error])])) == alone


async def test_a_group_of_several_weathers_is_weather() -> None:
    group = ExceptionGroup("", [OSError("a"), ExceptionGroup("", [EOFError(), ssl.SSLError()])])

    result = await became_of(group)

    assert isinstance(result, NoAnswer)
    assert result.is_worth_repeating


@pytest.mark.parametrize("bug", [*BUGS, KeyboardInterrupt(), asyncio.CancelledError()], ids=named)
@pytest.mark.parametrize("deep", [False, True])
async def test_a_bug_in_a_group_is_that_bug_itself(bug: BaseException, deep: bool) -> None:
    """Whatever the weather beside it."""
    group: BaseException = BaseExceptionGroup("", [OSError("weather"), bug])
    if deep:
        group = BaseExceptionGroup("", [EOFError(), group])

    with pytest.raises(type(bug)) as caught:
        await became_of(group)

    assert caught.value is bug


async def test_a_certificate_is_not_asked_for_again() -> None:
    """The next attempt would be shown the same one, whoever wraps the error."""
    wrapped = httpx.ConnectError("no connection")
    wrapped.__cause__ = CERTIFICATE

    for error in (CERTIFICATE, wrapped, ExceptionGroup("", [CERTIFICATE])):
        result = await became_of(error)
        assert isinstance(result, NoAnswer)
        assert not result.is_worth_repeating


async def test_causes_that_go_in_a_circle_are_no_trap() -> None:
    """As a mock's do that raises an error again from what it had wrapped it in."""
    error, wrapped = httpx.ReadError("lost"), RuntimeError("of the mock")
    error.__cause__, wrapped.__cause__ = wrapped, error

    result = await became_of(error)

    assert isinstance(result, NoAnswer)
    assert result.is_worth_repeating


@pytest.mark.parametrize("form", ["plain", "basic", "quoted"])
async def test_a_secret_that_is_echoed_in_an_error_is_scrubbed(form: str) -> None:
    """In every form that the request had it in [B10]."""
    secret = "s3cr3t/of+mine"
    basic = base64.b64encode(f"id:{secret}".encode()).decode()
    shown = {"plain": secret, "basic": basic, "quoted": "s3cr3t%2Fof%2Bmine"}[form]
    request = httpx.Request("POST", API, headers={"Authorization": f"Basic {basic}"})

    by_header = await became_of(httpx.RemoteProtocolError(f"what is {shown}?"), request)
    by_name = await became_of(OSError(f"what is {shown}?"), None, Secret(basic), Secret(secret))

    for result in (by_header, by_name):
        assert isinstance(result, NoAnswer)
        assert shown not in result.reason
        assert result.reason.endswith("what is ***?")


# The three roads


@contextlib.asynccontextmanager
async def on_transport(answer: Answer, **options: Any) -> AsyncIterator[FlipClient]:
    async with FlipClient(transport=httpx.MockTransport(answer), **options) as flip:
        yield flip


@contextlib.asynccontextmanager
async def on_http_client(answer: Answer, **options: Any) -> AsyncIterator[FlipClient]:
    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http,
        FlipClient(http_client=http, **options) as flip,
    ):
        yield flip


@contextlib.asynccontextmanager
async def on_default_road(answer: Answer, **options: Any) -> AsyncIterator[FlipClient]:
    with respx.mock(assert_all_called=False) as network:
        network.route().mock(side_effect=answer)
        async with FlipClient(**options) as flip:
            yield flip


ROADS = pytest.mark.parametrize("road", [on_transport, on_http_client, on_default_road])
Road = Callable[..., contextlib.AbstractAsyncContextManager[FlipClient]]


def options(**others: Any) -> dict[str, Any]:
    return {"environment": PRODUCTION, "api_key": KEY, "retries": AT_ONCE, **others}


class Flip:
    """Gives (or raises) its answers in turn, the last one for ever; keeps the requests."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer() if callable(answer) else httpx.Response(answer, json=[])


@ROADS
@pytest.mark.parametrize(
    "weather",
    [
        lambda: ssl.SSLError(1, "alert"),
        EOFError,
        anyio.BrokenResourceError,
        lambda: httpx.ReadError("lost"),
        lambda: ExceptionGroup("", [OSError("reset")]),
    ],
    ids=["SSLError", "EOFError", "BrokenResourceError", "ReadError", "group"],
)
async def test_weather_is_repeated_for_a_read_and_unknown_for_a_post(
    road: Road, weather: Callable[[], Exception]
) -> None:
    """[R1]."""
    read, post = Flip(weather(), 200), Flip(weather(), 200)
    async with road(read, **options()) as flip:
        assert (await flip.request("GET", "/v1/sites")).status_code == 200
    async with road(post, **options()) as flip:
        with pytest.raises(errors.OutcomeUnknownError, match="may have been carried out"):
            await flip.request("POST", "/v1/commission", body={})

    assert (len(read.requests), len(post.requests)) == (2, 1)


@ROADS
async def test_a_bug_passes_every_road_as_it_is(road: Road) -> None:
    bug = RuntimeError("mine")
    async with road(Flip(ExceptionGroup("", [OSError("weather"), bug])), **options()) as flip:
        with pytest.raises(RuntimeError, match="mine") as caught:
            await flip.request("GET", "/v1/sites")

    assert caught.value is bug


@ROADS
async def test_a_certificate_costs_one_attempt(road: Road) -> None:
    api = Flip(httpx.ConnectError(str(CERTIFICATE)), 200)
    async with road(api, **options()) as flip:
        with pytest.raises(errors.ConnectionFailedError, match="CERTIFICATE_VERIFY_FAILED"):
            await flip.request("GET", "/v1/sites")

    assert len(api.requests) == 1


async def test_a_certificate_of_the_token_host_costs_one_attempt() -> None:
    """And is told (C14)."""
    host = Flip(httpx.ConnectError(str(CERTIFICATE)))
    async with httpx.AsyncClient(transport=httpx.MockTransport(host)) as http:
        auth = ClientCredentialsAuth(CLIENT_ID, CLIENT_SECRET, http_client=http)
        with pytest.raises(errors.TokenUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            await auth.token()

    assert len(host.requests) == 1


@ROADS
async def test_an_error_of_the_protocol_shows_no_key(road: Road) -> None:
    """Of ours or of the server's: both may quote a header."""
    echo = f"Illegal header value b'Bearer {KEY}'"
    for error in (httpx.LocalProtocolError(echo), httpx.RemoteProtocolError(echo)):
        async with road(Flip(error), **options()) as flip:
            with pytest.raises(errors.ConnectionFailedError) as caught:
                await flip.request("GET", "/v1/sites")
        assert KEY not in f"{caught.value} {caught.value!r}"
        assert KEY not in f"{caught.value.__cause__} {caught.value.__context__}"


# Hooks of a user's client


@contextlib.asynccontextmanager
async def with_a_hook(transport: httpx.AsyncBaseTransport) -> AsyncIterator[httpx.AsyncClient]:
    async def hook(response: httpx.Response) -> None:
        response.raise_for_status()

    async with httpx.AsyncClient(transport=transport, event_hooks={"response": [hook]}) as http:
        yield http


async def test_a_wrong_secret_costs_one_token_request_although_a_hook_raises() -> None:
    """The hook's error is its answer."""
    host = Flip(lambda: httpx.Response(401, json={"error": "invalid_client"}))
    async with (
        with_a_hook(httpx.MockTransport(host)) as http,
        FlipClient(
            environment=PRODUCTION, client_id="id", client_secret="wrong", http_client=http
        ) as flip,
    ):
        with pytest.raises(errors.TokenRequestError) as caught:
            await flip.request("GET", "/v1/sites")

    assert caught.value.status_code == 401
    assert len(host.requests) == 1


async def test_a_404_that_a_hook_raises_is_a_404() -> None:
    async with (
        with_a_hook(httpx.MockTransport(Flip(404))) as http,
        FlipClient(http_client=http, **options()) as flip,
    ):
        with pytest.raises(errors.NotFoundError) as caught:
            await flip.request("GET", "/v1/sites")

    assert caught.value.response.status_code == 404
    assert not isinstance(caught.value.__cause__, httpx.HTTPStatusError)


@pytest.mark.parametrize("streams", [False, True])
async def test_a_503_that_a_hook_raises_is_repeated(streams: bool) -> None:
    """Also where httpx has closed it unread."""

    def busy() -> httpx.Response:
        return httpx.Response(503, stream=Body(b"{}")) if streams else httpx.Response(503, json={})

    api = Flip(busy, 200)
    async with (
        with_a_hook(httpx.MockTransport(api)) as http,
        FlipClient(http_client=http, **options()) as flip,
    ):
        assert (await flip.request("POST", "/v1/commission", body={})).status_code == 200

    assert len(api.requests) == 2


async def test_a_401_that_a_hook_raises_is_cured(fake: FakeFlip) -> None:
    """With one token, as without the hook [A5]."""
    async with (
        with_a_hook(fake) as http,
        FlipClient(
            environment=PRODUCTION,
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            http_client=http,
        ) as flip,
    ):
        await flip.request("GET", "/v1/sites")
        fake.revoke()
        response = await flip.request("GET", "/v1/sites")

    assert response.status_code == 200
    assert fake.tokens_asked == 2
    assert fake.carried == ["at_1", "at_1", "at_2"]


# Answers that cannot be read


class Body(httpx.AsyncByteStream):
    """Comes in pieces; says how many were taken, and may fail when it is closed."""

    def __init__(self, *pieces: bytes, close: Exception | None = None) -> None:
        self.pieces = iter(pieces)
        self.close = close
        self.taken = self.closed = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            self.taken += 1
            yield piece

    async def aclose(self) -> None:
        self.closed += 1
        if self.close is not None:
            raise self.close


def packed(status: int, *pieces: bytes, coding: str = "gzip") -> Callable[[], httpx.Response]:
    return lambda: httpx.Response(
        status, headers={"Content-Encoding": coding}, stream=Body(*pieces)
    )


@ROADS
@pytest.mark.parametrize(("method", "is_unknown"), [("POST", True), ("GET", False)])
async def test_a_broken_body_of_a_success_was_carried_out(
    road: Road, method: Any, is_unknown: bool
) -> None:
    """`outcome_unknown` where twice would be once too often; never repeated."""
    api = Flip(packed(200, b"{}"))
    async with road(api, **options()) as flip:
        with pytest.raises(errors.DecodeError, match="no gzip") as caught:
            await flip.request(method, "/v1/commission")

    assert caught.value.outcome_unknown is is_unknown
    assert caught.value.document_path is None
    assert caught.value.response.content == b"{}"
    assert (caught.value.method, caught.value.path) == (method, "/v1/commission")
    assert len(api.requests) == 1


@ROADS
async def test_an_error_status_with_a_broken_body_is_still_that_status(road: Road) -> None:
    """The status tells enough: a 503 is repeated, a 404 is a 404."""
    api = Flip(packed(503, b"{}"), packed(404, b"{}"))
    async with road(api, **options()) as flip:
        with pytest.raises(errors.NotFoundError) as caught:
            await flip.request("GET", "/v1/sites")

    assert caught.value.response.content == b"{}"
    assert len(api.requests) == 2


@ROADS
async def test_a_whole_answer_in_gzip_is_read(road: Road) -> None:
    async with road(Flip(packed(200, gzip.compress(b'["x"]'))), **options()) as flip:
        response = await flip.request("GET", "/v1/sites")

    assert response.json() == ["x"]


MIB = 1024 * 1024


@ROADS
@pytest.mark.parametrize("coding", ["gzip", "gzip, gzip"])
async def test_an_answer_that_inflates_without_end_is_cut_off(road: Road, coding: str) -> None:
    """Before it fills the memory, packed once or twice."""
    bomb = gzip.compress(b" " * 64 * MIB, compresslevel=1)
    if coding == "gzip, gzip":
        bomb = gzip.compress(bomb)
    api = Flip(packed(200, bomb, coding=coding))
    async with road(api, max_response_bytes=MIB, **options()) as flip:
        tracemalloc.start()
        try:
            with pytest.raises(errors.DecodeError, match="more than 1,048,576 bytes") as caught:
                await flip.request("POST", "/v1/commission", body={})
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert caught.value.outcome_unknown
    assert peak < 16 * MIB
    assert len(api.requests) == 1


@ROADS
async def test_an_answer_that_never_ends_is_cut_off(road: Road) -> None:
    """And its stream is closed; what follows is not taken."""
    body = Body(*[b"x" * 1000] * 10_000)
    api = Flip(lambda: httpx.Response(200, stream=body), 200)
    async with road(api, max_response_bytes=10_000, **options()) as flip:
        with pytest.raises(errors.DecodeError, match="more than 10,000 bytes"):
            await flip.request("GET", "/v1/sites")
        assert (await flip.request("GET", "/v1/sites")).status_code == 200

    assert body.taken == 11
    assert body.closed


@ROADS
async def test_an_answer_of_just_the_limit_is_read(road: Road) -> None:
    text = b"[" + b" " * 9_998 + b"]"
    api = Flip(lambda: httpx.Response(200, stream=Body(text)), packed(200, gzip.compress(text)))
    async with road(api, max_response_bytes=10_000, **options()) as flip:
        for _ in range(2):
            assert (await flip.request("GET", "/v1/sites")).json() == []


async def test_a_token_that_inflates_without_end_is_cut_off() -> None:
    """A token's answer is small."""
    host = Flip(packed(200, gzip.compress(b" " * 8 * MIB)))
    async with httpx.AsyncClient(transport=httpx.MockTransport(host)) as http:
        auth = ClientCredentialsAuth(CLIENT_ID, CLIENT_SECRET, http_client=http)
        with pytest.raises(errors.TokenResponseError, match="more than"):
            await auth.token()

    assert len(host.requests) == 1


@ROADS
@pytest.mark.parametrize("trouble", [OSError("gone"), RuntimeError("odd"), httpx.CloseError("x")])
async def test_an_error_of_closing_throws_no_answer_away(road: Road, trouble: Exception) -> None:
    """It came whole: a POST above all must not be unknown."""
    body = Body(b'["x"]', close=trouble)
    api = Flip(lambda: httpx.Response(200, stream=body), 200)
    async with road(api, **options()) as flip:
        response = await flip.request("POST", "/v1/commission", body={})
        assert (await flip.request("GET", "/v1/sites")).status_code == 200

    assert response.json() == ["x"]
    assert body.closed == 1


# What follows for a call


@pytest.mark.parametrize(
    "harmless", [429, httpx.ConnectError("refused"), httpx.PoolTimeout("late")], ids=str
)
async def test_a_404_to_a_delete_that_was_not_carried_out_before_is_a_404(harmless: Any) -> None:
    api = Flip(harmless, 404)
    async with on_transport(api, **options()) as flip:
        with pytest.raises(errors.NotFoundError):
            await flip.request("DELETE", "/v1/site/a/device/no-such")

    assert len(api.requests) == 2


@pytest.mark.parametrize("lost", [httpx.ReadError("cut"), httpx.ReadTimeout("late"), 502], ids=str)
async def test_a_404_to_a_delete_whose_answer_was_lost_means_done(lost: Any) -> None:
    """[R1]."""
    api = Flip(lost, 404)
    async with on_transport(api, **options()) as flip:
        await flip.request("DELETE", "/v1/site/a/device/d")

    assert len(api.requests) == 2


@pytest.mark.parametrize("skew_s", [0, -86_400, 86_400])
async def test_a_date_to_come_back_at_is_measured_on_the_servers_clock(
    clock: ManualClock, skew_s: int
) -> None:
    """Ours may be a day off [B6]."""
    clock.jump_wall(skew_s)
    dates = {
        "Date": "Sun, 06 Nov 1994 08:49:30 GMT",
        "Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT",
    }
    once = options(retries=Retries(max_attempts=1))
    async with on_transport(
        Flip(lambda: httpx.Response(429, headers=dates)), clock=clock, **once
    ) as flip:
        with pytest.raises(errors.RateLimitError) as caught:
            await flip.request("GET", "/v1/sites")

    assert caught.value.retry_after_s == 7


@pytest.fixture
def told() -> list[RetryEvent]:
    return []


def _callbacks() -> Iterator[Any]:
    async def later(told: list[RetryEvent], event: RetryEvent) -> None:
        await asyncio.sleep(0)
        told.append(event)

    def raising(told: list[RetryEvent], event: RetryEvent) -> None:
        told.append(event)
        raise RuntimeError("a bug of the user")

    async def raising_later(told: list[RetryEvent], event: RetryEvent) -> None:
        raising(told, event)

    def cancelled(told: list[RetryEvent], event: RetryEvent) -> None:
        told.append(event)
        raise asyncio.CancelledError

    async def cancelled_later(told: list[RetryEvent], event: RetryEvent) -> None:
        cancelled(told, event)

    async def forever(told: list[RetryEvent], event: RetryEvent) -> None:
        told.append(event)
        await asyncio.Event().wait()

    yield list.append
    yield from (later, raising, raising_later, cancelled, cancelled_later, forever)


@pytest.mark.parametrize("callback", list(_callbacks()), ids=lambda callback: callback.__name__)
async def test_whoever_asks_is_told_of_each_retry(
    told: list[RetryEvent], clock: ManualClock, callback: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing that a callback raises changes what becomes of a call [B4]."""
    api = Flip(lambda: httpx.Response(503, headers={"Retry-After": "7"}), OSError("reset"), 200)
    retries = Retries(max_attempts=3, base_s=2)
    async with on_transport(
        api,
        clock=clock,
        on_retry=lambda event: callback(told, event),
        **options(retries=retries),
    ) as flip:
        call = asyncio.create_task(flip.request("GET", "/v1/sites"))
        await clock.pass_time(10)
        response = await call
        await settle()

    event = RetryEvent(method="GET", path="/v1/sites", attempt=1, reason="503", pause_s=7)
    second = RetryEvent(
        method="GET", path="/v1/sites", attempt=2, reason="OSError: reset", pause_s=2
    )
    assert response.status_code == 200
    assert told == [event, second]
    failures = [record for record in caplog.records if record.levelno == logging.ERROR]
    is_broken = callback.__name__.startswith(("raising", "cancelled"))
    assert len(failures) == (2 if is_broken else 0)


async def test_nobody_is_told_of_an_attempt_that_is_the_last(told: list[RetryEvent]) -> None:
    async with on_transport(Flip(503), on_retry=told.append, **options()) as flip:
        with pytest.raises(errors.ServerError):
            await flip.request("GET", "/v1/sites")

    assert [event.attempt for event in told] == [1, 2]


@pytest.mark.parametrize(("method", "is_unknown"), [("send", True), ("list", False)])
async def test_an_answer_that_is_not_what_it_should_be_leaves_a_post_unknown(
    method: str, is_unknown: bool
) -> None:
    """It was carried out, and what became of it stood in the answer [B2]."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text="<html>"))
    async with SandboxClient(api_key="fl_your_api_key", transport=transport) as flip:
        with pytest.raises(errors.DecodeError, match="HTML") as caught:
            if method == "send":
                await flip.supplements.create({})
            else:
                await flip.sites.list()

    assert caught.value.outcome_unknown is is_unknown
