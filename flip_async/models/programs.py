"""Programs."""

from datetime import datetime

import attrs

from flip_async.models._base import HasInstants, Model, OpenEnum
from flip_async.models.devices import DeviceType

__all__ = ["EnrollmentFormField", "FormFieldType", "Program"]


class FormFieldType(OpenEnum):
    """What the answer to a form field is.

    Attributes:
        BOOLEAN: True or false.
        NUMBER: A number.
        STRING: A text.
    """

    BOOLEAN = "boolean"
    NUMBER = "number"
    STRING = "string"


@attrs.frozen(kw_only=True)
class EnrollmentFormField(Model):
    """One thing that a program needs to know from the participant.

    Attributes:
        name: What to call it in `program_specific_attributes`.
        label: What to call it for people.
        type: What kind of answer it takes; the answer is sent as a text all the same.
        hint: Help for people.
    """

    name: str
    label: str
    type: FormFieldType
    hint: str | None = None


@attrs.frozen(kw_only=True)
class Program(HasInstants):
    """A utility's program that devices can be enrolled in.

    Attributes:
        id: Flip's id of it.
        name: Its name.
        description: What it is, for people.
        eligible_device_types: Devices that may take part.
        can_auto_enroll: Whether sites can be enrolled without the participant's action.
        participation_months: Calendar months (1 to 12) in which it is active.
        earnings_for_site_upfront: Estimate, once; Flip's reference tells no currency.
        earnings_for_site_yearly: Estimate, each year; as above.
        created_at: When it was made.
        updated_at: When it last changed.
        enrollment_form: What to ask the participant.
        minimum_reserve_percentage: State of charge that is left to the home, 0 to 100.
        minimum_commitment_months: How many months a site has to stay; `None` where it is not
            known.
        terms_and_conditions_version: `None` where there are none; not for people.
        terms_and_conditions_text: Markdown, for people; `None` where there are none.

    Source:
        https://docs.flip.energy/api-6038147
    """

    _INSTANTS = ("created_at", "updated_at")

    id: str
    name: str
    description: str
    eligible_device_types: list[DeviceType]
    can_auto_enroll: bool
    participation_months: list[int]
    earnings_for_site_upfront: float
    earnings_for_site_yearly: float
    created_at: datetime
    updated_at: datetime
    enrollment_form: list[EnrollmentFormField]
    minimum_reserve_percentage: float | None = None
    minimum_commitment_months: int | None = None
    terms_and_conditions_version: str | None = None
    terms_and_conditions_text: str | None = None
