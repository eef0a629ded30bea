"""`flip emulator`: a local Flip to point an application at."""

import asyncio
import errno

from rich.console import Console

from flip_async.emulator import Emulator


def emulator(*, host: str = "127.0.0.1", port: int = 8080, token_lifetime_s: float = 3600) -> int:
    """Serve a local Flip and print the variables that point an application at it.

    Parameters
    ----------
    host
        Address to listen on.
    port
        Port to listen on; 0 for a free one.
    token_lifetime_s
        Life of its access tokens, in seconds.
    """
    console = Console()
    try:
        asyncio.run(_serve(console, host, port, token_lifetime_s))
    except KeyboardInterrupt:
        console.print("stopped")
    except OSError as error:
        reason = "is taken: try --port 0" if error.errno == errno.EADDRINUSE else str(error)
        Console(stderr=True).print(f"cannot listen on {host}:{port}: {reason}", style="red")
        return 1
    return 0


async def _serve(console: Console, host: str, port: int, token_lifetime_s: float) -> None:
    async with Emulator(host=host, port=port, token_lifetime_s=token_lifetime_s) as flip_local:
        console.print(f"a local Flip listens on {flip_local.api_url}; Ctrl-C stops it\n")
        for name, value in flip_local.variables().items():
            console.print(f"export {name}={value}", soft_wrap=True, highlight=False)
        await asyncio.Event().wait()
