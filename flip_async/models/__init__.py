"""Classes for all that the API sends and takes.

Each is loaded when it is first asked for, so that a program pays for what it uses.
"""

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from flip_async.models._base import UNSET, OpenEnum, UnsetType
    from flip_async.models.commissioning import Commission, CommissionResult
    from flip_async.models.devices import DeviceBatteryAttributes, DeviceCreate, DeviceType
    from flip_async.models.enrollments import (
        Enrollment,
        EnrollmentCreate,
        EnrollmentStatus,
        EnrollMethod,
        ProgramSpecificAttribute,
    )
    from flip_async.models.programs import EnrollmentFormField, FormFieldType, Program
    from flip_async.models.site_tokens import SiteToken
    from flip_async.models.sites import STATE_CODES, CommissionSite, Site, SiteUpdate
    from flip_async.models.telemetry import (
        TelemetryBatch,
        TelemetryPoint,
        TelemetryResult,
        TelemetryStatus,
    )

_HOMES: Final = {
    "OpenEnum": "_base",
    "UNSET": "_base",
    "UnsetType": "_base",
    "Commission": "commissioning",
    "CommissionResult": "commissioning",
    "DeviceBatteryAttributes": "devices",
    "DeviceCreate": "devices",
    "DeviceType": "devices",
    "EnrollMethod": "enrollments",
    "Enrollment": "enrollments",
    "EnrollmentCreate": "enrollments",
    "EnrollmentStatus": "enrollments",
    "ProgramSpecificAttribute": "enrollments",
    "EnrollmentFormField": "programs",
    "FormFieldType": "programs",
    "Program": "programs",
    "SiteToken": "site_tokens",
    "CommissionSite": "sites",
    "STATE_CODES": "sites",
    "Site": "sites",
    "SiteUpdate": "sites",
    "TelemetryBatch": "telemetry",
    "TelemetryPoint": "telemetry",
    "TelemetryResult": "telemetry",
    "TelemetryStatus": "telemetry",
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
    "Commission",
    "CommissionResult",
    "CommissionSite",
    "DeviceBatteryAttributes",
    "DeviceCreate",
    "DeviceType",
    "EnrollMethod",
    "Enrollment",
    "EnrollmentCreate",
    "EnrollmentFormField",
    "EnrollmentStatus",
    "FormFieldType",
    "OpenEnum",
    "Program",
    "ProgramSpecificAttribute",
    "Site",
    "SiteToken",
    "SiteUpdate",
    "TelemetryBatch",
    "TelemetryPoint",
    "TelemetryResult",
    "TelemetryStatus",
    "UnsetType",
]
