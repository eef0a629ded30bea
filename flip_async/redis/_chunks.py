"""Chunks of points, as Redis keeps them, and what a process knows of those that it has claimed.

A chunk's payload is three columns: devices, bodies, and each point's offset from the chunk's base,
which gives its id. The columns are cut here and nowhere else; see `outbox_put.lua` for the rest.
"""

import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, repeat
from typing import Final

import attrs
import msgspec

from flip_async.telemetry import OutboxDraft, OutboxEntry

_pack: Final = msgspec.msgpack.Encoder().encode
_Columns = tuple[list[str], list[bytes], list[int] | None]  # no offsets: 0, 1, 2, …
_columns_of: Final = msgspec.msgpack.Decoder(_Columns).decode


@attrs.frozen
class Points:
    """Some points of a chunk, as the scripts take them.

    Attributes:
        low: The lowest offset.
        count: How many.
        size: Bytes of their bodies.
        payload: The columns.
    """

    low: int
    count: int
    size: int
    payload: bytes

    @classmethod
    def of_drafts(cls, drafts: Sequence[OutboxDraft], offsets: Sequence[int] | None) -> "Points":
        """Pack new points; their offsets are 0, 1, 2, … where none are given."""
        devices, bodies = zip(*drafts, strict=True)
        size = sum(map(len, bodies))
        low = offsets[0] if offsets else 0
        return cls(low, len(drafts), size, _pack((devices, bodies, offsets)))

    @classmethod
    def of_entries(cls, entries: Sequence[OutboxEntry], base: int) -> "Points":
        """Pack what is left of a chunk, or a part of it."""
        devices = [entry.device for entry in entries]
        bodies = [entry.body for entry in entries]
        offsets = [entry.id - base for entry in entries]
        return cls(
            offsets[0], len(entries), sum(map(len, bodies)), _pack((devices, bodies, offsets))
        )

    def arguments(self) -> tuple[int, int, int, bytes]:
        """As the scripts read them."""
        return self.low, self.count, self.size, self.payload


def in_lanes(drafts: Sequence[OutboxDraft], lanes: int) -> Iterator[tuple[int, Points]]:
    """Pack new points, each device into a lane of its own, which is the same in all processes."""
    if lanes == 1:
        yield 1, Points.of_drafts(drafts, None)
        return
    offsets: dict[int, list[int]] = {}
    for offset, draft in enumerate(drafts):
        offsets.setdefault(zlib.crc32(draft.device.encode()) % lanes, []).append(offset)
    for lane, some in offsets.items():
        yield lane + 1, Points.of_drafts([drafts[offset] for offset in some], some)


def how_many_fit(drafts: Sequence[OutboxDraft], *, room: int, room_bytes: int | None) -> int:
    """How many points there is room for, from the first."""
    count = min(room, len(drafts))
    if room_bytes is None:
        return count
    sizes = accumulate(len(draft.body) for draft in drafts[:count])
    return sum(size <= room_bytes for size in sizes)


@attrs.define(eq=False)
class Chunk:
    """A chunk that this process has claimed.

    Attributes:
        name: Its record in Redis.
        claim: By which claim.
        base: Less than which no id in it is.
        left: Its points that are neither settled nor given back, by id.
    """

    name: str
    claim: str
    base: int
    left: dict[int, OutboxEntry]

    def rest(self, without: Collection[int]) -> Points | None:
        """What is left without some of it; `None` where that is nothing."""
        if len(without) == len(self.left):
            return None
        rest = [entry for entry in self.left.values() if entry.id not in without]
        return Points.of_entries(rest, self.base)


@attrs.frozen
class GivenChunk:
    """A chunk as the claiming script gives it.

    Attributes:
        wanted: How many of its points are to be taken.
    """

    name: str
    base: int
    accepted_us: int
    was_refused: bool
    wanted: int
    payload: bytes

    @classmethod
    def read(cls, row: Sequence[bytes | int]) -> "GivenChunk":
        """Read what the script gave."""
        name, base, accepted_us, refused, wanted, payload = row
        return cls(
            bytes(name).decode(), int(base), int(accepted_us), refused == 1, int(wanted),
            bytes(payload),
        )  # fmt: skip

    def entries(self, clock_is_ahead_s: float) -> list[OutboxEntry] | None:
        """Its points, with times on this process's clock; `None` where they cannot be read."""
        try:
            devices, bodies, offsets = _columns_of(self.payload)
        except msgspec.MsgspecError:
            return None
        if len(devices) != len(bodies) or len(devices) != len(offsets or devices):
            return None
        base = self.base
        ids = range(base, base + len(devices)) if offsets is None else [base + o for o in offsets]
        at = self.accepted_us / 1e6 + clock_is_ahead_s
        rows = zip(ids, devices, bodies, repeat(at), repeat(self.was_refused), strict=False)
        return list(map(OutboxEntry._make, rows))


class ClaimedChunks:
    """What this process has claimed, and got the answer of.

    What changes: `_by_id` has all points that are in its hands, `_chunks_of` how many chunks of
    each claim. Only the outbox touches it, between two awaits: what is under way to Redis is
    written down when it has arrived.
    """

    def __init__(self) -> None:
        self._by_id: Final[dict[int, Chunk]] = {}
        self._chunks_of: Final[Counter[str]] = Counter()

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def claims(self) -> list[str]:
        """The claims of which something is left."""
        return list(self._chunks_of)

    def take(self, chunk: Chunk) -> None:
        """A chunk was claimed."""
        # An id that is in its hands already: its own claim ended, and it got the points again.
        for known in {id(one): one for one in map(self._by_id.get, chunk.left) if one}.values():
            self._let_go(known)
        self._by_id.update(dict.fromkeys(chunk.left, chunk))
        self._chunks_of[chunk.claim] += 1

    def parts(self, entries: Iterable[OutboxEntry]) -> Mapping[Chunk, Collection[int]]:
        """Of which chunks points are; those that are in nobody's hands here are left out."""
        parts: dict[Chunk, set[int]] = {}
        by_id = self._by_id
        for entry in entries:
            chunk = by_id.get(entry.id)
            # Not by its id alone: a Redis that lost its last data may give one a second time.
            if chunk is not None and chunk.left[entry.id].body == entry.body:
                parts.setdefault(chunk, set()).add(entry.id)
        return parts

    def done(self, parts: Mapping[Chunk, Collection[int]]) -> None:
        """Points left its hands."""
        for chunk, ids in parts.items():
            if not chunk.left:
                continue  # somebody else did the same meanwhile
            for entry_id in ids:
                if chunk.left.pop(entry_id, None) is not None:
                    del self._by_id[entry_id]
            if not chunk.left:
                self._forget_one_of(chunk.claim)

    def _let_go(self, chunk: Chunk) -> None:
        for entry_id in chunk.left:
            del self._by_id[entry_id]
        chunk.left.clear()
        self._forget_one_of(chunk.claim)

    def _forget_one_of(self, claim: str) -> None:
        self._chunks_of[claim] -= 1
        if not self._chunks_of[claim]:
            del self._chunks_of[claim]
