"""Programs of the how-to pages, each run as its page says."""

import asyncio
import re
import signal
import ssl
from pathlib import Path
from typing import Any

import pytest

from flip_async import FlipClient
from flip_async.emulator import Emulator
from flip_async.httpx2 import Httpx2Transport
from flip_async.models import CommissionSite
from tests.support.processes import ROOT, Process
from tests.support.proxy import Proxy
from tests.support.secret_servers import SecretServer
from tests.support.wire import Wire
from tests.system.test_story import battery

HOW_TO = ROOT / "docs" / "how-to"


def program_of(page: str, title: str) -> str:
    """The block below the comment with this title."""
    found = re.search(
        rf"<!-- {title} -->\n```python\n(.*?)```", (HOW_TO / page).read_text(), re.DOTALL
    )
    assert found is not None, title
    return found[1]


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"]
)
async def test_a_worker_that_is_told_to_stop_sends_what_waits(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    (tmp_path / "worker.py").write_text(program_of("stop-a-worker.md", "the worker"))
    async with Emulator() as flip_local:
        async with flip_local.client() as flip:
            await flip.sites.commission(CommissionSite(id="hh-1042"), [battery("inv-77301")])
        async with Process(
            "worker.py", cwd=tmp_path, PYTHONPATH=str(ROOT), **flip_local.variables()
        ) as worker:
            await worker.until_it_says("measured")

            ended = await worker.end(number)

        assert ended == status
        assert [point["device_id"] for point in flip_local.telemetry] == ["inv-77301"]


@pytest.mark.parametrize(
    ("title", "library", "asked"),
    [("AWS", "boto3", "flip"), ("Vault", "hvac", "/v1/secret/data/flip")],
)
async def test_a_secret_in_a_manager_is_read_again_when_flip_refuses_it(
    title: str, library: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the manager's own library, as the page has it; the caller does not notice."""
    pytest.importorskip(library, reason=f"{library} is not installed")
    with SecretServer(["an_old_secret", "a_new_secret\n"]) as manager:
        for name, value in manager.variables().items():
            monkeypatch.setenv(name, value)
        async with Emulator(client_id="your_client_id", client_secret="a_new_secret") as flip_local:
            for name, value in flip_local.variables().items():
                monkeypatch.setenv(name, value)
            page: dict[str, Any] = {}
            await asyncio.to_thread(exec, program_of("read-secrets.md", title), page)

            async with page["flip"] as flip:
                sites = await flip.sites.list()

            assert sites == []
            assert flip_local.count("POST", "/token") == 2
            assert manager.asked == [asked, asked]


class Company:
    """An authority, and a server that it vouches for; a folder with the files that a page names."""

    def __init__(self, folder: Path, *, asks_for_a_certificate: bool = False) -> None:
        trustme = pytest.importorskip("trustme", reason="trustme is not installed")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "company-ca.pem"))
        client = authority.issue_cert("client.example")
        client.private_key_and_cert_chain_pem.write_to_path(str(folder / "client.pem"))
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self.tls)
        if asks_for_a_certificate:
            authority.configure_trust(self.tls)
            self.tls.verify_mode = ssl.CERT_REQUIRED


def client_of(page: str, title: str, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> FlipClient:
    """The client that a program of a page makes, in an environment that is the wire's."""
    for name in ("FLIP_API_URL", "FLIP_OAUTH_URL"):
        monkeypatch.setenv(name, wire.environment.api_url)
    monkeypatch.setenv("FLIP_CLIENT_ID", "your_client_id")
    monkeypatch.setenv("FLIP_CLIENT_SECRET", "your_client_secret")
    namespace: dict[str, Any] = {}
    exec(program_of(page, title), namespace)
    flip: FlipClient = namespace["flip"]
    return flip


@pytest.mark.parametrize(
    ("title", "asks"), [("one more authority", False), ("a certificate of your own", True)]
)
async def test_a_companys_own_authority_is_trusted(
    title: str, asks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a gateway that asks for a certificate is shown one; for tokens and for calls."""
    monkeypatch.chdir(tmp_path)
    company = Company(tmp_path, asks_for_a_certificate=asks)
    async with Wire(tls=company.tls) as wire:
        async with client_of("use-proxies-and-tls.md", title, wire, monkeypatch) as flip:
            answer = await flip.request("GET", "/v1/sites")

        assert answer.json() == {}
        assert (wire.tokens, len(wire.asked)) == (1, 1)


async def test_a_proxy_for_one_client_carries_calls_and_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Wire() as wire, Proxy(wire.port) as proxy:
        real = Httpx2Transport

        def to_this_one(*, proxy: str) -> Httpx2Transport:
            assert proxy == "http://name:password@proxy.example:3128"
            return real(proxy=f"http://name:password@127.0.0.1:{there}")

        there = proxy.port
        monkeypatch.setattr("flip_async.httpx2.Httpx2Transport", to_this_one)
        async with client_of("use-proxies-and-tls.md", "a proxy", wire, monkeypatch) as flip:
            answer = await flip.request("GET", "/v1/sites")

        assert answer.json() == {}
        assert len(proxy.asked) >= 1
        assert all("Proxy-Authorization: Basic" in head for head in proxy.asked)
