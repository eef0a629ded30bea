"""What an inbox on disk promises: what was answered with success is handled, and once [W2]."""

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from flip_async import errors
from flip_async._sqlite import _file
from flip_async.webhooks import (
    EnrollmentEvent,
    Handlers,
    InboxEntry,
    InboxHome,
    Letter,
    SigningKeys,
    SqliteInbox,
    WebhookReceiver,
)
from flip_async.webhooks._worker import Patience
from tests.support import START, FastClock, HurriedClock, ManualClock
from tests.support.webhooks import OTHER_SECRET, SECRET, body_of, example, signed

HOME = InboxHome(key_digests=SigningKeys.of(SECRET).digests, event_types=frozenset())
ENROLLED = body_of("enrollment.updated", example("enrollment.updated")["event_object"])


class Recorder:
    def __init__(self) -> None:
        self.seen: list[str] = []
        self.gate: asyncio.Event | None = None
        self.fail: Callable[[str], bool] = lambda webhook_id: False
        self.trouble: BaseException = ValueError("not now")

    async def __call__(self, event: EnrollmentEvent) -> None:
        self.seen.append(event.webhook_id)
        if self.gate is not None:
            await self.gate.wait()
        if self.fail(event.webhook_id):
            raise self.trouble


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "inbox.db"


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def make(recorder: Recorder, path: Path, **options: Any) -> WebhookReceiver:
    handlers = Handlers()
    handlers.on("enrollment.updated")(recorder)
    lease_s = options.pop("lease_s", 30.0)
    options = {"shutdown_timeout_s": 0.05} | options
    inbox = SqliteInbox(path, lease_s=lease_s, clock=options.get("clock"))
    return WebhookReceiver(handlers, secret=SECRET, inbox=inbox, **options)


@pytest.fixture
async def receiver(recorder: Recorder, path: Path) -> AsyncIterator[WebhookReceiver]:
    async with make(recorder, path) as receiver:
        yield receiver


async def deliver(receiver: WebhookReceiver, *webhook_ids: str) -> list[int]:
    clock = receiver._clock
    replies = await asyncio.gather(
        *(
            receiver.receive(ENROLLED, signed(ENROLLED, webhook_id, at_s=clock.wall()))
            for webhook_id in webhook_ids
        )
    )
    return [reply.status for reply in replies]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def rows(path: Path) -> list[tuple[Any, ...]]:
    db = sqlite3.connect(path)
    try:
        return db.execute(
            "SELECT webhook_id, state, failures, length(body), claim FROM letters ORDER BY id"
        ).fetchall()
    finally:
        db.close()


async def test_success_is_answered_before_the_handler_has_finished(
    receiver: WebhookReceiver, recorder: Recorder, path: Path
) -> None:
    recorder.gate = asyncio.Event()

    assert await deliver(receiver, "a") == [204]

    await until(lambda: recorder.seen == ["a"])
    assert rows(path)[0][:2] == ("a", 0)
    recorder.gate.set()
    await until(lambda: rows(path)[0][1] == 1)
    assert rows(path)[0][3] == 0  # its id is kept, its body not


async def test_what_comes_again_is_answered_and_not_handled(
    receiver: WebhookReceiver, recorder: Recorder, path: Path
) -> None:
    """Before it is handled, while it is, and after."""
    recorder.gate = asyncio.Event()
    assert await deliver(receiver, *"aabab") == [204] * 5
    await until(lambda: len(recorder.seen) == 2)
    assert await deliver(receiver, *"ab") == [204] * 2
    recorder.gate.set()
    await until(lambda: all(row[1] == 1 for row in rows(path)))
    assert await deliver(receiver, *"abc") == [204] * 3
    await until(lambda: len(recorder.seen) == 3)

    assert sorted(recorder.seen) == ["a", "b", "c"]


async def test_an_id_is_remembered_across_restarts(recorder: Recorder, path: Path) -> None:
    for _ in range(2):
        async with make(recorder, path) as receiver:
            await deliver(receiver, "a")
            await until(lambda: rows(path)[0][1] == 1)

    assert recorder.seen == ["a"]


