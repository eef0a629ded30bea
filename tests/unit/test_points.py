"""A point is checked and written by one rule, and serialises wherever it is handed out."""

import datetime as dt
import enum
import json
from typing import Any

import attrs
import pydantic
import pytest
from fastapi.encoders import jsonable_encoder
from hypothesis import given
from hypothesis import strategies as st

from flip_async._wire import encode
from flip_async.errors import InvalidArgumentError
from flip_async.models import CommissionSite, TelemetryPoint
from flip_async.telemetry import check_point

START = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)


class Stamp(dt.datetime):
    """As pandas.Timestamp and freezegun's FakeDatetime are."""


class NotATime(dt.datetime):
    """As pandas.NaT is: a datetime whose methods raise."""

    def utcoffset(self) -> dt.timedelta | None:
        raise ValueError("NaTType does not support utcoffset")


class Word(str):
    __slots__ = ()


class Mode(enum.StrEnum):
    CHARGE = "CHARGE"


class Count(int):
    pass


def point(**fields: Any) -> TelemetryPoint:
    return attrs.evolve(
        TelemetryPoint.offline(device_id="b0", start_time=START, duration_s=300), **fields
    )


@pytest.mark.parametrize(
    ("fields", "written"),
    [
        ({"start_time": Stamp(2025, 1, 1, tzinfo=dt.UTC)}, "2025-01-01T00:00:00Z"),
        ({"start_time": Stamp(2025, 1, 1, 0, 0, 0, 5, dt.UTC)}, "2025-01-01T00:00:00.000005Z"),
        ({"start_time": Stamp(2025, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))},
         "2025-01-01T00:00:00+01:00"),
        ({"device_id": Word("b1")}, "b1"),
        ({"last_mode": Mode.CHARGE}, "CHARGE"),
        ({"oem_raw_data": {"at": Stamp(2025, 1, 1, tzinfo=dt.UTC), "n": Count(1)}},
         {"at": "2025-01-01T00:00:00Z", "n": 1}),
    ],
)  # fmt: skip
def test_a_subclass_is_written_as_what_it_is_a_kind_of(
    fields: dict[str, Any], written: object
) -> None:
    one = point(**fields)

    check_point(one)

    assert json.loads(encode(one))[next(iter(fields))] == written


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("start_time", NotATime(2025, 1, 1)),
        ("start_time", Stamp(2025, 1, 1)),
        ("device_id", "\ud83d"),
        ("last_mode", "\ud83d"),
        ("oem_raw_data", {"a": object()}),
        ("oem_raw_data", {"a": "\ud83d"}),
        ("solar_last_power_w", "5"),
    ],
)
def test_what_cannot_be_written_is_refused_with_its_field(field: str, value: object) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_point(point(**{field: value}))

    assert caught.value.field == f"point.{field}"


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.dates(),
    st.datetimes(), st.decimals(), st.builds(object), st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.text(alphabet="a\ud83d", max_size=2), max_size=2),
)  # fmt: skip


@given(st.sampled_from([field.name for field in attrs.fields(TelemetryPoint)]), ANYTHING)
def test_what_is_checked_can_be_written(field: str, value: object) -> None:
    """And what is refused is refused with its name, as an error of ours."""
    one = point(**{field: value})
    try:
        check_point(one)
    except InvalidArgumentError as error:
        assert error.field.startswith(f"point.{field}")
    else:
        json.loads(encode(one))


class Job(pydantic.BaseModel):
    result: Any


def test_a_model_serialises_where_nothing_tells_its_type() -> None:
    job = Job(result=[point(), CommissionSite(id="hh-1")])

    first, second = json.loads(job.model_dump_json())["result"]

    assert first == json.loads(encode(point()))
    assert "oem_raw_data" not in first
    assert second["id"] == "hh-1"
    assert job.model_dump(mode="json")["result"][0] == first


def test_fastapi_serialises_a_model_that_no_annotation_tells_of() -> None:
    """It makes a dictionary of what it does not know."""
    written = jsonable_encoder({"points": [point()], "site": CommissionSite(id="hh-1")})

    assert written == {"points": [json.loads(encode(point()))], "site": {"id": "hh-1"}}
    assert dict(point()) == written["points"][0]
