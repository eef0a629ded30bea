"""Asyncio-native Python SDK for the Flip OEM API."""

import logging
from typing import TYPE_CHECKING

from flip_async import errors
from flip_async._aio._run_worker import run_worker
from flip_async._auth._api_key import ApiKeyAuth
from flip_async._auth._client_credentials import ClientCredentialsAuth
from flip_async._auth._refresher import RefreshEvent
from flip_async._auth._site_token import SiteTokenAuth
from flip_async._auth._store import MemoryTokenStore, TokenStore
from flip_async._auth._token import Token
from flip_async._clients._oem import FlipClient, ProductionClient, SandboxClient
from flip_async._environment import PRODUCTION, SANDBOX, Environment
from flip_async._http._pages import Pages
from flip_async._http._retry import Retries, RetryEvent
from flip_async._version import __version__
from flip_async.models._base import UNSET

if TYPE_CHECKING:
    from flip_async._auth._file_store import FileTokenStore
    from flip_async._clients._aggregator import AggregatorClient
    from flip_async._clients._utility import UtilityClient

# A program that does not ask for our log does not get it on its standard error.
logging.getLogger("flip_async").addHandler(logging.NullHandler())

__all__ = [
    "PRODUCTION",
    "SANDBOX",
    "UNSET",
    "AggregatorClient",
    "ApiKeyAuth",
    "ClientCredentialsAuth",
    "Environment",
    "FileTokenStore",
    "FlipClient",
    "MemoryTokenStore",
    "Pages",
    "ProductionClient",
    "RefreshEvent",
    "Retries",
    "RetryEvent",
    "SandboxClient",
    "SiteTokenAuth",
    "Token",
    "TokenStore",
    "UtilityClient",
    "__version__",
    "errors",
    "run_worker",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        # The sister APIs' clients bring all their models: loaded when they are asked for.
        if name == "AggregatorClient":
            from flip_async._clients._aggregator import AggregatorClient

            return AggregatorClient
        if name == "UtilityClient":
            from flip_async._clients._utility import UtilityClient

            return UtilityClient
        if name == "FileTokenStore":
            from flip_async._auth._file_store import FileTokenStore

            return FileTokenStore
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
