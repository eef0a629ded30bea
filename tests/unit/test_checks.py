"""Every argument is checked by one module, in the same words everywhere [B5]."""

import asyncio
import enum
import functools
import math
import numbers
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

import flip_async
from flip_async import (
    SANDBOX,
    ApiKeyAuth,
    ClientCredentialsAuth,
    Environment,
    FlipClient,
    MemoryTokenStore,
    Pages,
    Retries,
    SandboxClient,
    SiteTokenAuth,
    Token,
)
from flip_async._checks import (
    check_async,
    check_callback,
    check_count,
    check_file_path,
    check_flag,
    check_headers,
    check_number,
    check_path,
    check_seconds,
    check_seconds_or_none,
    clean_bearer,
    clean_scope,
    clean_secret,
    path_segment,
    query_pairs,
)
from flip_async.errors import ConfigurationError, FlipError, InvalidArgumentError
from flip_async.httpx2 import Httpx2Transport, for_httpx2

KEY = "fl_your_secret_key"
HALF_A_PAIR = "h\udce9"
LONG = "a" * 70_000
HUGE = 10**400
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class State(enum.Enum):
    CALIFORNIA = "CA"
    PLACE = (1, 2)


class TextState(str, enum.Enum):  # noqa: UP042  # as users of older Pythons write it
    TEXAS = "TX"


class Level(enum.IntEnum):
    HIGH = 3


def _foreign(kind: type, **methods: Callable[..., object]) -> Any:
    """A number of somebody else's, as numpy's are: registered, and no `int` or `float`."""
    abstract = dict.fromkeys(kind.__abstractmethods__, lambda *_: NotImplemented)  # type: ignore[attr-defined]
    return type("Foreign", (kind,), {**abstract, "__hash__": lambda _: 1, **methods})()


INT64: Any = _foreign(numbers.Integral, __int__=lambda _: 7)
FLOAT32: Any = _foreign(numbers.Real, __float__=lambda _: 1.5)


# Queries


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("CA", ["CA"]),
        ("", [""]),
        (True, ["true"]),
        (False, ["false"]),
        (0, ["0"]),
        (-7, ["-7"]),
        (10**300, [str(10**300)]),
        (1.5, ["1.5"]),
        (Decimal("1.50"), ["1.50"]),
        (INT64, ["7"]),
        (FLOAT32, ["1.5"]),
        (State.CALIFORNIA, ["CA"]),
        (TextState.TEXAS, ["TX"]),
        (Level.HIGH, ["3"]),
        (MOMENT, ["2026-01-02T03:04:05Z"]),
        (
            MOMENT.astimezone(timezone(-timedelta(hours=5))),
            ["2026-01-01T22:04:05-05:00"],
        ),
        (None, []),
        ([], []),
        ([None, None], []),
        (["CA", None, "TX"], ["CA", "TX"]),
        ((1, True, State.CALIFORNIA), ["1", "true", "CA"]),
        ({"CA"}, ["CA"]),
        (frozenset({"CA"}), ["CA"]),
        (range(3), ["0", "1", "2"]),
    ],
)
def test_a_query_value_is_sent_as_the_reference_writes_it(value: object, sent: list[str]) -> None:
    """`None` is left out, a bool is true or false, an Enum its value, a datetime RFC 3339."""
    assert query_pairs({"q": value}) == [("q", text) for text in sent]


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        HUGE,
        -HUGE,
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        _foreign(numbers.Integral, __int__=lambda _: HUGE),
        _foreign(numbers.Real, __float__=lambda _: math.nan),
        MOMENT.replace(tzinfo=None),
        date(2026, 1, 2),
        timedelta(1),
        HALF_A_PAIR,
        State.PLACE,
        b"CA",
        {"a": 1},
        object(),
        str,
        lambda: "CA",
        (text for text in ("CA",)),
        1j,
        [["CA"]],
        ["CA", object()],
        ["CA", HALF_A_PAIR],
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_query_value_that_nobody_knows_to_write_is_refused(value: object) -> None:
    """It is not whatever `str()` makes of it; the error says which."""
    with pytest.raises(InvalidArgumentError) as caught:
        query_pairs({"state": value})

    assert caught.value.field == "query['state']"


