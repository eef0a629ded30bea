"""The API is a table: each endpoint once, served by the emulator as the reference prints it."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import flip_async._resources
from flip_async._auth import _site_token
from flip_async._endpoint import Endpoint
from flip_async.emulator import Emulator

# Table 3 of the API's reference, as far as there are methods for it.
REFERENCE = {
    ("POST", "/v1/auth/site/{siteId}"): "client",
    ("GET", "/v1/sites"): "client",
    ("POST", "/v1/commission"): "client",
    ("POST", "/v1/telemetry/BATTERY"): "client",
    ("GET", "/v1/site/{siteId}"): "site",
    ("PATCH", "/v1/site/{siteId}"): "site",
}


def endpoints() -> list[Endpoint[object]]:
    modules = [_site_token] + [
        importlib.import_module(f"flip_async._resources.{module.name}")
        for module in pkgutil.iter_modules(flip_async._resources.__path__)
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


@pytest.mark.parametrize("endpoint", endpoints(), ids=lambda entry: f"{entry.method} {entry.path}")
def test_each_is_in_the_documentation(endpoint: Endpoint[object]) -> None:
    docs = Path(__file__).parents[2] / "docs" / "reference" / "endpoints.md"

    row = rf"\| `{endpoint.method}` \| `{re.escape(endpoint.path)}` \| {endpoint.token} \|"
    assert re.search(row, docs.read_text()), row
