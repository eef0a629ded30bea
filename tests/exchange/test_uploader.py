"""Points in, batches out, and nothing lost on the way [T1] to [T3]."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest

from flip_async import SANDBOX, UNSET, FlipClient, errors
from flip_async.models import TelemetryPoint, TelemetryResult
from flip_async.telemetry import MemoryOutbox, OutboxEntry, SqliteOutbox, TelemetryUploader
from tests.support import ManualClock, settle
from tests.support.telemetry import TelemetryServer, flowing, number_of, point

Uploader = TelemetryUploader[TelemetryPoint]


class Told:
    """What the callbacks were given."""

    def __init__(self) -> None:
        self.rejected: list[tuple[TelemetryPoint, str]] = []
        self.undelivered: list[tuple[Sequence[TelemetryPoint], errors.FlipError]] = []

    def callbacks(self) -> dict[str, Any]:
        return {
            "on_rejected": lambda point, why: self.rejected.append((point, why)),
            "on_undelivered": lambda points, error: self.undelivered.append((points, error)),
        }


@pytest.fixture
def server() -> TelemetryServer:
    return TelemetryServer()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def flip(server: TelemetryServer, clock: ManualClock) -> AsyncIterator[FlipClient]:
    client = FlipClient(
        api_key="fl_your_api_key", transport=server, clock=clock, environment=SANDBOX
    )
    async with client:
        yield client


def points(count: int, *, first: int = 0) -> list[TelemetryPoint]:
    return [point(number) for number in range(first, first + count)]


# When they go out


async def test_a_thousand_points_go_out_at_once(flip: FlipClient, server: TelemetryServer) -> None:
    async with flip.telemetry.uploader() as uploader:
        await uploader.add_many(points(2000))
        await settle()

        assert server.sizes == [1000, 1000]


async def test_fewer_go_out_when_the_first_has_waited_long_enough(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock
) -> None:
    async with flip.telemetry.uploader(max_delay_s=5.0) as uploader:
        await uploader.add(point(0))
        await clock.pass_time(3.0)
        await uploader.add(point(1))
        await clock.pass_time(1.9)
        assert server.sizes == []

        await clock.pass_time(0.2)

        assert server.sizes == [2]


async def test_no_more_batches_than_allowed_are_in_flight(
    flip: FlipClient, server: TelemetryServer
) -> None:
    server.gate = asyncio.Event()
    async with flip.telemetry.uploader(concurrency=3) as uploader:
        await uploader.add_many(points(8000))
        await settle()
        assert uploader.stats.in_flight == 3000
        assert uploader.stats.queued == 5000
        server.gate.set()

    assert server.most_at_once == 3
    assert server.numbers() == list(range(8000))


async def test_flushing_waits_for_what_was_added_before_and_not_after(
    flip: FlipClient, server: TelemetryServer
) -> None:
    async with flip.telemetry.uploader(max_delay_s=1000.0) as uploader:
        await uploader.add(point(0))
        await uploader.flush()
        assert server.numbers() == [0]

        server.gate = asyncio.Event()
        await uploader.add(point(1))
        flushing = asyncio.create_task(uploader.flush())
        await settle()
        await uploader.add(point(2))
        server.gate.set()
        server.gate = asyncio.Event()
        await flushing

        assert server.numbers() == [0, 1]
        server.gate.set()


async def test_a_flush_that_takes_too_long_is_told_and_sending_goes_on(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock
) -> None:
    server.next_answers.append(httpx.Response(503))
    async with flip.telemetry.uploader() as uploader:
        await uploader.add(point())
        flushing = asyncio.create_task(uploader.flush(timeout_s=0.1))
        await clock.pass_time(0.1)
        with pytest.raises(errors.DeadlineError, match="within 0.1 s"):
            await flushing

        await clock.pass_time(60.0)
        assert server.numbers() == [0]


# Back-pressure


async def test_adding_waits_while_the_outbox_is_full(
    flip: FlipClient, server: TelemetryServer
) -> None:
    server.gate = asyncio.Event()
    async with flip.telemetry.uploader(outbox=MemoryOutbox(max_points=1500)) as uploader:
        adding = asyncio.create_task(uploader.add_many(points(2500)))
        await settle()
        assert not adding.done()
        assert uploader.stats.queued + uploader.stats.in_flight == 1500

        server.gate.set()
        await adding

    assert server.numbers() == list(range(2500))


async def test_adding_without_waiting_is_refused_when_the_outbox_is_full(
    flip: FlipClient, server: TelemetryServer
) -> None:
    async with flip.telemetry.uploader(outbox=MemoryOutbox(max_points=2)) as uploader:
        uploader.add_nowait(point(0))
        uploader.add_nowait(point(1))
        with pytest.raises(errors.OutboxFullError, match="2 points wait"):
            uploader.add_nowait(point(2))

    assert server.numbers() == [0, 1]


async def test_whoever_waits_for_room_and_leaves_takes_nobodys_place(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock
) -> None:
    server.gate = asyncio.Event()
    outbox = MemoryOutbox(max_points=1, clock=clock)
    async with flip.telemetry.uploader(outbox=outbox, max_delay_s=0.1) as uploader:
        adding = [asyncio.create_task(uploader.add(point(number))) for number in range(4)]
        await clock.pass_time(0.2)
        adding[1].cancel()
        server.gate.set()
        for _ in range(4):
            await clock.pass_time(0.2)
        assert all(task.done() for task in adding)

    assert server.numbers() == [0, 2, 3]


@pytest.mark.parametrize("on_undelivered", ["quick", "slow"])
async def test_whoever_waits_for_room_when_the_uploader_is_left_is_told(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock, on_undelivered: str
) -> None:
    """Its points are not accepted after the report of what is left: they would be lost."""
    server.next_answers += [httpx.Response(403)] * 1000
    reported: list[TelemetryPoint] = []
    accepted: list[int] = []

    async def report(points: Sequence[TelemetryPoint], error: errors.FlipError) -> None:
        if on_undelivered == "slow":
            await asyncio.sleep(0.01)
        reported.extend(points)

    async def add(number: int) -> None:
        await uploader.add(point(number))
        accepted.append(number)

    uploader = flip.telemetry.uploader(
        outbox=MemoryOutbox(max_points=2, clock=clock), close_timeout_s=3, on_undelivered=report
    )
    async with flowing(clock):
        with pytest.raises(errors.UndeliveredTelemetryError):
            async with uploader:
                adding = [asyncio.create_task(add(number)) for number in range(5)]
                await settle()
        outcomes = await asyncio.gather(*adding, return_exceptions=True)

    assert accepted == [0, 1]
    assert reported == points(2)
    assert [type(outcome) for outcome in outcomes[2:]] == [errors.ClientClosedError] * 3


async def test_whoever_waits_for_room_when_sending_ends_for_good_is_told(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock
) -> None:
    """Else a body that waits for it would never be left."""
    server.gate = asyncio.Event()
    async with flowing(clock):
        with pytest.raises(errors.UndeliveredTelemetryError):
            async with flip.telemetry.uploader(outbox=MemoryOutbox(max_points=1)) as uploader:
                adding = asyncio.create_task(uploader.add_many(points(3)))
                await settle()
                await flip.aclose()
                with pytest.raises(errors.ClientClosedError):
                    await adding


async def test_a_program_that_adds_without_a_pause_lets_others_run(
    flip: FlipClient, server: TelemetryServer
) -> None:
    async with flip.telemetry.uploader() as uploader:
        for number in range(3000):
            await uploader.add(point(number))

        assert len(server.requests) >= 1


# What Flip says of a point


async def test_a_point_that_failed_is_handed_back_with_the_reason(
    flip: FlipClient, server: TelemetryServer, told: Told
) -> None:
    server.fails = lambda row: "Unknown device" if number_of(row) == 1 else None
    async with flip.telemetry.uploader(**told.callbacks()) as uploader:
        await uploader.add_many(points(3))
        await uploader.flush()
        stats = uploader.stats

    assert told.rejected == [(point(1), "Unknown device")]
    assert (stats.sent, stats.rejected, stats.retried) == (2, 1, 0)
    assert server.sizes == [3]


async def test_a_point_that_failed_is_sent_again_where_the_user_wants_it(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock, told: Told
) -> None:
    """At most three times; then its failure is final."""
    asked: list[TelemetryResult] = []

    def retry(point: TelemetryPoint, result: TelemetryResult) -> bool:
        asked.append(result)
        return point == point_that_fails

    point_that_fails = point(1)
    server.fails = lambda row: "not yet" if number_of(row) == 1 else None
    async with flip.telemetry.uploader(retry_point=retry, **told.callbacks()) as uploader:
        await uploader.add_many(points(3))
        await clock.pass_time(60.0)
        stats = uploader.stats

    assert server.sizes == [3, 1, 1, 1]
    assert [result.message for result in asked] == ["not yet"] * 3
    assert told.rejected == [(point(1), "not yet")]
    assert (stats.sent, stats.rejected, stats.retried) == (2, 1, 3)


async def test_a_status_that_is_new_to_us_is_handed_back_too(
    flip: FlipClient, server: TelemetryServer, told: Told
) -> None:
    server.next_answers.append(
        httpx.Response(
            200,
            json=[
                {"status": "OK"},
                {"status": "LATE", "message": "a day"},
                {"status": "LATE"},
                {"status": "FAILED"},
            ],
        )
    )
    async with flip.telemetry.uploader(**told.callbacks()) as uploader:
        await uploader.add_many(points(4))

    assert [why for _, why in told.rejected] == ["LATE: a day", "LATE", "FAILED, with no message"]


async def test_a_point_is_handed_back_as_it_was_added(
    flip: FlipClient, server: TelemetryServer, told: Told
) -> None:
    """Raw data of any form, another time zone, and what was not given."""
    zone = timezone(timedelta(hours=-7))
    added = TelemetryPoint(
        device_id="inv-1",
        start_time=datetime(2025, 1, 1, 12, tzinfo=zone),
        duration_s=300,
        last_is_online=False,
        home_last_power_w=None,
        oem_raw_data={"a": [1, {"b": None, "c": 2.5}], "d": "x", "e": True},
    )
    server.fails = lambda row: "no"
    async with flip.telemetry.uploader(**told.callbacks()) as uploader:
        await uploader.add(added)

    assert told.rejected == [(added, "no")]
    assert told.rejected[0][0].start_time.utcoffset() == timedelta(hours=-7)
    assert told.rejected[0][0].solar_last_power_w is UNSET


async def test_a_callback_may_be_async_and_may_fail(
    flip: FlipClient, server: TelemetryServer, caplog: pytest.LogCaptureFixture
) -> None:
    """What the user's code raises is logged, and costs no other point."""
    heard: list[int] = []

    async def on_rejected(point: TelemetryPoint, why: str) -> None:
        await asyncio.sleep(0)
        heard.append(1)
        raise ZeroDivisionError(why)

    server.fails = lambda row: "no"
    async with flip.telemetry.uploader(on_rejected=on_rejected) as uploader:
        await uploader.add_many(points(2))
        await uploader.flush()
        stats = uploader.stats

    assert heard == [1, 1]
    assert stats.rejected == 2
    assert caplog.text.count("ZeroDivisionError: no") == 2


