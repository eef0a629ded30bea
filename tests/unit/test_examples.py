"""Every example body of the API's reference, and what a newer server may make of it [R3]."""

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import attrs
import httpx
import pytest

from flip_async import errors
from flip_async._auth._token import parse_token_response
from flip_async._wire import decode, encode
from flip_async.models import (
    UNSET,
    Command,
    CommandStatusUpdate,
    Commission,
    CommissionResult,
    Device,
    DeviceCreate,
    DeviceUpdate,
    Enrollment,
    EnrollmentCreate,
    Event,
    EventUpdate,
    PortalSession,
    Program,
    SessionCreate,
    Site,
    SiteToken,
    SiteUpdate,
    TelemetryBatch,
    TelemetryResult,
)

DATA = Path(__file__).parents[1] / "data" / "examples"

ANSWERS: dict[str, Any] = {
    "get-site-token": SiteToken,
    "get-sites": list[Site],
    "commission": CommissionResult,
    "commission-enrolled": CommissionResult,
    "create-session": PortalSession,
    "create-device": Device,
    "read-devices": list[Device],
    "read-device": Device,
    "read-device-2024": Device,
    "update-device": Device,
    "read-site": Site,
    "update-site": Site,
    "read-site-programs": list[Program],
    "read-site-program": Program,
    "read-programs": list[Program],
    "create-enrollment": Enrollment,
    "read-enrollments": list[Enrollment],
    "read-enrollment": Enrollment,
    "read-events": list[Event],
    "read-event": Event,
    "update-event-participation": Event,
    "read-commands": list[Command],
    "update-command-status": Command,
    "report-battery-telemetry": list[TelemetryResult],
}
REQUESTS: dict[str, Any] = {
    "commission": Commission,
    "commission-minimal": Commission,
    "commission-with-enrollment": Commission,
    "create-session": SessionCreate,
    "create-session-existing-site": SessionCreate,
    "create-device": DeviceCreate,
    "create-enrollment": EnrollmentCreate,
    "update-site": SiteUpdate,
    "update-device": DeviceUpdate,
    "update-event-participation": EventUpdate,
    "update-command-status": CommandStatusUpdate,
    "update-command-status-failed": CommandStatusUpdate,
    "report-battery-telemetry": TelemetryBatch,
    "report-battery-telemetry-minimal": TelemetryBatch,
}
# Read elsewhere: by the auth and by the errors; those of the sister APIs and of webhooks in
# their own tests.
OTHERS = {
    "oauth-token",
    "oauth-token-error",
    "error-validation",
    "error-validation-fastapi",
    "error-unauthorized",
}


def load(name: str) -> Any:
    return json.loads((DATA / f"{name}.json").read_text())


def read(document: object, kind: Any) -> Any:
    request = httpx.Request("GET", "https://api.flip.energy/v1/x")
    response = httpx.Response(200, content=json.dumps(document).encode(), request=request)
    return decode(response, kind, method="GET", path="/v1/x")


def test_every_example_is_read_somewhere() -> None:
    names = {path.stem for path in DATA.glob("*.json")}
    ours = {name for name in names if not name.startswith(("utility-", "aggregator-", "webhook-"))}

    assert ours == (
        {f"{name}.response" for name in ANSWERS}
        | {f"{name}.request" for name in REQUESTS}
        | {f"{name}.response" for name in OTHERS}
    )


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_becomes_its_model(name: str) -> None:
    document = load(f"{name}.response")

    model = read(document, ANSWERS[name])

    assert_same(document, model)


def assert_same(document: object, model: object) -> None:
    """What the document says is in the model, under the same names."""
    if isinstance(document, dict):
        for name, value in document.items():
            assert_same(value, getattr(model, name))
    elif isinstance(document, list):
        assert isinstance(model, list)
        assert len(document) == len(model)
        for entry, part in zip(document, model, strict=True):
            assert_same(entry, part)
    elif isinstance(model, datetime):
        assert isinstance(document, str)
        assert model == datetime.fromisoformat(document)
        assert model.tzinfo is not None
    else:
        assert document == model


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_encodes_to_the_same_json(name: str) -> None:
    """Read into its model as a user would build it, and written again."""
    document = load(f"{name}.request")

    model = as_built(document, REQUESTS[name])

    assert same_instants(json.loads(encode(model))) == same_instants(document)


def as_built(document: Any, kind: Any) -> Any:
    """As a user would build it; raw data, which has no type, is put in by hand."""
    document = copy.deepcopy(document)
    raw = [point.pop("oem_raw_data", UNSET) for point in document.get("telemetry", [])]
    model = read(document, kind)
    if not raw:
        return model
    points = zip(model.telemetry, raw, strict=True)
    return TelemetryBatch(
        telemetry=[attrs.evolve(point, oem_raw_data=data) for point, data in points]
    )


def same_instants(document: Any) -> Any:
    """Date-times as instants: `Z` and `+00:00` are the same."""
    if isinstance(document, dict):
        return {name: same_instants(value) for name, value in document.items()}
    if isinstance(document, list):
        return [same_instants(value) for value in document]
    if isinstance(document, str) and len(document) > 18 and document[4:5] == "-":
        try:
            return datetime.fromisoformat(document)
        except ValueError:
            return document
    return document


