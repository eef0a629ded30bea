"""Where the CPU of a typed call goes, layer by layer, beside the same call by hand with httpx.

Each row is a way through one layer more than the row before, over a real connection to a server
in a process of its own; all ways take turns in one process. A layer's part is the median over the
rounds of what it takes more than the way before, in the same round. Then the own time of each
package in a typed call, by cProfile: it counts Python's calls for more than they are, so that it
shows proportions only.

python -m tests.benchmarks.bench_profile [--rounds 100]
"""

import argparse
import asyncio
import cProfile
import gc
import pstats
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import httpx

from flip_async import Environment, FlipClient
from flip_async._http._sending import Sending
from flip_async._resources.commands import LIST
from tests.benchmarks._compare import show, tell
from tests.benchmarks._server import serving

KEY = "fl_your_api_key"
CALLS = 40
PROFILED = 2000
BY_HAND = "httpx by hand: get, json"
PACKAGES = (
    "flip_async",
    "httpx",
    "httpcore",
    "h11",
    "anyio",
    "sniffio",
    "opentelemetry",
    "asyncio",
)

Way = Callable[[], Awaitable[object]]
Ways = Mapping[str, Way]


def ways_of(flip: FlipClient, traced: FlipClient, http: httpx.AsyncClient, url: str) -> Ways:
    """By hand, and then each way with one layer more."""
    session = flip._session
    runtime = session.runtime
    call = session._build(LIST, (), None, None, {})
    transport = httpx.AsyncHTTPTransport()

    async def by_hand() -> object:
        return (await http.get(LIST.path)).json()

    async def transport_alone() -> object:
        response = await transport.handle_async_request(call.request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        body = b"".join([part async for part in response.stream])
        await response.aclose()
        return body

    ways: dict[str, Way] = {
        BY_HAND: by_hand,
        "transport alone: httpx, httpcore, h11, anyio": transport_alone,
        "our pool: slot, connection, body": lambda: runtime.outlet.send(call.request),
        "signing": lambda: flip.auth.send_signed(call.request, runtime.outlet.send),
        "attempts, deadline": lambda: Sending(call, runtime, session.retries).until(60.0),
        "building the request": lambda: session._exchange(LIST, (), None, None, {}),
        "reading the answer": lambda: session.call(LIST),
        "list": lambda: flip.commands.list().collect(),
    }
    if traced._session.runtime.tracing is not None:
        ways["OpenTelemetry's API, no SDK"] = lambda: traced.commands.list().collect()
    return ways


async def rounds_of(ways: Ways, rounds: int) -> dict[str, list[float]]:
    """CPU of a call in µs, of each way in each round."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        gc.collect()
        gc.disable()
        for name, way in ways.items():
            began = time.process_time()
            for _ in range(CALLS):
                await way()
            if number:  # the first opens connections
                took[name].append((time.process_time() - began) / CALLS * 1e6)
        gc.enable()
    return took


def parts_of(took: Mapping[str, list[float]]) -> dict[str, float]:
    """What each layer takes more than the one before, in µs."""
    parts: dict[str, float] = {}
    before = [0.0] * len(took[BY_HAND])
    for name, values in took.items():
        if name != BY_HAND:
            steps = [value - last for value, last in zip(values, before, strict=True)]
            parts[name] = statistics.median(steps)
            before = values
    return parts


async def own_times(way: Way) -> Counter[str]:
    """Own time of each package, where a call into C is its caller's."""
    for _ in range(100):
        await way()
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(PROFILED):
        await way()
    profile.disable()
    own: Counter[str] = Counter()
    # The stubs know nothing of what it is all about.
    entries = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    for (file, _, name), (_, _, own_s, _, callers) in entries.items():
        if file != "~":
            own[package_of(file)] += own_s
        elif "poll" in name or "send' of '_socket" in name or "recv" in name:
            own["the kernel: send, receive, wait"] += own_s
        else:
            for (caller, _, _), (_, _, from_there_s, _) in callers.items():
                own[package_of(caller)] += from_there_s
    return own


def package_of(file: str) -> str:
    found = [name for name in PACKAGES if f"/{name}/" in file]
    return found[-1] if found else "the rest of Python"


def report(took: Mapping[str, list[float]], parts: Mapping[str, float], own: Counter[str]) -> None:
    by_hand = statistics.median(took[BY_HAND])
    adds = {BY_HAND: by_hand, **parts}
    show("What each layer of a typed call adds", adds, base=BY_HAND)
    so_far = {
        name: statistics.median(
            value / base for value, base in zip(values, took[BY_HAND], strict=True)
        )
        for name, values in took.items()
    }
    tell("A call up to each layer ÷ by hand", so_far, unit="")
    whole = sum(own.values())
    shares = {name: seconds / whole * 100 for name, seconds in own.most_common()}
    tell("Own time in a typed call, by cProfile", shares, unit="%")


async def main(url: str, rounds: int) -> None:
    environment = Environment(name="bench", api_url=url, oauth_url=url)
    headers = {"Authorization": f"Bearer {KEY}"}
    async with (
        FlipClient(environment=environment, api_key=KEY) as flip,
        FlipClient(environment=environment, api_key=KEY) as traced,
        httpx.AsyncClient(base_url=url, headers=headers) as http,
    ):
        for client in (flip, traced):
            await client._session.runtime.get_ready()
        flip._session.runtime.tracing = None  # as where there is no OpenTelemetry
        ways = ways_of(flip, traced, http, url)
        took = await rounds_of(ways, rounds)
        parts = parts_of(took)
        own = await own_times(ways["list"])
    report(took, parts, own)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Where the CPU of a typed call goes.")
    parser.add_argument("--rounds", type=int, default=100)
    with serving() as origin:
        asyncio.run(main(origin, parser.parse_args().rounds))
