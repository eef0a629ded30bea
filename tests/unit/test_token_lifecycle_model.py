"""The life cycle against a model that knows only the ages, under virtual time."""

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from flip_async._auth._decisions import Age, Failure, GiveUp, Pause, Policy, Refuse, Use, Wait
from flip_async._auth._lifecycle import Lifecycle
from flip_async._auth._token import Token
from flip_async._clock import Instant
from flip_async._secret import Secret
from flip_async.errors import TokenRequestError, TokenUnavailableError

ROUTES = [("GET", b"/a"), ("GET", b"/b"), ("POST", b"/a")]
LIFETIMES = st.floats(min_value=0.5, max_value=5000)
SECONDS = st.floats(min_value=0, max_value=400)


class LifecycleMachine(RuleBasedStateMachine):
    """Anything may happen at any time; some things must always, others never be so."""

    @initialize()
    def begin(self) -> None:
        self.policy = Policy()
        self.life = Lifecycle(self.policy)
        self.now = Instant(1000.0, 1_750_000_000.0)
        self.current: Token | None = None
        self.issued = self.now
        self.dropped: list[Token] = []
        self.count = 0
        self.last_refresh_at = float("-inf")

    # What may happen

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.now = self.now.later(seconds)

    @rule(seconds=st.floats(min_value=-5000, max_value=5000))
    def the_wall_clock_jumps(self, seconds: float) -> None:
        self.now = Instant(self.now.monotonic_s, self.now.wall_s + seconds)

    @rule(lifetime_s=LIFETIMES, took_s=st.floats(min_value=0, max_value=20))
    def a_refresh_succeeds(self, lifetime_s: float, took_s: float) -> None:
        self.count += 1
        token = Token(
            access_token=Secret(f"at_{self.count}"),
            issued_at=self.now.wall_s,
            lifetime_s=lifetime_s,
        )
        if self.current is not None:
            self.dropped.append(self.current)
        self.current, self.issued = token, self.now
        self.now = self.now.later(took_s)
        self.last_refresh_at = self.now.monotonic_s
        self.life.refreshed(token, self.issued, self.now)
        assert not isinstance(self.life.decide(self.now), Refuse)

    @rule(
        retryable=st.booleans(),
        retry_after_s=st.none() | st.floats(min_value=0, max_value=5000),
        luck=st.floats(min_value=0, max_value=1, exclude_max=True),
        began_ago_s=st.floats(min_value=0, max_value=60),
        asked_for=st.booleans(),
    )
    def an_attempt_fails(
        self,
        retryable: bool,
        retry_after_s: float | None,
        luck: float,
        began_ago_s: float,
        asked_for: bool,
    ) -> None:
        error = (
            TokenUnavailableError("down") if retryable else TokenRequestError("no", status_code=400)
        )
        valid = self.age() in (Age.FRESH, Age.STALE)
        step = self.life.failed(
            Failure(error, retryable, retry_after_s if retryable else None),
            began=self.now.monotonic_s - began_ago_s,
            now=self.now,
            luck=luck,
            asked_for=asked_for,
        )
        if valid and not asked_for:
            assert isinstance(step, Pause), "beside a valid token it goes on [A4]"
        if not valid and not retryable:
            assert step == GiveUp(), "a refusal is not retried [A10]"
        if isinstance(step, Pause):
            assert 0 <= step.seconds <= 60

    @rule(which=st.integers(min_value=0), route=st.sampled_from(ROUTES))
    def a_401_arrives(self, which: int, route: tuple[str, bytes]) -> None:
        carried = [*self.dropped, *([self.current] if self.current else [])]
        if not carried:
            return
        token = carried[which % len(carried)]
        before = self.life.age(self.now)
        worth_it = self.life.rejected(token, route, self.now)
        if token is not self.current:
            assert worth_it
            assert self.life.age(self.now) is before, "a late 401 changes nothing [A5]"
        elif worth_it:
            self.dropped.append(token)
            self.current = None
        else:
            assert self.life.age(self.now) is before

    @rule(route=st.sampled_from(ROUTES), accepted=st.booleans())
    def a_retry_is_answered(self, route: tuple[str, bytes], accepted: bool) -> None:
        if accepted:
            self.life.retry_accepted(route)
        else:
            self.life.retry_rejected(route, self.now)

    @rule()
    def the_user_invalidates(self) -> None:
        self.life.invalidate(self.now)
        if self.current is not None:
            self.dropped.append(self.current)
        self.current = None
        assert self.life.decide(self.now) == Wait(), "it ends every while [A21]"

    # What must always be so

    def age(self) -> Age:
        if self.current is None:
            return Age.ABSENT
        gone = [self.now.monotonic_s - self.issued[0], self.now.wall_s - self.issued[1]]
        share = max(gone) / self.current.lifetime_s
        # At the very border floating point may say either: the machine's own word counts.
        if min(abs(share - 0.8), abs(share - 1.0)) < 1e-6:
            return self.life.age(self.now)
        return Age.FRESH if share < 0.8 else Age.STALE if share < 1 else Age.EXPIRED

    @invariant()
    def the_age_is_the_models(self) -> None:
        assert self.life.age(self.now) is self.age()

    @invariant()
    def the_short_way_agrees(self) -> None:
        held = self.life.fresh(*self.now)
        assert (held is not None) == (self.life.age(self.now) is Age.FRESH)

    @invariant()
    def a_valid_token_is_always_used(self) -> None:
        decision = self.life.decide(self.now)
        if self.age() in (Age.FRESH, Age.STALE):
            assert isinstance(decision, Use), "no request waits beside a valid token [A1], [A3]"
            assert decision.token is self.current
        else:
            assert not isinstance(decision, Use)

    @invariant()
    def only_a_stale_token_asks_for_a_refresh_and_not_in_a_burst(self) -> None:
        decision = self.life.decide(self.now)
        if isinstance(decision, Use) and decision.refresh:
            assert self.current is not None
            assert self.age() is Age.STALE
            distance = min(10.0, self.current.lifetime_s * 0.1)
            assert self.now.monotonic_s >= self.last_refresh_at + distance - 1e-6

    @invariant()
    def a_refusal_ends(self) -> None:
        if isinstance(self.life.decide(self.now), Refuse):
            assert not isinstance(self.life.decide(self.now.later(60.001)), Refuse)


LifecycleMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestLifecycle = LifecycleMachine.TestCase
