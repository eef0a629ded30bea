"""Sessions of the white-label portal."""

from collections.abc import Sequence

import attrs

from flip_async.models._base import UNSET, Model, UnsetType, alike, many, one
from flip_async.models.devices import DeviceCreate
from flip_async.models.sites import CommissionSite

__all__ = ["PortalSession", "SessionCreate"]


@attrs.frozen(kw_only=True)
class SessionCreate(Model):
    """A session to be made.

    Attributes:
        site: The site; of one that exists the id is enough; required.
        devices: Its devices, for a site that is new.

    Source:
        https://docs.flip.energy/api-16007610
    """

    site: CommissionSite = attrs.field(metadata=one(CommissionSite))
    devices: Sequence[DeviceCreate] | UnsetType = attrs.field(
        eq=alike, default=UNSET, metadata=many(DeviceCreate, at_least=1)
    )


@attrs.frozen(kw_only=True)
class PortalSession(Model):
    """A session of the portal. Its `repr` does not show the token.

    Attributes:
        token: Opens the portal, once.
        has_programs: Whether there are programs for the site.

    Source:
        https://docs.flip.energy/api-16007610
    """

    token: str = attrs.field(repr=False)
    has_programs: bool
