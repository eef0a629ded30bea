"""What is checked before a request, and what is accepted in an answer [R3], [R4]."""

import importlib
import json
import math
import pickle
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import attrs
import httpx
import pytest

from flip_async import models
from flip_async._wire import decode, encode
from flip_async.errors import DecodeError, InvalidArgumentError
from flip_async.models import (
    UNSET,
    AggregatorDevice,
    CommandStatusUpdate,
    Commission,
    CommissionResult,
    CommissionSite,
    CounterBatch,
    DeviceBatteryAttributes,
    DeviceCreate,
    DeviceType,
    EnrollmentCreate,
    EnrollmentStatus,
    ProgramSpecificAttribute,
    Site,
    SiteToken,
    SiteUpdate,
    TelemetryBatch,
    TelemetryPoint,
    UtilityAction,
    UtilityEnrollmentUpdate,
    UtilityEvent,
    UtilityEventCreate,
    UtilityTelemetryQuery,
)

NOON = datetime(2025, 6, 19, 12, tzinfo=UTC)


def device(**changes: Any) -> DeviceCreate:
    fields: dict[str, Any] = {
        "id": "inv-1",
        "manufacturer_name": "Voltan",
        "product_name": "Hearth",
        "serial_number": "1",
        "attributes": DeviceBatteryAttributes(
            battery_capacity_wh=13500, battery_power_input_w=5000, battery_power_output_w=5000
        ),
        "install_date": NOON,
    }
    return DeviceCreate(**(fields | changes))


def point(**changes: Any) -> TelemetryPoint:
    return TelemetryPoint(**({"device_id": "d", "start_time": NOON, "duration_s": 300} | changes))


def commission(**changes: Any) -> Commission:
    return Commission(**({"site": CommissionSite(id="hh-1"), "devices": [device()]} | changes))


def test_a_commission_encodes_as_the_reference_prints_it() -> None:
    body = commission(
        enrollment=EnrollmentCreate(
            device_ids=["inv-1"],
            program_id="p",
            program_specific_attributes=[ProgramSpecificAttribute("account_id", "44")],
        ),
        can_auto_enroll=False,
    )

    assert json.loads(encode(body)) == {
        "site": {"id": "hh-1"},
        "devices": [
            {
                "id": "inv-1",
                "manufacturer_name": "Voltan",
                "product_name": "Hearth",
                "serial_number": "1",
                "type": "BATTERY",
                "attributes": {
                    "battery_capacity_wh": 13500,
                    "battery_power_input_w": 5000,
                    "battery_power_output_w": 5000,
                },
                "install_date": "2025-06-19T12:00:00Z",
            }
        ],
        "can_auto_enroll": False,
        "enrollment": {
            "device_ids": ["inv-1"],
            "program_id": "p",
            "enroll_method": "USER_ACTION",
            "program_specific_attributes": [{"name": "account_id", "value": "44"}],
        },
    }


