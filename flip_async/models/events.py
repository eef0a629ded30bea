"""Events: a utility calls for power."""

from collections.abc import Sequence
from datetime import datetime

import attrs

from flip_async.models._base import (
    UNSET,
    HasInstants,
    Model,
    OpenEnum,
    UnsetType,
    alike,
    boolean,
    identifier,
    many,
    number,
)

__all__ = [
    "BatteryMode",
    "Event",
    "EventBatterySettings",
    "EventScheduleItem",
    "EventStatus",
    "EventUpdate",
]


class BatteryMode(OpenEnum):
    """What a battery shall do.

    Attributes:
        BACKUP: Not described in the pages of Flip that we know.
        CHARGE: Take energy; `power_mode`, `setpoint_w` and `enable_grid_import` say how.
        DISCHARGE: Give energy to the home or the grid, down to `backup_reserve_percentage`.
        SAVINGS: Not described in the pages of Flip that we know.
        SELF_CONSUMPTION: Not described in the pages of Flip that we know.
        STANDBY: Not described in the pages of Flip that we know.
    """

    BACKUP = "BACKUP"
    CHARGE = "CHARGE"
    DISCHARGE = "DISCHARGE"
    SAVINGS = "SAVINGS"
    SELF_CONSUMPTION = "SELF_CONSUMPTION"
    STANDBY = "STANDBY"


class EventStatus(OpenEnum):
    """How far an event has come.

    Attributes:
        ACTIVE: It is on.
        CANCELED: The utility has canceled it.
        COMPLETED: It is over.
        UPCOMING: It has not begun.
    """

    ACTIVE = "ACTIVE"
    CANCELED = "CANCELED"
    COMPLETED = "COMPLETED"
    UPCOMING = "UPCOMING"


@attrs.frozen(kw_only=True)
class EventScheduleItem(HasInstants):
    """A part of an event, to show to people; devices are steered by commands.

    Attributes:
        device_ids: Your ids of the devices.
        starts_at: Begin; may lie before the event, to charge for it.
        is_preparatory_action: In preparation of the event, not part of it.
        mode: What the devices do.
        ends_at: End; `None` until another action takes its place.
        duration_s: Length in seconds; `None` likewise.
    """

    _INSTANTS = ("starts_at", "ends_at")

    device_ids: list[str]
    starts_at: datetime
    is_preparatory_action: bool
    mode: BatteryMode
    ends_at: datetime | None = None
    duration_s: float | None = None


@attrs.frozen(kw_only=True)
class EventBatterySettings(Model):
    """Deprecated: limits for one device of an event.

    Attributes:
        device_id: Your id of the device; required.
        backup_reserve_percentage: Floor when discharging, a state of charge, 0 to 100.
        maximum_charge_percentage: Ceiling when charging, a state of charge, 0 to 100.
    """

    device_id: str = attrs.field(metadata=identifier())
    backup_reserve_percentage: float | UnsetType | None = attrs.field(
        default=UNSET, metadata=number(at_least=0, at_most=100, nullable=True)
    )
    maximum_charge_percentage: float | UnsetType | None = attrs.field(
        default=UNSET, metadata=number(at_least=0, at_most=100, nullable=True)
    )


@attrs.frozen(kw_only=True)
class Event(HasInstants):
    """A call of a utility for power.

    Attributes:
        id: Flip's id of it.
        program_id: Flip's id of the program.
        site_id: Your id of the site.
        starts_at: Begin.
        schedule: Its parts, to show to people; devices are steered by commands.
        status: How far it has come.
        is_participating: Whether the site takes part.
        created_at: When it was made.
        updated_at: When it last changed.
        ends_at: End; `None` until the utility ends it.
        duration_s: Length in seconds; `None` likewise.
        device_settings: Deprecated; limits for single devices.
        object_type: `event`, in webhooks.

    Source:
        https://docs.flip.energy/api-8181468
    """

    _INSTANTS = ("starts_at", "ends_at", "created_at", "updated_at")

    id: str
    program_id: str
    site_id: str
    starts_at: datetime
    schedule: list[EventScheduleItem]
    status: EventStatus
    is_participating: bool
    created_at: datetime
    updated_at: datetime
    ends_at: datetime | None = None
    duration_s: float | None = None
    device_settings: list[EventBatterySettings] | None = None
    object_type: str | None = None


@attrs.frozen(kw_only=True)
class EventUpdate(Model):
    """What changes in an event: a field that is `UNSET` stays.

    Attributes:
        is_participating: False opts the site out; its commands then become `OPT_OUT`.
        device_settings: Deprecated; limits for single devices.
    """

    is_participating: bool | UnsetType = attrs.field(default=UNSET, metadata=boolean())
    device_settings: Sequence[EventBatterySettings] | UnsetType = attrs.field(
        eq=alike, default=UNSET, metadata=many(EventBatterySettings)
    )
