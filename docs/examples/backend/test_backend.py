"""Tests of the backend, against a local Flip in the same process: no socket, and no waiting."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import devices
import httpx
import pytest
from app import app

from flip_async.emulator import Emulator

HOME = {"id": "hh-1", "zip_code": "88801", "battery_id": "inv-1", "may_be_enrolled": True}


@pytest.fixture
async def flip_local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Emulator]:
    """A local Flip that the application finds, and which delivers to it; a folder for its files."""
    monkeypatch.chdir(tmp_path)
    async with Emulator() as flip_local:
        for name, value in flip_local.variables().items():
            monkeypatch.setenv(name, value)
        flip_local.register_webhook(
            "http://app/webhooks/flip", transport=httpx.ASGITransport(app), copies=2
        )
        yield flip_local


@pytest.fixture
async def http(flip_local: Emulator) -> AsyncIterator[httpx.AsyncClient]:
    """The application while it runs, as those who call it see it."""
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as http,
    ):
        yield http


async def test_a_home_is_commissioned_and_enrolled(http: httpx.AsyncClient) -> None:
    answer = await http.post("/homes", json=HOME)

    assert answer.json()["enrollment"] == "PENDING"
    assert (await http.get("/homes/hh-1")).json()["zip_code"] == "88801"


async def test_a_home_that_nobody_has_commissioned_is_not_found(http: httpx.AsyncClient) -> None:
    assert (await http.get("/homes/nobody")).status_code == 404


async def test_a_command_is_acknowledged_once(
    http: httpx.AsyncClient, flip_local: Emulator, capfd: pytest.CaptureFixture[str]
) -> None:
    await http.post("/homes", json=HOME)
    flip_local.review_enrollments()

    flip_local.dispatch()
    await acknowledged(flip_local)

    assert [command["device_status"] for command in flip_local.commands] == ["OK"]
    assert capfd.readouterr().out.count("inv-1: DISCHARGE") == 1


async def test_a_battery_that_is_offline_is_reported_so(
    http: httpx.AsyncClient, flip_local: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "OFFLINE", {"inv-1"})
    await http.post("/homes", json=HOME)
    flip_local.review_enrollments()

    flip_local.dispatch()
    await acknowledged(flip_local)

    assert flip_local.commands[0]["device_status"] == "FAILED_OFFLINE"


async def test_a_reading_goes_to_flip(http: httpx.AsyncClient, flip_local: Emulator) -> None:
    await http.post("/homes", json=HOME)

    answer = await http.post("/readings", json={"battery_id": "inv-1", "state_of_charge": 74.5})
    await app.state.uploader.flush()

    assert answer.status_code == 202
    assert flip_local.telemetry[0]["battery_last_state_of_charge_percentage"] == 74.5


async def acknowledged(flip_local: Emulator) -> None:
    """Wait until no command waits for an acknowledgement any more."""
    while any(command["device_status"] == "PENDING" for command in flip_local.commands):
        await asyncio.sleep(0.01)
