"""Commands: what a device shall do."""

from datetime import datetime

import attrs

from flip_async.models._base import UNSET, HasInstants, Model, OpenEnum, UnsetType, as_enum, text
from flip_async.models.events import BatteryMode

__all__ = [
    "BatteryCommand",
    "Command",
    "CommandStatus",
    "CommandStatusUpdate",
    "DeviceStatus",
    "PowerMode",
]


class PowerMode(OpenEnum):
    """How much a battery gives or takes.

    Attributes:
        SETPOINT: At `setpoint_w`, exactly.
        FOLLOW_LOAD: As much as the home takes, without export.
    """

    SETPOINT = "SETPOINT"
    FOLLOW_LOAD = "FOLLOW_LOAD"


class CommandStatus(OpenEnum):
    """Whether a command takes place.

    Attributes:
        OK: It takes place.
        CANCELED: The utility has canceled it.
        OPT_OUT: The participant has left the event.
    """

    OK = "OK"
    CANCELED = "CANCELED"
    OPT_OUT = "OPT_OUT"


class DeviceStatus(OpenEnum):
    """Whether the device is ready for a command. `FAILED` is older: send the two others.

    Attributes:
        PENDING: Flip waits for your acknowledgement.
        OK: The device is ready for it.
        FAILED_OFFLINE: The device cannot be reached.
        FAILED_FAULT: The device has a fault.
        FAILED: Older; send one of the two others.
    """

    PENDING = "PENDING"
    OK = "OK"
    FAILED_OFFLINE = "FAILED_OFFLINE"
    FAILED_FAULT = "FAILED_FAULT"
    FAILED = "FAILED"


def _device_status(value: DeviceStatus | str) -> DeviceStatus:
    return as_enum(DeviceStatus, value, "device_status")


@attrs.frozen(kw_only=True)
class BatteryCommand(Model):
    """What a battery shall do while a command runs.

    Attributes:
        mode: What to do.
        power_mode: How much; only where the mode is `CHARGE` or `DISCHARGE`.
        setpoint_w: Power in watts, above 0; only with the power mode `SETPOINT`.
        backup_reserve_percentage: State of charge, 0 to 100, to keep at least.
        enable_grid_import: Whether it may charge from the grid.
        enable_grid_export: Deprecated since 2025-04-29.
        maximum_charge_percentage: Deprecated since 2025-04-29; state of charge to stop at, 0 to
            100.

    Source:
        https://docs.flip.energy/battery-modes
    """

    mode: BatteryMode
    power_mode: PowerMode | None = None
    setpoint_w: float | None = None
    backup_reserve_percentage: float | None = None
    enable_grid_import: bool | None = None
    enable_grid_export: bool | None = None
    maximum_charge_percentage: float | None = None


@attrs.frozen(kw_only=True)
class Command(HasInstants):
    """What a device shall do, and whether it is ready to.

    Attributes:
        id: Flip's id of it.
        device_id: Your id of the device.
        starts_at: Begin; may lie before the event, to charge for it.
        is_preparatory_action: In preparation of the event, not part of it.
        battery_commands: What to do.
        status: Whether it takes place.
        device_status: Whether the device is ready; `PENDING` asks for an acknowledgement
            within 15 minutes.
        created_at: When it was made.
        updated_at: When it last changed.
        event_id: Flip's id of the event.
        ends_at: End; `None` until another command takes its place.
        duration_s: Length in seconds; `None` likewise.
        device_status_reason: Set by either side.
        object_type: `command`, in webhooks.

    Source:
        https://docs.flip.energy/api-6039923
    """

    _INSTANTS = ("starts_at", "ends_at", "created_at", "updated_at")

    id: str
    device_id: str
    starts_at: datetime
    is_preparatory_action: bool
    battery_commands: BatteryCommand
    status: CommandStatus
    device_status: DeviceStatus
    created_at: datetime
    updated_at: datetime
    event_id: str | None = None
    ends_at: datetime | None = None
    duration_s: float | None = None
    device_status_reason: str | None = None
    object_type: str | None = None


@attrs.frozen(kw_only=True)
class CommandStatusUpdate(Model):
    """An acknowledgement.

    Attributes:
        device_status: `OK`, `FAILED_OFFLINE` or `FAILED_FAULT`; required.
        device_status_reason: Why, for people.

    Source:
        https://docs.flip.energy/api-6039923
    """

    device_status: DeviceStatus = attrs.field(
        converter=_device_status,
        metadata=text(allowed=("OK", "FAILED_OFFLINE", "FAILED_FAULT")),
    )
    device_status_reason: str | UnsetType = attrs.field(default=UNSET, metadata=text())
