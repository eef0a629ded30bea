"""Which points of a refused batch are to blame."""

from collections.abc import Mapping, Sequence
from typing import Final

LONGEST_SEARCH: Final = 32
"""So many points may be refused alone, with not one accepted, before a batch is given up."""


class Bisection:
    """Parts a batch that is refused as a whole, until each bad point stands alone [T2].

    A point is to blame only where others of its batch were accepted: a server that refuses
    everything costs no point. The caller sends the group that `next()` gives, and says what
    became of it. Points are numbers from 0 here.

    Args:
        size: How many points there are.
        in_order: Send them in their order, as counters need; else the order is drawn.
        accepted_before: A point of this batch was accepted already.
    """

    def __init__(self, size: int, *, in_order: bool, accepted_before: bool = False) -> None:
        self._in_order: Final = in_order
        self._groups: Final[list[Sequence[int]]] = [range(size)] if size else []
        self._alone: Final[dict[int, str]] = {}
        self._has_passed = accepted_before

    @property
    def is_blocked(self) -> bool:
        """Whether nothing passes, so that nobody is to blame."""
        if self._has_passed or not self._alone:
            return False
        return not self._groups or len(self._alone) >= LONGEST_SEARCH

    def next(self) -> Sequence[int] | None:
        """The points to send next; `None` when there is nothing left to find out."""
        return self._groups[-1] if self._groups and not self.is_blocked else None

    def passed(self) -> None:
        """The group was taken by the server, whatever it says of each point."""
        self._groups.pop()
        self._has_passed = True

    def lost(self) -> None:
        """Nobody knows what became of the group."""
        self._groups.pop()

    def refused(self, reason: str, *, named: Mapping[int, str], luck: float) -> None:
        """The group was refused as a whole.

        Args:
            reason: What the server says.
            named: Places in the group that the server names, with what it says of each.
            luck: A number from 0 up to 1.
        """
        group = self._groups.pop()
        if len(group) == 1:
            self._alone[group[0]] = named.get(0, reason)
        elif self._has_passed and all(place in named for place in range(len(group))):
            # It takes others, and names every one of these: no need to ask for each alone.
            self._alone.update((point, named[place]) for place, point in enumerate(group))
        else:
            self._groups.extend(self._part(group, named, luck))

    def _part(
        self, group: Sequence[int], named: Mapping[int, str], luck: float
    ) -> list[Sequence[int]]:
        """Two groups instead of one; the last one is sent first."""
        accused = [point for place, point in enumerate(group) if place in named]
        if accused and len(accused) < len(group) and not self._in_order:
            rest = [point for place, point in enumerate(group) if place not in named]
            return [accused, rest]
        middle = len(group) // 2
        halves = [group[middle:], group[:middle]]
        # Else a batch whose first points are all bad would be searched there for ever.
        return halves if self._in_order or luck < 0.5 else halves[::-1]

    def blame(self) -> dict[int, str]:
        """Points that are to blame, with what the server said; each is given once."""
        if not self._has_passed:
            return {}
        found = dict(self._alone)
        self._alone.clear()
        return found
