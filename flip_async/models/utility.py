"""What the Utility API sends and takes."""

from collections.abc import Sequence
from datetime import UTC, datetime

import attrs

from flip_async.models._base import (
    UNSET,
    HasInstants,
    Model,
    OpenEnum,
    UnsetType,
    alike,
    as_enum,
    boolean,
    identifier,
    instant,
    is_naive,
    many,
    number,
    text,
)
from flip_async.models.devices import Device
from flip_async.models.enrollments import EnrollmentStatus
from flip_async.models.events import BatteryMode

__all__ = [
    "TargetType",
    "UtilityAction",
    "UtilityAttribute",
    "UtilityEnrollment",
    "UtilityEnrollmentUpdate",
    "UtilityEnrollments",
    "UtilityEvent",
    "UtilityEventCreate",
    "UtilityEventSite",
    "UtilityGroup",
    "UtilitySite",
    "UtilityTelemetry",
    "UtilityTelemetryPoint",
    "UtilityTelemetryQuery",
]


class TargetType(OpenEnum):
    """What an event is for.

    Attributes:
        DEVICE: Single devices.
        GROUP: Groups of enrollments.
        PROGRAM: All of a program.
        SITE: Single sites.
    """

    DEVICE = "DEVICE"
    GROUP = "GROUP"
    PROGRAM = "PROGRAM"
    SITE = "SITE"


def _mode(value: BatteryMode | str) -> BatteryMode:
    return as_enum(BatteryMode, value, "mode")


def _target_type(value: TargetType | str) -> TargetType:
    return as_enum(TargetType, value, "target_type")


def _status(value: EnrollmentStatus | str | UnsetType) -> EnrollmentStatus | UnsetType:
    if isinstance(value, UnsetType):
        return value
    return as_enum(EnrollmentStatus, value, "status")


@attrs.frozen(kw_only=True)
class UtilityGroup(Model):
    """A group of enrollments; the caller chooses the id.

    Attributes:
        id: Its id, which you choose; required.
        name: Its name, for people; required.
    """

    id: str = attrs.field(metadata=identifier())
    name: str = attrs.field(metadata=text())


@attrs.frozen(kw_only=True)
class UtilitySite(Model):
    """A site as utilities see it.

    Attributes:
        id: Its id.
        service_account_id: The utility's id of the customer.
        groups: Groups that it is in.
    """

    id: str
    service_account_id: str | None = None
    groups: list[UtilityGroup] | None = None


@attrs.frozen(kw_only=True)
class UtilityAttribute(Model):
    """An answer to a field of the program's enrollment form.

    Attributes:
        name: The field's name.
        value: The answer.
        type: What kind of answer it is.
    """

    name: str
    value: str | None = None
    type: str | None = None


@attrs.frozen(kw_only=True)
class UtilityEnrollment(HasInstants):
    """Devices of a site in a program of the utility.

    Attributes:
        id: Flip's id of it.
        status: How far it has come.
        status_reason: Why it has this status.
        enrolled_at: When participation began.
        unenrolled_at: When it ended.
        created_at: When it was made.
        updated_at: When it last changed.
        program_specific_attributes: Answers to the enrollment form.
        devices: The devices.
        site: The site.
    """

    _INSTANTS = ("enrolled_at", "unenrolled_at", "created_at", "updated_at")

    id: str
    status: EnrollmentStatus
    status_reason: str | None = None
    enrolled_at: datetime | None = None
    unenrolled_at: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    program_specific_attributes: list[UtilityAttribute] | None = None
    devices: list[Device] | None = None
    site: UtilitySite | None = None


@attrs.frozen(kw_only=True)
class UtilityEnrollments(Model):
    """The answer that holds a list of them.

    Attributes:
        enrollments: The enrollments.
    """

    enrollments: list[UtilityEnrollment]


@attrs.frozen(kw_only=True)
class UtilityEnrollmentUpdate(Model):
    """What changes in an enrollment: a field that is `UNSET` stays.

    Attributes:
        status: Approve, pause, reject or unenroll.
        status_reason: Why.
        group_ids: Its groups; an empty list takes it out of all.
    """

    status: EnrollmentStatus | UnsetType = attrs.field(
        default=UNSET, converter=_status, metadata=text()
    )
    status_reason: str | UnsetType | None = attrs.field(default=UNSET, metadata=text(nullable=True))
    group_ids: Sequence[str] | UnsetType | None = attrs.field(
        eq=alike, default=UNSET, metadata=many(str, nullable=True)
    )


@attrs.frozen(kw_only=True)
class UtilityAction(Model):
    """A part of an event: what the batteries do.

    Attributes:
        mode: What to do; required.
        starts_at: Begin, with a time zone; required.
        duration_s: Length in seconds, at least 0; required.
        power_mode: How much, such as `SETPOINT`.
        setpoint_w: Power in watts, at least 0; only with the power mode `SETPOINT`.
        setpoint_mode: How the watts are shared out, such as `EVEN`.
        backup_reserve_percentage: State of charge, 0 to 100, to keep at least.
        enable_grid_import: Whether the batteries may charge from the grid.
    """

    mode: BatteryMode = attrs.field(converter=_mode, metadata=text())
    starts_at: datetime = attrs.field(metadata=instant())
    duration_s: float = attrs.field(metadata=number(at_least=0))
    power_mode: str | UnsetType | None = attrs.field(default=UNSET, metadata=text(nullable=True))
    setpoint_w: float | UnsetType | None = attrs.field(
        default=UNSET, metadata=number(at_least=0, nullable=True)
    )
    setpoint_mode: str | UnsetType | None = attrs.field(default=UNSET, metadata=text(nullable=True))
    backup_reserve_percentage: float | UnsetType | None = attrs.field(
        default=UNSET, metadata=number(at_least=0, at_most=100, nullable=True)
    )
    enable_grid_import: bool | UnsetType | None = attrs.field(
        default=UNSET, metadata=boolean(nullable=True)
    )


