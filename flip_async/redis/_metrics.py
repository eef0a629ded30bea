"""Metrics of what is kept in Redis, where OpenTelemetry's API is installed; else nothing at all."""

import functools
import importlib
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

from flip_async._claim_queue import QueueDepth
from flip_async._version import __version__


class Measured(Protocol):
    """An object of ours that tells how it is."""

    def measure(self) -> Mapping[str, float]:
        """Values by the names of `GAUGES` and `COUNTERS`; what is not known is left out."""
        ...


class Queue(Protocol):
    """An outbox, or an inbox."""

    @property
    def depth(self) -> QueueDepth: ...
    @property
    def claims(self) -> int: ...
    @property
    def is_degraded(self) -> bool: ...


def measure_queue(queue: Queue, *, now: float) -> Mapping[str, float]:
    """How an outbox or an inbox is, as of its last look.

    Args:
        queue: Which.
        now: Unix time in seconds.
    """
    oldest_at = queue.depth.oldest_at
    return {
        "flip_async.queue.waiting": queue.depth.waiting,
        "flip_async.queue.oldest_age": 0.0 if oldest_at is None else max(0.0, now - oldest_at),
        "flip_async.queue.claimed": queue.claims,
        "flip_async.store.degraded": float(queue.is_degraded),
    }


GAUGES: Final[Mapping[str, tuple[str, str]]] = {
    "flip_async.queue.waiting": ("{entry}", "Entries that nobody has claimed."),
    "flip_async.queue.oldest_age": ("s", "How long the oldest of them has waited."),
    "flip_async.queue.claimed": ("{entry}", "Entries that this process has in hand."),
    "flip_async.store.degraded": ("1", "1 where the last command to Redis failed, else 0."),
}
COUNTERS: Final[Mapping[str, tuple[str, str]]] = {
    "flip_async.token.refreshes_avoided": (
        "{refresh}",
        "Tokens that another process had taken already.",
    ),
}
_KIND: Final = "flip_async.store.kind"

# Objects come and go in their event loops; a reader of metrics looks from a thread of its own.
_guard: Final = threading.Lock()
_watched: Final[weakref.WeakKeyDictionary[Measured, str]] = weakref.WeakKeyDictionary()


def watch(source: Measured, kind: str) -> None:
    """Tell OpenTelemetry of an object for as long as it lives.

    Args:
        source: The object.
        kind: What it is: `tokens`, `inbox`, `outbox` or `commands`.
    """
    if _instruments():
        with _guard:
            _watched[source] = kind


@functools.cache  # once a process, and never searched for again where it is missing
def _instruments() -> tuple[object, ...]:
    try:
        metrics = importlib.import_module("opentelemetry.metrics")
    except ImportError:
        return ()
    meter = metrics.get_meter("flip_async", __version__)
    return tuple(
        create(name, callbacks=[_callback(metrics, name)], unit=unit, description=description)
        for create, table in (
            (meter.create_observable_gauge, GAUGES),
            (meter.create_observable_counter, COUNTERS),
        )
        for name, (unit, description) in table.items()
    )


def _callback(metrics: Any, name: str) -> Any:  # noqa: ANN401  # the package is there for some only
    def observe(_: object) -> Iterator[object]:
        with _guard:
            sources = list(_watched.items())
        sums: dict[str, float] = {}
        for source, kind in sources:
            value = source.measure().get(name)
            if value is not None:
                # Several of a kind in one process look at the same queue, and do not add up.
                join = sum if name in _ADD_UP else max
                sums[kind] = join((sums.get(kind, 0.0), value))
        for kind, value in sums.items():
            yield metrics.Observation(value, {_KIND: kind})

    return observe


_ADD_UP: Final = frozenset({"flip_async.queue.claimed", *COUNTERS})
