"""A short program that signs in by a token file: python -m tests.support.file_token_worker PATH"""

import asyncio
import sys

from flip_async import FileTokenStore, SandboxClient


async def main(path: str) -> None:
    async with SandboxClient(token_store=FileTokenStore(path)) as flip:
        print("starting", flush=True)
        await flip.sites.list()
    print("done", flush=True)


asyncio.run(main(sys.argv[1]))
