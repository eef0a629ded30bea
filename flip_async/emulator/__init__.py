"""A local Flip: OAuth host and API, in process or over a real socket.

```python
async with Emulator() as flip_local, flip_local.client() as flip:
    print(await flip.sites.list())
```

It needs the extra `emulator`: `pip install "flip-async[emulator]"`.
"""

try:
    from flip_async.emulator._emulator import Emulator
    from flip_async.emulator._faults import Cut
except ModuleNotFoundError as error:
    missing = (error.name or "").partition(".")[0]
    if missing not in {"starlette", "uvicorn"}:
        raise
    raise ModuleNotFoundError(
        f"flip_async.emulator needs {missing}: pip install 'flip-async[emulator]'", name=missing
    ) from None

__all__ = ["Cut", "Emulator"]
