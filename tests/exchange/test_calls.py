"""The road of a call: retries, deadlines, errors, options [R1], [R2], [R6]."""

import asyncio
import logging
import pickle
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from flip_async import PRODUCTION, UNSET, FlipClient, Retries, errors
from flip_async._http._session import USER_AGENT
from flip_async.models import TelemetryPoint
from tests.support import API, ManualClock, json_of

KEY = "fl_your_api_key"
RESULTS = [{"status": "OK"}]
Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


class Api(httpx.AsyncBaseTransport):
    """Gives its answers in turn, and the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[httpx.Request] = []
        self.gate: asyncio.Event | None = None
        self.closed = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return httpx.Response(
                answer.status_code, headers=answer.headers, content=answer.content
            )
        return answer(request)

    async def aclose(self) -> None:
        self.closed += 1


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
async def flip(api: Api, clock: ManualClock) -> AsyncIterator[FlipClient]:
    async with FlipClient(environment=PRODUCTION, api_key=KEY, transport=api, clock=clock) as flip:
        yield flip


def point() -> TelemetryPoint:
    from datetime import UTC, datetime

    return TelemetryPoint(
        device_id="d", start_time=datetime(2025, 1, 1, tzinfo=UTC), duration_s=300
    )


async def sites(flip: FlipClient, **options: Any) -> list[str]:
    return [site.id for site in await flip.sites.list(**options)]


async def test_a_request_says_what_it_is(flip: FlipClient, api: Api) -> None:
    api.answers = [httpx.Response(200, json=[])]

    await sites(flip, extra_headers={"X-Mine": "yes"}, extra_query={"a": ["1", "2"], "b": True})

    request = api.requests[0]
    assert str(request.url) == f"{API}/v1/sites?a=1&a=2&b=true&skip=0&limit=100" or set(
        request.url.params.multi_items()
    ) == {("a", "1"), ("a", "2"), ("b", "true"), ("skip", "0"), ("limit", "100")}
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["User-Agent"] == USER_AGENT
    assert request.headers["Accept"] == "application/json"
    assert request.headers["Accept-Encoding"] == "gzip, deflate"
    assert request.headers["X-Mine"] == "yes"
    assert request.headers["Host"] == "api.flip.energy"
    assert request.extensions["timeout"] == {"connect": 5, "read": 30, "write": 30, "pool": 30}


async def test_a_body_goes_as_json(flip: FlipClient, api: Api) -> None:
    api.answers = [httpx.Response(200, json=RESULTS)]

    results = await flip.telemetry.send([point()])

    assert results[0].status == "OK"
    assert api.requests[0].headers["Content-Type"] == "application/json"
    assert json_of(api.requests[0])["telemetry"][0]["device_id"] == "d"


@pytest.mark.parametrize(
    "failure",
    [
        httpx.Response(503),
        httpx.Response(500),
        httpx.Response(429),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout(""),
        httpx.RemoteProtocolError("gone"),
    ],
)
async def test_a_read_is_tried_again(
    flip: FlipClient, api: Api, clock: ManualClock, failure: Answer
) -> None:
    """[R1]."""
    api.answers = [failure, httpx.Response(200, json=[])]
    call = asyncio.create_task(sites(flip))

    await clock.pass_time(1)

    assert await call == []
    assert len(api.requests) == 2


async def test_the_last_error_is_raised_with_the_attempts_made(
    flip: FlipClient, api: Api, clock: ManualClock
) -> None:
    api.answers = [httpx.Response(503, json={"message": "busy"})]
    call = asyncio.create_task(sites(flip))

    await clock.pass_time(10)

    with pytest.raises(errors.ServerError, match="busy") as caught:
        await call
    assert caught.value.attempts == 4 == len(api.requests)


async def test_a_retry_after_is_waited_for(flip: FlipClient, api: Api, clock: ManualClock) -> None:
    api.answers = [
        httpx.Response(429, headers={"Retry-After": "7"}),
        httpx.Response(200, json=[]),
    ]
    call = asyncio.create_task(sites(flip))

    await clock.pass_time(6.9)
    assert not call.done()
    await clock.pass_time(0.2)

    assert await call == []


@pytest.mark.parametrize(("retry_after", "deadline_s"), [("61", None), ("30", 20.0)])
async def test_a_pause_that_is_too_long_is_not_waited_for(
    flip: FlipClient, api: Api, retry_after: str, deadline_s: float | None
) -> None:
    """Above the cap, or past the deadline: the error comes at once."""
    api.answers = [httpx.Response(503, headers={"Retry-After": retry_after})]

    with pytest.raises(errors.ServerError) as caught:
        await sites(flip, deadline_s=deadline_s)

    assert caught.value.retry_after_s == float(retry_after)
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (httpx.ReadError("lost"), errors.OutcomeUnknownError),
        (httpx.ReadTimeout(""), errors.OutcomeUnknownError),
        (httpx.WriteError("lost"), errors.OutcomeUnknownError),
        (httpx.RemoteProtocolError("lost"), errors.OutcomeUnknownError),
        (httpx.LocalProtocolError("Illegal header"), errors.ConnectionFailedError),
    ],
)
async def test_a_post_without_an_answer_is_not_repeated(
    flip: FlipClient, api: Api, failure: Exception, kind: type[Exception]
) -> None:
    """It may have been carried out [R1], [R2]."""
    api.answers = [failure]

    with pytest.raises(kind) as caught:
        await flip.telemetry.send([point()])

    assert len(api.requests) == 1
    assert caught.value.__context__ is None
    assert pickle.loads(pickle.dumps(caught.value)).attempts == 1


@pytest.mark.parametrize("status", [500, 502, 504])
async def test_a_post_answered_so_may_have_been_carried_out(
    flip: FlipClient, api: Api, status: int
) -> None:
    """An answer is always a `StatusError`."""
    api.answers = [httpx.Response(status)]

    with pytest.raises(errors.ServerError) as caught:
        await flip.telemetry.send([point()])

    assert caught.value.outcome_unknown
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    "failure", [httpx.Response(429), httpx.Response(503), httpx.ConnectError("refused")]
)
async def test_a_post_that_was_not_carried_out_is_repeated(
    flip: FlipClient, api: Api, clock: ManualClock, failure: Answer
) -> None:
    api.answers = [failure, httpx.Response(200, json=RESULTS)]
    call = asyncio.create_task(flip.telemetry.send([point()]))

    await clock.pass_time(1)

    assert len(await call) == 1


async def test_a_post_that_the_user_marks_safe_is_repeated(api: Api, clock: ManualClock) -> None:
    retries = Retries(safe_to_repeat=frozenset({"POST /v1/telemetry/BATTERY"}))
    api.answers = [httpx.ReadError("lost"), httpx.Response(200, json=RESULTS)]
    async with FlipClient(
        environment=PRODUCTION, api_key=KEY, transport=api, clock=clock, retries=retries
    ) as flip:
        call = asyncio.create_task(flip.telemetry.send([point()]))
        await clock.pass_time(1)
        assert len(await call) == 1


async def test_all_calls_share_one_budget_of_retries(api: Api, clock: ManualClock) -> None:
    """A server that is down is not hit by every task at once."""
    api.answers = [httpx.Response(503)]
    async with FlipClient(
        environment=PRODUCTION, api_key=KEY, transport=api, clock=clock, retries=Retries(budget=10)
    ) as flip:
        calls = [asyncio.create_task(sites(flip)) for _ in range(100)]
        await clock.pass_time(20)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {errors.ServerError}
    assert len(api.requests) == 110


async def test_a_deadline_ends_a_read(flip: FlipClient, api: Api) -> None:
    """Nothing was carried out, or repeating is harmless; it is a `TimeoutError` too."""
    api.gate, api.answers = asyncio.Event(), [httpx.Response(200, json=[])]

    with pytest.raises(errors.DeadlineError, match=r"GET /v1/sites: no answer within 0\.02 s"):
        await sites(flip, deadline_s=0.02)


async def test_a_deadline_of_a_post_that_was_sent_leaves_the_outcome_unknown(
    flip: FlipClient, api: Api
) -> None:
    api.gate, api.answers = asyncio.Event(), [httpx.Response(200, json=RESULTS)]

    with pytest.raises(errors.OutcomeUnknownError, match="may have been carried out"):
        await flip.telemetry.send([point()], deadline_s=0.02)


async def test_a_deadline_of_a_post_that_waits_for_its_token_is_none(api: Api) -> None:
    """It was never sent."""

    async def slow_key() -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async with FlipClient(environment=PRODUCTION, api_key=slow_key, transport=api) as flip:
        with pytest.raises(errors.DeadlineError):
            await flip.telemetry.send([point()], deadline_s=0.02)

    assert not api.requests


async def test_a_post_that_was_refused_and_waits_for_a_token_has_no_unknown_outcome() -> None:
    """A 401 says that it was not carried out."""
    tokens = iter([200, 503])

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/token":
            body = {"access_token": "at", "token_type": "Bearer", "expires_in": 60}
            return httpx.Response(next(tokens, 503), json=body)
        return httpx.Response(401)

    async with FlipClient(
        environment=PRODUCTION,
        client_id="id",
        client_secret="secret",
        transport=httpx.MockTransport(answer),
        clock=ManualClock(),
    ) as flip:
        with pytest.raises(errors.DeadlineError):
            await flip.telemetry.send([point()], deadline_s=0.05)


async def test_a_tokens_error_says_which_call_it_failed(api: Api, clock: ManualClock) -> None:
    api.answers = [httpx.Response(401, json={"error": "invalid_client"})]
    async with FlipClient(
        environment=PRODUCTION, client_id="id", client_secret="secret", transport=api, clock=clock
    ) as flip:
        with pytest.raises(errors.TokenRequestError, match="^GET /v1/sites: ") as caught:
            await sites(flip)

    assert (caught.value.method, caught.value.path) == ("GET", "/v1/sites")


async def test_a_deadline_tells_why_there_is_no_token_yet(clock: ManualClock) -> None:
    """A bare "no answer" would send its reader to the wrong host."""

    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("down")

    async with FlipClient(
        environment=PRODUCTION,
        client_id="id",
        client_secret="secret",
        transport=httpx.MockTransport(answer),
        clock=clock,
    ) as flip:
        with pytest.raises(errors.DeadlineError, match="no token from https://oauth"):
            await sites(flip, deadline_s=0.05)


async def test_a_time_out_of_somebody_else_passes_through(flip: FlipClient, api: Api) -> None:
    """`asyncio.timeout` around a call is the user's own."""
    api.gate, api.answers = asyncio.Event(), [httpx.Response(200, json=[])]

    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.02):
            await sites(flip)

    assert not isinstance(caught.value, errors.FlipError)


