"""Credentials in files that Docker and Kubernetes mount, and that change while we run [F11]."""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from flip_async import SandboxClient
from flip_async.errors import (
    AuthenticationError,
    ConfigurationError,
    StorageError,
    TokenRequestError,
    TokenUnavailableError,
)
from flip_async.webhooks import Handlers, SqliteInbox, WebhookReceiver
from tests.support import FakeFlip, ManualClock
from tests.support.webhooks import OTHER_SECRET, SECRET, MemoryInbox, body_of, example, signed
from tests.unit.test_checks import shown_by_the_traceback_of

OLD, NEW = "fl_your_old_key", "fl_your_new_key"
ENROLLED = body_of("enrollment.updated", example("enrollment.updated")["event_object"])
VARIABLES = ("FLIP_API_KEY_FILE", "FLIP_CLIENT_SECRET_FILE", "FLIP_WEBHOOK_SECRET_FILE")


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """As Kubernetes does: the name is a link, which is put in the place of the old one."""

    def mount(variable: str, text: str) -> Path:
        content = tmp_path / f"{variable}.{len(list(tmp_path.iterdir()))}"
        content.write_text(text)
        link, new = tmp_path / variable, tmp_path / f"{variable}.link"
        new.symlink_to(content)
        new.replace(link)
        monkeypatch.setenv(variable, str(link))
        return link

    return mount


async def test_an_api_key_is_read_again_when_it_is_refused(
    fake: FakeFlip, mount: Callable[[str, str], Path]
) -> None:
    mount("FLIP_API_KEY_FILE", f"\ufeff{OLD}\n")
    fake.valid = {OLD}
    async with SandboxClient(transport=fake) as flip:
        assert await flip.sites.list() == []
        mount("FLIP_API_KEY_FILE", NEW)
        fake.valid = {NEW}

        assert await flip.sites.list() == []

    assert fake.carried == [OLD, OLD, NEW]


async def test_a_key_that_is_still_the_same_is_a_401(
    fake: FakeFlip, mount: Callable[[str, str], Path]
) -> None:
    mount("FLIP_API_KEY_FILE", OLD)
    async with SandboxClient(transport=fake) as flip:
        with pytest.raises(AuthenticationError):
            await flip.sites.list()

    assert fake.carried == [OLD]


