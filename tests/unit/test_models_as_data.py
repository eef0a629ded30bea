"""Models as dictionaries of plain JSON, in pickles, and in the hands of other libraries."""

import copy
import json
import pickle
import types
import typing
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import httpx
import kombu.exceptions
import kombu.serialization
import msgspec
import pydantic
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from taskiq import InMemoryBroker

from flip_async import models
from flip_async.errors import InvalidArgumentError
from flip_async.models import (
    STATE_CODES,
    UNSET,
    Command,
    CommandStatusUpdate,
    Commission,
    CommissionSite,
    CounterBatch,
    Device,
    DeviceBatteryAttributes,
    DeviceCreate,
    LenientDatetime,
    OpenEnum,
    Site,
    SiteUpdate,
    TelemetryBatch,
    TelemetryPoint,
    UnsetType,
)
from flip_async.testing import FlipWebhooks
from flip_async.webhooks import verify

NOON = datetime(2025, 6, 19, 12, tzinfo=UTC)
EVENING = datetime(2025, 6, 19, 22, 41, 7, 250, tzinfo=timezone(timedelta(hours=-7)))
KINDS: list[Any] = [
    kind for name in models.__all__ if attrs.has(kind := getattr(models, name)) and kind is not None
]
SITE = {"id": "hh-1", "created_at": "2025-06-19T22:41:07Z", "updated_at": "2025-06-19T22:41:07Z"}

COMMAND = {
    "id": "c", "device_id": "d", "starts_at": "2025-06-19T12:00:00Z", "duration_s": 60,
    "is_preparatory_action": False, "battery_commands": {"mode": "DREAM", "depth": 5},
    "status": "PAUSED", "device_status": "PENDING", "created_at": "2025-06-19T11:00:00Z",
    "updated_at": "2025-06-19T11:00:00Z",
}  # fmt: skip

# What models may hold

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
NUMBERS = st.floats(min_value=0, max_value=100) | st.integers(min_value=0, max_value=100)
INSTANTS = st.datetimes(
    datetime(1970, 1, 2),
    datetime(2200, 1, 1),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7)), timezone(timedelta(hours=5.5))]),
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
SPECIAL = {
    "state_code": st.sampled_from(sorted(STATE_CODES)),
    (CommandStatusUpdate, "device_status"): st.sampled_from(["OK", "FAILED_FAULT"]),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type, within the rules of every field of that type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        return st.one_of([values(kind) for kind in arguments])
    if origin in {list, Sequence}:
        lists = st.lists(values(arguments[0]), min_size=1, max_size=2)
        return lists if origin is list else lists | lists.map(tuple)
    if origin is Mapping:
        return st.dictionaries(TEXTS, JSON_VALUES, max_size=3)
    if attrs.has(hint):
        return instances(hint)
    if issubclass(hint, OpenEnum):
        return st.sampled_from(list(hint)) | TEXTS.map(hint)
    return {
        str: TEXTS,
        bool: st.booleans(),
        int: st.integers(min_value=1, max_value=12),
        float: NUMBERS,
        datetime: INSTANTS,
        LenientDatetime: INSTANTS.map(LenientDatetime.of),
        UnsetType: st.just(UNSET),
        type(None): st.none(),
    }[hint]


def instances(kind: Any) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind)
    fields = {
        field.name: SPECIAL.get((kind, field.name), SPECIAL.get(field.name, values(hints[field.name])))
        for field in attrs.fields(kind)
    }  # fmt: skip
    return st.builds(kind, **fields)


ANY_MODEL = st.sampled_from(KINDS).flatmap(instances)


# There and back


@given(ANY_MODEL)
def test_a_model_comes_back_from_json_as_it_was(model: Any) -> None:
    """Each model, with `UNSET`, null, and values that are new to an enumeration."""
    written = json.dumps(model.to_dict(), allow_nan=False)

    assert type(model).from_dict(json.loads(written)) == model


@given(ANY_MODEL)
def test_a_model_comes_back_from_a_pickle_and_a_copy_as_it_was(model: Any) -> None:
    """For arq and for `multiprocessing`."""
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(model, protocol)) == model
    assert copy.deepcopy(model) == model


@given(ANY_MODEL)
def test_pydantic_writes_and_reads_what_the_model_itself_does(model: Any) -> None:
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(type(model))

    assert adapter.dump_python(model, mode="json") == model.to_dict()
    assert adapter.validate_python(model.to_dict()) == type(model).from_dict(model.to_dict())


