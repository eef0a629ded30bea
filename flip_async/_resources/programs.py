"""`flip.programs`: programs for any site."""

from typing import Final, Unpack

import attrs

from flip_async._checks import check_number
from flip_async._endpoint import Endpoint
from flip_async._http._pages import Pages
from flip_async._http._session import Session
from flip_async._options import CallOptions, QueryValue
from flip_async.models.devices import DeviceType
from flip_async.models.programs import Program

LIST: Final = Endpoint(method="GET", path="/v1/programs", token="client", returns=list[Program])


@attrs.frozen
class Programs:
    """Programs for any site."""

    _session: Session

    def list(
        self,
        *,
        device_type: DeviceType | str,
        total_capacity_wh: int,
        total_power_w: int,
        max_items: int | None = None,
        **options: Unpack[CallOptions],
    ) -> Pages[Program]:
        """List the programs that devices of some size are eligible for.

        The endpoint has more parameters, which are not documented: pass them as
        `extra_query`.

        Args:
            device_type: `BATTERY` or `EV_CHARGER`.
            total_capacity_wh: Capacity of all devices, in watt-hours, at least 1.
            total_power_w: Continuous power in both directions, in watts.
            max_items: How many to give at most.
            **options: What every method takes.

        Returns:
            An async iterator over programs; `await` gives a list.

        Raises:
            InvalidArgumentError: A number is none, or the capacity is below 1.

        Source:
            https://docs.flip.energy/api-15743638
        """
        check_number(total_capacity_wh, field="total_capacity_wh", at_least=1)
        check_number(total_power_w, field="total_power_w")
        query: dict[str, QueryValue] = {
            "device_type": device_type,
            "total_capacity_wh": total_capacity_wh,
            "total_power_w": total_power_w,
        }
        return self._session.pages(LIST, query=query, max_items=max_items, **options)
