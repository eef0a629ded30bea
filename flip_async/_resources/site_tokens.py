"""`flip.site_tokens`: tokens to hand to a mobile app."""

from typing import Unpack

import attrs

from flip_async._auth._site_token_endpoint import CREATE
from flip_async._http._session import Session
from flip_async._options import CallOptions
from flip_async.models.site_tokens import SiteToken


@attrs.frozen
class SiteTokens:
    """Tokens for one site each. `flip.site(site_id)` takes its own: this is for others."""

    _session: Session

    async def create(self, site_id: str, **options: Unpack[CallOptions]) -> SiteToken:
        """Make a token for a site, good for an hour.

        Args:
            site_id: Your id of the site.
            **options: What every method takes.

        Returns:
            The token.

        Raises:
            NotFoundError: Flip does not know the site.

        Source:
            https://docs.flip.energy/api-6038135
        """
        return await self._session.call(CREATE, site_id, **options)