def test_a_dictionary_holds_plain_types_alone() -> None:
    """Enumerations are texts, instants RFC 3339, and what is `UNSET` is left out."""
    device = DeviceCreate(
        id="inv-1",
        manufacturer_name="Example Batteries",
        product_name="Wall 10",
        serial_number="1",
        attributes=DeviceBatteryAttributes(
            battery_capacity_wh=10_000, battery_power_input_w=5_000, battery_power_output_w=5_000
        ),
        install_date=EVENING,
    )

    written = device.to_dict()

    assert type(written["type"]) is str
    assert written["install_date"] == "2025-06-19T22:41:07.000250-07:00"
    assert "site_id" not in written
    assert written["attributes"] == {
        "battery_capacity_wh": 10_000,
        "battery_power_input_w": 5_000,
        "battery_power_output_w": 5_000,
    }
    assert msgspec.json.decode(msgspec.json.encode(device)) == written


def test_none_and_not_given_are_told_apart() -> None:
    """[R4]."""
    written = SiteUpdate(email=None).to_dict()

    assert written == {"email": None}
    assert SiteUpdate.from_dict(written).email is None
    assert SiteUpdate.from_dict(written).city is UNSET


def test_what_flip_has_and_the_model_has_not_is_passed_over() -> None:
    site = Site.from_dict({**SITE, "new": [1], 5: "a key of a database's row"})  # type: ignore[dict-item]

    assert site == Site.from_dict(SITE)
    assert site.created_at == datetime(2025, 6, 19, 22, 41, 7, tzinfo=UTC)


def test_any_mapping_is_read_and_may_hold_instants() -> None:
    """As a row of a database does."""
    row = types.MappingProxyType(SITE | {"created_at": EVENING})
    assert Site.from_dict(row).created_at == EVENING

    fields = {"id": "d", "manufacturer_name": "", "product_name": "", "serial_number": ""}
    rest = {"type": "EV_CHARGER", "attributes": {}, "created_at": EVENING, "updated_at": EVENING}
    device = Device.from_dict({**fields, **rest, "install_date": EVENING})
    assert device.install_date == EVENING
    assert device == Device.from_dict(device.to_dict())


def test_an_instant_without_a_zone_is_in_utc_in_an_answer_and_refused_in_what_is_sent() -> None:
    naive = "2025-06-19T12:00:00"

    assert Site.from_dict(SITE | {"created_at": naive}).created_at == NOON
    with pytest.raises(InvalidArgumentError, match="^start_time: has no time zone"):
        TelemetryPoint.from_dict({"device_id": "d", "start_time": naive, "duration_s": 300})


