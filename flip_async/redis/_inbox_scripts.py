"""What an inbox asks of Redis: a function a script, in values of ours.

What Redis holds, and what each step does to it, stands at the head of each script; `inbox_put`
and `inbox_claim` are the ones to read first.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from flip_async.redis._client import Argument, Key, RedisClient, Script
from flip_async.webhooks._events import KINDS, UNKNOWN
from flip_async.webhooks._inbox import Letter

QUEUES: Final = (*KINDS, UNKNOWN)
"""The kinds of events, each of which has a queue; the last one is for all newer ones."""
KEEP_US: Final = 7 * 24 * 3600 * 1_000_000
"""How long ids are remembered, and kinds that a receiver handled."""
MOST_ENDED: Final = 1_000_000
"""How many ids are remembered."""
AT_ONCE: Final = 1000
"""How many one script works on, as far as we choose: it holds everybody up."""
MOST_BYTES: Final = 4_000_000
"""Where a claim ends, and leaves the rest to whoever comes next: its answer is all in memory."""
US: Final = 1_000_000

_OPEN: Final = Script.load("inbox_open")
_PUT: Final = Script.load("inbox_put")
_CLAIM: Final = Script.load("inbox_claim")
_END: Final = Script.load("inbox_end")
_RELEASE: Final = Script.load("inbox_release")
_RENEW: Final = Script.load("inbox_renew")


class _Record(msgspec.Struct, array_like=True, frozen=True):
    """What is kept of a webhook beside its id."""

    put_id: str
    sent_at: int
    event_type: str
    body: bytes


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Record)


def kind_of(event_type: str) -> str:
    """Which queue an event waits in."""
    return event_type if event_type in KINDS else UNKNOWN


def packed(letter: Letter, put_id: str) -> bytes:
    """What Redis keeps of a webhook beside its id."""
    return _encoder.encode(_Record(put_id, letter.sent_at, letter.event_type, letter.body))


class Put(NamedTuple):
    """A webhook to be kept."""

    webhook_id: str
    kind: str
    record: bytes


class End(NamedTuple):
    """A webhook that is done with; its id as bytes where it is none that we would have kept."""

    webhook_id: str | bytes
    kind: str


class Release(NamedTuple):
    """A claimed webhook that is to wait again; where it failed, for how long."""

    webhook_id: str
    kind: str
    claim: str
    pause_us: int | None


class Claimed(NamedTuple):
    """A webhook as a claim gave it."""

    webhook_id: bytes
    record: bytes
    accepted_us: int
    failures: int

    def letter(self) -> Letter | None:
        """What was kept; `None` where it cannot be read."""
        try:
            webhook_id = self.webhook_id.decode("ascii")
            record = _decoder.decode(self.record)
        except (UnicodeDecodeError, msgspec.DecodeError):
            return None
        return Letter(webhook_id, record.sent_at, record.body, record.event_type)


class Claims(NamedTuple):
    """What a claim gave; times on Redis's clock."""

    now_us: int
    pause_us: int
    given: Sequence[Claimed]


class Look(NamedTuple):
    """What there is; times on Redis's clock, -1 where there is none."""

    now_us: int
    waiting: int
    oldest_us: int
    pause_us: int


