"""What many processes share of Flip: tokens, webhooks, points and commands, in Redis or Valkey."""

import importlib

try:
    importlib.import_module("redis")
except ImportError as _error:
    raise ImportError(
        "flip_async.redis needs redis-py: pip install 'flip-async[redis]'"
    ) from _error

from flip_async.redis._inbox import RedisInbox
from flip_async.redis._ledger import RedisCommandLedger
from flip_async.redis._outbox import RedisOutbox
from flip_async.redis._token_store import RedisTokenStore, TokenStoreStats

__all__ = [
    "RedisCommandLedger",
    "RedisInbox",
    "RedisOutbox",
    "RedisTokenStore",
    "TokenStoreStats",
]