async def test_a_handler_that_fails_is_tried_again(
    receiver: WebhookReceiver, recorder: Recorder, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.fail = lambda webhook_id: webhook_id == "a" and recorder.seen.count("a") == 1

    await deliver(receiver, "a", "b")
    await until(lambda: [row[1] for row in rows(path)] == [1, 1])

    assert Counter(recorder.seen) == {"a": 2, "b": 1}
    assert "webhook a: its handler failed, again in" in caplog.text


async def test_a_cancelled_error_from_within_is_a_failure_of_the_handler(
    receiver: WebhookReceiver, recorder: Recorder, path: Path
) -> None:
    """Else the webhook would stay claimed, and be handled by nobody [B1]."""
    recorder.fail = lambda webhook_id: len(recorder.seen) == 1
    recorder.trouble = asyncio.CancelledError()

    await deliver(receiver, "a")
    await until(lambda: rows(path)[0][1:3] == (1, 1))

    assert recorder.seen == ["a", "a"]


async def test_a_handler_that_cancels_its_own_task_has_failed(
    recorder: Recorder, path: Path, clock: ManualClock
) -> None:
    """Its webhook is given back by whoever took it, and not lost with the task [B1]."""
    handlers, calls = Handlers(), list[str]()

    @handlers.on("enrollment.updated")
    async def handler(event: EnrollmentEvent) -> None:
        calls.append(event.webhook_id)
        if len(calls) == 1:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    fast = FastClock()
    inbox = SqliteInbox(path, clock=fast, lease_s=1e6)
    async with WebhookReceiver(handlers, secret=SECRET, inbox=inbox, clock=fast) as receiver:
        await deliver(receiver, "a")
        await until(lambda: rows(path)[0][1:3] == (1, 1))

    assert calls == ["a", "a"]


async def test_what_fails_for_a_day_is_given_up_and_told(recorder: Recorder, path: Path) -> None:
    """Its body stays, to be looked at."""
    told: list[tuple[str, str]] = []
    recorder.fail = lambda webhook_id: True

    async def on_given_up(letter: Letter, error: Exception) -> None:
        told.append((letter.webhook_id, str(error)))

    async with make(recorder, path, give_up_after_s=0.1, on_given_up=on_given_up) as receiver:
        await deliver(receiver, "a")
        await until(lambda: rows(path)[0][1] == 2)

    assert told == [("a", "not now")]
    assert rows(path)[0][3] == len(ENROLLED)
    async with make(recorder, path) as receiver:
        assert await deliver(receiver, "a") == [204]
    assert recorder.seen == ["a"]


def test_the_pauses_grow_to_five_minutes_and_end_after_a_day() -> None:
    """By the pauses, as they are on average: a clock that jumps gives nothing up."""
    patience = Patience(give_up_after_s=86_400)
    pauses: list[float] = []
    while (pause_s := patience.pause_s(len(pauses) + 1, luck=0.5)) is not None:
        pauses.append(pause_s)

    assert patience.pause_s(1, luck=1.0) == 1
    assert patience.pause_s(2, luck=0.0) == 1
    assert patience.pause_s(20, luck=1.0) == 300
    assert pauses[:4] == [0.75, 1.5, 3, 6]
    assert 86_000 < sum(pauses) <= 86_400


async def test_what_was_not_handled_at_the_end_is_handled_after_the_next_start(
    recorder: Recorder, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At once: the claims were let go, and a failure of the end is none of the handler's."""
    recorder.gate = asyncio.Event()
    async with make(recorder, path) as receiver:
        await deliver(receiver, "a", "b")
        await until(lambda: len(recorder.seen) == 2)
    assert "were given up: webhooks a, b" in caplog.text
    assert [row[1:3] for row in rows(path)] == [(0, 0), (0, 0)]

    recorder.gate.set()
    async with make(recorder, path, lease_s=3600):
        await until(lambda: all(row[1] == 1 for row in rows(path)))

    assert Counter(recorder.seen) == {"a": 2, "b": 2}


@pytest.mark.parametrize("ahead_s", [0, 86_400])
async def test_what_a_dead_process_had_claimed_is_handled_when_its_lease_is_over(
    recorder: Recorder, path: Path, ahead_s: int
) -> None:
    """Also where its clocks were ahead of ours: a lease is never longer than itself [B6]."""
    clock = HurriedClock()
    clock.move(ahead_s)
    dead = SqliteInbox(path, lease_s=0.4, clock=clock)
    await dead.open(home=HOME)
    await dead.put(Letter("a", int(START.wall_s), ENROLLED))
    assert len(await dead.claim(10)) == 1
    await dead._file.aclose()  # and not its own aclose, which lets go

    async with make(recorder, path, lease_s=0.4):
        await until(lambda: recorder.seen == ["a"])


async def test_two_processes_share_a_file_and_handle_each_webhook_once(
    recorder: Recorder, path: Path
) -> None:
    async with make(recorder, path) as one, make(recorder, path) as two:
        for number in range(100):
            ids = [f"{number}-{more}" for more in range(5)]
            await asyncio.gather(deliver(one, *ids), deliver(two, *ids))
        await until(lambda: all(row[1] == 1 for row in rows(path)))

    assert len(recorder.seen) == len(set(recorder.seen)) == 500


async def test_a_lease_is_renewed_while_a_handler_runs(recorder: Recorder, path: Path) -> None:
    recorder.gate = asyncio.Event()
    async with make(recorder, path, lease_s=0.3) as one, make(recorder, path, lease_s=0.3):
        await deliver(one, "a")
        await until(lambda: bool(recorder.seen))
        await asyncio.sleep(1.0)
        recorder.gate.set()
        await until(lambda: rows(path)[0][1] == 1)

    assert recorder.seen == ["a"]


async def test_ids_are_forgotten_after_seven_days(path: Path, clock: ManualClock) -> None:
    inbox = SqliteInbox(path, clock=clock)
    await inbox.open(home=HOME)
    assert await inbox.put(Letter("a", 0, ENROLLED))
    (entry,) = await inbox.claim(10)
    await inbox.settle([entry])
    clock.move(7 * 24 * 3600 - 1)
    await inbox.renew()
    assert not await inbox.put(Letter("a", 0, ENROLLED))
    clock.move(2)
    await inbox.renew()
    assert await inbox.put(Letter("a", 0, ENROLLED))
    await inbox.aclose()


async def test_claims_leave_nothing_behind(path: Path) -> None:
    inbox = SqliteInbox(path)
    await inbox.open(home=HOME)
    for number in range(20):
        await inbox.put(Letter(str(number), 0, ENROLLED))
        (entry,) = await inbox.claim(10)
        await inbox.settle([entry])
    await inbox.renew()
    await inbox.aclose()
    db = sqlite3.connect(path)

    assert db.execute("SELECT count(*) FROM owners").fetchone() == (0,)
    db.close()


# Home

BODIES = {
    "enrollment.updated": ENROLLED,
    "settings.apply": body_of("settings.apply", {"id": "s"}),
    "tariff.created": body_of("tariff.created", {}),
}


class Application:
    """A receiver of certain types, with certain keys, on a file."""

    def __init__(self, path: Path, *event_types: str, secret: Any = SECRET) -> None:
        self.seen: list[str] = []
        handlers = Handlers()
        for event_type in event_types:
            if event_type == "*":
                handlers.on_unknown(self._see)
            else:
                handlers.on(event_type)(self._see)  # type: ignore[call-overload]
        self.receiver = WebhookReceiver(handlers, secret=secret, inbox=SqliteInbox(path))

    async def _see(self, event: Any) -> None:
        self.seen.append(event.event_type)

    async def deliver(self, event_type: str, webhook_id: str | None = None) -> None:
        body = BODIES[event_type]
        headers = signed(body, webhook_id or event_type, at_s=time.time())
        assert (await self.receiver.receive(body, headers)).status == 204


async def test_a_receiver_with_other_keys_is_refused(path: Path) -> None:
    """Sandbox and production with a file by a copied line would take each other's webhooks."""
    async with Application(path).receiver:
        pass

    other = Application(path, secret=OTHER_SECRET).receiver
    with pytest.raises(errors.ConfigurationError, match="other signing keys.*file of its own"):
        async with other:
            raise AssertionError
    assert SECRET not in path.read_bytes().decode("latin-1")
    async with Application(path).receiver:
        pass


async def test_a_key_is_replaced_by_giving_both_for_a_while(path: Path) -> None:
    for secret in (SECRET, [OTHER_SECRET, SECRET], OTHER_SECRET):
        async with Application(path, secret=secret).receiver:
            pass


async def test_each_webhook_goes_to_a_receiver_that_handles_its_type(path: Path) -> None:
    """As in a deploy that adds a handler, while the old processes still run."""
    old, new = Application(path, "settings.apply"), Application(path, "enrollment.updated", "*")
    async with old.receiver, new.receiver:
        for number in range(20):
            for event_type in BODIES:
                await old.deliver(event_type, f"{event_type}-{number}")
        await until(lambda: all(row[1] == 1 for row in rows(path)))

    assert Counter(old.seen) == {"settings.apply": 20}
    assert Counter(new.seen) == {"enrollment.updated": 20, "tariff.created": 20}


async def test_a_webhook_waits_for_a_receiver_that_is_away(path: Path) -> None:
    """Another one with the same key does not take it and forget it."""
    async with Application(path, "enrollment.updated").receiver:
        pass
    other, back = Application(path, "settings.apply"), Application(path, "enrollment.updated")
    async with other.receiver:
        await other.deliver("enrollment.updated")
        await other.deliver("settings.apply")
        await until(lambda: other.seen == ["settings.apply"])
        await until(lambda: [row[1] for row in rows(path)] == [0, 1])
    async with back.receiver:
        await until(lambda: back.seen == ["enrollment.updated"])


async def test_what_nobody_handles_is_passed_over(path: Path) -> None:
    nobody = Application(path)
    async with nobody.receiver:
        for event_type in BODIES:
            await nobody.deliver(event_type)
        await until(lambda: [row[1] for row in rows(path)] == [1, 1, 1])


async def test_a_type_that_nobody_has_handled_for_a_week_is_nobodys(
    path: Path, clock: ManualClock
) -> None:
    settings = attrs.evolve(HOME, event_types=frozenset({"settings.apply"}))
    inbox = SqliteInbox(path, clock=clock)
    await inbox.open(home=settings)
    await inbox.aclose()
    await inbox.open(home=HOME)
    await inbox.put(Letter("a", 0, b"", "settings.apply"))
    clock.move(7 * 24 * 3600 - 1)
    await inbox.renew()
    assert await inbox.claim(10) == []
    assert inbox.depth.next_due_at is None
    clock.move(2)
    await inbox.renew()

    assert [entry.letter.webhook_id for entry in await inbox.claim(10)] == ["a"]
    await inbox.aclose()


# Clocks


@pytest.mark.parametrize("jump_s", [-3600, -86_400 * 365])
async def test_a_pause_is_no_longer_than_itself_though_the_clock_is_set_back(
    path: Path, clock: ManualClock, jump_s: int
) -> None:
    """Nor is a webhook that waits, or one whose clock was ahead when it was put there [B6]."""
    inbox = SqliteInbox(path, clock=clock)
    await inbox.open(home=HOME)
    await inbox.put(Letter("failed", 0, b""))
    entries = await inbox.claim(10)
    await inbox.release(entries, due_at=clock.wall() + 60)
    await inbox.put(Letter("new", 0, b""))
    clock.jump_wall(jump_s)

    (new,) = await inbox.claim(10)
    assert new.letter.webhook_id == "new"
    await inbox.settle([new])
    assert inbox.depth.next_due_at == clock.wall() + 60
    clock.move(60)
    assert [entry.failures for entry in await inbox.claim(10)] == [1]
    await inbox.aclose()


async def test_a_pause_of_a_process_whose_clock_was_ahead_is_no_longer_than_itself(
    path: Path, clock: ManualClock
) -> None:
    ahead = ManualClock()
    ahead.jump_wall(86_400)
    one, two = SqliteInbox(path, clock=ahead), SqliteInbox(path, clock=clock)
    await one.open(home=HOME)
    await one.put(Letter("a", 0, b""))
    await one.release(await one.claim(10), due_at=ahead.wall() + 60)
    await one.aclose()
    await two.open(home=HOME)
    assert await two.claim(10) == []
    clock.move(60)

    assert len(await two.claim(10)) == 1
    await two.aclose()


async def test_a_clock_that_jumps_forward_gives_nothing_up(recorder: Recorder, path: Path) -> None:
    clock = HurriedClock()
    recorder.fail = lambda webhook_id: len(recorder.seen) == 1
    async with make(recorder, path, clock=clock) as receiver:
        await deliver(receiver, "a")
        await until(lambda: bool(recorder.seen))
        clock.move(2 * 86_400)
        await until(lambda: rows(path)[0][1] == 1)

    assert recorder.seen == ["a", "a"]


# Ending


async def test_what_is_not_finished_is_released_and_counts_as_no_failure(
    path: Path, clock: ManualClock
) -> None:
    """A processor that stops before the receiver, or a client that is closed first."""
    handlers, calls = Handlers(), list[str]()

    @handlers.on("enrollment.updated")
    async def handler(event: EnrollmentEvent) -> None:
        calls.append(event.webhook_id)
        raise errors.ClientClosedError("the client is closed")

    inbox = SqliteInbox(path, clock=clock)
    async with WebhookReceiver(handlers, secret=SECRET, inbox=inbox, clock=clock) as receiver:
        await deliver(receiver, "a")
        await until(lambda: bool(calls))
        await asyncio.sleep(0.05)
        assert calls == ["a"]  # it does not come back at once, to the same worker
    assert rows(path)[0][1:3] == (0, 0)
    assert rows(path)[0][4] is None


async def test_the_claims_of_a_receiver_that_closes_are_renewed(
    recorder: Recorder, path: Path
) -> None:
    """While its handlers come to their end, in a rolling restart for instance."""
    recorder.gate = asyncio.Event()
    old = make(recorder, path, lease_s=0.3, shutdown_timeout_s=30)
    await old.__aenter__()
    await deliver(old, "a")
    await until(lambda: bool(recorder.seen))
    async with make(recorder, path, lease_s=0.3):
        closing = asyncio.create_task(old.__aexit__(None, None, None))
        await asyncio.sleep(1)
        recorder.gate.set()
        await closing
        await until(lambda: rows(path)[0][1] == 1)

    assert recorder.seen == ["a"]


async def test_stats_tell_what_waits(recorder: Recorder, path: Path) -> None:
    async with make(recorder, path) as receiver:
        recorder.fail = lambda webhook_id: True
        await deliver(receiver, "a", "b")
        await until(lambda: receiver.stats.failed == 2)
        assert receiver._inbox is not None
        await until(lambda: rows(path)[1][4] is None)
        await receiver._inbox.renew()

        assert receiver.stats.waiting == 2
        assert receiver.stats.last_error == "ValueError: not now"


# Trouble


@asynccontextmanager
async def broken(inbox: SqliteInbox, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The disk cannot be written."""
    real = _file._transact

    def fail(connection: sqlite3.Connection, jobs: object) -> object:
        connection.execute("ROLLBACK")
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(_file, "_transact", fail)
        yield
    assert _file._transact is real


async def test_what_cannot_be_kept_is_not_answered_with_success(
    receiver: WebhookReceiver,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert isinstance(receiver._inbox, SqliteInbox)
    async with broken(receiver._inbox, monkeypatch):
        assert await deliver(receiver, "a") == [503]
    assert "webhook a cannot be kept" in caplog.text
    assert recorder.seen == []

    assert await deliver(receiver, "a") == [204]
    await until(lambda: recorder.seen == ["a"])


async def test_a_file_that_another_process_holds_keeps_no_request_waiting(
    recorder: Recorder, path: Path
) -> None:
    """Flip is told to come again, in time; what was kept meanwhile is handled once."""
    async with make(recorder, path, answer_within_s=0.2) as receiver:
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        assert await deliver(receiver, "a") == [503]
        other.execute("ROLLBACK")
        other.close()
        assert await deliver(receiver, "a") == [204]
        await until(lambda: rows(path)[0][1] == 1)

    assert recorder.seen == ["a"]


async def test_a_disk_that_fails_for_a_while_costs_no_second_run(
    receiver: WebhookReceiver,
    recorder: Recorder,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder.gate = asyncio.Event()
    await deliver(receiver, "a")
    await until(lambda: recorder.seen == ["a"])
    assert isinstance(receiver._inbox, SqliteInbox)
    async with broken(receiver._inbox, monkeypatch):
        recorder.gate.set()
        await until(lambda: "cannot be written" in caplog.text)

    await until(lambda: rows(path)[0][1] == 1)
    assert recorder.seen == ["a"]


@pytest.mark.parametrize("bug", [RuntimeError("a bug"), asyncio.CancelledError("a bug")], ids=repr)
async def test_a_bug_in_one_round_does_not_end_the_reading(
    recorder: Recorder, path: Path, bug: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """An inbox may be a user's; only closing ends its reading [B3]."""

    class Buggy(SqliteInbox):
        async def claim(self, most: int) -> Sequence[InboxEntry]:
            if bugs:
                raise bugs.pop()
            return await super().claim(most)

    bugs = [bug]
    handlers = Handlers()
    handlers.on("enrollment.updated")(recorder)
    async with WebhookReceiver(handlers, secret=SECRET, inbox=Buggy(path)) as receiver:
        await deliver(receiver, "a")
        await until(lambda: rows(path)[0][1] == 1)

    assert recorder.seen == ["a"]
    assert caplog.text.count("the inbox cannot be used, again in 1 s") == 1
    assert "a bug" in caplog.text


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
async def test_a_file_that_is_gone_takes_nothing_more_and_gives_what_it_had(
    recorder: Recorder, path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is accepted into nowhere [B11]; what was accepted is handled meanwhile."""
    recorder.gate = asyncio.Event()
    async with make(recorder, path, lease_s=0.3) as receiver:
        await deliver(receiver, "a")
        await until(lambda: recorder.seen == ["a"])
        if how == "moved":
            path.rename(path.with_suffix(".old"))
        else:
            for file in path.parent.glob("inbox.db*"):
                file.unlink()
        if how == "replaced":
            path.write_bytes(b"")

        assert await deliver(receiver, "b") == [503]
        await until(lambda: "was deleted, moved or replaced: webhooks" in caplog.text)
        recorder.gate.set()
        await until(lambda: receiver.stats.handled == 1)
        assert "StorageError" in str(receiver.stats.last_error)

    assert caplog.text.count("answered 503 until") == 1
    assert recorder.seen == ["a"]


@pytest.mark.parametrize("path", [None, 5, b"inbox.db"])
def test_a_path_that_is_none_is_named(path: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="^path: is a str or an os.PathLike"):
        SqliteInbox(path)


async def test_a_damaged_row_fails_alone(recorder: Recorder, path: Path) -> None:
    inbox = SqliteInbox(path)
    await inbox.open(home=HOME)
    for webhook_id in "abc":
        await inbox.put(Letter(webhook_id, 0, ENROLLED))
    await inbox.aclose()
    db = sqlite3.connect(path)
    with db:
        db.execute("UPDATE letters SET webhook_id = CAST(x'ff' AS TEXT) WHERE id = 1")
        db.execute("UPDATE letters SET sent_at = 'x', body = 'y' WHERE id = 2")
    db.close()

    async with make(recorder, path) as receiver:
        await until(lambda: receiver.stats.handled == 2)
        await until(lambda: "WebhookBodyError" in str(receiver.stats.last_error))

    assert sorted(recorder.seen) == ["c", "\ufffd"]


async def test_a_file_of_something_else_is_refused(recorder: Recorder, path: Path) -> None:
    path.write_bytes(b"something else entirely, of some length")

    with pytest.raises(errors.ConfigurationError, match="webhook inbox"):
        async with make(recorder, path):
            raise AssertionError


async def test_an_inbox_has_one_receiver_at_a_time(path: Path) -> None:
    inbox = SqliteInbox(path)
    receivers = [WebhookReceiver(Handlers(), secret=SECRET, inbox=inbox) for _ in range(2)]
    async with receivers[0]:
        with pytest.raises(errors.ConfigurationError, match="has a receiver"):
            await receivers[1].__aenter__()
    async with receivers[1]:
        pass
    with pytest.raises(errors.StorageError, match="not open"):
        await inbox.put(Letter("a", 0, b""))
    await inbox.aclose()


@pytest.mark.parametrize("lease_s", [0, -1, None, "30"])
def test_a_lease_out_of_range_is_named(path: Path, lease_s: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="lease_s"):
        SqliteInbox(path, lease_s=lease_s)


async def test_a_request_that_goes_away_leaves_its_webhook_to_be_handled(
    receiver: WebhookReceiver, recorder: Recorder
) -> None:
    answer = asyncio.create_task(deliver(receiver, "a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    answer.cancel()

    await until(lambda: recorder.seen == ["a"])


async def test_a_webhook_kept_by_another_version_that_cannot_be_read_fails_and_is_not_lost(
    recorder: Recorder, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = SqliteInbox(path)
    await inbox.open(home=HOME)
    await inbox.put(Letter("a", 0, b'{"event_type": "command.created", "event_object": 5}'))
    await inbox.aclose()

    async with make(recorder, path):
        await until(lambda: rows(path)[0][2] == 1)

    assert "WebhookBodyError" in caplog.text
    assert rows(path)[0][1] == 0
