"""The testing kit: the pytest plugin as a user's tests have it, and what its fixtures give."""

import asyncio
import contextlib
import gc
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from flip_async import FlipClient, errors
from flip_async.emulator import Emulator, ManualClock
from flip_async.models import Command
from flip_async.testing import FlipWebhooks
from flip_async.webhooks import CommandEvent, Handlers, WebhookReceiver, verify

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "test-your-application.md"
SECRET = "whsec_ZmxpcC1hc3luYy1leGFtcGxlLXNlY3JldA=="


def run_pytest(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    # A warning is an error in the tests; of those of pytest-asyncio's settings nothing is ours.
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly",
        "-p", "pytest_flip_async", "-W", "error", "-W", "ignore::pytest.PytestDeprecationWarning",
        *arguments,
    ]  # fmt: skip
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), **environ},
    )  # fmt: skip


# The plugin


def test_the_page_works_to_the_letter(tmp_path: Path) -> None:
    """Each file of it, under its own name, and the settings."""
    page = PAGE.read_text()
    for name, text in re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", page, re.DOTALL):
        (tmp_path / name).write_text(text)
    settings = re.search(r"```ini\n(.*?)```", page, re.DOTALL)
    assert settings is not None
    (tmp_path / "pytest.ini").write_text(settings[1])

    done = run_pytest(tmp_path)

    assert "13 passed" in done.stdout, done.stdout + done.stderr


