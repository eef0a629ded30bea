"""Flip over httpx2: an engine for clients of ours, and our credentials in clients of its."""

import importlib

try:
    importlib.import_module("httpx2")
except ImportError as _error:
    raise ImportError(
        "flip_async.httpx2 needs httpx2: pip install 'flip-async[httpx2]'"
    ) from _error

from flip_async._auth._httpx2 import for_httpx2
from flip_async._transport._httpx2 import Httpx2Transport

__all__ = ["Httpx2Transport", "for_httpx2"]
