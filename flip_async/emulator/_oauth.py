"""The emulated OAuth host."""

import base64
import binascii
import secrets
from typing import Final
from urllib.parse import parse_qs, unquote_plus

import attrs
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from flip_async.emulator._world import World

_NO_STORE: Final = {"Cache-Control": "no-store"}


@attrs.frozen
class OAuthClient:
    """The one client that the host knows.

    Attributes:
        client_id: Its id.
        client_secret: Its secret.
        scopes: What it may ask for; `None` for anything.
    """

    client_id: str
    client_secret: str = attrs.field(repr=False)
    scopes: frozenset[str] | None = None


async def token(request: Request, *, world: World, client: OAuthClient) -> Response:
    """Give an access token (RFC 6749 section 4.4)."""
    form = {
        name: values[0]
        for name, values in parse_qs((await request.body()).decode("latin-1")).items()
    }
    if form.get("grant_type") != "client_credentials":
        return _refusal(400, "unsupported_grant_type", "Only client_credentials is supported")
    given = _basic(request) or (form.get("client_id", ""), form.get("client_secret", ""))
    if not _is(given, client):
        return _refusal(401, "invalid_client", "Client authentication failed")
    wanted = set(form.get("scope", "").split())
    if client.scopes is not None and not wanted <= client.scopes:
        return _refusal(400, "invalid_scope", "The client does not have this scope")
    access_token, lifetime_s = world.issue_access_token()
    answer: dict[str, object] = {
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": lifetime_s,
    }
    if wanted:
        answer["scope"] = " ".join(sorted(wanted))
    return JSONResponse(answer, headers=_NO_STORE)


def _basic(request: Request) -> tuple[str, str] | None:
    scheme, _, coded = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Basic":
        return None
    try:
        text = base64.b64decode(coded, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    client_id, _, client_secret = text.partition(":")
    return unquote_plus(client_id), unquote_plus(client_secret)


def _is(given: tuple[str, str], client: OAuthClient) -> bool:
    expected = f"{client.client_id}\n{client.client_secret}"
    return secrets.compare_digest("\n".join(given).encode(), expected.encode())


def _refusal(status: int, code: str, description: str) -> JSONResponse:
    body = {"error": code, "error_description": description}
    return JSONResponse(body, status_code=status, headers=_NO_STORE)
