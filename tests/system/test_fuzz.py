"""Whatever the emulator is asked and answers, the SDK raises nothing but a `FlipError`."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from flip_async import FlipClient, Retries, errors
from flip_async.emulator import Emulator
from flip_async.models import (
    CommissionSite,
    DeviceBatteryAttributes,
    DeviceCreate,
    EnrollmentCreate,
    ProgramSpecificAttribute,
    TelemetryPoint,
)

TEXT = st.text(max_size=8)
IDS = (
    st.sampled_from(["hh-1", "inv-1", "nobody", "a/b", ".", "..", "", "ü", "%2F", "a\x00b"]) | TEXT
)
NUMBERS = st.integers(-5, 10**9) | st.floats()
INSTANTS = st.datetimes(timezones=st.none() | st.just(UTC))
ANYTHING = st.none() | st.booleans() | NUMBERS | TEXT | INSTANTS
ATTRIBUTES = st.builds(
    DeviceBatteryAttributes,
    battery_capacity_wh=NUMBERS,
    battery_power_input_w=NUMBERS,
    battery_power_output_w=NUMBERS,
)
DEVICES = st.builds(
    DeviceCreate,
    id=IDS,
    manufacturer_name=ANYTHING,
    product_name=TEXT,
    serial_number=TEXT,
    type=st.sampled_from(["BATTERY", "EV_CHARGER", "OTHER"]),
    attributes=ATTRIBUTES,
    install_date=INSTANTS,
)
SITES = st.builds(
    CommissionSite,
    id=IDS,
    state_code=ANYTHING,
    city=ANYTHING,
    zip_code=st.sampled_from(["88801", "1"]),
)
ENROLLMENTS = st.builds(
    EnrollmentCreate,
    device_ids=st.lists(IDS, max_size=2),
    program_id=IDS,
    has_agreed_to_terms_and_conditions=ANYTHING,
    program_specific_attributes=st.lists(
        st.builds(ProgramSpecificAttribute, TEXT, TEXT), max_size=2
    ),
)
POINTS = st.builds(
    TelemetryPoint,
    device_id=IDS,
    start_time=INSTANTS,
    duration_s=NUMBERS,
    last_mode=ANYTHING,
    home_last_power_w=ANYTHING,
    oem_raw_data=st.dictionaries(TEXT, ANYTHING, max_size=2),
)
JSON = st.dictionaries(TEXT, st.none() | st.booleans() | NUMBERS | TEXT, max_size=3)

Call = Callable[[FlipClient], Awaitable[object]]
CALLS: st.SearchStrategy[Call] = st.one_of(
    st.builds(
        lambda s, d, e: lambda f: f.sites.commission(s, d, enrollment=e),
        SITES,
        st.lists(DEVICES, max_size=2),
        ENROLLMENTS,
    ),
    st.builds(
        lambda k, n: lambda f: f.sites.list(skip=k, limit=n, max_items=3),
        st.integers(-1, 9),
        st.integers(0, 9),
    ),
    st.builds(
        lambda s, d: lambda f: f.sessions.create(s, devices=d),
        SITES | IDS,
        st.lists(DEVICES, max_size=1),
    ),
    st.builds(lambda i: lambda f: f.site_tokens.create(i), IDS),
    st.builds(lambda i: lambda f: f.site(i).get(), IDS),
    st.builds(lambda c, z: lambda f: f.site("hh-1").update(city=c, zip_code=z), ANYTHING, ANYTHING),
    st.builds(lambda i: lambda f: f.site("hh-1").devices.get(i), IDS),
    st.builds(lambda d: lambda f: f.site("hh-1").devices.create(d), DEVICES),
    st.builds(
        lambda i, a: lambda f: f.site("hh-1").devices.update(i, attributes=a), IDS, ATTRIBUTES
    ),
    st.builds(lambda i: lambda f: f.site("hh-1").devices.delete(i), IDS),
    st.builds(lambda e: lambda f: f.site("hh-1").enrollments.create(e), ENROLLMENTS),
    st.builds(lambda i: lambda f: f.site("hh-1").enrollments.delete(i), IDS),
    st.builds(
        lambda i, p: lambda f: f.site("hh-1").events.update(i, is_participating=p),
        IDS,
        st.booleans(),
    ),
    st.builds(lambda s: lambda f: f.site("hh-1").events.list(status=s), st.lists(TEXT, max_size=2)),
    st.builds(
        lambda z, t: lambda f: f.site("hh-1").programs.list(zip_code=z, device_type=t), TEXT, TEXT
    ),
    st.builds(lambda i: lambda f: f.site("hh-1").programs.get(i), IDS),
    st.builds(
        lambda i, s, r: lambda f: f.commands.update_status(i, s, reason=r),
        IDS,
        st.sampled_from(["OK", "FAILED_FAULT", "?"]),
        ANYTHING,
    ),
    st.builds(lambda p: lambda f: f.telemetry.send(p), st.lists(POINTS, max_size=3)),
    st.builds(lambda p: lambda f: f.telemetry.send_counters(p), st.lists(JSON, max_size=2)),
    st.builds(lambda i, b: lambda f: f.settings.update(i, b), IDS, JSON),
    st.builds(
        lambda m, p, b: lambda f: f.request(m, f"/v1/{p}", body=b),
        st.sampled_from(["GET", "PATCH", "POST"]),
        st.sampled_from(
            [
                "commission",
                "site/hh-1",
                "telemetry/BATTERY",
                "site/hh-1/enrollments",
                "sessions",
                "x",
            ]
        ),
        JSON | st.lists(JSON, max_size=1),
    ),
)
FAULTS = st.none() | st.fixed_dictionaries(
    {
        "status": st.sampled_from([200, 204, 302, 400, 401, 404, 422, 429, 500, 503]),
        "body": st.binary(max_size=30)
        | st.sampled_from(
            [b"[]", b"{}", b'{"detail": 3}', b'[{"id": 1}]', b'{"detail": [{"loc": {}}]}']
        ),
    }
)


async def play(calls: list[tuple[Call, Any]]) -> None:
    async with Emulator(in_process=True, max_limit=2) as local:
        client = local.client(retries=Retries(max_attempts=2, base_s=0), deadline_s=5)
        async with client as flip:
            battery = DeviceCreate(
                id="inv-1",
                manufacturer_name="m",
                product_name="p",
                serial_number="s",
                attributes=DeviceBatteryAttributes(
                    battery_capacity_wh=1, battery_power_input_w=1, battery_power_output_w=1
                ),
                install_date=datetime(2025, 1, 1, tzinfo=UTC),
            )
            await flip.sites.commission(CommissionSite(id="hh-1"), [battery])
            for call, fault in calls:
                local.behave()
                if fault is not None:
                    local.fail_next(**fault)
                try:
                    await call(flip)
                except errors.FlipError as error:
                    # An emulator that falls over would hide behind its own 500.
                    fell_over = isinstance(error, errors.ServerError) and fault is None
                    assert not fell_over, error


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(CALLS, FAULTS), min_size=1, max_size=5))
def test_only_flip_errors_come_out(calls: list[tuple[Call, Any]]) -> None:
    asyncio.run(play(calls))
