"""The road to a host: proxy, certificates, and whether anybody answers at its end."""

import asyncio
import importlib.util
import os
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import httpx

from flip_async import Environment
from flip_async._cli._checkup import Finding, failed, fine, warning

_PORTS: Final = {"http": 80, "https": 443}
_PROXY_SCHEMES: Final = ("http", "https", "socks5", "socks5h")
_CERTIFICATE_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@attrs.frozen
class Road:
    """How a host is reached.

    Attributes:
        name: What the host is for.
        url: Its origin.
        variable: What names the proxy, if there is one.
        proxy: The proxy; `None` where there is none, or where it cannot be one.
    """

    name: str
    url: httpx.URL
    variable: str | None = None
    proxy: httpx.URL | None = None

    @property
    def is_tls(self) -> bool:
        """Whether certificates matter."""
        return self.url.scheme == "https"

    @property
    def end(self) -> str:
        """The host and its port."""
        return _address(self.url)


def _address(url: httpx.URL) -> str:
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{host}:{url.port or _PORTS.get(url.scheme, 1080)}"


def roads_to(place: Environment, *, with_tokens: bool) -> list[Road]:
    """The roads to the API, and to the token host, where it is asked and is another one."""
    roads = [_road("API", place.api_url)]
    if with_tokens and place.oauth_url != place.api_url:
        roads.append(_road("token host", place.oauth_url))
    return roads


def _road(name: str, origin: str) -> Road:
    url = httpx.URL(origin)
    if _is_loopback(url.host) or urllib.request.proxy_bypass(url.host):
        return Road(name, url)
    proxies = urllib.request.getproxies()
    kind = url.scheme if proxies.get(url.scheme) else "all"
    text = proxies.get(kind)
    if not text:
        return Road(name, url)
    try:
        proxy = httpx.URL(text if "://" in text else f"http://{text}")
        usable = proxy.scheme in _PROXY_SCHEMES and bool(proxy.host)
    except httpx.InvalidURL:
        return Road(name, url, _variable_named(kind))
    return Road(name, url, _variable_named(kind), proxy if usable else None)


def _is_loopback(host: str) -> bool:
    return host in {"127.0.0.1", "::1", "localhost"} or host.endswith(".localhost")


def _variable_named(kind: str) -> str:
    names = (f"{kind}_proxy", f"{kind}_PROXY".upper())
    return next((name for name in names if os.environ.get(name)), f"the system's {kind} proxy")


def proxies(roads: list[Road]) -> Iterator[Finding]:
    """Which proxy is used; not what its user and password are."""
    for road in roads:
        if road.variable is not None and road.proxy is None:
            advice = "set it to an http://, https:// or socks5:// URL, or unset it"
            yield failed("proxy", f"{road.variable} cannot be used as a proxy", advice)
            return
        if road.proxy is not None and _lacks_socks(road.proxy):
            advice = "pip install 'httpx[socks]'"
            yield failed("proxy", f"{road.variable} is SOCKS, which needs socksio", advice)
            return
    used = {f"{_address(road.proxy)} ({road.variable})" for road in roads if road.proxy is not None}
    yield fine("proxy", " and ".join(sorted(used)) or "none")


def _lacks_socks(proxy: httpx.URL) -> bool:
    return proxy.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None


def certificates(roads: list[Road]) -> tuple[Finding, ssl.SSLContext | None]:
    """Which certificates are trusted, and whether they can be read."""
    name = next((name for name in _CERTIFICATE_VARIABLES if os.environ.get(name)), None)
    source = "those of certifi" if name is None else f"{os.environ[name]} ({name})"
    try:
        if name == "SSL_CERT_DIR" and not Path(os.environ[name]).is_dir():
            raise NotADirectoryError("no such folder")
        tls = httpx.create_ssl_context()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
        blamed = name or ("SSLKEYLOGFILE" if os.environ.get("SSLKEYLOGFILE") else "certifi")
        problem = f"{blamed} cannot be used ({type(error).__name__}: {reason})"
        advice = f"let {blamed} name a file of certificates in PEM form, or unset it"
        if any(road.is_tls for road in roads):
            return failed("certificates", problem, advice), None
        told = f"{problem}; it is not needed for http://"
        return warning("certificates", told, advice), None
    return fine("certificates", source), tls


async def reach(road: Road, tls: ssl.SSLContext | None, timeout_s: float) -> Finding:
    """Connect to a host, or to the proxy on the way there."""
    target = road.url if road.proxy is None else road.proxy
    address = _address(target)
    host, port = target.host, int(address.rpartition(":")[2])
    to = f"the {road.name}, {address}" if road.proxy is None else f"the proxy {address}"
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(
                host, port, ssl=tls if target.scheme == "https" else None
            )
    except ssl.SSLCertVerificationError as error:
        reason = f"{to} is reached, and its certificate is not trusted ({error.verify_message})"
        return failed("network", reason, _TRUST)
    except ssl.SSLError as error:
        return failed("network", f"{to} is reached, and speaks no TLS ({error.reason})", _NO_TLS)
    except socket.gaierror:
        return failed("network", f"{to}: the name {host} is not known", _DNS)
    except TimeoutError:
        return failed("network", f"{to} does not answer within {timeout_s:g} s", _FIREWALL)
    except ConnectionRefusedError:
        return failed("network", f"{to} refuses connections", _refused(road))
    except OSError as error:
        return failed("network", f"{to}: {error.strerror or error}", _FIREWALL)
    writer.transport.abort()
    return fine("network", f"{to} is reached" + ("" if road.proxy is None else f", for {road.end}"))


_TRUST: Final = (
    "let SSL_CERT_FILE name a file with the certificate of your company's proxy or CA in it"
)
_NO_TLS: Final = "is it http:// in place of https://, or a captive portal?"
_DNS: Final = "look at the network, at DNS and at the spelling; a company may need HTTPS_PROXY"
_FIREWALL: Final = "look at the network and its firewall; a company may need HTTPS_PROXY"


def _refused(road: Road) -> str:
    if road.proxy is not None:
        return f"correct or unset {road.variable}"
    if _is_loopback(road.url.host):
        return "start the local Flip (`flip emulator`), or correct FLIP_API_URL and FLIP_OAUTH_URL"
    return _FIREWALL
