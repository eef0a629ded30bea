"""What the fixtures of the pytest plugin give; the plugin itself is the module `pytest_flip_async`.

`flip_emulator` gives an `Emulator` and `flip_clock` a `ManualClock`, both of
`flip_async.emulator`; `flip` gives a `FlipClient`.
"""

from flip_async.testing._webhooks import FlipWebhooks, SignedWebhook, WebhookAnswer

__all__ = ["FlipWebhooks", "SignedWebhook", "WebhookAnswer"]