async def test_a_rejection_that_nobody_listens_to_is_logged(
    flip: FlipClient, server: TelemetryServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.fails = lambda row: "Unknown device"
    async with flip.telemetry.uploader() as uploader:
        await uploader.add_many(points(2))

    assert "2 points were rejected, the first of them: Unknown device" in caplog.text


@pytest.mark.parametrize("trouble", [ZeroDivisionError(), asyncio.CancelledError()], ids=repr)
async def test_a_retry_rule_that_fails_rejects_the_point(
    flip: FlipClient,
    server: TelemetryServer,
    told: Told,
    trouble: BaseException,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def retry(point: TelemetryPoint, result: TelemetryResult) -> bool:
        raise trouble

    server.fails = lambda row: "no"
    async with flip.telemetry.uploader(retry_point=retry, **told.callbacks()) as uploader:
        await uploader.add(point())

    assert told.rejected == [(point(), "no")]
    assert "retry_point failed" in caplog.text


# A request that is refused


async def test_one_bad_point_costs_no_good_one(
    flip: FlipClient, server: TelemetryServer, told: Told
) -> None:
    """A 422 for a batch of a thousand: 999 arrive, one is handed back [T2]."""
    server.refuses = lambda row: number_of(row) == 617
    async with flip.telemetry.uploader(**told.callbacks()) as uploader:
        await uploader.add_many(points(1000))

    phrase = HTTPStatus(422).phrase  # Python 3.13 has the words of RFC 9110
    assert told.rejected == [(point(617), f"422 {phrase}: a point is bad")]
    assert server.numbers() == [number for number in range(1000) if number != 617]
    assert len(server.requests) < 25


async def test_points_that_the_answer_names_are_sent_apart(
    flip: FlipClient, server: TelemetryServer, told: Told
) -> None:
    def named(*places: int) -> httpx.Response:
        detail = [
            {"loc": ["body", "telemetry", place, "duration_s"], "msg": "odd"} for place in places
        ]
        return httpx.Response(422, json={"detail": detail})

    server.next_answers += [
        named(2, 7),
        httpx.Response(200, json=[{"status": "OK"}] * 8),
        named(0, 1),
    ]
    async with flip.telemetry.uploader(**told.callbacks()) as uploader:
        await uploader.add_many(points(10))

    assert server.sizes == [10, 8, 2]
    assert told.rejected == [(point(2), "duration_s: odd"), (point(7), "duration_s: odd")]


async def test_a_server_that_refuses_everything_costs_no_point(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock, told: Told
) -> None:
    """Sending pauses, says why, and goes on when the server has come to its senses [T2]."""
    server.refuses = lambda row: True
    async with flowing(clock), flip.telemetry.uploader(**told.callbacks()) as uploader:
        await uploader.add_many(points(1500))
        while len(server.requests) < 150:
            await asyncio.sleep(0)
        while uploader.stats.in_flight:
            await asyncio.sleep(0)

        blocked_by = uploader.stats.blocked_by
        assert isinstance(blocked_by, errors.UnprocessableEntityError)
        assert uploader.stats.queued == 1500
        assert clock.monotonic_s > 1000.0 + 4.0
        assert told.rejected == []

        server.refuses = lambda row: False
        await uploader.flush()
        assert uploader.stats.blocked_by is None

    assert server.numbers() == list(range(1500))
    assert told.rejected == []
    assert told.undelivered == []


async def test_a_bad_point_that_was_alone_is_found_when_others_come(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock, told: Told
) -> None:
    """Alone, it may be the server's fault; beside one that passes, it is the point's."""
    server.refuses = lambda row: number_of(row) < 3
    async with (
        flowing(clock),
        flip.telemetry.uploader(max_delay_s=1.0, **told.callbacks()) as uploader,
    ):
        await uploader.add_many(points(3))
        while uploader.stats.blocked_by is None:
            await asyncio.sleep(0)
        assert told.rejected == []

        await uploader.add(point(3))
        await uploader.flush()

        found = sorted((rejected for rejected, _ in told.rejected), key=lambda p: p.start_time)
        assert found == points(3)
        assert server.numbers() == [3]
        assert uploader.stats.blocked_by is None


async def test_a_heap_of_bad_points_does_not_hold_up_the_good_for_ever(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock, told: Told
) -> None:
    server.refuses = lambda row: number_of(row) < 1200
    async with flowing(clock), flip.telemetry.uploader(**told.callbacks()) as uploader:
        await uploader.add_many(points(3000))
        while len(told.rejected) < 1200:
            await uploader.add(point(3000 + len(server.accepted)))
            await asyncio.sleep(0.001)
        await uploader.flush()

        assert sorted(p.start_time for p, _ in told.rejected) == [
            p.start_time for p in points(1200)
        ]
    assert server.numbers()[:1800] == list(range(1200, 3000))


@pytest.mark.parametrize("status", [401, 403, 404, 409])
async def test_a_refusal_that_is_no_points_fault_pauses_sending(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock, told: Told, status: int
) -> None:
    server.next_answers += [httpx.Response(status)] * 3
    async with flip.telemetry.uploader(**told.callbacks()) as uploader:
        await uploader.add_many(points(3000))
        await settle()
        blocked_by = uploader.stats.blocked_by
        assert isinstance(blocked_by, errors.StatusError)
        assert blocked_by.status_code == status

        await clock.pass_time(200.0)

    assert server.numbers() == list(range(3000))
    assert told.rejected == []


# A request that gets no answer, or an odd one


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.Response(503),
        httpx.Response(500),
        httpx.Response(502),
        httpx.ConnectError("down"),
        httpx.ReadError("cut"),
        httpx.ReadTimeout("slow"),
    ],
    ids=lambda trouble: str(getattr(trouble, "status_code", type(trouble).__name__)),
)
async def test_trouble_on_the_way_is_tried_again_until_it_is_over(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock, trouble: Any
) -> None:
    """At least once: also where nobody knows whether it was carried out."""
    server.next_answers += [trouble] * 5
    async with flip.telemetry.uploader() as uploader:
        await uploader.add_many(points(2))
        await clock.pass_time(300.0)
        stats = uploader.stats

    assert server.sizes == [2] * 6
    assert server.numbers() == [0, 1]
    assert stats.retried == 10