@pytest.mark.parametrize("name", [1, None, b"q", HALF_A_PAIR])
def test_a_query_name_that_is_no_text_is_refused(name: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        query_pairs({name: "CA"})

    assert caught.value.field == "query"


# Paths


@pytest.mark.parametrize(
    ("site_id", "segment"),
    [
        ("hh-1042", "hh-1042"),
        ("a/b", "a%2Fb"),
        ("a b?c#d", "a%20b%3Fc%23d"),
        ("%2e%2e", "%252e%252e"),
        ("...", "..."),
        ("ä", "%C3%A4"),
        ("a\nb\\c", "a%0Ab%5Cc"),
    ],
)
def test_an_id_is_one_segment_whatever_is_in_it(site_id: str, segment: str) -> None:
    assert path_segment(site_id, "siteId") == segment


@pytest.mark.parametrize("site_id", ["", ".", "..", LONG, HALF_A_PAIR, None, 7, b"hh", ["hh"]])
def test_an_id_that_is_no_segment_is_refused(site_id: object) -> None:
    """By the name that users know it by, not by the reference's."""
    with pytest.raises(InvalidArgumentError) as caught:
        path_segment(site_id, "siteId")

    assert caught.value.field == "site_id"


@pytest.mark.parametrize("path", ["/", "/v1/sites", "/v1/site/a%2Fb", "/v1/site/ä", "/v1/a..b/"])
def test_a_path_of_the_api_is_taken(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "v1/sites",
        "//evil.example/",
        "https://evil.example/",
        "/v1/sites?limit=1",
        "/v1/sites#a",
        "/v1/site/../devices",
        "/v1/site/./devices",
        "/v1/site/%2e%2e/devices",
        "/v1/site/.%2E/devices",
        "/v1/site/%2E",
        "/v1\\sites",
        "/v1/sites\n",
        "/v1/\x00",
        "/v1/a b",
        "/v1/\x7f",
        "/v1/\x85",
        f"/v1/{LONG}",
        f"/v1/{HALF_A_PAIR}",
        None,
        b"/v1/sites",
        3,
    ],
    ids=lambda path: repr(path)[:30],
)
def test_a_path_that_is_none_is_refused(path: object) -> None:
    """Dots in any spelling would be another endpoint's path."""
    with pytest.raises(InvalidArgumentError) as caught:
        check_path(path)

    assert caught.value.field == "path"


# Headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-A": "b"},
        {"x_a!": "b c\td"},
        {"X-A": ""},
        {"Accept": "text/csv"},
        httpx.Headers({"X-A": "b"}),
    ],
)
def test_a_header_that_can_be_sent_is_taken(headers: object) -> None:
    check_headers(headers, field="extra_headers")


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"": "b"}, "extra_headers"),
        ({"X A": "b"}, "extra_headers"),
        ({"X-A\n": "b"}, "extra_headers"),
        ({"X-A:": "b"}, "extra_headers"),
        ({"X-Ä": "b"}, "extra_headers"),
        ({b"X-A": "b"}, "extra_headers"),
        ({5: "b"}, "extra_headers"),
        ({"X-A": " b"}, "extra_headers['X-A']"),
        ({"X-A": "b "}, "extra_headers['X-A']"),
        ({"X-A": "b\t"}, "extra_headers['X-A']"),
        ({"X-A": "b\r\nX-B: c"}, "extra_headers['X-A']"),
        ({"X-A": "b\x00"}, "extra_headers['X-A']"),
        ({"X-A": "ä"}, "extra_headers['X-A']"),
        ({"X-A": HALF_A_PAIR}, "extra_headers['X-A']"),
        ({"X-A": 5}, "extra_headers['X-A']"),
        ({"X-A": None}, "extra_headers['X-A']"),
        ({"Content-Length": "3"}, "extra_headers['Content-Length']"),
        ({"transfer-encoding": "chunked"}, "extra_headers['transfer-encoding']"),
        ({"HOST": "evil.example"}, "extra_headers['HOST']"),
        ({"Connection": "close"}, "extra_headers['Connection']"),
        ([("X-A", "b")], "extra_headers"),
        ("X-A: b", "extra_headers"),
        (None, "extra_headers"),
    ],
)
def test_a_header_that_breaks_the_request_is_refused(headers: object, field: str) -> None:
    """Before it is sent: the HTTP library would refuse it late, or smuggle a second one."""
    with pytest.raises(InvalidArgumentError) as caught:
        check_headers(headers, field="extra_headers")

    assert caught.value.field == field


