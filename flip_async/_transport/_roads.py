"""How a request leaves: through a transport of the user's, or an httpx client of his."""

from typing import Final

import httpx

from flip_async._clock import Clock
from flip_async._transport._attempt import HttpClientClosedError, Send
from flip_async._transport._progress import EXTENSION, Progress
from flip_async._transport._reading import (
    LARGEST_ANSWER,
    as_it_came,
    close_quietly,
    is_read,
    read_whole,
    take_over,
)


def through_transport(
    transport: httpx.AsyncBaseTransport, *, clock: Clock, most: int = LARGEST_ANSWER
) -> Send:
    """Send straight through a transport, with no client around it [E2]."""

    async def send(request: httpx.Request) -> httpx.Response:
        began_s = clock.monotonic()
        progress = leaving(request)
        response = await transport.handle_async_request(request)
        response.request = request
        try:
            await read_whole(response, most=most, took_s=clock.monotonic() - began_s)
        except BaseException:
            await close_quietly(response)
            raise
        arrived(response, progress)
        return response

    return send


def through_client(http: httpx.AsyncClient, *, most: int = LARGEST_ANSWER) -> Send:
    """Send through a client of the user's, hooks and all; its `auth` does not count."""

    async def send(request: httpx.Request) -> httpx.Response:
        progress = leaving(request)
        response = await _send_by(http, request)
        try:
            await read_whole(response, most=most)
        except BaseException:
            await close_quietly(response)
            raise
        arrived(response, progress)
        return response

    return send


async def _send_by(http: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    try:
        return await http.send(request, auth=None, follow_redirects=False, stream=True)
    except httpx.HTTPStatusError as error:
        answer = error.response  # a hook's `raise_for_status()`: the answer is ours to judge
    except RuntimeError:
        if not http.is_closed:
            raise
        raise HttpClientClosedError from None
    if not is_read(answer):  # httpx closed it, and its body is gone
        take_over(answer, as_it_came(answer, b""))
    return answer


def leaving(request: httpx.Request) -> Progress | None:
    """It goes to a transport now."""
    progress: Progress | None = request.extensions.get(EXTENSION)
    if progress is not None:
        progress.leaves()
    return progress


def arrived(response: httpx.Response, progress: Progress | None) -> None:
    """An answer is there: one that was refused was not carried out."""
    if progress is not None and response.status_code == _REFUSED:
        progress.waits()


_REFUSED: Final = 401
