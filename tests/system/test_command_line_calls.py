"""What `flip` asks of the API: tokens, sites, commissioning, commands."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flip_async.emulator import Emulator
from flip_async.models import CommissionSite
from tests.support.command_line import CommandLine
from tests.support.processes import Process, free_port
from tests.support.small_server import SmallServer
from tests.support.webhooks import DATA
from tests.system.test_story import battery

REQUEST = DATA / "commission.request.json"
FRAMES = set("─│╭╮╰╯━┃┏┓\x1b")


@pytest.fixture
def flip(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def local(flip: CommandLine) -> Iterator[Emulator]:
    with Emulator() as emulator:
        flip.set(emulator.variables())
        yield emulator


# Tokens


def test_a_token_is_told_of_and_not_shown(flip: CommandLine, local: Emulator) -> None:
    ended = flip("token")

    facts = dict(line.split(maxsplit=1) for line in ended.out.splitlines())
    assert ended.code == 0
    assert facts["from"] == f"{local.oauth_url}/token"
    assert (facts["age"], facts["lifetime"]) == ("0 s", "3600 s")
    assert "at_" not in ended.out


def test_a_token_that_is_shown_stands_alone_and_works(flip: CommandLine, local: Emulator) -> None:
    shown = flip("token", "--show").out.strip()
    as_json = flip("token", "--json", "--show").json

    assert " " not in shown
    assert as_json["lifetime_s"] == 3600
    assert set(as_json) == {
        "from", "scope", "issued_at", "age_s", "lifetime_s", "expires_at", "access_token",
    }  # fmt: skip
    assert "access_token" not in flip("token", "--json").json


def test_a_token_in_a_file_is_taken_once(
    flip: CommandLine, local: Emulator, tmp_path: Path
) -> None:
    path = str(tmp_path / "token.json")

    first = flip("token", "--token-file", path, "--json").json
    second = flip("token", "--token-file", path, "--json").json

    assert (first["from"], second["from"]) == (f"{local.oauth_url}/token", path)
    assert first["issued_at"] == second["issued_at"]
    assert local.count("POST", "/token") == 1


def test_an_api_key_is_told_of_and_not_shown(flip: CommandLine, local: Emulator) -> None:
    ended = flip("token", FLIP_API_KEY=local.api_key, FLIP_CLIENT_ID=None, FLIP_CLIENT_SECRET=None)

    assert "never expires" in ended.out
    assert local.api_key not in ended.out
    assert flip("token", "--show").out.strip() == local.api_key


def test_a_token_that_cannot_be_had_is_one_line(flip: CommandLine, local: Emulator) -> None:
    ended = flip("token", FLIP_CLIENT_SECRET="wrong_secret")

    assert (ended.code, ended.out) == (1, "")
    assert len(ended.err.splitlines()) == 1
    assert "invalid_client" in ended.err
    assert "`flip doctor` finds out why" in ended.err
    assert "wrong_secret" not in ended.err


# Sites


def test_sites_are_a_table_and_one_document(flip: CommandLine, local: Emulator) -> None:
    flip("commission", str(REQUEST))

    table, document = flip("sites", "list"), flip("sites", "list", "--json")

    assert table.out.splitlines()[1].split()[:4] == ["hh-1042", "CA", "88801", "Fresno"]
    assert [site["id"] for site in document.json] == ["hh-1042"]
    assert (table.code, document.code) == (0, 0)
    assert flip("sites", "list", "--max", "0", "--json").json == []


def test_a_site_comes_with_its_devices(flip: CommandLine, local: Emulator) -> None:
    flip("commission", str(REQUEST))

    facts, document = flip("sites", "get", "hh-1042"), flip("sites", "get", "hh-1042", "--json")

    assert "Mara" in facts.out
    assert "13500 Wh" in facts.out
    assert document.json["first_name"] == "Mara"
    assert [device["id"] for device in document.json["devices"]] == ["inv-77301"]


def test_a_site_that_is_not_there_is_one_line(flip: CommandLine, local: Emulator) -> None:
    ended = flip("sites", "get", "hh-9")

    assert (ended.code, ended.out) == (1, "")
    assert len(ended.err.splitlines()) == 1
    assert ended.err.startswith("flip: NotFoundError")


def test_a_name_that_would_command_the_terminal_is_shown_plain(flip: CommandLine) -> None:
    site = {
        "id": "hh-1", "city": "\x1b[31mred\nline", "created_at": "2025-07-01T00:00:00Z",
        "updated_at": "2025-07-01T00:00:00Z",
    }  # fmt: skip
    with SmallServer(
        {"/token": {"access_token": "at_1", "expires_in": 60}, "/v1/sites": [site]}
    ) as server:
        ended = flip("sites", "list", "--max", "1", **server.variables())

    assert "\x1b" not in ended.out
    assert len(ended.out.splitlines()) == 2


# Commissioning


def test_a_site_is_commissioned_from_the_file_that_the_reference_prints(
    flip: CommandLine, local: Emulator
) -> None:
    ended = flip("commission", str(DATA / "commission-with-enrollment.request.json"), "--json")
    table = flip("commission", str(REQUEST))

    assert ended.code == 0, ended.err
    assert len(ended.json["programs"]) == 2
    assert local.site_ids == ["hh-1042"]
    assert "Emulated Open Program" in table.out


def test_a_dry_run_sends_nothing(flip: CommandLine, local: Emulator) -> None:
    ended = flip("commission", str(REQUEST), "--dry-run")

    assert ended.code == 0
    assert "hh-1042 with 1 devices" in ended.err
    assert local.site_ids == []


def changed(**changes: object) -> str:
    document = json.loads(REQUEST.read_text())
    document["devices"][0] |= changes
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("{", "is not JSON"),
        ("[]", "Expected `object`"),
        ('{"site": {"id": "a"}}', "missing required field `devices`"),
        (changed(serial_numbr="1"), "devices[0].serial_numbr is no field"),
        (changed(install_date="2025-06-01"), "$.devices[0].install_date"),
        (changed(install_date="2025-06-01T00:00:00"), "devices[0].install_date: has no time zone"),
        (changed(attributes={}), "battery_capacity_wh"),
    ],
)
def test_a_file_that_is_wrong_says_where(
    flip: CommandLine, local: Emulator, tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "site.json").write_text(text)

    ended = flip("commission", str(tmp_path / "site.json"))

    assert ended.code == 2
    assert words in ended.err
    assert len(ended.err.splitlines()) == 1
    assert local.count("POST", "/v1/commission") == 0


def test_a_file_that_is_not_there_is_one_line(flip: CommandLine) -> None:
    ended = flip("commission", "/nowhere.json")

    assert ended.code == 2
    assert ended.err == "flip: /nowhere.json cannot be read: No such file or directory\n"


def test_an_outcome_that_is_not_known_says_to_look(flip: CommandLine, local: Emulator) -> None:
    local.fail_next(path="/v1/commission", cut="after")

    ended = flip("commission", str(REQUEST))

    assert ended.code == 1
    assert "it may have been carried out" in ended.err


# Commands


async def dispatched(emulator: Emulator) -> str:
    async with emulator.client() as client:
        await client.sites.commission(
            CommissionSite(id="hh-1", zip_code="88801"), [battery("inv-1")], can_auto_enroll=True
        )
    emulator.review_enrollments()
    (event_id,) = emulator.dispatch()
    return event_id


async def test_commands_are_a_table_and_one_document(socket_emulator: Emulator) -> None:
    await dispatched(socket_emulator)
    variables = socket_emulator.variables()
    async with Process("-m", "flip_async", "commands", "list", **variables) as table:
        await table.until_it_says("inv-1")
    async with Process("-m", "flip_async", "commands", "list", "--json", **variables) as listing:
        await listing.until_it_says("\n]\n")

    assert "DISCHARGE" in table.output
    assert [command["device_id"] for command in json.loads(listing.output)] == ["inv-1"]


async def test_what_is_new_or_changed_is_watched_until_ctrl_c(socket_emulator: Emulator) -> None:
    event_id = await dispatched(socket_emulator)
    watch = Process(
        "-m", "flip_async", "commands", "watch", "--every-s", "0.05", **socket_emulator.variables()
    )

    async with watch:
        await watch.until_it_says("new ")
        socket_emulator.cancel_event(event_id)
        await watch.until_it_says("changed ")
        code = await watch.end(signal.SIGINT)

    assert code == 130
    assert watch.output.count("new ") == watch.output.count("changed ") == 1
    assert "Traceback" not in watch.output


async def test_a_watch_lives_through_an_outage(socket_emulator: Emulator) -> None:
    await dispatched(socket_emulator)
    socket_emulator.fail_next(5, path="/v1/commands", status=503)
    watch = Process(
        "-m", "flip_async", "commands", "watch", "--every-s", "0.05", "--json",
        **socket_emulator.variables(),
    )  # fmt: skip

    async with watch:
        await watch.until_it_says('"change": "new"')
        code = await watch.end(signal.SIGTERM)

    assert code == 143
    assert "ServerError" in watch.output


async def test_a_watch_ends_where_the_credential_is_refused(socket_emulator: Emulator) -> None:
    variables = socket_emulator.variables() | {"FLIP_CLIENT_SECRET": "wrong_secret"}

    async with Process("-m", "flip_async", "commands", "watch", **variables) as watch:
        await watch.until_it_says("invalid_client")
        code = await watch.end(signal.SIGCONT)

    assert code == 1


# What all have in common


def test_what_cannot_work_is_one_line_and_2(flip: CommandLine) -> None:
    for arguments, words in (
        (["sites", "lst"], "Unknown command"),
        (["sites", "get"], "SITE_ID"),
        (["sites", "list", "--nonsense"], "Unknown option"),
        (["sites", "list"], "no environment: pass --environment sandbox"),
        (["sites", "list", "--environment", "sandbox"], "no credential: set FLIP_API_KEY"),
        (["sites", "list", "--max", "-1"], "max_items"),
    ):
        flip.set({"FLIP_API_KEY": "fl_public_a_key" if "--max" in arguments else None})
        flip.set({"FLIP_ENVIRONMENT": "sandbox" if "--max" in arguments else None})
        ended = flip(*arguments)

        assert ended.code == 2, arguments
        assert len(ended.err.splitlines()) == 1
        assert words in ended.err


def test_no_network_is_one_line_that_sends_to_the_doctor(flip: CommandLine) -> None:
    url = f"http://127.0.0.1:{free_port()}"

    ended = flip(
        "sites", "list", FLIP_API_KEY="fl_public_a_key", FLIP_API_URL=url, FLIP_OAUTH_URL=url
    )

    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1
    assert "`flip doctor` finds out why" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["sites", "--help"], ["sites", "list"], ["sites", "get", "hh-1042"], ["token"], ["doctor"]],
)  # fmt: skip
def test_where_no_terminal_is_there_are_no_frames_and_no_colours(
    flip: CommandLine, local: Emulator, arguments: list[str]
) -> None:
    flip("commission", str(REQUEST))

    ended = flip(*arguments)

    assert ended.code == 0
    assert ended.out
    assert not FRAMES & set(ended.out)


def test_on_a_terminal_a_table_has_a_frame(local: Emulator) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "flip_async", "sites", "list"], stdout=theirs,
        env=os.environ | {"TERM": "xterm-256color"},
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # Linux says so where the other end is closed
                break
            if not part:
                break
            shown += part
    os.close(ours)

    assert process.returncode == 0
    assert "─" in shown.decode()


def test_a_reader_that_has_enough_ends_it_quietly(local: Emulator) -> None:
    reading, writing = os.pipe()
    os.close(reading)

    done = subprocess.run(
        [sys.executable, "-m", "flip_async", "sites", "list"],
        stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writing)

    assert (done.returncode, done.stderr) == (141, "")