def test_a_patch_tells_not_given_from_null() -> None:
    """[R4]."""
    assert encode(SiteUpdate(email="a@example.org", street_address2=None)) in {
        b'{"email":"a@example.org","street_address2":null}',
        b'{"street_address2":null,"email":"a@example.org"}',
    }
    assert encode(SiteUpdate()) == b"{}"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (commission(site=CommissionSite(id="")), "site.id"),
        (commission(site=CommissionSite(id=5)), "site.id"),  # type: ignore[arg-type]
        (commission(site=CommissionSite(id="x", state_code="DC")), "site.state_code"),
        (commission(site=CommissionSite(id="x", email=3)), "site.email"),  # type: ignore[arg-type]
        (commission(site={"id": "x"}), "site"),
        (commission(devices=[]), "devices"),
        (commission(devices="ab"), "devices"),
        (commission(devices={}), "devices"),
        (commission(devices=[device(), 3]), "devices[1]"),
        (commission(devices=[device(), device(id="")]), "devices[1].id"),
        (
            commission(devices=[device(install_date=datetime(2025, 6, 1))]),
            "devices[0].install_date",
        ),
        (commission(devices=[device(install_date="2025-06-01")]), "devices[0].install_date"),
        (commission(devices=[device(attributes=None)]), "devices[0].attributes"),
        (
            commission(
                devices=[
                    device(
                        attributes=DeviceBatteryAttributes(
                            battery_capacity_wh=1.5,  # type: ignore[arg-type]
                            battery_power_input_w=1,
                            battery_power_output_w=1,
                        )
                    )
                ]
            ),
            "devices[0].attributes.battery_capacity_wh",
        ),
        (commission(can_auto_enroll="yes"), "can_auto_enroll"),
        (
            commission(enrollment=EnrollmentCreate(device_ids=[], program_id="p")),
            "enrollment.device_ids",
        ),
        (SiteUpdate(state_code="California"), "state_code"),
        (TelemetryBatch(telemetry=[]), "telemetry"),
        (TelemetryBatch(telemetry=[point()] * 1001), "telemetry"),
        (TelemetryBatch(telemetry=[point(duration_s=True)]), "telemetry[0].duration_s"),
        (TelemetryBatch(telemetry=[point(home_last_power_w=-1)]), "telemetry[0].home_last_power_w"),
        (
            TelemetryBatch(telemetry=[point(home_last_power_w=math.nan)]),
            "telemetry[0].home_last_power_w",
        ),
        (
            TelemetryBatch(telemetry=[point(home_last_power_w=math.inf)]),
            "telemetry[0].home_last_power_w",
        ),
        (
            TelemetryBatch(telemetry=[point(battery_last_state_of_charge_percentage=101)]),
            "telemetry[0].battery_last_state_of_charge_percentage",
        ),
        (TelemetryBatch(telemetry=[point(last_is_online=1)]), "telemetry[0].last_is_online"),
        (TelemetryBatch(telemetry=[point(oem_raw_data=[1])]), "telemetry[0].oem_raw_data"),
        (TelemetryBatch(telemetry=[point(oem_raw_data={"a": object()})]), "body"),
        (
            TelemetryBatch(telemetry=[point(oem_raw_data={"a": [1, {"b": math.nan}]})]),
            "telemetry[0].oem_raw_data.a[1].b",
        ),
        (
            TelemetryBatch(telemetry=[point(oem_raw_data={"at": datetime(2025, 1, 1)})]),
            "telemetry[0].oem_raw_data.at",
        ),
        (CounterBatch(telemetry=[{"counter": math.inf}]), "telemetry[0].counter"),
        ({"a": [math.nan]}, "body.a[0]"),
        ([1, (2, math.inf)], "body[1][1]"),
        ({"a": {math.nan}}, "body.a[0]"),
        ({math.nan: 1}, "body"),
        (TelemetryBatch(telemetry=[point(), point(device_id="")]), "telemetry[1].device_id"),
        (TelemetryBatch(telemetry=[point(duration_s=-(10**5000))]), "telemetry[0].duration_s"),
    ],
)
def test_a_field_that_breaks_its_rule_is_named_with_its_place(body: object, field: str) -> None:
    """Before any request, with the value's shape and what is allowed."""
    with pytest.raises(InvalidArgumentError) as caught:
        encode(body)

    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")


def read(content: bytes, kind: type[Any] = Site) -> Any:
    request = httpx.Request("GET", "https://api.flip.energy/v1/site/x")
    response = httpx.Response(200, content=content, request=request)
    return decode(response, kind, method="GET", path="/v1/site/x")


SITE = {"id": "a", "created_at": "2025-06-19T22:41:07Z", "updated_at": "2025-06-19 22:41:07.000Z"}