def test_a_refused_header_shows_no_value() -> None:
    """It may be a credential [A17]."""
    with pytest.raises(InvalidArgumentError) as caught:
        check_headers({"X-Key": f"{KEY}\n"}, field="extra_headers")

    assert KEY not in str(caught.value)


@given(st.dictionaries(st.text(st.characters(), max_size=5), st.text(st.characters(), max_size=8)))
def test_whatever_header_passes_is_one_that_http_can_carry(headers: dict[str, str]) -> None:
    try:
        check_headers(headers, field="extra_headers")
    except InvalidArgumentError:
        return

    for name, value in headers.items():
        line = f"{name}: {value}"
        assert line.isascii()
        assert all(char.isprintable() or char == "\t" for char in line)
        assert value == value.strip()


# Numbers


@pytest.mark.parametrize(
    "value", [True, False, "3", "", None, b"3", math.nan, math.inf, -math.inf, HUGE, -HUGE, [3], 3j]
)
@pytest.mark.parametrize("check", [check_number, check_seconds])
def test_what_is_no_finite_number_is_refused(check: Callable[..., object], value: object) -> None:
    """A bool is an int to Python, and no number of seconds."""
    with pytest.raises(InvalidArgumentError) as caught:
        check(value, field="deadline_s")

    assert caught.value.field == "deadline_s"


@pytest.mark.parametrize("value", [True, "3", None, 3.0, math.nan, math.inf, Decimal(3), 0, -1])
def test_what_counts_nothing_is_refused(value: object) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_count(value, field="limit")

    assert caught.value.field == "limit"


@pytest.mark.parametrize("value", [0, 0.0, -0.0, -1, -1e-320])
def test_seconds_are_above_zero(value: float) -> None:
    with pytest.raises(InvalidArgumentError, match="deadline_s: is above 0"):
        check_seconds(value, field="deadline_s")


def test_a_number_within_its_limits_is_given_as_a_float() -> None:
    assert check_number(1, field="x", above=0, at_most=1) == 1.0
    assert isinstance(check_number(1, field="x"), float)
    assert check_seconds_or_none(None, field="x") is None


@given(st.integers() | st.floats())
def test_a_number_is_refused_or_finite_and_within_limits(value: float) -> None:
    try:
        number = check_number(value, field="x", above=-1, at_least=0, at_most=10)
    except InvalidArgumentError:
        assert not 0 <= value <= 10
    else:
        assert 0 <= number <= 10


# Flags


FLAGS: dict[str, Callable[[Any], object]] = {
    "Environment": lambda flag: Environment(
        name="x", api_url="http://flip:80", oauth_url="http://flip:80", insecure_http=flag
    ),
    "ApiKeyAuth": lambda flag: ApiKeyAuth(KEY, insecure_http=flag),
    "ClientCredentialsAuth": lambda flag: ClientCredentialsAuth("id", "s", insecure_http=flag),
    "SiteTokenAuth": lambda flag: SiteTokenAuth("hh", auth=ApiKeyAuth(KEY), insecure_http=flag),
}


