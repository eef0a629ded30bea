"""Texts and numbers that are times."""

import contextlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

import attrs

_ISO: Final = re.compile(
    r"(?:\d{4}-\d\d-\d\d|\d{8})(?:[T ]|\s+)\d\d(?::?\d\d(?::?\d\d(?:[.,]\d+)?)?)?"
    r"\s*(?:Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII | re.IGNORECASE,
)
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d|\d\d[./]\d\d[./]\d{4}", re.ASCII)
_IN_WORDS: Final = re.compile(r"\s*(?:Z|UTC|GMT)$", re.IGNORECASE)
_FIRST_YEAR: Final = 2000  # of a battery that is connected to something
_LAST_YEAR: Final = 2100
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MOST: Final = 10**20  # above all that counts since 1970, in nanoseconds too
_PER_SECOND: Final = {"epoch_s": 1, "epoch_ms": 10**3, "epoch_us": 10**6, "epoch_ns": 10**9}
_SINCE_1970: Final = (
    "is a number: if it counts since 1970, pass --column start_time={column}:epoch_s, or "
    ":epoch_ms for milliseconds"
)


@attrs.frozen(kw_only=True)
class Times:
    """How a column of times is read.

    Attributes:
        column: Its name, for messages.
        epoch: `epoch_s` and the like, where it counts since 1970.
        form: How its texts are written, as for `strptime`.
        zone: Zone of times that have none.
    """

    column: str = "start_time"
    epoch: str | None = None
    form: str | None = None
    zone: ZoneInfo | None = None

    def read(self, value: object) -> datetime:
        """Read a time; one that is twice is the first of the two.

        Raises:
            ValueError: It is none, or does not exist.
        """
        moment = self._moment(value)
        if moment.tzinfo is not None:
            return moment
        if self.zone is None:
            raise ValueError("has no time zone: pass --time-zone")
        return _placed(moment, self.zone)

    def _moment(self, value: object) -> datetime:
        if isinstance(value, datetime):
            return value
        if self.epoch is not None:
            return since_1970(value, self.epoch)
        if not isinstance(value, str):
            if isinstance(value, int | float | Decimal):
                raise ValueError(_SINCE_1970.format(column=self.column))
            raise ValueError(f"is a date-time, not {type(value).__name__}")
        text = value.strip()
        if self.form is not None:
            try:
                return datetime.strptime(text, self.form)  # noqa: DTZ007  # the caller looks
            except ValueError:
                raise ValueError(f"is not written as {self.form}: {text[:40]!r}") from None
        if not _ISO.fullmatch(text):
            raise ValueError(_not_iso(text, self.column))
        if text[-1].isdigit():
            return datetime.fromisoformat(text)
        return datetime.fromisoformat(_IN_WORDS.sub("+00:00", text))


def _not_iso(text: str, column: str) -> str:
    if _DAY.fullmatch(text):
        return f"is a day without a time: {text}"
    try:
        Decimal(text.replace(",", "."))
    except InvalidOperation:
        return (
            f"is no date-time such as 2025-01-31T13:45:00Z: {text[:40]!r}; where it is written in "
            "another way, pass --time-format, such as '%d.%m.%Y %H:%M'"
        )
    return _SINCE_1970.format(column=column)


def since_1970(value: object, epoch: str) -> datetime:
    """Read a number that counts since 1970.

    Raises:
        ValueError: It is none, or is counted in something else.
    """
    try:
        count = Decimal(value.strip().replace(",", ".") if isinstance(value, str) else str(value))
        is_sane = abs(count) < _MOST
    except InvalidOperation:
        raise ValueError(f"is a number that counts since 1970, not {str(value)[:40]!r}") from None
    moment = None
    if is_sane:
        with contextlib.suppress(OverflowError):
            moment = _EPOCH + int(count * 10**6 / _PER_SECOND[epoch]) * _MICROSECOND
    if moment is None or not _FIRST_YEAR <= moment.year < _LAST_YEAR:
        when = "no time at all" if moment is None else f"the year {moment.year}"
        others = ", ".join(f":{name}" for name in _PER_SECOND if name != epoch)
        raise ValueError(f"is {when} by {epoch}: is it {others}?")
    return moment


def _placed(moment: datetime, zone: ZoneInfo) -> datetime:
    placed = moment.replace(tzinfo=zone)
    try:
        there = placed.astimezone(UTC).astimezone(zone)
    except OverflowError:
        raise ValueError("is out of range") from None
    if there.replace(tzinfo=None) != moment:
        raise ValueError(
            f"{moment:%Y-%m-%d %H:%M} does not exist in {zone.key}: the clocks go forward then"
        )
    return placed


def is_twice(moment: datetime) -> bool:
    """Whether a time is twice in its zone, since the clocks go back."""
    return moment.utcoffset() != moment.replace(fold=1).utcoffset()


def twice(moment: datetime) -> str:
    """What is said of a time of which nobody knows which of two it is."""
    zone = moment.tzinfo
    name = zone.key if isinstance(zone, ZoneInfo) else str(zone)
    return (
        f"{moment:%Y-%m-%d %H:%M} is twice in {name} (ambiguous: the clocks go back then), and "
        "the order of the rows does not tell which is meant: write it with its offset"
    )


def folds(
    before: datetime | None, run: Sequence[datetime], after: datetime | None
) -> Sequence[int] | None:
    """Which of two each of the times of one device is, by the order of its rows.

    The clock of the wall runs through the hour twice, so in a history of both the times turn
    back once: what stands before is of the first round. Where they do not turn back, or more
    often, or it is not known whether the file runs forward, order does not tell.

    Args:
        before: The device's time before these, as the clock on the wall showed it.
        run: Times that are twice, as the clock showed them, in the order of the file.
        after: The next time of the device.

    Returns:
        0 for the first of the two and 1 for the second, for each time; or `None`.
    """
    forward = _runs_forward(before, run, after)
    if forward is None:
        return None
    turns = [
        place
        for place, (one, other) in enumerate(pairwise(run), start=1)
        if (other <= one if forward else other >= one)
    ]
    if len(turns) != 1:
        return None
    first, second = (0, 1) if forward else (1, 0)
    return [first if place < turns[0] else second for place in range(len(run))]


def _runs_forward(
    before: datetime | None, run: Sequence[datetime], after: datetime | None
) -> bool | None:
    told = set()
    if before is not None and before != run[0]:
        told.add(before < run[0])
    if after is not None and after != run[-1]:
        told.add(run[-1] < after)
    if not told:
        steps = [other > one for one, other in pairwise(run) if other != one]
        ups = sum(steps)
        if ups * 2 != len(steps):  # one step turns back, the others run with the file
            told.add(ups * 2 > len(steps))
    return told.pop() if len(told) == 1 else None
