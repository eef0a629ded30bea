"""Operations that take the organisation's credential."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from flip_async.emulator import _checks
from flip_async.emulator._http import (
    known_site,
    no_content,
    not_found,
    page,
    path_id,
    read_json,
    read_object,
    refuse,
)
from flip_async.emulator._world import World


async def create_site_token(request: Request, world: World) -> Response:
    return JSONResponse(world.issue_site_token(known_site(request, world)))


async def list_sites(request: Request, world: World) -> Response:
    return page(request, list(world.sites.values()), limit=None, cap=world.max_limit)


async def commission(request: Request, world: World) -> Response:
    body = await read_object(request, _checks.check_commission)
    enrollment = body.get("enrollment")
    if enrollment is not None:  # before anything is made of it
        program = world.program(enrollment["program_id"])
        refuse(_checks.check_terms(enrollment, program, "enrollment"))
    made = world.commission(
        body["site"],
        body["devices"],
        can_auto_enroll=body.get("can_auto_enroll") is True,
        enrollment=enrollment,
    )
    return JSONResponse(made)


async def create_session(request: Request, world: World) -> Response:
    body = await read_object(request, _checks.check_session)
    site = body["site"]
    if site["id"] not in world.sites:
        refuse(_checks.check_commission(body))
        world.commission(site, body["devices"], can_auto_enroll=False, enrollment=None)
    return JSONResponse(world.open_session(site["id"]))


async def list_commands(request: Request, world: World) -> Response:
    return JSONResponse(world.commands_now())


async def update_command(request: Request, world: World) -> Response:
    world.agenda.pass_time()
    command = world.grid.command(path_id(request))
    if command is None:
        raise not_found("command")
    body = await read_object(request, _checks.check_command_status)
    return JSONResponse(world.grid.acknowledge(command, body))


async def list_programs(request: Request, world: World) -> Response:
    query = dict(request.query_params)
    refuse(_checks.check_program_query(query))
    rows = world.programs_of_type(query["device_type"])
    return page(request, rows, limit=None, cap=world.max_limit)


async def receive_telemetry(request: Request, world: World) -> Response:
    body = await read_object(request, _checks.check_telemetry)
    results = []
    for point in body["telemetry"]:
        why = _checks.why_point_fails(point)
        if why is None and not world.knows_device(point["device_id"]):
            why = "The device is not known"
        if why is None:
            world.accept_point(point)
            results.append({"status": "OK"})
        else:
            results.append({"status": "FAILED", "message": why})
    return JSONResponse(results)


async def receive_counters(request: Request, world: World) -> Response:
    # Fields and answer are not documented; that the answer is the other's is assumed.
    body = await read_object(request, _checks.check_counters)
    for point in body["telemetry"]:
        world.accept_point(point)
    return JSONResponse([{"status": "OK"} for _ in body["telemetry"]])


async def accept_anything(request: Request, world: World) -> Response:
    """Settings and supplements, of which nothing is documented."""
    await read_json(request)
    return no_content()


async def create_device(request: Request, world: World) -> Response:
    site_id = known_site(request, world)
    body = await read_object(request, _checks.check_device)
    return JSONResponse(world.put_device(site_id, body))