@pytest.mark.parametrize("flag", ["no", "", "true", 0, 1, None, []])
@pytest.mark.parametrize("take", FLAGS.values(), ids=FLAGS)
def test_a_text_allows_no_insecure_http(take: Callable[[Any], object], flag: object) -> None:
    """`insecure_http="no"` is true to Python."""
    with pytest.raises(InvalidArgumentError) as caught:
        take(flag)

    assert caught.value.field == "insecure_http"


def test_a_text_keeps_no_token_fresh() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        ClientCredentialsAuth("id", "s", keep_fresh="no")  # type: ignore[arg-type]

    assert caught.value.field == "keep_fresh"


@pytest.mark.parametrize("flag", [True, False])
def test_a_flag_is_true_or_false(flag: bool) -> None:
    check_flag(flag, field="insecure_http")


# URLs


URLS: dict[str, Callable[[Any], object]] = {
    "api_url": lambda url: Environment(name="x", api_url=url, oauth_url=SANDBOX.oauth_url),
    "oauth_url": lambda url: Environment(name="x", api_url=SANDBOX.api_url, oauth_url=url),
    "token_url": lambda url: ClientCredentialsAuth("id", "s", token_url=url),
    "origins": lambda url: ApiKeyAuth(KEY, origins=[url]),
    "api_url of a site": lambda url: SiteTokenAuth("hh", auth=ApiKeyAuth(KEY), api_url=url),
}


@pytest.mark.parametrize(
    "url",
    [
        "https://flip.example:0",
        "https://flip.example:-1",
        "https://flip.example:65536",
        "https://flip.example:99999",
        "https://flip.example:port",
        f"http://127.0.0.1:{'9' * 5000}",
        "https://flip example",
        "https://flip%20.example",
        "https://flip\n.example",
        "https://flip\x00.example",
        "https://flip\x7f.example",
        "https://-.example\\@evil.example",
        "https://[::1",
        "https://[::1]]",
        "https://",
        "https:///token",
        f"https://{HALF_A_PAIR}.example",
        f"https://{LONG}.example",
        "flip.example",
        "",
        3,
        b"https://flip.example",
        httpx.URL("https://flip.example"),
    ],
    ids=lambda url: repr(url)[:40],
)
@pytest.mark.parametrize(("field", "take"), URLS.items(), ids=URLS)
def test_a_url_that_leads_nowhere_is_refused(
    field: str, take: Callable[[Any], object], url: object
) -> None:
    """When it is given, not when the first request fails."""
    with pytest.raises(ConfigurationError, match=field.partition(" ")[0]):
        take(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://flip.example",
        "https://flip.example:65535",
        "https://flip_staging.example.",
        "https://10.0.0.5:8443",
        "https://[2001:db8::1]:8443",
        "https://bücher.example",
        "http://localhost:1",
        "http://[::1]:8080",
    ],
)
@pytest.mark.parametrize("take", URLS.values(), ids=URLS)
def test_a_url_that_leads_somewhere_is_taken(take: Callable[[Any], object], url: str) -> None:
    take(url)


# Functions


CALLBACKS: dict[str, Callable[[Any], object]] = {
    "on_refresh": lambda function: ClientCredentialsAuth("id", "s", on_refresh=function),
    "on_refresh of a site": lambda function: SiteTokenAuth(
        "hh", auth=ApiKeyAuth(KEY), on_refresh=function
    ),
    "on_retry": lambda function: SandboxClient(api_key=KEY, on_retry=function),
}


@pytest.mark.parametrize("function", [1, True, "print", b"", [], object()])
@pytest.mark.parametrize(("field", "take"), CALLBACKS.items(), ids=CALLBACKS)
def test_a_callback_that_is_none_is_refused(
    field: str, take: Callable[[Any], object], function: object
) -> None:
    """When it is handed over, not when it is needed [B4]."""
    with pytest.raises(InvalidArgumentError) as caught:
        take(function)

    assert caught.value.field == field.partition(" ")[0]


