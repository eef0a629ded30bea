"""The token's life as a state machine: no loop, no clock, no mock."""

import math

import pytest

from flip_async._auth._cooldown import Cooldown
from flip_async._auth._decisions import Age, Failure, GiveUp, Pause, Policy, Refuse, Use, Wait
from flip_async._auth._lifecycle import Lifecycle
from flip_async._clock import Instant
from flip_async.errors import TokenRequestError, TokenUnavailableError
from tests.support import START, make_token

ROUTE = ("GET", b"/v1/sites")
OTHER_ROUTE = ("GET", b"/v1/commands")
UNAVAILABLE = Failure(TokenUnavailableError("down"), retryable=True)
REFUSED = Failure(TokenRequestError("no", status_code=401), retryable=False)


def living(value: str = "at_one", *, lifetime_s: float = 100.0) -> Lifecycle:
    life = Lifecycle()
    life.refreshed(make_token(value, lifetime_s=lifetime_s), START, START)
    return life


def after(seconds: float) -> Instant:
    return START.later(seconds)


def fail(life: Lifecycle, failure: Failure, at: float, *, began: float | None = None) -> object:
    now = after(at)
    began_at = now.monotonic_s if began is None else after(began).monotonic_s
    return life.failed(failure, began=began_at, now=now, luck=0.5)


def test_without_a_token_a_request_waits() -> None:
    """Absent: somebody has to fetch one [A2]."""
    life = Lifecycle()

    assert life.decide(START) == Wait()
    assert life.age(START) is Age.ABSENT


@pytest.mark.parametrize(
    ("seconds", "age"),
    [
        (0, Age.FRESH),
        (79.9, Age.FRESH),
        (80, Age.STALE),
        (99.9, Age.STALE),
        (100, Age.EXPIRED),
        (5000, Age.EXPIRED),
    ],
)
def test_a_token_ages_at_80_and_100_percent(seconds: float, age: Age) -> None:
    """The four ages of the design's section 2."""
    assert living().age(after(seconds)) is age


def test_a_fresh_token_is_used_and_nothing_is_begun() -> None:
    """[A1]."""
    assert living().decide(after(50)) == Use(make_token())


def test_a_stale_token_is_used_and_its_successor_fetched_beside() -> None:
    """[A3]."""
    assert living().decide(after(90)) == Use(make_token(), refresh=True)


def test_an_expired_token_makes_requests_wait() -> None:
    """[A2]."""
    assert living().decide(after(100)) == Wait()


def test_the_refresh_ratio_moves_the_stale_age() -> None:
    """`refresh_ratio` of the constructor."""
    life = Lifecycle(Policy(refresh_ratio=0.5))
    life.refreshed(make_token(), START, START)

    assert life.age(after(49)) is Age.FRESH
    assert life.age(after(51)) is Age.STALE


def test_a_life_counts_from_the_moment_before_the_request() -> None:
    """A slow token host does not make its token live longer [A12]."""
    life = Lifecycle()
    life.refreshed(make_token(), START, after(30))

    assert life.age(after(85)) is Age.STALE


def test_a_machine_that_slept_has_an_expired_token() -> None:
    """The monotonic clock stood still, the wall clock did not [A12]."""
    life = living()
    woken = Instant(START.monotonic_s + 1, START.wall_s + 3600)

    assert life.age(woken) is Age.EXPIRED


def test_what_most_requests_ask_agrees_with_the_ages() -> None:
    """`fresh()` is the short way to what `decide()` says [A1], [A12]."""
    life = living()

    assert life.fresh(*after(79)) is not None
    assert life.fresh(*after(80)) is None
    assert life.fresh(START.monotonic_s + 1, START.wall_s + 80) is None
    assert life.fresh(START.monotonic_s + 80, START.wall_s + 1) is None
    assert Lifecycle().fresh(*START) is None


