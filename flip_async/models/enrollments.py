"""Enrollments."""

from collections.abc import Sequence
from datetime import datetime

import attrs

from flip_async.models._base import (
    UNSET,
    HasInstants,
    Model,
    OpenEnum,
    UnsetType,
    alike,
    as_enum,
    boolean,
    identifier,
    many,
    text,
)

__all__ = [
    "EnrollMethod",
    "Enrollment",
    "EnrollmentCreate",
    "EnrollmentStatus",
    "ProgramSpecificAttribute",
]


class EnrollMethod(OpenEnum):
    """How an enrollment comes about.

    Attributes:
        AUTO_ENROLL: Without an action of the participant, where the program allows it.
        USER_ACTION: The participant asked for it.
    """

    AUTO_ENROLL = "AUTO_ENROLL"
    USER_ACTION = "USER_ACTION"


class EnrollmentStatus(OpenEnum):
    """How far an enrollment has come. Flip's pages say `APPROVED` where they mean `ACTIVE`.

    Attributes:
        ACTIVE: It takes part as soon as the program allows.
        NEEDS_ACTION: Something could not be verified; Flip writes to the participant.
        PENDING: It is being reviewed, as every new one is.
        REJECTED: It is not eligible, and the participant cannot apply again.
        UNENROLLED: It takes part no more.
        CREATED: It was made; only the Utility API's pages have this.
        SUBMITTED: It was handed in; only the Utility API's pages have this.
        PAUSED: It takes no part for a while.
        APPROVED: What Flip's page on enrolling calls `ACTIVE`.
    """

    ACTIVE = "ACTIVE"
    NEEDS_ACTION = "NEEDS_ACTION"
    PENDING = "PENDING"
    REJECTED = "REJECTED"
    UNENROLLED = "UNENROLLED"
    CREATED = "CREATED"
    SUBMITTED = "SUBMITTED"
    PAUSED = "PAUSED"
    APPROVED = "APPROVED"


def _enroll_method(value: EnrollMethod | str) -> EnrollMethod:
    return as_enum(EnrollMethod, value, "enroll_method")


@attrs.frozen
class ProgramSpecificAttribute(Model):
    """An answer to a field of a program's enrollment form.

    Attributes:
        name: The field's `name` in the program's enrollment form; required.
        value: The answer, as a text whatever the field's type; required.
    """

    name: str = attrs.field(metadata=text())
    value: str = attrs.field(metadata=text())


@attrs.frozen(kw_only=True)
class EnrollmentCreate(Model):
    """An enrollment to be made.

    Attributes:
        device_ids: Your ids of the devices to enroll, at least one; required.
        program_id: Flip's id of the program; required.
        enroll_method: How it comes about; required by Flip, and `USER_ACTION` where you give none.
        has_agreed_to_terms_and_conditions: Whether the participant agreed; needed where the
            program has terms.
        terms_and_conditions_version: The version that was agreed to; needed where the program has
            terms.
        program_specific_attributes: Answers to the program's enrollment form.

    Source:
        https://docs.flip.energy/api-6038143
    """

    device_ids: Sequence[str] = attrs.field(eq=alike, metadata=many(str, at_least=1))
    program_id: str = attrs.field(metadata=identifier())
    enroll_method: EnrollMethod = attrs.field(
        default=EnrollMethod.USER_ACTION, converter=_enroll_method, metadata=text()
    )
    has_agreed_to_terms_and_conditions: bool | UnsetType | None = attrs.field(
        default=UNSET, metadata=boolean(nullable=True)
    )
    terms_and_conditions_version: str | UnsetType | None = attrs.field(
        default=UNSET, metadata=text(nullable=True)
    )
    program_specific_attributes: Sequence[ProgramSpecificAttribute] | UnsetType = attrs.field(
        eq=alike, default=UNSET, metadata=many(ProgramSpecificAttribute)
    )


@attrs.frozen(kw_only=True)
class Enrollment(HasInstants):
    """Devices of a site that take part in a program.

    Attributes:
        id: Flip's id of it.
        device_ids: Your ids of the devices.
        site_id: Your id of the site.
        program_id: Flip's id of the program.
        enroll_method: How it came about.
        status: How far it has come; be ready for a status that is newer than this version.
        program_specific_attributes: Answers to the program's enrollment form.
        status_reason: Why it has this status, where Flip says so.
        enrolled_at: When participation began; `None` before.
        unenrolled_at: When it ended; `None` before.
        has_agreed_to_terms_and_conditions: Whether the participant agreed.
        terms_and_conditions_version: The version that was agreed to.
        object_type: `enrollment`, in webhooks.

    Source:
        https://docs.flip.energy/api-6038143
    """

    _INSTANTS = ("enrolled_at", "unenrolled_at")

    id: str
    device_ids: list[str]
    site_id: str
    program_id: str
    enroll_method: EnrollMethod
    status: EnrollmentStatus
    program_specific_attributes: list[ProgramSpecificAttribute]
    status_reason: str | None = None
    enrolled_at: datetime | None = None
    unenrolled_at: datetime | None = None
    has_agreed_to_terms_and_conditions: bool | None = None
    terms_and_conditions_version: str | None = None
    object_type: str | None = None
