"""FastAPI: a client for the application, and a router for Flip's webhooks.

::

    processor = CommandProcessor(on_command)
    app = FastAPI(lifespan=flip_lifespan(SandboxClient))
    app.include_router(webhook_router(commands=processor, inbox=SqliteInbox("inbox.db")))
    app.add_exception_handler(FlipError, flip_error_handler)

It needs the extra `fastapi`: `pip install "flip-async[fastapi]"`. Models of
`flip_async.models` are response types as they are, and bodies as `JsonBody[...]`.
"""

try:
    from flip_async.fastapi._client import (
        FlipDependency,
        FlipLifespan,
        flip_lifespan,
        get_flip_client,
    )
    from flip_async.fastapi._error_handler import flip_error_handler
    from flip_async.fastapi._json_body import JsonBody
    from flip_async.fastapi._webhooks import webhook_router
except ModuleNotFoundError as _error:
    if (_error.name or "").partition(".")[0] not in {"fastapi", "starlette", "pydantic"}:
        raise
    raise ModuleNotFoundError(
        "flip_async.fastapi needs FastAPI: pip install 'flip-async[fastapi]'", name=_error.name
    ) from None

__all__ = [
    "FlipDependency",
    "FlipLifespan",
    "JsonBody",
    "flip_error_handler",
    "flip_lifespan",
    "get_flip_client",
    "webhook_router",
]
