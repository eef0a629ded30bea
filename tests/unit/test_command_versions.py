"""Which version of a command is to be handled [W3]; no loop, no mock."""

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_async._clock import Instant
from flip_async.commands._versions import Verdict, Versions, Window
from flip_async.models import Command, CommandStatus, DeviceStatus
from tests.support.webhooks import command_row

NOW = datetime(2025, 7, 15, 14, 5, tzinfo=UTC)
BASE: Command = msgspec.convert(command_row(), Command)


def command(minute: float = 0, **changes: Any) -> Command:
    return attrs.evolve(
        BASE,
        **{
            "updated_at": NOW + timedelta(minutes=minute),
            "starts_at": NOW + timedelta(hours=1),
            "ends_at": NOW + timedelta(hours=3),
            **changes,
        },
    )


CANCELED = {"status": CommandStatus.CANCELED}
OK = {"device_status": DeviceStatus.OK}


def test_a_new_command_is_handled() -> None:
    assert Versions().take(command(), NOW) is Verdict.HANDLE


def test_the_same_version_is_handled_once() -> None:
    """It may come by webhook, twice, and with the next list."""
    seen = Versions()
    seen.take(command(), NOW)

    assert seen.take(command(), NOW) is Verdict.KNOWN
    assert seen.take(command(object_type=None), NOW) is Verdict.KNOWN


def test_a_newer_version_is_handled_and_an_older_one_is_not() -> None:
    seen = Versions()
    seen.take(command(1), NOW)

    assert seen.take(command(2, **CANCELED), NOW) is Verdict.HANDLE
    assert seen.take(command(1), NOW) is Verdict.KNOWN
    assert seen.take(command(0), NOW) is Verdict.KNOWN


def test_a_command_that_asks_for_nothing_only_updates_what_is_known() -> None:
    seen = Versions()

    assert seen.take(command(1, **OK), NOW) is Verdict.NOT_ASKED
    assert seen.take(command(0), NOW) is Verdict.KNOWN
    assert seen.take(command(2), NOW) is Verdict.HANDLE


@pytest.mark.parametrize("ends_at", [NOW, NOW - timedelta(seconds=1)])
def test_a_command_whose_end_is_past_is_not_handled(ends_at: datetime) -> None:
    assert Versions().take(command(ends_at=ends_at), NOW) is Verdict.OVER


def test_a_command_without_an_end_is_never_over() -> None:
    assert Versions().take(command(ends_at=None), NOW + timedelta(days=9)) is Verdict.HANDLE


# Whole seconds


def test_a_cancelation_in_the_same_second_is_newer() -> None:
    seen = Versions()
    seen.take(command(), NOW)

    assert seen.take(command(**CANCELED), NOW) is Verdict.HANDLE


def test_what_was_canceled_in_the_same_second_does_not_come_back() -> None:
    """Neither by a re-delivery nor by a first delivery that was overtaken."""
    for overtaken in (False, True):
        seen = Versions()
        if not overtaken:
            seen.take(command(), NOW)
        seen.take(command(**CANCELED), NOW)

        assert seen.take(command(), NOW) is Verdict.KNOWN


def test_a_change_in_the_same_second_is_newer() -> None:
    seen = Versions()
    seen.take(command(), NOW)
    later = {"starts_at": NOW + timedelta(hours=2)}

    assert seen.take(command(**later), NOW) is Verdict.HANDLE
    assert seen.take(command(), NOW) is Verdict.KNOWN
    assert seen.take(command(**later), NOW) is Verdict.KNOWN


# Acknowledgements


def test_the_answer_to_an_acknowledgement_counts_as_handled() -> None:
    """The PATCH raises `updated_at`, and a list or a webhook that shows it is no news."""
    seen = Versions()
    seen.take(command(0), NOW)

    assert seen.acknowledged(command(0), command(1, **OK)) is None
    assert seen.take(command(0.5), NOW) is Verdict.KNOWN
    assert seen.take(command(1, **OK), NOW) is Verdict.KNOWN
    assert seen.take(command(2, **CANCELED), NOW) is Verdict.HANDLE