@attrs.frozen(kw_only=True)
class UtilityEventCreate(Model):
    """An event to be dispatched.

    Attributes:
        program_id: Flip's id of the program; required.
        target_type: What it is for; required.
        target_ids: The ids of those; required.
        actions: What to do, and when, at least one; required.
    """

    program_id: str = attrs.field(metadata=identifier())
    target_type: TargetType = attrs.field(converter=_target_type, metadata=text())
    target_ids: Sequence[str] = attrs.field(eq=alike, metadata=many(str))
    actions: Sequence[UtilityAction] = attrs.field(
        eq=alike, metadata=many(UtilityAction, at_least=1)
    )


@attrs.frozen(kw_only=True)
class UtilityEvent(HasInstants):
    """An event as utilities see it.

    Attributes:
        id: Flip's id of it.
        program_id: Flip's id of the program.
        target_type: What it is for.
        target_ids: The ids of those.
        actions: What to do, and when.
        starts_at: Begin.
        ends_at: End.
        duration_s: Length in seconds.
        created_at: When it was made.
        updated_at: When it last changed.
    """

    _INSTANTS = ("starts_at", "ends_at", "created_at", "updated_at")

    id: str
    program_id: str
    target_type: TargetType
    target_ids: list[str]
    actions: list[UtilityAction]
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    duration_s: float | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        # An action is sent as well, so it cannot take an instant without a zone for UTC itself.
        if any(is_naive(action.starts_at) for action in self.actions):
            object.__setattr__(self, "actions", [_in_utc(action) for action in self.actions])


def _in_utc(action: UtilityAction) -> UtilityAction:
    if not is_naive(action.starts_at):
        return action
    return attrs.evolve(action, starts_at=action.starts_at.replace(tzinfo=UTC))


@attrs.frozen(kw_only=True)
class UtilityEventSite(Model):
    """How a site took part in an event.

    Attributes:
        site_id: Its id.
        is_participating: Whether it took part.
        performance_actual_energy_wh: What it gave, in watt-hours.
        performance_actual_power_w: What it gave, in watts.
        performance_expected_energy_wh: What was expected, in watt-hours.
        performance_expected_power_w: What was expected, in watts.
    """

    site_id: str
    is_participating: bool | None = None
    performance_actual_energy_wh: float | None = None
    performance_actual_power_w: float | None = None
    performance_expected_energy_wh: float | None = None
    performance_expected_power_w: float | None = None


@attrs.frozen(kw_only=True)
class UtilityTelemetryPoint(HasInstants):
    """What a device measured in an interval, as utilities see it.

    Attributes:
        device_id: Its id.
        start_time: Begin of the interval.
        duration_s: Length in seconds.
        last_is_online: Whether the device is connected.
        last_mode: Battery mode.
        battery_power_charge_w: Power into the battery, in watts.
        battery_power_discharge_w: Power out of the battery, in watts.
        battery_state_of_charge_percentage: State of charge, 0 to 100.
        battery_total_energy_charge_wh: Energy into the battery, in watt-hours.
        battery_total_energy_discharge_wh: Energy out of the battery, in watt-hours.
        battery_last_backup_reserve_percentage: State of charge that the battery keeps, 0 to 100.
        grid_power_w: Power at the grid, in watts; negative towards the grid, as far as is known.
        grid_total_energy_wh: Energy at the grid, in watt-hours, likewise.
        home_power_w: Power that the home takes, in watts.
        home_total_energy_wh: Energy that the home took, in watt-hours.
        solar_power_w: Power of the solar panels, in watts.
        solar_total_energy_wh: Energy of the solar panels, in watt-hours.
    """

    _INSTANTS = ("start_time",)

    device_id: str
    start_time: datetime
    duration_s: float | None = None
    last_is_online: bool | None = None
    last_mode: str | None = None
    battery_power_charge_w: float | None = None
    battery_power_discharge_w: float | None = None
    battery_state_of_charge_percentage: float | None = None
    battery_total_energy_charge_wh: float | None = None
    battery_total_energy_discharge_wh: float | None = None
    battery_last_backup_reserve_percentage: float | None = None
    grid_power_w: float | None = None
    grid_total_energy_wh: float | None = None
    home_power_w: float | None = None
    home_total_energy_wh: float | None = None
    solar_power_w: float | None = None
    solar_total_energy_wh: float | None = None


@attrs.frozen(kw_only=True)
class UtilityTelemetry(Model):
    """The answer that holds a list of points.

    Attributes:
        telemetry: The points.
    """

    telemetry: list[UtilityTelemetryPoint]


@attrs.frozen(kw_only=True)
class UtilityTelemetryQuery(Model):
    """Which points to give.

    Attributes:
        program_id: Flip's id of the program; required.
        device_ids: Only these devices.
        start_time: Begin of a range, with a time zone; for `historical` alone.
        end_time: End of a range, with a time zone; for `historical` alone.
    """

    program_id: str = attrs.field(metadata=identifier())
    device_ids: Sequence[str] | UnsetType = attrs.field(eq=alike, default=UNSET, metadata=many(str))
    start_time: datetime | UnsetType = attrs.field(default=UNSET, metadata=instant())
    end_time: datetime | UnsetType = attrs.field(default=UNSET, metadata=instant())
