"""Commissioning."""

from collections.abc import Sequence

import attrs

from flip_async.models._base import UNSET, Model, UnsetType, alike, boolean, many, one
from flip_async.models.devices import DeviceCreate
from flip_async.models.enrollments import Enrollment, EnrollmentCreate
from flip_async.models.programs import Program
from flip_async.models.sites import CommissionSite

__all__ = ["Commission", "CommissionResult"]


@attrs.frozen(kw_only=True)
class Commission(Model):
    """A site to be commissioned with its devices.

    Attributes:
        site: The site; required.
        devices: Its devices, at least one; required.
        can_auto_enroll: Whether Flip may enroll the site in programs that allow it; the
            homeowner must have agreed.
        enrollment: An enrollment to be made in the same call.

    Source:
        https://docs.flip.energy/schema-1574956
    """

    site: CommissionSite = attrs.field(metadata=one(CommissionSite))
    devices: Sequence[DeviceCreate] = attrs.field(eq=alike, metadata=many(DeviceCreate, at_least=1))
    can_auto_enroll: bool | UnsetType = attrs.field(default=UNSET, metadata=boolean())
    enrollment: EnrollmentCreate | UnsetType = attrs.field(
        default=UNSET, metadata=one(EnrollmentCreate)
    )


@attrs.frozen(kw_only=True)
class CommissionResult(Model):
    """What came of a commissioning.

    Attributes:
        programs: Programs that the devices are eligible for.
        enrollment: The enrollment that was made, if one was.

    Source:
        https://docs.flip.energy/api-6038136
    """

    programs: list[Program]
    enrollment: Enrollment | None = None
