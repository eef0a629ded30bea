"""The clients of the OEM API."""

from functools import cached_property
from typing import TYPE_CHECKING

import attrs

from flip_async._checks import path_segment
from flip_async._clients._base import BaseClient
from flip_async._environment import PRODUCTION, SANDBOX

if TYPE_CHECKING:
    from flip_async._resources.commands import Commands
    from flip_async._resources.programs import Programs
    from flip_async._resources.sessions import Sessions
    from flip_async._resources.settings import DeviceSettings
    from flip_async._resources.site import SiteView
    from flip_async._resources.site_tokens import SiteTokens
    from flip_async._resources.sites import Sites
    from flip_async._resources.supplements import Supplements
    from flip_async._resources.telemetry import Telemetry


class FlipClient(BaseClient):
    """Talks to the Flip OEM API of any environment.

    Use it as a context manager::

        async with SandboxClient() as flip:
            async for site in flip.sites.list():
                print(site.id)

    The credential is an argument, or comes from the environment: `FLIP_API_KEY`, or
    `FLIP_CLIENT_ID` and `FLIP_CLIENT_SECRET`. Leave its `async with`, or call
    `aclose()`, when you are done. One client may serve event loops one after the other, and
    one in each of several threads: connections belong to a loop and a process, it does not.

    Args:
        environment: Where Flip is. Without it, `FLIP_ENVIRONMENT` says `production` or
            `sandbox`, or `FLIP_API_URL` and `FLIP_OAUTH_URL` point at an emulator.
        api_key: An API key (`fl_…`), or a callable that reads it from a secrets manager.
        client_id: An OAuth client's id, with `client_secret`.
        client_secret: Its secret, or a callable that reads it from a secrets manager.
        auth: Any `httpx.Auth` instead; it is not closed.
        scope: OAuth scopes, as a list or separated by spaces: as few as you need. Where the
            credential comes from the environment, `FLIP_SCOPE`.
        timeout: For each attempt, as in httpx: seconds, an `httpx.Timeout`, or `None`.
        deadline_s: Over all attempts of a call, the wait for a token included, in seconds;
            `None` for no end.
        retries: How often, how long and after what a request is sent again.
        http_client: Your own `httpx.AsyncClient` or `httpx2.AsyncClient`; it is not closed.
            Its headers, params and cookies count, its `base_url` and `auth` do not. Token
            requests go through it too.
        transport: Your own transport; token requests go through it too.
        token_store: Shares OAuth tokens, and those of sites, with other clients or processes.
        on_retry: Called with a `RetryEvent` before an attempt is made again; may be async, and
            then nobody waits for it.
        max_response_bytes: How large an answer may be, in bytes, as it comes and decoded; a larger
            one is cut off with a `DecodeError`.
        clock: Time and luck, for tests.

    Raises:
        ConfigurationError: What was given, or found, cannot work; names the way out.
        InvalidArgumentError: An argument cannot be what it is.
    """

    # Namespaces: each loads its file and its models when it is first touched.

    @cached_property
    def sites(self) -> "Sites":
        """All sites of the organisation, and new ones."""
        from flip_async._resources.sites import Sites

        return Sites(self._session)

    @cached_property
    def site_tokens(self) -> "SiteTokens":
        """Tokens for one site each, to hand to a mobile app."""
        from flip_async._resources.site_tokens import SiteTokens

        return SiteTokens(self._session)

    @cached_property
    def sessions(self) -> "Sessions":
        """Sessions of the white-label portal."""
        from flip_async._resources.sessions import Sessions

        return Sessions(self._session)

    @cached_property
    def commands(self) -> "Commands":
        """What devices shall do."""
        from flip_async._resources.commands import Commands

        return Commands(self._session)

    @cached_property
    def programs(self) -> "Programs":
        """Programs for any site."""
        from flip_async._resources.programs import Programs

        return Programs(self._session)

    @cached_property
    def settings(self) -> "DeviceSettings":
        """Settings that devices shall apply; experimental."""
        from flip_async._resources.settings import DeviceSettings

        return DeviceSettings(self._session)

    @cached_property
    def supplements(self) -> "Supplements":
        """Supplements; experimental."""
        from flip_async._resources.supplements import Supplements

        return Supplements(self._session)

    @cached_property
    def telemetry(self) -> "Telemetry":
        """What devices measure."""
        from flip_async._resources.telemetry import Telemetry

        return Telemetry(self._session)

    def site(self, site_id: str) -> "SiteView":
        """One site, with its own token; asking for the same site again costs nothing.

        Args:
            site_id: Your id of the site.

        Returns:
            A view on this client's connections.

        Raises:
            InvalidArgumentError: The id is empty, `.`, `..` or no str.
        """
        from flip_async._resources.site import SiteView

        path_segment(site_id, "site_id")
        session = self._session
        site_auth = session.runtime.site_auths.get(site_id, session.auth, session.token_store)
        return SiteView(attrs.evolve(session, site_auth=site_auth), site_id)


class ProductionClient(FlipClient):
    """A `FlipClient` for production, `https://api.flip.energy`; it takes the same arguments.

    It refuses to start while `FLIP_API_URL` and `FLIP_OAUTH_URL` are set, so that a
    forgotten variable cannot send production's secret elsewhere.
    """

    _default_environment = PRODUCTION


class SandboxClient(FlipClient):
    """A `FlipClient` for the sandbox, `https://api-sandbox.flip.energy`, with its arguments.

    `FLIP_API_URL` and `FLIP_OAUTH_URL` point it at an emulator.
    """

    _default_environment = SANDBOX
