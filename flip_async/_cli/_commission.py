"""`flip commission`: a site and its devices, from a file."""

import json as codec
from collections.abc import Iterator
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter

from flip_async._cli._client import ANYWHERE, Where
from flip_async._cli._files import InputFile, read_input
from flip_async._cli._operation import FINE, Json, UsageError, operate
from flip_async._cli._output import complain, print_facts, print_json, print_table
from flip_async.models import Commission, CommissionResult

_COLUMNS: Final = ("program", "name", "can_auto_enroll", "minimum_reserve_percentage")


def commission(
    file: InputFile,
    /,
    *,
    where: Where = ANYWHERE,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> int:
    """Commission a site with its devices, and tell which programs they are eligible for.

    What commissioning a site twice does is not documented, so this is not repeated where it may
    have been carried out.

    Parameters
    ----------
    file
        JSON as POST /v1/commission takes it: an object with site and devices, and perhaps
        can_auto_enroll and enrollment; - for standard input.
    dry_run
        Read the file, and send nothing.
    """
    return operate(lambda: _commission(_read(file), where, dry_run=dry_run, as_json=json))


async def _commission(wanted: Commission, where: Where, *, dry_run: bool, as_json: bool) -> int:
    if dry_run:
        complain(f"{wanted.site.id} with {len(wanted.devices)} devices can be sent")
        return FINE
    async with where.client() as flip:
        result = await flip.sites.commission(
            wanted.site,
            wanted.devices,
            can_auto_enroll=wanted.can_auto_enroll,
            enrollment=wanted.enrollment,
        )
    _print(result, as_json=as_json)
    return FINE


def _print(result: CommissionResult, *, as_json: bool) -> None:
    if as_json:
        print_json(dict(result))
        return
    programs = (dict(program) for program in result.programs)
    print_table(_COLUMNS, ([row["id"], *map(row.get, _COLUMNS[1:])] for row in programs))
    if result.enrollment is not None:
        print()
        print_facts({"enrollment": result.enrollment.id, "status": result.enrollment.status})


def _read(name: str) -> Commission:
    """Read what to commission.

    Raises:
        UsageError: It is none; says where in the file.
    """
    content = read_input(name)
    try:
        document: object = codec.loads(content)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is not JSON: {error}") from None
    try:
        wanted = msgspec.convert(document, Commission)
    except msgspec.ValidationError as error:
        raise UsageError(f"{name}: {error}") from None
    unknown = next(_unknown(document, dict(wanted), ""), None)
    if unknown is not None:
        raise UsageError(f"{name}: {unknown} is no field that is sent: correct it, or leave it out")
    return wanted


def _unknown(given: object, sent: object, place: str) -> Iterator[str]:
    """Where a document has what a model made of it has not."""
    if isinstance(given, dict) and isinstance(sent, dict):
        for key, value in given.items():
            where = f"{place}.{key}" if place else str(key)
            if key not in sent:
                yield where
            else:
                yield from _unknown(value, sent[key], where)
    elif isinstance(given, list) and isinstance(sent, list):
        for index, (one, other) in enumerate(zip(given, sent, strict=True)):
            yield from _unknown(one, other, f"{place}[{index}]")
