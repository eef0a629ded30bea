"""What many processes share of Flip: tokens, webhooks, points and commands, in Redis or Valkey."""

from flip_async.redis._outbox import RedisOutbox

__all__ = [
    "RedisOutbox",
]
