"""How a request leaves: through a transport of the user's, or an httpx client of his."""

import sys
import weakref
from datetime import timedelta
from typing import Any, Final, Protocol

import httpx

from flip_async._aio._per_loop import PerLoop
from flip_async._checks import check_kind_or_none
from flip_async._clock import Clock
from flip_async._transport._attempt import HttpClientClosedError, Send
from flip_async._transport._progress import EXTENSION, Progress
from flip_async._transport._reading import (
    LARGEST_ANSWER,
    as_it_came,
    is_read,
    read_whole,
)
from flip_async._transport._slots import Slots

_UNBOUNDED: Final = 10_000


class Httpx2Client(Protocol):
    """What a type checker asks of an `httpx2.AsyncClient`, whether or not that is installed."""

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        ...

    @property
    def trust_env(self) -> bool:
        """Whether the environment counts."""
        ...

    async def aclose(self) -> None:
        """Close it."""


HttpClient = httpx.AsyncClient | Httpx2Client
"""What may be given as `http_client=`."""


def check_http_client(client: object) -> None:
    """Refuse what is no `httpx.AsyncClient` and no `httpx2.AsyncClient`; `None` passes."""
    kind: type = httpx.AsyncClient
    httpx2 = sys.modules.get("httpx2")  # who has one of its clients has imported it
    if httpx2 is not None and isinstance(client, httpx2.AsyncClient | httpx2.Client):
        kind = httpx2.AsyncClient
    check_kind_or_none(client, kind, field="http_client")


def transport_over(client: Httpx2Client) -> httpx.AsyncBaseTransport:
    """An httpx transport over a client of httpx2's."""
    from flip_async._transport._httpx2 import Httpx2Transport

    return Httpx2Transport(client)  # type: ignore[arg-type]  # check_http_client() saw to it


def through_transport(
    transport: httpx.AsyncBaseTransport, *, clock: Clock, most: int = LARGEST_ANSWER
) -> Send:
    """Send straight through a transport, with no client around it [E2]."""

    async def send(request: httpx.Request) -> httpx.Response:
        began_s = clock.monotonic()
        progress = leaving(request)
        streaming = await transport.handle_async_request(request)
        streaming.request = request
        response = await read_whole(streaming, most=most)
        response.elapsed = timedelta(seconds=clock.monotonic() - began_s)
        arrived(response, progress)
        return response

    return send


def through_client(http: httpx.AsyncClient, *, most: int = LARGEST_ANSWER) -> Send:
    """Send through a client of the user's, hooks and all; its `auth` does not count."""

    async def send(request: httpx.Request) -> httpx.Response:
        slots = slots_of(http, request)
        if slots is not None:
            await slots.take(request)
        try:
            progress = leaving(request)
            response = await read_whole(await _send_by(http, request), most=most)
        finally:
            if slots is not None:
                slots.give_back()
        arrived(response, progress)
        return response

    return send


_slots: Final[weakref.WeakKeyDictionary[object, PerLoop[Slots] | None]] = (
    weakref.WeakKeyDictionary()
)


def slots_of(http: Any, request: httpx.Request) -> Slots | None:  # noqa: ANN401  # either kind
    """As many places as the pool of a user's client has connections, shared by all who use it.

    A request that is cancelled while it waits within httpcore's pool can lose a connection for
    good, by a scope too, where another is cancelled two turns before. So none of ours waits
    there. How large the pool is only private names tell: where they change, or the transport is
    another one, there are no places, as before.
    """
    try:
        transport = http._transport_for_url(request.url)
        if transport not in _slots:
            _slots[transport] = _places_of(getattr(transport, "_pool", None))
    except (AttributeError, TypeError):
        return None
    slots = _slots[transport]
    return None if slots is None else slots.get()


def _places_of(pool: object) -> PerLoop[Slots] | None:
    size: object = getattr(pool, "_max_connections", None)
    if not isinstance(size, int) or not 0 < size < _UNBOUNDED or getattr(pool, "_http2", False):
        return None
    number = size
    return PerLoop(lambda: Slots(number))


async def _send_by(http: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    try:
        return await http.send(request, auth=None, follow_redirects=False, stream=True)
    except httpx.HTTPStatusError as error:
        answer = error.response  # a hook's `raise_for_status()`: the answer is ours to judge
    except RuntimeError:
        if not http.is_closed:
            raise
        raise HttpClientClosedError from None
    # Where nobody had read it, httpx closed it, and its body is gone.
    return answer if is_read(answer) else as_it_came(answer, b"")


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
