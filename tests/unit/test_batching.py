"""When a batch is due, and who is to blame when one is refused [T1], [T2]."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_async import errors
from flip_async.telemetry._batcher import Batching, Look, Rest, Scene, Take
from flip_async.telemetry._bisection import LONGEST_SEARCH, Sieve
from flip_async.telemetry._verdict import Verdict, judge, named_points

RULES = Batching(max_delay_s=5.0, concurrency=2)


def scene(**facts: object) -> Scene:
    return Scene(**({"waiting": 1, "oldest_age_s": 0.0, "sending": 0} | facts))  # type: ignore[arg-type]


def test_a_full_batch_is_due_at_once() -> None:
    assert RULES.decide(scene(waiting=1000)) == Take()


def test_a_point_waits_for_others_no_longer_than_max_delay() -> None:
    assert RULES.decide(scene(oldest_age_s=1.5)) == Rest(3.5)
    assert RULES.decide(scene(oldest_age_s=5.0)) == Take()


def test_a_point_does_not_wait_when_somebody_waits_for_it() -> None:
    assert RULES.decide(scene(is_urgent=True)) == Take()


def test_nothing_is_due_where_nothing_waits() -> None:
    assert RULES.decide(scene(waiting=0, is_urgent=True)) == Rest(None)
    assert RULES.decide(scene(waiting=5000, was_in_vain=True)) == Rest(None)


def test_no_more_batches_than_allowed_are_sent_at_once() -> None:
    assert RULES.decide(scene(waiting=1000, sending=1)) == Take()
    assert RULES.decide(scene(waiting=1000, sending=2)) == Rest(None)


def test_no_batch_is_taken_while_requests_are_held_up() -> None:
    """What is taken later may have more in it."""
    assert RULES.decide(scene(waiting=1000, held_for_s=7.0)) == Rest(7.0)
    assert RULES.decide(scene(oldest_age_s=1.0, held_for_s=2.0)) == Rest(4.0)
    assert RULES.decide(scene(waiting=1000, sending=1, held_for_s=None)) == Rest(None)


def test_a_shared_outbox_is_looked_at_now_and_then_whatever_else_goes_on() -> None:
    """Leases want to be renewed while all senders are busy [T4]."""
    shared = Batching(max_delay_s=5.0, concurrency=2, look_every_s=3.0)

    assert shared.decide(scene(waiting=0, since_look_s=1.0)) == Rest(2.0)
    assert shared.decide(scene(waiting=1000, sending=2, since_look_s=3.0)) == Look()
    assert shared.decide(scene(oldest_age_s=4.5, since_look_s=1.0)) == Rest(0.5)


# Who is to blame


def sift(
    size: int, bad: set[int], *, in_order: bool, lucks: list[float], names: bool
) -> tuple[set[int], set[int], bool, int]:
    """A server that refuses every group with a bad point in it."""
    sieve, passed, blamed, requests = Sieve(size, in_order=in_order), set[int](), set[int](), 0
    while (group := sieve.next()) is not None:
        requests += 1
        if bad.isdisjoint(group):
            sieve.passed()
            passed |= set(group)
        else:
            named = {place: "bad" for place, p in enumerate(group) if p in bad} if names else {}
            sieve.refused("no", named=named, luck=lucks[requests % len(lucks)])
        blamed |= sieve.blame().keys()
    return passed, blamed, sieve.is_blocked, requests


@given(
    size=st.integers(1, 60),
    data=st.data(),
    in_order=st.booleans(),
    names=st.booleans(),
    lucks=st.lists(st.floats(0, 0.999), min_size=1, max_size=20),
)
def test_the_good_pass_and_the_bad_are_found(
    size: int, data: st.DataObject, in_order: bool, names: bool, lucks: list[float]
) -> None:
    """One bad point never costs the good ones, and nobody is blamed without one that passed."""
    bad = data.draw(st.sets(st.integers(0, size - 1)))

    passed, blamed, blocked, _ = sift(size, bad, in_order=in_order, lucks=lucks, names=names)

    if blocked:
        assert not passed
        assert not blamed
        assert len(bad) >= min(size, LONGEST_SEARCH)
    else:
        assert passed == set(range(size)) - bad
        assert blamed == bad


def test_a_batch_that_passes_costs_one_request() -> None:
    assert sift(1000, set(), in_order=False, lucks=[0.1], names=False)[3] == 1


def test_one_bad_point_among_a_thousand_is_found_in_a_few_requests() -> None:
    passed, blamed, _, requests = sift(1000, {617}, in_order=False, lucks=[0.9, 0.1], names=False)

    assert blamed == {617}
    assert len(passed) == 999
    assert requests <= 21


def test_points_that_the_server_names_are_sent_apart_from_the_others() -> None:
    """A 422 that names them costs three requests, however many they are."""
    bad = set(range(0, 1000, 3))

    passed, blamed, _, requests = sift(1000, bad, in_order=False, lucks=[0.5], names=True)

    assert blamed == bad
    assert passed == set(range(1000)) - bad
    assert requests == 3


def test_a_server_that_refuses_everything_is_not_asked_for_each_point() -> None:
    _, blamed, blocked, requests = sift(
        1000, set(range(1000)), in_order=False, lucks=[0.3, 0.8], names=False
    )

    assert blocked
    assert not blamed
    assert requests < 100


def test_points_that_must_keep_their_order_do() -> None:
    sieve, order = Sieve(8, in_order=True), []
    while (group := sieve.next()) is not None:
        if 2 in group:
            sieve.refused("no", named={2: "bad"}, luck=0.9)
        else:
            order += group
            sieve.passed()

    assert order == [0, 1, 3, 4, 5, 6, 7]


def test_a_point_that_passed_before_tells_that_the_server_takes_some() -> None:
    sieve = Sieve(1, in_order=False, accepted_before=True)
    sieve.refused("no", named={}, luck=0.5)

    assert not sieve.is_blocked
    assert sieve.blame() == {0: "no"}


def test_a_group_of_which_nobody_knows_proves_nothing() -> None:
    sieve = Sieve(2, in_order=True)
    sieve.refused("no", named={}, luck=0.5)
    sieve.lost()
    sieve.refused("no", named={}, luck=0.5)

    assert sieve.is_blocked
    assert sieve.blame() == {}


# What an error means


def answered(status: int, body: object = None) -> errors.StatusError:
    request = httpx.Request("POST", "https://api.flip.energy/v1/telemetry/BATTERY")
    response = httpx.Response(status, json=body, request=request)
    return errors.from_response(response, method="POST", path="/v1/x", wall_now_s=0.0)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (400, Verdict.PART), (413, Verdict.PART), (422, Verdict.PART),
        (401, Verdict.STOP), (403, Verdict.STOP), (404, Verdict.STOP), (409, Verdict.STOP),
        (302, Verdict.STOP), (418, Verdict.STOP),
        (429, Verdict.BACK_OFF), (500, Verdict.BACK_OFF), (503, Verdict.BACK_OFF),
    ],
)  # fmt: skip
def test_only_what_may_be_the_fault_of_a_point_parts_a_batch(status: int, verdict: Verdict) -> None:
    assert judge(answered(status)) is verdict


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (errors.OutcomeUnknownError("lost"), Verdict.BACK_OFF),
        (errors.ConnectionFailedError("down"), Verdict.BACK_OFF),
        (errors.DeadlineError("late"), Verdict.BACK_OFF),
        (errors.TokenUnavailableError("down"), Verdict.STOP),
        (errors.TokenRequestError("no", status_code=401), Verdict.STOP),
        (errors.ConfigurationError("elsewhere"), Verdict.STOP),
        (errors.ClientClosedError("closed"), Verdict.CLOSED),
    ],
)
def test_trouble_on_the_way_never_blames_a_point(error: errors.FlipError, verdict: Verdict) -> None:
    assert judge(error) is verdict


def test_the_points_that_an_answer_names_are_read_from_it() -> None:
    detail = [
        {"loc": ["body", "telemetry", 3, "duration_s"], "msg": "too short"},
        {"loc": ["body", "telemetry", 3, "home_last_power_w"], "msg": "negative"},
        {"loc": ["body", "telemetry", 17], "msg": "no object"},
        {"loc": ["body", "telemetry"], "msg": "too long"},
        {"loc": ["query", "telemetry2", 5], "msg": "?"},
    ]

    assert named_points(answered(422, {"detail": detail})) == {
        3: "duration_s: too short; home_last_power_w: negative",
        17: "no object",
    }
    assert named_points(answered(422, "?")) == {}
    assert named_points(errors.DeadlineError("late")) == {}
