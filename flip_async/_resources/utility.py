"""The Utility API: programs, and the events that a utility dispatches."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Unpack

import attrs

from flip_async._endpoint import NO_CONTENT, Endpoint
from flip_async._http._pages import Pages
from flip_async._http._session import Session
from flip_async._options import CallOptions
from flip_async.models._base import UNSET, UnsetType
from flip_async.models.enrollments import EnrollmentStatus
from flip_async.models.utility import (
    TargetType,
    UtilityAction,
    UtilityEnrollment,
    UtilityEnrollments,
    UtilityEnrollmentUpdate,
    UtilityEvent,
    UtilityEventCreate,
    UtilityEventSite,
    UtilityGroup,
    UtilityTelemetry,
    UtilityTelemetryPoint,
    UtilityTelemetryQuery,
)

ENROLLMENTS: Final = Endpoint(
    method="GET", path="/v1/enrollments", token="client", returns=UtilityEnrollments
)
ENROLLMENT: Final = Endpoint(
    method="GET", path="/v1/enrollments/{id}", token="client", returns=UtilityEnrollment
)
UPDATE_ENROLLMENT: Final = Endpoint(
    method="PATCH", path="/v1/enrollments/{id}", token="client", returns=UtilityEnrollment
)
CREATE_GROUP: Final = Endpoint(
    method="POST", path="/v1/programs/{programId}/groups", token="client", returns=UtilityGroup
)
DELETE_GROUP: Final = Endpoint(
    method="DELETE",
    path="/v1/programs/{programId}/groups/{id}",
    token="client",
    returns=NO_CONTENT,
)
CREATE_EVENT: Final = Endpoint(
    method="POST", path="/v1/events", token="client", returns=UtilityEvent
)
EVENTS: Final = Endpoint(
    method="GET", path="/v1/events", token="client", returns=list[UtilityEvent]
)
EVENT_SITES: Final = Endpoint(
    method="GET", path="/v1/events/{id}/sites", token="client", returns=list[UtilityEventSite]
)
_A_READ: Final = "it reads, whatever its method"
LATEST: Final = Endpoint(
    method="POST",
    path="/v1/telemetry/latest",
    token="client",
    returns=UtilityTelemetry,
    safe_to_repeat=_A_READ,
)
HISTORICAL: Final = Endpoint(
    method="POST",
    path="/v1/telemetry/historical",
    token="client",
    returns=UtilityTelemetry,
    safe_to_repeat=_A_READ,
)


@attrs.frozen
class UtilityEnrollmentCalls:
    """Enrollments in the utility's programs."""

    _session: Session

    async def list(
        self, program_id: str, **options: Unpack[CallOptions]
    ) -> Sequence[UtilityEnrollment]:
        """List the enrollments of a program.

        Args:
            program_id: Flip's id of the program.
            **options: What every method takes.

        Returns:
            The enrollments.
        """
        query = {"program_id": program_id}
        return (await self._session.call(ENROLLMENTS, query=query, **options)).enrollments

    async def get(self, enrollment_id: str, **options: Unpack[CallOptions]) -> UtilityEnrollment:
        """Read an enrollment.

        Args:
            enrollment_id: Flip's id of the enrollment.
            **options: What every method takes.

        Returns:
            The enrollment.
        """
        return await self._session.call(ENROLLMENT, enrollment_id, **options)

    async def update(
        self,
        enrollment_id: str,
        *,
        status: EnrollmentStatus | str | UnsetType = UNSET,
        status_reason: str | UnsetType | None = UNSET,
        group_ids: Sequence[str] | UnsetType | None = UNSET,
        **options: Unpack[CallOptions],
    ) -> UtilityEnrollment:
        """Approve, pause, reject or unenroll, and assign groups; what is not given stays.

        Args:
            enrollment_id: Flip's id of the enrollment.
            status: The new status: `ACTIVE`, `PAUSED`, `REJECTED` or `UNENROLLED`.
            status_reason: Why, for people.
            group_ids: All its groups from now on; an empty list takes it out of all.
            **options: What every method takes.

        Returns:
            The enrollment as it is now.
        """
        body = UtilityEnrollmentUpdate(
            status=status, status_reason=status_reason, group_ids=group_ids
        )
        return await self._session.call(UPDATE_ENROLLMENT, enrollment_id, body=body, **options)


