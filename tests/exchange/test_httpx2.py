"""Flip over httpx2: a client of its, our credentials in it, and whose exceptions they are [E5]."""

import asyncio
import gzip
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpcore2
import httpx
import httpx2
import pytest

from flip_async import (
    PRODUCTION,
    ApiKeyAuth,
    ClientCredentialsAuth,
    FlipClient,
    Retries,
    SiteTokenAuth,
    errors,
)
from flip_async._transport._httpx2 import as_httpx
from flip_async.httpx2 import Httpx2Transport, for_httpx2
from tests.support import API, CLIENT_ID, CLIENT_SECRET

KEY = "fl_your_api_key"
NOT_FOR_EVER_S = 20.0
two_libraries = pytest.mark.skipif(
    httpx is httpx2, reason="httpx is an alias of httpx2 here, and nothing passes between the two"
)
AT_ONCE = Retries(base_s=0.001, cap_s=0.001)


class Flip(httpx2.AsyncBaseTransport):
    """The API and the OAuth host, below a client of httpx2's."""

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []
        self.bodies: list[bytes] = []
        self.answers: list[Any] = []
        self.tokens = 0
        self.valid = ""
        self.gate = asyncio.Event()
        self.gate.set()

    @property
    def to_api(self) -> list[httpx2.Request]:
        return [request for request in self.requests if request.url.path != "/token"]

    @property
    def to_token(self) -> list[httpx2.Request]:
        return [request for request in self.requests if request.url.path == "/token"]

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        # Not aread(): a network consumes it and keeps nothing.
        self.bodies.append(b"".join([part async for part in request.stream]))
        if request.url.path == "/token":
            self.tokens += 1
            await self.gate.wait()
            self.valid = f"at_{self.tokens}"
            token = {"access_token": self.valid, "token_type": "Bearer", "expires_in": 100}
            return httpx2.Response(200, json=token)
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            assert isinstance(answer, httpx2.Response)
            return answer
        bearer = request.headers["Authorization"].removeprefix("Bearer ")
        return httpx2.Response(200 if bearer in (self.valid, KEY) else 401, json=[])

    def client(self, **options: Any) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=self, **options)


@pytest.fixture
async def flip2() -> Flip:
    return Flip()


def credential() -> dict[str, Any]:
    return {"environment": PRODUCTION, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}


def with_key() -> dict[str, Any]:
    return {"environment": PRODUCTION, "api_key": KEY, "retries": AT_ONCE}


def site_token(value: str) -> httpx2.Response:
    token = {"site_access_token": value, "expires_at": "2040-01-01T00:00:00Z"}
    return httpx2.Response(200, json={"site_id": "hh-1042", **token})


# A client of httpx2's as http_client=


async def test_calls_and_token_requests_go_through_the_users_client(flip2: Flip) -> None:
    """And it is the user's to close."""
    async with flip2.client() as http:
        async with FlipClient(http_client=http, **credential()) as flip:
            answer = await flip.request("GET", "/v1/sites")
            assert await flip.sites.list() == []
        assert not http.is_closed

    assert type(answer) is httpx.Response
    assert [request.url.path for request in flip2.requests] == ["/token", "/v1/sites", "/v1/sites"]
    assert flip2.to_api[0].headers["Authorization"] == "Bearer at_1"


async def test_a_401_is_cured_with_one_token(flip2: Flip) -> None:
    """[A5]."""
    async with (
        flip2.client() as http,
        FlipClient(http_client=http, **credential()) as flip,
    ):
        await flip.request("GET", "/v1/sites")
        flip2.valid = "another"
        assert (await flip.request("GET", "/v1/sites")).status_code == 200

    assert flip2.tokens == 2


@two_libraries
async def test_headers_params_and_cookies_of_the_users_client_count(flip2: Flip) -> None:
    """Beside our query, which its params would replace in a URL; its auth does not."""
    async with (
        flip2.client(
            headers={"X-Team": "grid", "User-Agent": "team/1", "Accept-Encoding": "zstd"},
            params={"tenant": "a b"},
            cookies={"gateway": "7"},
            auth=("user", "password"),
            base_url="https://elsewhere.example",
        ) as http,
        FlipClient(http_client=http, **credential()) as flip,
    ):
        await flip.request("GET", "/v1/sites", query={"q": "ä ~/?&="})

    sent, token = flip2.to_api[0], flip2.to_token[0]
    assert sent.url.host == "api.flip.energy"
    assert sent.url.params.multi_items() == [("tenant", "a b"), ("q", "ä ~/?&=")]
    assert sent.headers["X-Team"] == "grid"
    assert sent.headers["User-Agent"] == "team/1"
    assert sent.headers["Accept"] == "application/json"
    assert sent.headers["Accept-Encoding"] == "gzip, deflate"  # httpx decodes
    assert sent.headers["Cookie"] == "gateway=7"
    assert sent.headers["Authorization"] == "Bearer at_1"
    # As a client of httpx's sends it: the token host gets what OAuth says, and no more.
    assert not {"x-team", "cookie", "authorization"} & set(token.headers)
    assert not token.url.query


