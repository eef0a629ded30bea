"""Models as bodies of requests."""

from typing import Annotated, TypeVar

from fastapi import Body

T = TypeVar("T")

JsonBody = Annotated[T, Body()]
"""`JsonBody[Site]` is a `Site` in the body of a request, which FastAPI would else look for in
the query."""
