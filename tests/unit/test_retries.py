"""What an outcome is worth [R1]."""

import math

import pytest

from flip_async import Retries
from flip_async._endpoint import Endpoint
from flip_async._http._retry import Answered, Outcome, RetryBudget
from flip_async._transport._attempt import NoAnswer
from flip_async.errors import InvalidArgumentError

SENT = NoAnswer(reason="ReadError", may_have_arrived=True)
NOT_SENT = NoAnswer(reason="ConnectError", may_have_arrived=False)
HOPELESS = NoAnswer(reason="LocalProtocolError", may_have_arrived=False, is_worth_repeating=False)
HOPELESS_AND_SENT = NoAnswer(
    reason="TooManyRedirects", may_have_arrived=True, is_worth_repeating=False
)


def pause(
    outcome: Outcome, *, repeatable: bool, attempt: int = 1, **settings: object
) -> float | None:
    retries = Retries(**settings)  # type: ignore[arg-type]
    return retries.pause_s(outcome, attempt=attempt, repeatable=repeatable, luck=0.5)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_repeatable_request_is_tried_again_after_these(status: int) -> None:
    """GET, PATCH and DELETE set or read a state."""
    assert pause(Answered(status), repeatable=True) == 0.25


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 501, 302])
def test_nothing_is_tried_again_after_those(status: int) -> None:
    """The next answer would be the same."""
    assert pause(Answered(status), repeatable=True) is None


@pytest.mark.parametrize(
    ("outcome", "again"),
    [
        (Answered(429), True),
        (Answered(503), True),
        (Answered(500), False),
        (Answered(502), False),
        (Answered(504), False),
        (NOT_SENT, True),
        (SENT, False),
        (HOPELESS, False),
        (HOPELESS_AND_SENT, False),
    ],
)
def test_a_post_is_tried_again_only_if_it_was_not_carried_out(
    outcome: Outcome, again: bool
) -> None:
    """The reference does not say that doing it twice is harmless."""
    assert (pause(outcome, repeatable=False) is not None) is again


@pytest.mark.parametrize(
    ("outcome", "again"),
    [(SENT, True), (NOT_SENT, True), (HOPELESS, False), (HOPELESS_AND_SENT, False)],
)
def test_a_repeatable_request_is_tried_again_without_an_answer(
    outcome: Outcome, again: bool
) -> None:
    """Unless it is hopeless."""
    assert (pause(outcome, repeatable=True) is not None) is again


def test_the_last_attempt_is_the_last() -> None:
    """`max_attempts`."""
    assert pause(NOT_SENT, repeatable=True, attempt=3, max_attempts=4) is not None
    assert pause(NOT_SENT, repeatable=True, attempt=4, max_attempts=4) is None
    assert pause(NOT_SENT, repeatable=True, max_attempts=1) is None


def test_a_retry_after_is_waited_for_up_to_its_cap() -> None:
    """A longer one is raised at once."""
    assert pause(Answered(503, retry_after_s=30), repeatable=True) == 30
    assert pause(Answered(503, retry_after_s=0), repeatable=True) == 0.25
    assert pause(Answered(503, retry_after_s=61), repeatable=True) is None


def test_a_post_may_be_marked_safe_by_the_user_or_by_us() -> None:
    """With a reason beside our mark."""
    post = Endpoint(method="POST", path="/v1/x", token="client", returns=object)
    safe = Endpoint(
        method="POST", path="/v1/y", token="client", returns=object, safe_to_repeat="a reason"
    )
    get = Endpoint(method="GET", path="/v1/z", token="client", returns=object)

    assert not Retries().may_repeat(post)
    assert Retries(safe_to_repeat={"POST /v1/x"}).may_repeat(post)
    assert not Retries(safe_to_repeat=["POST /v1/y"]).may_repeat(post)
    assert Retries().may_repeat(safe)
    assert Retries().may_repeat(get)


def test_one_name_that_is_safe_needs_no_list() -> None:
    """It is no collection of its letters."""
    assert Retries(safe_to_repeat="POST /v1/x") == Retries(safe_to_repeat={"POST /v1/x"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"max_attempts": 1.5},
        {"max_attempts": math.inf},
        {"max_attempts": math.nan},
        {"max_attempts": "3"},
        {"max_attempts": True},
        {"budget": -1},
        {"base_s": -1},
        {"base_s": None},
        {"cap_s": math.inf},
        {"retry_after_cap_s": 10**400},
        {"statuses": 503},
        {"statuses": "503"},
        {"statuses": ["503"]},
        {"statuses": [99]},
        {"statuses": [600]},
        {"safe_to_repeat": 3},
        {"safe_to_repeat": [3]},
        {"safe_to_repeat": "/v1/x"},
        {"safe_to_repeat": "post /v1/x"},
        {"safe_to_repeat": ["POST /v1/x", "POST /v1/y /v1/z"]},
    ],
    ids=repr,
)
def test_a_policy_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    """Before any request, and it names what is wrong [B5]."""
    with pytest.raises(InvalidArgumentError) as caught:
        Retries(**wrong)  # type: ignore[arg-type]

    assert caught.value.field == next(iter(wrong))


def test_a_budget_is_used_up_and_comes_back_with_successes() -> None:
    """A server that is down is not hit by every task's retries."""
    budget = RetryBudget(2)
    assert [budget.take() for _ in range(3)] == [True, True, False]

    for _ in range(10):
        budget.succeeded()

    assert [budget.take() for _ in range(2)] == [True, False]
