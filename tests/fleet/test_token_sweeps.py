"""Whoever waits for the fleet's token is cut off, at every turn [B12]."""

import pytest

from flip_async import ClientCredentialsAuth
from flip_async.emulator import Emulator
from flip_async.redis import RedisTokenStore
from tests.support.redis_server import RedisServer
from tests.support.sweeps import How, cut_off

TURNS = range(0, 60, 2)


@pytest.mark.parametrize("how", [How.NATIVE, How.SCOPE])
async def test_wherever_a_caller_is_cut_off_the_next_one_has_a_token_at_once(
    redis_server: RedisServer, socket_emulator: Emulator, how: How
) -> None:
    """No lock is left behind, and no connection; what was saved is another process's too."""
    for turn in TURNS:
        with redis_server.admin() as admin:
            admin.flushall()
        socket_emulator.forget_counts()
        async with (
            RedisTokenStore(redis_server.url) as one,
            RedisTokenStore(redis_server.url) as two,
        ):
            async with auth_of(socket_emulator, one) as auth:
                await cut_off(auth.token, how, turn)
            async with auth_of(socket_emulator, two) as another:
                await another.token()
            with redis_server.admin() as admin:
                assert not list(admin.scan_iter("*:lock"))
        assert socket_emulator.count("POST", "/token") <= 2
    with redis_server.admin() as admin:
        assert len(admin.client_list()) == 1


def auth_of(flip_local: Emulator, store: RedisTokenStore) -> ClientCredentialsAuth:
    return ClientCredentialsAuth(
        flip_local.client_id,
        flip_local.client_secret,
        token_url=f"{flip_local.oauth_url}/token",
        token_store=store,
    )
