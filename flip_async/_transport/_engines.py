"""What engines share: their arguments, and which transports of others are refused."""

import ssl
from typing import Final

import httpx

from flip_async._checks import check_kind_or_none, refuse
from flip_async._transport._pool import read_proxy
from flip_async.errors import ConfigurationError

_NOT_SAFE: Final = (
    "httpx-aiohttp is not safe under a client that repeats requests: it calls a connection that "
    "was cut after sending a ConnectTimeout, which means that nothing was sent, so that a POST "
    "would be carried out several times; use flip_async.aiohttp.AiohttpTransport() instead"
)


def check_verify(verify: object) -> None:
    """Refuse what is no TLS context.

    Raises:
        InvalidArgumentError: It is neither that nor `None`.
    """
    check_kind_or_none(verify, ssl.SSLContext, field="verify")


def check_proxy(proxy: object, *, why_no_socks: str | None = None) -> httpx.Proxy | None:
    """A proxy that was given, as httpx has it.

    Args:
        proxy: What was given; `None` passes.
        why_no_socks: Why a proxy for SOCKS cannot be used, if it cannot.

    Raises:
        ConfigurationError: It cannot be used; what is in it is not shown.
        InvalidArgumentError: It is no proxy and no text.
    """
    if proxy is None:
        return None
    if not isinstance(proxy, str | httpx.Proxy):
        refuse("proxy", "a str or an httpx.Proxy", proxy)
    found = read_proxy(proxy, why_no_socks)
    if isinstance(found, str):
        raise ConfigurationError(f"proxy= cannot be used as a proxy: {found}")
    return found


def refuse_unsafe(*given: object) -> None:
    """Refuse a transport whose errors say that nothing was sent where something was [E4].

    Args:
        *given: Transports, or clients with one in them.

    Raises:
        ConfigurationError: One of them is of httpx-aiohttp.
    """
    if any(_is_unsafe(inner) for outer in given for inner in (outer, *_transports_of(outer))):
        raise ConfigurationError(_NOT_SAFE)


def _transports_of(http: object) -> list[object]:
    """The transports of a client, as far as private names tell them."""
    if not isinstance(http, httpx.AsyncClient):
        return []
    mounts = getattr(http, "_mounts", None)
    return [getattr(http, "_transport", None), *(mounts.values() if mounts else ())]


def _is_unsafe(thing: object) -> bool:
    return any(kind.__module__.partition(".")[0] == "httpx_aiohttp" for kind in type(thing).__mro__)
