"""The local Flip as somebody's tests use it: credentials, seeds, a new beginning, a clock, the reference."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from flip_async import FlipClient, Retries, RetryEvent, SandboxClient, errors
from flip_async.commands import CommandProcessor
from flip_async.emulator import Emulator, ManualClock
from flip_async.models import Command, CommissionSite, EnrollmentCreate, TelemetryPoint
from tests.system.test_fastapi import enrolled
from tests.system.test_story import battery
from tests.unit.test_examples import load

START = datetime(2025, 7, 1, 17, tzinfo=UTC)


async def dispatched(emulator: Emulator, devices: int = 1, **options: Any) -> str:
    async with emulator.client() as flip:
        await enrolled(flip, emulator, devices=devices)
    (event_id,) = emulator.dispatch(**options)
    return event_id


def seen(emulator: Emulator) -> list[tuple[object, object]]:
    return [(command["status"], command["device_status"]) for command in emulator.commands]


# Credentials and seeds


async def test_it_is_given_its_credentials() -> None:
    given = {
        "api_key": "fl_public_secret",
        "client_id": "my_client",
        "client_secret": "my secret",
        "webhook_secret": "whsec_eW91cl9zaWduaW5nX2tleV9vZl9taW5l",
    }
    emulator = Emulator(in_process=True, **given)  # type: ignore[arg-type]

    async with emulator, emulator.client() as flip:
        assert await flip.sites.list() == []
    async with emulator, emulator.client(api_key="fl_public_secret") as flip:
        assert await flip.sites.list() == []
    assert {name: getattr(emulator, name) for name in given} == given
    assert not any(value in repr(emulator) for value in given.values())


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": "two keys"},
        {"client_id": ""},
        {"client_secret": "a\nb"},
        {"webhook_secret": "whsec_?"},
    ],
)
def test_a_credential_that_cannot_be_one_is_refused(options: Any) -> None:
    with pytest.raises(errors.ConfigurationError):
        Emulator(**options)


async def everything(emulator: Emulator) -> list[object]:
    """What is left to chance in a story."""
    found: list[object] = [
        emulator.api_key, emulator.client_secret, emulator.webhook_secret,
    ]  # fmt: skip
    emulator.register_webhook(
        "http://app/", transport=httpx.MockTransport(lambda request: httpx.Response(204))
    )
    async with emulator.client() as flip:
        await enrolled(flip, emulator, devices=2)
        found.append((await flip.site_tokens.create("hh-1")).site_access_token)
        found += [enrollment.id for enrollment in await flip.site("hh-1").enrollments.list()]
    found += emulator.dispatch()
    found += [command["id"] for command in emulator.commands]
    await emulator.webhooks_settled()
    found += [delivery.webhook_id for delivery in emulator.webhooks]
    return found


async def test_a_seed_repeats_what_is_left_to_chance() -> None:
    async def story(seed: int | None) -> list[object]:
        async with Emulator(in_process=True, seed=seed) as emulator:
            return await everything(emulator)

    assert await story(1) == await story(1)
    for seed, other in ((1, 2), (None, None)):
        assert not set(await story(seed)) & set(await story(other))


async def test_a_seed_repeats_the_jitter_of_a_client() -> None:
    async def pauses(seed: int) -> list[float]:
        told: list[float] = []

        def on_retry(event: RetryEvent) -> None:
            told.append(event.pause_s)

        async with (
            Emulator(in_process=True, seed=seed) as emulator,
            emulator.client(retries=Retries(max_attempts=4), on_retry=on_retry) as flip,
        ):
            emulator.fail_next(3, path="/v1/sites", status=503)
            await flip.sites.list()
        return told

    assert await pauses(1) == await pauses(1) != await pauses(2)


def test_a_seed_is_a_whole_number() -> None:
    with pytest.raises(errors.InvalidArgumentError, match="seed"):
        Emulator(seed="a")  # type: ignore[arg-type]


# A new beginning


@pytest.fixture(params=["in process", "socket"])
async def local(request: Any) -> AsyncIterator[Emulator]:
    async with Emulator(in_process=request.param == "in process", seed=1) as emulator:
        yield emulator


async def test_a_reset_goes_back_to_the_beginning(local: Emulator) -> None:
    where, key = (local.api_url, local.variables()), local.api_key
    first = await dispatched(local)
    local.fail_next(None, status=500)
    local.register_webhook("http://app/", transport=httpx.MockTransport(gone))
    local.advance(10_000)
    local.token_lifetime_s = 1
    before = local.commands

    local.reset()

    assert (local.api_url, local.variables()) == where
    assert (local.site_ids, local.commands, local.telemetry, local.webhooks) == ([], [], [], [])
    assert local.count("POST", "/token") == 0
    assert local.token_lifetime_s == 3600
    assert before != []
    assert await dispatched(local) == first
    await local.webhooks_settled()
    assert local.webhooks == []
    assert local.api_key == key
    created_at = datetime.fromisoformat(str(local.commands[0]["created_at"]))
    assert abs(created_at - datetime.now(UTC)) < timedelta(minutes=1)


def gone(request: httpx.Request) -> httpx.Response:
    return httpx.Response(404)


async def test_a_client_lives_through_a_reset(local: Emulator) -> None:
    """Its token is of before, and is not taken for another's."""
    async with local.client() as flip:
        await flip.sites.commission(CommissionSite(id="hh-1"), [battery()])
        await flip.site("hh-1").get()
        local.reset()
        await flip.sites.commission(CommissionSite(id="hh-2"), [battery()])

        assert (await flip.site("hh-2").get()).id == "hh-2"
        with pytest.raises(errors.NotFoundError):
            await flip.site("hh-1").get()