@attrs.frozen
class UtilityGroupCalls:
    """Groups of a program's enrollments."""

    _session: Session

    async def create(
        self, program_id: str, group_id: str, name: str, **options: Unpack[CallOptions]
    ) -> UtilityGroup:
        """Make a group; you choose its id.

        Args:
            program_id: Flip's id of the program.
            group_id: Your own id of the group.
            name: Its name, for people.
            **options: What every method takes.

        Returns:
            The group.
        """
        body = UtilityGroup(id=group_id, name=name)
        return await self._session.call(CREATE_GROUP, program_id, body=body, **options)

    async def delete(self, program_id: str, group_id: str, **options: Unpack[CallOptions]) -> None:
        """Remove a group; its enrollments stay.

        Args:
            program_id: Flip's id of the program.
            group_id: Your own id of the group.
            **options: What every method takes.
        """
        await self._session.call(DELETE_GROUP, program_id, group_id, **options)


@attrs.frozen
class UtilityEventCalls:
    """Events that the utility dispatches."""

    _session: Session

    async def create(
        self,
        program_id: str,
        actions: Sequence[UtilityAction],
        *,
        target_type: TargetType | str,
        target_ids: Sequence[str],
        **options: Unpack[CallOptions],
    ) -> UtilityEvent:
        """Dispatch; not repeated where it may have been carried out.

        Args:
            program_id: Flip's id of the program.
            actions: What the batteries do, and when; at least one.
            target_type: What the event is for: `DEVICE`, `GROUP`, `PROGRAM` or `SITE`.
            target_ids: The ids of those.
            **options: What every method takes.

        Returns:
            The event.
        """
        body = UtilityEventCreate(
            program_id=program_id, target_type=target_type, target_ids=target_ids, actions=actions
        )
        return await self._session.call(CREATE_EVENT, body=body, **options)

    def list(
        self, *, max_items: int | None = None, **options: Unpack[CallOptions]
    ) -> Pages[UtilityEvent]:
        """List the events.

        Args:
            max_items: How many at most; `None` for all.
            **options: What every method takes.

        Returns:
            The events, fetched while you read them.
        """
        return self._session.pages(EVENTS, max_items=max_items, **options)

    def sites(
        self, event_id: str, *, max_items: int | None = None, **options: Unpack[CallOptions]
    ) -> Pages[UtilityEventSite]:
        """List how sites took part in an event.

        Args:
            event_id: Flip's id of the event.
            max_items: How many at most; `None` for all.
            **options: What every method takes.

        Returns:
            The sites, fetched while you read them.
        """
        return self._session.pages(EVENT_SITES, event_id, max_items=max_items, **options)


@attrs.frozen
class UtilityTelemetryCalls:
    """What devices measured."""

    _session: Session

    async def latest(
        self,
        program_id: str,
        *,
        device_ids: Sequence[str] | UnsetType = UNSET,
        **options: Unpack[CallOptions],
    ) -> Sequence[UtilityTelemetryPoint]:
        """The newest point of each device.

        Args:
            program_id: Flip's id of the program.
            device_ids: Only these devices.
            **options: What every method takes.
        """
        body = UtilityTelemetryQuery(program_id=program_id, device_ids=device_ids)
        return (await self._session.call(LATEST, body=body, **options)).telemetry

    async def historical(
        self,
        program_id: str,
        *,
        start_time: datetime,
        end_time: datetime,
        device_ids: Sequence[str] | UnsetType = UNSET,
        **options: Unpack[CallOptions],
    ) -> Sequence[UtilityTelemetryPoint]:
        """The points of a range of time; both ends with a time zone.

        Args:
            program_id: Flip's id of the program.
            start_time: Begin of the range, with a time zone.
            end_time: End of the range, with a time zone.
            device_ids: Only these devices.
            **options: What every method takes.
        """
        body = UtilityTelemetryQuery(
            program_id=program_id, device_ids=device_ids, start_time=start_time, end_time=end_time
        )
        return (await self._session.call(HISTORICAL, body=body, **options)).telemetry