@pytest.mark.parametrize("status", [301, 304, 307])
async def test_a_redirect_is_not_followed(flip: FlipClient, api: Api, status: int) -> None:
    """It is a `StatusError` [R2]."""
    api.answers = [httpx.Response(status, headers={"Location": "https://evil.example/"})]

    with pytest.raises(errors.StatusError) as caught:
        await sites(flip)

    assert caught.value.status_code == status
    assert len(api.requests) == 1


async def test_an_answer_that_cannot_be_read_is_a_decode_error(flip: FlipClient, api: Api) -> None:
    api.answers = [httpx.Response(200, json=[{"id": 5}])]

    with pytest.raises(errors.DecodeError) as caught:
        await sites(flip)

    assert caught.value.document_path == "$[0].id"
    assert (caught.value.method, caught.value.path) == ("GET", "/v1/sites")


async def test_a_broken_encoding_is_no_endless_retry(flip: FlipClient, api: Api) -> None:
    api.answers = [
        lambda request: httpx.Response(
            200,
            headers={"Content-Encoding": "gzip"},
            stream=httpx.ByteStream(b"nonsense"),
        )
    ]

    with pytest.raises(errors.DecodeError, match="its body is no gzip"):
        await sites(flip)

    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"timeout": -1}, "timeout"),
        ({"deadline_s": "x"}, "deadline_s"),
        ({"token": "mine"}, "token"),
        ({"token": "site"}, "token"),
        ({"extra_headers": 3}, "extra_headers"),
        ({"extra_headers": {"X": 1}}, "extra_headers['X']"),
        ({"extra_headers": {"X": "a\nb"}}, "extra_headers['X']"),
        ({"extra_query": 3}, "extra_query"),
    ],
)
async def test_an_option_that_cannot_be_is_refused(
    flip: FlipClient, api: Api, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        await sites(flip, **options)

    assert caught.value.field == field
    assert not api.requests


async def test_a_misspelt_option_is_a_type_error(flip: FlipClient) -> None:
    """It is not dropped in silence."""
    with pytest.raises(TypeError, match="deadlines"):
        await flip.telemetry.send([point()], deadlines=3)  # type: ignore[call-arg]


async def test_a_timeout_may_be_given_for_one_call(flip: FlipClient, api: Api) -> None:
    api.answers = [httpx.Response(200, json=[])]

    await sites(flip, timeout=3)
    await sites(flip, timeout=None)

    assert [request.extensions["timeout"]["read"] for request in api.requests] == [3, None]


async def test_an_id_is_percent_encoded(flip: FlipClient, api: Api) -> None:
    api.answers = [httpx.Response(404)]

    for site_id in ("a/b", "a b?c#d", "ü", "%2e%2e"):
        with pytest.raises(errors.NotFoundError):
            await flip.site(site_id).get(token="client")

    assert [request.url.raw_path for request in api.requests] == [
        b"/v1/site/a%2Fb",
        b"/v1/site/a%20b%3Fc%23d",
        b"/v1/site/%C3%BC",
        b"/v1/site/%252e%252e",
    ]


async def test_a_wrong_guess_of_the_token_does_not_block_a_user(flip: FlipClient, api: Api) -> None:
    """`token="client"` on a site's endpoint."""
    api.answers = [
        httpx.Response(
            200,
            json={
                "id": "a",
                "created_at": "2025-01-01T00:00:00Z",
                "updated_at": "2025-01-01T00:00:00Z",
            },
        )
    ]

    await flip.site("a").get(token="client")

    assert api.requests[0].headers["Authorization"] == f"Bearer {KEY}"


async def test_devices_get_the_id_of_their_site(flip: FlipClient, api: Api) -> None:
    from flip_async.models import CommissionSite
    from tests.unit.test_models import device

    api.answers = [httpx.Response(200, json={"programs": []})]
    devices = [device(), device(site_id="other")]

    await flip.sites.commission(CommissionSite(id="hh-1"), devices)

    body = json_of(api.requests[0])
    assert [sent["site_id"] for sent in body["devices"]] == ["hh-1", "other"]
    assert devices[0].site_id is UNSET
    with pytest.raises(errors.InvalidArgumentError, match="devices"):
        await flip.sites.commission(CommissionSite(id="hh-1"), device())  # type: ignore[arg-type]


async def test_a_users_client_builds_the_requests(clock: ManualClock) -> None:
    """Its headers, params and cookies count; its `base_url` and `auth` do not; it stays open."""
    api = Api()
    api.answers = [httpx.Response(200, json=[])]
    async with httpx.AsyncClient(
        transport=api,
        headers={"X-Trace": "1", "User-Agent": "mine/1.0", "Accept-Encoding": "identity"},
        params={"tenant": "a"},
        cookies={"c": "d"},
        auth=("user", "password"),
        base_url="https://elsewhere.example",
    ) as http:
        async with FlipClient(environment=PRODUCTION, api_key=KEY, http_client=http) as flip:
            await sites(flip)
        assert not http.is_closed

        request = api.requests[0]
        assert request.url.host == "api.flip.energy"
        assert request.url.params["tenant"] == "a"
        assert request.headers["X-Trace"] == "1"
        assert request.headers["User-Agent"] == "mine/1.0"
        assert request.headers["Accept-Encoding"] == "identity"
        assert request.headers["Cookie"] == "c=d"
        assert request.headers["Authorization"] == f"Bearer {KEY}"

    flip = FlipClient(environment=PRODUCTION, api_key=KEY, http_client=http)
    with pytest.raises(errors.ClientClosedError, match="http_client"):
        await sites(flip)


async def test_a_given_transport_carries_token_requests_too(clock: ManualClock) -> None:
    """So that a test's transport never lets a secret reach the real host."""
    api = Api()
    api.answers = [
        httpx.Response(200, json={"access_token": "at", "token_type": "Bearer", "expires_in": 60}),
        httpx.Response(200, json=[]),
    ]
    async with FlipClient(
        environment=PRODUCTION, client_id="id", client_secret="secret", transport=api, clock=clock
    ) as flip:
        await sites(flip)

    assert [request.url.host for request in api.requests] == [
        "oauth.flip.energy",
        "api.flip.energy",
    ]
    assert api.closed == 1


async def test_an_auth_of_the_users_own_is_used(api: Api) -> None:
    """Any `httpx.Auth`, and a deadline after sending is an unknown outcome there too."""
    api.answers = [httpx.Response(200, json=[])]
    async with FlipClient(
        environment=PRODUCTION, auth=httpx.BasicAuth("a", "b"), transport=api
    ) as flip:
        await sites(flip)
        assert api.requests[0].headers["Authorization"].startswith("Basic ")
        api.gate = asyncio.Event()
        with pytest.raises(errors.OutcomeUnknownError):
            await flip.telemetry.send([point()], deadline_s=0.02)


async def test_a_users_client_with_an_auth_of_their_own_is_taken_for_sent(api: Api) -> None:
    """Nobody tells us how far a request has come there."""
    api.answers, api.gate = [httpx.Response(200, json=RESULTS)], asyncio.Event()
    async with (
        httpx.AsyncClient(transport=api) as http,
        FlipClient(
            environment=PRODUCTION, auth=httpx.BasicAuth("a", "b"), http_client=http
        ) as flip,
    ):
        with pytest.raises(errors.OutcomeUnknownError):
            await flip.telemetry.send([point()], deadline_s=0.02)


async def test_a_bug_of_a_transport_passes_through(flip: FlipClient, api: Api) -> None:
    """A bug must look like a bug."""
    api.answers = [ZeroDivisionError()]
    with pytest.raises(ZeroDivisionError):
        await sites(flip)

    api.answers = [RuntimeError("mine")]
    with pytest.raises(RuntimeError, match="mine"):
        await sites(flip)


async def test_a_timeout_of_a_transport_is_weather(flip: FlipClient, api: Api) -> None:
    """An `OSError` as any other [B2]."""
    api.answers = [TimeoutError("mine")]
    with pytest.raises(errors.DeadlineError, match="TimeoutError: mine"):
        await sites(flip.with_options(retries=Retries(max_attempts=1)))


async def test_what_is_logged_has_no_secret_and_no_body(
    flip: FlipClient, api: Api, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """DEBUG for requests, WARNING for what is tried again [R8], [A17]."""
    caplog.set_level(logging.DEBUG)
    api.answers = [httpx.Response(503, text="a body"), httpx.Response(200, json=[])]
    call = asyncio.create_task(sites(flip))
    await clock.pass_time(1)
    await call

    ours = [record for record in caplog.records if record.name.startswith("flip_async")]
    assert [(record.name, record.levelname) for record in ours] == [
        ("flip_async.http", "DEBUG"),
        ("flip_async.http", "WARNING"),
        ("flip_async.http", "DEBUG"),
    ]
    assert "GET /v1/sites: 503, again in 0.25 s (attempt 1)" in caplog.text
    assert KEY not in caplog.text
    assert "a body" not in caplog.text