def test_an_answer_that_shows_a_cancelation_is_handled_after_all() -> None:
    """Flip takes the acknowledgement for one of the cancelation, and will not ask again.

    The webhook of the cancelation, which comes later, is older than the answer.
    """
    seen = Versions()
    seen.take(command(0), NOW)
    answer = command(2, **CANCELED, **OK)

    assert seen.acknowledged(command(0), answer) == answer
    assert seen.take(command(1, **CANCELED), NOW) is Verdict.KNOWN
    assert seen.acknowledged(answer, command(3, **CANCELED, **OK)) is None


def test_an_answer_that_is_older_than_what_is_known_changes_nothing() -> None:
    seen = Versions()
    seen.take(command(0), NOW)
    seen.take(command(5, **CANCELED), NOW)

    assert seen.acknowledged(command(0), command(1, **OK)) is None
    assert seen.take(command(5, **CANCELED), NOW) is Verdict.KNOWN


def test_a_cancelation_in_the_second_of_the_acknowledgement_is_newer() -> None:
    seen = Versions()
    seen.take(command(0), NOW)
    seen.acknowledged(command(0), command(1, **OK))

    assert seen.take(command(1, **CANCELED), NOW) is Verdict.HANDLE


def test_a_server_that_leaves_updated_at_as_it_is_does_no_harm() -> None:
    seen = Versions()
    seen.take(command(0), NOW)

    assert seen.acknowledged(command(0), command(0, **OK)) is None
    assert seen.take(command(0), NOW) is Verdict.KNOWN


def test_what_was_not_handled_is_new_again() -> None:
    seen = Versions()
    seen.take(command(), NOW)
    seen.leave(command())

    assert seen.take(command(), NOW) is Verdict.HANDLE


def test_the_memory_is_bounded() -> None:
    seen = Versions(at_most=3)
    for number in range(10):
        seen.take(command(id=str(number)), NOW)

    assert len(seen._known) == 3
    assert seen.take(command(id="9"), NOW) is Verdict.KNOWN
    assert seen.take(command(id="0"), NOW) is Verdict.HANDLE


versions = st.builds(
    command,
    st.integers(0, 4),
    status=st.sampled_from([CommandStatus.OK, CommandStatus.CANCELED]),
    device_status=st.sampled_from([DeviceStatus.PENDING, DeviceStatus.OK]),
)


@given(st.lists(versions, max_size=12))
def test_in_whatever_order_versions_come_time_never_goes_back(offered: list[Command]) -> None:
    seen = Versions()
    taken: list[Command] = []
    for one in offered:
        if seen.take(one, NOW) is not Verdict.KNOWN:
            taken.append(one)

    assert [one.updated_at for one in taken] == sorted(one.updated_at for one in taken)
    newest = max((one.updated_at for one in offered), default=None)
    assert newest is None or taken[-1].updated_at == newest
    # A cancelation that is the newest of all is the last word, whatever else its second had.
    last = {one.status for one in offered if one.updated_at == newest}
    if CommandStatus.CANCELED in last:
        assert taken[-1].status == CommandStatus.CANCELED
    assert all(seen.take(one, NOW) is Verdict.KNOWN for one in offered)


# Time


def at(wall_s: float, monotonic_s: float = 0.0) -> Instant:
    return Instant(monotonic_s, wall_s)


def test_a_handler_may_be_tried_for_twelve_minutes_and_flip_waits_for_fifteen() -> None:
    """From the change, counted on the monotonic clock from when it was seen."""
    window = Window.of(command(0), at(NOW.timestamp() + 5, 1000.0))

    assert window.may_handle(995 + 719)
    assert not window.may_handle(995 + 720)
    assert window.may_acknowledge(995 + 899)
    assert not window.may_acknowledge(995 + 900)


def test_a_clock_that_is_behind_makes_the_window_no_longer() -> None:
    window = Window.of(command(0), at(NOW.timestamp() - 600))

    assert window.may_handle(719)
    assert not window.may_handle(720)


def test_a_late_try_has_a_minute_all_the_same() -> None:
    window = Window.of(command(0), at(NOW.timestamp()))

    assert window.try_s(0, 30) == 30
    assert window.try_s(5000, 30) == 30
    assert window.try_s(0, 3600) == 720
    assert window.try_s(700, 3600) == 60