def test_a_wall_clock_that_jumps_ahead_costs_one_refresh() -> None:
    """[A12]."""
    life = living()
    jumped = Instant(START.monotonic_s + 1, START.wall_s + 10_000)
    assert life.decide(jumped) == Wait()

    life.refreshed(make_token("at_two"), jumped, jumped)

    assert life.decide(jumped.later(10)) == Use(make_token("at_two"))


def test_a_wall_clock_that_jumps_back_lengthens_no_life() -> None:
    """[A12]."""
    life = living()
    jumped = Instant(START.monotonic_s + 101, START.wall_s - 10_000)

    assert life.age(jumped) is Age.EXPIRED


def test_a_refresh_nobody_waits_for_keeps_a_distance() -> None:
    """A host that gives its cached token again causes no burst [A2]."""
    life = Lifecycle()
    life.refreshed(make_token(), START, after(90))

    assert life.decide(after(91)) == Use(make_token(), refresh=False)
    assert life.decide(after(100 - 0.1)) == Use(make_token(), refresh=False)
    assert life.decide(after(101)) == Wait()


def test_the_distance_is_a_tenth_of_a_short_life() -> None:
    """[A2]."""
    life = Lifecycle()
    life.refreshed(make_token(lifetime_s=10), START, after(8.5))

    assert life.decide(after(9.4)) == Use(make_token(lifetime_s=10), refresh=False)
    assert life.decide(after(9.6)) == Use(make_token(lifetime_s=10), refresh=True)


def test_a_late_401_keeps_the_newer_token() -> None:
    """A 401 to a token that was replaced meanwhile costs no refresh [A5]."""
    old, new = make_token("old"), make_token("new")
    life = Lifecycle()
    life.refreshed(old, START, START)
    life.refreshed(new, START, START)

    worth_it = life.rejected(old, ROUTE, after(1))

    assert worth_it
    assert life.decide(after(1)) == Use(new)


def test_a_401_to_the_current_token_drops_it() -> None:
    """[A5]."""
    life = living()

    assert life.rejected(make_token(), ROUTE, after(1))
    assert life.decide(after(1)) == Wait()


def test_a_retry_that_fails_quiets_its_route_for_a_growing_while() -> None:
    """A fresh token answered 401: other 401s there ask for no new one [A7]."""
    life, at, lengths = Lifecycle(), 0.0, []
    for number in range(9):
        token = make_token(f"at_{number}")
        life.refreshed(token, after(at), after(at))
        life.retry_rejected(ROUTE, after(at))
        quiet_from = at
        while not life.rejected(token, ROUTE, after(at)):
            at += 0.5
        lengths.append(at - quiet_from)

    assert lengths == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_over_all_routes_refreshes_that_cure_nothing_keep_a_growing_distance() -> None:
    """[A7]."""
    life, at, lengths = Lifecycle(), 0.0, []
    for number in range(6):
        token = make_token(f"at_{number}")
        life.refreshed(token, after(at), after(at))
        life.retry_rejected(("GET", b"/%d" % number), after(at))
        quiet_from = at
        while not life.rejected(token, OTHER_ROUTE, after(at)):
            at += 0.5
        lengths.append(at - quiet_from)

    assert lengths == [1, 2, 4, 8, 10, 10]


def test_many_retries_that_fail_with_one_token_count_as_one() -> None:
    """200 requests share a refresh: the while does not grow 200 times [A7]."""
    life = living()
    for _ in range(200):
        life.retry_rejected(ROUTE, after(0))

    assert not life.rejected(make_token(), ROUTE, after(0.9))
    assert life.rejected(make_token(), ROUTE, after(1.1))


def test_a_retry_that_is_accepted_ends_both_whiles() -> None:
    """[A7]."""
    life = living()
    life.retry_rejected(ROUTE, after(0))

    life.retry_accepted(ROUTE)

    assert life.rejected(make_token(), ROUTE, after(0.1))


