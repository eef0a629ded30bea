"""What a fresh token costs in the auth flow, over an empty `httpx.Auth`."""

import asyncio
from collections.abc import AsyncGenerator

import httpx

from flip_async import ApiKeyAuth, ClientCredentialsAuth
from tests.benchmarks._compare import compare, show
from tests.support import FakeFlip

URL = "https://api.flip.energy/v1/sites"
RESPONSE = httpx.Response(200)


class SetHeader(httpx.Auth):
    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        request.headers["Authorization"] = "Bearer at_some_token_of_a_usual_length"
        yield request


class Empty(httpx.Auth):
    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        yield request


async def drive(auth: httpx.Auth, request: httpx.Request) -> None:
    """One flow, as httpx's client drives it."""
    flow = auth.async_auth_flow(request)
    try:
        await anext(flow)
        try:
            await flow.asend(RESPONSE)
        except StopAsyncIteration:
            return
    finally:
        await flow.aclose()


async def main() -> None:
    request = httpx.Request("GET", URL, headers={"Accept": "application/json"})
    request.headers["Authorization"] = "x"
    async with httpx.AsyncClient(transport=FakeFlip()) as http:
        oauth = ClientCredentialsAuth("id", "secret", http_client=http)
        await oauth.token()
        auths = {
            "an empty httpx.Auth": Empty(),
            "one that sets a header": SetHeader(),
            "ClientCredentialsAuth, fresh token": oauth,
            "ApiKeyAuth": ApiKeyAuth("fl_your_api_key"),
        }
        medians = await compare(
            {name: (lambda auth=auth: drive(auth, request)) for name, auth in auths.items()},
            calls=4000,
        )
    show("A flow", medians, base="an empty httpx.Auth")
    empty, header, fresh, key = medians.values()
    print(
        f"  over the empty one, in headers set: OAuth {(fresh - empty) / (header - empty):.2f},",
        end="",
    )
    print(f" API key {(key - empty) / (header - empty):.2f}")


if __name__ == "__main__":
    asyncio.run(main())
