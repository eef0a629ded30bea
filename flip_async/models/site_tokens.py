"""Site tokens."""

from datetime import datetime

import attrs

from flip_async.models._base import HasInstants

__all__ = ["SiteToken"]


@attrs.frozen(kw_only=True)
class SiteToken(HasInstants):
    """A bearer token for one site, good for an hour. Its `repr` does not show it.

    Attributes:
        site_access_token: The token, for a mobile app.
        expires_at: When it is over.

    Source:
        https://docs.flip.energy/api-6038135
    """

    _INSTANTS = ("expires_at",)

    site_access_token: str = attrs.field(repr=False)
    expires_at: datetime
