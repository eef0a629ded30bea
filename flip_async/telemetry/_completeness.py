"""What the schema allows and Flip's text asks for: all values, or none."""

import logging
import operator
from collections.abc import Callable, Sequence
from typing import Final, cast

from flip_async.errors import InvalidArgumentError
from flip_async.models._base import UNSET
from flip_async.models.telemetry import MEASURED, TelemetryPoint

logger: Final = logging.getLogger("flip_async.telemetry")

_DEVICES_REMEMBERED: Final = 100_000
_values_of: Final = operator.attrgetter(*MEASURED)


def _compiled() -> Callable[[TelemetryPoint], bool]:
    # Asked of every point, and a test of identity for each field in a row costs a quarter of
    # what looking for a value in all of them does. The names are constants of ours.
    tests = " and ".join(f"(v := point.{name}) is not None and v is not UNSET" for name in MEASURED)
    made = eval(f"lambda point: {tests}", {"UNSET": UNSET})  # noqa: S307
    return cast("Callable[[TelemetryPoint], bool]", made)


_has_all: Final = _compiled()


def shortcoming(point: TelemetryPoint) -> str | None:
    """What Flip's documentation would have otherwise in this point, or `None`.

    Source:
        https://docs.flip.energy/doc-456024
    """
    if point.last_is_online is True and _has_all(point):
        return None
    values = _values_of(point)
    if point.last_is_online is True:
        missing = [
            name
            for name, value in zip(MEASURED, values, strict=True)
            if value is None or value is UNSET
        ]
        return f"is online and lacks {', '.join(missing)}"
    if point.last_is_online is False:
        kept = [name for name, value in zip(MEASURED, values, strict=True) if value is not None]
        return f"is offline, and {', '.join(kept)} should be null" if kept else None
    return "does not say whether it is online: set last_is_online"


class Completeness:
    """Tells of a device's incomplete points once, or refuses them where `strict`."""

    def __init__(self) -> None:
        self._told: Final[set[str]] = set()

    def check_all(self, points: Sequence[TelemetryPoint], *, strict: bool) -> None:
        """Look at the points of a request; see `check`."""
        for index, point in enumerate(points):
            if strict or point.device_id not in self._told:
                self.check(point, strict=strict, where=f"telemetry[{index}]")

    def check(self, point: TelemetryPoint, *, strict: bool, where: str) -> None:
        """Look at a point whose fields keep their rules.

        Args:
            point: What was measured.
            strict: Refuse what Flip's text does not want.
            where: Name of the point for an error.

        Raises:
            InvalidArgumentError: It is `strict`, and the point falls short.
        """
        if not strict and point.device_id in self._told:
            return
        found = shortcoming(point)
        if found is None:
            return
        if strict:
            raise InvalidArgumentError(f"the device {found}", field=where)
        if len(self._told) < _DEVICES_REMEMBERED:
            self._told.add(point.device_id)
            logger.warning("the device %r %s (told once for each device)", point.device_id, found)
