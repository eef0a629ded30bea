"""Read by mypy and pyright, not run: what an editor knows of the public interface."""

from collections.abc import Sequence
from typing import assert_type

import httpx
import httpx2
import redis.asyncio
from fastapi import APIRouter, FastAPI

from flip_async import (
    UNSET,
    AggregatorClient,
    ApiKeyAuth,
    ClientCredentialsAuth,
    FileTokenStore,
    FlipClient,
    MemoryTokenStore,
    Pages,
    ProductionClient,
    Retries,
    SandboxClient,
    SiteTokenAuth,
    Token,
    TokenStore,
    UtilityClient,
    errors,
    run_worker,
)
from flip_async._claim_queue import ClaimQueue
from flip_async.commands import (
    CommandFailed,
    CommandLedger,
    CommandProcessor,
    MemoryCommandLedger,
    ProcessorStats,
)
from flip_async.emulator import Emulator, ManualClock
from flip_async.fastapi import (
    FlipDependency,
    FlipLifespan,
    JsonBody,
    flip_error_handler,
    flip_lifespan,
    get_flip_client,
    webhook_router,
)
from flip_async.httpx2 import Httpx2Transport, for_httpx2
from flip_async.models import (
    Command,
    CommissionResult,
    CommissionSite,
    Device,
    DeviceBatteryAttributes,
    DeviceCreate,
    DeviceStatus,
    DeviceType,
    Enrollment,
    EnrollmentCreate,
    Event,
    PortalSession,
    Program,
    Site,
    SiteToken,
    TelemetryPoint,
    TelemetryResult,
    TelemetryStatus,
    UtilityEvent,
)
from flip_async.redis import RedisCommandLedger, RedisInbox, RedisOutbox, RedisTokenStore
from flip_async.telemetry import MemoryOutbox, Outbox, SqliteOutbox, TelemetryUploader
from flip_async.testing import FlipWebhooks, SignedWebhook, WebhookAnswer
from flip_async.webhooks import (
    CommandEvent,
    EnrollmentEvent,
    GridEvent,
    Handlers,
    Inbox,
    InboxEntry,
    ReceiverStats,
    SettingsEvent,
    SqliteInbox,
    UnknownEvent,
    WebhookReceiver,
    sign,
    verify,
)


async def calls(flip: SandboxClient, device: DeviceCreate, point: TelemetryPoint) -> None:
    assert_type(flip.sites.list(limit=10), Pages[Site])
    assert_type(await flip.sites.list(max_items=5), list[Site])
    async for site in flip.sites.list():
        assert_type(site.email, str | None)
    async for page in flip.sites.list().pages():
        assert_type(page, list[Site])
    result = await flip.sites.commission(CommissionSite(id="a"), [device], deadline_s=5)
    assert_type(result, CommissionResult)
    assert_type(result.enrollment, Enrollment | None)
    assert_type(await flip.site("a").get(timeout=3, token="client"), Site)
    assert_type(await flip.site("a").update(email=None, city=UNSET), Site)
    assert_type(await flip.site_tokens.create("a", extra_query={"a": ["b"]}), SiteToken)
    assert_type(await flip.telemetry.send([point]), list[TelemetryResult])


async def oem_api(flip: ProductionClient, enrollment: EnrollmentCreate) -> None:
    assert_type(flip.commands.list(), Pages[Command])
    assert_type(await flip.commands.update_status("c", "OK", reason="x"), Command)
    assert_type(await flip.sessions.create("hh-1"), PortalSession)
    assert_type(
        await flip.programs.list(
            device_type="BATTERY", total_capacity_wh=1, total_power_w=1, max_items=3
        ).collect(),
        list[Program],
    )
    site = flip.site("hh-1")
    assert_type(site.devices.list(), Pages[Device])
    assert_type(await site.enrollments.create(enrollment), Enrollment)
    assert_type(await site.events.list(status=["ACTIVE"]), list[Event])
    await site.devices.delete("d")
    assert_type(await flip.settings.update("r", {"a": 1}), dict[str, object])
    assert_type(await flip.telemetry.send_counters([{"a": 1}]), object)
    assert_type(await flip.with_raw_response(site.get()), tuple[Site, httpx.Response])


