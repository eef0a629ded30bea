"""A local Flip: OAuth host, API and webhooks, in process or over a real socket.

It runs as long as its context::

    async with Emulator() as flip_local, flip_local.client() as flip:
        print(await flip.sites.list())

It needs the extra `emulator`: `pip install "flip-async[emulator]"`.
"""

try:
    from flip_async.emulator._clocks import ManualClock
    from flip_async.emulator._emulator import Emulator
    from flip_async.emulator._faults import Cut
    from flip_async.emulator._webhooks import WebhookDelivery
except ModuleNotFoundError as _error:
    _missing = (_error.name or "").partition(".")[0]
    if _missing not in {"starlette", "uvicorn"}:
        raise
    raise ModuleNotFoundError(
        f"flip_async.emulator needs {_missing}: pip install 'flip-async[emulator]'", name=_missing
    ) from None

__all__ = ["Cut", "Emulator", "ManualClock", "WebhookDelivery"]
