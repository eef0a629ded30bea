"""Classes for all that the API sends and takes.

Each is loaded when it is first asked for, so that a program pays for what it uses.
"""
# ruff: noqa: F403  # each module lists its names itself, and type checkers read them there

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flip_async.models._base import *
    from flip_async.models.aggregator import *
    from flip_async.models.commands import *
    from flip_async.models.commissioning import *
    from flip_async.models.devices import *
    from flip_async.models.enrollments import *
    from flip_async.models.events import *
    from flip_async.models.programs import *
    from flip_async.models.sessions import *
    from flip_async.models.site_tokens import *
    from flip_async.models.sites import *
    from flip_async.models.telemetry import *
    from flip_async.models.utility import *
else:
    # Hidden from type checkers, to whom a module with a `__getattr__` has any name.
    import importlib

    # The modules' own `__all__`, repeated: to read those would load all the modules.
    _NAMES_BY_MODULE = {
        "_base": "UNSET LenientDatetime Model OpenEnum UnsetType",
        "aggregator": "AggregatorCommission AggregatorDevice FleetData FleetRecord",
        "commands": (
            "BatteryCommand Command CommandStatus CommandStatusUpdate DeviceStatus PowerMode"
        ),
        "commissioning": "Commission CommissionResult",
        "devices": (
            "Device DeviceAttributes DeviceBatteryAttributes DeviceConfiguration DeviceCreate "
            "DeviceType DeviceUpdate"
        ),
        "enrollments": (
            "EnrollMethod Enrollment EnrollmentCreate EnrollmentStatus ProgramSpecificAttribute"
        ),
        "events": (
            "BatteryMode Event EventBatterySettings EventScheduleItem EventStatus EventUpdate"
        ),
        "programs": "EnrollmentFormField FormFieldType Program",
        "sessions": "PortalSession SessionCreate",
        "site_tokens": "SiteToken",
        "sites": "STATE_CODES CommissionSite Site SiteUpdate",
        "telemetry": "CounterBatch TelemetryBatch TelemetryPoint TelemetryResult TelemetryStatus",
        "utility": (
            "TargetType UtilityAction UtilityAttribute UtilityEnrollment "
            "UtilityEnrollmentUpdate UtilityEnrollments UtilityEvent UtilityEventCreate "
            "UtilityEventSite UtilityGroup UtilitySite UtilityTelemetry UtilityTelemetryPoint "
            "UtilityTelemetryQuery"
        ),
    }
    _MODULES = {
        name: module for module, names in _NAMES_BY_MODULE.items() for name in names.split()
    }
    __all__ = sorted(_MODULES, key=lambda name: (not name.isupper(), name))  # noqa: PLE0605

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
