"""The Utility API and the Aggregator API, on the same core."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from flip_async import PRODUCTION, SANDBOX, AggregatorClient, UtilityClient, errors
from flip_async.models import AggregatorDevice, CommissionSite, FleetRecord, UtilityAction
from tests.support import json_of

DATA = Path(__file__).parents[1] / "data" / "examples"
KEY = "fl_your_api_key"
NOON = datetime(2025, 7, 15, 12, tzinfo=UTC)


def example(name: str) -> Any:
    return json.loads((DATA / f"{name}.json").read_text())


class Api:
    """Gives one answer, and keeps what it was asked."""

    def __init__(self, status: int = 200, body: Any = None) -> None:
        self.requests: list[httpx.Request] = []
        self._answer = status, b"" if body is None else json.dumps(body).encode()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(self._answer[0], content=self._answer[1])

    @property
    def asked(self) -> tuple[str, str]:
        return self.requests[-1].method, str(self.requests[-1].url)

    def utility(self) -> UtilityClient:
        return UtilityClient(
            environment=PRODUCTION, api_key=KEY, transport=httpx.MockTransport(self)
        )

    def aggregator(self) -> AggregatorClient:
        return AggregatorClient(
            environment=SANDBOX, api_key=KEY, transport=httpx.MockTransport(self)
        )


UTILITY = "https://api-utility.flip.energy"
AGGREGATOR = "https://aggregator-api-sandbox.flip.energy"


async def test_an_event_is_dispatched() -> None:
    api = Api(body=example("utility-create-event.response"))
    action = UtilityAction(
        mode="DISCHARGE", starts_at=datetime(2025, 7, 15, 23, tzinfo=UTC), duration_s=7200
    )
    async with api.utility() as utility:
        event = await utility.events.create(
            "8d6f2f7e-3f0b-4f5c-9d57-0f6e2a3c1b90",
            [action],
            target_type="GROUP",
            target_ids=["NORTH"],
        )

    assert api.asked == ("POST", f"{UTILITY}/v1/events")
    assert json_of(api.requests[0]) == example("utility-create-event.request")
    assert event.actions[0].setpoint_w == 5000
    assert api.requests[0].headers["Authorization"] == f"Bearer {KEY}"


async def test_events_and_their_sites_are_listed() -> None:
    api = Api(body=[example("utility-create-event.response")])
    async with api.utility() as utility:
        assert len(await utility.events.list()) == 1
    api = Api(body=[{"site_id": "a", "is_participating": True, "performance_actual_power_w": 5.5}])
    async with api.utility() as utility:
        (site,) = await utility.events.sites("e/1")

    assert api.asked == ("GET", f"{UTILITY}/v1/events/e%2F1/sites")
    assert site.performance_actual_power_w == 5.5


async def test_enrollments_are_read_and_changed() -> None:
    enrollment = {
        "id": "e",
        "status": "SUBMITTED",
        "created_at": "2025-07-15T12:00:00",
        "site": {"id": "s", "groups": [{"id": "NORTH", "name": "North feeder"}]},
        "devices": [example("read-device.response")],
        "program_specific_attributes": [{"name": "a", "value": "b", "type": "string"}],
    }
    api = Api(body={"enrollments": [enrollment]})
    async with api.utility() as utility:
        (found,) = await utility.enrollments.list("p")
    assert api.asked == ("GET", f"{UTILITY}/v1/enrollments?program_id=p")
    assert found.created_at == NOON
    api = Api(body=enrollment)
    async with api.utility() as utility:
        assert (await utility.enrollments.get("e")).status == "SUBMITTED"
        await utility.enrollments.update("e", status="ACTIVE", group_ids=[])
        assert json_of(api.requests[-1]) == {"status": "ACTIVE", "group_ids": []}
        await utility.enrollments.update("e", group_ids=None)
        assert json_of(api.requests[-1]) == {"group_ids": None}


async def test_groups_are_made_and_removed() -> None:
    api = Api(body=example("utility-group.request"))
    async with api.utility() as utility:
        group = await utility.groups.create("p", "NORTH", "North feeder")
    assert json_of(api.requests[0]) == example("utility-group.request")
    assert group.name == "North feeder"
    api = Api(204)
    async with api.utility() as utility:
        assert await utility.groups.delete("p", "NORTH") is None
    assert api.asked == ("DELETE", f"{UTILITY}/v1/programs/p/groups/NORTH")


async def test_telemetry_is_read() -> None:
    api = Api(body=example("utility-telemetry-latest.response"))
    async with api.utility() as utility:
        (point,) = await utility.telemetry.latest(
            "8d6f2f7e-3f0b-4f5c-9d57-0f6e2a3c1b90", device_ids=["inv-77301"]
        )
        assert json_of(api.requests[0]) == example("utility-telemetry-latest.request")
        await utility.telemetry.historical("p", start_time=NOON, end_time=NOON)
        with pytest.raises(errors.InvalidArgumentError, match="start_time"):
            await utility.telemetry.historical(
                "p", start_time=NOON.replace(tzinfo=None), end_time=NOON
            )

    assert point.grid_power_w == -4065.5
    assert json_of(api.requests[1])["end_time"] == "2025-07-15T12:00:00Z"


async def test_a_site_is_registered_with_its_devices() -> None:
    api = Api()
    device = AggregatorDevice(
        id="device-301-a",
        technology_provider_identifier="DURACELL",
        install_date=datetime(2025, 6, 19, 15, 30, tzinfo=UTC),
    )
    site = CommissionSite(
        id="site-301",
        first_name="Ines",
        last_name="Bauer",
        street_address="9 Kiln Road",
        city="Fresno",
        state_code="CA",
        zip_code="88800",
    )
    async with api.aggregator() as aggregator:
        assert await aggregator.commission(site, [device]) is None

    assert api.asked == ("POST", f"{AGGREGATOR}/v1/commission")
    assert json_of(api.requests[0]) == example("aggregator-commission.request")


@pytest.mark.parametrize(
    ("status", "name", "kind", "fields"),
    [
        (
            422,
            "aggregator-commission-incomplete.response",
            errors.UnprocessableEntityError,
            [
                "site.email",
                "enrollment.program_specific_attributes.account_id",
                "enrollment.has_agreed_to_terms_and_conditions",
                "enrollment.terms_and_conditions_version",
            ],
        ),
        (400, "aggregator-error.response", errors.BadRequestError, []),
    ],
)
async def test_what_is_missing_is_told_field_by_field(
    status: int, name: str, kind: type[errors.StatusError], fields: list[str]
) -> None:
    async with Api(status, example(name)).aggregator() as aggregator:
        with pytest.raises(kind) as caught:
            await aggregator.push_fleet_data([FleetRecord(external_id="a", data={})])

    assert [detail.field for detail in caught.value.details] == fields
    assert caught.value.code == (None if status == 422 else "VALIDATION_ERROR")


async def test_what_is_not_documented_comes_as_it_is() -> None:
    api = Api(body=[{"any": "thing"}])
    async with api.aggregator() as aggregator:
        assert await aggregator.list_sites() == [{"any": "thing"}]
        assert await aggregator.equipment_performance("2025-06") == [{"any": "thing"}]
    assert api.asked == ("GET", f"{AGGREGATOR}/v1/reports/equipment_performance?month=2025-06")
    api = Api(body={"ok": True})
    record = FleetRecord(
        external_id="CRM-20917", data={"customer_name": "Ines Bauer", "system_size_kw": 8.2}
    )
    async with api.aggregator() as aggregator:
        assert await aggregator.push_fleet_data([record]) == {"ok": True}
    assert json_of(api.requests[0]) == example("aggregator-fleet-data.request")


def test_an_environment_without_the_api_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator of the OEM API is none of the others."""
    monkeypatch.setenv("FLIP_API_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("FLIP_OAUTH_URL", "http://127.0.0.1:1")
    for kind in (UtilityClient, AggregatorClient):
        with pytest.raises(errors.ConfigurationError, match=r"has no (utility|aggregator)_url"):
            kind(api_key=KEY)


async def test_the_credential_goes_to_that_api_alone() -> None:
    """[A13]."""
    async with (
        Api().utility() as utility,
        httpx.AsyncClient(
            auth=utility.auth, transport=httpx.MockTransport(lambda _: httpx.Response(200))
        ) as http,
    ):
        with pytest.raises(errors.ConfigurationError, match="does not go to"):
            await http.get("https://api.flip.energy/v1/sites")
