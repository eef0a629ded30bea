"""Requests that an auth makes itself: for tokens, outside the flow of any request."""

from typing import Final

import anyio
import httpx

from flip_async._clock import Clock
from flip_async._secret import Secret
from flip_async._transport._attempt import Attempted, NoAnswer, Send, SendSigned, attempt
from flip_async._transport._pool import open_transport
from flip_async._transport._progress import AS_IT_IS
from flip_async._transport._roads import (
    HttpClient,
    through_client,
    through_transport,
    transport_over,
)

TIMEOUT: Final = httpx.Timeout(10.0, connect=5.0)
LARGEST_TOKEN_ANSWER: Final = 1024 * 1024


async def send_alone(
    request: httpx.Request,
    http_client: HttpClient | None,
    within_s: float,
    clock: Clock,
    *secrets: Secret,
    sign: SendSigned | None = None,
) -> Attempted:
    """Make a request of the auth's own, outside the flow of the request that needs its result.

    Args:
        request: What to send.
        http_client: The client to send it with; `None` opens a connection and closes it
            again, so that nothing is left over when the event loop ends [A15].
        within_s: Time for the whole, as httpx's own timeouts are for each read, in seconds.
        clock: Time.
        *secrets: What the request holds.
        sign: Another credential's way to send it.
    """
    request.extensions.setdefault("timeout", TIMEOUT.as_dict())
    request.extensions[AS_IT_IS] = True
    with anyio.move_on_after(within_s):
        if http_client is not None:
            send = _through(http_client, clock)
            return await attempt(_signed(sign, send), request, *secrets)
        async with await open_transport(request.url) as transport:
            send = through_transport(transport, clock=clock, most=LARGEST_TOKEN_ANSWER)
            return await attempt(_signed(sign, send), request, *secrets)
    return NoAnswer(
        reason=f"no answer within {within_s:.3g} s", may_have_arrived=True, timed_out=True
    )


def _through(client: HttpClient, clock: Clock) -> Send:
    if isinstance(client, httpx.AsyncClient):
        return through_client(client, most=LARGEST_TOKEN_ANSWER)
    return through_transport(transport_over(client), clock=clock, most=LARGEST_TOKEN_ANSWER)


def _signed(sign: SendSigned | None, send: Send) -> Send:
    return send if sign is None else lambda request: sign(request, send)