def test_an_answer_may_have_more_and_less_than_we_know() -> None:
    """Unknown fields are ignored, missing optional ones are `None` [R3]."""
    site = read(json.dumps(SITE | {"tariff_id": "t", "new": {"deep": [1]}}).encode())

    assert site.id == "a"
    assert site.email is None
    assert site.updated_at == datetime(2025, 6, 19, 22, 41, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("content", "kind", "place"),
    [
        (b'{"id": 1}', Site, "$.id"),
        (b"{}", Site, "$"),
        (json.dumps([SITE, SITE | {"email": 5}]).encode(), list[Site], "$[1].email"),
        (b"[]", Site, "$"),
        (b"nonsense", Site, None),
        (b"", Site, None),
        (b'{"id": "\xff"}', Site, None),
        (b"[" * 100_000, list[Site], "$[0]"),
        (b'{"new": ' + b"[" * 100_000, Site, None),
    ],
)
def test_an_answer_that_cannot_be_read_names_the_place(
    content: bytes, kind: type[Any], place: str | None
) -> None:
    """With the raw response beside it."""
    with pytest.raises(DecodeError) as caught:
        read(content, kind)

    assert caught.value.document_path == place
    assert caught.value.response.content == content
    assert "GET /v1/site/x: cannot read the answer" in str(caught.value)


def test_an_unknown_value_survives_a_round_trip() -> None:
    """[R3]."""
    kind = DeviceType("HEAT_PUMP")

    assert not kind.is_known
    assert DeviceType.BATTERY.is_known
    assert kind == "HEAT_PUMP"
    assert str(kind) == "HEAT_PUMP"
    assert pickle.loads(pickle.dumps(kind)) == kind
    assert (
        json.loads(encode(commission(devices=[device(type="HEAT_PUMP")])))["devices"][0]["type"]
        == "HEAT_PUMP"
    )
    with pytest.raises(ValueError, match="7"):
        DeviceType(7)


def test_an_unknown_status_is_read() -> None:
    """[R3]."""
    result = read(
        json.dumps(
            {
                "programs": [],
                "enrollment": {
                    "id": "e",
                    "device_ids": [],
                    "site_id": "s",
                    "program_id": "p",
                    "enroll_method": "USER_ACTION",
                    "status": "DREAMING",
                    "program_specific_attributes": [],
                },
            }
        ).encode(),
        CommissionResult,
    )

    assert result.enrollment.status == EnrollmentStatus("DREAMING")
    assert not result.enrollment.status.is_known


def test_a_site_token_does_not_show_itself() -> None:
    """[A17]."""
    token = SiteToken(site_access_token="fst_example", expires_at=NOON)

    assert "fst_example" not in repr(token)


def test_fields_that_are_not_given_are_unset() -> None:
    assert {value for name, value in attrs.asdict(SiteUpdate()).items()} == {UNSET}


NAIVE = NOON.replace(tzinfo=None)


def action(**changes: Any) -> UtilityAction:
    return UtilityAction(**({"mode": "DISCHARGE", "starts_at": NOON, "duration_s": 60} | changes))


def utility_event(**changes: Any) -> UtilityEventCreate:
    fields = {"program_id": "p", "target_type": "SITE", "target_ids": ["a"], "actions": [action()]}
    return UtilityEventCreate(**(fields | changes))


def aggregator_device(**changes: Any) -> AggregatorDevice:
    fields = {"id": "d", "technology_provider_identifier": "DURACELL", "install_date": NOON}
    return AggregatorDevice(**(fields | changes))


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda moment: utility_event(actions=[action(starts_at=moment)]), "actions[0].starts_at"),
        (lambda moment: commission(devices=[device(install_date=moment)]), "devices[0].install_date"),
        (lambda moment: TelemetryBatch(telemetry=[point(start_time=moment)]), "telemetry[0].start_time"),
        (lambda moment: UtilityTelemetryQuery(program_id="p", end_time=moment), "end_time"),
        (lambda moment: aggregator_device(install_date=moment), "install_date"),
    ],
)  # fmt: skip
def test_an_instant_that_is_sent_has_a_time_zone(make: Callable[[Any], Any], field: str) -> None:
    """Only the caller knows which; what is no `datetime` is refused in the same place."""
    for moment, why in ((NAIVE, "has no time zone"), ("2025-06-19T12:00:00", "a datetime")):
        with pytest.raises(InvalidArgumentError, match=why) as caught:
            encode(make(moment))

        assert caught.value.field == field
    encode(make(NOON))


