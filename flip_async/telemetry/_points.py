"""What an uploader has to know about the points that it takes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Generic, TypeVar

import attrs

from flip_async._checks import check_mapping
from flip_async._endpoint import JSON_OBJECT
from flip_async._wire import are_json, encode, read
from flip_async.errors import InvalidArgumentError
from flip_async.models._base import check, require
from flip_async.models.telemetry import TelemetryPoint, TelemetryResult, TelemetryStatus
from flip_async.telemetry._completeness import Completeness
from flip_async.telemetry._outbox import OutboxDraft, OutboxEntry

P = TypeVar("P")


@attrs.frozen(kw_only=True)
class PointKind(Generic[P]):
    """One of the two kinds of points.

    Attributes:
        endpoint: Name of the endpoint.
        in_order: Whether points of a device have to arrive in order.
        draft: Checks a point and writes it; the second argument is its name for errors.
        restore: Reads what was written.
        read_results: What an answer says of so many points; `None` where it makes no sense.
    """

    endpoint: str
    in_order: bool
    draft: Callable[[P, str], OutboxDraft]
    restore: Callable[[bytes], P]
    read_results: Callable[[object, int], Sequence[TelemetryResult] | None]

    def damaged(self, entries: Sequence[OutboxEntry]) -> Sequence[OutboxEntry]:
        """Those whose body is no JSON any more."""
        if are_json([entry.body for entry in entries]):
            return ()
        return [entry for entry in entries if not are_json([entry.body])]


def _within(error: InvalidArgumentError, where: str) -> InvalidArgumentError:
    text = error.message.removeprefix(f"{error.field}: ")
    return InvalidArgumentError(text, field=f"{where}.{error.field}")


def _interval_results(answer: object, count: int) -> Sequence[TelemetryResult] | None:
    assert isinstance(answer, list)  # the codec has seen to that
    return answer if len(answer) == count else None


def intervals(completeness: Completeness, *, strict: bool) -> PointKind[TelemetryPoint]:
    """Points of what was measured in an interval."""

    def draft(point: TelemetryPoint, where: str) -> OutboxDraft:
        require(point, TelemetryPoint, where)
        try:
            body = encode(point)
        except InvalidArgumentError as error:
            raise _within(error, where) from None
        completeness.check(point, strict=strict, where=where)
        return OutboxDraft(point.device_id, body)

    return PointKind(
        endpoint="BATTERY",
        in_order=False,
        draft=draft,
        restore=_restore_interval,
        read_results=_interval_results,
    )


def check_point(point: TelemetryPoint, *, strict: bool = False) -> None:
    """Check a point without sending it.

    Args:
        point: What was measured.
        strict: Refuse what Flip's text does not want too, as `flip.telemetry.send` does.

    Raises:
        InvalidArgumentError: A field breaks its rule.

    Source:
        https://docs.flip.energy/api-16287258, https://docs.flip.energy/doc-456024
    """
    require(point, TelemetryPoint, "point")
    check(point, "point")
    if strict:
        Completeness().check(point, strict=True, where="point")


def _restore_interval(body: bytes) -> TelemetryPoint:
    return read(body, TelemetryPoint)


def counters(device_field: str) -> PointKind[Mapping[str, object]]:
    """Points whose fields are not documented; one of them tells the device."""

    def draft(point: Mapping[str, object], where: str) -> OutboxDraft:
        check_mapping(point, field=where)
        if "timestamp" not in point:
            raise InvalidArgumentError("is missing", field=f"{where}.timestamp")
        device = point.get(device_field)
        if not isinstance(device, str) or not device:
            raise InvalidArgumentError(
                "is a str that tells the device, so that its points keep their order; "
                "device_field= of the uploader names another field",
                field=f"{where}.{device_field}",
            )
        return OutboxDraft(device, encode(dict(point)))

    return PointKind(
        endpoint="BATTERY_COUNTER",
        in_order=True,
        draft=draft,
        restore=_restore_counter,
        read_results=_counter_results,
    )


def _restore_counter(body: bytes) -> Mapping[str, object]:
    return read(body, JSON_OBJECT)


_ACCEPTED: Final = TelemetryResult(status=TelemetryStatus.OK)


def _counter_results(answer: object, count: int) -> Sequence[TelemetryResult]:
    """The answer is not documented; where it looks like the other endpoint's, it is read so."""
    rows = answer if isinstance(answer, list) else []
    if len(rows) != count or not all(isinstance(row, dict) and "status" in row for row in rows):
        return [_ACCEPTED] * count
    return [
        TelemetryResult(
            status=TelemetryStatus(str(row["status"])),
            message=None if row.get("message") is None else str(row["message"]),
        )
        for row in rows
    ]
