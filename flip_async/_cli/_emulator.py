"""`flip emulator`: a local Flip to point an application at."""

import asyncio
import errno
import shlex
from typing import TYPE_CHECKING

from rich.console import Console

from flip_async.errors import FlipError

if TYPE_CHECKING:  # whoever sends telemetry needs no emulator
    from flip_async.emulator import Emulator


def emulator(
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    token_lifetime_s: float = 3600,
    webhook_url: str | None = None,
    dispatch_every_s: float | None = None,
    api_key: str | None = None,
    client_id: str | None = None,
    client_secret: str | None = None,
    webhook_secret: str | None = None,
    seed: int | None = None,
) -> int:
    """Serve a local Flip and print the variables that point an application at it.

    Its credentials are new at each start, unless they are given or there is a seed. Do not give
    it real ones: other users of the machine see the command line.

    Parameters
    ----------
    host
        Address to listen on.
    port
        Port to listen on; 0 for a free one.
    token_lifetime_s
        Life of its access tokens, in seconds.
    webhook_url
        Where to deliver webhooks, such as http://127.0.0.1:8000/webhooks/flip.
    dispatch_every_s
        Approve enrollments and call for power every so many seconds.
    api_key
        The API key that it accepts.
    client_id
        Id of its OAuth client.
    client_secret
        Secret of that client.
    webhook_secret
        What its webhooks are signed with, whsec_...
    seed
        Credentials that are not given, tokens and ids are the same each time.
    """
    from flip_async.emulator import Emulator

    console = Console()
    try:
        flip_local = Emulator(
            host=host,
            port=port,
            token_lifetime_s=token_lifetime_s,
            api_key=api_key,
            client_id=client_id,
            client_secret=client_secret,
            webhook_secret=webhook_secret,
            seed=seed,
        )
        if webhook_url is not None:
            flip_local.register_webhook(webhook_url)
    except FlipError as error:
        Console(stderr=True).print(str(error), style="red", markup=False)
        return 2
    try:
        asyncio.run(_serve(console, flip_local, dispatch_every_s))
    except KeyboardInterrupt:
        console.print("stopped")
    except OSError as error:
        reason = "is taken: try --port 0" if error.errno == errno.EADDRINUSE else str(error)
        Console(stderr=True).print(f"cannot listen on {host}:{port}: {reason}", style="red")
        return 1
    return 0


async def _serve(console: Console, flip_local: "Emulator", dispatch_every_s: float | None) -> None:
    async with flip_local:
        console.print(f"a local Flip listens on {flip_local.api_url}; Ctrl-C stops it\n")
        for name, value in flip_local.variables().items():
            line = f"export {name}={shlex.quote(value)}"
            console.print(line, soft_wrap=True, highlight=False, markup=False)
        if dispatch_every_s is not None:
            await _dispatch_for_ever(console, flip_local, dispatch_every_s)
        await asyncio.Event().wait()


async def _dispatch_for_ever(console: Console, flip_local: "Emulator", every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        flip_local.review_enrollments()
        event_ids = flip_local.dispatch()
        if event_ids:
            console.print(f"dispatched {len(event_ids)} events", highlight=False)