async def test_a_server_that_asks_to_wait_is_waited_for_by_all_batches(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock
) -> None:
    server.next_answers.append(httpx.Response(429, headers={"Retry-After": "30"}))
    async with flip.telemetry.uploader() as uploader:
        await uploader.add_many(points(1000))
        await settle()
        await uploader.add_many(points(2000, first=1000))
        await clock.pass_time(29.0)
        assert len(server.requests) == 1
        assert isinstance(uploader.stats.blocked_by, errors.RateLimitError)

        await clock.pass_time(2.0)

        assert server.numbers() == list(range(3000))


async def test_after_a_pause_one_request_goes_first(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock
) -> None:
    """A server that just came back is not met by all at once."""
    server.next_answers += [httpx.Response(503, headers={"Retry-After": "10"})] * 4
    first_gate = server.gate = asyncio.Event()
    async with flip.telemetry.uploader(concurrency=4) as uploader:
        await uploader.add_many(points(4000))
        while len(server.requests) < 4:
            await asyncio.sleep(0)
        server.gate = asyncio.Event()
        first_gate.set()
        await clock.pass_time(11.0)
        assert len(server.requests) == 5

        server.gate.set()
        async with flowing(clock):
            await uploader.flush()

        assert server.numbers() == list(range(4000))