async def test_a_reset_drops_webhooks_on_their_way(local: Emulator) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def take(request: httpx.Request) -> httpx.Response:
        asked.set()
        await answer.wait()
        raise AssertionError

    local.register_webhook("http://app/", transport=httpx.MockTransport(take))
    local.send_webhook("settings.apply", {})
    await asked.wait()
    local.reset()
    await local.webhooks_settled()

    assert local.webhooks == []


async def test_an_emulator_may_be_entered_again() -> None:
    emulator = Emulator(in_process=True)
    emulator.register_webhook(
        "http://app/", transport=httpx.MockTransport(lambda request: httpx.Response(204))
    )
    for _ in range(2):
        async with emulator:
            emulator.send_webhook("settings.apply", {})
            await emulator.webhooks_settled()

    assert [delivery.outcomes for delivery in emulator.webhooks] == [[204], [204]]


# Time


async def test_time_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(START)
    async with Emulator(in_process=True, clock=clock) as emulator:
        await dispatched(emulator, starts_in_s=600, duration_s=3600)
        await asyncio.sleep(0.01)
        command = emulator.commands[0]
        told: list[str] = []
        emulator.register_webhook(
            "http://app/",
            transport=httpx.MockTransport(
                lambda request: told.append(request.read().decode()) or httpx.Response(204)
            ),
        )

        assert command["created_at"] == "2025-07-01T17:00:00.000Z"
        assert command["starts_at"] == "2025-07-01T17:10:00.000Z"
        async with emulator.client() as flip:
            acknowledged = await flip.commands.update_status(str(command["id"]), "OK")
        assert acknowledged.updated_at == START
        clock.advance(600)
        await emulator.webhooks_settled()
        assert '"event_type":"command.started"' in told[0]
        assert '"timestamp":"2025-07-01T17:10:00.000Z"' in told[0]
        emulator.advance(3600)  # moves the same clock
        await emulator.webhooks_settled()
        assert clock.wall() == START.timestamp() + 4200
        assert '"event_type":"command.ended"' in told[1]