def test_no_model_that_is_sent_guesses_a_time_zone() -> None:
    """Where `instant()` asks for one, nothing has put one in before."""
    for name in models.__all__:
        kind = getattr(models, name)
        if attrs.has(kind) and any(field.metadata for field in attrs.fields(kind)):
            assert not getattr(kind, "_INSTANTS", ()), name


def test_an_action_in_an_answer_without_a_time_zone_is_in_utc() -> None:
    answer = {
        "id": "e",
        "program_id": "p",
        "target_type": "SITE",
        "target_ids": [],
        "actions": [
            {"mode": "CHARGE", "starts_at": "2025-06-19T12:00:00", "duration_s": 1},
            {"mode": "CHARGE", "starts_at": "2025-06-19T14:00:00+02:00", "duration_s": 1},
        ],
        "starts_at": "2025-06-19T12:00:00",
    }

    event = read(json.dumps(answer).encode(), UtilityEvent)

    assert [entry.starts_at for entry in event.actions] == [NOON, NOON]
    assert event.starts_at == NOON
    encode(utility_event(actions=event.actions))


def test_an_answers_model_can_be_made_with_anything() -> None:
    """Its fields have no rules: it is not sent."""
    assert SiteToken(site_access_token="t", expires_at="soon").expires_at == "soon"  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [5, None, ["ACTIVE"], b"ACTIVE"])
@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda value: UtilityEnrollmentUpdate(status=value), "status"),
        (lambda value: action(mode=value), "mode"),
        (lambda value: utility_event(target_type=value), "target_type"),
        (lambda value: device(type=value), "type"),
        (lambda value: aggregator_device(type=value), "type"),
        (
            lambda value: EnrollmentCreate(device_ids=["d"], program_id="p", enroll_method=value),
            "enroll_method",
        ),
        (lambda value: CommandStatusUpdate(device_status=value), "device_status"),
    ],
)
def test_what_is_no_text_is_no_value_of_an_enumeration(
    make: Callable[[Any], Any], field: str, value: object
) -> None:
    """The field is named; a text that is new to us passes [R3]."""
    with pytest.raises(InvalidArgumentError, match=f"^{field}: is a str, not") as caught:
        make(value)

    assert caught.value.field == field
    assert getattr(make("DREAMING"), field) == "DREAMING"


def test_a_status_that_is_not_given_stays_unset() -> None:
    assert UtilityEnrollmentUpdate(status=UNSET).status is UNSET
    assert encode(UtilityEnrollmentUpdate()) == b"{}"


def test_each_module_of_models_lists_what_the_package_gives() -> None:
    """Type checkers read the one, Python the other."""
    listed = [
        name
        for module in pkgutil.iter_modules(models.__path__, "flip_async.models.")
        for name in getattr(importlib.import_module(module.name), "__all__", ())
    ]

    assert sorted(listed) == sorted(models.__all__)
    assert set(listed) <= set(dir(models))
    assert models.__all__ == sorted(listed, key=lambda name: (not name.isupper(), name))
    with pytest.raises(AttributeError, match="no attribute 'Siet'"):
        _ = models.Siet  # type: ignore[attr-defined]


def test_a_model_loads_its_own_module_alone() -> None:
    code = "import sys; from flip_async.models import Site, __all__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded = {name for name in done.stdout.split() if name.startswith("flip_async.models.")}
    assert "flip_async.models.sites" in loaded
    assert not loaded & {"flip_async.models.telemetry", "flip_async.models.utility"}
