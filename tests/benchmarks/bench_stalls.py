"""The longest time that each kind of work keeps everything else in its event loop waiting.

Each in a process of its own, medians of nine; a probe asks beside it, with the garbage collector on.
"""

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import httpx

from flip_async import Environment, FlipClient
from tests.benchmarks._compare import tell
from tests.benchmarks._server import serving
from tests.benchmarks._stall import longest_stall

RUNS = 9
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def _flip(origin: str, **options: object) -> FlipClient:
    here = Environment(name="bench", api_url=origin, oauth_url=origin)
    return FlipClient(environment=here, api_key="fl_your_api_key", **options)  # type: ignore[arg-type]


async def nothing(origin: str) -> None:
    await asyncio.sleep(0.05)


async def httpx_client(origin: str) -> None:
    async with httpx.AsyncClient(base_url=origin) as http:
        await http.get("/v1/commands")


async def first_call(origin: str) -> None:
    async with _flip(origin) as flip:
        await flip.commands.list()


async def first_tls_context(origin: str) -> None:
    nobody = "https://127.0.0.1:9"
    async with _flip(nobody) as flip:
        with contextlib.suppress(Exception):
            await flip.request("GET", "/v1/sites", deadline_s=2)


async def hundred_first_calls(origin: str) -> None:
    async with _flip(origin) as flip:
        await asyncio.gather(*(flip.commands.list() for _ in range(100)))


async def a_batch(origin: str) -> None:
    from tests.benchmarks.bench_codec import POINTS

    async with _flip(origin) as flip:
        await flip.telemetry.send(POINTS[:1])
        async with longest_stall() as found:
            await flip.telemetry.send(POINTS)
        MEASURED.append(found[0])


async def a_webhook(origin: str) -> None:
    from flip_async.webhooks import sign, verify
    from tests.support.webhooks import body_of, example

    body = body_of("command.created", example("command.created")["event_object"])
    headers = sign(body, SECRET, webhook_id="msg_1", timestamp=datetime.now(UTC))
    async with longest_stall() as found:
        verify(body, headers, SECRET)
    MEASURED.append(found[0])


MEASURED: list[float] = []
"""Where a kind of work has measured itself, since it has to prepare something."""

KINDS: dict[str, Callable[[str], Awaitable[None]]] = {
    "nothing (what the machine does)": nothing,
    "httpx: a client and its first call": httpx_client,
    "a client and its first call": first_call,
    "a client and 100 first calls at once": hundred_first_calls,
    "the first TLS connection": first_tls_context,
    "a batch of 1,000 points": a_batch,
    "the first webhook": a_webhook,
}


async def measure(name: str, origin: str) -> float:
    async with longest_stall() as found:
        await KINDS[name](origin)
    return MEASURED[-1] if MEASURED else found[0]


def main() -> None:
    longest: dict[str, list[float]] = {name: [] for name in KINDS}
    with serving() as url:
        for _ in range(RUNS):
            for name, values in longest.items():
                # As an installed package has it: compiled once.
                environ = dict(os.environ)
                environ.pop("PYTHONDONTWRITEBYTECODE", None)
                done = subprocess.run(
                    [sys.executable, "-m", "tests.benchmarks.bench_stalls", name, url],
                    capture_output=True, text=True, check=True, env=environ,
                )  # fmt: skip
                values.append(json.loads(done.stdout))
    medians = {name: statistics.median(values) for name, values in longest.items()}
    tell("The longest stall of the event loop", medians, unit="ms")


if __name__ == "__main__":
    match sys.argv[1:]:
        case [name, url]:
            print(json.dumps(asyncio.run(measure(name, url))))
        case _:
            main()
