"""The pytest plugin of flip_async: a local Flip for each test that asks for it.

Pytest loads this module in each of its runs, so it stands beside the package and imports nothing
of it before a fixture is asked for: `import flip_async` takes longer than most test runs of one
file, and what is imported before coverage begins is not measured.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flip_async import FlipClient
    from flip_async.emulator import Emulator, ManualClock
    from flip_async.testing import FlipWebhooks


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "flip_emulator(**options): arguments of the Emulator that the fixture flip_emulator gives",
    )


@pytest.fixture
def flip_clock() -> ManualClock:
    """A clock that stands still until it is moved; the emulator and `flip` go by it too."""
    try:
        from flip_async.emulator import ManualClock
    except ModuleNotFoundError as error:
        pytest.fail(str(error), pytrace=False)
    return ManualClock()


@pytest.fixture
def flip_emulator(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    """A local Flip on a free loopback port, new for each test.

    It runs in a thread of its own: tests may be async or not, in any event loop.
    `@pytest.mark.flip_emulator(token_lifetime_s=2)` gives it arguments.
    """
    try:
        from flip_async.emulator import Emulator
    except ModuleNotFoundError as error:
        pytest.fail(str(error), pytrace=False)
    options: dict[str, object] = {"seed": 1}  # a failure repeats
    if "flip_clock" in request.fixturenames:
        options["clock"] = request.getfixturevalue("flip_clock")
    marker = request.node.get_closest_marker("flip_emulator")
    if marker is not None:
        options |= marker.kwargs
    with Emulator(**options) as flip_emulator:  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # it checks them
        yield flip_emulator


@pytest.fixture
def flip(flip_emulator: Emulator) -> FlipClient:
    """A client for `flip_emulator`, which is closed with it."""
    return flip_emulator.client()


@pytest.fixture
def flip_variables(flip_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Environment variables that point at `flip_emulator`; they are set, and others unset.

    For code that makes its client itself, and for child processes.
    """
    for name in [name for name in os.environ if name.startswith("FLIP_")]:
        monkeypatch.delenv(name)
    variables = flip_emulator.variables()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def flip_webhooks(flip_emulator: Emulator, request: pytest.FixtureRequest) -> FlipWebhooks:
    """Signs events with the secret of `flip_emulator`, and delivers them to an application."""
    from flip_async.testing import FlipWebhooks

    clock = None
    if "flip_clock" in request.fixturenames:
        clock = request.getfixturevalue("flip_clock")
    return FlipWebhooks(flip_emulator.webhook_secret, clock=clock)
