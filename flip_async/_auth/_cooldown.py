"""401s that no new token cures: whiles in which none is asked for [A7]."""

from typing import Final, NamedTuple

from flip_async._auth._decisions import Route
from flip_async._backoff import doubled

_ROUTES_REMEMBERED: Final = 256
_ROUTE_CAP_S: Final = 60.0
_CAP_S: Final = 10.0


class _While(NamedTuple):
    until: float  # monotonic
    length_s: float
    generation: int  # of the token whose refusal was counted last


class Cooldown:
    """Remembers which method and path refuse a fresh token, and for how long.

    What changes: the while of each route, and the one over all routes. A `Lifecycle` keeps it,
    whose rules for threads are its own too.
    """

    def __init__(self) -> None:
        self._routes: dict[Route, _While] = {}
        self._all: _While | None = None

    def holds(self, route: Route, mono: float) -> bool:
        """Whether a 401 of this route asks for no new token now."""
        here, everywhere = self._routes.get(route), self._all
        return bool((here and mono < here.until) or (everywhere and mono < everywhere.until))

    def accepted(self, route: Route) -> None:
        """A request that was sent again with a newer token was not answered 401."""
        self._routes.pop(route, None)
        self._all = None

    def rejected(self, route: Route, mono: float, generation: int) -> None:
        """A request that was sent again with a newer token was answered 401."""
        before = self._routes.pop(route, None)
        while len(self._routes) >= _ROUTES_REMEMBERED:
            self._routes.pop(next(iter(self._routes)))
        self._routes[route] = _grown(before, _ROUTE_CAP_S, mono, generation)
        self.cured_nothing(mono, generation)

    def cured_nothing(self, mono: float, generation: int) -> None:
        """A refresh was in vain, whichever route asked for it."""
        self._all = _grown(self._all, _CAP_S, mono, generation)

    def end(self) -> None:
        """End every while."""
        self._routes.clear()
        self._all = None


def _grown(before: _While | None, cap_s: float, mono: float, generation: int) -> _While:
    # Two hundred requests that share a refresh are one failure, not two hundred.
    if before is not None and before.generation == generation:
        return before
    length_s = doubled(before and before.length_s, first_s=1.0, cap_s=cap_s)
    return _While(mono + length_s, length_s, generation)
