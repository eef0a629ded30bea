"""A server for benchmarks, in a process of its own: nothing but the bytes of an answer.

python -m tests.benchmarks._server 0.02
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]"


async def serve(takes_s: float) -> None:
    """Answer everything with an empty list after so many seconds; tell the port first."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                if takes_s:
                    await asyncio.sleep(takes_s)
                writer.write(ANSWER)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with asyncio.timeout(600):
        await server.serve_forever()


@contextlib.contextmanager
def serving(takes_s: float = 0.0) -> Iterator[str]:
    """Such a server's origin, as long as this lasts."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks._server", str(takes_s)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
