"""`flip.site(site_id).events`."""

from collections.abc import Sequence
from typing import Final, Unpack

import attrs

from flip_async._checks import check_names
from flip_async._endpoint import Endpoint
from flip_async._http._pages import Pages
from flip_async._http._session import Session
from flip_async._options import CallOptions
from flip_async.models.events import Event, EventStatus, EventUpdate

LIST: Final = Endpoint(
    method="GET", path="/v1/site/{siteId}/events", token="site", returns=list[Event]
)
GET: Final = Endpoint(
    method="GET", path="/v1/site/{siteId}/event/{id}", token="site", returns=Event
)
UPDATE: Final = Endpoint(
    method="PATCH", path="/v1/site/{siteId}/event/{id}", token="site", returns=Event
)


@attrs.frozen
class SiteEvents:
    """The events that a site takes part in."""

    _session: Session
    _site_id: str

    def list(
        self,
        *,
        status: EventStatus | str | Sequence[EventStatus | str] | None = None,
        max_items: int | None = None,
        **options: Unpack[CallOptions],
    ) -> Pages[Event]:
        """List the events, the newest first.

        Args:
            status: Only these: `ACTIVE`, `COMPLETED`, `UPCOMING`.
            max_items: How many to give at most.
            **options: What every method takes.

        Returns:
            An async iterator over events; `await` gives a list.

        Source:
            https://docs.flip.energy/api-8181468
        """
        query = {"status": list(check_names(() if status is None else status, field="status"))}
        return self._session.pages(LIST, self._site_id, query=query, max_items=max_items, **options)

    async def get(self, event_id: str, **options: Unpack[CallOptions]) -> Event:
        """Read an event.

        Args:
            event_id: Flip's id of the event.
            **options: What every method takes.

        Returns:
            The event.

        Source:
            https://docs.flip.energy/api-8282590
        """
        return await self._session.call(GET, self._site_id, event_id, **options)

    async def update(
        self, event_id: str, *, is_participating: bool, **options: Unpack[CallOptions]
    ) -> Event:
        """Opt in or out of an event.

        Args:
            event_id: Flip's id of the event.
            is_participating: False opts out; the event's commands then become `OPT_OUT`.
            **options: What every method takes.

        Returns:
            The event as it is now.

        Source:
            https://docs.flip.energy/api-8282590
        """
        body = EventUpdate(is_participating=is_participating)
        return await self._session.call(UPDATE, self._site_id, event_id, body=body, **options)
