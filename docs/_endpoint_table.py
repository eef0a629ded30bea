"""Write the table of endpoints from the code: run it after a change to the resources.

    python docs/_endpoint_table.py

It walks the resources and finds the endpoint that each method names, in the order of the
emulator's routes. A test compares the page with what this writes.
"""

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import NamedTuple

import flip_async._resources
from flip_async._auth import _site_token
from flip_async._endpoint import Endpoint
from flip_async.emulator._app import OPERATIONS

PAGE = Path(__file__).parent / "reference" / "endpoints.md"
BEGIN, END = "<!-- the table, by docs/_endpoint_table.py -->\n", "<!-- its end -->\n"
SISTER_APIS = {"aggregator", "utility"}  # the emulator serves none of theirs
NAMESPACES = {
    "Sites": "flip.sites",
    "Commands": "flip.commands",
    "Sessions": "flip.sessions",
    "Programs": "flip.programs",
    "DeviceSettings": "flip.settings",
    "Supplements": "flip.supplements",
    "Telemetry": "flip.telemetry",
    "SiteTokens": "flip.site_tokens",
    "SiteView": "flip.site(…)",
    "SiteDevices": "flip.site(…).devices",
    "SitePrograms": "flip.site(…).programs",
    "SiteEnrollments": "flip.site(…).enrollments",
    "SiteEvents": "flip.site(…).events",
}


class Row(NamedTuple):
    method: str
    path: str
    token: str
    call: str


def rows() -> list[Row]:
    """One for each method of a resource that names an endpoint."""
    found = []
    for module_info in pkgutil.iter_modules(flip_async._resources.__path__):
        if module_info.name in SISTER_APIS:
            continue
        module = importlib.import_module(f"flip_async._resources.{module_info.name}")
        for cls in vars(module).values():
            if isinstance(cls, type) and cls.__module__ == module.__name__:
                found += [
                    Row(
                        endpoint.method,
                        endpoint.path,
                        endpoint.token,
                        f"{NAMESPACES[cls.__name__]}.{name}{arguments(member)}",
                    )
                    for name, member in vars(cls).items()
                    if inspect.isfunction(member) and not name.startswith("_")
                    for endpoint in endpoints_in(member, vars(module))
                ]
    order = {(method, path): place for place, (method, path, _, _) in enumerate(OPERATIONS)}
    return sorted(found, key=lambda row: order[row.method, row.path])


def endpoints_in(function: object, names: dict[str, object]) -> list[Endpoint[object]]:
    assert inspect.isfunction(function)
    used = function.__code__.co_names
    known = {**vars(_site_token), **names}
    return [known[name] for name in used if isinstance(known.get(name), Endpoint)]


def arguments(function: object) -> str:
    assert inspect.isfunction(function)
    names = [
        f"{name}=…" if parameter.kind is inspect.Parameter.KEYWORD_ONLY else name
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in {"self", "options"}
    ]
    shown = names if len(names) <= 4 else [*names[:3], "…"]
    return f"({', '.join(shown)})"


def table() -> str:
    lines = [
        "| request | token | call |",
        "| --- | --- | --- |",
        *(f"| `{row.method} {row.path}` | {row.token} | `{row.call}` |" for row in rows()),
    ]
    return "\n".join(lines) + "\n"


def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def written() -> str:
    """The page with the table as the code has it."""
    before, _, rest = page().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(), encoding="utf-8")
    print(PAGE)