def test_the_routes_that_are_remembered_are_bounded() -> None:
    """A million paths that refuse do not fill the memory [A7]."""
    cooldown = Cooldown()
    for number in range(2000):
        cooldown.rejected(("GET", b"/v1/site/%d" % number), START.monotonic_s, generation=1)

    assert len(cooldown._routes) <= 256


def test_the_same_token_again_after_a_401_counts_as_cured_nothing() -> None:
    """A host that gives a revoked token from its cache is not asked in a burst [A7]."""
    life = living()
    life.rejected(make_token(), ROUTE, after(1))

    life.refreshed(make_token(), after(1), after(1))

    assert not life.rejected(make_token(), OTHER_ROUTE, after(1.5))


def test_an_unavailable_host_is_tried_again_within_the_budget() -> None:
    """Exponential, with full jitter: luck 0.5 of 0.5, 1, 2 s [A9]."""
    life = Lifecycle()

    pauses = [fail(life, UNAVAILABLE, at, began=0) for at in (0, 0.25, 0.75)]

    assert pauses == [Pause(0.25, False), Pause(0.5, False), Pause(1.0, False)]


def test_a_spent_budget_gives_up_and_refuses_until_the_next_try_is_due() -> None:
    """[A9]."""
    life = Lifecycle()
    for at in (0, 1, 2, 4):
        fail(life, UNAVAILABLE, at, began=0)

    assert fail(life, UNAVAILABLE, 29, began=0) == GiveUp()

    assert isinstance(life.decide(after(29.5)), Refuse)
    assert life.decide(after(34)) == Wait()


def test_the_back_off_goes_on_counting_after_giving_up() -> None:
    """[A9]."""
    life = Lifecycle(Policy(budget_s=0.1))
    dues = []
    for at in (0, 10, 20, 30):
        assert fail(life, UNAVAILABLE, at) == GiveUp()
        due = float(at)
        while isinstance(life.decide(after(due)), Refuse):
            due += 0.05
        dues.append(round(due - at, 2))

    assert dues == [0.25, 0.5, 1.0, 2.0]


def test_a_retry_after_beyond_the_budget_fails_at_once() -> None:
    """[A9]."""
    life = Lifecycle()
    failure = Failure(TokenUnavailableError("busy"), retryable=True, retry_after_s=45)

    assert fail(life, failure, 0) == GiveUp()
    assert isinstance(life.decide(after(44)), Refuse)
    assert life.decide(after(46)) == Wait()


def test_a_retry_after_beyond_a_long_budget_fails_at_once_too() -> None:
    """It is not cut down to what we would wait for [A9]."""
    life = Lifecycle(Policy(budget_s=100))
    failure = Failure(TokenUnavailableError("busy"), retryable=True, retry_after_s=3600)

    assert fail(life, failure, 0) == GiveUp()


def test_a_retry_after_within_the_budget_is_kept() -> None:
    """[A9]."""
    life = Lifecycle()
    failure = Failure(TokenUnavailableError("busy"), retryable=True, retry_after_s=7)

    assert fail(life, failure, 0) == Pause(7, wakeable=False)


def test_a_refusal_is_remembered_for_a_short_growing_while() -> None:
    """[A10]."""
    life, lengths, at = Lifecycle(), [], 0.0
    for _ in range(6):
        assert fail(life, REFUSED, at) == GiveUp()
        begun = at
        while isinstance(life.decide(after(at)), Refuse):
            at += 0.5
        lengths.append(at - begun)

    assert lengths == [5, 10, 20, 40, 60, 60]


def test_a_new_token_ends_the_memory_of_refusals() -> None:
    """[A10]."""
    life = Lifecycle()
    fail(life, REFUSED, 0)

    life.refreshed(make_token(), after(1), after(1))

    assert life.decide(after(1)) == Use(make_token())


def test_beside_a_valid_token_a_failure_costs_no_request() -> None:
    """[A4]."""
    life = living()

    assert fail(life, UNAVAILABLE, 80) == Pause(0.25, wakeable=True)

    assert life.decide(after(81)) == Use(make_token(), refresh=True)