def looped() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("kind", "document", "field", "why"),
    [
        (Site, 5, "document", "a mapping, not int"),
        (Site, [], "document", "a mapping, not list of 0 items"),
        (Site, {}, "id", "is missing"),
        (Site, SITE | {"id": 5}, "id", "expected `str`, got `int`"),
        (Site, SITE | {"created_at": "soon"}, "created_at", "cannot be read: invalid RFC3339"),
        (CommissionSite, {"id": "x", "state_code": "XX"}, "state_code", "is one of AK"),
        (CommissionSite, {"id": "x", "city": b"x"}, "city", "cannot be read"),
        (Commission, {"site": {}, "devices": []}, "site.id", "is missing"),
        (Commission, {"site": {"id": "x"}, "devices": [{"id": 1}]}, "devices[0].id", "cannot be read"),
        (Commission, {"site": {"id": "x"}, "devices": []}, "devices", "has at least 1"),
        (CounterBatch, {"telemetry": [{"a": float("nan")}]}, "telemetry[0].a", "is finite"),
        (CounterBatch, {"telemetry": [{"a": looped()}]}, "document", "too deep"),
        (Device, {"install_date": "my secret day"}, "install_date", "invalid date or date-time$"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_with_its_place(
    kind: Any, document: Any, field: str, why: str
) -> None:
    """And its value is not shown."""
    with pytest.raises(InvalidArgumentError, match=why) as caught:
        kind.from_dict(document)

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("model", "field", "why"),
    [
        (TelemetryPoint(device_id="d", start_time=NOON, duration_s=float("nan")), "duration_s", "finite"),
        (
            TelemetryBatch(telemetry=[TelemetryPoint(device_id="", start_time=NOON, duration_s=1)]),
            "telemetry[0].device_id",
            "empty",
        ),
        (CounterBatch(telemetry=[{"a": object()}]), "telemetry", "object is unknown to JSON"),
        (CounterBatch(telemetry=[{"a": looped()}]), "telemetry", "too deep"),
        (CounterBatch(telemetry=[{("a", 1): 2}]), "telemetry", "cannot be written"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_named_with_its_place(model: Any, field: str, why: str) -> None:
    """A NaN in a queue is somebody else's trouble, later."""
    with pytest.raises(InvalidArgumentError, match=why) as caught:
        model.to_dict()

    assert caught.value.field == field


def test_a_free_form_comes_back_as_json_has_it() -> None:
    batch = CounterBatch(telemetry=[{"at": NOON, 5: (1, 2)}])  # type: ignore[dict-item]

    assert batch.to_dict() == {"telemetry": [{"at": "2025-06-19T12:00:00Z", "5": [1, 2]}]}


# In the hands of others


class Note(pydantic.BaseModel):
    """One of pydantic's that holds ours."""

    site: Site
    anything: Any = None


def note_routes() -> FastAPI:
    app = FastAPI()
    site = Site.from_dict(SITE)
    answers: list[tuple[str, Any, Any]] = [
        ("none", None, site),
        ("none-list", None, [site]),
        ("none-dict", None, {"sites": [site], "count": 1}),
        ("any", Any, site),
        ("object", object, {"site": site}),
        ("dict-any", dict[str, Any], {"site": site}),
        ("list-any", list[Any], [site]),
        ("dict-site", dict[str, Site], {"site": site}),
        ("maybe", Site | None, site),
        ("pydantic", Note, Note(site=site, anything={"again": site})),
    ]
    for name, annotation, answer in answers:
        app.add_api_route(
            f"/{name}", lambda answer=answer: answer, response_model=annotation, name=name
        )

    @app.post("/notes")
    async def read(note: Note) -> Note:
        return note

    return app


async def test_fastapi_answers_with_models_whatever_the_annotation_says() -> None:
    site = Site.from_dict(SITE).to_dict()
    expected = {
        "none": site,
        "none-list": [site],
        "none-dict": {"sites": [site], "count": 1},
        "any": site,
        "object": {"site": site},
        "dict-any": {"site": site},
        "list-any": [site],
        "dict-site": {"site": site},
        "maybe": site,
        "pydantic": {"site": site, "anything": {"again": site}},
    }
    transport = httpx.ASGITransport(note_routes())
    async with httpx.AsyncClient(transport=transport, base_url="http://app.localhost") as http:
        answers = {name: (await http.get(f"/{name}")).json() for name in expected}
        read = await http.post("/notes", json={"site": site})
        refused = await http.post("/notes", json={"site": {"id": "x"}})

    assert answers == expected
    assert read.json() == {"site": site, "anything": None}
    assert [error["loc"] for error in refused.json()["detail"]] == [
        ["body", "site", "created_at"],
        ["body", "site", "updated_at"],
    ]


def test_a_pydantic_model_in_ours_is_refused_with_its_place() -> None:
    """Give `model_dump(mode="json")` of it."""
    note = Note(site=Site.from_dict(SITE))

    with pytest.raises(InvalidArgumentError, match="^telemetry: .*Note is unknown to JSON"):
        CounterBatch(telemetry=[{"note": note}]).to_dict()
    dumped = note.model_dump(mode="json")
    assert CounterBatch(telemetry=[{"note": dumped}]).to_dict() == {"telemetry": [{"note": dumped}]}


broker = InMemoryBroker()


@broker.task
async def look(site: Site, rest: list[Site]) -> Site:
    assert isinstance(site, Site)
    assert isinstance(rest[0], Site)
    return site


async def test_taskiq_takes_models_as_arguments_and_results() -> None:
    site = Site.from_dict(SITE)
    await broker.startup()
    message = await look.kiq(site, [site])
    result = await message.wait_result()
    await broker.shutdown()

    assert result.return_value == site
    assert json.loads(result.model_dump_json())["return_value"] == site.to_dict()
    assert pickle.loads(pickle.dumps(result.return_value)) == site


def test_what_celery_writes_as_json_is_read_again() -> None:
    """A model alone it does not know: give its dictionary."""
    site = Site.from_dict(SITE)
    content_type, encoding, written = kombu.serialization.dumps([site.to_dict()], "json")

    (read,) = kombu.serialization.loads(written, content_type, encoding)

    assert Site.from_dict(read) == site
    with pytest.raises(kombu.exceptions.EncodeError):
        kombu.serialization.dumps([site], "json")


def test_an_event_of_a_webhook_comes_back_from_a_pickle() -> None:
    webhook = FlipWebhooks("whsec_ZmxpcC1hc3luYy1leGFtcGxlLXNlY3JldA==").sign(
        "command.created", COMMAND
    )
    event = verify(webhook.body, webhook.headers, "whsec_ZmxpcC1hc3luYy1leGFtcGxlLXNlY3JldA==")

    assert pickle.loads(pickle.dumps(event)) == event


def test_a_model_of_an_older_version_of_flip_is_still_read() -> None:
    """A queue outlives a deployment: more fields and new values are no mistake."""
    read = Command.from_dict(COMMAND | {"new": {"a": 1}})

    assert not read.battery_commands.mode.is_known
    assert read.to_dict()["status"] == "PAUSED"
