"""FastAPI applications as people build them: factories, modules, mounts, two clients, strangers."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, WebSocket
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware

from flip_async import FlipClient, SandboxClient, errors
from flip_async.commands import CommandProcessor
from flip_async.emulator import Emulator
from flip_async.emulator._server import SocketServer
from flip_async.errors import FlipError
from flip_async.fastapi import (
    FlipDependency,
    FlipLifespan,
    flip_error_handler,
    flip_lifespan,
    get_flip_client,
    webhook_router,
)
from flip_async.models import Command
from flip_async.webhooks import EnrollmentEvent, Handlers, sign
from tests.support.webhooks import SECRET, body_of, example

ENROLLED = body_of("enrollment.updated", example("enrollment.updated")["event_object"])


def http_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app")


async def deliver(app: FastAPI, body: bytes = ENROLLED, *, webhook_id: str = "a") -> httpx.Response:
    headers = sign(body, SECRET, webhook_id=webhook_id, timestamp=datetime.now(UTC))
    async with http_of(app) as http:
        return await http.post("/webhooks/flip", content=body, headers=headers)


def answering(status: int = 200, name: str = "x", **options: Any) -> Callable[[], FlipClient]:
    """Makes clients of a Flip that answers everything alike."""

    def make() -> FlipClient:
        def answer(request: httpx.Request) -> httpx.Response:
            return httpx.Response(status, **options)

        return SandboxClient(api_key=f"fl_a_{name}", transport=httpx.MockTransport(answer))

    return make


# Factories and modules


async def ignore(command: Command) -> None: ...


async def test_an_application_factory_may_be_called_twice() -> None:
    """What a module has, handlers and a processor, is the same in both."""
    seen: list[str] = []
    handlers, processor = Handlers(), CommandProcessor(ignore, poll_every_s=None)

    @handlers.on("enrollment.updated")
    async def enrolled(event: EnrollmentEvent) -> None:
        seen.append(event.webhook_id)

    def make() -> FastAPI:
        app = FastAPI(lifespan=flip_lifespan(answering()))
        app.include_router(webhook_router(secret=SECRET, on=handlers, commands=processor))
        return app

    for app, webhook_id in ((make(), "a"), (make(), "b")):
        async with app.router.lifespan_context(app):
            assert (await deliver(app, webhook_id=webhook_id)).status_code == 204
            assert processor.is_running

    assert seen == ["a", "b"]
    assert repr(handlers) == "<Handlers enrollment.updated>"


async def test_two_applications_of_one_factory_run_at_once() -> None:
    lifespan, router = flip_lifespan(answering()), webhook_router(secret=SECRET)
    clients: list[FlipClient] = []

    def make() -> FastAPI:
        app = FastAPI(lifespan=lifespan)
        app.include_router(router)

        @app.get("/client")
        async def client(flip: FlipDependency) -> None:
            clients.append(flip)

        return app

    one, other = make(), make()
    async with one.router.lifespan_context(one):
        async with other.router.lifespan_context(other):
            for app in (one, other):
                async with http_of(app) as http:
                    await http.get("/client")
        assert (await deliver(one)).status_code == 204

    assert len(set(map(id, clients))) == 2


async def test_a_handler_may_be_registered_after_the_router_is_made() -> None:
    seen: list[str] = []
    handlers = Handlers()
    app = FastAPI(lifespan=flip_lifespan(answering()))
    processor = CommandProcessor(ignore, poll_every_s=None)
    app.include_router(webhook_router(secret=SECRET, on=handlers, commands=processor))

    @handlers.on("enrollment.updated")
    async def enrolled(event: EnrollmentEvent) -> None:
        seen.append(event.webhook_id)

    async with app.router.lifespan_context(app):
        await deliver(app)

    assert seen == ["a"]


async def test_handlers_of_several_modules_compose() -> None:
    seen: list[str] = []
    homes, grid = Handlers(), Handlers()

    @homes.on("enrollment.updated")
    async def enrolled(event: EnrollmentEvent) -> None:
        seen.append(event.webhook_id)

    @grid.on("event.created")
    async def called(event: object) -> None: ...

    app = FastAPI()
    app.include_router(webhook_router(secret=SECRET, on=Handlers(homes, grid)))
    async with app.router.lifespan_context(app):
        await deliver(app)

    assert seen == ["a"]
    assert repr(homes) == "<Handlers enrollment.updated>"
    with pytest.raises(errors.ConfigurationError, match="enrolled: call .*called from there"):
        Handlers(homes, grid).on("enrollment.updated")(called)


async def test_a_router_that_is_included_twice_opens_once() -> None:
    app = FastAPI()
    router = webhook_router("/flip", secret=SECRET)
    app.include_router(router, prefix="/webhooks")
    app.include_router(router, prefix="/hooks")

    async with app.router.lifespan_context(app):
        assert (await deliver(app)).status_code == 204


async def test_the_signing_key_is_read_when_the_application_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = FastAPI()
    app.include_router(webhook_router())
    with pytest.raises(errors.ConfigurationError, match="FLIP_WEBHOOK_SECRET"):
        async with app.router.lifespan_context(app):
            raise AssertionError

    monkeypatch.setenv("FLIP_WEBHOOK_SECRET", SECRET)
    async with app.router.lifespan_context(app):
        assert (await deliver(app)).status_code == 204


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"tolerance_s": -1}, "tolerance_s"),
        ({"body_timeout_s": 0}, "body_timeout_s"),
        ({"commands": ignore}, "commands: is an instance of flip_async.CommandProcessor"),
        ({"on": [Handlers()]}, "on: is an instance of flip_async.Handlers"),
        ({"client": answering()}, "client: is an instance of flip_async.FlipLifespan"),
        ({"on_given_up": 5}, "on_given_up"),
        ({"clock": 5}, "clock"),
    ],
)
def test_what_is_wrong_with_an_argument_is_told_at_once(options: Any, match: str) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=match):
        webhook_router(**options)
    with pytest.raises(errors.ConfigurationError, match="no signing key"):
        webhook_router(secret="whsec_?")


# Clients


async def test_tests_put_a_client_of_theirs_in_its_place() -> None:
    app = FastAPI()

    @app.get("/sites")
    async def sites(flip: FlipDependency) -> int:
        return len(await flip.sites.list())

    async with Emulator(in_process=True) as flip_local, flip_local.client() as flip:
        app.dependency_overrides[get_flip_client] = lambda: flip
        async with http_of(app) as http:
            assert (await http.get("/sites")).json() == 0

        assert flip_local.count("GET", "/v1/sites") == 1


class Pair:
    """An application with two clients."""

    def __init__(self) -> None:
        one = self.one = flip_lifespan(answering(name="one"))
        two = self.two = flip_lifespan(answering(name="two"))

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            async with one(app), two(app):
                yield

        app = self.app = FastAPI(lifespan=lifespan)

        @app.get("/one")
        async def first(flip: Annotated[FlipClient, Depends(one.client)]) -> int:
            return id(flip)

        @app.get("/two")
        async def second(flip: Annotated[FlipClient, Depends(two.client)]) -> int:
            return id(flip)

        @app.get("/any")
        async def either(flip: FlipDependency) -> None: ...


async def test_two_clients_of_an_application_are_told_apart() -> None:
    app = Pair().app
    async with app.router.lifespan_context(app), http_of(app) as http:
        assert (await http.get("/one")).json() != (await http.get("/two")).json()
        with pytest.raises(errors.ConfigurationError, match=r"2 Flip clients: .*lifespan\.client"):
            await http.get("/any")


async def test_commands_say_which_of_two_clients_they_are_acknowledged_with() -> None:
    pair, processor = Pair(), CommandProcessor(ignore, poll_every_s=None)
    router = webhook_router(secret=SECRET, commands=processor, client=pair.two)
    pair.app.include_router(router)
    async with pair.app.router.lifespan_context(pair.app):
        assert processor.is_running


async def test_which_of_two_clients_acknowledges_is_not_guessed() -> None:
    pair, processor = Pair(), CommandProcessor(ignore, poll_every_s=None)
    pair.app.include_router(webhook_router(secret=SECRET, commands=processor))
    with pytest.raises(errors.ConfigurationError, match=r"webhook_router\(client=lifespan\)"):
        async with pair.app.router.lifespan_context(pair.app):
            raise AssertionError


async def test_one_lifespan_is_open_once_in_an_application() -> None:
    app, lifespan = FastAPI(), flip_lifespan(answering())

    async with lifespan(app):
        with pytest.raises(errors.ConfigurationError, match="a flip_lifespan of its own"):
            async with lifespan(app):
                raise AssertionError


async def test_a_client_that_is_none_is_told() -> None:
    with pytest.raises(errors.InvalidArgumentError, match="the class SandboxClient"):
        flip_lifespan(SandboxClient(api_key="fl_a_b"))  # type: ignore[arg-type]
    app = FastAPI()
    with pytest.raises(errors.InvalidArgumentError, match="what client"):
        async with flip_lifespan(lambda: httpx.AsyncClient())(app):  # type: ignore[type-var]
            raise AssertionError


async def test_a_mounted_application_is_told_that_nobody_runs_its_lifespan() -> None:
    inner = FastAPI(lifespan=flip_lifespan(answering()))
    inner.include_router(webhook_router("/flip", secret=SECRET))
    outer = FastAPI()
    outer.mount("/webhooks", inner)

    @inner.get("/client")
    async def client(flip: FlipDependency) -> None: ...

    async with outer.router.lifespan_context(outer), http_of(outer) as http:
        with pytest.raises(errors.ConfigurationError, match="outermost"):
            await http.get("/webhooks/client")
        with pytest.raises(errors.ConfigurationError, match="outermost"):
            await deliver(outer)


async def test_a_mounted_application_whose_lifespan_is_run_has_its_own_client() -> None:
    ids: list[int] = []
    inner, outer = FastAPI(), FastAPI()
    outer.mount("/inner", inner)
    for app in (inner, outer):

        @app.get("/client")
        async def client(flip: FlipDependency) -> None:
            ids.append(id(flip))

    mine = flip_lifespan(answering())
    async with flip_lifespan(answering())(outer), mine(inner), http_of(outer) as http:
        await http.get("/client")
        await http.get("/inner/client")

    assert len(set(ids)) == 2


async def test_a_client_takes_no_worker_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty synchronous routes may hold them all [B9]."""
    app = FastAPI(lifespan=flip_lifespan(answering()))

    @app.get("/client")
    async def client(flip: FlipDependency) -> bool:
        return flip.is_closed

    monkeypatch.setattr("anyio.to_thread.run_sync", None)
    async with app.router.lifespan_context(app), http_of(app) as http:
        assert (await http.get("/client")).json() is False