async def test_our_user_agent_stands_where_the_user_chose_none(flip2: Flip) -> None:
    async with flip2.client() as http, FlipClient(http_client=http, **with_key()) as flip:
        await flip.request("GET", "/v1/sites")
        http.headers["User-Agent"] = "team/1"
        await flip.request("GET", "/v1/sites", extra_headers={"User-Agent": "this call"})

    agents = [request.headers["User-Agent"] for request in flip2.to_api]
    assert agents[0].startswith("flip_async/")
    assert agents[1] == "this call"


@pytest.mark.parametrize("path", ["/v1/~a/%7Eb/%2F/ä%20c", "/v1/a+b;c=d,e@f:g!$&'()*"])
@pytest.mark.parametrize("params", [{}, {"tenant": "1"}])
async def test_a_url_is_sent_as_it_is_written(
    flip2: Flip, path: str, params: dict[str, str]
) -> None:
    """Nothing is encoded twice, or otherwise, on its way into the other library."""
    request = httpx.Request("GET", f"{API}{path}?x=a+b%20c~%7E&x=2&empty=")
    request.headers["Authorization"] = f"Bearer {KEY}"
    async with flip2.client(params=params) as http:
        await Httpx2Transport(http).handle_async_request(request)

    sent = flip2.requests[0].url
    assert sent.raw_path.partition(b"?")[0] == request.url.raw_path.partition(b"?")[0]
    if not params:
        assert sent.raw_path == request.url.raw_path
    items = [*request.url.params.multi_items(), *params.items()]
    assert sorted(sent.params.multi_items()) == sorted(items)


@pytest.mark.parametrize("is_read", [False, True])
async def test_what_a_hook_raises_is_its_answer(flip2: Flip, is_read: bool) -> None:
    """`raise_for_status()` in a hook: a 503 is repeated, a 404 is a 404, a 401 is cured."""

    async def hook(response: httpx2.Response) -> None:
        if is_read:
            await response.aread()
        response.raise_for_status()

    packed = gzip.compress(json.dumps({"code": "NO", "message": "no such site"}).encode())
    headers = {"Content-Encoding": "gzip"}
    async with (
        flip2.client(event_hooks={"response": [hook]}) as http,
        FlipClient(http_client=http, retries=AT_ONCE, **credential()) as flip,
    ):
        flip2.answers = [httpx2.Response(503), httpx2.Response(401)]
        assert (await flip.request("GET", "/v1/sites")).json() == []
        flip2.answers = [httpx2.Response(404, headers=headers, stream=Pieces(packed))]
        with pytest.raises(errors.NotFoundError) as caught:
            await flip.request("GET", "/v1/sites/hh-1042")

    assert type(caught.value.response) is httpx.Response
    assert caught.value.response.content == (gzip.decompress(packed) if is_read else b"")


async def test_a_hook_may_read_the_answer_first(flip2: Flip) -> None:
    """What it has read is not decoded twice."""

    async def hook(response: httpx2.Response) -> None:
        await response.aread()

    flip2.answers = [
        httpx2.Response(
            200, headers={"Content-Encoding": "gzip"}, stream=Pieces(gzip.compress(b'{"a":1}'))
        )
    ]
    async with (
        flip2.client(event_hooks={"response": [hook]}) as http,
        FlipClient(http_client=http, **with_key()) as flip,
    ):
        assert (await flip.request("GET", "/v1/x")).json() == {"a": 1}


class Pieces(httpx2.AsyncByteStream):
    def __init__(self, *pieces: bytes, fails: Exception | None = None) -> None:
        self.pieces = pieces
        self.fails = fails
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        if self.fails is not None:
            raise self.fails

    async def aclose(self) -> None:
        self.is_closed = True


