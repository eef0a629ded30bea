"""The client of the Utility API."""

from functools import cached_property
from typing import TYPE_CHECKING

from flip_async._clients._base import BaseClient

if TYPE_CHECKING:
    from flip_async._resources.utility import (
        UtilityEnrollmentCalls,
        UtilityEventCalls,
        UtilityGroupCalls,
        UtilityTelemetryCalls,
    )


class UtilityClient(BaseClient):
    """Talks to Flip's Utility API; made and closed as a `FlipClient` is.

    Pass `environment=PRODUCTION` or `SANDBOX`, or set `FLIP_ENVIRONMENT`.
    """

    _api = "utility_url"

    @cached_property
    def enrollments(self) -> "UtilityEnrollmentCalls":
        """Enrollments in the utility's programs."""
        from flip_async._resources.utility import UtilityEnrollmentCalls

        return UtilityEnrollmentCalls(self._session)

    @cached_property
    def groups(self) -> "UtilityGroupCalls":
        """Groups of a program's enrollments."""
        from flip_async._resources.utility import UtilityGroupCalls

        return UtilityGroupCalls(self._session)

    @cached_property
    def events(self) -> "UtilityEventCalls":
        """Events that the utility dispatches."""
        from flip_async._resources.utility import UtilityEventCalls

        return UtilityEventCalls(self._session)

    @cached_property
    def telemetry(self) -> "UtilityTelemetryCalls":
        """What devices measured."""
        from flip_async._resources.utility import UtilityTelemetryCalls

        return UtilityTelemetryCalls(self._session)