async def test_an_answer_that_makes_no_sense_is_tried_three_times_then_reported(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock, told: Told
) -> None:
    """It may have been carried out each time: to go on for ever would make copies for ever."""
    server.next_answers += [
        httpx.Response(200, json=[{"status": "OK"}]),
        httpx.Response(200, content=b"<html>"),
        httpx.Response(200, json={"status": "OK"}),
    ]
    async with flip.telemetry.uploader(**told.callbacks()) as uploader:
        await uploader.add_many(points(2))
        await clock.pass_time(60.0)
        stats = uploader.stats
        with pytest.raises(errors.UndeliveredTelemetryError) as caught:
            await uploader.aclose()

    assert server.sizes == [2, 2, 2]
    ((reported, error),) = told.undelivered
    assert reported == points(2)
    assert isinstance(error, errors.DecodeError)
    assert stats.undelivered == 2
    assert list(caught.value.points) == points(2)


# Leaving


async def test_leaving_sends_what_is_left(flip: FlipClient, server: TelemetryServer) -> None:
    async with flip.telemetry.uploader(max_delay_s=1000.0) as uploader:
        await uploader.add_many(points(1234))

    assert server.numbers() == list(range(1234))


async def leave(uploader: Uploader, clock: ManualClock, count: int = 2) -> None:
    """Add points and leave; time passes as fast as somebody waits for it."""

    async def body() -> None:
        async with uploader:
            await uploader.add_many(points(count))

    leaving = asyncio.create_task(body())
    for _ in range(100):
        if leaving.done():
            break
        await clock.pass_time(1.0)
    await leaving


