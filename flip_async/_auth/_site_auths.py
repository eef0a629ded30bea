"""The auths of a client's sites."""

import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import httpx

from flip_async._auth._site_token import SiteTokenAuth
from flip_async._auth._store import TokenStore

SITES_KEPT: Final = 1000
Make = Callable[[str, httpx.Auth, TokenStore | None], SiteTokenAuth]


class SiteAuths:
    """One auth for each credential and site, so that asking again costs nothing [A19].

    A bounded number of them is kept; one that a view holds is found as long as it does.

    What changes: which were asked for last, and which are alive.

    Args:
        make: Makes the auth of a site, whose tokens are asked for with a credential.
        kept: How many to keep.
    """

    def __init__(self, make: Make, *, kept: int = SITES_KEPT) -> None:
        self._make: Final = make
        self._kept: Final = kept
        self._recent: Final[OrderedDict[tuple[int, str], SiteTokenAuth]] = OrderedDict()
        self._alive: Final[weakref.WeakValueDictionary[tuple[int, str], SiteTokenAuth]] = (
            weakref.WeakValueDictionary()
        )

    def get(
        self, site_id: str, auth: httpx.Auth, token_store: TokenStore | None = None
    ) -> SiteTokenAuth:
        """The auth of a site."""
        # The id of an object is its own only while it lives: the site's auth keeps it alive.
        key = (id(auth), site_id)
        site_auth = self._alive.get(key)
        if site_auth is None:
            site_auth = self._alive[key] = self._make(site_id, auth, token_store)
        self._recent[key] = site_auth
        self._recent.move_to_end(key)
        if len(self._recent) > self._kept * 1.1:  # now and then, as it looks at all of them
            self._let_go()
        return site_auth

    def __len__(self) -> int:
        return len(self._recent)

    def __contains__(self, site_id: object) -> bool:
        return any(site_id == kept for _, kept in self._recent)

    def _let_go(self) -> None:
        surplus = len(self._recent) - self._kept
        idle = [key for key, auth in self._recent.items() if auth.is_idle]
        resting = [key for key, auth in self._recent.items() if not auth.is_busy]
        for key in dict.fromkeys(idle + resting):
            if surplus <= 0:
                break
            del self._recent[key]
            surplus -= 1

    async def aclose(self) -> None:
        """End the refreshes that run."""
        for auth in list(self._alive.values()):
            await auth.aclose()
        self._recent.clear()
