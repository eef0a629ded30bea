"""What a ledger has of a command, and what follows from it [F7]; no loop, no mock."""

from datetime import timedelta, timezone

import attrs
import pytest

from flip_async.commands import Holder, LedgerEntry
from flip_async.commands._records import Record, Step, decide, finished, keep_s
from flip_async.commands._versions import Outcome
from flip_async.models import Command, DeviceStatus
from tests.unit.test_command_versions import CANCELED, NOW, OK, command


def record_of(taken: Command, outcome: Outcome | None = None) -> Record:
    decision = decide(None, taken, Holder.NOBODY)
    assert decision.record is not None
    return attrs.evolve(decision.record, outcome=outcome)


def test_a_new_command_is_taken() -> None:
    assert decide(None, command(), Holder.NOBODY).step is Step.TAKE


def test_a_version_that_another_one_has_is_waited_for() -> None:
    decision = decide(record_of(command()), command(), Holder.OTHERS)

    assert decision.step is Step.AWAIT
    assert decision.record is None


def test_a_version_whose_holder_has_died_is_taken_with_what_it_had_made_of_it() -> None:
    record = record_of(command(), Outcome(DeviceStatus.FAILED_FAULT, "no"))

    decision = decide(record, command(), Holder.NOBODY)

    assert decision.step is Step.TAKE
    assert decision.record is not None
    assert decision.record.outcome == Outcome(DeviceStatus.FAILED_FAULT, "no")


def test_a_version_that_is_done_is_left() -> None:
    record = finished(record_of(command()), command(1, **OK))

    assert decide(record, command(), Holder.NOBODY).step is Step.LEAVE
    assert decide(record, command(1), Holder.NOBODY).step is Step.LEAVE
    assert decide(record, command(2, **CANCELED), Holder.NOBODY).step is Step.TAKE


def test_a_newer_version_is_written_down_for_whoever_has_the_older_one() -> None:
    """So that it acknowledges nothing any more; its outcome is not the newer one's."""
    record = record_of(command(), Outcome(DeviceStatus.OK))

    decision = decide(record, command(1, **CANCELED), Holder.OTHERS)

    assert decision.step is Step.AWAIT
    assert decision.record is not None
    assert decision.record.outcome is None
    assert not decision.record.is_still(command())
    assert decision.record.is_still(command(1, **CANCELED))


def test_a_version_that_was_overtaken_is_left_whoever_has_the_command() -> None:
    record = record_of(command(1, **CANCELED))

    for holder in Holder:
        assert decide(record, command(), holder).step is Step.LEAVE


def test_a_cancelation_in_the_same_second_is_never_undone() -> None:
    record = record_of(command())
    canceled = decide(record, command(**CANCELED), Holder.NOBODY).record
    assert canceled is not None

    assert decide(canceled, command(), Holder.NOBODY).step is Step.LEAVE


def test_an_acknowledgement_does_not_finish_a_newer_version_that_was_offered() -> None:
    record = decide(record_of(command()), command(9, **CANCELED), Holder.OTHERS).record
    assert record is not None

    after = finished(record, command(1, **OK))

    assert after == record
    assert after.is_still(command(9, **CANCELED))


def test_a_record_is_read_as_it_was_written() -> None:
    for outcome in (None, Outcome(DeviceStatus.OK), Outcome(DeviceStatus.FAILED_OFFLINE, "ü")):
        record = record_of(command(), outcome)

        assert Record.of(LedgerEntry(1, record.to_bytes())) == record


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"format": 2, "contents": [["a", true]], "outcome": null}',
        b'{"format": 1, "contents": [], "outcome": null}',
        b'{"format": 1, "contents": [1], "outcome": null, "updated_at": "x", "is_done": true}',
        b"[" * 100_000,
    ],
)
def test_what_cannot_be_read_is_as_nothing(content: bytes) -> None:
    assert Record.of(LedgerEntry(1, content)) is None


def test_the_same_moment_in_another_zone_is_the_same_version() -> None:
    one = command()
    zone = timezone(timedelta(hours=2))
    other = attrs.evolve(one, starts_at=one.starts_at.astimezone(zone))

    assert decide(record_of(one), other, Holder.OTHERS).step is Step.AWAIT


def test_a_command_is_remembered_until_a_day_after_its_end() -> None:
    day_s = 24 * 3600.0

    assert keep_s(command(), NOW.timestamp()) == 3 * 3600.0 + day_s
    assert keep_s(command(), NOW.timestamp() + 9 * day_s) == day_s
    assert keep_s(command(ends_at=None), NOW.timestamp()) > day_s