async def _listen(event: object) -> None: ...


class _Listener:
    async def __call__(self, event: object) -> None: ...


@pytest.mark.parametrize("function", [None, print, _listen, _Listener(), functools.partial(print)])
@pytest.mark.parametrize("take", CALLBACKS.values(), ids=CALLBACKS)
def test_a_callback_may_be_sync_or_async(take: Callable[[Any], object], function: object) -> None:
    take(function)
    check_callback(function, field="on_retry")


@pytest.mark.parametrize("function", [_listen, _Listener(), functools.partial(_listen, 1)])
def test_what_has_to_be_awaited_can_be(function: object) -> None:
    check_async(function, field="handler")


@pytest.mark.parametrize("function", [print, functools.partial(print), _Listener, 1, None])
def test_what_cannot_be_awaited_is_refused(function: object) -> None:
    """It would block the event loop, or do nothing."""
    with pytest.raises(InvalidArgumentError) as caught:
        check_async(function, field="handler")

    assert caught.value.field == "handler"


# Credentials


CREDENTIALS: dict[str, Callable[[str], object]] = {
    "ApiKeyAuth": ApiKeyAuth,
    "ClientCredentialsAuth": lambda secret: ClientCredentialsAuth("id", secret),
    "api_key of a client": lambda key: SandboxClient(api_key=key),
    "client_secret of a client": lambda secret: SandboxClient(client_id="i", client_secret=secret),
    "api_key of a view": lambda key: SandboxClient(api_key=KEY).with_options(api_key=key),
    "a later key": lambda key: clean_bearer(key, field="api_key"),
    "a later secret": lambda secret: clean_secret(secret, field="client_secret"),
}


@pytest.mark.parametrize("quote", ['"', "'", "`"])
@pytest.mark.parametrize("take", CREDENTIALS.values(), ids=CREDENTIALS)
def test_a_credential_in_quotes_is_refused_with_a_word_about_them(
    take: Callable[[str], object], quote: str
) -> None:
    """An env file that was not read as such; the server's refusal would not tell."""
    with pytest.raises(ConfigurationError, match="quotes") as caught:
        take(f" {quote}{KEY}{quote}\n")

    assert KEY not in str(caught.value)


@pytest.mark.parametrize("key", ["a", '"', 'fl_"a"', "'fl", f"  {KEY}\n"])
def test_a_credential_that_has_a_quote_inside_is_taken(key: str) -> None:
    assert clean_bearer(key, field="api_key").reveal() == key.strip()
    assert clean_secret(key, field="client_secret").reveal() == key.strip()


@pytest.mark.parametrize("scope", ['a"b', "a\\b", "ä", "a\x07b", "", " ", [], [""], [3], 3, {"a"}])
def test_a_scope_that_is_none_is_refused(scope: object) -> None:
    with pytest.raises(ConfigurationError, match="scope"):
        clean_scope(scope)


PACKAGE = Path(flip_async.__file__).parent


def shown_by_the_traceback_of(error: BaseException | None) -> str:
    """What pytest's default, or an error tracker, prints of our frames."""
    shown = []
    while error is not None:
        trace = error.__traceback__
        while trace is not None:
            if PACKAGE in Path(trace.tb_frame.f_code.co_filename).parents:
                shown += [repr(value) for value in trace.tb_frame.f_locals.values()]
            trace = trace.tb_next
        error = error.__cause__ or error.__context__
    return " ".join(shown)


