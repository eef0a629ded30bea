"""What a device maker does, over a socket and in process."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest

from flip_async import FlipClient, SandboxClient, errors
from flip_async.emulator import Emulator
from flip_async.models import (
    CommissionSite,
    DeviceBatteryAttributes,
    DeviceCreate,
    EnrollmentCreate,
    TelemetryPoint,
)

START = datetime(2025, 6, 19, 12, tzinfo=UTC)


def battery(device_id: str = "inv-1") -> DeviceCreate:
    return DeviceCreate(
        id=device_id,
        manufacturer_name="Voltan",
        product_name="Hearth 13",
        serial_number="VH13-1",
        attributes=DeviceBatteryAttributes(
            battery_capacity_wh=13_500, battery_power_input_w=5_000, battery_power_output_w=5_000
        ),
        install_date=START,
    )


@pytest.fixture(params=["in process", "socket"])
async def local(request: pytest.FixtureRequest) -> AsyncIterator[Emulator]:
    async with Emulator(in_process=request.param == "in process", max_limit=2) as emulator:
        yield emulator


@pytest.fixture
async def flip(local: Emulator) -> AsyncIterator[FlipClient]:
    async with local.client() as flip:
        yield flip


async def test_a_site_is_commissioned_read_and_changed(flip: FlipClient, local: Emulator) -> None:
    result = await flip.sites.commission(
        CommissionSite(id="hh/1042 ü", zip_code="88801"), [battery()], can_auto_enroll=True
    )
    assert [program.can_auto_enroll for program in result.programs] == [False, True]
    assert result.enrollment is not None
    assert result.enrollment.device_ids == ["inv-1"]

    site = flip.site("hh/1042 ü")
    assert (await site.get()).zip_code == "88801"
    changed = await site.update(city="Fresno", zip_code=None)

    assert (changed.city, changed.zip_code) == ("Fresno", None)
    assert local.count("POST", "/v1/auth/site/{siteId}") == 1
    assert local.site_ids == ["hh/1042 ü"]


async def test_an_enrollment_may_be_made_in_the_same_call(flip: FlipClient) -> None:
    wanted = EnrollmentCreate(device_ids=["inv-1"], program_id="p")

    result = await flip.sites.commission(CommissionSite(id="a"), [battery()], enrollment=wanted)

    assert result.programs == []
    assert result.enrollment is not None
    assert result.enrollment.status == "PENDING"


async def test_sites_are_listed_through_a_capped_page(flip: FlipClient) -> None:
    for number in range(5):
        await flip.sites.commission(CommissionSite(id=f"s{number}"), [battery(f"d{number}")])

    assert [site.id async for site in flip.sites.list()] == ["s0", "s1", "s2", "s3", "s4"]


async def test_telemetry_is_answered_point_by_point(flip: FlipClient, local: Emulator) -> None:
    await flip.sites.commission(CommissionSite(id="a"), [battery()])

    results = await flip.telemetry.send(
        [
            TelemetryPoint(
                device_id=device_id, start_time=START, duration_s=300, last_is_online=True
            )
            for device_id in ("inv-1", "unknown")
        ]
    )

    assert [result.status for result in results] == ["OK", "FAILED"]
    assert results[1].message
    assert [point["device_id"] for point in local.telemetry] == ["inv-1"]


async def test_a_site_token_opens_its_site_alone(flip: FlipClient, local: Emulator) -> None:
    for site_id in ("a", "b"):
        await flip.sites.commission(CommissionSite(id=site_id), [battery()])
    token = await flip.site_tokens.create("a")

    async with local.client(api_key=token.site_access_token) as mobile:
        assert (await mobile.site("a").get(token="client")).id == "a"
        with pytest.raises(errors.AuthenticationError, match="not valid for this site"):
            await mobile.site("b").get(token="client")
        with pytest.raises(errors.PermissionDeniedError):
            await mobile.sites.list()
    with pytest.raises(errors.PermissionDeniedError):
        await flip.site("a").get(token="client")
    with pytest.raises(errors.NotFoundError):
        await flip.site_tokens.create("nobody")
    with pytest.raises(errors.NotFoundError):
        await flip.site("nobody").get()


async def test_an_api_key_works_and_a_wrong_one_does_not(local: Emulator) -> None:
    async with local.client(api_key=local.api_key) as flip:
        assert await flip.sites.list() == []
    async with local.client(api_key="fl_your_api_key") as flip:
        with pytest.raises(errors.AuthenticationError) as caught:
            await flip.sites.list()

    assert caught.value.code == "UNAUTHORIZED"
    assert local.count("POST", "/token") == 0


async def test_variables_point_a_sandbox_client_here(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Emulator(scopes=["sites"]) as local:
        for name, value in local.variables().items():
            monkeypatch.setenv(name, value)
        async with SandboxClient() as flip:
            assert await flip.sites.list() == []
        monkeypatch.setenv("FLIP_SCOPE", "everything")
        async with SandboxClient() as flip:
            with pytest.raises(errors.TokenRequestError, match="invalid_scope"):
                await flip.sites.list()
        async with SandboxClient(
            client_id=local.client_id, client_secret=local.client_secret, scope="sites"
        ) as flip:
            assert await flip.sites.list() == []


BAD_BODIES = [
    (b"nonsense", [("body", "JSON decode error")]),
    (b"[]", [("body.site", "required"), ("body.devices", "required")]),
    (
        b'{"site": {}, "devices": []}',
        [("body.site.id", "required"), ("body.devices", "at least 1")],
    ),
    (
        b'{"site": {"id": 1, "state_code": "DC", "city": 7}, "devices": [{"type": "X"}]}',
        [
            ("body.site.id", "wrong type"),
            ("body.site.city", "string"),
            ("body.site.state_code", "state"),
            ("body.devices.0.type", "BATTERY"),
        ],
    ),
    (
        b'{"site": {"id": "a"}, "devices": [{"id": "d", "manufacturer_name": "m", "product_name": '
        b'"p", "serial_number": "s", "type": "BATTERY", "attributes": {"battery_capacity_wh": "1"},'
        b' "install_date": "soon"}], "enrollment": {"enroll_method": "X"}}',
        [
            ("body.devices.0.attributes.battery_capacity_wh", "wrong type"),
            ("body.devices.0.install_date", "date-time"),
            ("body.enrollment.enroll_method", "not known"),
        ],
    ),
]


@pytest.mark.parametrize(("content", "expected"), BAD_BODIES)
async def test_the_emulator_refuses_what_the_reference_does(
    local: Emulator, content: bytes, expected: list[tuple[str, str]]
) -> None:
    found = await post(local, "/v1/commission", content)

    for place, words in expected:
        assert any(place == where and words in what for where, what in found), (place, found)


async def post(local: Emulator, path: str, content: bytes) -> list[tuple[str, str]]:
    async with httpx.AsyncClient(transport=local.transport) as http:
        response = await http.post(
            f"{local.api_url}{path}",
            content=content,
            headers={"Authorization": f"Bearer {local.api_key}"},
        )
    assert response.status_code == 422
    return [(".".join(entry["loc"]), entry["msg"]) for entry in response.json()["detail"]]


async def test_the_emulator_refuses_odd_telemetry_and_odd_changes(
    local: Emulator, flip: FlipClient
) -> None:
    await flip.sites.commission(CommissionSite(id="a"), [battery()])
    good = '{"device_id": "d", "duration_s": 1, "start_time": "2025-01-01T00:00:00Z"}'

    assert await post(local, "/v1/telemetry/BATTERY", b"{}") == [
        ("body.telemetry", "Field required")
    ]
    assert await post(local, "/v1/telemetry/BATTERY", b'{"telemetry": [{"start_time": "x"}]}') == [
        ("body.telemetry.0.device_id", "Field required"),
        ("body.telemetry.0.duration_s", "Field required"),
        ("body.telemetry.0.start_time", "Input should be a date-time"),
    ]
    many = f'{{"telemetry": [{",".join([good] * 1001)}]}}'.encode()
    assert "at most 1000" in str(await post(local, "/v1/telemetry/BATTERY", many))
    with pytest.raises(errors.UnprocessableEntityError) as caught:
        await flip.sites.list(extra_query={"skip": "x"})
    assert caught.value.details[0].field == "skip"
    async with httpx.AsyncClient(transport=local.transport) as http:
        token = (await flip.site_tokens.create("a")).site_access_token
        response = await http.patch(
            f"{local.api_url}/v1/site/a",
            content=b"[]",
            headers={"Authorization": f"Bearer {token}"},
        )
    assert response.status_code == 422


async def test_out_of_range_points_fail_one_by_one(local: Emulator, flip: FlipClient) -> None:
    await flip.sites.commission(CommissionSite(id="a"), [battery()])
    async with httpx.AsyncClient(transport=local.transport) as http:
        response = await http.post(
            f"{local.api_url}/v1/telemetry/BATTERY",
            json={
                "telemetry": [
                    {
                        "device_id": "inv-1",
                        "duration_s": 300,
                        "start_time": "2025-01-01 00:00:00.000Z",
                        "battery_last_state_of_charge_percentage": value,
                    }
                    for value in (50, 101, None, "x")
                ]
            },
            headers={"Authorization": f"Bearer {local.api_key}"},
        )

    assert [result["status"] for result in response.json()] == ["OK", "FAILED", "OK", "FAILED"]


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, 401, "invalid_client"),
    ],
)
async def test_the_oauth_host_refuses_as_the_rfc_says(
    local: Emulator, form: dict[str, str], status: int, error: str
) -> None:
    async with httpx.AsyncClient(transport=local.transport) as http:
        response = await http.post(f"{local.oauth_url}/token", data=form)
        assert (response.status_code, response.json()["error"]) == (status, error)
        for header in ("Basic !!!", "Basic /w=="):
            response = await http.post(
                f"{local.oauth_url}/token",
                data={"grant_type": "client_credentials"},
                headers={"Authorization": header},
            )
            assert response.status_code == 401


async def test_basic_client_authentication_works(local: Emulator) -> None:
    """[A23]."""
    from flip_async import ClientCredentialsAuth

    async with httpx.AsyncClient(transport=local.transport) as http:
        auth = ClientCredentialsAuth(
            local.client_id,
            local.client_secret,
            token_url=f"{local.oauth_url}/token",
            client_auth="client_secret_basic",
            http_client=http,
        )
        assert (await http.get(f"{local.api_url}/v1/sites", auth=auth)).status_code == 200


async def test_the_emulators_clock_can_be_moved(local: Emulator, flip: FlipClient) -> None:
    """Its tokens age, ours do not know it, and a 401 sets things right."""
    await flip.sites.list()
    local.advance(4000)

    assert await flip.sites.list() == []

    assert local.count("POST", "/token") == 2


@pytest.mark.parametrize("cut", ["before", "in", "after"])
async def test_a_cut_connection_is_lived_through_and_a_post_not_repeated(
    local: Emulator, flip: FlipClient, cut: str
) -> None:
    await flip.sites.list()
    local.fail_next(path="/v1/sites", cut=cut)  # type: ignore[arg-type]
    assert await flip.sites.list() == []

    local.fail_next(path="/v1/commission", cut=cut)  # type: ignore[arg-type]
    with pytest.raises(errors.OutcomeUnknownError):
        await flip.sites.commission(CommissionSite(id="a"), [battery()])

    assert local.count("POST", "/v1/commission") == 1
    assert local.site_ids == ([] if cut == "before" else ["a"])


async def test_a_slow_answer_is_a_read_timeout(local: Emulator, flip: FlipClient) -> None:
    """In process too."""
    await flip.sites.list()
    local.fail_next(None, path="/v1/sites", delay_s=5)

    with pytest.raises(errors.DeadlineError):
        await flip.sites.list(timeout=0.02, deadline_s=0.2)

    local.behave()
    local.forget_counts()
    assert await flip.sites.list() == []
    assert local.count("GET", "/v1/sites") == 1
    assert local.count("GET", "/v1/never") == 0


async def test_what_is_not_there_is_404(local: Emulator, flip: FlipClient) -> None:
    async with httpx.AsyncClient(transport=local.transport) as http:
        assert (await http.get(f"{local.api_url}/v1/nothing")).status_code == 404

    assert local.count("GET", "/v1/nothing") == 1


async def test_an_emulator_that_does_not_run_says_so() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        _ = Emulator().api_url
    assert "socket" in repr(Emulator())
    assert "in process" in repr(Emulator(in_process=True))


async def test_a_taken_port_is_an_error(socket_emulator: Emulator) -> None:
    port = int(socket_emulator.api_url.rpartition(":")[2])

    with pytest.raises(OSError, match="in use"):
        async with Emulator(port=port):
            raise AssertionError("it cannot listen")