async def test_a_processor_shares_the_clock() -> None:
    """Twelve minutes of failures pass in no time at all."""
    clock, tried = ManualClock(START), asyncio.Event()

    async def broken(command: Command) -> None:
        tried.set()
        raise OSError

    async with Emulator(in_process=True, clock=clock) as emulator, emulator.client() as flip:
        await dispatched(emulator)
        processor = CommandProcessor(broken, clock=clock)
        async with processor.running(flip):
            await tried.wait()
            while seen(emulator) != [("OK", "FAILED_FAULT")]:
                clock.advance(60)
                await asyncio.sleep(0)

        assert clock.wall() <= START.timestamp() + 15 * 60


async def test_a_clock_of_tests_wakes_each_at_its_own_time() -> None:
    clock = ManualClock(START, luck=0.25)
    woken: list[tuple[str, float]] = []
    clock.call_later(5, lambda: woken.append(("five", clock.wall() - START.timestamp())))
    clock.call_later(
        1, lambda: clock.call_later(1, lambda: woken.append(("two", clock.now().wall_s)))
    )
    clock.call_later(2, lambda: woken.append(("never", 0))).cancel()
    sleeper = asyncio.create_task(clock.sleep(3))
    await asyncio.sleep(0)

    clock.advance(10)
    await sleeper

    assert woken == [("two", START.timestamp() + 2), ("five", 5)]
    assert clock.monotonic() == clock.now().monotonic_s
    assert clock.random() == 0.25


@pytest.mark.parametrize("seconds", [-1, "1", float("nan")])
async def test_time_does_not_go_back(seconds: Any) -> None:
    for clock in (ManualClock(), Emulator(in_process=True)):
        with pytest.raises(errors.InvalidArgumentError, match="seconds"):
            clock.advance(seconds)


def test_a_clock_has_a_time_zone() -> None:
    with pytest.raises(errors.InvalidArgumentError, match="no time zone"):
        ManualClock(datetime(2025, 7, 1))
    with pytest.raises(errors.InvalidArgumentError, match="now"):
        ManualClock("2025-07-01")  # type: ignore[arg-type]


async def test_commands_begin_and_end_by_themselves() -> None:
    told: list[str] = []
    ended = asyncio.Event()

    def take(request: httpx.Request) -> httpx.Response:
        told.append(request.read().decode().split('"')[3])
        if told[-1] == "command.ended":
            ended.set()
        return httpx.Response(204)

    async with Emulator(in_process=True) as emulator:
        emulator.register_webhook("http://app/", transport=httpx.MockTransport(take))
        await dispatched(emulator, starts_in_s=0.05, duration_s=0.05)
        await asyncio.wait_for(ended.wait(), 30)

    assert told[-2:] == ["command.started", "command.ended"]


async def test_a_thread_may_call_for_power() -> None:
    async with Emulator(in_process=True) as emulator:
        async with emulator.client() as flip:
            await enrolled(flip, emulator)
        await asyncio.to_thread(emulator.dispatch, starts_in_s=0.01, duration_s=0.01)
        while emulator._world.grid._plans:
            await asyncio.sleep(0.01)


class CountingClock(ManualClock):
    """Counts how often somebody asks to be woken."""

    asked = 0

    def call_later(self, seconds: float, callback: Any) -> Any:
        self.asked += 1
        return super().call_later(seconds, callback)


async def test_idle_commands_cost_one_timer() -> None:
    clock = CountingClock(START)
    async with Emulator(in_process=True, clock=clock) as emulator:
        await dispatched(emulator, devices=2000, starts_in_s=7200)
        clock.asked = 0

        clock.advance(600)

        assert clock.asked == 10  # once a minute, as the machine's clock may be set


# As the reference says


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(in_process=True, clock=ManualClock(START)) as emulator:
        yield emulator


@pytest.mark.parametrize(
    ("leave", "status"),
    [
        (lambda local, event_id: local.cancel_event(event_id), "CANCELED"),
        (lambda local, event_id: local.participate(event_id, is_participating=False), "OPT_OUT"),
    ],
)
async def test_a_cancelation_that_nobody_acknowledges_stays_one(
    emulator: Emulator, leave: Any, status: str
) -> None:
    """It fails after 15 minutes as any other, and no command of it takes place."""
    event_id = await dispatched(emulator, starts_in_s=7200)
    leave(emulator, event_id)

    emulator.advance(899)
    assert seen(emulator) == [(status, "PENDING")]
    emulator.advance(1)
    assert seen(emulator) == [(status, "FAILED_OFFLINE")]
    emulator.advance(24 * 3600)
    assert seen(emulator) == [(status, "FAILED_OFFLINE")]