async def test_a_closed_client_is_a_closed_client(flip2: Flip) -> None:
    """As with httpx: before a call, and as the token's own trouble."""
    http = flip2.client()
    auth = ClientCredentialsAuth(CLIENT_ID, CLIENT_SECRET, http_client=http, budget_s=0.01)
    async with FlipClient(http_client=http, **credential()) as flip:
        await http.aclose()
        with pytest.raises(errors.ClientClosedError, match="http_client that was given is closed"):
            await flip.request("GET", "/v1/sites")
        with pytest.raises(errors.TokenUnavailableError, match="http_client is closed"):
            await auth.token()


async def test_a_redirect_is_not_followed(flip2: Flip) -> None:
    """Wherever the user's client would go: the credential is for one host."""
    flip2.answers = [httpx2.Response(307, headers={"Location": "https://elsewhere.example"})]
    async with (
        flip2.client(follow_redirects=True) as http,
        FlipClient(http_client=http, **with_key()) as flip,
    ):
        with pytest.raises(errors.FlipError):
            await flip.request("GET", "/v1/sites")

    assert len(flip2.requests) == 1


async def test_both_auths_that_take_a_client_take_one_of_httpx2(flip2: Flip) -> None:
    async with flip2.client(auth=("user", "password")) as http:
        auth = ClientCredentialsAuth(CLIENT_ID, CLIENT_SECRET, http_client=http)
        await auth.token()
        flip2.answers = [site_token("st_1")]
        await SiteTokenAuth("hh-1042", auth=auth, http_client=http).token()

    assert "Authorization" not in flip2.to_token[0].headers
    assert flip2.to_api[0].url.path == "/v1/auth/site/hh-1042"


@pytest.mark.parametrize(
    "wrong", [httpx2.Client(), httpx2.AsyncHTTPTransport(), "http", object(), httpx2]
)
def test_whatever_else_is_no_http_client(wrong: Any) -> None:
    """In the words that say so of httpx's."""
    for make in (
        lambda: FlipClient(http_client=wrong, **with_key()),
        lambda: ClientCredentialsAuth(CLIENT_ID, CLIENT_SECRET, http_client=wrong),
        lambda: SiteTokenAuth("hh-1042", auth=ApiKeyAuth(KEY), http_client=wrong),
    ):
        with pytest.raises(errors.InvalidArgumentError, match="http_client: is an instance of"):
            make()


def test_a_transport_and_a_client_are_one_too_many() -> None:
    transport = Httpx2Transport()
    with pytest.raises(errors.ConfigurationError, match="http_client= and transport="):
        FlipClient(http_client=httpx2.AsyncClient(), transport=transport, **with_key())


def test_importing_us_loads_no_httpx2() -> None:
    """Nor does a client of httpx's that is given."""
    code = (
        "import sys, httpx; from flip_async import SandboxClient;"
        "SandboxClient(api_key='fl_your_api_key', http_client=httpx.AsyncClient());"
        "print('httpx2' in sys.modules, 'httpcore2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "False"]


def test_a_missing_httpx2_is_told_with_the_way_out() -> None:
    code = "import sys; sys.modules['httpx2'] = None; import flip_async.httpx2"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert "pip install 'flip-async[httpx2]'" in done.stderr


# The transport's arguments


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"client": httpx2.Client()}, "client: is an instance of httpx2.AsyncClient"),
        ({"verify": True}, "verify: is an instance of ssl.SSLContext"),
        ({"verify": "/ca.pem"}, "verify: is an instance of ssl.SSLContext"),
        ({"proxy": 3128}, "proxy: is a str or an httpx.Proxy, not int"),
        ({"http2": "no"}, "http2: is True or False"),
        ({"max_connections": 0}, "max_connections: is at least 1"),
        ({"max_connections": 1.5}, "max_connections: is a whole number"),
        ({"keepalive_s": 0}, "keepalive_s: is above 0"),
        ({"keepalive_s": None}, "keepalive_s: is a number of seconds"),
    ],
)
def test_an_argument_that_cannot_be_is_told_by_its_name(
    arguments: dict[str, Any], says: str
) -> None:
    """And a proxy's password by nobody [B5]."""
    with pytest.raises(errors.InvalidArgumentError) as caught:
        Httpx2Transport(**arguments)

    assert says in str(caught.value)
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)},
        {"proxy": "http://user:hunter22@proxy:3128"},
        {"http2": True},
        {"max_connections": 3},
        {"keepalive_s": 1},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_what_a_client_decides_itself_is_not_given_beside_it(arguments: dict[str, Any]) -> None:
    name = next(iter(arguments))
    with pytest.raises(errors.ConfigurationError, match=f"client= and {name}= given"):
        Httpx2Transport(httpx2.AsyncClient(), **arguments)