BAD = f"{KEY}\x07"
REFUSED: dict[str, tuple[dict[str, str], Callable[[], object]]] = {
    "key": ({}, lambda: ApiKeyAuth(f"{KEY}\n{KEY}")),
    "key in quotes": ({}, lambda: ApiKeyAuth(f'"{KEY}"')),
    "secret": ({}, lambda: ClientCredentialsAuth("i", BAD)),
    "beside a wrong number": ({}, lambda: ClientCredentialsAuth("i", KEY, refresh_ratio=2)),
    "beside a wrong URL": ({}, lambda: ClientCredentialsAuth("i", KEY, token_url="x")),
    "beside a wrong origin": ({}, lambda: ApiKeyAuth(KEY, origins=["x"])),
    "key of a client": ({}, lambda: SandboxClient(api_key=BAD)),
    "secret of a client": ({}, lambda: SandboxClient(client_id="i", client_secret=BAD)),
    "two of a client": ({}, lambda: SandboxClient(api_key=KEY, client_id="i", client_secret=KEY)),
    "beside a wrong time": ({}, lambda: SandboxClient(api_key=KEY, timeout=-1)),
    "of a view": ({}, lambda: SandboxClient(api_key="k").with_options(api_key=BAD)),
    "half of a view": ({}, lambda: SandboxClient(api_key="k").with_options(client_secret=KEY)),
    "variable": ({"FLIP_API_KEY": BAD}, SandboxClient),
    "no environment": ({"FLIP_API_KEY": KEY}, FlipClient),
    "half a pair of variables": ({"FLIP_CLIENT_SECRET": KEY}, SandboxClient),
    "two in variables": (
        {"FLIP_API_KEY": KEY, "FLIP_CLIENT_ID": "i", "FLIP_CLIENT_SECRET": KEY},
        SandboxClient,
    ),
}


