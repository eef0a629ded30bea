"""The engines that this SDK knows: a new one is one line here [E10]."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

MakeOptions = Callable[..., dict[str, Any]]


def default(**options: Any) -> dict[str, Any]:
    """Connections of httpx's own, in the pool of a client."""
    assert not options, "the default takes none"
    return {}


def engine(package: str, name: str) -> MakeOptions:
    """A transport of ours; loaded here, as an application does it, and not in an event loop."""
    kind: Any = None
    if find_spec(package) is not None:
        kind = getattr(import_module(f"flip_async.{package}"), name)

    def make(**options: Any) -> dict[str, Any]:
        return {"transport": kind(**options)}

    return make


ENGINES: dict[str, MakeOptions] = {
    "httpx": default,
    "aiohttp": engine("aiohttp", "AiohttpTransport"),
    "httpx2": engine("httpx2", "Httpx2Transport"),
}


def of(*names: str) -> list[Any]:
    """Parameters for a test; an engine whose package is not installed says so."""
    return [
        pytest.param(
            ENGINES[name],
            id=name,
            marks=pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed"),
        )
        for name in names
    ]