# Strangers


@pytest.fixture
async def hooked() -> AsyncIterator[FastAPI]:
    app = FastAPI()
    app.include_router(webhook_router(secret=SECRET, body_timeout_s=0.05))
    async with app.router.lifespan_context(app):
        yield app


class Stranger:
    """Sends a part of a body, and then no more, or leaves."""

    def __init__(self, *, leaves: bool) -> None:
        self._leaves = leaves
        self._parts = iter([b"{"])
        self.answers: list[Any] = []

    async def receive(self) -> dict[str, Any]:
        for part in self._parts:
            return {"type": "http.request", "body": part, "more_body": True}
        if not self._leaves:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.answers.append(message)

    async def ask(self, app: Any, http_version: str = "1.1") -> dict[str, Any]:
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": http_version,
            "method": "POST", "path": "/webhooks/flip", "raw_path": b"/webhooks/flip",
            "query_string": b"", "root_path": "", "scheme": "http", "server": ("a", 80),
            "client": ("b", 5), "headers": [], "state": {},
        }  # fmt: skip
        await app(scope, self.receive, self.send)
        start = self.answers[0]
        return {"status": start["status"], **dict(start["headers"])}


async def no_change(request: Any, call_next: Any) -> Any:
    return await call_next(request)


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_stranger_who_leaves_costs_no_traceback(
    caplog: pytest.LogCaptureFixture, wrapped: bool
) -> None:
    app = FastAPI(middleware=[Middleware(BaseHTTPMiddleware, no_change)] if wrapped else [])
    app.include_router(webhook_router(secret=SECRET))
    async with app.router.lifespan_context(app):
        assert (await Stranger(leaves=True).ask(app))["status"] == 400

    assert caplog.records == []