async def sisters(utility: UtilityClient, aggregator: AggregatorClient) -> None:
    assert_type(utility.events.list(), Pages[UtilityEvent])
    assert_type(await aggregator.list_sites(), object)
    assert_type(utility.with_options(timeout=3), UtilityClient)


async def views(flip: SandboxClient) -> None:
    assert_type(await flip.request("GET", "/v1/sites", query={"limit": 5}), httpx.Response)
    assert_type(flip.with_options(timeout=None, retries=Retries()), SandboxClient)


async def wrong(flip: SandboxClient) -> None:
    await flip.site("a").get(timeouts=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await flip.site("a").update(name="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def device() -> DeviceCreate:
    made = DeviceCreate(
        id="d",
        manufacturer_name="m",
        product_name="p",
        serial_number="s",
        type="BATTERY",
        attributes=DeviceBatteryAttributes(
            battery_capacity_wh=1, battery_power_input_w=1, battery_power_output_w=1
        ),
        install_date=__import__("datetime").datetime.now(),
    )
    assert_type(made.type, DeviceType)
    return made


def results(result: TelemetryResult) -> None:
    assert_type(result.status, TelemetryStatus)
    assert_type(result.status.is_known, bool)


async def auths() -> None:
    async with ClientCredentialsAuth("a", lambda: "b", token_store=MemoryTokenStore()) as auth:
        assert_type(await auth.token(), Token)
        assert_type((await auth.refresh()).access_token.reveal(), str)
        httpx.AsyncClient(auth=auth)
    httpx.AsyncClient(auth=SiteTokenAuth("a", auth=ApiKeyAuth("fl_your_api_key")))
    store: TokenStore = MemoryTokenStore()
    store = FileTokenStore("tokens.json", encryption_keys=["a", b"b"])
    store = RedisTokenStore("redis://localhost", encryption_keys="a")
    ProductionClient(
        client_id="a", client_secret="b", token_store=store, retries=Retries(max_attempts=2)
    )
    Retries(safe_to_repeat={"POST /v1/commission"}, statuses=[503])


def failures(error: errors.UnprocessableEntityError) -> None:
    assert_type(error.details, tuple[errors.FieldError, ...])
    assert_type(error.response, httpx.Response)
    assert_type(error.retry_after_s, float | None)


async def telemetry(flip: SandboxClient, point: TelemetryPoint) -> None:
    async def heard(point: TelemetryPoint, why: str) -> None: ...

    outbox: Outbox = SqliteOutbox("outbox.db", when_full="raise")
    outbox = RedisOutbox("redis://localhost", when_full="raise", max_bytes=1_000_000)
    outbox = MemoryOutbox(max_points=10)
    async with flip.telemetry.uploader(outbox=outbox, on_rejected=heard) as uploader:
        assert_type(uploader, TelemetryUploader[TelemetryPoint])
        await uploader.add(point)
        await uploader.add({"device_id": "x"})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert_type(uploader.stats.oldest_age_s, float | None)
        assert_type(uploader.stats.blocked_by, errors.FlipError | None)
    async with flip.telemetry.counter_uploader(on_rejected=lambda point, why: None) as counters:
        await counters.add({"device_id": "x", "timestamp": 1})


async def local() -> None:
    Emulator(seed=1, clock=ManualClock(), api_key="fl_your_api_key")
    async with Emulator(in_process=True) as emulator, emulator.client() as flip:
        emulator.reset()
        emulator.fail_next(2, path="/token", cut="before")
        emulator.fail_next(503)
        assert_type(emulator.enroll_site("hh-1042", ["inv-77301"]), str)
    with Emulator(enrolled_sites=["hh-1042"]) as threaded:
        assert_type(threaded.commands, list[dict[str, object]])
        assert_type(threaded.count("POST", "/token"), int)
        threaded.dispatch(mode=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert_type(await flip.sites.list(), list[Site])


async def webhooks(body: bytes, headers: dict[str, str], flip: SandboxClient) -> None:
    match verify(body, headers, ["whsec_a", "whsec_b"]):
        case CommandEvent(event_object=command):
            assert_type(command, Command)
        case GridEvent() as event:
            assert_type(event.event_object, Event)
        case EnrollmentEvent() as enrollment:
            assert_type(enrollment.event_object, Enrollment)
        case SettingsEvent() as settings:
            assert_type(settings.event_object, dict[str, object])
        case UnknownEvent() as unknown:
            assert_type(unknown.event_object, object)
    assert_type(sign(body, "whsec_a", webhook_id="a", timestamp=1), dict[str, str])
    handlers = Handlers(Handlers(), Handlers())

    @handlers.on("command.created")
    async def created(event: CommandEvent) -> None: ...

    @handlers.on_unknown
    async def unknown_one(event: UnknownEvent) -> None: ...

    @handlers.on("enrollment.updated")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    async def wrong_event(event: CommandEvent) -> None: ...

    async def on_command(command: Command) -> None:
        raise CommandFailed("FAILED_OFFLINE", "why")

    def unacknowledged(command: Command, status: DeviceStatus, error: errors.FlipError) -> None: ...

    ledger: CommandLedger = MemoryCommandLedger()
    ledger = RedisCommandLedger(redis.asyncio.Redis(), namespace="mine")
    processor = CommandProcessor(on_command, on_unacknowledged=unacknowledged, ledger=ledger)
    async with processor.running(flip), WebhookReceiver(handlers, inbox=SqliteInbox("a")) as hooks:
        assert_type((await hooks.receive(body, headers)).status, int)
        assert_type(hooks.stats, ReceiverStats)
        assert_type(processor.stats, ProcessorStats)
    inbox: Inbox = SqliteInbox("inbox.db")
    inbox = RedisInbox("redis://localhost", min_replicas=1)
    queue: ClaimQueue[InboxEntry] = inbox
    assert_type(await queue.claim(10), Sequence[InboxEntry])
    assert_type(webhook_router(on=handlers, commands=processor, inbox=inbox), APIRouter)
    app = FastAPI(lifespan=flip_lifespan(SandboxClient, api_key="fl_your_api_key"))
    app.add_exception_handler(errors.FlipError, flip_error_handler)
    app.dependency_overrides[get_flip_client] = lambda: flip
    assert_type(flip_lifespan(SandboxClient), FlipLifespan[SandboxClient])
    webhook_router(on=Handlers(handlers, Handlers()), client=flip_lifespan(SandboxClient))
    flip_lifespan(SandboxClient, api="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def as_data(app: FastAPI, webhooks: FlipWebhooks, command: Command) -> None:
    assert_type(command.to_dict(), dict[str, object])
    assert_type(Command.from_dict({"id": "c"}), Command)
    Command.from_dict(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(webhooks.sign("command.created", command), SignedWebhook)
    assert_type(await webhooks.deliver(app, "command.created", command.to_dict()), WebhookAnswer)
    await webhooks.deliver("http://127.0.0.1:8000/webhooks/flip", "settings.apply", {"id": "s"})


async def program() -> int:
    return 0


def run() -> None:
    assert_type(run_worker(program), int)
    run_worker(program())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def route(flip: FlipDependency, site: JsonBody[Site]) -> None:
    assert_type(flip, FlipClient)
    assert_type(site, Site)


async def over_httpx2(key: str) -> None:
    async with httpx2.AsyncClient() as http, httpx.AsyncClient() as plain:
        SandboxClient(http_client=http)
        SandboxClient(http_client=plain)
        auth = ClientCredentialsAuth("your_client_id", "your_client_secret", http_client=http)
        SiteTokenAuth("hh-1042", auth=auth, http_client=http)
        SandboxClient(http_client=httpx2.Client())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        SandboxClient(http_client=key)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        SandboxClient(http_client=SandboxClient())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        SandboxClient(transport=Httpx2Transport(http))
        httpx.AsyncClient(transport=Httpx2Transport(http2=True, proxy=httpx.Proxy("http://proxy")))
        assert_type(for_httpx2(auth), httpx2.Auth)
        httpx2.AsyncClient(auth=for_httpx2(SandboxClient().auth))