async def test_who_comes_back_after_that_is_asked_again(emulator: Emulator) -> None:
    event_id = await dispatched(emulator, starts_in_s=7200)
    emulator.participate(event_id, is_participating=False)
    emulator.advance(901)

    emulator.participate(event_id, is_participating=True)

    assert seen(emulator) == [("OK", "PENDING")]


async def test_nobody_comes_back_to_a_canceled_event(emulator: Emulator) -> None:
    event_id = await dispatched(emulator)
    emulator.participate(event_id, is_participating=False)
    emulator.cancel_event(event_id)

    emulator.participate(event_id, is_participating=True)
    emulator.cancel_event(event_id)

    assert seen(emulator) == [("CANCELED", "PENDING")]


async def test_a_choice_that_changes_nothing_asks_for_nothing(emulator: Emulator) -> None:
    event_id = await dispatched(emulator)
    async with emulator.client() as flip:
        await flip.commands.update_status(str(emulator.commands[0]["id"]), "OK")

    emulator.participate(event_id, is_participating=True)

    assert seen(emulator) == [("OK", "OK")]


async def test_what_is_over_is_not_canceled(emulator: Emulator) -> None:
    event_id = await dispatched(emulator, starts_in_s=10, duration_s=10)
    emulator.advance(60)
    emulator.cancel_event(event_id)
    emulator.participate(event_id, is_participating=False)

    assert seen(emulator) == [("OK", "PENDING")]
    async with emulator.client() as flip:
        assert str((await flip.site("hh-1").events.get(event_id)).status) == "COMPLETED"


async def test_a_command_that_failed_is_sent_anew_until_its_end(emulator: Emulator) -> None:
    """Each in its own time: an hour that is skipped is an hour that passes."""
    await dispatched(emulator, starts_in_s=600, duration_s=1800)

    emulator.advance(3600)

    assert seen(emulator) == [("OK", "FAILED_OFFLINE")] * 2 + [("OK", "PENDING")]
    assert [command["created_at"] for command in emulator.commands] == [
        "2025-07-01T17:00:00.000Z", "2025-07-01T17:15:00.000Z", "2025-07-01T17:30:00.000Z",
    ]  # fmt: skip


async def test_a_cancelation_changes_the_command_that_counts(emulator: Emulator) -> None:
    event_id = await dispatched(emulator)
    emulator.advance(901)

    emulator.cancel_event(event_id)

    assert seen(emulator) == [("OK", "FAILED_OFFLINE"), ("CANCELED", "PENDING")]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"power_mode": "SETPOINT", "setpoint_w": 5000}),
        ({"mode": "CHARGE", "setpoint_w": 800}, {"power_mode": "SETPOINT", "setpoint_w": 800}),
        ({"power_mode": "FOLLOW_LOAD"}, {"power_mode": "FOLLOW_LOAD"}),
        ({"mode": "STANDBY"}, {}),
        ({"mode": "BACKUP"}, {}),
        ({"mode": "SELF_CONSUMPTION"}, {}),
        ({"mode": "SAVINGS"}, {}),
    ],
)
async def test_a_mode_has_the_fields_that_it_has_at_flip(
    emulator: Emulator, options: Any, expected: Any
) -> None:
    await dispatched(emulator, **options)

    commands: Any = emulator.commands[0]["battery_commands"]
    assert {name: commands.get(name) for name in expected} == expected
    assert {"power_mode", "setpoint_w"} & commands.keys() == expected.keys()


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "STANDBY", "setpoint_w": 5},
        {"mode": "STANDBY", "power_mode": "SETPOINT"},
        {"power_mode": "FOLLOW_LOAD", "setpoint_w": 5},
        {"power_mode": "ANY"},
        {"setpoint_w": -5},
        {"duration_s": 0},
        {"starts_in_s": "soon"},
    ],
)
def test_a_dispatch_that_flip_would_not_make_is_refused(options: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError):
        Emulator(in_process=True).dispatch(**options)
    for call in (Emulator().cancel_event, Emulator().participate):
        with pytest.raises(errors.InvalidArgumentError, match="event_id"):
            call("nobody", **({} if "cancel" in call.__name__ else {"is_participating": True}))