@pytest.mark.parametrize(("version", "expected"), [("1.1", b"close"), ("2", None)])
async def test_a_body_that_drips_has_a_limit(
    hooked: FastAPI, version: str, expected: bytes | None
) -> None:
    answer = await Stranger(leaves=False).ask(hooked, version)

    assert answer["status"] == 408
    assert answer.get(b"connection") == expected  # type: ignore[call-overload]


async def test_after_a_body_that_was_not_read_the_connection_is_closed(hooked: FastAPI) -> None:
    """Else it would hold a server that was told to stop."""
    server = SocketServer(hooked, host="127.0.0.1", port=0)
    await server.start()
    try:
        for head, status in (
            (b"Content-Length: 1000", b"408"),
            (b"Content-Length: 9999999", b"413"),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"POST /webhooks/flip HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n\r\nabc")
            if status == b"413":
                writer.write(b"x" * 1_100_000)
            answer = await reader.read()  # to its end

            assert answer.startswith(b"HTTP/1.1 " + status)
            writer.close()
    finally:
        await server.stop()


# Errors


RESPONSE = httpx.Response(
    404, headers={"Retry-After": "7"}, request=httpx.Request("GET", "https://api.flip.energy/")
)


def answered(status: int, **options: Any) -> errors.StatusError:
    """The error of an answer, whose words nobody else shall see."""
    response = httpx.Response(
        status,
        json={"message": "internal words"},
        request=RESPONSE.request,
        headers={"Retry-After": "7"} if status in (429, 503) else {},
    )
    return errors.from_response(response, method="GET", path="/v1/sites", wall_now_s=0, **options)


