"""Answers, refusals and credentials of the emulated API."""

import json
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Final
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from flip_async.emulator._checks import Problem, check_paging
from flip_async.emulator._grid import Json
from flip_async.emulator._world import Grant, Kind, World

Handler = Callable[[Request, World], Awaitable[Response]]
_NOT_FOR_SITE: Final = "The token is not valid for this site"


class RefusedError(Exception):
    """The request is answered with an error."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response: Final = response


def guarded(
    handler: Handler, world: World, token: Kind
) -> Callable[[Request], Awaitable[Response]]:
    """Check the credential, carry out, and date the answer by the emulator's clock."""

    async def endpoint(request: Request) -> Response:
        try:
            authorize(request, world, token)
            response = await handler(request, world)
        except RefusedError as refused:
            response = refused.response
        response.headers["Date"] = formatdate(world.now(), usegmt=True)
        return response

    return endpoint


def authorize(request: Request, world: World, token: Kind) -> None:
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    grant = world.grant_of(bearer) if scheme == "Bearer" else None
    if grant is None:
        raise RefusedError(error(401, "UNAUTHORIZED", "The token is missing, unknown or expired"))
    if grant.kind != token:
        raise RefusedError(error(403, "FORBIDDEN", f"This needs a {token} token"))
    check_site(request, grant)


def check_site(request: Request, grant: Grant) -> None:
    if grant.site_id is not None and grant.site_id != site_id(request):
        raise RefusedError(error(401, "UNAUTHORIZED", _NOT_FOR_SITE))


def error(status: int, code: str, message: str) -> JSONResponse:
    """An error of the general shape (reference, section 5)."""
    body = {"code": code, "message": message, "status_code": status}
    return JSONResponse(body, status_code=status)


def invalid(problems: list[Problem]) -> JSONResponse:
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


def refuse(problems: list[Problem]) -> None:
    if problems:
        raise RefusedError(invalid(problems))


async def read_json(request: Request) -> object:
    try:
        body: object = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise RefusedError(
            invalid([Problem(("body",), "JSON decode error", "json_invalid")])
        ) from None
    return body


def site_id(request: Request) -> str:
    return unquote(request.path_params["siteId"])


def known_site(request: Request, world: World) -> str:
    known = site_id(request)
    if known not in world.sites:
        raise not_found("site")
    return known


def path_id(request: Request, name: str = "id") -> str:
    """An id in the path, decoded."""
    return unquote(request.path_params[name])


def not_found(what: str) -> RefusedError:
    """The refusal of an id that is not known."""
    return RefusedError(error(404, "NOT_FOUND", f"The {what} is not known"))


async def read_object(request: Request, problems: Callable[[object], list[Problem]]) -> Json:
    """The body, where it is an object that has no problem."""
    body = await read_json(request)
    refuse(problems(body))
    assert isinstance(body, dict)  # as each of the checks makes sure
    return body


def no_content() -> Response:
    """An answer with no body."""
    return Response(status_code=204)


def page(request: Request, rows: list[Json], *, limit: int | None, cap: int | None) -> Response:
    """A part of a list, after `skip` and `limit`."""
    query = dict(request.query_params)
    refuse(check_paging(query))
    skip = int(query.get("skip", 0))
    wanted = int(query["limit"]) if "limit" in query else limit or len(rows)
    if cap is not None:
        wanted = min(wanted, cap)
    return JSONResponse(rows[skip : skip + wanted])
