"""What a program pays before its first answer: imports, a client, the first call.

Each is a process of its own, since Python loads a module once; medians of CPU.
"""

import json
import os
import statistics
import subprocess
import sys

from tests.benchmarks._compare import tell
from tests.benchmarks._server import serving

RUNS = 9
LOADED = "import asyncio, httpx, httpcore, anyio, anyio._backends._asyncio"
IMPORTS = {
    "import httpx": ("", "import httpx"),
    "import httpx, and what a first request loads": ("", LOADED),
    "import attrs, msgspec": (LOADED, "import attrs, msgspec"),
    "import flip_async, beyond httpx": (LOADED, "import flip_async"),
    "from flip_async import SandboxClient, and its models": (
        LOADED,
        "from flip_async import SandboxClient, models; models.Command; models.TelemetryPoint",
    ),
    "import flip_async.aiohttp, beyond that": (
        f"{LOADED}; import flip_async",
        "import flip_async.aiohttp",
    ),
    "import flip_async.httpx2, beyond that": (
        f"{LOADED}; import flip_async",
        "import flip_async.httpx2",
    ),
}
FIRST = """
import asyncio, json, sys, time
import httpx
from flip_async import Environment, FlipClient
origin = sys.argv[1]
here = Environment(name="bench", api_url=origin, oauth_url=origin)

async def ours():
    async with FlipClient(environment=here, api_key="fl_your_api_key") as flip:
        await flip.commands.list()

async def by_hand():
    async with httpx.AsyncClient(base_url=origin) as http:
        (await http.get("/v1/commands")).json()

async def main():
    began = time.process_time()
    await {"ours": ours, "by hand": by_hand}[sys.argv[2]]()
    print(json.dumps((time.process_time() - began) * 1e3))

asyncio.run(main())
"""


def run(code: str, *arguments: str) -> float:
    # As an installed package has it: compiled once.
    environ = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, check=True, env=environ,
    )  # fmt: skip
    value: float = json.loads(done.stdout)
    return value


def imported(before: str, statement: str) -> float:
    return run(
        f"import json, time; {before or 'pass'}; began = time.process_time(); {statement}; "
        "print(json.dumps((time.process_time() - began) * 1e3))"
    )


def main() -> None:
    took: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(RUNS):
        for name, (before, statement) in IMPORTS.items():
            took[name].append(imported(before, statement))
    tell("Imports", {name: statistics.median(all_) for name, all_ in took.items()}, unit="ms")
    first: dict[str, list[float]] = {"by hand": [], "ours": []}
    with serving() as url:
        for _ in range(RUNS):
            for name, all_ in first.items():
                all_.append(run(FIRST, url, name))
    names = {"by hand": "httpx: client and first call", "ours": "flip_async: client and first call"}
    tell(
        "A client and its first call, when all is imported",
        {names[name]: statistics.median(all_) for name, all_ in first.items()},
        unit="ms",
    )


if __name__ == "__main__":
    main()
