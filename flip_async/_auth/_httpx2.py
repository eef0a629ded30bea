"""Our credentials in a client of httpx2's [E5]."""

from collections.abc import AsyncGenerator, Generator
from typing import Final, cast

import httpx
import httpx2

from flip_async._auth._bearer import BearerAuth
from flip_async._checks import refuse
from flip_async.errors import ConfigurationError


def for_httpx2(auth: httpx.Auth) -> httpx2.Auth:
    """Give a credential of ours to a client of httpx2's.

    For example::

        async with httpx2.AsyncClient(auth=for_httpx2(auth)) as http:
            await http.get("https://api.flip.energy/v1/sites")

    It is the same credential: clients of httpx and of httpx2 share its tokens, and one refresh
    serves both.

    Args:
        auth: An `ApiKeyAuth`, a `ClientCredentialsAuth`, a `SiteTokenAuth`, or the `auth` of a
            client of ours that has one of these.

    Returns:
        What an `httpx2.AsyncClient` takes as `auth=`.

    Raises:
        InvalidArgumentError: It is another auth.
    """
    if not isinstance(auth, BearerAuth):
        refuse("auth", "an ApiKeyAuth, a ClientCredentialsAuth or a SiteTokenAuth", auth)
    return _Httpx2Auth(auth)


class _Httpx2Auth(httpx2.Auth):
    """Hands requests and answers of httpx2's to a flow that uses only what both libraries have."""

    def __init__(self, auth: BearerAuth) -> None:
        self._auth: Final = auth

    def sync_auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response]:
        raise ConfigurationError(
            f"{type(self._auth).__name__} works in an httpx2.AsyncClient only, not in an "
            "httpx2.Client"
        )

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        # The flow is typed for httpx, whose classes these are in all that it touches.
        flow = self._auth.async_auth_flow(cast("httpx.Request", request))
        try:
            await anext(flow)
            while True:
                response = yield request  # the flow changes its headers, and gives it back
                await flow.asend(cast("httpx.Response", response))
        except StopAsyncIteration:
            return
        finally:
            await flow.aclose()

    def __repr__(self) -> str:
        return f"for_httpx2({self._auth!r})"