CASES: list[tuple[FlipError, int]] = [
    (answered(404), 404),
    (answered(409), 409),
    (answered(422), 422),
    (answered(429), 503),
    (answered(503), 503),
    (answered(504), 504),
    (answered(500), 502),
    (answered(502), 502),
    (answered(400), 502),
    (answered(401), 502),
    (answered(403), 502),
    (answered(302), 502),
    (answered(418), 502),
    (answered(500, outcome_unknown=True), 502),
    (answered(504, outcome_unknown=True), 504),
    (errors.ConnectionFailedError("internal words"), 502),
    (errors.DeadlineError("internal words"), 504),
    (errors.OutcomeUnknownError("internal words"), 502),
    (
        errors.DecodeError(
            "internal words", response=RESPONSE, document_path=None, method="GET", path="/"
        ),
        502,
    ),
    (errors.TokenUnavailableError("internal words", retry_after_s=6.2), 503),
    (errors.TokenRequestError("internal words", status_code=401), 502),
    (errors.TokenResponseError("internal words"), 502),
    (errors.ClientClosedError("internal words"), 503),
    (errors.OutboxFullError("internal words"), 503),
    (errors.StorageError("internal words"), 503),
    (errors.InvalidArgumentError("is empty", field="site_id"), 422),
    (errors.WebhookSignatureError("internal words"), 401),
    (errors.MissingWebhookHeaderError("internal words", header="Webhook-Id"), 400),
    (errors.WebhookBodyError("internal words", document_path=None), 400),
]


def failing(error: Exception) -> FastAPI:
    app = FastAPI()
    app.add_exception_handler(FlipError, flip_error_handler)

    @app.get("/")
    async def fail() -> None:
        raise error

    @app.websocket("/socket")
    async def fail_too(socket: WebSocket) -> None:
        raise error

    return app


@pytest.mark.parametrize(("error", "status"), CASES, ids=lambda case: type(case).__name__)
async def test_an_error_of_flip_s_becomes_an_answer_without_its_words(
    error: FlipError, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "flip_async.fastapi")
    async with http_of(failing(error)) as http:
        answer = await http.get("/")

    assert answer.status_code == status
    assert set(answer.json()) == {"detail"}
    assert "internal words" not in answer.text
    assert "internal words" in caplog.text or isinstance(error, errors.InvalidArgumentError)
    assert caplog.records[0].levelname == ("WARNING" if status >= 500 else "INFO")


