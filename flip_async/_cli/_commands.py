"""`flip commands`: what devices shall do."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Annotated, Final

from cyclopts import App, Parameter, validators

from flip_async import FlipClient, errors
from flip_async._cli._client import ANYWHERE, Where
from flip_async._cli._operation import FINE, Json, described, operate
from flip_async._cli._output import complain, plain, print_json, print_json_line, print_table
from flip_async.models import Command

commands: Final = App(name="commands", help="Look at commands.")

_COLUMNS: Final = (
    "command", "device", "starts_at", "ends_at", "mode", "setpoint", "status", "device_status",
)  # fmt: skip
_EVERY_S: Final = 60.0  # what Flip asks for at the most
_PASSES: Final = (
    errors.TransportError,
    errors.ServerError,
    errors.RateLimitError,
    errors.TokenUnavailableError,
)
"""After these the next round may go well."""


@commands.command(name="list")
def list_commands(
    *,
    where: Where = ANYWHERE,
    json: Json = False,
) -> int:
    """List the commands; which ones Flip gives is not documented."""

    async def work() -> int:
        async with where.client() as flip:
            found = await flip.commands.list()
        if json:
            print_json([dict(command) for command in found])
        else:
            print_table(_COLUMNS, map(_row, found))
        return FINE

    return operate(work)


@commands.command
def watch(
    *,
    where: Where = ANYWHERE,
    every_s: Annotated[float, Parameter(validator=validators.Number(gt=0))] = _EVERY_S,
    json: Json = False,
) -> int:
    """Print commands that are new or have changed, until Ctrl-C.

    It acknowledges nothing. While Flip cannot be reached it says so, and goes on. It ends with
    130 after Ctrl-C, 143 after SIGTERM, and 1 when the credential is refused.

    Parameters
    ----------
    every_s
        Seconds from one look to the next; Flip asks for no more than one a minute.
    """

    async def work() -> int:
        async with where.client() as flip:
            complain(f"watching {flip.environment.api_url} every {every_s:g} s; Ctrl-C stops it")
            await _watch(flip, every_s, as_json=json)
        return FINE

    return operate(work)


async def _watch(flip: FlipClient, every_s: float, *, as_json: bool) -> None:
    known: dict[str, Command] = {}
    while True:
        try:
            found = await flip.commands.list()
        except _PASSES as error:
            complain(f"flip: {described(error)}; again in {every_s:g} s")
        else:
            for change, command in _changes(known, found):
                _tell(change, command, as_json=as_json)
            known = {command.id: command for command in found}
        await asyncio.sleep(every_s)


def _changes(known: dict[str, Command], found: Iterable[Command]) -> Iterator[tuple[str, Command]]:
    for command in found:
        before = known.get(command.id)
        if before != command:
            yield ("new" if before is None else "changed"), command


def _tell(change: str, command: Command, *, as_json: bool) -> None:
    if as_json:
        print_json_line({"change": change, "command": dict(command)})
    else:
        print(f"{change:7}", *(plain(cell) for cell in _row(command) if cell), flush=True)


def _row(command: Command) -> list[object]:
    told = dict(command)
    wanted = command.battery_commands
    return [
        command.id,
        command.device_id,
        told["starts_at"],
        told["ends_at"],
        wanted.mode,
        None if wanted.setpoint_w is None else f"{wanted.setpoint_w:g} W",
        command.status,
        command.device_status,
    ]
