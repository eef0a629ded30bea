"""Operations that take a site's token."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from flip_async.emulator import _checks
from flip_async.emulator._grid import Json
from flip_async.emulator._http import (
    known_site,
    no_content,
    not_found,
    page,
    path_id,
    read_object,
    refuse,
)
from flip_async.emulator._world import World

PROGRAMS_A_PAGE = 100


async def get_site(request: Request, world: World) -> Response:
    return JSONResponse(world.sites[known_site(request, world)])


async def update_site(request: Request, world: World) -> Response:
    site_id = known_site(request, world)
    body = await read_object(request, _checks.check_site_update)
    return JSONResponse(world.update_site(site_id, body))


async def list_devices(request: Request, world: World) -> Response:
    return JSONResponse(world.of_site(world.devices, known_site(request, world)))


def _one(request: Request, world: World, rows: dict[str, Json], what: str) -> Json:
    row = rows.get(path_id(request))
    if row is None or row["site_id"] != known_site(request, world):
        raise not_found(what)
    return row


async def get_device(request: Request, world: World) -> Response:
    return JSONResponse(_one(request, world, world.devices, "device"))


async def update_device(request: Request, world: World) -> Response:
    device = _one(request, world, world.devices, "device")
    body = await read_object(request, _checks.check_device_update)
    return JSONResponse(world.update_device(device, body))


async def delete_device(request: Request, world: World) -> Response:
    del world.devices[_one(request, world, world.devices, "device")["id"]]
    return no_content()


async def list_programs(request: Request, world: World) -> Response:
    known_site(request, world)
    query = dict(request.query_params)
    refuse(_checks.check_site_program_query(query))
    rows = world.programs_for(query["zip_code"], {query["device_type"]})
    return page(request, rows, limit=PROGRAMS_A_PAGE, cap=world.max_limit)


async def get_program(request: Request, world: World) -> Response:
    known_site(request, world)
    program = world.program(path_id(request))
    if program is None:
        raise not_found("program")
    return JSONResponse(program)


async def create_enrollment(request: Request, world: World) -> Response:
    site_id = known_site(request, world)
    body = await read_object(request, _checks.check_enrollment)
    refuse(_checks.check_terms(body, world.program(body["program_id"])))
    return JSONResponse(world.enroll(site_id, body))


async def list_enrollments(request: Request, world: World) -> Response:
    return JSONResponse(world.of_site(world.enrollments, known_site(request, world)))


async def get_enrollment(request: Request, world: World) -> Response:
    return JSONResponse(_one(request, world, world.enrollments, "enrollment"))


async def delete_enrollment(request: Request, world: World) -> Response:
    enrollment = _one(request, world, world.enrollments, "enrollment")
    world.review(enrollment["id"], "UNENROLLED", None)
    return no_content()


async def list_events(request: Request, world: World) -> Response:
    site_id = known_site(request, world)
    wanted = request.query_params.getlist("status")
    refuse(_checks.check_event_statuses(wanted))
    rows = world.of_site(world.grid.events_now(), site_id)
    rows = [row for row in rows if not wanted or row["status"] in wanted]
    return JSONResponse(sorted(rows, key=lambda row: str(row["starts_at"]), reverse=True))


async def get_event(request: Request, world: World) -> Response:
    return JSONResponse(_one(request, world, world.grid.events_now(), "event"))


async def update_event(request: Request, world: World) -> Response:
    event = _one(request, world, world.grid.events_now(), "event")
    body = await read_object(request, _checks.check_event_update)
    return JSONResponse(world.grid.participate(event, body))
