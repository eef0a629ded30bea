"""The API is a table: each endpoint once, served by the emulator as the reference prints it."""

import importlib
import pkgutil
import runpy
from pathlib import Path

import flip_async._resources
from flip_async._auth import _site_token
from flip_async._endpoint import Endpoint
from flip_async.emulator import Emulator

ROOT = Path(__file__).parents[2]
SISTER_APIS = {"aggregator", "utility"}  # Table 3 has none of theirs, the emulator serves none

# Table 3 of the API's reference.
REFERENCE = {
    ("POST", "/v1/auth/site/{siteId}"): "client",
    ("GET", "/v1/sites"): "client",
    ("POST", "/v1/commission"): "client",
    ("POST", "/v1/sessions"): "client",
    ("GET", "/v1/commands"): "client",
    ("PATCH", "/v1/command/{id}"): "client",
    ("GET", "/v1/programs"): "client",
    ("POST", "/v1/telemetry/BATTERY"): "client",
    ("POST", "/v1/telemetry/BATTERY_COUNTER"): "client",
    ("PATCH", "/v1/settings/{settingsRequestId}"): "client",
    ("POST", "/v1/supplements"): "client",
    ("POST", "/v1/site/{siteId}/devices"): "client",
    ("GET", "/v1/site/{siteId}/devices"): "site",
    ("GET", "/v1/site/{siteId}/device/{id}"): "site",
    ("PATCH", "/v1/site/{siteId}/device/{id}"): "site",
    ("DELETE", "/v1/site/{siteId}/device/{id}"): "site",
    ("GET", "/v1/site/{siteId}"): "site",
    ("PATCH", "/v1/site/{siteId}"): "site",
    ("GET", "/v1/site/{siteId}/programs"): "site",
    ("GET", "/v1/site/{siteId}/program/{id}"): "site",
    ("POST", "/v1/site/{siteId}/enrollments"): "site",
    ("GET", "/v1/site/{siteId}/enrollments"): "site",
    ("GET", "/v1/site/{siteId}/enrollment/{id}"): "site",
    ("DELETE", "/v1/site/{siteId}/enrollment/{id}"): "site",
    ("GET", "/v1/site/{siteId}/events"): "site",
    ("GET", "/v1/site/{siteId}/event/{id}"): "site",
    ("PATCH", "/v1/site/{siteId}/event/{id}"): "site",
}


def endpoints() -> list[Endpoint[object]]:
    modules = [_site_token] + [
        importlib.import_module(f"flip_async._resources.{module.name}")
        for module in pkgutil.iter_modules(flip_async._resources.__path__)
        if module.name not in SISTER_APIS
    ]
    found = {
        (value.method, value.path): value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, Endpoint)
    }
    return list(found.values())


def test_our_endpoints_are_the_references() -> None:
    assert {(entry.method, entry.path): entry.token for entry in endpoints()} == REFERENCE


def test_the_emulator_serves_each_of_them() -> None:
    routes = Emulator(in_process=True)._app._routes
    served = {(method, route.path) for route in routes for method in route.methods or ()}

    assert served - {("HEAD", path) for _, path in served} == {
        *REFERENCE,
        ("POST", "/token"),
    }


def test_the_table_of_the_documentation_is_what_the_code_says() -> None:
    """`python docs/_endpoint_table.py` writes it."""
    table = runpy.run_path(str(ROOT / "docs" / "_endpoint_table.py"))

    assert table["written"]() == table["page"]()


def test_each_of_them_has_a_call_in_that_table() -> None:
    table = runpy.run_path(str(ROOT / "docs" / "_endpoint_table.py"))

    assert {(row.method, row.path): row.token for row in table["rows"]()} == REFERENCE
