"""A server for benchmarks, in a process of its own: nothing but the bytes of an answer.

python -m tests.benchmarks._server 0.02
"""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "data" / "examples"


def answer(body: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def a_command() -> bytes:
    return json.dumps(
        json.loads((EXAMPLES / "read-commands.response.json").read_bytes())[0]
    ).encode()


async def serve(takes_s: float, token_takes_s: float, lifetime_s: float) -> None:
    """Answer a GET with an empty list, a PATCH with a command, a POST with 1,000 results of telemetry.

    Each after so many seconds.

    It tells its port first. At `/token` it gives tokens of so long a life; what carries another
    one than a token that lives is answered 401, unless it is an API key.
    """
    results = answer(json.dumps([{"status": "OK"}] * 1000).encode())
    answers = {b"GET": answer(b"[]"), b"PATCH": answer(a_command()), b"POST": results}
    refused = answer(b'{"code": "UNAUTHORIZED", "message": "no"}', b"401 Unauthorized")
    loop = asyncio.get_running_loop()
    valid: dict[bytes, float] = {}

    async def token() -> bytes:
        await asyncio.sleep(token_takes_s)
        value = b"at_%d" % len(valid)
        valid[value] = loop.time() + lifetime_s
        fields = b'{"access_token": "%s", "token_type": "Bearer", "expires_in": %d}'
        return answer(fields % (value, lifetime_s))

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, target, _ = head.split(b" ", 2)
                lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
                if length := int(lines.get(b"content-length", 0)):
                    await reader.readexactly(length)
                if target == b"/token":
                    writer.write(await token())
                    continue
                if takes_s:
                    await asyncio.sleep(takes_s)
                bearer = lines.get(b"authorization", b"").removeprefix(b"bearer ")
                is_good = not bearer.startswith(b"at_") or valid.get(bearer, 0) > loop.time()
                writer.write(answers[method] if is_good else refused)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with asyncio.timeout(900):
        await server.serve_forever()


@contextlib.contextmanager
def serving(
    takes_s: float = 0.0, *, token_takes_s: float = 0.0, lifetime_s: float = 3600.0
) -> Iterator[str]:
    """Such a server's origin, as long as this lasts."""
    numbers = (str(number) for number in (takes_s, token_takes_s, lifetime_s))
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks._server", *numbers],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    takes, token_takes, lifetime = (float(number) for number in sys.argv[1:])
    asyncio.run(serve(takes, token_takes, lifetime))