def test_beside_a_valid_token_a_refusal_is_tried_again_after_60_s() -> None:
    """[A10]."""
    life = living(lifetime_s=1000)

    assert fail(life, REFUSED, 800) == Pause(60, wakeable=True)
    assert life.decide(after(850)) == Use(make_token(lifetime_s=1000), refresh=False)


def test_a_pause_ends_when_the_token_does() -> None:
    """At expiry a back-off that sleeps is woken for one try [A4]."""
    life = living()

    assert fail(life, REFUSED, 95) == Pause(5, wakeable=True)


def test_a_retry_after_forbids_the_try_at_expiry() -> None:
    """At most for 60 s [A4]."""
    life = living()
    failure = Failure(TokenUnavailableError("busy"), retryable=True, retry_after_s=3600)

    assert fail(life, failure, 95) == Pause(60, wakeable=False)
    assert isinstance(life.decide(after(101)), Refuse)
    assert life.decide(after(130)) == Wait()


def test_a_budget_begins_when_the_token_ends() -> None:
    """Requests do not pay for what happened beside a valid token [A4], [A9]."""
    life = living()
    fail(life, UNAVAILABLE, 80, began=80)

    assert isinstance(fail(life, UNAVAILABLE, 120, began=80), Pause)
    assert fail(life, UNAVAILABLE, 131, began=80) == GiveUp()


def test_a_budget_begins_when_a_401_drops_the_token() -> None:
    """[A5], [A9]."""
    life = living(lifetime_s=1000)
    fail(life, UNAVAILABLE, 800, began=800)
    life.rejected(make_token(), ROUTE, after(900))

    assert isinstance(fail(life, UNAVAILABLE, 900, began=800), Pause)


def test_a_refresh_that_was_asked_for_does_not_hide_behind_the_token_at_hand() -> None:
    """`refresh()` tells its caller what became of it [A21]."""
    life = living()

    outcome = life.failed(
        REFUSED, began=after(1).monotonic_s, now=after(1), luck=0.5, asked_for=True
    )

    assert outcome == GiveUp()
    assert life.decide(after(1)) == Use(make_token())


def test_somebody_elses_trouble_is_not_remembered() -> None:
    """A site's token fails with the client's credential, which remembers itself [A19]."""
    life = Lifecycle()

    fail(life, Failure(TokenUnavailableError("down"), retryable=False, remembered=False), 0)

    assert life.decide(after(0)) == Wait()


def test_invalidate_drops_the_token_and_ends_every_while() -> None:
    """[A21]."""
    life = living()
    life.retry_rejected(ROUTE, after(0))
    fail(life, REFUSED, 0)

    life.invalidate(after(1))

    assert life.decide(after(1)) == Wait()


def test_the_next_unasked_refresh_is_when_the_token_is_stale() -> None:
    """[A22]."""
    assert living().unasked_refresh_in_s(after(10)) == 70


def test_the_next_unasked_refresh_waits_out_a_failure() -> None:
    """[A22]."""
    life = living(lifetime_s=1000)
    fail(life, REFUSED, 800)

    assert life.unasked_refresh_in_s(after(810)) == 50


def test_there_is_no_unasked_refresh_without_a_token_nor_for_a_key() -> None:
    """[A22]."""
    assert Lifecycle().unasked_refresh_in_s(START) is None
    assert living(lifetime_s=math.inf).unasked_refresh_in_s(START) is None


def test_a_refresh_says_which_token_it_replaces() -> None:
    """A shared store's copy of that one counts as absent [A20]."""
    life = living("old")
    assert life.replaced == {make_token("old").access_token}

    life.rejected(make_token("old"), ROUTE, after(1))

    assert life.replaced == {make_token("old").access_token}
    assert Lifecycle().replaced == frozenset()
