"""What many processes share of Flip: tokens, webhooks, points and commands, in Redis or Valkey."""

from flip_async.redis._inbox import RedisInbox

__all__ = [
    "RedisInbox",
]
