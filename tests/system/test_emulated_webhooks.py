"""Webhooks of the emulator: what happens is told, signed, in time, and again where that fails."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from flip_async.emulator import Emulator
from flip_async.models import CommissionSite
from flip_async.webhooks import AnyEvent, CommandEvent, GridEvent, verify
from tests.system.test_fastapi import enrolled
from tests.system.test_story import battery


class Target(httpx.AsyncBaseTransport):
    """An application that takes webhooks, and answers as told."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.next_answers: list[int | Exception] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.requests.append(request)
        answer = self.next_answers.pop(0) if self.next_answers else 204
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer)

    def events(self, secret: str) -> list[AnyEvent]:
        return [verify(one.content, one.headers, secret) for one in self.requests]

    def types(self) -> list[str]:
        return [json.loads(one.content)["event_type"] for one in self.requests]


@pytest.fixture
def target() -> Target:
    return Target()


@pytest.fixture
async def local(target: Target) -> AsyncIterator[Emulator]:
    async with Emulator(in_process=True, webhook_pauses_s=[0.01] * 4) as emulator:
        emulator.register_webhook("http://app.localhost/hook", transport=target)
        yield emulator


async def dispatched(emulator: Emulator, **options: Any) -> str:
    async with emulator.client() as flip:
        await enrolled(flip, emulator, devices=2)
    (event_id,) = emulator.dispatch(**options)
    await emulator.webhooks_settled()
    return event_id


async def test_a_dispatch_is_told_step_by_step(local: Emulator, target: Target) -> None:
    event_id = await dispatched(local)

    assert sorted(target.types()) == [
        "command.created",
        "command.created",
        "enrollment.created",
        "enrollment.updated",
        "event.created",
    ]
    events = target.events(local.webhook_secret)
    (grid,) = (event for event in events if isinstance(event, GridEvent))
    assert grid.event_object.id == event_id
    assert {e.event_object.event_id for e in events if isinstance(e, CommandEvent)} == {event_id}
    assert {json.loads(e.body)["event_object"]["object_type"] for e in events} == {
        "command", "enrollment", "event",
    }  # fmt: skip


async def test_the_reference_implementation_takes_them(local: Emulator, target: Target) -> None:
    await dispatched(local)

    reference = Webhook(local.webhook_secret)
    for request in target.requests:
        reference.verify(request.content, dict(request.headers))
    assert len({request.headers["Webhook-Id"] for request in target.requests}) == 5


async def test_a_cancelation_asks_for_a_new_acknowledgement(
    local: Emulator, target: Target
) -> None:
    event_id = await dispatched(local)
    target.requests.clear()
    local.cancel_event(event_id)
    await local.webhooks_settled()

    assert sorted(target.types()) == ["command.canceled", "command.canceled", "event.canceled"]
    commands = [e for e in target.events(local.webhook_secret) if isinstance(e, CommandEvent)]
    assert {str(e.event_object.status) for e in commands} == {"CANCELED"}
    assert {str(e.event_object.device_status) for e in commands} == {"PENDING"}


async def test_who_leaves_and_comes_back_changes_the_commands(
    local: Emulator, target: Target
) -> None:
    event_id = await dispatched(local)
    for is_participating, status in ((False, "OPT_OUT"), (True, "OK")):
        target.requests.clear()
        local.participate(event_id, is_participating=is_participating)
        await local.webhooks_settled()
        commands = [e for e in target.events(local.webhook_secret) if isinstance(e, CommandEvent)]
        assert sorted(target.types()) == ["command.updated", "command.updated", "event.updated"]
        assert {str(e.event_object.status) for e in commands} == {status}


async def test_commands_begin_and_end_as_time_passes(local: Emulator, target: Target) -> None:
    await dispatched(local, starts_in_s=600, duration_s=3600)
    async with local.client() as flip:
        for command in await flip.commands.list():
            await flip.commands.update_status(command.id, "OK")
    target.requests.clear()

    for seconds, expected in ((599, []), (2, ["started"] * 2), (3600, ["ended"] * 2), (9999, [])):
        target.requests.clear()
        local.advance(seconds)
        await local.webhooks_settled()
        assert target.types() == [f"command.{word}" for word in expected]


async def test_a_canceled_command_neither_begins_nor_ends(local: Emulator, target: Target) -> None:
    local.cancel_event(await dispatched(local, starts_in_s=10, duration_s=10))
    async with local.client() as flip:
        for command in await flip.commands.list():
            await flip.commands.update_status(command.id, "OK")
    await local.webhooks_settled()
    target.requests.clear()
    local.advance(60)
    await local.webhooks_settled()

    assert target.types() == []


async def test_a_command_nobody_acknowledges_fails_and_another_one_is_made(
    local: Emulator, target: Target
) -> None:
    await dispatched(local)
    target.requests.clear()
    local.advance(901)
    await local.webhooks_settled()

    assert target.types() == ["command.created"] * 2
    assert sorted(str(one["device_status"]) for one in local.commands) == [
        "FAILED_OFFLINE", "FAILED_OFFLINE", "PENDING", "PENDING",
    ]  # fmt: skip


# Delivery


async def test_what_fails_is_sent_again_four_times_with_the_same_id(
    local: Emulator, target: Target
) -> None:
    target.next_answers = [500, 302, 400, httpx.ConnectError("down"), 503, 204]
    local.send_webhook("settings.apply", {"id": "s"})
    await local.webhooks_settled()

    (delivery,) = local.webhooks
    assert delivery.outcomes == [500, 302, 400, "ConnectError", 503]
    assert delivery.is_over
    assert not delivery.is_delivered
    assert len({request.headers["Webhook-Id"] for request in target.requests}) == 1


@pytest.mark.parametrize("status", [200, 204])
async def test_two_statuses_are_success(local: Emulator, target: Target, status: int) -> None:
    target.next_answers = [500, status]
    local.send_webhook("settings.apply", {"id": "s"})
    await local.webhooks_settled()

    (delivery,) = local.webhooks
    assert delivery.outcomes == [500, status]
    assert delivery.is_delivered


async def test_a_choice_of_event_types_and_more_than_one_copy(local: Emulator) -> None:
    chosen = Target()
    local.register_webhook(
        "http://app.localhost/", event_types=["event.created"], copies=3, transport=chosen
    )
    await dispatched(local)

    assert chosen.types() == ["event.created"] * 3
    assert len({request.headers["Webhook-Id"] for request in chosen.requests}) == 1


async def test_leaving_ends_what_is_still_to_be_sent(target: Target) -> None:
    target.next_answers = [500] * 9
    async with Emulator(in_process=True, webhook_pauses_s=[3600]) as emulator:
        emulator.register_webhook("http://app.localhost/", transport=target)
        emulator.send_webhook("settings.apply", {"id": "s"})
        while not target.requests:
            await asyncio.sleep(0.01)

    assert not emulator.webhooks[0].is_over


async def test_without_a_url_nothing_is_sent(emulator: Emulator) -> None:
    async with emulator.client() as flip:
        await flip.sites.commission(CommissionSite(id="a"), [battery()])
        await enrolled(flip, emulator)
    emulator.dispatch()
    await emulator.webhooks_settled()

    assert emulator.webhooks == []
