"""When a batch is due [T1]."""

from hypothesis import given
from hypothesis import strategies as st

from flip_async.telemetry._batcher import Batcher


def batcher(*, waiting: int = 0, since_s: float = 0.0) -> Batcher:
    made = Batcher(max_delay_s=5.0, concurrency=2)
    if waiting:
        made.arrived(waiting, now_s=since_s)
    return made


def due_in_s(
    of: Batcher,
    *,
    now_s: float = 0.0,
    sending: int = 0,
    held_for_s: float | None = 0.0,
    is_urgent: bool = False,
) -> float | None:
    return of.due_in_s(now_s=now_s, sending=sending, held_for_s=held_for_s, is_urgent=is_urgent)


def test_a_full_batch_is_due_at_once() -> None:
    assert due_in_s(batcher(waiting=1000)) == 0.0


def test_a_point_waits_for_others_no_longer_than_max_delay() -> None:
    some = batcher(waiting=1, since_s=100.0)
    some.arrived(1, now_s=104.0)

    assert due_in_s(some, now_s=101.5) == 3.5
    assert due_in_s(some, now_s=105.0) == 0.0


def test_a_point_does_not_wait_when_somebody_waits_for_it() -> None:
    assert due_in_s(batcher(waiting=1), is_urgent=True) == 0.0


def test_nothing_is_due_where_nothing_waits() -> None:
    assert due_in_s(batcher(), is_urgent=True) is None


def test_after_a_claim_that_gave_nothing_there_is_none_till_something_happens() -> None:
    some = batcher(waiting=5000)
    some.claims()
    assert due_in_s(some) is None

    some.changed()
    assert due_in_s(some) == 0.0


def test_no_more_batches_than_allowed_are_sent_at_once() -> None:
    assert due_in_s(batcher(waiting=1000), sending=1) == 0.0
    assert due_in_s(batcher(waiting=1000), sending=2) is None


def test_no_batch_is_taken_while_requests_are_held_up() -> None:
    """What is taken later may have more in it."""
    assert due_in_s(batcher(waiting=1000), held_for_s=7.0) == 7.0
    assert due_in_s(batcher(waiting=1), now_s=1.0, held_for_s=2.0) == 4.0
    assert due_in_s(batcher(waiting=1000), held_for_s=None) is None


@given(age_s=st.floats(-1e9, 1e9), waits_s=st.floats(0, 10))
def test_no_wall_clock_holds_a_point_longer_than_max_delay(age_s: float, waits_s: float) -> None:
    """It may have been set back by an hour or forward by a day since the point was kept [B6]."""
    some = batcher()
    some.looked(1, age_s=age_s, now_s=100.0)

    due_s = due_in_s(some, now_s=100.0)
    assert due_s is not None
    assert 0.0 <= due_s <= 5.0

    some.looked(1, age_s=-age_s, now_s=100.0 + waits_s)  # it is set again: what is known counts
    assert due_in_s(some, now_s=105.0) == 0.0


def test_what_is_left_of_a_larger_heap_is_as_old_as_the_outbox_says() -> None:
    some = batcher(waiting=1500, since_s=100.0)

    some.looked(500, age_s=1.0, now_s=104.0, anew=True)

    assert due_in_s(some, now_s=104.0) == 4.0
