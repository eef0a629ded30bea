"""`flip webhooks`: checking them, sending them again, looking at what arrives."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from flip_async.webhooks import sign
from tests.support.command_line import CommandLine
from tests.support.processes import Process, free_port
from tests.support.small_server import SmallServer
from tests.support.webhooks import DATA, OTHER_SECRET, SECRET

BODY = DATA / "webhook-command-created.json"


@pytest.fixture
def flip(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    monkeypatch.setenv("FLIP_WEBHOOK_SECRET", SECRET)
    return CommandLine(monkeypatch, capsys)


def headers(age_s: float = 0, secret: str = SECRET) -> dict[str, str]:
    return sign(BODY.read_bytes(), secret, webhook_id="msg_1", timestamp=time.time() - age_s)


def recorded(
    folder: Path, *, age_s: float = 0, end: bytes = b"\n", first: str = "", secret: str = SECRET
) -> str:
    path = folder / "one.webhook"
    lines = [first] if first else []
    lines += [f"{name}: {value}" for name, value in headers(age_s, secret).items()]
    head = b"".join(line.encode() + end for line in lines)
    path.write_bytes(head + end + BODY.read_bytes())
    return str(path)


# Verify


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("first", ["", "POST /webhooks/flip HTTP/1.1"])
def test_a_recorded_webhook_is_found_good(
    flip: CommandLine, tmp_path: Path, end: bytes, first: str
) -> None:
    ended = flip("webhooks", "verify", recorded(tmp_path, end=end, first=first))

    assert ended.code == 0, ended.err
    assert re.search(r"signature +holds", ended.out)
    assert "command.created" in ended.out
    assert ended.err == ""


def test_a_body_and_headers_of_the_command_line_are_found_good(flip: CommandLine) -> None:
    given = [part for pair in headers().items() for part in ("--header", ": ".join(pair))]

    ended = flip("webhooks", "verify", str(BODY), *given, "--json")

    assert ended.code == 0, ended.err
    assert ended.json["ok"] is True
    assert ended.json["webhook_id"] == "msg_1"


def test_it_comes_by_standard_input_too(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flip_async", "webhooks", "verify", "-"],
        input=Path(recorded(tmp_path)).read_bytes(), capture_output=True, check=False,
        env={"FLIP_WEBHOOK_SECRET": SECRET, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr


def test_a_newline_that_an_editor_added_is_told(flip: CommandLine, tmp_path: Path) -> None:
    path = Path(recorded(tmp_path))
    path.write_bytes(path.read_bytes() + b"\n")

    ended = flip("webhooks", "verify", str(path))

    assert ended.code == 0
    assert "without the newline" in ended.err


def test_an_old_one_is_refused_unless_its_age_does_not_matter(
    flip: CommandLine, tmp_path: Path
) -> None:
    path = recorded(tmp_path, age_s=3600)

    refused, taken = flip("webhooks", "verify", path), flip("webhooks", "verify", path, "--any-age")
    within = flip("webhooks", "verify", path, "--tolerance-s", "4000")

    assert refused.code == 1
    assert refused.err.startswith("flip: WebhookTooOldError")
    assert (taken.code, within.code) == (0, 0)


def test_what_was_signed_with_another_key_is_refused(flip: CommandLine, tmp_path: Path) -> None:
    path = recorded(tmp_path, secret=OTHER_SECRET)

    ended, as_json = flip("webhooks", "verify", path), flip("webhooks", "verify", path, "--json")

    assert (ended.code, as_json.code) == (1, 1)
    assert len(ended.err.splitlines()) == 1
    assert as_json.json["error"] == "WebhookSignatureError"
    assert SECRET not in ended.err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("Webhook-Id: msg_1\n", "has no body"),
        ("hello\n\n{}", "a header is NAME: VALUE"),
    ],
)
def test_a_file_that_is_no_webhook_says_so(
    flip: CommandLine, tmp_path: Path, content: str, words: str
) -> None:
    (tmp_path / "one").write_text(content)

    ended = flip("webhooks", "verify", str(tmp_path / "one"))

    assert ended.code == 2
    assert words in ended.err


def test_a_body_with_no_headers_lacks_one(flip: CommandLine) -> None:
    ended = flip("webhooks", "verify", str(BODY))

    assert ended.code == 1
    assert "Webhook-Id is not there" in ended.err


def test_without_a_key_it_says_where_one_is_from(flip: CommandLine, tmp_path: Path) -> None:
    path = recorded(tmp_path)

    none = flip("webhooks", "verify", path, FLIP_WEBHOOK_SECRET=None)
    missing = flip("webhooks", "verify", path, FLIP_WEBHOOK_SECRET_FILE="/nowhere")
    both = flip("webhooks", "verify", path, FLIP_WEBHOOK_SECRET=SECRET)
    wrong = flip(
        "webhooks", "verify", path, FLIP_WEBHOOK_SECRET="whsec_?", FLIP_WEBHOOK_SECRET_FILE=None
    )

    assert "set FLIP_WEBHOOK_SECRET" in none.err
    assert "FLIP_WEBHOOK_SECRET_FILE: its file cannot be read" in missing.err
    assert "keep one of them" in both.err
    assert "is no signing key" in wrong.err
    assert "whsec_?" not in wrong.err
    assert {none.code, missing.code, both.code, wrong.code} == {2}


def test_a_mounted_key_counts(flip: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{SECRET}\n")

    ended = flip(
        "webhooks", "verify", recorded(tmp_path),
        FLIP_WEBHOOK_SECRET=None, FLIP_WEBHOOK_SECRET_FILE=str(tmp_path / "key"),
    )  # fmt: skip

    assert ended.code == 0, ended.err


# Replay


def test_a_body_is_signed_anew_and_posted(flip: CommandLine) -> None:
    with SmallServer({"/hook": {}}) as server:
        ended = flip(
            "webhooks", "replay", str(BODY), "--to", f"{server.url}/hook", "--times", "2", "--json"
        )

    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert ended.code == 0, ended.err
    assert server.asked == [("POST", "/hook", BODY.read_bytes())] * 2
    assert [row["outcome"] for row in rows] == [200, 200]
    assert len({row["webhook_id"] for row in rows}) == 1


def test_an_application_that_refuses_it_ends_it_with_1(flip: CommandLine) -> None:
    with SmallServer({}) as server:
        ended = flip("webhooks", "replay", str(BODY), "--to", f"{server.url}/hook")

    assert ended.code == 1
    assert "  404  " in ended.out


def test_an_application_that_does_not_run_is_one_line(flip: CommandLine) -> None:
    ended = flip("webhooks", "replay", str(BODY), "--to", f"http://127.0.0.1:{free_port()}/")

    assert ended.code == 1
    assert "is your application running?" in ended.err


@pytest.mark.parametrize("to", ["ftp://127.0.0.1/", "here", "http://[::1"])
def test_a_place_that_is_none_is_refused(flip: CommandLine, to: str) -> None:
    ended = flip("webhooks", "replay", str(BODY), "--to", to)

    assert ended.code == 2
    assert "--to is http:// or https://" in ended.err


# Listen


def listening(*options: str) -> Process:
    return Process(
        "-m", "flip_async", "webhooks", "listen", "--port", "0", *options,
        FLIP_WEBHOOK_SECRET=SECRET,
    )  # fmt: skip


async def test_what_arrives_is_shown_and_kept_until_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    body = BODY.read_bytes()
    async with listening("--save", str(tmp_path)) as listen, httpx.AsyncClient() as http:
        await listen.until_it_says("Ctrl-C stops it")
        url = re.search(r"http://\S+(?=;)", listen.output)[0]  # type: ignore[index]
        good = await http.post(url, content=body, headers=headers())
        bad = await http.post(url, content=body, headers=headers(secret=OTHER_SECRET))
        elsewhere = await http.get(url)
        large = await http.post(url, content=bytes(2 * 1024 * 1024))
        await listen.until_it_says("more than")
        code = await listen.end(signal.SIGINT)

    assert [one.status_code for one in (good, bad, elsewhere, large)] == [204, 400, 404, 413]
    assert "holds    command.created  msg_1" in listen.output
    assert "refused  WebhookSignatureError" in listen.output
    assert '"device_id": "inv-77301"' in listen.output
    assert code == 130
    assert "Traceback" not in listen.output
    assert len(list(tmp_path.iterdir())) == 2


async def test_what_was_kept_can_be_verified_and_replayed(tmp_path: Path) -> None:
    async with listening("--save", str(tmp_path), "--json") as listen, httpx.AsyncClient() as http:
        await listen.until_it_says("Ctrl-C stops it")
        url = re.search(r"http://\S+(?=;)", listen.output)[0]  # type: ignore[index]
        await http.post(url, content=BODY.read_bytes(), headers=headers())
        await listen.until_it_says('"ok": true')
        (kept,) = tmp_path.iterdir()
        verify = Process(
            "-m", "flip_async", "webhooks", "verify", str(kept), FLIP_WEBHOOK_SECRET=SECRET
        )
        async with verify:
            await verify.until_it_says("holds")
        replay = Process(
            "-m", "flip_async", "webhooks", "replay", str(kept), "--to", url,
            FLIP_WEBHOOK_SECRET=SECRET,
        )  # fmt: skip
        async with replay:
            await replay.until_it_says("  204  ")


def test_listening_needs_its_extra_and_says_which(
    flip: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)

    ended = flip("webhooks", "listen")

    assert ended.code == 2
    assert "pip install 'flip-async[cli,emulator]'" in ended.err


def test_a_port_that_is_taken_is_told(flip: CommandLine) -> None:
    with SmallServer() as server:
        ended = flip("webhooks", "listen", "--port", str(server.port))

    assert ended.code == 1
    assert "is taken: try --port 0" in ended.err


@pytest.mark.parametrize(
    ("options", "words"), [(("--path", "here"), "begins with a slash"), (("--save", "/no/where"), "is no folder")]
)  # fmt: skip
def test_what_it_cannot_do_is_told_before_it_listens(
    flip: CommandLine, options: tuple[str, str], words: str
) -> None:
    ended = flip("webhooks", "listen", *options)

    assert ended.code == 2
    assert words in ended.err