async def test_what_cannot_be_sent_in_time_is_handed_back_and_raised(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock, told: Told
) -> None:
    server.next_answers += [httpx.Response(503)] * 1000
    uploader = flip.telemetry.uploader(close_timeout_s=10.0, **told.callbacks())

    with pytest.raises(errors.UndeliveredTelemetryError) as caught:
        await leave(uploader, clock)

    assert str(caught.value) == "2 accepted points could not be sent"
    assert list(caught.value.points) == points(2)
    assert isinstance(caught.value.__cause__, errors.ServerError)
    ((reported, error),) = told.undelivered
    assert list(reported) == points(2)
    assert "within 10 s" in str(error)
    assert uploader.stats.undelivered == 2


async def test_the_bodys_own_error_comes_out_with_a_note(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock, told: Told
) -> None:
    server.next_answers += [httpx.Response(403)] * 1000

    async def body() -> None:
        async with flip.telemetry.uploader(close_timeout_s=2.0, **told.callbacks()) as uploader:
            await uploader.add(point())
            raise KeyError("mine")

    leaving = asyncio.create_task(body())
    await clock.pass_time(5.0)
    with pytest.raises(KeyError) as caught:
        await leaving

    assert caught.value.__notes__ == ["1 accepted points could not be sent"]
    assert len(told.undelivered) == 1


async def test_a_task_that_is_cancelled_sends_what_is_left_first(
    flip: FlipClient, server: TelemetryServer
) -> None:
    """As Ctrl-C does it to a script's main task [T3]."""
    entered = asyncio.Event()

    async def body() -> None:
        async with flip.telemetry.uploader(max_delay_s=1000.0) as uploader:
            await uploader.add_many(points(1500))
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert server.numbers() == list(range(1500))


async def test_a_second_cancellation_reports_at_once_what_is_not_sent(
    flip: FlipClient, server: TelemetryServer, told: Told
) -> None:
    """Whoever presses Ctrl-C twice has no time."""
    server.gate = asyncio.Event()

    async def body() -> None:
        async with flip.telemetry.uploader(**told.callbacks()) as uploader:
            await uploader.add_many(points(1500))
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await settle()
    task.cancel()
    await settle()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task

    ((reported, _),) = told.undelivered
    assert sorted(p.start_time for p in reported) == [p.start_time for p in points(1500)]
    assert caught.value.__notes__ == ["1500 accepted points could not be sent"]


async def test_a_cancellation_while_leaving_is_raised_when_all_is_sent(
    flip: FlipClient, server: TelemetryServer
) -> None:
    server.gate = asyncio.Event()

    async def body() -> None:
        async with flip.telemetry.uploader() as uploader:
            await uploader.add(point())

    task = asyncio.create_task(body())
    await settle()
    task.cancel()
    await settle()
    server.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert server.numbers() == [0]


async def test_a_client_that_is_closed_first_is_told_and_costs_no_point(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock, told: Told
) -> None:
    server.gate = asyncio.Event()
    with pytest.raises(errors.UndeliveredTelemetryError) as caught:
        async with flip.telemetry.uploader(**told.callbacks()) as uploader:
            await uploader.add_many(points(1001))
            await settle()
            await flip.aclose()
            await clock.pass_time(2.0)
            with pytest.raises((errors.ClientClosedError, errors.OutcomeUnknownError)):
                await uploader.add(point())

    assert len(caught.value.points) == 1001


