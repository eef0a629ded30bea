"""The client of the Aggregator API.

What the API's reference has not seen goes as a mapping and comes as one.
"""

from collections.abc import Mapping, Sequence
from typing import Unpack

from flip_async._clients._base import BaseClient
from flip_async._options import CallOptions
from flip_async._resources.aggregator import FLEET_DATA, FLEET_SITES, PERFORMANCE, REGISTER
from flip_async.models.aggregator import (
    AggregatorCommission,
    AggregatorDevice,
    FleetData,
    FleetRecord,
)
from flip_async.models.sites import CommissionSite


class AggregatorClient(BaseClient):
    """Talks to Flip's Aggregator API; made and closed as a `FlipClient` is.

    Pass `environment=PRODUCTION` or `SANDBOX`, or set `FLIP_ENVIRONMENT`.
    """

    _api = "aggregator_url"

    async def list_sites(self, **options: Unpack[CallOptions]) -> object:
        """All sites of the fleet with their status; experimental, as the answer is not documented.

        Args:
            **options: What every method takes.

        Returns:
            The answer as JSON gives it.
        """
        return await self._session.call(FLEET_SITES, **options)

    async def equipment_performance(
        self, month: str | None = None, **options: Unpack[CallOptions]
    ) -> object:
        """Read the solar production of a month; experimental, as the answer is not documented.

        Args:
            month: The month, as `2025-06`; `None` for this one.
            **options: What every method takes.

        Returns:
            The answer as JSON gives it.
        """
        query: Mapping[str, str] = {} if month is None else {"month": month}
        return await self._session.call(PERFORMANCE, query=query, **options)

    async def push_fleet_data(
        self, records: Sequence[FleetRecord], **options: Unpack[CallOptions]
    ) -> dict[str, object]:
        """Push records of a customer-relationship system; experimental, likewise.

        Args:
            records: The records, at least one.
            **options: What every method takes.

        Returns:
            The answer as JSON gives it.
        """
        return await self._session.call(FLEET_DATA, body=FleetData(records=records), **options)

    async def commission(
        self,
        site: CommissionSite,
        devices: Sequence[AggregatorDevice],
        **options: Unpack[CallOptions],
    ) -> None:
        """Register a site and its devices; not repeated where it may have been carried out.

        Args:
            site: The site.
            devices: Its devices, at least one.
            **options: What every method takes.

        Raises:
            UnprocessableEntityError: More is needed; `details` says what.
        """
        body = AggregatorCommission(site=site, devices=devices)
        await self._session.call(REGISTER, body=body, **options)
