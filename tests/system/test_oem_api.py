"""All operations of the OEM API, through the SDK, against the emulator."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from flip_async import FlipClient, errors
from flip_async.emulator import Emulator
from flip_async.models import (
    CommissionSite,
    DeviceBatteryAttributes,
    EnrollmentCreate,
    Event,
    ProgramSpecificAttribute,
)
from tests.system.test_story import battery

OPEN_PROGRAM, PEAK_PROGRAM = 1, 0


@pytest.fixture
async def local() -> AsyncIterator[Emulator]:
    async with Emulator(in_process=True) as local:
        yield local


@pytest.fixture
async def flip(local: Emulator) -> AsyncIterator[FlipClient]:
    async with local.client() as flip:
        await flip.sites.commission(
            CommissionSite(id="hh-1", zip_code="88801"), [battery("a"), battery("b")]
        )
        yield flip


async def test_devices_are_added_read_changed_and_removed(flip: FlipClient) -> None:
    devices = flip.site("hh-1").devices

    made = await devices.create(battery("c/1"))
    assert made.site_id == "hh-1"
    assert [device.id async for device in devices.list()] == ["a", "b", "c/1"]
    assert len(await devices.list(max_items=2)) == 2
    changed = await devices.update(
        "c/1",
        attributes=DeviceBatteryAttributes(
            battery_capacity_wh=27_000, battery_power_input_w=5_000, battery_power_output_w=5_000
        ),
    )
    assert changed.attributes.battery_capacity_wh == 27_000
    assert (await devices.get("c/1")).install_date == datetime(2025, 6, 19, 12, tzinfo=UTC)

    assert await devices.delete("c/1") is None

    with pytest.raises(errors.NotFoundError):
        await devices.get("c/1")
    with pytest.raises(errors.NotFoundError):
        await devices.delete("c/1")
    with pytest.raises(errors.InvalidArgumentError, match="device"):
        await devices.create({"id": "x"})  # type: ignore[arg-type]


async def test_a_deletion_whose_answer_was_lost_is_done(flip: FlipClient, local: Emulator) -> None:
    """A 404 to a repeated DELETE means done [R1]."""
    local.fail_next(method="DELETE", path="/v1/site/{siteId}/device/{id}", cut="after")

    assert await flip.site("hh-1").devices.delete("a") is None

    assert local.count("DELETE", "/v1/site/hh-1/device/a") == 2


async def test_an_enrollment_goes_its_way(flip: FlipClient, local: Emulator) -> None:
    site = flip.site("hh-1")
    programs = await site.programs.list(zip_code="88801", device_type="BATTERY")
    peak = await site.programs.get(programs[PEAK_PROGRAM].id)
    field = peak.enrollment_form[0].name

    made = await site.enrollments.create(
        EnrollmentCreate(
            device_ids=["a"],
            program_id=peak.id,
            has_agreed_to_terms_and_conditions=True,
            terms_and_conditions_version=peak.terms_and_conditions_version,
            program_specific_attributes=[ProgramSpecificAttribute(field, "4401928837")],
        )
    )
    assert made.status == "PENDING"
    assert local.review_enrollments() == 1
    assert (await site.enrollments.get(made.id)).enrolled_at is not None
    assert await site.enrollments.delete(made.id) is None
    assert [one.status async for one in site.enrollments.list()] == ["UNENROLLED"]

    with pytest.raises(errors.UnprocessableEntityError) as caught:
        await site.enrollments.create(EnrollmentCreate(device_ids=["a"], program_id=peak.id))
    assert {detail.field for detail in caught.value.details} == {
        "has_agreed_to_terms_and_conditions",
        "terms_and_conditions_version",
        f"program_specific_attributes.{field}",
    }
    with pytest.raises(errors.InvalidArgumentError, match="enrollment"):
        await site.enrollments.create({})  # type: ignore[arg-type]


async def enroll(flip: FlipClient, local: Emulator) -> None:
    programs = await flip.programs.list(
        device_type="BATTERY", total_capacity_wh=20_000, total_power_w=10_000
    )
    wanted = EnrollmentCreate(device_ids=["a", "b"], program_id=programs[OPEN_PROGRAM].id)
    await flip.site("hh-1").enrollments.create(wanted)
    local.review_enrollments()


async def test_a_dispatch_makes_commands_that_are_acknowledged(
    flip: FlipClient, local: Emulator
) -> None:
    await enroll(flip, local)
    (event_id,) = local.dispatch(starts_in_s=600, duration_s=3600)

    first, second = await flip.commands.list()
    assert first.battery_commands.mode == "DISCHARGE"
    assert (first.event_id, first.device_status) == (event_id, "PENDING")
    done = await flip.commands.update_status(first.id, "OK", reason="Command scheduled")
    assert (done.device_status, done.device_status_reason) == ("OK", "Command scheduled")
    failed = await flip.commands.update_status(second.id, "FAILED_OFFLINE")
    assert failed.device_status == "FAILED_OFFLINE"

    with pytest.raises(errors.InvalidArgumentError, match="device_status"):
        await flip.commands.update_status(first.id, "PENDING")
    with pytest.raises(errors.NotFoundError):
        await flip.commands.update_status("nobody's", "OK")


async def test_a_command_that_nobody_acknowledges_is_sent_anew(
    flip: FlipClient, local: Emulator
) -> None:
    await enroll(flip, local)
    local.dispatch()

    local.advance(16 * 60)
    commands = await flip.commands.list()

    assert [command.device_status for command in commands] == [
        "FAILED_OFFLINE",
        "FAILED_OFFLINE",
        "PENDING",
        "PENDING",
    ]


async def test_events_are_listed_by_status_and_left(flip: FlipClient, local: Emulator) -> None:
    await enroll(flip, local)
    (near,) = local.dispatch(starts_in_s=600, duration_s=3600)
    (far,) = local.dispatch(starts_in_s=7200, duration_s=3600)
    events = flip.site("hh-1").events

    assert [event.id async for event in events.list()] == [far, near]
    assert (await events.get(near)).schedule[0].device_ids == ["a", "b"]
    local.advance(700)
    active: list[Event] = await events.list(status=["ACTIVE", "COMPLETED"])
    assert [event.id for event in active] == [near]
    assert [event.id for event in await events.list(status="ACTIVE")] == [near]

    left = await events.update(far, is_participating=False)
    assert not left.is_participating
    statuses = {(command.event_id, command.status) for command in await flip.commands.list()}
    assert statuses == {(near, "OK"), (far, "OPT_OUT")}
    local.cancel_event(near)
    assert (await events.get(near)).status == "CANCELED"
    with pytest.raises(errors.UnprocessableEntityError):
        await events.list(status=["CANCELED"])


async def test_a_session_opens_the_portal_once(flip: FlipClient, local: Emulator) -> None:
    session = await flip.sessions.create("hh-1")
    new = await flip.sessions.create(CommissionSite(id="hh-2"), devices=[battery("z")])

    assert session.has_programs
    assert not new.has_programs
    assert session.token not in repr(session)
    assert local.use_session(session.token) == "hh-1"
    assert local.use_session(session.token) is None
    assert local.site_ids == ["hh-1", "hh-2"]
    with pytest.raises(errors.UnprocessableEntityError, match="devices"):
        await flip.sessions.create("hh-3")


async def test_what_is_not_documented_goes_as_it_is_given(
    flip: FlipClient, local: Emulator
) -> None:
    """Experimental: no field is invented."""
    assert await flip.settings.update("request/1", {"any": "thing"}) == {}
    assert await flip.supplements.create({"any": "thing"}) == {}
    points = [{"timestamp": "2025-01-01T00:00:00Z", "device_id": "a", "counter": 7}]
    assert await flip.telemetry.send_counters(points) == [{"status": "OK"}]

    local.fail_next(path="/v1/supplements", status=200, body=b'{"a": [1, {"b": null}]}')
    assert await flip.supplements.create({}) == {"a": [1, {"b": None}]}
    assert local.telemetry == points
    assert local.count("PATCH", "/v1/settings/request%2F1") == 1
    with pytest.raises(errors.InvalidArgumentError, match="telemetry"):
        await flip.telemetry.send_counters([])


async def test_programs_are_asked_for_with_numbers_that_can_be(flip: FlipClient) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="total_capacity_wh"):
        flip.programs.list(device_type="BATTERY", total_capacity_wh=0, total_power_w=1)
    with pytest.raises(errors.UnprocessableEntityError):
        await flip.programs.list(device_type="BATTERY", total_capacity_wh=1, total_power_w=-1)
    assert await flip.site("hh-1").programs.list(zip_code="10001", device_type="BATTERY") == []
    first = await flip.site("hh-1").programs.list(
        zip_code="88800", device_type="BATTERY", limit=1, max_items=1
    )
    assert len(first) == 1


async def test_a_list_in_one_page_is_one_request(flip: FlipClient, local: Emulator) -> None:
    assert len(await flip.site("hh-1").devices.list().collect()) == 2
    assert [len(page) async for page in flip.site("hh-1").devices.list().pages()] == [2]

    assert local.count("GET", "/v1/site/{siteId}/devices") == 2


async def test_the_answer_as_it_came_stands_beside_the_model(flip: FlipClient) -> None:
    """[R6]."""
    site, response = await flip.with_raw_response(flip.site("hh-1").get())
    assert (site.id, response.json()["id"]) == ("hh-1", "hh-1")

    rows, response = await flip.with_raw_response(flip.sites.list(max_items=1).collect())
    assert len(rows) == len(response.json()) == 1

    async def nothing() -> None:
        return None

    with pytest.raises(errors.InvalidArgumentError, match="makes no call"):
        await flip.with_raw_response(nothing())