async def test_a_bug_looks_like_a_bug_and_costs_its_points_a_try(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """In a transport or a hook of a user's: other batches go on, and so does the uploader [B3]."""
    server.next_answers.append(ZeroDivisionError("a bug"))
    async with flip.telemetry.uploader() as uploader:
        await uploader.add_many(points(2000))
        await settle()
        assert uploader.stats.sent == 1000
        assert "ZeroDivisionError: a bug" in caplog.text
        async with flowing(clock):
            await uploader.flush()

    assert server.numbers() == list(range(2000))


async def test_a_bug_that_stays_is_told_with_the_points_that_it_held_up(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock, told: Told
) -> None:
    server.next_answers += [ZeroDivisionError("a bug")] * 1000
    async with flowing(clock):
        with pytest.raises(errors.UndeliveredTelemetryError) as caught:
            async with flip.telemetry.uploader(**told.callbacks()) as uploader:
                await uploader.add_many(points(1000))
                await clock.pass_time(60)
                assert "ZeroDivisionError" in str(uploader.stats.blocked_by)

    assert list(caught.value.points) == points(1000)
    assert isinstance(caught.value.__cause__, errors.FlipError)
    assert isinstance(caught.value.__cause__.__cause__, ZeroDivisionError)


class BuggyOutbox(MemoryOutbox):
    """A user's, that fails now and then."""

    def __init__(self, *bugs: BaseException) -> None:
        super().__init__()
        self.bugs = list(bugs)

    async def claim(self, most: int) -> Sequence[OutboxEntry]:
        if self.bugs:
            raise self.bugs.pop()
        return await super().claim(most)


@pytest.mark.parametrize("bug", [RuntimeError("a bug"), asyncio.CancelledError("a bug")], ids=repr)
async def test_a_bug_in_one_round_does_not_end_the_sending(
    flip: FlipClient,
    server: TelemetryServer,
    clock: ManualClock,
    bug: BaseException,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Only closing ends it [B3], and nothing runs in circles meanwhile."""
    outbox = BuggyOutbox(bug, bug)
    async with flip.telemetry.uploader(outbox=outbox) as uploader:
        await uploader.add_many(points(1000))
        await clock.pass_time(0.9)
        assert len(outbox.bugs) == 1
        await clock.pass_time(1.2)
        assert server.numbers() == list(range(1000))

    assert caplog.text.count("the outbox cannot be used, again in 1 s") == 2
    assert "a bug" in caplog.text


class SlowEmptyOutbox(MemoryOutbox):
    """A shared one: at the first claim somebody else was faster, and the answer takes its time."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.answer: asyncio.Event | None = asyncio.Event()

    async def claim(self, most: int) -> Sequence[OutboxEntry]:
        if self.answer is not None:
            await self.answer.wait()
            self.answer = None
            return []
        return await super().claim(most)


async def test_a_point_that_comes_while_a_claim_is_answered_with_nothing_is_not_forgotten(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock
) -> None:
    outbox = SlowEmptyOutbox(clock)
    async with flip.telemetry.uploader(outbox=outbox, max_delay_s=1.0) as uploader:
        await uploader.add(point(0))
        await clock.pass_time(1.1)
        await uploader.add(point(1))
        assert outbox.answer is not None
        outbox.answer.set()
        await clock.pass_time(1.1)
        assert server.numbers() == [0, 1]


async def test_an_uploader_is_used_with_a_context_once(flip: FlipClient) -> None:
    uploader = flip.telemetry.uploader()
    with pytest.raises(errors.ConfigurationError, match="async with"):
        await uploader.add(point())
    async with uploader:
        assert repr(uploader).endswith("open>")
    await uploader.aclose()

    with pytest.raises(errors.ClientClosedError, match="make another"):
        await uploader.add(point())
    with pytest.raises(errors.ConfigurationError, match="used once"):
        async with uploader:
            pass


async def test_an_outbox_belongs_to_one_uploader(flip: FlipClient) -> None:
    outbox = MemoryOutbox()
    async with flip.telemetry.uploader(outbox=outbox):
        with pytest.raises(errors.ConfigurationError, match="has an uploader"):
            async with flip.telemetry.uploader(outbox=outbox):
                pass


async def test_an_uploader_that_nobody_closes_warns(flip: FlipClient) -> None:
    uploader = flip.telemetry.uploader()
    await uploader.__aenter__()
    for task in uploader._worker.stop():
        await asyncio.wait([task])

    with pytest.warns(ResourceWarning, match="unclosed TelemetryUploader"):
        uploader.__del__()
    await uploader.aclose()


# What is told


async def test_the_statistics_tell_how_old_the_oldest_point_is(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock
) -> None:
    server.gate = asyncio.Event()
    async with flip.telemetry.uploader(max_delay_s=4.0) as uploader:
        assert uploader.stats.oldest_age_s is None
        await uploader.add(point(0))
        await clock.pass_time(3.0)
        assert uploader.stats.oldest_age_s == 3.0
        await clock.pass_time(2.0)
        await uploader.add(point(1))
        assert (uploader.stats.in_flight, uploader.stats.queued) == (1, 1)
        assert uploader.stats.oldest_age_s == 5.0
        server.gate.set()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 1.5}, "concurrency"),
        ({"max_delay_s": 0}, "max_delay_s"),
        ({"max_delay_s": None}, "max_delay_s"),
        ({"close_timeout_s": "1"}, "close_timeout_s"),
        ({"on_rejected": "print"}, "on_rejected"),
    ],
)
async def test_a_wrong_option_is_refused_at_once(
    flip: FlipClient, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=f"^{field}: "):
        flip.telemetry.uploader(**options)