TESTS = """
import pytest

{marks}


async def test_calls(flip, flip_emulator):
    flip_emulator.enroll_site()
    assert [site.id for site in await flip.sites.list()] == ["hh-1042"]
    flip_emulator.revoke_tokens()
    flip_emulator.fail_next(503)
    await flip.sites.list()


async def test_is_fresh(flip):
    assert await flip.sites.list() == []


async def test_opens_and_closes(flip):
    async with flip:
        await flip.sites.list()
"""
SYNC_TESTS = """
def test_without_a_loop(flip_emulator, flip):
    flip_emulator.enroll_site()
    assert flip_emulator.site_ids == ["hh-1042"]
"""
ANYIO = """
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


@pytest.mark.parametrize(
    ("marks", "arguments"),
    [
        ("", ["-o", "asyncio_mode=auto"]),
        ("pytestmark = pytest.mark.asyncio", ["-o", "asyncio_mode=strict"]),
        ('pytestmark = pytest.mark.asyncio(loop_scope="session")', ["-o", "asyncio_mode=strict"]),
        (ANYIO, ["-p", "no:asyncio"]),
        (ANYIO, ["-o", "asyncio_mode=strict"]),
    ],
    ids=["asyncio-auto", "asyncio-strict", "asyncio-session-loop", "anyio", "anyio-beside-asyncio"],
)
def test_any_runner_of_async_tests_will_do(
    tmp_path: Path, marks: str, arguments: list[str]
) -> None:
    """Nothing is left open: warnings are errors there."""
    (tmp_path / "test_it.py").write_text(TESTS.format(marks=marks))
    (tmp_path / "test_sync.py").write_text(SYNC_TESTS)

    done = run_pytest(tmp_path, *arguments, FLIP_API_KEY="fl_your_api_key")

    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_a_fixture_of_ones_own_counts(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import pytest\n\n@pytest.fixture\ndef flip():\n    return 'mine'\n"
    )
    (tmp_path / "test_it.py").write_text("def test_mine(flip):\n    assert flip == 'mine'\n")

    assert "1 passed" in run_pytest(tmp_path).stdout


def test_nothing_is_imported_before_a_fixture_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n\ndef test_nothing():\n"
        "    assert not [name for name in sys.modules if name.split('.')[0] == 'flip_async']\n"
    )

    done = run_pytest(tmp_path)

    assert "1 passed" in done.stdout, done.stdout


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_without_the_extra_a_fixture_says_what_to_install(tmp_path: Path, missing: str) -> None:
    """And tests that ask for none of them run."""
    (tmp_path / "conftest.py").write_text(f"import sys\nsys.modules[{missing!r}] = None\n")
    (tmp_path / "test_it.py").write_text(
        "def test_one(flip): ...\n\n\ndef test_clock(flip_clock): ...\n\n\ndef test_other(): ...\n"
    )

    done = run_pytest(tmp_path)

    assert "1 passed, 2 errors" in done.stdout, done.stdout
    needs = f"flip_async.emulator needs {missing}: pip install 'flip-async[emulator]'"
    assert done.stdout.count(needs) >= 2


def test_the_variables_replace_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import asyncio\nimport os\n\nfrom flip_async import SandboxClient\n\n\n"
        "def test_it(flip_variables, flip_emulator):\n"
        "    async def call():\n"
        "        async with SandboxClient() as flip:\n"
        "            await flip.sites.list()\n\n"
        "    asyncio.run(call())\n"
        "    assert flip_emulator.count('GET', '/v1/sites') == 1\n"
        "    assert 'FLIP_API_KEY' not in os.environ\n"
    )

    done = run_pytest(tmp_path, FLIP_API_KEY="fl_your_api_key", FLIP_ENVIRONMENT="production")

    assert "1 passed" in done.stdout, done.stdout


def test_the_seed_is_the_same_in_each_run_unless_a_marker_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n\n\ndef test_it(flip_emulator, capsys):\n    show(flip_emulator, capsys)\n\n\n"
        "@pytest.mark.flip_emulator(seed=2, enrolled_sites=['a'])\n"
        "def test_other(flip_emulator, capsys):\n    show(flip_emulator, capsys)\n\n\n"
        "def show(flip_emulator, capsys):\n"
        "    with capsys.disabled():\n"
        "        print('KEY', flip_emulator.api_key, flip_emulator.site_ids)\n"
    )

    runs = [re.findall(r"KEY (.*)", run_pytest(tmp_path).stdout) for _ in range(2)]

    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 2
    assert runs[0][1].endswith("['a']")


# An emulator in a thread


def test_an_emulator_needs_no_event_loop_where_it_has_a_thread() -> None:
    with Emulator(enrolled_sites=["hh-1"]) as flip_local:
        with httpx.Client(trust_env=False) as http:
            answer = http.get(
                f"{flip_local.api_url}/v1/sites",
                headers={"Authorization": f"Bearer {flip_local.api_key}"},
            )
        flip_local.dispatch()
        (command,) = flip_local.commands

    assert [site["id"] for site in answer.json()] == ["hh-1"]
    assert command["device_id"] == "hh-1-battery"
    with pytest.raises(RuntimeError, match="does not run"):
        _ = flip_local.api_url


def test_its_client_works_in_one_event_loop_after_another() -> None:
    """It has no connections, and is closed with the emulator."""

    async def list_sites(flip: FlipClient) -> None:
        assert [site.id for site in await flip.sites.list()] == ["hh-1"]

    with Emulator(enrolled_sites=["hh-1"]) as flip_local:
        flip = flip_local.client()
        for _ in range(3):
            asyncio.run(list_sites(flip))
        assert flip_local.count("POST", "/token") == 1
        assert not flip.is_closed

    assert flip.is_closed
    del flip
    gc.collect()  # where a client that is left open is a ResourceWarning


async def test_errors_come_out_where_its_methods_are_called() -> None:
    with Emulator() as flip_local:
        with pytest.raises(errors.InvalidArgumentError, match="event_id"):
            flip_local.cancel_event("none")
        with pytest.raises(errors.InvalidArgumentError, match="seconds"):
            flip_local.advance(-1)


async def test_what_is_cut_is_cut_there_too() -> None:
    with Emulator() as flip_local, pytest.raises(errors.TransportError):
        flip_local.fail_next(None, cut="before")
        flip = flip_local.client().with_options(deadline_s=0.1)
        await flip.sites.list()


async def test_a_call_that_is_given_up_leaves_nothing_behind() -> None:
    with Emulator() as flip_local:
        flip = flip_local.client()
        await flip.sites.list()
        flip_local.slow_next(3600)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await flip.sites.list()
        assert await flip.sites.list() == []


def test_an_emulator_that_cannot_start_leaves_no_thread() -> None:
    before = threading.active_count()
    with Emulator() as flip_local:
        port = httpx.URL(flip_local.api_url).port
        assert port is not None
        with pytest.raises(OSError, match="in use"), Emulator(port=port):
            pass

    assert threading.active_count() == before


def test_webhooks_reach_a_server_and_are_waited_for() -> None:
    """From a thread, as from the event loop that it runs in otherwise."""
    with Emulator(webhook_pauses_s=[0.01] * 4) as flip_local, Emulator() as other:
        flip_local.register_webhook(f"{other.api_url}/hook", event_types=["settings.apply"])
        flip_local.send_webhook("settings.apply", {"id": "s"})
        asyncio.run(flip_local.webhooks_settled())

        (delivery,) = flip_local.webhooks
        assert delivery.outcomes == [404] * 5
        assert other.count("POST", "/hook") == 5


async def test_time_is_shared_with_an_emulator_in_a_thread() -> None:
    clock = ManualClock(datetime(2025, 7, 1, 17, tzinfo=UTC))
    with Emulator(clock=clock, enrolled_sites=["hh-1"]) as flip_local:
        flip_local.dispatch(starts_in_s=60, duration_s=600)
        async with flip_local.client() as flip:
            await flip.sites.list()
            clock.advance(7200)
            await flip.sites.list()
        assert flip_local.count("POST", "/token") == 2

        flip_local.advance(3600)

    assert clock.wall() == datetime(2025, 7, 1, 20, tzinfo=UTC).timestamp()


async def test_who_sleeps_in_another_thread_is_woken_there() -> None:
    """By its own event loop, which would not hear of it otherwise."""
    clock = ManualClock()
    waits, woken = threading.Event(), threading.Event()

    async def sleep() -> None:
        asyncio.get_running_loop().call_soon(waits.set)
        await clock.sleep(5)

    def run() -> None:
        asyncio.run(sleep())
        woken.set()

    thread = threading.Thread(target=run)
    thread.start()
    await asyncio.to_thread(waits.wait)
    clock.advance(5)
    await asyncio.to_thread(thread.join)

    assert woken.is_set()


def test_a_timer_of_a_loop_that_is_gone_is_passed_over() -> None:
    clock = ManualClock()

    async def wait() -> None:
        clock.call_later(1, lambda: pytest.fail("called"))

    asyncio.run(wait())
    clock.advance(2)


# Its short ways


async def test_a_status_alone_is_a_fault(emulator: Emulator, flip: FlipClient) -> None:
    emulator.fail_next(404, path="/v1/sites")
    with pytest.raises(errors.NotFoundError):
        await flip.sites.list()

    assert await flip.sites.list() == []


@pytest.mark.parametrize("arguments", [(), (3,), (200,), (None,), (600,)])
def test_a_fault_says_what_goes_wrong(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="^status: says what goes wrong"):
        Emulator().fail_next(*arguments)


async def test_a_slow_answer_is_carried_out(emulator: Emulator, flip: FlipClient) -> None:
    await flip.sites.list()
    emulator.slow_next(0.05, path="/v1/sites")

    began = time.monotonic()
    assert await flip.sites.list() == []
    assert time.monotonic() - began >= 0.04
    with pytest.raises(errors.InvalidArgumentError, match="delay_s"):
        emulator.slow_next(0)


@pytest.mark.parametrize("in_thread", [False, True])
async def test_an_answer_is_held_back_until_the_context_is_left(in_thread: bool) -> None:
    emulator, nothing = Emulator(in_process=True), contextlib.nullcontext()
    with emulator if in_thread else nothing:
        async with nothing if in_thread else emulator, emulator.client() as flip:
            with emulator.hold_next(2, path="/v1/sites"):
                call = asyncio.ensure_future(flip.sites.list())
                while emulator.count("GET", "/v1/sites") == 0:
                    await asyncio.sleep(0)
                assert not call.done()

            assert await call == []
            assert await flip.sites.list() == []


async def test_an_enrolled_site_is_as_one_that_went_through_the_api() -> None:
    """And is there again after a reset."""
    async with Emulator(in_process=True, seed=1, enrolled_sites=["hh-1"]) as emulator:
        emulator.enroll_site("hh-2", ["inv-1", "inv-2"])
        async with emulator.client() as flip:
            assert (await flip.site("hh-1").get()).zip_code == "88801"
            (enrollment,) = await flip.site("hh-2").enrollments.list()
            assert (enrollment.status, enrollment.device_ids) == ("ACTIVE", ["inv-1", "inv-2"])
            devices = await flip.site("hh-2").devices.list()
            assert [device.attributes.battery_capacity_wh for device in devices] == [10_000] * 2
            assert len(emulator.dispatch()) == 2
            emulator.reset()
            assert [site.id for site in await flip.sites.list()] == ["hh-1"]
    with pytest.raises(errors.InvalidArgumentError, match="enrolled_sites"):
        Emulator(enrolled_sites=5)  # type: ignore[arg-type]


async def test_requests_are_logged_with_their_answers(
    emulator: Emulator, flip: FlipClient, caplog: pytest.LogCaptureFixture
) -> None:
    """For `flip emulator`, and for a test that fails."""
    caplog.set_level("INFO", "flip_async.emulator")
    emulator.fail_next(404, path="/v1/sites")
    with pytest.raises(errors.NotFoundError):
        await flip.sites.list()
    await flip.sites.list()

    assert [r.getMessage() for r in caplog.records if r.name == "flip_async.emulator"] == [
        "POST /token: 200",
        "GET /v1/sites: 404",
        "GET /v1/sites: 200",
    ]


# Webhooks

COMMAND = {
    "id": "c", "device_id": "d", "starts_at": "2025-06-19T12:00:00Z", "duration_s": 60,
    "is_preparatory_action": False, "battery_commands": {"mode": "CHARGE"}, "status": "OK",
    "device_status": "PENDING", "created_at": "2025-06-19T11:00:00Z",
    "updated_at": "2025-06-19T11:00:00Z",
}  # fmt: skip


@pytest.mark.parametrize("event_object", [COMMAND, Command.from_dict(COMMAND)])
def test_a_signed_event_is_what_flip_sends(event_object: Any) -> None:
    webhook = FlipWebhooks(SECRET).sign("command.created", event_object)

    event = verify(webhook.body, webhook.headers, SECRET)

    assert isinstance(event, CommandEvent)
    assert event.event_object.object_type == "command"
    assert event.webhook_id == webhook.webhook_id
    assert json.loads(webhook.body)["event_object"]["device_id"] == "d"


def test_it_is_signed_by_the_clock_or_at_a_moment_of_ones_own() -> None:
    webhooks = FlipWebhooks(SECRET, clock=ManualClock(datetime(2025, 7, 1, tzinfo=UTC)))
    now = datetime(2025, 7, 1, tzinfo=UTC).timestamp()

    signed = webhooks.sign("settings.apply", {"id": "s"}, webhook_id="msg_mine")
    old = webhooks.sign("settings.apply", {}, sent_at=datetime(2025, 6, 1, tzinfo=UTC))

    assert verify(signed.body, signed.headers, SECRET, now=now).webhook_id == "msg_mine"
    with pytest.raises(errors.WebhookTimestampError):
        verify(old.body, old.headers, SECRET, now=now)


@pytest.mark.parametrize(
    ("event_type", "event_object", "options", "field"),
    [
        (5, {}, {}, "event_type"),
        ("a.b", 5, {}, "event_object"),
        ("a.b", {"a": object()}, {}, "event_object"),
        ("a.b", {"a": float("nan")}, {}, "event_object"),
        ("a.b", {}, {"sent_at": datetime(2025, 7, 1)}, "sent_at"),
    ],
)
def test_what_cannot_be_signed_is_named(
    event_type: Any, event_object: Any, options: Any, field: str
) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        FlipWebhooks(SECRET).sign(event_type, event_object, **options)

    assert caught.value.field == field


def asgi(receiver: WebhookReceiver) -> Callable[..., Awaitable[None]]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        reply = await receiver.receive(body, headers)
        await send({"type": "http.response.start", "status": reply.status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


async def test_an_application_is_delivered_to_without_a_socket() -> None:
    handlers, seen = Handlers(), list[str]()

    @handlers.on("command.created")
    async def created(event: CommandEvent) -> None:
        seen.append(event.webhook_id)

    webhooks = FlipWebhooks(SECRET)
    async with WebhookReceiver(handlers, secret=SECRET) as receiver:
        first = await webhooks.deliver(asgi(receiver), "command.created", COMMAND)
        again = await webhooks.deliver(
            asgi(receiver), "command.created", COMMAND, webhook_id=first.webhook_id
        )

    assert first.is_accepted
    assert again.is_accepted
    assert seen == [first.webhook_id]
    with pytest.raises(errors.InvalidArgumentError, match="target"):
        await webhooks.deliver(5, "command.created", COMMAND)  # type: ignore[arg-type]


async def test_a_url_is_delivered_to_over_the_network(socket_emulator: Emulator) -> None:
    url = f"{socket_emulator.api_url}/v1/nothing"

    answer = await FlipWebhooks(SECRET).deliver(url, "command.created", COMMAND)

    assert answer.status_code == 404
    assert not answer.is_accepted
    assert "whsec" not in repr(FlipWebhooks(SECRET))
