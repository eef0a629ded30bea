"""Telemetry."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import attrs

from flip_async.models._base import (
    UNSET,
    Model,
    OpenEnum,
    UnsetType,
    alike,
    boolean,
    free_form,
    identifier,
    instant,
    many,
    number,
    text,
)

__all__ = ["CounterBatch", "TelemetryBatch", "TelemetryPoint", "TelemetryResult", "TelemetryStatus"]

LARGEST_BATCH: Final = 1000

_AMOUNT: Final = number(at_least=0, nullable=True)
_PERCENTAGE: Final = number(at_least=0, at_most=100, nullable=True)
_FLAG: Final = boolean(nullable=True)

MEASURED: Final = (
    "last_mode",
    "battery_last_power_charge_w",
    "battery_last_power_discharge_w",
    "battery_total_energy_charge_wh",
    "battery_total_energy_discharge_wh",
    "battery_last_stored_energy_wh",
    "battery_last_capacity_energy_wh",
    "battery_last_state_of_charge_percentage",
    "battery_last_state_of_health_percentage",
    "last_is_grid_online",
    "home_total_energy_wh",
    "home_last_power_w",
    "solar_total_energy_wh",
    "solar_last_power_w",
)
"""What Flip wants of a device that is online, and none of it of one that is offline."""


class TelemetryStatus(OpenEnum):
    """What became of a point.

    Attributes:
        OK: Flip took it.
        FAILED: Flip refused it; correct it and send it again.
    """

    OK = "OK"
    FAILED = "FAILED"


@attrs.frozen(kw_only=True)
class TelemetryPoint(Model):
    """What a battery measured in an interval; Flip wants one at least every five minutes.

    `last_…` is a momentary value at the interval's end, `…_total_energy_wh` a sum over
    the interval. Of a device that is online Flip wants all values, of one that is offline
    none: `TelemetryPoint.offline()` makes such a point.

    Attributes:
        device_id: Your id of the device; required.
        start_time: Begin of the interval, with a time zone; required.
        duration_s: Length of the interval, in seconds, at least 0; required.
        last_is_online: Whether the device is connected.
        last_mode: Mode of the battery; a `BatteryMode`, as far as is known.
        battery_last_power_charge_w: Power into the battery at the interval's end, in watts, at
            least 0.
        battery_last_power_discharge_w: Power out of the battery at the interval's end, in watts,
            at least 0.
        battery_total_energy_charge_wh: Energy into the battery over the interval, in watt-hours,
            at least 0.
        battery_total_energy_discharge_wh: Energy out of the battery over the interval, in
            watt-hours, at least 0.
        battery_last_stored_energy_wh: Energy in the battery at the interval's end, in watt-hours,
            at least 0.
        battery_last_capacity_energy_wh: What the battery can hold at the interval's end, in
            watt-hours, at least 0.
        battery_last_backup_reserve_percentage: Deprecated; state of charge that the battery keeps,
            0 to 100.
        battery_last_state_of_charge_percentage: State of charge at the interval's end, 0 to 100.
        battery_last_state_of_health_percentage: State of health at the interval's end, 0 to 100.
        last_is_grid_online: Whether there is a grid.
        home_total_energy_wh: Energy that the home took over the interval, in watt-hours, at least
            0.
        home_last_power_w: Power that the home takes at the interval's end, in watts, at least 0.
        solar_total_energy_wh: Energy of the solar panels over the interval, in watt-hours, at
            least 0.
        solar_last_power_w: Power of the solar panels at the interval's end, in watts, at least 0.
        oem_raw_data: Your own raw data, in any form that JSON has.

    Source:
        https://docs.flip.energy/api-16287258
    """

    device_id: str = attrs.field(metadata=identifier())
    start_time: datetime = attrs.field(metadata=instant())
    duration_s: float = attrs.field(metadata=number(at_least=0))
    last_is_online: bool | UnsetType | None = attrs.field(default=UNSET, metadata=_FLAG)
    last_mode: str | UnsetType | None = attrs.field(default=UNSET, metadata=text(nullable=True))
    battery_last_power_charge_w: float | UnsetType | None = attrs.field(
        default=UNSET, metadata=_AMOUNT
    )
    battery_last_power_discharge_w: float | UnsetType | None = attrs.field(
        default=UNSET, metadata=_AMOUNT
    )
    battery_total_energy_charge_wh: float | UnsetType | None = attrs.field(
        default=UNSET, metadata=_AMOUNT
    )
    battery_total_energy_discharge_wh: float | UnsetType | None = attrs.field(
        default=UNSET, metadata=_AMOUNT
    )
    battery_last_stored_energy_wh: float | UnsetType | None = attrs.field(
        default=UNSET, metadata=_AMOUNT
    )
    battery_last_capacity_energy_wh: float | UnsetType | None = attrs.field(
        default=UNSET, metadata=_AMOUNT
    )
    battery_last_backup_reserve_percentage: float | UnsetType | None = attrs.field(
        default=UNSET, metadata=_PERCENTAGE
    )
    battery_last_state_of_charge_percentage: float | UnsetType | None = attrs.field(
        default=UNSET, metadata=_PERCENTAGE
    )
    battery_last_state_of_health_percentage: float | UnsetType | None = attrs.field(
        default=UNSET, metadata=_PERCENTAGE
    )
    last_is_grid_online: bool | UnsetType | None = attrs.field(default=UNSET, metadata=_FLAG)
    home_total_energy_wh: float | UnsetType | None = attrs.field(default=UNSET, metadata=_AMOUNT)
    home_last_power_w: float | UnsetType | None = attrs.field(default=UNSET, metadata=_AMOUNT)
    solar_total_energy_wh: float | UnsetType | None = attrs.field(default=UNSET, metadata=_AMOUNT)
    solar_last_power_w: float | UnsetType | None = attrs.field(default=UNSET, metadata=_AMOUNT)
    oem_raw_data: Mapping[str, object] | UnsetType = attrs.field(
        default=UNSET, metadata=free_form()
    )

    @classmethod
    def offline(
        cls, *, device_id: str, start_time: datetime, duration_s: float
    ) -> "TelemetryPoint":
        """The point of a device that is not connected: all values are null.

        Args:
            device_id: Your id of the device.
            start_time: Begin of the interval, with a time zone.
            duration_s: Length of the interval, in seconds.

        Source:
            https://docs.flip.energy/doc-456024
        """
        return cls(
            device_id=device_id,
            start_time=start_time,
            duration_s=duration_s,
            last_is_online=False,
            last_mode=None,
            battery_last_power_charge_w=None,
            battery_last_power_discharge_w=None,
            battery_total_energy_charge_wh=None,
            battery_total_energy_discharge_wh=None,
            battery_last_stored_energy_wh=None,
            battery_last_capacity_energy_wh=None,
            battery_last_state_of_charge_percentage=None,
            battery_last_state_of_health_percentage=None,
            last_is_grid_online=None,
            home_total_energy_wh=None,
            home_last_power_w=None,
            solar_total_energy_wh=None,
            solar_last_power_w=None,
        )


@attrs.frozen(kw_only=True)
class TelemetryBatch(Model):
    """Points of one request, 1 to 1,000.

    Attributes:
        telemetry: The points, 1 to 1,000; required.
    """

    telemetry: Sequence[TelemetryPoint] = attrs.field(
        eq=alike, metadata=many(TelemetryPoint, at_least=1, at_most=LARGEST_BATCH)
    )


@attrs.frozen(kw_only=True)
class CounterBatch(Model):
    """Counter points of one request, 1 to 1,000; their fields are not documented.

    Attributes:
        telemetry: The points, 1 to 1,000, each an object of JSON; required.
    """

    telemetry: Sequence[Mapping[str, object]] = attrs.field(
        eq=alike, metadata=many(Mapping, at_least=1, at_most=LARGEST_BATCH)
    )


@attrs.frozen(kw_only=True)
class TelemetryResult(Model):
    """What became of the point at the same place in the request.

    Attributes:
        status: `OK`, or `FAILED`: correct the point and send it again.
        message: Why it failed; what Flip says of a good one is not documented.

    Source:
        https://docs.flip.energy/api-16287258
    """

    status: TelemetryStatus
    message: str | None = None
