"""Classes for all that the API sends and takes."""

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
