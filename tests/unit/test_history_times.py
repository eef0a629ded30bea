"""Times of a file, around a change of the clocks too, and numbers since 1970."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_async._cli._times import Times, folds, since_1970
from tests.support.history import outcomes

BERLIN = ZoneInfo("Europe/Berlin")


def history(path: Path, *times: str, device: str = "b0") -> Path:
    rows = "".join(f"{device},{time},300\n" for time in times)
    path.write_text(f"device_id,start_time,duration_s\n{rows}")
    return path


def utc(path: Path, **reading: str) -> tuple[list[str], list[int]]:
    points, refused = outcomes(path, **reading)
    times = [point.start_time.astimezone(UTC) for point in points.values()]
    return [f"{time:%d %H:%M}" for time in times], list(refused)


HOUR_TWICE = ["01:30", "02:00", "02:30", "02:00", "02:30", "03:00"]
IN_UTC = ["25 23:30", "26 00:00", "26 00:30", "26 01:00", "26 01:30", "26 02:00"]


@pytest.mark.parametrize(
    ("times", "sent", "refused"),
    [
        pytest.param(HOUR_TWICE, IN_UTC, [], id="forward"),
        pytest.param(HOUR_TWICE[::-1], IN_UTC[::-1], [], id="backward"),
        pytest.param(HOUR_TWICE[1:], IN_UTC[1:], [], id="begins-within"),
        pytest.param(HOUR_TWICE[:-1], IN_UTC[:-1], [], id="ends-within"),
        pytest.param(HOUR_TWICE[1:5], IN_UTC[1:5], [], id="nothing-else"),
        pytest.param(["01:00", "02:00", "02:00", "03:00"],
                     ["25 23:00", "26 00:00", "26 01:00", "26 02:00"], [], id="hourly"),
        pytest.param(["01:30", "02:00", "02:30", "03:00"], ["25 23:30", "26 02:00"], [3, 4],
                     id="one-round-is-missing"),
        pytest.param(["02:00"], [], [2], id="one-row"),
        pytest.param(["02:00", "02:00"], [], [2, 3], id="no-direction"),
        pytest.param(["01:00", "02:00", "02:00", "02:00", "03:00"], ["25 23:00", "26 02:00"],
                     [3, 4, 5], id="three-rounds"),
    ],
)  # fmt: skip
def test_the_hour_that_comes_twice_is_told_apart_by_the_order_of_rows_or_refused(
    tmp_path: Path, times: list[str], sent: list[str], refused: list[int]
) -> None:
    path = history(tmp_path / "h.csv", *(f"2025-10-26T{time}:00" for time in times))

    assert utc(path, time_zone="Europe/Berlin") == (sent, refused)


def test_each_device_has_an_order_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    history(path, *(f"2025-10-26T{time}:00" for time in HOUR_TWICE))
    rows = path.read_text().splitlines()
    both = [rows[0], *(line for row in rows[1:] for line in (row, row.replace("b0", "b1")))]
    path.write_text("\n".join(both))

    assert utc(path, time_zone="Europe/Berlin") == ([one for one in IN_UTC for _ in "ab"], [])


def test_rows_keep_their_order_while_some_wait(tmp_path: Path) -> None:
    path = history(tmp_path / "h.csv", *(f"2025-10-26T{time}:00" for time in HOUR_TWICE))
    with path.open("a") as file:
        file.write("b1,2025-10-26T12:00:00Z,300\nb1,2025-10-26T12:05:00,-1\n")

    points, refused = outcomes(path, time_zone="Europe/Berlin")

    assert list(points) == [2, 3, 4, 5, 6, 7, 8]
    assert list(refused) == [9]


@pytest.mark.parametrize("time", ["2025-03-30T02:00:00", "2025-03-30T02:59:59.9"])
def test_a_time_that_does_not_exist_is_refused(tmp_path: Path, time: str) -> None:
    path = history(tmp_path / "h.csv", "2025-03-30T01:59:00", time, "2025-03-30T03:00:00")

    assert utc(path, time_zone="Europe/Berlin") == (["30 00:59", "30 01:00"], [3])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-01-01T00:00:00Z", "01 00:00"),
        ("2025-01-01 00:00:00+00", "01 00:00"),
        ("2025-01-01 00:00:00 UTC", "01 00:00"),
        ("2025-01-01T00:00:00.123456789Z", "01 00:00"),
        ("2025-01-01T01:00+0100", "01 00:00"),
        (" 20250101T000000z ", "01 00:00"),
    ],
)
def test_a_time_of_any_iso_writer_is_read(tmp_path: Path, text: str, expected: str) -> None:
    assert utc(history(tmp_path / "h.csv", text)) == ([expected], [])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1735689600", "start_time=start_time:epoch_s"),
        ("1735689600000", ":epoch_ms"),
        ("1736121600000", ":epoch_ms"),
        ("1.7356896E+12", ":epoch_ms"),
        ("45658.25", "is a number"),
        ("2025-01-01", "a day without a time"),
        ("01.01.2025", "a day without a time"),
        ("01.01.2025 12:00", "--time-format"),
        ("2025-01-01T00:00:00", "--time-zone"),
        ("2025-13-01T00:00:00Z", "month"),
        ("", "is missing"),
    ],
)
def test_what_is_no_time_is_refused_with_the_way_out(tmp_path: Path, text: str, says: str) -> None:
    points, refused = outcomes(history(tmp_path / "h.csv", text))

    assert points == {}
    assert says in refused[2]


def test_times_may_be_written_in_any_form(tmp_path: Path) -> None:
    path = history(tmp_path / "h.csv", "26.10.2025 14:05", "2025-10-26T14:05:00Z")

    found = utc(path, time_format="%d.%m.%Y %H:%M", time_zone="Europe/Berlin")

    assert found == (["26 13:05"], [3])


@given(st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)))
def test_numbers_since_1970_are_read_to_the_microsecond(moment: datetime) -> None:
    moment = moment.replace(tzinfo=UTC)
    microseconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

    assert since_1970(str(microseconds), "epoch_us") == moment
    assert since_1970(microseconds * 1000, "epoch_ns") == moment
    assert since_1970(f"{microseconds // 10**6}.{microseconds % 10**6:06}", "epoch_s") == moment


@pytest.mark.parametrize(
    ("value", "epoch"),
    [(1735689600, "epoch_ms"), (1735689600000, "epoch_s"), ("x", "epoch_s"), ("NaN", "epoch_s"),
     ("1e999999", "epoch_s"), (True, "epoch_s")],
)  # fmt: skip
def test_a_number_in_another_unit_is_refused(value: object, epoch: str) -> None:
    """Milliseconds taken for seconds are the year 56971, the other way January 1970."""
    with pytest.raises(ValueError, match="epoch|since 1970"):
        since_1970(value, epoch)


@given(st.integers(1, 40), st.booleans(), st.booleans())
def test_a_whole_night_of_the_change_is_read_as_it_was(
    minutes: int, is_reversed: bool, ends_within: bool
) -> None:
    """Any interval, forward and backward: the local times tell the instants they came from."""
    begin = datetime(2025, 10, 25, 23, 0, tzinfo=UTC)
    count = 100 // minutes if ends_within else 240 // minutes
    instants = [begin + timedelta(minutes=minutes * n) for n in range(count)]
    if is_reversed:
        instants.reverse()
    walls = [instant.astimezone(BERLIN).replace(tzinfo=None) for instant in instants]
    twice = [n for n, wall in enumerate(walls) if wall.hour == 2]
    if not twice:
        return
    first, last = twice[0], twice[-1]

    found = folds(
        walls[first - 1] if first else None,
        walls[first : last + 1],
        walls[last + 1] if last + 1 < len(walls) else None,
    )

    if found is not None:
        assert list(found) == [one.astimezone(BERLIN).fold for one in instants[first : last + 1]]


def test_a_time_with_an_offset_needs_no_zone() -> None:
    times = Times(zone=BERLIN)

    assert times.read("2025-10-26T02:30:00+01:00").astimezone(UTC).hour == 1
