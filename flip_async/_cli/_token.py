"""`flip token`: the token that requests carry."""

import math
import time
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from flip_async import ApiKeyAuth, ClientCredentialsAuth, FlipClient, Token
from flip_async._cli._client import ANYWHERE, Where
from flip_async._cli._operation import FINE, Json, operate
from flip_async._cli._output import print_facts, print_json


def token(
    *,
    where: Where = ANYWHERE,
    show: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> int:
    """Sign in, and tell about the access token: its age, its life time, its scopes, its origin.

    Without --token-file each run takes a new token. It ends with 0, or with 1 where no token can
    be had.

    Parameters
    ----------
    show
        Print the token itself, and nothing else; with --json, beside the rest. Whoever reads it
        can use it.
    """

    async def work() -> int:
        began_at = time.time()
        async with where.client() as flip:
            found = await bearer_of(flip).token()
            facts = _facts(found, _origin(flip, found, where, began_at))
        if show and not json:
            print(found.access_token.reveal())
        elif json:
            print_json(facts | ({"access_token": found.access_token.reveal()} if show else {}))
        else:
            print_facts(_for_people(facts))
        return FINE

    return operate(work)


def bearer_of(flip: FlipClient) -> ClientCredentialsAuth | ApiKeyAuth:
    """The auth of a client whose credential is from the environment."""
    assert isinstance(flip.auth, ClientCredentialsAuth | ApiKeyAuth)
    return flip.auth


def _origin(flip: FlipClient, found: Token, where: Where, began_at: float) -> str:
    if isinstance(flip.auth, ApiKeyAuth):
        return "API key"
    if where.token_file is not None and found.issued_at < began_at:
        return str(where.token_file)
    return flip.environment.token_url


def _facts(found: Token, origin: str) -> dict[str, object]:
    is_key = math.isinf(found.lifetime_s)
    return {
        "from": origin,
        "scope": found.scope,
        "issued_at": None if is_key else _moment(found.issued_at),
        "age_s": None if is_key else max(0, round(time.time() - found.issued_at)),
        "lifetime_s": None if is_key else round(found.lifetime_s),
        "expires_at": None if is_key else _moment(found.expires_at),
    }


def _for_people(facts: dict[str, object]) -> dict[str, object]:
    if facts["lifetime_s"] is None:
        return {"from": facts["from"], "lifetime": "never expires; it can be revoked"}
    return {
        "from": facts["from"],
        "scope": facts["scope"] or "not told: all that the client has",
        "age": f"{facts['age_s']} s",
        "lifetime": f"{facts['lifetime_s']} s",
        "expires": facts["expires_at"],
    }


def _moment(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
