"""`flip.site(site_id).enrollments`."""

from typing import Final, Unpack

import attrs

from flip_async._endpoint import NO_CONTENT, Endpoint
from flip_async._http._pages import Pages
from flip_async._http._session import Session
from flip_async._options import CallOptions
from flip_async.models._base import require
from flip_async.models.enrollments import Enrollment, EnrollmentCreate

CREATE: Final = Endpoint(
    method="POST", path="/v1/site/{siteId}/enrollments", token="site", returns=Enrollment
)
LIST: Final = Endpoint(
    method="GET", path="/v1/site/{siteId}/enrollments", token="site", returns=list[Enrollment]
)
GET: Final = Endpoint(
    method="GET", path="/v1/site/{siteId}/enrollment/{id}", token="site", returns=Enrollment
)
DELETE: Final = Endpoint(
    method="DELETE", path="/v1/site/{siteId}/enrollment/{id}", token="site", returns=NO_CONTENT
)


@attrs.frozen
class SiteEnrollments:
    """The enrollments of a site; there is no call that changes one."""

    _session: Session
    _site_id: str

    async def create(
        self, enrollment: EnrollmentCreate, **options: Unpack[CallOptions]
    ) -> Enrollment:
        """Enroll devices in a program.

        Args:
            enrollment: What to enroll, and what the participant agreed to.
            **options: What every method takes.

        Returns:
            The enrollment, `PENDING` until it is reviewed.

        Raises:
            InvalidArgumentError: A field breaks its rule; no request was made.
            OutcomeUnknownError: It was sent and no answer came.

        Source:
            https://docs.flip.energy/api-6038143
        """
        require(enrollment, EnrollmentCreate, "enrollment")
        return await self._session.call(CREATE, self._site_id, body=enrollment, **options)

    def list(
        self, *, max_items: int | None = None, **options: Unpack[CallOptions]
    ) -> Pages[Enrollment]:
        """List the enrollments, those that are `UNENROLLED` too.

        Args:
            max_items: How many to give at most.
            **options: What every method takes.

        Returns:
            An async iterator over enrollments; `await` gives a list.

        Source:
            https://docs.flip.energy/api-6038143
        """
        return self._session.pages(LIST, self._site_id, max_items=max_items, **options)

    async def get(self, enrollment_id: str, **options: Unpack[CallOptions]) -> Enrollment:
        """Read an enrollment.

        Args:
            enrollment_id: Flip's id of the enrollment.
            **options: What every method takes.

        Returns:
            The enrollment.

        Source:
            https://docs.flip.energy/api-6038143
        """
        return await self._session.call(GET, self._site_id, enrollment_id, **options)

    async def delete(self, enrollment_id: str, **options: Unpack[CallOptions]) -> None:
        """Leave a program; what a lost first attempt has done is no error.

        Args:
            enrollment_id: Flip's id of the enrollment.
            **options: What every method takes.

        Source:
            https://docs.flip.energy/oem/authentication
        """
        await self._session.call(DELETE, self._site_id, enrollment_id, **options)