@pytest.mark.parametrize(("variables", "make"), REFUSED.values(), ids=REFUSED)
def test_no_local_of_ours_shows_a_credential_that_was_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], make: Callable[[], object]
) -> None:
    """It is wrapped where it enters, and every local has a repr [B10]."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(FlipError) as caught:
        make()

    assert KEY not in f"{caught.value!r}"
    assert KEY not in shown_by_the_traceback_of(caught.value)


# Anything at all


LOOP: list[object] = []
LOOP.append(LOOP)


def deep() -> list[object]:
    """A list in a list in a list, which has no repr."""
    inner: list[object] = []
    for _ in range(2_000):
        inner = [inner]
    return inner


NUMBERS: st.SearchStrategy[object] = st.one_of(
    st.integers(),
    st.floats(),
    st.decimals(),
    st.fractions(-9, 9, max_denominator=9),
    st.complex_numbers(),
    st.sampled_from([HUGE, -HUGE, 2**63, 1e-320, INT64, FLOAT32]),
)
TEXTS: st.SearchStrategy[object] = st.one_of(
    st.text(st.characters()),  # with half pairs
    st.from_regex(r"(https?://|/v1/|//|)[a-z0-9:@%./?#\\ \n\[\]-]{0,12}", fullmatch=True),
    st.sampled_from([KEY, HALF_A_PAIR, LONG, f"/{LONG}", f"https://{LONG}", "GET", "client", "no"]),
)
OTHERS: st.SearchStrategy[object] = st.one_of(
    st.none(),
    st.booleans(),
    st.binary(max_size=5),
    st.dates(),
    st.datetimes() | st.datetimes(timezones=st.just(UTC)),
    st.sampled_from([*State, *TextState, *Level, State, object(), int, print, ..., range(3)]),
    st.sampled_from(
        [httpx.Auth(), httpx.Timeout(-1), httpx.Timeout(math.nan), httpx.Headers({"a": ""})]
    ),
    st.sampled_from([SANDBOX, Retries(), MemoryTokenStore(), ApiKeyAuth(KEY), b"".join]),
    st.sampled_from([LOOP, {"a": LOOP}]),
    st.builds(deep),
    st.builds(iter, st.just("ab")),
)
ATOMS = NUMBERS | TEXTS | OTHERS
ANYTHING = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner),
        st.dictionaries(st.text(st.characters(), max_size=5), inner, max_size=3),
        st.dictionaries(st.integers() | st.none() | st.binary(max_size=2), inner, max_size=2),
        st.frozensets(st.text(max_size=3), max_size=3),
    ),
    max_leaves=4,
)


def made(
    kind: Callable[..., object], *names: str, **given: Any
) -> dict[str, Callable[[Any], object]]:
    """Each argument of a constructor, as what takes a value for it."""
    return {f"{kind.__name__}({name})": _taking(kind, name, given) for name in names}


def _taking(kind: Callable[..., object], name: str, given: dict[str, Any]) -> Callable[[Any], None]:
    def take(value: object) -> None:
        kind(**{**given, name: value})

    return take


def make_view(**options: Any) -> FlipClient:
    return SandboxClient(api_key=KEY).with_options(**options)


CONSTRUCTORS: dict[str, Callable[[Any], object]] = {
    **made(
        Environment,
        *("name", "api_url", "oauth_url", "utility_url", "aggregator_url", "insecure_http"),
        name="x",
        api_url=SANDBOX.api_url,
        oauth_url=SANDBOX.oauth_url,
    ),
    **made(ApiKeyAuth, "key", "origins", "insecure_http", key=KEY),
    **made(
        ClientCredentialsAuth,
        *("client_id", "client_secret", "token_url", "origins", "scope", "refresh_ratio"),
        *("keep_fresh", "client_auth", "default_lifetime_s", "budget_s", "http_client"),
        *("token_store", "on_refresh", "insecure_http"),
        client_id="id",
        client_secret="s",
    ),
    **made(
        SiteTokenAuth,
        *("site_id", "auth", "api_url", "budget_s", "http_client", "token_store", "on_refresh"),
        *("origins", "insecure_http"),
        site_id="hh",
        auth=ApiKeyAuth(KEY),
    ),
    **made(
        SandboxClient,
        *("environment", "api_key", "scope", "timeout", "deadline_s", "retries", "http_client"),
        *("transport", "token_store", "on_retry", "max_response_bytes"),
        api_key=KEY,
    ),
    **made(SandboxClient, "client_id", "client_secret", client_id="id", client_secret="s"),
    **made(SandboxClient, "auth"),
    **made(
        Httpx2Transport,
        *("client", "verify", "proxy", "http2", "max_connections", "keepalive_s"),
    ),
    "for_httpx2": for_httpx2,
    **made(
        make_view, "timeout", "deadline_s", "retries", "api_key", "auth", "scope", "token_store"
    ),
    **made(make_view, "client_id", "client_secret", client_id="id", client_secret="s"),
    **made(
        Retries,
        *("max_attempts", "base_s", "cap_s", "retry_after_cap_s", "statuses", "safe_to_repeat"),
        "budget",
    ),
    **made(Token, "access_token", access_token="a", issued_at=1.0, lifetime_s=1.0),
    "Token.from_dict": Token.from_dict,
    "Token.from_dict(issued_at)": lambda value: (
        Token.from_dict({"access_token": "a", "issued_at": value, "lifetime_s": 1}).expires_at
    ),
    "Token.from_dict(lifetime_s)": lambda value: (
        Token.from_dict({"access_token": "a", "issued_at": 1, "lifetime_s": value}).expires_at
    ),
}


@settings(max_examples=150)
@given(value=ANYTHING)
@example(value=LOOP)
def test_whatever_a_constructor_is_given_it_works_or_says_why_not(value: object) -> None:
    """No bare `TypeError`, `ValueError`, `OverflowError` or `httpx.InvalidURL` comes out."""
    bare = {}
    for name, take in CONSTRUCTORS.items():
        try:
            take(value)
        except FlipError as error:
            assert str(error), name
        except Exception as error:
            bare[name] = error

    assert not bare


Call = Callable[[FlipClient, Any], Any]

CALLS: dict[str, Call] = {
    "method": lambda flip, value: flip.request(value, "/v1/x"),
    "path": lambda flip, value: flip.request("GET", value),
    "body": lambda flip, value: flip.request("POST", "/v1/x", body=value),
    "query": lambda flip, value: flip.request("GET", "/v1/x", query=value),
    "query value": lambda flip, value: flip.request("GET", "/v1/x", query={"q": value}),
    "query values": lambda flip, value: flip.request("GET", "/v1/x", query={"q": [value]}),
    "extra_query": lambda flip, value: flip.sites.list(extra_query=value),
    "extra_headers": lambda flip, value: flip.sites.list(extra_headers=value),
    "header": lambda flip, value: flip.sites.list(extra_headers={"X-A": value}),
    "timeout": lambda flip, value: flip.sites.list(timeout=value),
    "deadline_s": lambda flip, value: flip.sites.list(deadline_s=value),
    "token": lambda flip, value: flip.sites.list(token=value),
    "skip": lambda flip, value: flip.sites.list(skip=value),
    "limit": lambda flip, value: flip.sites.list(limit=value, max_items=1),
    "max_items": lambda flip, value: flip.sites.list(max_items=value),
    "site_id": lambda flip, value: flip.site(value).devices.list(),
    "site_id of a token": lambda flip, value: flip.site_tokens.create(value),
    "command_id": lambda flip, value: flip.commands.update_status(value, "OK"),
    "zip_code": lambda flip, value: flip.site("hh").programs.list(
        zip_code=value, device_type=value
    ),
    "status": lambda flip, value: flip.site("hh").events.list(status=value),
    "supplement": lambda flip, value: flip.supplements.create(value),
}


def answer(request: httpx.Request) -> httpx.Response:
    token = {"site_access_token": "st", "expires_at": "2026-01-01T00:00:00Z"}
    return httpx.Response(200, json=token if request.url.path.startswith("/v1/auth/") else [])


async def bare_errors_of_calls_with(value: object) -> dict[str, Exception]:
    bare = {}
    transport = httpx.MockTransport(answer)
    async with FlipClient(environment=SANDBOX, api_key=KEY, transport=transport) as flip:
        for name, call in CALLS.items():
            try:
                pending = call(flip, value)
                await (pending.collect() if isinstance(pending, Pages) else pending)
            except FlipError as error:
                assert str(error), name
            except Exception as error:
                bare[name] = error
    return bare


@settings(max_examples=150)
@given(value=ANYTHING)
@example(value=LONG * 2)
@example(value=LOOP)
def test_whatever_a_call_is_given_it_is_sent_or_says_why_not(value: object) -> None:
    """Nothing of the HTTP library's comes out, nor of the codec's."""
    assert not asyncio.run(bare_errors_of_calls_with(value))


@given(
    st.dictionaries(
        st.text(max_size=3),
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.lists(st.integers())
        ),
        max_size=3,
    )
)
def test_a_query_arrives_as_it_was_meant(query: dict[str, Any]) -> None:
    """Whatever is in its names and texts."""
    sent: list[httpx.Request] = []

    def keep(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json=[])

    async def ask() -> None:
        async with SandboxClient(api_key=KEY, transport=httpx.MockTransport(keep)) as flip:
            await flip.request("GET", "/v1/x", query=query)

    asyncio.run(ask())

    assert sent[0].url.params.multi_items() == query_pairs(query)


@pytest.mark.parametrize("value", [Fraction(1, 3), Fraction(7)])
def test_a_fraction_is_sent_as_a_number(value: Fraction) -> None:
    assert query_pairs({"q": value}) == [("q", str(float(value)))]


class _Path:
    def __init__(self, path: object) -> None:
        self._path = path

    def __fspath__(self) -> object:
        return self._path


@pytest.mark.parametrize("path", [None, 1, "", b"a", _Path(b"a"), _Path(""), "a\0b"])
def test_what_no_file_can_be_called_is_refused(path: object) -> None:
    with pytest.raises(InvalidArgumentError, match="path: is a str or an os.PathLike"):
        check_file_path(path)