@pytest.mark.parametrize("error", [answered(429), answered(503), CASES[19][0]])
async def test_what_may_be_repeated_says_when(error: FlipError) -> None:
    async with http_of(failing(error)) as http:
        assert (await http.get("/")).headers["Retry-After"] == "7"


async def test_what_may_have_been_carried_out_is_not_to_be_repeated_blindly() -> None:
    unknown = [
        answered(500, outcome_unknown=True),
        errors.OutcomeUnknownError("lost"),
        errors.DecodeError(
            "broken", response=RESPONSE, document_path=None, method="POST", path="/",
            outcome_unknown=True,
        ),
    ]  # fmt: skip
    for error in unknown:
        async with http_of(failing(error)) as http:
            answer = await http.get("/")
        assert "look before you send it again" in answer.json()["detail"]
        assert "Retry-After" not in answer.headers


@pytest.mark.parametrize(
    "error",
    [
        errors.ConfigurationError("two credentials"),
        errors.UndeliveredTelemetryError("lost", points=()),
    ],
)
async def test_an_error_of_the_application_looks_like_one(error: FlipError) -> None:
    """The server logs its traceback and answers 500, with or without the handler."""
    async with http_of(failing(error)) as http:
        with pytest.raises(type(error)):
            await http.get("/")


async def test_every_error_has_its_place_in_the_table_of_the_docs() -> None:
    """A row of the page is `| error, error | status |`, and the nearest base decides."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "serve-with-fastapi.md"
    rows: dict[str, str] = {}
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 3 and "Error" in cells[0]:
            rows |= dict.fromkeys(cells[0].replace("`", "").split(", "), cells[1])

    for error, status in CASES:
        if isinstance(error, errors.StatusError) and (
            error.status_code in (302, 418, 504) or error.outcome_unknown or status == 503
        ):
            continue  # by status, which the last column tells
        names = [kind.__name__ for kind in type(error).__mro__]
        assert next(rows[name] for name in names if name in rows) == str(status), error


async def test_a_websocket_ends_as_it_would_without_the_handler() -> None:
    app = failing(answered(404))
    with pytest.raises(errors.NotFoundError):
        await app(
            {"type": "websocket", "path": "/socket", "headers": [], "query_string": b"",
             "subprotocols": [], "root_path": "", "scheme": "ws"},
            asyncio.Event().wait,  # type: ignore[arg-type]  # nothing is received
            asyncio.sleep,  # type: ignore[arg-type]
        )  # fmt: skip


async def test_a_real_call_through_a_real_route() -> None:
    app = FastAPI(lifespan=flip_lifespan(answering(404, json={"message": "internal words"})))
    app.add_exception_handler(FlipError, flip_error_handler)

    @app.get("/sites/{site_id}")
    async def site(site_id: str, flip: FlipDependency) -> None:
        await flip.site(site_id).get()

    async with app.router.lifespan_context(app), http_of(app) as http:
        unknown, impossible = await http.get("/sites/hh-1"), await http.get("/sites/%2e%2e")

    assert (unknown.status_code, unknown.json()) == (404, {"detail": "Flip does not know this"})
    assert impossible.status_code in (404, 422)  # httpx may walk up the path itself


def test_the_lifespan_shows_no_secret() -> None:
    assert repr(flip_lifespan(SandboxClient, api_key="fl_a_secret")) == "<FlipLifespan>"
    assert isinstance(flip_lifespan(SandboxClient), FlipLifespan)


def test_the_extra_is_named_where_it_is_missing(tmp_path: Path) -> None:
    (tmp_path / "fastapi.py").write_text("raise ModuleNotFoundError(name='fastapi')")
    done = subprocess.run(
        [sys.executable, "-c", "import flip_async.fastapi"],
        env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "pip install 'flip-async[fastapi]'" in done.stderr
