"""FastAPI with Flip: a client for the application, webhooks, and models as bodies."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, TypeAdapter

from flip_async import FlipClient, SandboxClient, errors, models
from flip_async._wire import encode
from flip_async.commands import CommandProcessor
from flip_async.emulator import Emulator
from flip_async.fastapi import FlipDependency, JsonBody, flip_lifespan, webhook_router
from flip_async.models import (
    Command,
    CommandStatus,
    CommissionSite,
    Device,
    DeviceCreate,
    EnrollmentCreate,
    Site,
    SiteUpdate,
)
from flip_async.webhooks import EnrollmentEvent, Handlers, SqliteInbox, sign
from tests.support.webhooks import OTHER_SECRET, SECRET, body_of, example
from tests.system.test_story import battery
from tests.unit.test_examples import ANSWERS, REQUESTS, load, read

ENROLLED = body_of("enrollment.updated", example("enrollment.updated")["event_object"])


def http_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app")


async def deliver(app: FastAPI, webhook_id: str = "a", **options: Any) -> httpx.Response:
    body, path = options.get("body", ENROLLED), options.get("path", "/webhooks/flip")
    key = options.get("secret", SECRET)
    headers = sign(body, key, webhook_id=webhook_id, timestamp=datetime.now(UTC))
    async with http_of(app) as http:
        return await http.post(path, content=body, headers=headers)


# The client


@pytest.fixture
async def app(socket_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    for name, value in socket_emulator.variables().items():
        monkeypatch.setenv(name, value)
    async with socket_emulator.client() as flip:
        await flip.sites.commission(CommissionSite(id="hh-1", city="Fresno"), [battery()])
    app = FastAPI(lifespan=flip_lifespan(SandboxClient, deadline_s=30))

    @app.get("/homes/{home_id}")
    async def home(home_id: str, flip: FlipDependency) -> Site:
        return await flip.site(home_id).get()

    return app


async def test_the_client_lives_as_long_as_the_application(app: FastAPI) -> None:
    async with app.router.lifespan_context(app), http_of(app) as http:
        seen: list[FlipClient] = []

        @app.get("/client")
        async def client(flip: FlipDependency) -> None:
            seen.append(flip)

        answer = await http.get("/homes/hh-1")
        await http.get("/client")
        assert not seen[0].is_closed

    assert answer.json()["city"] == "Fresno"
    assert seen[0].is_closed


async def test_an_application_may_be_started_again(app: FastAPI) -> None:
    for _ in range(2):
        async with app.router.lifespan_context(app), http_of(app) as http:
            assert (await http.get("/homes/hh-1")).status_code == 200


async def test_without_a_lifespan_the_error_says_what_to_do(app: FastAPI) -> None:
    async with http_of(app) as http:
        with pytest.raises(errors.ConfigurationError, match="flip_lifespan"):
            await http.get("/homes/hh-1")


async def test_a_mounted_application_has_the_client_too(app: FastAPI) -> None:
    inner = FastAPI()

    @inner.get("/city")
    async def city(flip: FlipDependency) -> str | None:
        return (await flip.site("hh-1").get()).city

    app.mount("/inner", inner)
    async with app.router.lifespan_context(app), http_of(app) as http:
        assert (await http.get("/inner/city")).json() == "Fresno"


async def test_a_wrong_setting_stops_the_application_at_its_start() -> None:
    app = FastAPI(lifespan=flip_lifespan(SandboxClient))

    with pytest.raises(errors.ConfigurationError, match="FLIP_API_KEY"):
        async with app.router.lifespan_context(app):
            raise AssertionError


# Webhooks


class Recorder:
    def __init__(self) -> None:
        self.seen: list[str] = []

    async def __call__(self, event: EnrollmentEvent) -> None:
        self.seen.append(event.webhook_id)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def handlers(recorder: Recorder) -> Handlers:
    handlers = Handlers()
    handlers.on("enrollment.updated")(recorder)
    return handlers


@pytest.fixture
async def hooked(handlers: Handlers) -> AsyncIterator[FastAPI]:
    app = FastAPI()
    app.include_router(webhook_router(secret=SECRET, on=handlers))
    async with app.router.lifespan_context(app):
        yield app


async def test_a_webhook_reaches_its_handler(hooked: FastAPI, recorder: Recorder) -> None:
    answers = [await deliver(hooked) for _ in range(3)]

    assert [(answer.status_code, answer.content) for answer in answers] == [(204, b"")] * 3
    assert recorder.seen == ["a"]


async def test_a_stranger_is_told_why(hooked: FastAPI, recorder: Recorder) -> None:
    answer = await deliver(hooked, secret=OTHER_SECRET)

    assert answer.status_code == 401
    assert "no signature fits" in answer.json()["error"]
    async with http_of(hooked) as http:
        assert (await http.post("/webhooks/flip")).status_code == 400
        assert (await http.get("/webhooks/flip")).status_code == 405
    assert recorder.seen == []


async def test_what_is_larger_than_any_webhook_is_not_read_to_its_end(hooked: FastAPI) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b"x" * 65536

    async with http_of(hooked) as http:
        answer = await http.post("/webhooks/flip", content=endless())

    assert answer.status_code == 413
    # httpx's transport for tests hands the body over part by part, as it is asked for.
    assert sent < 100


async def test_a_router_may_stand_below_others(handlers: Handlers, recorder: Recorder) -> None:
    api = APIRouter()
    api.include_router(webhook_router("/flip", secret=SECRET, on=handlers), prefix="/hooks")
    app = FastAPI()
    app.include_router(api, prefix="/api")
    async with app.router.lifespan_context(app):
        assert (await deliver(app, path="/api/hooks/flip")).status_code == 204

    assert recorder.seen == ["a"]


async def test_the_webhook_is_no_part_of_the_public_interface(hooked: FastAPI) -> None:
    assert hooked.openapi()["paths"] == {}


async def test_without_its_lifespan_a_router_says_so(handlers: Handlers) -> None:
    app = FastAPI()
    app.include_router(webhook_router(secret=SECRET, on=handlers))

    with pytest.raises(errors.ConfigurationError, match="lifespan"):
        await deliver(app)


async def test_an_inbox_opens_and_closes_with_the_application(
    handlers: Handlers, recorder: Recorder, tmp_path: Any
) -> None:
    app = FastAPI()
    inbox = SqliteInbox(tmp_path / "inbox.db")
    app.include_router(webhook_router(secret=SECRET, on=handlers, inbox=inbox))
    for webhook_id in ("a", "b"):
        async with app.router.lifespan_context(app):
            assert (await deliver(app, webhook_id)).status_code == 204
            assert (await deliver(app, "a")).status_code == 204

    async with app.router.lifespan_context(app):
        while len(recorder.seen) < 2:
            await asyncio.sleep(0.01)
    assert sorted(recorder.seen) == ["a", "b"]


# Commands


async def enrolled(flip: FlipClient, emulator: Emulator, devices: int = 1) -> None:
    """A site whose batteries take part in a program."""
    batteries = [battery(f"inv-{number}") for number in range(devices)]
    programs = (
        await flip.sites.commission(CommissionSite(id="hh-1", zip_code="88801"), batteries)
    ).programs
    open_to_all = next(program for program in programs if program.can_auto_enroll)
    await flip.site("hh-1").enrollments.create(
        EnrollmentCreate(device_ids=[one.id for one in batteries], program_id=open_to_all.id)
    )
    emulator.review_enrollments()


@pytest.mark.parametrize("with_inbox", [False, True])
async def test_a_dispatch_is_received_handled_and_acknowledged(
    socket_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, with_inbox: bool
) -> None:
    handled: list[tuple[str, str]] = []

    async def on_command(command: Command) -> None:
        handled.append((command.device_id, str(command.status)))

    for name, value in socket_emulator.variables().items():
        monkeypatch.setenv(name, value)
    app = FastAPI(lifespan=flip_lifespan(SandboxClient))
    commands = CommandProcessor(on_command, poll_every_s=None)
    inbox = SqliteInbox(tmp_path / "inbox.db") if with_inbox else None
    app.include_router(webhook_router(commands=commands, inbox=inbox))
    socket_emulator.register_webhook(
        "http://app/webhooks/flip", copies=2, transport=httpx.ASGITransport(app)
    )
    async with app.router.lifespan_context(app), socket_emulator.client() as flip:
        await enrolled(flip, socket_emulator, devices=3)
        (event_id,) = socket_emulator.dispatch()
        await socket_emulator.webhooks_settled()
        await until_acknowledged(socket_emulator)
        socket_emulator.cancel_event(event_id)
        await socket_emulator.webhooks_settled()
        await until_acknowledged(socket_emulator)

    assert sorted(handled) == sorted(
        (f"inv-{number}", status) for number in range(3) for status in ("OK", "CANCELED")
    )
    assert not commands.is_running


async def until_acknowledged(emulator: Emulator) -> None:
    while {command["device_status"] for command in emulator.commands} != {"OK"}:
        await asyncio.sleep(0.01)


async def test_commands_need_the_application_s_client_or_their_own() -> None:
    async def on_command(command: Command) -> None: ...

    app = FastAPI()
    commands = CommandProcessor(on_command, poll_every_s=None)
    app.include_router(webhook_router(secret=SECRET, commands=commands))
    with pytest.raises(errors.ConfigurationError, match="flip_lifespan"):
        async with app.router.lifespan_context(app):
            raise AssertionError
    async with SandboxClient(api_key="fl_your_api_key") as flip, commands.running(flip):
        async with app.router.lifespan_context(app):
            assert commands.is_running
        assert commands.is_running


def test_a_handler_that_stands_against_commands_is_told() -> None:
    async def on_command(command: Command) -> None: ...

    handlers = Handlers()

    @handlers.on("command.created")
    async def mine(event: object) -> None: ...

    with pytest.raises(errors.ConfigurationError, match="has a handler"):
        webhook_router(secret=SECRET, on=handlers, commands=CommandProcessor(on_command))


# Models


class Household(BaseModel):
    site: Site | None = None
    devices: list[Device] = []


@pytest.fixture
def shop() -> FastAPI:
    app = FastAPI()

    @app.post("/devices")
    async def create(device: JsonBody[DeviceCreate]) -> DeviceCreate:
        return device

    @app.patch("/site")
    async def update(changes: JsonBody[SiteUpdate]) -> SiteUpdate:
        return changes

    @app.get("/commands")
    async def commands() -> list[Command]:
        return []

    @app.get("/household")
    async def household() -> Household:
        return Household(
            site=TypeAdapter(Site).validate_python(load("read-site.response")),
            devices=TypeAdapter(list[Device]).validate_python(load("read-devices.response")),
        )

    return app


async def test_a_model_is_read_and_written_as_flip_has_it(shop: FastAPI) -> None:
    document = load("create-device.request")
    async with http_of(shop) as http:
        answer = await http.post("/devices", json=document)
        assert (await http.get("/household")).json()["site"] == load("read-site.response") | {
            name: None
            for name in ("company_name", "street_address2", "service_account_id", "tariff_id")
            if name not in load("read-site.response")
        }

    assert answer.status_code == 200
    again = TypeAdapter(DeviceCreate).validate_python(answer.json())
    assert again == TypeAdapter(DeviceCreate).validate_python(document)


async def test_null_and_not_given_stay_apart(shop: FastAPI) -> None:
    async with http_of(shop) as http:
        answer = await http.patch("/site", json={"city": None, "new_field": 1})

    assert answer.json() == {"city": None}


async def test_what_flip_would_refuse_is_a_422_with_its_place(shop: FastAPI) -> None:
    document = load("create-device.request")
    document["attributes"]["battery_capacity_wh"] = -1
    async with http_of(shop) as http:
        answer = await http.post("/devices", json=document)
        (problem,) = answer.json()["detail"]
        assert answer.status_code == 422
        assert problem["loc"] == ["body", "attributes"]
        assert "battery_capacity_wh: is a whole number of at least 0" in problem["msg"]
        answer = await http.post("/devices", json={})
        assert {"body", "id"} <= {
            part for entry in answer.json()["detail"] for part in entry["loc"]
        }


def test_openapi_names_each_model_once_and_describes_its_fields(shop: FastAPI) -> None:
    document = shop.openapi()
    schemas = document["components"]["schemas"]

    body = document["paths"]["/devices"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/DeviceCreate"}
    assert schemas["DeviceCreate"]["required"] == [
        "id", "manufacturer_name", "product_name", "serial_number", "attributes", "install_date",
    ]  # fmt: skip
    properties = schemas["DeviceCreate"]["properties"]
    assert properties["install_date"] == {
        "type": "string", "format": "date-time", "title": "Install Date",
    }  # fmt: skip
    assert properties["attributes"] == {"$ref": "#/components/schemas/DeviceBatteryAttributes"}
    assert schemas["Command"]["title"] == "Command"
    assert schemas["Command"]["description"].startswith("What a device shall do")
    assert not [name for name in schemas if "__" in name or "-Input" in name]


def test_an_enumeration_that_may_grow_is_a_text_with_examples(shop: FastAPI) -> None:
    status = shop.openapi()["components"]["schemas"]["CommandStatus"]

    assert "enum" not in status
    assert status["examples"] == ["OK", "CANCELED", "OPT_OUT"]
    assert TypeAdapter(CommandStatus).validate_python("PAUSED") == "PAUSED"


def public_models() -> list[Any]:
    found = [getattr(models, name) for name in models.__all__]
    return [one for one in found if isinstance(one, type) and hasattr(one, "__attrs_attrs__")]


@pytest.mark.parametrize("kind", public_models(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_every_model_has_a_schema(kind: Any, mode: Any) -> None:
    schema = TypeAdapter(kind).json_schema(mode=mode)

    described = schema if "properties" in schema else schema["$defs"][kind.__name__]
    names = {field.name for field in kind.__attrs_attrs__}
    assert set(described["properties"]) == names


@pytest.mark.parametrize(
    "name", [*(f"{n}.response" for n in ANSWERS), *(f"{n}.request" for n in REQUESTS)]
)
def test_pydantic_reads_every_example_as_the_codec_does(name: str) -> None:
    stem, _, side = name.rpartition(".")
    kind = (ANSWERS if side == "response" else REQUESTS)[stem]
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    model = adapter.validate_python(load(name))

    assert model == read(load(name), kind)
    if side == "request":
        assert adapter.dump_python(model) == json.loads(encode(model))
    assert adapter.validate_json(adapter.dump_json(model)) == model