def test_the_token_answer_is_read() -> None:
    token = parse_token_response(
        (DATA / "oauth-token.response.json").read_bytes(), issued_at=0, default_lifetime_s=1
    )

    assert token.lifetime_s == 3600


@pytest.mark.parametrize(
    "name", ["error-validation", "error-validation-fastapi", "error-unauthorized"]
)
def test_the_error_bodies_are_read(name: str) -> None:
    document = load(f"{name}.response")
    request = httpx.Request("GET", "https://api.flip.energy/v1/x")
    response = httpx.Response(422, json=document, request=request)

    error = errors.from_response(response, method="GET", path="/v1/x", wall_now_s=0)

    assert error.code == document.get("code")
    expected = [entry["msg"] for entry in document.get("detail", [])]
    assert [detail.message for detail in error.details] == expected


# What a newer, or an older, server may do


def model_of(kind: Any) -> Any:
    """The model that a type has in it, if it has one."""
    if isinstance(kind, type) and attrs.has(kind):
        return kind
    return next((found for part in get_args(kind) if (found := model_of(part))), None)


def objects(document: Any, kind: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Every object in a document that becomes a model, with that."""
    model = model_of(kind)
    for entry in document if isinstance(document, list) else [document]:
        if model is not None and isinstance(entry, dict):
            yield entry, model
            for field in attrs.fields(model):
                yield from objects(entry.get(field.name), field.type)


@pytest.mark.parametrize("name", ANSWERS)
def test_unknown_fields_are_ignored(name: str) -> None:
    document = load(f"{name}.response")
    found = list(objects(document, ANSWERS[name]))
    for entry, _ in found:
        entry["brand_new"] = {"deep": [1, "x", None]}

    assert found
    read(document, ANSWERS[name])


@pytest.mark.parametrize("name", ANSWERS)
def test_missing_optional_fields_are_none(name: str) -> None:
    document = load(f"{name}.response")
    for entry, kind in objects(document, ANSWERS[name]):
        for field in attrs.fields(kind):
            if field.default is not attrs.NOTHING:
                entry.pop(field.name, None)

    read(document, ANSWERS[name])


@pytest.mark.parametrize("name", ANSWERS)
def test_unknown_enum_values_are_kept(name: str) -> None:
    document = load(f"{name}.response")
    words = {"status", "device_status", "type", "enroll_method", "mode", "power_mode"}
    changed = 0
    for entry, _ in objects(document, ANSWERS[name]):
        for word in words & entry.keys():
            if isinstance(entry[word], str):
                entry[word], changed = "BRAND_NEW", changed + 1

    model = read(document, ANSWERS[name])

    assert repr(model).count("BRAND_NEW") >= changed


@pytest.mark.parametrize("name", ANSWERS)
def test_a_wrong_type_names_its_path(name: str) -> None:
    """Of each required field of the first object."""
    document = load(f"{name}.response")
    prefix = "$[0]" if isinstance(document, list) else "$"
    entry, kind = next(objects(document, ANSWERS[name]))
    for field in attrs.fields(kind):
        if field.default is attrs.NOTHING:
            broken = copy.deepcopy(document)
            target = broken[0] if isinstance(broken, list) else broken
            target[field.name] = {"not": 1} if not isinstance(entry[field.name], dict) else 7

            with pytest.raises(errors.DecodeError) as caught:
                read(broken, ANSWERS[name])

            assert caught.value.document_path == f"{prefix}.{field.name}"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2019-08-24T14:15:22Z", datetime(2019, 8, 24, 14, 15, 22, tzinfo=UTC)),
        ("2025-06-19T15:30:00-07:00", datetime(2025, 6, 19, 22, 30, tzinfo=UTC)),
        ("2025-04-30 12:00:00.000Z", datetime(2025, 4, 30, 12, tzinfo=UTC)),
        ("2025-04-30T12:00:00", datetime(2025, 4, 30, 12, tzinfo=UTC)),
    ],
)
def test_every_form_of_a_date_time_is_read_with_a_zone(text: str, moment: datetime) -> None:
    """One without a zone is read as UTC."""
    site = load("read-site.response") | {"created_at": text}
    device = load("read-device.response") | {"install_date": text}

    assert read(site, Site).created_at == moment
    assert read(device, Device).install_date == moment


def test_an_install_date_may_be_a_day_and_goes_back_as_a_moment() -> None:
    device = read(load("read-device.response") | {"install_date": "2022-02-22"}, Device)
    assert device.install_date == datetime(2022, 2, 22, tzinfo=UTC)

    create = read(load("create-device.request"), DeviceCreate)
    again = attrs.evolve(create, install_date=device.install_date)

    assert json.loads(encode(again))["install_date"] == "2022-02-22T00:00:00Z"
    for wrong in ("soon", 5):
        with pytest.raises(errors.DecodeError) as caught:
            read(load("read-device.response") | {"install_date": wrong}, Device)
        assert caught.value.document_path == "$.install_date"