# Counters


def counter(number: int, device_id: str) -> Mapping[str, object]:
    return {"device_id": device_id, "timestamp": number, "energy_wh": 10 * number}


async def test_counters_of_a_device_are_sent_one_batch_at_a_time_and_in_order(
    flip: FlipClient, server: TelemetryServer
) -> None:
    """Flip takes the difference to the reading before [T1]."""
    server.gate = asyncio.Event()
    async with flip.telemetry.counter_uploader(concurrency=4) as uploader:
        for number in range(2000):
            await uploader.add(counter(number, f"inv-{number % 3}"))
        await settle()
        assert server.most_at_once <= 3
        in_flight = [{row["device_id"] for row in rows} for rows in server.requests]
        assert sum(len(devices) for devices in in_flight) == len(set().union(*in_flight))
        server.gate.set()
        await uploader.flush()

    for device_id in ("inv-0", "inv-1", "inv-2"):
        sent = [
            row["timestamp"]
            for rows in server.requests
            for row in rows
            if row["device_id"] == device_id
        ]
        assert sent == sorted(sent)
    assert server.numbers() == list(range(2000))


async def test_a_counter_that_is_refused_does_not_let_others_overtake_it(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock
) -> None:
    rejected: list[object] = []
    server.refuses = lambda row: row["timestamp"] == 3
    async with flip.telemetry.counter_uploader(
        on_rejected=lambda point, why: rejected.append(point["timestamp"])
    ) as uploader:
        await uploader.add_many([counter(number, "inv-0") for number in range(10)])
        await uploader.flush()

    assert rejected == [3]
    assert server.in_turn == [0, 1, 2, 4, 5, 6, 7, 8, 9]


async def test_counters_that_were_all_refused_are_sent_again_in_order(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock
) -> None:
    server.refuses = lambda row: True
    async with flowing(clock), flip.telemetry.counter_uploader(max_delay_s=0.1) as uploader:
        await uploader.add_many([counter(number, "inv-0") for number in range(3)])
        while uploader.stats.blocked_by is None:
            await asyncio.sleep(0)
        await uploader.add_many([counter(number, "inv-0") for number in range(3, 6)])
        server.refuses = lambda row: False
        server.requests.clear()
        await uploader.flush()

    assert [row["timestamp"] for rows in server.requests for row in rows] == list(range(6))


async def test_an_answer_to_counters_that_tells_nothing_counts_as_success(
    flip: FlipClient, server: TelemetryServer
) -> None:
    """It is not documented."""
    server.next_answers += [httpx.Response(200, json={"received": 2}), httpx.Response(204)]
    async with flip.telemetry.counter_uploader() as uploader:
        for _ in range(2):
            await uploader.add_many([counter(1, "inv-0"), counter(2, "inv-0")])
            await uploader.flush()
        assert uploader.stats.sent == 4


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"device_id": "inv-0"}, "point.timestamp"),
        ({"timestamp": 1}, "point.device_id"),
        ({"timestamp": 1, "device_id": 7}, "point.device_id"),
        ("x", "point"),
    ],
)
async def test_a_counter_needs_a_time_and_a_device(flip: FlipClient, bad: Any, field: str) -> None:
    async with flip.telemetry.counter_uploader() as uploader:
        with pytest.raises(errors.InvalidArgumentError, match=f"^{field}: "):
            await uploader.add(bad)


# What is refused before it is accepted


async def test_a_bad_point_is_refused_before_it_is_accepted(
    flip: FlipClient, server: TelemetryServer
) -> None:
    """The error names point, field and rule; of several points none is accepted."""
    async with flip.telemetry.uploader() as uploader:
        with pytest.raises(errors.InvalidArgumentError, match="^point.home_last_power_w: .*finite"):
            await uploader.add(point(home_last_power_w=float("nan")))
        with pytest.raises(errors.InvalidArgumentError) as caught:
            await uploader.add_many([point(), point(duration_s="300")])  # type: ignore[arg-type]
        with pytest.raises(errors.InvalidArgumentError, match="^point: is a TelemetryPoint"):
            await uploader.add({"device_id": "inv-1"})  # type: ignore[arg-type]

    assert caught.value.field == "points[1].duration_s"
    assert server.requests == []


