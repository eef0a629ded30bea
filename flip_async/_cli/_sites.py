"""`flip sites`: the sites of the organisation."""

from typing import Annotated, Final

from cyclopts import App, Parameter

from flip_async._cli._client import ANYWHERE, Where
from flip_async._cli._operation import FINE, Json, UsageError, operate
from flip_async._cli._output import print_facts, print_json, print_table

sites: Final = App(name="sites", help="Look at sites.")

_COLUMNS: Final = ("id", "state_code", "zip_code", "city", "updated_at")


@sites.command(name="list")
def list_sites(
    *,
    where: Where = ANYWHERE,
    skip: int = 0,
    max_items: Annotated[int | None, Parameter(name="--max")] = None,
    json: Json = False,
) -> int:
    """List the sites.

    Parameters
    ----------
    skip
        How many to leave out at the beginning.
    max_items
        How many to list at most.
    """

    async def work() -> int:
        async with where.client() as flip:
            found = [dict(site) for site in await flip.sites.list(skip=skip, max_items=max_items)]
        if json:
            print_json(found)
        else:
            print_table(_COLUMNS, ([site.get(name) for name in _COLUMNS] for site in found))
        return FINE

    return operate(work)


@sites.command(name="get")
def get_site(
    site_id: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    where: Where = ANYWHERE,
    json: Json = False,
) -> int:
    """Show a site and its devices.

    Parameters
    ----------
    site_id
        Your own id of the site.
    """

    async def work() -> int:
        if not site_id:
            raise UsageError("SITE-ID is empty: it is your own id of the site")
        async with where.client() as flip:
            view = flip.site(site_id)
            site = dict(await view.get())
            devices = [dict(device) for device in await view.devices.list()]
        if json:
            print_json(site | {"devices": devices})
            return FINE
        print_facts({"id": site_id} | site)
        print()
        print_table(_DEVICE_COLUMNS, (_device_row(device) for device in devices))
        return FINE

    return operate(work)


_DEVICE_COLUMNS: Final = ("device", "type", "manufacturer", "product", "serial_number", "capacity")


def _device_row(device: dict[str, object]) -> list[object]:
    attributes = device.get("attributes")
    capacity = attributes.get("battery_capacity_wh") if isinstance(attributes, dict) else None
    names = ("id", "type", "manufacturer_name", "product_name", "serial_number")
    return [*map(device.get, names), None if capacity is None else f"{capacity:g} Wh"]
