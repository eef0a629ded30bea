"""How long requests take while a token is replaced: ours beside a client that fetches when it must.

20 callers, a token endpoint that takes half a second, tokens that live for three. The other client
does what most code by hand does: it looks whether the token has expired, and fetches under a lock.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx

from flip_async import Environment, FlipClient
from tests.benchmarks._compare import record, tell
from tests.benchmarks._server import serving

LASTS_S = 12.0
LIFETIME_S = 3.0
TOKEN_TAKES_S = 0.5
CALLERS = 20
PATH = "/v1/commands"


class ByHand:
    """Fetches a token when there is none that lives."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._lock = asyncio.Lock()
        self._value, self._ends_at = "", 0.0

    async def get(self) -> object:
        async with self._lock:
            if time.monotonic() > self._ends_at - 0.2:
                answer = (await self._http.post("/token", data={"client_id": "id"})).json()
                self._value = answer["access_token"]
                self._ends_at = time.monotonic() + answer["expires_in"]
        headers = {"Authorization": f"Bearer {self._value}"}
        answer = await self._http.get(PATH, headers=headers)
        answer.raise_for_status()
        return answer.json()


async def watch(call: Callable[[], Awaitable[object]]) -> list[tuple[float, float]]:
    """Begin and length of each request, in seconds and milliseconds."""
    seen: list[tuple[float, float]] = []
    await call()
    start = time.perf_counter()

    async def caller() -> None:
        while (began := time.perf_counter()) < start + LASTS_S:
            await call()
            seen.append((began - start, (time.perf_counter() - began) * 1e3))
            await asyncio.sleep(0.02)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return sorted(seen)


async def measure(url: str) -> None:
    here = Environment(name="bench", api_url=url, oauth_url=url)
    async with (
        httpx.AsyncClient(base_url=url, timeout=30) as http,
        FlipClient(environment=here, client_id="id", client_secret="secret") as flip,
    ):
        by_hand = await watch(ByHand(http).get)
        ours = await watch(lambda: flip.commands.list())
    for name, seen in (("by hand", by_hand), ("flip_async", ours)):
        delays = sorted(delay for _, delay in seen)
        values = {
            "p50": delays[len(delays) // 2],
            "p99": delays[len(delays) * 99 // 100],
            "longest": delays[-1],
        }
        tell(f"Requests while tokens are replaced, {name} ({len(delays)})", values, unit="ms")
        # For the plot: the longest of each tenth of a second.
        longest: dict[str, float] = {}
        for began, delay in seen:
            key = f"{began:.1f}"
            longest[key] = max(longest.get(key, 0.0), delay)
        record(f"Longest request by second, {name}", "ms", longest)


def main() -> None:
    with serving(token_takes_s=TOKEN_TAKES_S, lifetime_s=LIFETIME_S) as url:
        asyncio.run(measure(url))


if __name__ == "__main__":
    main()
