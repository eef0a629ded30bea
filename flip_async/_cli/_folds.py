"""Rows of the hour that is twice, held back until the order of rows tells which is which."""

from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

import attrs

from flip_async._cli._rows import Row
from flip_async._cli._times import folds, is_twice, twice
from flip_async.models import TelemetryPoint

_MOST_HELD: Final = 100_000


@attrs.define(slots=True)
class Made:
    """What became of a row.

    Attributes:
        ordinal: The row's number, from 1.
        line: Its line.
        row: The row, or what could be read of it.
        point: Its point, or `None`.
        reason: Why it has none.
    """

    ordinal: int
    line: int
    row: Row | object
    point: TelemetryPoint | None
    reason: str | None


class _Run:
    """Rows of a device within one such hour.

    Attributes:
        before: The device's time before them, on the wall.
        rows: The rows.
    """

    __slots__ = ("before", "rows")

    def __init__(self, before: datetime | None) -> None:
        self.before = before
        self.rows: list[Made] = []

    def close(self, after: datetime | None) -> None:
        """Decide, when the next row of the device is known."""
        moments = [made.point.start_time for made in self.rows if made.point is not None]
        walls = [moment.replace(tzinfo=None) for moment in moments]
        found = folds(self.before, walls, after)
        for place, made in enumerate(self.rows):
            assert made.point is not None
            if found is None:
                made.reason, made.point = twice(moments[place]), None
            elif found[place]:
                later = moments[place].replace(fold=1)
                made.point = attrs.evolve(made.point, start_time=later)


def told_apart(rows: Iterable[Made], zone: ZoneInfo | None, *, may_wait: bool) -> Iterator[Made]:
    """Give rows in their order, those of the hour that is twice with the right one of two.

    Args:
        rows: Rows with points.
        zone: The zone in which times were placed.
        may_wait: Whether a row may wait for the rows behind it; those of a pipe may not.
    """
    if zone is None:
        yield from rows
        return
    last: dict[str, datetime] = {}  # on the wall, of each device
    runs: dict[str, _Run] = {}
    held: deque[Made] = deque()
    for made in rows:
        point = made.point
        if point is not None and point.start_time.tzinfo is zone:
            device, moment = point.device_id, point.start_time
            wall = moment.replace(tzinfo=None)
            if not is_twice(moment):
                if device in runs:
                    runs.pop(device).close(wall)
                last[device] = wall
            elif may_wait:
                runs.setdefault(device, _Run(last.get(device))).rows.append(made)
            else:
                made.reason, made.point = twice(moment), None
        if not runs and not held:
            yield made
            continue
        held.append(made)
        if not runs or len(held) >= _MOST_HELD:
            _close(runs)
            while held:
                yield held.popleft()
    _close(runs)
    yield from held


def _close(runs: dict[str, _Run]) -> None:
    for run in runs.values():
        run.close(None)
    runs.clear()
