"""The public names, and where users find them: for the reference pages and their test."""

import importlib
import inspect
from collections.abc import Iterator
from typing import NamedTuple

MODULES = [
    "flip_async",
    "flip_async.errors",
    "flip_async.models",
    "flip_async.telemetry",
    "flip_async.commands",
    "flip_async.webhooks",
    "flip_async.fastapi",
    "flip_async.aiohttp",
    "flip_async.httpx2",
    "flip_async.redis",
    "flip_async.emulator",
    "flip_async.testing",
]

# What a client's attributes are: users reach these classes through them, never by their names.
NAMESPACES = {
    "flip.sites": ("sites", "Sites"),
    "flip.commands": ("commands", "Commands"),
    "flip.telemetry": ("telemetry", "Telemetry"),
    "flip.programs": ("programs", "Programs"),
    "flip.sessions": ("sessions", "Sessions"),
    "flip.site_tokens": ("site_tokens", "SiteTokens"),
    "flip.settings": ("settings", "DeviceSettings"),
    "flip.supplements": ("supplements", "Supplements"),
    "flip.site": ("site", "SiteView"),
    "flip.site.devices": ("site_devices", "SiteDevices"),
    "flip.site.programs": ("site_programs", "SitePrograms"),
    "flip.site.enrollments": ("site_enrollments", "SiteEnrollments"),
    "flip.site.events": ("site_events", "SiteEvents"),
    "utility.enrollments": ("utility", "UtilityEnrollmentCalls"),
    "utility.groups": ("utility", "UtilityGroupCalls"),
    "utility.events": ("utility", "UtilityEventCalls"),
    "utility.telemetry": ("utility", "UtilityTelemetryCalls"),
}


class Name(NamedTuple):
    """A name that users write, and what it stands for."""

    full: str
    thing: object


def public() -> Iterator[Name]:
    """Everything that the public modules list."""
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            thing = getattr(module, name)
            if not inspect.ismodule(thing) and name != "__version__":
                yield Name(f"{module_name}.{name}", thing)


def namespaces() -> Iterator[Name]:
    """The classes behind the attributes of clients."""
    for full, (module, name) in NAMESPACES.items():
        yield Name(full, getattr(importlib.import_module(f"flip_async._resources.{module}"), name))


def private_paths() -> dict[str, str]:
    """Where each public class or function is defined, and the name that users know it by."""
    found: dict[str, str] = {}
    for full, thing in [*public(), *namespaces()]:
        module = getattr(thing, "__module__", "")
        if hasattr(thing, "__qualname__") and module.startswith("flip_async"):
            found.setdefault(f"{module}.{thing.__qualname__}", full)
    return found
