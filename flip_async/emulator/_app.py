"""The emulated API as an ASGI application."""

import functools

from starlette.applications import Starlette
from starlette.routing import Route

from flip_async.emulator import _cloud, _oauth, _site
from flip_async.emulator._http import Handler, guarded
from flip_async.emulator._world import Kind, World

OPERATIONS: tuple[tuple[str, str, Kind, Handler], ...] = (
    ("POST", "/v1/auth/site/{siteId}", "client", _cloud.create_site_token),
    ("GET", "/v1/sites", "client", _cloud.list_sites),
    ("POST", "/v1/commission", "client", _cloud.commission),
    ("POST", "/v1/sessions", "client", _cloud.create_session),
    ("GET", "/v1/commands", "client", _cloud.list_commands),
    ("PATCH", "/v1/command/{id}", "client", _cloud.update_command),
    ("GET", "/v1/programs", "client", _cloud.list_programs),
    ("POST", "/v1/telemetry/BATTERY", "client", _cloud.receive_telemetry),
    ("POST", "/v1/telemetry/BATTERY_COUNTER", "client", _cloud.receive_counters),
    ("PATCH", "/v1/settings/{settingsRequestId}", "client", _cloud.accept_anything),
    ("POST", "/v1/supplements", "client", _cloud.accept_anything),
    ("POST", "/v1/site/{siteId}/devices", "client", _cloud.create_device),
    ("GET", "/v1/site/{siteId}/devices", "site", _site.list_devices),
    ("GET", "/v1/site/{siteId}/device/{id}", "site", _site.get_device),
    ("PATCH", "/v1/site/{siteId}/device/{id}", "site", _site.update_device),
    ("DELETE", "/v1/site/{siteId}/device/{id}", "site", _site.delete_device),
    ("GET", "/v1/site/{siteId}", "site", _site.get_site),
    ("PATCH", "/v1/site/{siteId}", "site", _site.update_site),
    ("GET", "/v1/site/{siteId}/programs", "site", _site.list_programs),
    ("GET", "/v1/site/{siteId}/program/{id}", "site", _site.get_program),
    ("POST", "/v1/site/{siteId}/enrollments", "site", _site.create_enrollment),
    ("GET", "/v1/site/{siteId}/enrollments", "site", _site.list_enrollments),
    ("GET", "/v1/site/{siteId}/enrollment/{id}", "site", _site.get_enrollment),
    ("DELETE", "/v1/site/{siteId}/enrollment/{id}", "site", _site.delete_enrollment),
    ("GET", "/v1/site/{siteId}/events", "site", _site.list_events),
    ("GET", "/v1/site/{siteId}/event/{id}", "site", _site.get_event),
    ("PATCH", "/v1/site/{siteId}/event/{id}", "site", _site.update_event),
)
"""Each operation as the API's reference prints it: method, path, the token it takes."""


def make_routes(world: World, oauth: _oauth.OAuthClient) -> list[Route]:
    """One route for each operation, and the token endpoint."""
    token = functools.partial(_oauth.token, world=world, client=oauth)
    return [
        Route("/token", token, methods=["POST"]),
        *(
            Route(path, guarded(handler, world, kind), methods=[method])
            for method, path, kind, handler in OPERATIONS
        ),
    ]


def make_app(routes: list[Route]) -> Starlette:
    """The application, without its faults."""
    return Starlette(routes=list(routes))
