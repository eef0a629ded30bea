"""Sites."""

from datetime import datetime
from typing import Final

import attrs

from flip_async.models._base import UNSET, HasInstants, Model, UnsetType, identifier, text

__all__ = ["STATE_CODES", "CommissionSite", "Site", "SiteUpdate"]

STATE_CODES: Final = frozenset(
    [
        "AK",
        "AL",
        "AR",
        "AZ",
        "CA",
        "CO",
        "CT",
        "DE",
        "FL",
        "GA",
        "HI",
        "IA",
        "ID",
        "IL",
        "IN",
        "KS",
        "KY",
        "LA",
        "MA",
        "MD",
        "ME",
        "MI",
        "MN",
        "MO",
        "MS",
        "MT",
        "NC",
        "ND",
        "NE",
        "NH",
        "NJ",
        "NM",
        "NV",
        "NY",
        "OH",
        "OK",
        "OR",
        "PA",
        "PR",
        "RI",
        "SC",
        "SD",
        "TN",
        "TX",
        "UT",
        "VA",
        "VT",
        "WA",
        "WI",
        "WV",
        "WY",
    ]
)
"""What `state_code` may be: the fifty states and Puerto Rico."""

_OPTIONAL_TEXT: Final = text(nullable=True)
_STATE_CODE: Final = text(allowed=STATE_CODES, nullable=True)


@attrs.frozen(kw_only=True)
class Site(HasInstants):
    """A site as Flip knows it.

    Attributes:
        id: Your own id of the site.
        created_at: When Flip first heard of it.
        updated_at: When it last changed.
        first_name: Given name of the participant.
        last_name: Family name of the participant.
        company_name: Name of a company; for companies only.
        email: Address of the participant.
        state_code: Two letters of a state, such as `CA`.
        city: City.
        zip_code: Postal code; in the sandbox 88800, 88801 and 88802 match test programs.
        street_address: First line of the address.
        street_address2: Second line of the address.
        service_account_id: Deprecated; the utility's id of the customer, from the bill.
        tariff_id: Only in documentation of 2024.

    Source:
        https://docs.flip.energy/api-8500053
    """

    _INSTANTS = ("created_at", "updated_at")

    id: str
    created_at: datetime
    updated_at: datetime
    first_name: str | None = None
    last_name: str | None = None
    company_name: str | None = None
    email: str | None = None
    state_code: str | None = None
    city: str | None = None
    zip_code: str | None = None
    street_address: str | None = None
    street_address2: str | None = None
    service_account_id: str | None = None
    tariff_id: str | None = None


@attrs.frozen(kw_only=True)
class SiteUpdate(Model):
    """What changes in a site: a field that is `UNSET` stays, one that is `None` is emptied.

    Attributes:
        first_name: Given name of the participant.
        last_name: Family name of the participant.
        company_name: Name of a company; for companies only.
        email: Address of the participant.
        state_code: Two letters of a state, one of `STATE_CODES`.
        city: City.
        zip_code: Postal code; in the sandbox 88800, 88801 and 88802 match test programs.
        street_address: First line of the address.
        street_address2: Second line of the address.
        service_account_id: Deprecated; the utility's id of the customer, from the bill.

    Source:
        https://docs.flip.energy/api-6038149
    """

    first_name: str | UnsetType | None = attrs.field(default=UNSET, metadata=_OPTIONAL_TEXT)
    last_name: str | UnsetType | None = attrs.field(default=UNSET, metadata=_OPTIONAL_TEXT)
    company_name: str | UnsetType | None = attrs.field(default=UNSET, metadata=_OPTIONAL_TEXT)
    email: str | UnsetType | None = attrs.field(default=UNSET, metadata=_OPTIONAL_TEXT)
    state_code: str | UnsetType | None = attrs.field(default=UNSET, metadata=_STATE_CODE)
    city: str | UnsetType | None = attrs.field(default=UNSET, metadata=_OPTIONAL_TEXT)
    zip_code: str | UnsetType | None = attrs.field(default=UNSET, metadata=_OPTIONAL_TEXT)
    street_address: str | UnsetType | None = attrs.field(default=UNSET, metadata=_OPTIONAL_TEXT)
    street_address2: str | UnsetType | None = attrs.field(default=UNSET, metadata=_OPTIONAL_TEXT)
    service_account_id: str | UnsetType | None = attrs.field(default=UNSET, metadata=_OPTIONAL_TEXT)


@attrs.frozen(kw_only=True)
class CommissionSite(SiteUpdate):
    """A site to be commissioned: `id` is your own, all else may come later.

    Attributes:
        id: Your own id of the site, any text that is not empty; required.
        first_name: Given name of the participant.
        last_name: Family name of the participant.
        company_name: Name of a company; for companies only.
        email: Address of the participant.
        state_code: Two letters of a state, one of `STATE_CODES`.
        city: City.
        zip_code: Postal code; in the sandbox 88800, 88801 and 88802 match test programs.
        street_address: First line of the address.
        street_address2: Second line of the address.
        service_account_id: Deprecated; the utility's id of the customer, from the bill.

    Source:
        https://docs.flip.energy/api-6038136
    """

    id: str = attrs.field(metadata=identifier())
