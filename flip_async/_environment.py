"""Where Flip is, and which hosts a credential may go to."""

import ipaddress
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

import attrs
import httpx

from flip_async._checks import check_flag, check_text
from flip_async.errors import ConfigurationError

_HOST: Final = re.compile(r"[0-9a-z_](?:[0-9a-z._-]*[0-9a-z_])?\.?|[0-9a-f:.]+", re.ASCII)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Scheme, host and port; what a credential's reach is measured by.

    Source:
        RFC 6454 section 4.
    """

    scheme: str
    host: bytes
    port: int | None

    @classmethod
    def of(cls, url: httpx.URL) -> "Origin":
        # `raw_host` and the normalised port are what httpx keeps: this runs in every request.
        return cls(url.scheme, url.raw_host, url.port)

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host.decode("ascii"))

    def __str__(self) -> str:
        host = self.host.decode("ascii")
        host = f"[{host}]" if ":" in host else host
        return f"{self.scheme}://{host}" + (f":{self.port}" if self.port is not None else "")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def parse_origin(url: str, *, field: str, insecure_http: bool = False) -> Origin:
    """Read an origin (`https://api.flip.energy`).

    Args:
        url: The text; a slash at its end is allowed.
        field: What to call it in an error.
        insecure_http: Allow `http` for hosts other than loopback.

    Returns:
        The origin.

    Raises:
        ConfigurationError: It has a path, a query or a user, is no URL, or is not `https`.
    """
    parsed = parse_endpoint(url, field=field, insecure_http=insecure_http)
    if parsed.path not in ("", "/"):
        raise ConfigurationError(
            f"{field} is an origin, such as https://api.flip.energy: leave out the path"
        )
    return Origin.of(parsed)


def parse_endpoint(url: str, *, field: str, insecure_http: bool = False) -> httpx.URL:
    """Read a URL that a credential will be sent to; as `parse_origin`, but with a path."""
    check_flag(insecure_http, field="insecure_http")
    if not isinstance(url, str):
        raise ConfigurationError(f"{field} is a str, not {type(url).__name__}")
    try:
        parsed = httpx.URL(url)
        host = parsed.host
    except (httpx.InvalidURL, ValueError):
        raise ConfigurationError(f"{field} is not a URL") from None
    if parsed.scheme not in _DEFAULT_PORTS or not host:
        raise ConfigurationError(f"{field} begins with https:// and a host")
    if _HOST.fullmatch(parsed.raw_host.decode("ascii").lower()) is None:
        raise ConfigurationError(f"{field} has a host that cannot be one")
    if parsed.port is not None and not 0 < parsed.port <= 65535:
        raise ConfigurationError(f"{field} has a port that is not between 1 and 65535")
    if parsed.userinfo:
        raise ConfigurationError(f"{field} holds a user or a password: leave them out")
    if parsed.query or parsed.fragment:
        raise ConfigurationError(f"{field} has a query or a fragment: leave them out")
    if parsed.scheme == "http" and not (insecure_http or is_loopback(host)):
        raise ConfigurationError(
            f"{field} is http:// on {host}: a credential goes over https only "
            "(http is for loopback; for an emulator on a private network use "
            "Environment(..., insecure_http=True))"
        )
    return parsed


@attrs.frozen(kw_only=True)
class Environment:
    """A place where Flip runs.

    Attributes:
        name: What to call it.
        api_url: Origin of the OEM API.
        oauth_url: Origin of the OAuth host; `/token` is added.
        utility_url: Origin of the Utility API, if it has one.
        aggregator_url: Origin of the Aggregator API, if it has one.
        insecure_http: Allow `http://` beyond loopback, for an emulator on a private network.

    Raises:
        ConfigurationError: A URL is no origin, or is not `https`.
    """

    name: str
    api_url: str
    oauth_url: str
    utility_url: str | None = None
    aggregator_url: str | None = None
    insecure_http: bool = False

    def __attrs_post_init__(self) -> None:
        check_text(self.name, field="name")
        check_flag(self.insecure_http, field="insecure_http")
        for field in ("api_url", "oauth_url", "utility_url", "aggregator_url"):
            url = getattr(self, field)
            if url is not None:
                origin = parse_origin(url, field=field, insecure_http=self.insecure_http)
                object.__setattr__(self, field, str(origin))

    @property
    def token_url(self) -> str:
        """The token endpoint, which is `oauth_url` with `/token`."""
        return f"{self.oauth_url}/token"


PRODUCTION: Final = Environment(
    name="production",
    api_url="https://api.flip.energy",
    oauth_url="https://oauth.flip.energy",
    utility_url="https://api-utility.flip.energy",
    aggregator_url="https://aggregator-api.flip.energy",
)
SANDBOX: Final = Environment(
    name="sandbox",
    api_url="https://api-sandbox.flip.energy",
    oauth_url="https://oauth.flip.energy",
    utility_url="https://api-utility-sandbox.flip.energy",
    aggregator_url="https://aggregator-api-sandbox.flip.energy",
)


def _api_origins(environments: Iterable[Environment]) -> frozenset[Origin]:
    return frozenset(
        parse_origin(url, field="origin")
        for environment in environments
        for url in (environment.api_url, environment.utility_url, environment.aggregator_url)
        if url is not None
    )


FLIP_API_ORIGINS: Final = _api_origins((PRODUCTION, SANDBOX))
FLIP_OAUTH_ORIGIN: Final = parse_origin(PRODUCTION.oauth_url, field="origin")
