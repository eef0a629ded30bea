"""The emulated API as an ASGI application."""

import functools
import json
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Final
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flip_async.emulator import _checks, _oauth
from flip_async.emulator._checks import Problem
from flip_async.emulator._world import Grant, Kind, World

Handler = Callable[[Request, World], Awaitable[Response]]
_NOT_FOR_SITE: Final = "The token is not valid for this site"


class RefusedError(Exception):
    """The request is answered with an error."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response: Final = response


def make_routes(world: World, oauth: _oauth.OAuthClient, *, max_limit: int | None) -> list[Route]:
    """One route for each operation, with the path as the reference prints it."""

    def api(path: str, method: str, token: Kind, handler: Handler) -> Route:
        return Route(path, _guarded(handler, world, token), methods=[method])

    return [
        Route(
            "/token", functools.partial(_oauth.token, world=world, client=oauth), methods=["POST"]
        ),
        api("/v1/auth/site/{siteId}", "POST", "client", _create_site_token),
        api("/v1/sites", "GET", "client", functools.partial(_list_sites, max_limit=max_limit)),
        api("/v1/commission", "POST", "client", _commission),
        api("/v1/telemetry/BATTERY", "POST", "client", _receive_telemetry),
        api("/v1/site/{siteId}", "GET", "site", _get_site),
        api("/v1/site/{siteId}", "PATCH", "site", _update_site),
    ]


def make_app(routes: list[Route]) -> Starlette:
    """The application, without its faults."""
    return Starlette(routes=list(routes))


def _guarded(
    handler: Handler, world: World, token: Kind
) -> Callable[[Request], Awaitable[Response]]:
    """Check the credential, carry out, and date the answer by the emulator's clock."""

    async def endpoint(request: Request) -> Response:
        try:
            _authorize(request, world, token)
            response = await handler(request, world)
        except RefusedError as refused:
            response = refused.response
        response.headers["Date"] = formatdate(world.now(), usegmt=True)
        return response

    return endpoint


def _authorize(request: Request, world: World, token: Kind) -> None:
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    grant = world.grant_of(bearer) if scheme == "Bearer" else None
    if grant is None:
        raise RefusedError(error(401, "UNAUTHORIZED", "The token is missing, unknown or expired"))
    if grant.kind != token:
        raise RefusedError(error(403, "FORBIDDEN", f"This needs a {token} token"))
    _check_site(request, grant)


def _check_site(request: Request, grant: Grant) -> None:
    if grant.site_id is not None and grant.site_id != _site_id(request):
        raise RefusedError(error(401, "UNAUTHORIZED", _NOT_FOR_SITE))


def error(status: int, code: str, message: str) -> JSONResponse:
    """An error of the general shape (reference, section 5)."""
    body = {"code": code, "message": message, "status_code": status}
    return JSONResponse(body, status_code=status)


def _invalid(problems: list[Problem]) -> JSONResponse:
    body = {
        "code": "VALIDATION_ERROR",
        "detail": [
            {"loc": list(problem.place), "msg": problem.message, "type": problem.type}
            for problem in problems
        ],
        "errors": [
            {"message": problem.message, "path": ".".join(problem.place[1:])}
            for problem in problems
        ],
        "message": "The request is not valid",
        "status_code": 422,
    }
    return JSONResponse(body, status_code=422)


def _refuse(problems: list[Problem]) -> None:
    if problems:
        raise RefusedError(_invalid(problems))


async def _json(request: Request) -> object:
    try:
        body: object = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise RefusedError(
            _invalid([Problem(("body",), "JSON decode error", "json_invalid")])
        ) from None
    return body


def _site_id(request: Request) -> str:
    return unquote(request.path_params["siteId"])


def _known_site(request: Request, world: World) -> str:
    site_id = _site_id(request)
    if site_id not in world.sites:
        raise RefusedError(error(404, "NOT_FOUND", "The site is not known"))
    return site_id


async def _create_site_token(request: Request, world: World) -> Response:
    return JSONResponse(world.issue_site_token(_known_site(request, world)))


async def _list_sites(request: Request, world: World, *, max_limit: int | None) -> Response:
    query = dict(request.query_params)
    _refuse(_checks.check_paging(query))
    skip = int(query.get("skip", 0))
    limit = int(query["limit"]) if "limit" in query else len(world.sites)
    if max_limit is not None:
        limit = min(limit, max_limit)
    return JSONResponse(list(world.sites.values())[skip : skip + limit])


async def _commission(request: Request, world: World) -> Response:
    body = await _json(request)
    _refuse(_checks.check_commission(body))
    assert isinstance(body, dict)  # just checked
    made = world.commission(
        body["site"],
        body["devices"],
        can_auto_enroll=body.get("can_auto_enroll") is True,
        enrollment=body.get("enrollment"),
    )
    return JSONResponse(made)


async def _receive_telemetry(request: Request, world: World) -> Response:
    body = await _json(request)
    _refuse(_checks.check_telemetry(body))
    assert isinstance(body, dict)  # just checked
    results = []
    for point in body["telemetry"]:
        why = _checks.why_point_fails(point, world.devices)
        if why is None:
            world.telemetry.append(point)
            results.append({"status": "OK"})
        else:
            results.append({"status": "FAILED", "message": why})
    return JSONResponse(results)


async def _get_site(request: Request, world: World) -> Response:
    return JSONResponse(world.sites[_known_site(request, world)])


async def _update_site(request: Request, world: World) -> Response:
    site_id, body = _known_site(request, world), await _json(request)
    _refuse(_checks.check_site_update(body))
    assert isinstance(body, dict)  # just checked
    return JSONResponse(world.update_site(site_id, body))