def test_http2_without_its_package_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(errors.ConfigurationError, match="pip install 'httpx2\\[http2\\]'"):
        Httpx2Transport(http2=True)


# Exceptions

REQUEST = httpx.Request("GET", API, headers={"Authorization": "Bearer s3cr3t_token"})


def kinds_of(module: Any) -> list[type[Exception]]:
    return [
        thing
        for thing in vars(module).values()
        if isinstance(thing, type)
        and issubclass(thing, Exception)
        and not issubclass(thing, Warning)
        and getattr(httpx, thing.__name__, thing) is not thing
    ]


@pytest.mark.parametrize("kind", kinds_of(httpx2) + kinds_of(httpcore2), ids=str)
def test_each_exception_has_its_namesake(kind: type[Exception]) -> None:
    """Its text and its cause are kept."""
    error = kind.__new__(kind)
    error.args = ("lost",)

    found = as_httpx(error, REQUEST)

    assert type(found) is getattr(httpx, kind.__name__)
    assert str(found) == "lost"
    assert found.__cause__ is error
    if isinstance(found, httpx.RequestError):
        assert found.request is REQUEST


@two_libraries
def test_an_exception_of_a_users_own_kind_is_what_it_is_made_of() -> None:
    class Lost(httpx2.ReadError):
        pass

    assert type(as_httpx(Lost("lost"), REQUEST)) is httpx.ReadError


@pytest.mark.parametrize("error", [OSError("x"), RuntimeError("x"), httpx.ReadError("x")])
def test_what_is_not_of_httpx2_is_left_alone(error: Exception) -> None:
    assert as_httpx(error, REQUEST) is None


@two_libraries
def test_an_exception_that_quotes_the_token_is_cut_and_has_no_cause() -> None:
    """[B10]."""
    found = as_httpx(httpx2.LocalProtocolError("Illegal header b'Bearer s3cr3t_token'"), REQUEST)

    assert str(found) == "Illegal header b'Bearer ***'"
    assert found is not None
    assert found.__cause__ is None


async def test_weather_below_is_repeated_for_a_read_and_unknown_for_a_post(flip2: Flip) -> None:
    """Whether it comes with the headers or within the body [R1]."""
    async with flip2.client() as http, FlipClient(http_client=http, **with_key()) as flip:
        broken = httpx2.Response(200, stream=Pieces(b"[", fails=httpx2.ReadError("lost")))
        flip2.answers = [httpx2.ConnectError("no"), broken]
        assert (await flip.request("GET", "/v1/sites")).json() == []
        flip2.answers = [httpx2.ReadTimeout("slow")]
        with pytest.raises(errors.OutcomeUnknownError, match="may have been carried out") as post:
            await flip.request("POST", "/v1/commission", body={})
        flip2.answers = [httpx2.ConnectTimeout("slow")] * 3
        assert (await flip.request("POST", "/v1/commission", body={})).status_code == 200

    assert "ReadTimeout: slow" in str(post.value)
    assert len(flip2.to_api) == 3 + 1 + 4


async def test_a_bug_below_passes_as_it_is(flip2: Flip) -> None:
    bug = RuntimeError("mine")
    flip2.answers = [bug]
    async with flip2.client() as http, FlipClient(http_client=http, **with_key()) as flip:
        with pytest.raises(RuntimeError, match="mine") as caught:
            await flip.request("GET", "/v1/sites")

    assert caught.value is bug


async def test_an_httpx_client_over_it_streams_both_ways(flip2: Flip) -> None:
    """A body that comes in pieces goes so, and an answer that is left early is closed."""
    body = Pieces(b"a" * 10, b"b" * 10)
    flip2.answers = [httpx2.Response(200, stream=body)]

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"
        yield b"y"

    async with flip2.client() as inner:
        async with httpx.AsyncClient(transport=Httpx2Transport(inner)) as http:
            async with http.stream("POST", API, content=pieces()) as response:
                async for part in response.aiter_raw():
                    assert part == b"a" * 10
                    break
            assert body.is_closed
        assert not inner.is_closed

    assert flip2.bodies == [b"xy"]
    assert flip2.requests[0].headers["Transfer-Encoding"] == "chunked"
    assert flip2.requests[0].headers["User-Agent"].startswith(f"python-{httpx.__name__}/")


# Our credentials in a client of httpx2's


