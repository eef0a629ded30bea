"""One request of the auth's own, outside the flow of the request that needs its result."""

import asyncio
from typing import Final

import attrs
import httpx

from flip_async._transport._pool import open_transport

TIMEOUT: Final = httpx.Timeout(10.0, connect=5.0)


@attrs.frozen
class Broken:
    """No answer came; `reason` tells why and holds nothing of the request."""

    reason: str


async def exchange(
    request: httpx.Request,
    *,
    http_client: httpx.AsyncClient | None,
    auth: httpx.Auth | None,
    within_s: float,
) -> httpx.Response | Broken:
    """Send a request and read the answer; redirects are not followed.

    Args:
        request: What to send.
        http_client: The client to send it with; `None` opens one and closes it again,
            so that nothing is left over when the event loop ends [A15].
        auth: Credential of the request, where it carries none itself.
        within_s: Time for the whole, as httpx's own timeouts are for each read.

    Returns:
        The answer, or why there is none.
    """
    request.extensions.setdefault("timeout", TIMEOUT.as_dict())
    reason = ""
    try:
        async with asyncio.timeout(within_s):
            if http_client is not None:
                return await http_client.send(request, auth=auth, follow_redirects=False)
            transport = await open_transport(request.url)
            async with httpx.AsyncClient(transport=transport, trust_env=False) as own:
                return await own.send(request, auth=auth, follow_redirects=False)
    except TimeoutError:
        reason = f"no answer within {within_s:g} s"
    except httpx.HTTPError as error:
        # Its text may quote a header, and its `request` carries the form with the secret.
        reason = type(error).__name__
    except httpx.InvalidURL:
        reason = "InvalidURL"
    except RuntimeError as error:
        if http_client is None or not http_client.is_closed:
            raise
        reason = f"the http_client is closed ({type(error).__name__})"
    # Outside the `except` block, so that nothing is chained to what is raised next.
    return Broken(reason)
