"""`flip doctor`: what it finds, and what it says to do."""

import importlib.util
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from flip_async.emulator import Emulator
from tests.support.command_line import CommandLine, Ended
from tests.support.processes import free_port
from tests.support.small_server import TOKEN, SmallServer

VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
CHECKS = ["versions", "credential", "environment", "proxy", "certificates", "network", "token", "API", "clock"]  # fmt: skip
HTML = b"<html><body>Welcome to the guest network</body></html>"


@pytest.fixture
def flip(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    for name in (*VARIABLES, *(name.lower() for name in VARIABLES)):
        monkeypatch.delenv(name, raising=False)
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def local() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


def statuses(ended: Ended) -> dict[str, str]:
    return {check["check"]: check["status"] for check in ended.json["checks"]}


def line(ended: Ended, check: str) -> str:
    (found,) = [one for one in ended.out.splitlines() if one.split()[1] == check]
    return found


# The right credential


def test_with_the_right_secret_all_is_well(flip: CommandLine, local: Emulator) -> None:
    ended = flip("doctor", **local.variables())

    assert ended.code == 0, ended.out
    assert [one.split()[:2] for one in ended.out.splitlines()] == [["ok", name] for name in CHECKS]
    assert "OAuth client, from FLIP_CLIENT_ID and FLIP_CLIENT_SECRET" in line(ended, "credential")
    assert "lives 3600 s" in line(ended, "token")
    assert "answers 200" in line(ended, "API")
    assert local.client_secret not in ended.out


def test_with_an_api_key_no_token_is_asked_for(flip: CommandLine, local: Emulator) -> None:
    flip.set(local.variables())

    ended = flip("doctor", FLIP_API_KEY=local.api_key, FLIP_CLIENT_ID=None, FLIP_CLIENT_SECRET=None)

    assert ended.code == 0, ended.out
    assert "API key, from FLIP_API_KEY" in line(ended, "credential")
    assert "none is needed" in line(ended, "token")
    assert local.count("POST", "/token") == 0
    assert local.api_key not in ended.out


def test_a_mounted_secret_is_named_by_its_file(
    flip: CommandLine, local: Emulator, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text(f"{local.client_secret}\n")
    flip.set(local.variables())

    ended = flip(
        "doctor", FLIP_CLIENT_SECRET=None, FLIP_CLIENT_SECRET_FILE=str(tmp_path / "secret")
    )

    assert ended.code == 0, ended.out
    assert f"the file {tmp_path / 'secret'} (FLIP_CLIENT_SECRET_FILE)" in ended.out
    assert local.client_secret not in ended.out


def test_the_scopes_of_a_token_are_told(flip: CommandLine) -> None:
    answers = {"/token": TOKEN | {"scope": "sites:read"}, "/v1/sites": []}
    with SmallServer(answers) as server:
        ended = flip("doctor", **server.variables())

    assert ended.code == 0
    assert "lives 3600 s, scopes sites:read" in line(ended, "token")


# A wrong credential


def test_a_wrong_secret_is_told_and_never_shown(flip: CommandLine, local: Emulator) -> None:
    flip.set(local.variables())

    ended = flip("doctor", FLIP_CLIENT_SECRET="wrong_secret")

    assert ended.code == 1
    assert line(ended, "token").startswith("failed")
    assert "FLIP_CLIENT_ID and FLIP_CLIENT_SECRET do not fit" in line(ended, "token")
    assert line(ended, "API").startswith("skipped")
    assert "wrong_secret" not in ended.out + ended.err


def test_a_wrong_key_is_told_by_the_api(flip: CommandLine, local: Emulator) -> None:
    flip.set(local.variables())

    ended = flip(
        "doctor", FLIP_API_KEY="fl_wrong_key_0000", FLIP_CLIENT_ID=None, FLIP_CLIENT_SECRET=None
    )

    assert ended.code == 1
    assert "the credential is refused" in line(ended, "API")
    assert "fl_wrong_key" not in ended.out


def test_a_credential_that_may_not_list_sites_is_good_all_the_same(flip: CommandLine) -> None:
    with SmallServer(statuses={"/v1/sites": 403}) as server:
        ended = flip("doctor", **server.variables())

    assert ended.code == 1
    assert "the credential is good" in line(ended, "API")


def test_without_a_credential_all_that_needs_none_is_looked_at(
    flip: CommandLine, local: Emulator
) -> None:
    flip.set(local.variables())

    ended = flip("doctor", "--json", FLIP_CLIENT_ID=None, FLIP_CLIENT_SECRET=None)

    assert ended.code == 1
    assert ended.json["ok"] is False
    found = {check["check"]: check for check in ended.json["checks"]}
    assert list(found) == CHECKS
    assert "set FLIP_API_KEY" in found["credential"]["advice"]
    assert found["network"]["status"] == "ok"
    assert found["token"]["status"] == "skipped"


def test_half_a_credential_and_two_of_them_are_told(flip: CommandLine, local: Emulator) -> None:
    flip.set(local.variables())

    half = flip("doctor", FLIP_CLIENT_SECRET=None)
    both = flip("doctor", FLIP_CLIENT_SECRET="a_secret", FLIP_API_KEY="fl_public_a_key")

    assert "half a credential" in line(half, "credential")
    assert "keep one of them" in line(both, "credential")
    assert (half.code, both.code) == (1, 1)


def test_a_mounted_file_that_is_missing_is_told(flip: CommandLine, local: Emulator) -> None:
    flip.set(local.variables())

    ended = flip("doctor", FLIP_CLIENT_SECRET=None, FLIP_CLIENT_SECRET_FILE="/nowhere/secret")

    assert "FLIP_CLIENT_SECRET_FILE (/nowhere/secret)" in line(ended, "credential")
    assert "a file that this user can read" in line(ended, "credential")


# The environment


def test_without_an_environment_it_says_how_to_name_one(flip: CommandLine) -> None:
    ended = flip("doctor", FLIP_API_KEY="fl_public_a_key")

    assert ended.code == 1
    assert "pass --environment sandbox" in line(ended, "environment")
    assert [one.split()[1] for one in ended.out.splitlines()] == CHECKS


def test_a_host_that_no_variable_may_name_is_refused(flip: CommandLine) -> None:
    ended = flip(
        "doctor",
        FLIP_API_KEY="fl_public_a_key",
        FLIP_API_URL="https://evil.example",
        FLIP_OAUTH_URL="https://evil.example",
    )

    assert ended.code == 1
    assert "FLIP_API_URL is on evil.example" in line(ended, "environment")


# The network


def test_a_refused_connection_is_told_and_nothing_else_is_tried(flip: CommandLine) -> None:
    url = f"http://127.0.0.1:{free_port()}"

    ended = flip("doctor", FLIP_API_KEY="fl_public_a_key", FLIP_API_URL=url, FLIP_OAUTH_URL=url)

    assert ended.code == 1
    assert "refuses connections: start the local Flip (`flip emulator`)" in line(ended, "network")
    assert line(ended, "API").startswith("skipped")


def test_a_name_that_is_not_known_is_told(
    flip: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*arguments: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    ended = flip("doctor", "--environment", "sandbox", FLIP_API_KEY="fl_public_a_key")

    assert ended.code == 1
    assert "the name api-sandbox.flip.energy is not known" in line(ended, "network")
    assert "DNS" in line(ended, "network")


def test_both_hosts_are_tried_where_they_differ(flip: CommandLine, local: Emulator) -> None:
    flip.set(local.variables())

    ended = flip("doctor", "--json", FLIP_OAUTH_URL=f"http://127.0.0.1:{free_port()}")

    networks = [check for check in ended.json["checks"] if check["check"] == "network"]
    assert [check["status"] for check in networks] == ["ok", "failed"]
    assert "token host" in networks[1]["message"]


# Another host


def test_a_host_that_is_no_flip_is_told_by_its_token(flip: CommandLine) -> None:
    with SmallServer({"/token": HTML, "/v1/sites": HTML}) as server:
        ended = flip("doctor", **server.variables())

    assert ended.code == 1
    assert "is this Flip?" in line(ended, "token")


@pytest.mark.parametrize("answers", [{"/v1/sites": HTML}, {}, {"/v1/sites": {"hello": 1}}])
def test_a_host_that_is_no_flip_is_told_by_its_api(
    flip: CommandLine, answers: dict[str, object]
) -> None:
    with SmallServer(answers) as server:
        flip.set(server.variables())
        ended = flip(
            "doctor", FLIP_API_KEY="fl_public_a_key", FLIP_CLIENT_ID=None, FLIP_CLIENT_SECRET=None
        )

    assert ended.code == 1
    assert "is this Flip?" in line(ended, "API")


def test_a_flip_that_is_out_of_order_is_no_fault_of_yours(flip: CommandLine) -> None:
    with SmallServer(statuses={"/v1/sites": 503}) as server:
        ended = flip("doctor", **server.variables())

    assert ended.code == 1
    assert "it is for Flip to mend" in line(ended, "API")
    assert sum(path == "/v1/sites" for _, path, _ in server.asked) == 1


def test_a_token_host_that_is_out_of_order_is_told_before_it_is_given_up(
    flip: CommandLine,
) -> None:
    with SmallServer(statuses={"/token": 503}) as server:
        ended = flip("doctor", "--timeout-s", "0.2", **server.variables())

    assert ended.code == 1
    assert "503" in line(ended, "token")
    assert "try again later" in line(ended, "token")


# Clocks


@pytest.mark.parametrize(("ahead_s", "word"), [(120, "behind"), (-120, "ahead of")])
def test_a_clock_that_is_wrong_is_a_warning(flip: CommandLine, ahead_s: int, word: str) -> None:
    with SmallServer(ahead_s=ahead_s) as server:
        ended = flip("doctor", **server.variables())

    assert ended.code == 0
    assert line(ended, "clock").startswith("warning")
    assert re.search(rf"1(19|20|21) s {word} Flip's", line(ended, "clock"))
    assert "webhooks are refused at 300 s" in line(ended, "clock")


def test_a_clock_that_is_right_is_right(flip: CommandLine) -> None:
    with SmallServer(ahead_s=20) as server:
        ended = flip("doctor", **server.variables())

    assert line(ended, "clock").startswith("ok")


# Certificates


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[SmallServer]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    with SmallServer(tls=tls) as server:
        yield server


def test_a_host_whose_certificate_is_not_trusted_is_told(
    flip: CommandLine, secure: SmallServer
) -> None:
    ended = flip("doctor", **secure.variables())

    assert ended.code == 1
    assert "its certificate is not trusted" in line(ended, "network")
    assert "SSL_CERT_FILE" in line(ended, "network")


def test_the_file_of_certificates_in_use_is_named(
    flip: CommandLine, secure: SmallServer, authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    ended = flip("doctor", **secure.variables(), SSL_CERT_FILE=str(tmp_path / "ca.pem"))

    assert f"{tmp_path / 'ca.pem'} (SSL_CERT_FILE)" in line(ended, "certificates")
    assert line(ended, "network").startswith("ok")


@pytest.mark.parametrize("content", [None, "no certificate\n"])
def test_a_bad_file_of_certificates_is_told(
    flip: CommandLine, secure: SmallServer, tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)

    ended = flip("doctor", **secure.variables(), SSL_CERT_FILE=str(tmp_path / "ca.pem"))

    assert ended.code == 1
    assert line(ended, "certificates").startswith("failed")
    assert "let SSL_CERT_FILE name a file of certificates" in line(ended, "certificates")
    assert line(ended, "network").startswith("skipped")


def test_a_folder_of_certificates_that_is_none_is_told(
    flip: CommandLine, secure: SmallServer
) -> None:
    ended = flip("doctor", **secure.variables(), SSL_CERT_DIR="/nowhere")

    assert ended.code == 1
    assert "SSL_CERT_DIR cannot be used" in line(ended, "certificates")


def test_bad_certificates_are_a_warning_where_none_are_needed(
    flip: CommandLine, local: Emulator
) -> None:
    ended = flip("doctor", **local.variables(), SSL_CERT_FILE="/nowhere")

    assert ended.code == 0, ended.out
    assert line(ended, "certificates").startswith("warning")


def test_a_host_that_speaks_no_tls_is_told(flip: CommandLine) -> None:
    with SmallServer() as server:
        url = server.url.replace("http:", "https:")
        ended = flip("doctor", FLIP_API_KEY="fl_public_a_key", FLIP_API_URL=url, FLIP_OAUTH_URL=url)

    assert ended.code == 1
    assert "speaks no TLS" in line(ended, "network")


# Proxies


def test_a_proxy_that_does_not_answer_is_told(flip: CommandLine) -> None:
    proxy = f"127.0.0.1:{free_port()}"

    ended = flip(
        "doctor",
        "--environment",
        "sandbox",
        FLIP_API_KEY="fl_public_a_key",
        HTTPS_PROXY=f"http://user:pass_word@{proxy}",
    )

    assert ended.code == 1
    assert f"{proxy} (HTTPS_PROXY)" in line(ended, "proxy")
    assert f"the proxy {proxy} refuses connections" in line(ended, "network")
    assert "correct or unset HTTPS_PROXY" in line(ended, "network")
    assert "pass_word" not in ended.out


@pytest.mark.parametrize("proxy", ["htp://127.0.0.1:1", "http://", "http://[::1", "http://a:b"])
def test_a_proxy_that_is_none_is_told(flip: CommandLine, proxy: str) -> None:
    ended = flip(
        "doctor", "--environment", "sandbox", FLIP_API_KEY="fl_public_a_key", HTTPS_PROXY=proxy
    )

    assert ended.code == 1
    assert "HTTPS_PROXY cannot be used as a proxy" in line(ended, "proxy")


def test_a_socks_proxy_without_its_package_is_told(
    flip: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    ended = flip(
        "doctor",
        "--environment",
        "sandbox",
        FLIP_API_KEY="fl_public_a_key",
        ALL_PROXY="socks5://127.0.0.1:1",
    )

    assert ended.code == 1
    assert "pip install 'httpx[socks]'" in line(ended, "proxy")


def test_a_proxy_that_lets_nobody_through_is_told(flip: CommandLine) -> None:
    with SmallServer(statuses={"api-sandbox.flip.energy:443": 407}) as proxy:
        ended = flip(
            "doctor",
            "--environment",
            "sandbox",
            FLIP_API_KEY="fl_public_a_key",
            HTTPS_PROXY=proxy.url,
        )

    assert ended.code == 1
    assert line(ended, "network").startswith("ok")
    assert "407" in line(ended, "API")
    assert "proxy" in line(ended, "API")


def test_loopback_needs_no_proxy(flip: CommandLine, local: Emulator) -> None:
    ended = flip("doctor", **local.variables(), ALL_PROXY="http://127.0.0.1:1")

    assert ended.code == 0
    assert line(ended, "proxy").split() == ["ok", "proxy", "none"]


# For programs


def test_as_json_it_is_one_document(flip: CommandLine, local: Emulator) -> None:
    ended = flip("doctor", "--json", **local.variables())

    assert ended.code == 0
    assert ended.json["ok"] is True
    assert statuses(ended) == dict.fromkeys(CHECKS, "ok")
    assert all(set(one) == {"check", "status", "message", "advice"} for one in ended.json["checks"])


def test_what_is_wrong_with_the_call_is_told_in_a_line(flip: CommandLine) -> None:
    ended = flip("doctor", "--timeout-s", "0")

    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert "--timeout-s" in ended.err