WITH_TERMS = "0d5b6a1e-6c1f-4a55-9f3e-2b7d8c9e0f11"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({}, None),
        ({"has_agreed_to_terms_and_conditions": None}, "has_agreed_to_terms_and_conditions"),
        ({"terms_and_conditions_version": "2024-01-01"}, "terms_and_conditions_version"),
        ({"program_specific_attributes": []}, "program_specific_attributes"),
        ({"program_specific_attributes": [{"name": "account_id"}]}, "program_specific_attributes"),
        ({"device_ids": [1]}, "device_ids"),
    ],
)
@pytest.mark.parametrize("together", [False, True])
async def test_terms_are_asked_for_wherever_a_site_is_enrolled(
    emulator: Emulator, change: Any, place: str | None, together: bool
) -> None:
    wanted = {
        "device_ids": ["inv-1"],
        "program_id": WITH_TERMS,
        "enroll_method": "USER_ACTION",
        "has_agreed_to_terms_and_conditions": True,
        "terms_and_conditions_version": "2025-01-01",
        "program_specific_attributes": [{"name": "account_id", "value": "1"}],
    } | change
    if together:
        body = load("commission-minimal.request") | {"enrollment": wanted}
        answer = await ask(emulator, emulator.api_key, "POST", "/v1/commission", body)
    else:
        token = await a_site(emulator)
        answer = await ask(emulator, token, "POST", "/v1/site/a/enrollments", wanted)

    if place is None:
        assert answer.status_code == 200
        assert len(emulator._world.enrollments) == 1
        return
    assert answer.status_code == 422
    path = ["body", "enrollment", place] if together else ["body", place]
    assert answer.json()["detail"][0]["loc"][: len(path)] == path
    assert emulator._world.enrollments == {}
    assert emulator.site_ids == ([] if together else ["a"])  # nothing was made of it


async def a_site(emulator: Emulator) -> str:
    """Commissions it, and gives its token."""
    async with emulator.client() as flip:
        await flip.sites.commission(CommissionSite(id="a"), [battery()])
        return (await flip.site_tokens.create("a")).site_access_token


async def ask(
    emulator: Emulator, token: str, method: str, path: str, body: Any = None
) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(transport=emulator.transport, headers=headers) as http:
        return await http.request(method, f"{emulator.api_url}{path}", json=body)


async def test_telemetry_of_devices_that_are_not_known_is_as_one_likes() -> None:
    """What Flip does with it is not documented."""
    point = TelemetryPoint.offline(device_id="nobody", start_time=START, duration_s=300)
    for options, status in (({}, "FAILED"), ({"accept_unknown_devices": True}, "OK")):
        async with Emulator(in_process=True, **options) as emulator, emulator.client() as flip:  # type: ignore[arg-type]
            (result,) = await flip.telemetry.send([point])
            assert result.status == status