async def test_an_incomplete_point_is_warned_of_once_for_each_device(
    flip: FlipClient, server: TelemetryServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Flip's text asks for all values, its schema does not."""
    caplog.set_level(logging.WARNING, "flip_async.telemetry")
    async with flip.telemetry.uploader() as uploader:
        await uploader.add(point(1, home_last_power_w=None))
        await uploader.add(point(2, home_last_power_w=None))
        await uploader.add(point(3, device_id="inv-2", last_is_online=False))
        await uploader.add(point(4, device_id="inv-3", last_is_online=None))
        await uploader.add(
            TelemetryPoint.offline(device_id="inv-4", start_time=point().start_time, duration_s=300)
        )

    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 3
    assert "'inv-1' is online and lacks home_last_power_w" in warnings[0]
    assert "'inv-2' is offline, and last_mode, battery_last" in warnings[1]
    assert "'inv-3' does not say whether it is online" in warnings[2]
    assert len(server.accepted) == 5


async def test_an_incomplete_point_is_refused_where_the_user_is_strict(flip: FlipClient) -> None:
    incomplete = point(home_last_power_w=None)
    async with flip.telemetry.uploader(strict=True) as uploader:
        await uploader.add(point())
        with pytest.raises(errors.InvalidArgumentError, match="lacks home_last_power_w"):
            await uploader.add(incomplete)
    with pytest.raises(errors.InvalidArgumentError, match=r"^telemetry\[1\]: .*home_last_power_w"):
        await flip.telemetry.send([point(), incomplete], strict=True)


# What became of each


async def test_delivering_tells_what_became_of_each_point_by_its_place(
    flip: FlipClient, server: TelemetryServer
) -> None:
    """Also of equal points, which no value tells apart [B7]."""
    server.fails = lambda row: "no such device" if number_of(row) == 1 else None
    async with flip.telemetry.uploader() as uploader:
        outcomes = await uploader.deliver([point(0), point(1), point(1), point(2)])

    assert [outcome.status for outcome in outcomes] == ["sent", "rejected", "rejected", "sent"]
    assert [outcome.reason for outcome in outcomes] == [None, *["no such device"] * 2, None]


async def test_what_is_not_sent_before_closing_is_told_to_whoever_delivers(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock
) -> None:
    server.next_answers += [httpx.Response(503)] * 1000
    async with flowing(clock):
        with pytest.raises(errors.UndeliveredTelemetryError):
            async with flip.telemetry.uploader(close_timeout_s=3) as uploader:
                delivering = asyncio.create_task(uploader.deliver(points(3)))
                await settle()
        outcomes = await delivering

    assert [outcome.status for outcome in outcomes] == ["undelivered"] * 3
    assert all(isinstance(outcome.error, errors.DeadlineError) for outcome in outcomes)


async def test_delivering_needs_an_outbox_of_ones_own(flip: FlipClient, tmp_path: Path) -> None:
    outbox = SqliteOutbox(tmp_path / "outbox.db")
    async with flip.telemetry.uploader(outbox=outbox) as uploader:
        with pytest.raises(errors.ConfigurationError, match="needs a MemoryOutbox"):
            await uploader.deliver([point()])


async def test_flushing_ends_with_the_close(
    flip: FlipClient, server: TelemetryServer, clock: ManualClock
) -> None:
    server.next_answers += [httpx.Response(503)] * 1000
    async with flowing(clock):
        with pytest.raises(errors.UndeliveredTelemetryError):
            async with flip.telemetry.uploader(close_timeout_s=3) as uploader:
                await uploader.add(point())
                flushing = asyncio.create_task(uploader.flush())
                await settle()
        with pytest.raises(errors.ClientClosedError):
            await flushing


async def test_readings_of_counters_are_not_sent_again_behind_later_ones(flip: FlipClient) -> None:
    """Flip takes the difference of one and the next."""
    with pytest.raises(errors.InvalidArgumentError, match="retry_point"):
        flip.telemetry.counter_uploader(retry_point=lambda *_: True)  # type: ignore[arg-type]


async def test_whether_a_point_is_tried_again_is_not_asked_by_an_async_function(
    flip: FlipClient,
) -> None:
    async def retry_point(point: TelemetryPoint, result: TelemetryResult) -> bool:
        return False

    with pytest.raises(errors.InvalidArgumentError, match="retry_point"):
        flip.telemetry.uploader(retry_point=retry_point)  # type: ignore[arg-type]
