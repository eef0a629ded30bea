"""Who is to blame when a batch is refused, and what an error means [T2]."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_async import errors
from flip_async.telemetry._bisection import LONGEST_SEARCH, Bisection
from flip_async.telemetry._verdict import BugError, OddAnswerError, Verdict, judge, named_points

# Who is to blame


def bisect(
    size: int, bad: set[int], *, in_order: bool, lucks: list[float], names: bool
) -> tuple[set[int], set[int], bool, int]:
    """A server that refuses every group with a bad point in it."""
    parts, passed, blamed, requests = Bisection(size, in_order=in_order), set[int](), set[int](), 0
    while (group := parts.next()) is not None:
        requests += 1
        if bad.isdisjoint(group):
            parts.passed()
            passed |= set(group)
        else:
            named = {place: "bad" for place, p in enumerate(group) if p in bad} if names else {}
            parts.refused("no", named=named, luck=lucks[requests % len(lucks)])
        blamed |= parts.blame().keys()
    return passed, blamed, parts.is_blocked, requests


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

    passed, blamed, blocked, _ = bisect(size, bad, in_order=in_order, lucks=lucks, names=names)

    if blocked:
        assert not passed
        assert not blamed
        assert len(bad) >= min(size, LONGEST_SEARCH)
    else:
        assert passed == set(range(size)) - bad
        assert blamed == bad


def test_a_batch_that_passes_costs_one_request() -> None:
    assert bisect(1000, set(), in_order=False, lucks=[0.1], names=False)[3] == 1


def test_one_bad_point_among_a_thousand_is_found_in_a_few_requests() -> None:
    passed, blamed, _, requests = bisect(1000, {617}, in_order=False, lucks=[0.9, 0.1], names=False)

    assert blamed == {617}
    assert len(passed) == 999
    assert requests <= 21


def test_points_that_the_server_names_are_sent_apart_from_the_others() -> None:
    """A 422 that names them costs three requests, however many they are."""
    bad = set(range(0, 1000, 3))

    passed, blamed, _, requests = bisect(1000, bad, in_order=False, lucks=[0.5], names=True)

    assert blamed == bad
    assert passed == set(range(1000)) - bad
    assert requests == 3


def test_a_server_that_refuses_everything_is_not_asked_for_each_point() -> None:
    _, blamed, blocked, requests = bisect(
        1000, set(range(1000)), in_order=False, lucks=[0.3, 0.8], names=False
    )

    assert blocked
    assert not blamed
    assert requests < 100


def test_points_that_must_keep_their_order_do() -> None:
    parts, order = Bisection(8, in_order=True), []
    while (group := parts.next()) is not None:
        if 2 in group:
            parts.refused("no", named={2: "bad"}, luck=0.9)
        else:
            order += group
            parts.passed()

    assert order == [0, 1, 3, 4, 5, 6, 7]


def test_a_point_that_passed_before_tells_that_the_server_takes_some() -> None:
    parts = Bisection(1, in_order=False, accepted_before=True)
    parts.refused("no", named={}, luck=0.5)

    assert not parts.is_blocked
    assert parts.blame() == {0: "no"}


def test_a_group_of_which_nobody_knows_proves_nothing() -> None:
    parts = Bisection(2, in_order=True)
    parts.refused("no", named={}, luck=0.5)
    parts.lost()
    parts.refused("no", named={}, luck=0.5)

    assert parts.is_blocked
    assert parts.blame() == {}


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
        (OddAnswerError(3), Verdict.ODD),
        (BugError(ZeroDivisionError()), Verdict.BACK_OFF),
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