async def test_one_refresh_serves_clients_of_both_libraries(flip2: Flip) -> None:
    """One life cycle: 40 requests that meet a 401 in both worlds cost one token [A5]."""
    async with (
        flip2.client() as tokens,
        ClientCredentialsAuth(CLIENT_ID, CLIENT_SECRET, http_client=tokens) as auth,
        flip2.client(auth=for_httpx2(auth), base_url=API) as new,
        httpx.AsyncClient(transport=Httpx2Transport(tokens), auth=auth, base_url=API) as old,
    ):
        assert (await new.get("/v1/sites")).status_code == 200
        assert (await old.get("/v1/sites")).status_code == 200
        assert flip2.tokens == 1
        flip2.valid = "another"
        async with asyncio.timeout(NOT_FOR_EVER_S):
            answers = await asyncio.gather(
                *(http.get("/v1/sites") for http in (new, old) for _ in range(20))
            )

    assert {answer.status_code for answer in answers} == {200}
    assert {type(answer) for answer in answers} == {httpx.Response, httpx2.Response}
    assert flip2.tokens == 2


async def test_each_of_our_auths_works_in_a_client_of_httpx2(flip2: Flip) -> None:
    """And the `auth` of a client of ours."""
    async with flip2.client() as http, FlipClient(http_client=http, **credential()) as flip:
        site = SiteTokenAuth("hh-1042", auth=ApiKeyAuth(KEY), http_client=http)
        for auth in (ApiKeyAuth(KEY), flip.auth, site):
            if auth is site:
                flip2.answers = [site_token(KEY)]
            async with flip2.client(auth=for_httpx2(auth)) as mine:
                assert (await mine.get(f"{API}/v1/sites")).status_code == 200


@pytest.mark.parametrize(
    "wrong", [httpx.BasicAuth("a", "b"), httpx2.BasicAuth("a", "b"), None, KEY, ("a", "b")]
)
def test_no_other_auth_is_taken(wrong: Any) -> None:
    says = "auth: is an ApiKeyAuth, a ClientCredentialsAuth or a SiteTokenAuth, not"
    with pytest.raises(errors.InvalidArgumentError, match=says):
        for_httpx2(wrong)


def test_a_sync_client_is_refused() -> None:
    """[A16]."""
    with (
        httpx2.Client(auth=for_httpx2(ApiKeyAuth(KEY))) as http,
        pytest.raises(errors.ConfigurationError, match="ApiKeyAuth works in an httpx2.AsyncClient"),
    ):
        http.get(f"{API}/v1/sites")


async def test_the_credential_stays_with_its_hosts(flip2: Flip) -> None:
    """And the error comes out as it is, not wrapped in one of httpx2's [A13]."""
    async with flip2.client(auth=for_httpx2(ApiKeyAuth(KEY))) as http:
        with pytest.raises(errors.ConfigurationError, match="does not go to https://elsewhere"):
            await http.get("https://elsewhere.example")

    assert flip2.requests == []


async def test_a_body_that_is_gone_is_not_sent_again(flip2: Flip) -> None:
    """The 401 is the caller's, with a note; bytes are sent again [A14]."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"{}"

    async with (
        flip2.client() as tokens,
        ClientCredentialsAuth(CLIENT_ID, CLIENT_SECRET, http_client=tokens) as auth,
        flip2.client(auth=for_httpx2(auth), base_url=API) as http,
    ):
        await http.get("/v1/sites")
        flip2.answers = [httpx2.Response(401)]
        gone = await http.post("/v1/sites", content=pieces())
        flip2.answers = [httpx2.Response(401)]
        again = await http.post("/v1/sites", content=b"{}")

    assert gone.status_code == 401
    assert "its body is a stream" in gone.extensions["flip_async"]
    assert again.status_code == 200


async def test_leaving_a_flow_early_ends_ours(flip2: Flip) -> None:
    """A request that fails or is cancelled leaves no generator of ours open."""
    flip2.answers = [httpx2.ReadError("lost")]
    async with flip2.client(auth=for_httpx2(ApiKeyAuth(KEY))) as http:
        with pytest.raises(httpx2.ReadError):
            await http.get(f"{API}/v1/sites")
        assert (await http.get(f"{API}/v1/sites")).status_code == 200


def test_no_secret_is_in_a_repr() -> None:
    assert KEY not in repr(for_httpx2(ApiKeyAuth(KEY)))
    assert "hunter22" not in repr(Httpx2Transport(proxy="http://user:hunter22@proxy:3128"))