class InboxScripts:
    """The scripts of one inbox.

    Args:
        client: What runs them.
        min_replicas: How many replicas must have what is put.
        lease_s: How long a claim holds that is not renewed, in seconds.
    """

    def __init__(self, client: RedisClient, *, min_replicas: int, lease_s: float) -> None:
        self._client: Final = client
        self._min_replicas: Final = min_replicas
        self._lease_us: Final = int(lease_s * US)

    async def is_home_of(self, digests: Collection[str]) -> bool:
        """Whether it is nobody's, or of one of these keys; then it is of all of them."""
        return bool(await self._client.run(_OPEN, self._keys("home"), sorted(digests)))

    async def put(self, puts: Sequence[Put]) -> list[bool]:
        """Keep webhooks; gives which are new."""
        queues = _Queues(self._client)
        arguments: list[Argument] = []
        for put in puts:
            arguments += (put.webhook_id, queues.number(put.kind), put.record)
        keys = self._keys("letters", "ended", "waiting") + queues.keys
        answers = await self._client.run(_PUT, keys, arguments, min_replicas=self._min_replicas)
        return [bool(answer) for answer in answers]

    async def claim(self, claim: str, most: int, kinds: Collection[str]) -> Claims:
        """Take webhooks of these kinds that are due, and of those that are nobody's."""
        names = ("letters", "failures", "waiting", "claimed", "claims", "seen")
        most = min(most, AT_ONCE)
        arguments = [claim, most, MOST_BYTES, self._lease_us, KEEP_US, *_whose(kinds)]
        answer = await self._client.run(_CLAIM, self._keys(*names) + self._all_queues(), arguments)
        now_us, pause_us, flat = answer
        given = [Claimed(*flat[at : at + 4]) for at in range(0, len(flat), 4)]
        return Claims(now_us, pause_us, given)

    async def end(self, ends: Sequence[End], reason: str | None = None) -> None:
        """Forget webhooks but for their ids; those with a reason are kept to be looked at."""
        state = "handled" if reason is None else "dead"
        queues = _Queues(self._client)
        arguments: list[Argument] = [KEEP_US, MOST_ENDED, state, reason or ""]
        for end in ends:
            arguments += (end.webhook_id, queues.number(end.kind))
        names = ("letters", "failures", "waiting", "claimed", "claims", "ended", "dead", "reasons")
        await self._client.run(_END, self._keys(*names) + queues.keys, arguments)

    async def release(self, releases: Sequence[Release]) -> None:
        """Let webhooks wait again, where the claim is still what it was."""
        queues = _Queues(self._client)
        arguments: list[Argument] = []
        for one in releases:
            pause = "" if one.pause_us is None else one.pause_us
            arguments += (one.webhook_id, one.claim, queues.number(one.kind), pause)
        keys = self._keys("letters", "failures", "waiting", "claimed", "claims") + queues.keys
        await self._client.run(_RELEASE, keys, arguments)

    async def renew(
        self, claims: Sequence[tuple[str, str]], kinds: Collection[str], digests: Collection[str]
    ) -> Look:
        """Keep claims, free those that ended, forget what is old, and look."""
        parts = [claims[at : at + AT_ONCE] for at in range(0, max(1, len(claims)), AT_ONCE)]
        for part in parts[:-1]:  # all own claims are kept before those of others are freed
            await self._renew(part, kinds, digests, at_once=0)
        return Look(*await self._renew(parts[-1], kinds, digests, at_once=AT_ONCE))

    async def _renew(
        self,
        claims: Sequence[tuple[str, str]],
        kinds: Collection[str],
        digests: Collection[str],
        *,
        at_once: int,
    ) -> Sequence[int]:
        names = (
            "letters", "waiting", "claimed", "claims", "seen", "ended", "dead", "reasons", "home",
        )  # fmt: skip
        packs = (_encoder.encode(sorted(digests)), _encoder.encode(claims))
        limits = (self._lease_us, KEEP_US, MOST_ENDED, at_once)
        arguments = [*limits, *packs, *_whose(kinds)]
        keys = self._keys(*names) + self._all_queues()
        look: Sequence[int] = await self._client.run(_RENEW, keys, arguments)
        return look

    def _keys(self, *names: str) -> list[Key]:
        return [_key(self._client, name) for name in names]

    def _all_queues(self) -> list[Key]:
        return [_queue(self._client, kind) for kind in QUEUES]


class _Queues:
    """The queues that one call needs, numbered as they come."""

    def __init__(self, client: RedisClient) -> None:
        self._client: Final = client
        self._numbers: Final[dict[str, int]] = {}

    def number(self, kind: str) -> int:
        return self._numbers.setdefault(kind, len(self._numbers) + 1)

    @property
    def keys(self) -> list[Key]:
        return [_queue(self._client, kind) for kind in self._numbers]


def _key(client: RedisClient, name: str) -> Key:
    return client.key("inbox", name)


def _queue(client: RedisClient, kind: str) -> Key:
    return _key(client, f"queue:{kind}")


def _whose(kinds: Collection[str]) -> Iterable[Argument]:
    for kind in QUEUES:
        yield from (kind, int(kind in kinds))
