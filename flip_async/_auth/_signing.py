"""How a request is sent with a credential, whoever wrote that."""

import os
from functools import partial

import httpx

from flip_async._auth._bearer import BearerAuth
from flip_async._auth._store import store_key
from flip_async._transport._attempt import Send, SendSigned


def signer_of(auth: httpx.Auth) -> SendSigned:
    """What sends a request with a credential: our own way straight, any other by its flow."""
    if isinstance(auth, BearerAuth) and _has_our_flow(type(auth)):
        return auth.send_signed
    return partial(send_by_flow, auth)


def _has_our_flow(kind: type[BearerAuth]) -> bool:
    return kind.async_auth_flow is BearerAuth.async_auth_flow


async def send_by_flow(auth: httpx.Auth, request: httpx.Request, send: Send) -> httpx.Response:
    """Drive an auth flow as httpx does; each of its answers is read to the end."""
    flow = auth.async_auth_flow(request)
    history: list[httpx.Response] = []
    try:
        following = await anext(flow)
        while True:
            response = await send(following)
            response.history = list(history)
            try:
                following = await flow.asend(response)
            except StopAsyncIteration:
                return response
            history.append(response)
    finally:
        await flow.aclose()


def identity_of(auth: httpx.Auth) -> str:
    """What tells a credential from others in a store.

    Of a stranger's nobody knows, so that it is shared with nobody.
    """
    return auth.identity if isinstance(auth, BearerAuth) else store_key(os.urandom(16).hex())