@pytest.mark.parametrize("path", ["/v1/site/a/device/nobody", "/v1/site/a/enrollment/nobody"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_what_is_not_known_is_a_404(emulator: Emulator, method: str, path: str) -> None:
    answer = await ask(emulator, await a_site(emulator), method, path)

    assert answer.status_code == 404


async def test_what_it_hands_out_is_a_copy(emulator: Emulator) -> None:
    await dispatched(emulator)
    emulator.commands[0]["status"] = "mine"
    before = emulator.commands

    emulator.advance(901)

    assert [command["device_status"] for command in before] == ["PENDING"]


# Webhooks that fail


def refused(request: httpx.Request) -> httpx.Response:
    return httpx.Response(404)


def down(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("down")


def broken(request: httpx.Request) -> httpx.Response:
    raise KeyError("a bug of the application")


def canceled(request: httpx.Request) -> httpx.Response:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [(refused, 404), (down, "ConnectError"), (broken, "KeyError"), (canceled, "UserCodeError")],
)
async def test_a_delivery_that_fails_is_told_and_comes_to_its_end(
    answer: Any, outcome: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with Emulator(in_process=True, webhook_pauses_s=[0.01]) as emulator:
        emulator.register_webhook(
            "http://user:secret_password@app/?key=secret", transport=httpx.MockTransport(answer)
        )
        emulator.send_webhook("settings.apply", {})
        await emulator.webhooks_settled()

    (delivery,) = emulator.webhooks
    assert delivery.outcomes == [outcome, outcome]
    assert delivery.is_over
    told = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert [one.name for one in told] == ["flip_async.emulator"] * 2
    assert "again in 0.01 s" in told[0].getMessage()
    assert "given up" in told[1].getMessage()
    assert "secret" not in "".join(one.getMessage() for one in caplog.records)


async def test_a_delivery_that_succeeds_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    async with Emulator(in_process=True) as emulator:
        emulator.register_webhook(
            "http://app/", transport=httpx.MockTransport(lambda request: httpx.Response(200))
        )
        emulator.send_webhook("settings.apply", {})
        await emulator.webhooks_settled()

    assert caplog.records == []


@pytest.mark.parametrize(
    "options",
    [{"url": "app"}, {"url": "ftp://app"}, {"url": 5}, {"copies": 0}, {"event_types": 5}],
)
def test_a_webhook_that_cannot_be_delivered_is_refused(options: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError):
        Emulator().register_webhook(**{"url": "http://app/"} | options)


# Addresses


async def lists(flip: FlipClient) -> None:
    async with flip:
        assert await flip.sites.list() == []


@pytest.mark.parametrize("host", ["0.0.0.0", "", "localhost", "127.0.0.1"])
async def test_its_own_client_reaches_it_wherever_it_listens(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Emulator(host=host) as emulator:
        await lists(emulator.client())
        for name, value in emulator.variables().items():
            monkeypatch.setenv(name, value)
        await lists(SandboxClient())


@pytest.mark.parametrize("host", ["::1", "::"])
async def test_it_listens_on_ipv6_too(host: str) -> None:
    emulator = Emulator(host=host)
    try:
        async with emulator:
            assert emulator.api_url.startswith("http://[::1]:")
            await lists(emulator.client())
    except OSError:
        pytest.skip("this machine has no IPv6")


def test_on_a_private_network_its_environment_says_so() -> None:
    emulator = Emulator(host="10.0.0.5")
    emulator._server = type("Server", (), {"port": 8080})()  # type: ignore[assignment]

    assert emulator.environment.insecure_http
    assert emulator.environment.api_url == "http://10.0.0.5:8080"
    emulator._server = None
    assert not Emulator(in_process=True).environment.insecure_http


async def test_its_enrollments_take_no_answers_as_none(emulator: Emulator) -> None:
    async with emulator.client() as flip:
        site = CommissionSite(id="a", zip_code="88801")
        programs = (await flip.sites.commission(site, [battery()])).programs
        open_to_all = next(one for one in programs if one.can_auto_enroll)
        wanted = EnrollmentCreate(device_ids=["inv-1"], program_id=open_to_all.id)
        enrollment = await flip.site("a").enrollments.create(wanted)

    assert enrollment.program_specific_attributes == []


def test_it_reads_no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real credentials of the environment have no business here."""
    for name in ("FLIP_API_KEY", "FLIP_CLIENT_SECRET", "FLIP_WEBHOOK_SECRET"):
        monkeypatch.setenv(name, "real")

    emulator = Emulator()

    assert "real" not in (emulator.api_key, emulator.client_secret, emulator.webhook_secret)
    assert os.environ["FLIP_API_KEY"] == "real"