async def test_a_client_secret_is_read_again_when_it_is_refused(
    fake: FakeFlip, mount: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIP_CLIENT_ID", "your_client_id")
    mount("FLIP_CLIENT_SECRET_FILE", "your_old_secret\n")
    async with SandboxClient(transport=fake) as flip:
        await flip.sites.list()
        mount("FLIP_CLIENT_SECRET_FILE", "your_new_secret\n")
        fake.revoke()
        fake.next_token_answers.append(httpx.Response(401, json={"error": "invalid_client"}))

        await flip.sites.list()

    sent = [request.content.decode().rpartition("=")[2] for request in fake.token_requests]
    assert sent == ["your_old_secret", "your_old_secret", "your_new_secret"]


async def test_a_secret_that_is_still_refused_is_told(
    fake: FakeFlip, mount: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIP_CLIENT_ID", "your_client_id")
    mount("FLIP_CLIENT_SECRET_FILE", "your_wrong_secret")
    fake.next_token_answers.append(httpx.Response(401, json={"error": "invalid_client"}))
    async with SandboxClient(transport=fake) as flip:
        with pytest.raises(TokenRequestError, match="invalid_client"):
            await flip.sites.list()


async def test_a_file_that_is_gone_when_it_is_read_again_is_named(
    fake: FakeFlip, mount: Callable[[str, str], Path]
) -> None:
    link = mount("FLIP_API_KEY_FILE", OLD)
    fake.valid = {OLD}
    async with SandboxClient(transport=fake) as flip:
        await flip.sites.list()
        fake.revoke()
        link.unlink()

        with pytest.raises(TokenUnavailableError, match="FLIP_API_KEY_FILE") as caught:
            await flip.sites.list()

    assert str(link) in str(caught.value)
    assert "FileNotFoundError" in str(caught.value)


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read (FileNotFoundError)"),
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"\xff\xfe", "no text in UTF-8"),
        (b"x" * 65_537, "more than 65,536 bytes"),
        ("folder", "it is no file"),
        ("pipe", "it is no file"),
    ],
)
def test_a_file_that_is_of_no_use_is_named_at_the_start(
    variable: str,
    content: bytes | str | None,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "file"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "pipe":
        os.mkfifo(path)
    elif content is not None:
        path.mkdir()
    monkeypatch.setenv(variable, str(path))
    if variable == "FLIP_CLIENT_SECRET_FILE":
        monkeypatch.setenv("FLIP_CLIENT_ID", "your_client_id")

    with pytest.raises(ConfigurationError) as caught:
        start(variable)

    assert variable in str(caught.value)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


def start(variable: str) -> None:
    if variable == "FLIP_WEBHOOK_SECRET_FILE":
        WebhookReceiver(Handlers())
    else:
        SandboxClient()


def test_a_key_that_is_none_is_said_with_variable_and_file_and_not_shown(
    mount: Callable[[str, str], Path],
) -> None:
    link = mount("FLIP_API_KEY_FILE", "fl_two keys")

    with pytest.raises(ConfigurationError, match="white space") as caught:
        SandboxClient()

    assert f"FLIP_API_KEY_FILE ({link})" in str(caught.value)
    assert "two keys" not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        (("FLIP_API_KEY", "FLIP_API_KEY_FILE"), "FLIP_API_KEY and FLIP_API_KEY_FILE"),
        (("FLIP_CLIENT_SECRET", "FLIP_CLIENT_SECRET_FILE"), "and FLIP_CLIENT_SECRET_FILE"),
        (("FLIP_API_KEY_FILE", "FLIP_CLIENT_ID"), "FLIP_API_KEY_FILE and FLIP_CLIENT_ID"),
        (("FLIP_CLIENT_SECRET_FILE",), "FLIP_CLIENT_SECRET_FILE is there, FLIP_CLIENT_ID is"),
    ],
)
def test_variables_that_contradict_one_another_are_refused(
    variables: tuple[str, ...],
    says: str,
    mount: Callable[[str, str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in variables:
        if name.endswith("_FILE"):
            mount(name, "fl_your_api_key")
        else:
            monkeypatch.setenv(name, "fl_your_api_key")

    with pytest.raises(ConfigurationError, match=says):
        SandboxClient()


def test_an_argument_wins_and_no_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIP_API_KEY_FILE", "/nowhere")
    monkeypatch.setenv("FLIP_WEBHOOK_SECRET_FILE", "/nowhere")

    SandboxClient(api_key="fl_your_api_key")
    WebhookReceiver(Handlers(), secret=SECRET)


async def test_two_clients_of_one_file_share_the_tokens_of_a_site(
    mount: Callable[[str, str], Path],
) -> None:
    """What is in the file at the start tells whose they are, as a key does that is given."""
    mount("FLIP_API_KEY_FILE", OLD)
    one, other = SandboxClient(), SandboxClient()
    given = SandboxClient(api_key=OLD)

    identities = {flip._session.auth._source.identity for flip in (one, other, given)}  # type: ignore[attr-defined]

    assert len(identities) == 1


# Webhooks


async def deliver(receiver: WebhookReceiver, secret: str, webhook_id: str) -> int:
    headers = signed(ENROLLED, webhook_id, secret=secret)
    return (await receiver.receive(ENROLLED, headers)).status


def handlers() -> Handlers:
    found = Handlers()

    @found.on("enrollment.updated")
    async def on_enrollment(event: object) -> None: ...

    return found


async def test_signing_keys_are_read_again_where_a_signature_fits_none(
    mount: Callable[[str, str], Path], clock: ManualClock
) -> None:
    """The first webhook with the new key is not lost."""
    mount("FLIP_WEBHOOK_SECRET_FILE", f"{SECRET}\n")
    async with WebhookReceiver(handlers(), clock=clock) as receiver:
        assert await deliver(receiver, SECRET, "a") == 204
        mount("FLIP_WEBHOOK_SECRET_FILE", f"{OTHER_SECRET} {SECRET}")

        assert await deliver(receiver, OTHER_SECRET, "b") == 204
        assert await deliver(receiver, SECRET, "c") == 204


async def test_a_stranger_makes_us_read_the_file_no_more_than_once_in_five_seconds(
    mount: Callable[[str, str], Path], clock: ManualClock
) -> None:
    mount("FLIP_WEBHOOK_SECRET_FILE", SECRET)
    async with WebhookReceiver(handlers(), clock=clock) as receiver:
        assert await deliver(receiver, OTHER_SECRET, "a") == 401
        mount("FLIP_WEBHOOK_SECRET_FILE", OTHER_SECRET)
        assert await deliver(receiver, OTHER_SECRET, "a") == 401
        clock.move(5)
        assert await deliver(receiver, OTHER_SECRET, "a") == 204


async def test_a_file_that_cannot_be_read_again_leaves_the_keys_as_they_are(
    mount: Callable[[str, str], Path], clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    link = mount("FLIP_WEBHOOK_SECRET_FILE", SECRET)
    async with WebhookReceiver(handlers(), clock=clock) as receiver:
        link.unlink()
        with caplog.at_level(logging.WARNING):
            assert await deliver(receiver, OTHER_SECRET, "a") == 401
        assert await deliver(receiver, SECRET, "b") == 204

    assert f"FLIP_WEBHOOK_SECRET_FILE ({link}): it cannot be read" in caplog.text


async def test_an_inbox_lets_in_at_the_next_start_who_has_only_the_new_key(
    mount: Callable[[str, str], Path], clock: ManualClock, tmp_path: Path
) -> None:
    mount("FLIP_WEBHOOK_SECRET_FILE", SECRET)
    inbox = SqliteInbox(tmp_path / "inbox.db", clock=clock)
    async with WebhookReceiver(handlers(), inbox=inbox, clock=clock) as receiver:
        mount("FLIP_WEBHOOK_SECRET_FILE", OTHER_SECRET)
        assert await deliver(receiver, OTHER_SECRET, "a") == 204

    async with WebhookReceiver(handlers(), inbox=inbox, clock=clock) as receiver:
        assert await deliver(receiver, OTHER_SECRET, "b") == 204


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_name_that_no_file_can_have_is_refused(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "x" * 5000 + os.sep)
    monkeypatch.setenv("FLIP_CLIENT_ID", "your_client_id") if "SECRET" in variable else None

    with pytest.raises(ConfigurationError, match=variable):
        start(variable)


async def test_webhooks_that_come_together_wait_for_one_look_at_the_file(
    mount: Callable[[str, str], Path], clock: ManualClock
) -> None:
    mount("FLIP_WEBHOOK_SECRET_FILE", SECRET)
    async with WebhookReceiver(handlers(), clock=clock) as receiver:
        mount("FLIP_WEBHOOK_SECRET_FILE", OTHER_SECRET)

        all_of_them = (deliver(receiver, OTHER_SECRET, str(number)) for number in range(40))

        assert set(await asyncio.gather(*all_of_them)) == {204}


async def test_a_disk_that_hangs_holds_a_refusal_no_longer_than_an_answer_may_take(
    mount: Callable[[str, str], Path],
) -> None:
    link = mount("FLIP_WEBHOOK_SECRET_FILE", SECRET)
    async with WebhookReceiver(handlers(), answer_within_s=0.05) as receiver:
        link.unlink()
        os.mkfifo(link)  # to open it waits until somebody writes
        assert await deliver_now(receiver, OTHER_SECRET, "a") == 401
        assert await deliver_now(receiver, SECRET, "b") == 204
        os.close(os.open(link, os.O_WRONLY | os.O_NONBLOCK))  # and lets the thread go


async def deliver_now(receiver: WebhookReceiver, secret: str, webhook_id: str) -> int:
    headers = signed(ENROLLED, webhook_id, at_s=receiver._clock.wall(), secret=secret)
    return (await receiver.receive(ENROLLED, headers)).status


async def test_an_inbox_that_was_away_is_told_of_new_keys_with_the_next_webhook(
    mount: Callable[[str, str], Path], clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the next start, with the new key alone, would be refused."""
    inbox = Learner(clock)
    mount("FLIP_WEBHOOK_SECRET_FILE", SECRET)
    async with WebhookReceiver(handlers(), inbox=inbox, clock=clock) as receiver:
        mount("FLIP_WEBHOOK_SECRET_FILE", OTHER_SECRET)
        inbox.is_away = True
        assert await deliver(receiver, OTHER_SECRET, "a") == 204
        inbox.is_away = False
        assert await deliver(receiver, OTHER_SECRET, "b") == 204
        assert await deliver(receiver, OTHER_SECRET, "c") == 204

    assert inbox.told == 1
    assert caplog.text.count("the inbox does not know the new signing keys") == 1


async def test_an_inbox_is_told_of_new_keys_though_whoever_found_them_has_left(
    mount: Callable[[str, str], Path], clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    inbox = Learner(clock)
    mount("FLIP_WEBHOOK_SECRET_FILE", SECRET)
    async with WebhookReceiver(handlers(), inbox=inbox, clock=clock) as receiver:
        mount("FLIP_WEBHOOK_SECRET_FILE", OTHER_SECRET)
        first = asyncio.create_task(deliver(receiver, OTHER_SECRET, "a"))
        await asyncio.sleep(0)
        first.cancel()
        while "there are new signing keys" not in caplog.text:
            await asyncio.sleep(0.01)
        assert await deliver(receiver, OTHER_SECRET, "b") == 204

    assert inbox.told == 1


class Learner(MemoryInbox):
    """An inbox that learns of new keys, unless it is away."""

    told = 0
    is_away = False

    async def adopt_keys(self, digests: frozenset[str]) -> None:
        if self.is_away:
            raise StorageError("away")
        self.told += 1


# What nobody shall see


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_secret_that_was_put_where_its_path_belongs_is_not_shown(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two variables are easily mixed up [B10]."""
    monkeypatch.setenv(variable, SECRET)
    if variable == "FLIP_CLIENT_SECRET_FILE":
        monkeypatch.setenv("FLIP_CLIENT_ID", "your_client_id")

    with pytest.raises(ConfigurationError, match="is it the secret itself") as caught:
        start(variable)

    assert variable in str(caught.value)
    assert SECRET not in str(caught.value)
    assert SECRET not in shown_by_the_traceback_of(caught.value)


@pytest.mark.parametrize(
    "content", [b"fl_one\tfl_other", b'"fl_one"', b"fl_one\xff", b"fl_one\nfl"]
)
@pytest.mark.parametrize("variable", VARIABLES)
def test_no_local_of_ours_shows_what_is_in_a_file_that_is_refused(
    variable: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path.parent / "mounted"  # the name of `tmp_path` is made of the content
    path.write_bytes(content)
    monkeypatch.setenv(variable, str(path))
    if variable == "FLIP_CLIENT_SECRET_FILE":
        monkeypatch.setenv("FLIP_CLIENT_ID", "your_client_id")

    with pytest.raises(ConfigurationError, match=variable) as caught:
        start(variable)

    assert "fl_one" not in shown_by_the_traceback_of(caught.value)


# The rest


def test_a_scope_counts_for_a_secret_from_a_file(
    mount: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    mount("FLIP_CLIENT_SECRET_FILE", "your_client_secret")
    monkeypatch.setenv("FLIP_CLIENT_ID", "your_client_id")
    monkeypatch.setenv("FLIP_SCOPE", "telemetry  sites")

    assert "scope='telemetry sites'" in repr(SandboxClient().auth)


@pytest.mark.parametrize("variable", ["FLIP_API_KEY_FILE", "FLIP_WEBHOOK_SECRET_FILE"])
def test_white_space_around_a_path_does_not_count(
    variable: str, mount: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, f" {mount(variable, SECRET)}\n")

    start(variable)


async def test_fifty_requests_that_are_refused_together_are_all_sent_again(
    fake: FakeFlip, mount: Callable[[str, str], Path]
) -> None:
    mount("FLIP_API_KEY_FILE", OLD)
    fake.valid = {OLD}
    async with SandboxClient(transport=fake) as flip:
        await flip.sites.list()
        mount("FLIP_API_KEY_FILE", NEW)
        fake.valid = {NEW}

        async def ask() -> int:
            return len(await flip.sites.list())

        assert await asyncio.gather(*(ask() for _ in range(50))) == [0] * 50


async def test_a_file_that_is_back_is_read_after_a_while(
    fake: FakeFlip, mount: Callable[[str, str], Path], clock: ManualClock
) -> None:
    link = mount("FLIP_API_KEY_FILE", OLD)
    fake.valid = {OLD}
    async with SandboxClient(transport=fake, clock=clock) as flip:
        await flip.sites.list()
        fake.valid = {NEW}
        link.unlink()
        with pytest.raises(TokenUnavailableError):
            await flip.sites.list()
        mount("FLIP_API_KEY_FILE", NEW)
        with pytest.raises(TokenUnavailableError):
            await flip.sites.list()
        clock.move(10)

        assert await flip.sites.list() == []
