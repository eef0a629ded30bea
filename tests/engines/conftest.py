"""Each test here runs over each engine."""

from collections.abc import AsyncIterator

import pytest

from tests.engines.engines import ENGINES, MakeOptions, of
from tests.support.wire import Wire


@pytest.fixture(params=of(*ENGINES))
def engine(request: pytest.FixtureRequest) -> MakeOptions:
    """Gives the arguments of a client: nothing for the default, a transport for the others."""
    make: MakeOptions = request.param
    return make


@pytest.fixture(params=of(*(name for name in ENGINES if name != "httpx")))
def transports(request: pytest.FixtureRequest) -> MakeOptions:
    """The same for those that are transports, with arguments."""
    make: MakeOptions = request.param
    return make


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with Wire() as wire:
        yield wire
