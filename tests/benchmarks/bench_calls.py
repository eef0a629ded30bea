"""A small GET through the SDK beside the same call written by hand with httpx."""

import asyncio
from datetime import UTC, datetime

import httpx

from flip_async import PRODUCTION, FlipClient
from flip_async.models import TelemetryPoint
from tests.benchmarks._compare import compare, show

KEY = "fl_your_api_key"
SITE = {
    "id": "hh-1042",
    "email": "mara@example.org",
    "state_code": "CA",
    "city": "Fresno",
    "created_at": "2025-06-19T22:41:07Z",
    "updated_at": "2025-06-19T22:41:07Z",
}


def answer(request: httpx.Request) -> httpx.Response:
    if request.method == "POST":
        return httpx.Response(200, content=b'[{"status":"OK"}]')
    return httpx.Response(200, json=SITE)


async def main() -> None:
    transport = httpx.MockTransport(answer)
    now = datetime(2025, 1, 1, tzinfo=UTC)
    point = TelemetryPoint(device_id="d", start_time=now, duration_s=300, home_last_power_w=5)
    by_hand = httpx.AsyncClient(
        transport=transport,
        base_url="https://api.flip.energy",
        headers={"Authorization": f"Bearer {KEY}"},
    )
    flip = FlipClient(environment=PRODUCTION, api_key=KEY, transport=transport)
    site = flip.site("hh-1042")

    async def get_by_hand() -> object:
        response = await by_hand.get("/v1/site/hh-1042")
        response.raise_for_status()
        return response.json()

    async def post_by_hand() -> object:
        body = {
            "telemetry": [
                {
                    "device_id": "d",
                    "start_time": now.isoformat(),
                    "duration_s": 300,
                    "home_last_power_w": 5,
                }
            ]
        }
        response = await by_hand.post("/v1/telemetry/BATTERY", json=body)
        response.raise_for_status()
        return response.json()

    async with by_hand, flip:
        get = {
            "httpx by hand: get, raise_for_status, json": get_by_hand,
            "flip_async: site.get, typed": lambda: site.get(token="client"),
        }
        show("GET one site", await compare(get, calls=400), base=next(iter(get)))
        post = {
            "httpx by hand: post, raise_for_status, json": post_by_hand,
            "flip_async: telemetry.send, checked and typed": lambda: flip.telemetry.send([point]),
        }
        show("POST one point", await compare(post, calls=400), base=next(iter(post)))


if __name__ == "__main__":
    asyncio.run(main())
