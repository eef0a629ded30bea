"""Classes for all that the API sends and takes.

Each is loaded when it is first asked for, so that a program pays for what it uses.
"""

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from flip_async.models._base import (
        UNSET,
        LenientDatetime,
        OpenEnum,
        UnsetType,
    )
    from flip_async.models.aggregator import (
        AggregatorCommission,
        AggregatorDevice,
        FleetData,
        FleetRecord,
    )
    from flip_async.models.commands import (
        BatteryCommand,
        Command,
        CommandStatus,
        CommandStatusUpdate,
        DeviceStatus,
        PowerMode,
    )
    from flip_async.models.commissioning import (
        Commission,
        CommissionResult,
    )
    from flip_async.models.devices import (
        Device,
        DeviceAttributes,
        DeviceBatteryAttributes,
        DeviceConfiguration,
        DeviceCreate,
        DeviceType,
        DeviceUpdate,
    )
    from flip_async.models.enrollments import (
        Enrollment,
        EnrollmentCreate,
        EnrollmentStatus,
        EnrollMethod,
        ProgramSpecificAttribute,
    )
    from flip_async.models.events import (
        BatteryMode,
        Event,
        EventBatterySettings,
        EventScheduleItem,
        EventStatus,
        EventUpdate,
    )
    from flip_async.models.programs import (
        EnrollmentFormField,
        FormFieldType,
        Program,
    )
    from flip_async.models.sessions import (
        PortalSession,
        SessionCreate,
    )
    from flip_async.models.site_tokens import (
        SiteToken,
    )
    from flip_async.models.sites import (
        STATE_CODES,
        CommissionSite,
        Site,
        SiteUpdate,
    )
    from flip_async.models.telemetry import (
        CounterBatch,
        TelemetryBatch,
        TelemetryPoint,
        TelemetryResult,
        TelemetryStatus,
    )
    from flip_async.models.utility import (
        TargetType,
        UtilityAction,
        UtilityAttribute,
        UtilityEnrollment,
        UtilityEnrollments,
        UtilityEnrollmentUpdate,
        UtilityEvent,
        UtilityEventCreate,
        UtilityEventSite,
        UtilityGroup,
        UtilitySite,
        UtilityTelemetry,
        UtilityTelemetryPoint,
        UtilityTelemetryQuery,
    )

_HOMES: Final = {
    "LenientDatetime": "_base",
    "OpenEnum": "_base",
    "UNSET": "_base",
    "UnsetType": "_base",
    "AggregatorCommission": "aggregator",
    "AggregatorDevice": "aggregator",
    "FleetData": "aggregator",
    "FleetRecord": "aggregator",
    "BatteryCommand": "commands",
    "Command": "commands",
    "CommandStatus": "commands",
    "CommandStatusUpdate": "commands",
    "DeviceStatus": "commands",
    "PowerMode": "commands",
    "Commission": "commissioning",
    "CommissionResult": "commissioning",
    "Device": "devices",
    "DeviceAttributes": "devices",
    "DeviceBatteryAttributes": "devices",
    "DeviceConfiguration": "devices",
    "DeviceCreate": "devices",
    "DeviceType": "devices",
    "DeviceUpdate": "devices",
    "EnrollMethod": "enrollments",
    "Enrollment": "enrollments",
    "EnrollmentCreate": "enrollments",
    "EnrollmentStatus": "enrollments",
    "ProgramSpecificAttribute": "enrollments",
    "BatteryMode": "events",
    "Event": "events",
    "EventBatterySettings": "events",
    "EventScheduleItem": "events",
    "EventStatus": "events",
    "EventUpdate": "events",
    "EnrollmentFormField": "programs",
    "FormFieldType": "programs",
    "Program": "programs",
    "PortalSession": "sessions",
    "SessionCreate": "sessions",
    "SiteToken": "site_tokens",
    "CommissionSite": "sites",
    "STATE_CODES": "sites",
    "Site": "sites",
    "SiteUpdate": "sites",
    "CounterBatch": "telemetry",
    "TelemetryBatch": "telemetry",
    "TelemetryPoint": "telemetry",
    "TelemetryResult": "telemetry",
    "TelemetryStatus": "telemetry",
    "TargetType": "utility",
    "UtilityAction": "utility",
    "UtilityAttribute": "utility",
    "UtilityEnrollment": "utility",
    "UtilityEnrollmentUpdate": "utility",
    "UtilityEnrollments": "utility",
    "UtilityEvent": "utility",
    "UtilityEventCreate": "utility",
    "UtilityEventSite": "utility",
    "UtilityGroup": "utility",
    "UtilitySite": "utility",
    "UtilityTelemetry": "utility",
    "UtilityTelemetryPoint": "utility",
    "UtilityTelemetryQuery": "utility",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


__all__ = [
    "STATE_CODES",
    "UNSET",
    "AggregatorCommission",
    "AggregatorDevice",
    "BatteryCommand",
    "BatteryMode",
    "Command",
    "CommandStatus",
    "CommandStatusUpdate",
    "Commission",
    "CommissionResult",
    "CommissionSite",
    "CounterBatch",
    "Device",
    "DeviceAttributes",
    "DeviceBatteryAttributes",
    "DeviceConfiguration",
    "DeviceCreate",
    "DeviceStatus",
    "DeviceType",
    "DeviceUpdate",
    "EnrollMethod",
    "Enrollment",
    "EnrollmentCreate",
    "EnrollmentFormField",
    "EnrollmentStatus",
    "Event",
    "EventBatterySettings",
    "EventScheduleItem",
    "EventStatus",
    "EventUpdate",
    "FleetData",
    "FleetRecord",
    "FormFieldType",
    "LenientDatetime",
    "OpenEnum",
    "PortalSession",
    "PowerMode",
    "Program",
    "ProgramSpecificAttribute",
    "SessionCreate",
    "Site",
    "SiteToken",
    "SiteUpdate",
    "TargetType",
    "TelemetryBatch",
    "TelemetryPoint",
    "TelemetryResult",
    "TelemetryStatus",
    "UnsetType",
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
