"""The recipe of the emulator's image: what it would run, runs here; there is no Docker."""

import re
import shlex
from pathlib import Path

from flip_async import Environment, FlipClient
from tests.support.processes import ROOT, Process, free_port

FOLDER = ROOT / "docs" / "examples" / "emulator"
COMPOSE = (FOLDER / "compose.yaml").read_text()


def command() -> list[str]:
    found = re.search(r"command: >-\n((?:      .*\n)+)", COMPOSE)
    assert found is not None
    return shlex.split(found[1])


def variables() -> dict[str, str]:
    return dict(re.findall(r"(FLIP_\w+): (.*)", COMPOSE))


async def test_the_command_serves_with_the_credentials_that_the_application_has() -> None:
    arguments, given = command(), variables()
    port = free_port()
    arguments[arguments.index("--port") + 1] = str(port)
    arguments[arguments.index("--host") + 1] = "127.0.0.1"
    url = f"http://127.0.0.1:{port}"
    async with Process("-m", "flip_async", "emulator", *arguments) as process:
        await process.until_it_says("FLIP_WEBHOOK_SECRET")
        async with FlipClient(
            environment=Environment(name="emulator", api_url=url, oauth_url=url),
            client_id=given["FLIP_CLIENT_ID"],
            client_secret=given["FLIP_CLIENT_SECRET"],
        ) as flip:
            assert await flip.sites.list() == []

    assert f"FLIP_WEBHOOK_SECRET={given['FLIP_WEBHOOK_SECRET']}" in process.output


def test_images_have_all_that_the_package_is_made_of() -> None:
    """What the wheel takes is copied."""
    wheel = re.search(r"only-include = \[(.*)\]", (ROOT / "pyproject.toml").read_text())
    assert wheel is not None
    for dockerfile in (ROOT / "docs" / "examples").glob("*/Dockerfile"):
        copied = " ".join(re.findall(r"^COPY (.*)", dockerfile.read_text(), re.MULTILINE))
        for name in re.findall(r'"([^"]+)"', wheel[1]):
            assert Path(name).name in copied, dockerfile
