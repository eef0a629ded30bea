"""How long to wait."""

from email.utils import formatdate

import hypothesis.strategies as st
import pytest
from hypothesis import given

from flip_async._backoff import Backoff, parse_http_date, parse_retry_after

NOW = 1_750_000_000.0


def test_a_pause_grows_up_to_its_cap() -> None:
    """The upper end doubles."""
    backoff = Backoff(base_s=0.5, cap_s=8)

    assert [backoff.delay_s(n, luck=1.0) for n in range(1, 8)] == [0.5, 1, 2, 4, 8, 8, 8]


@given(attempt=st.integers(1, 10**9), luck=st.floats(0, 1, exclude_max=True))
def test_a_pause_lies_between_nothing_and_its_cap(attempt: int, luck: float) -> None:
    """Full jitter, and no overflow after years of trying."""
    assert 0 <= Backoff().delay_s(attempt, luck) <= Backoff().cap_s


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("0", 0),
        (formatdate(NOW + 90, usegmt=True), 90),
        (formatdate(NOW - 90, usegmt=True), 0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("Wed, 11 Jun 2025 15:30:00 -0000", 0),
        (None, None),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("soon", None),
        ("9" * 400, None),
        ("Sun, 99 Nov 9999999 08:49:37 GMT", None),
    ],
)
def test_a_retry_after_is_read(value: str | None, seconds: float | None) -> None:
    """Seconds or an HTTP date (RFC 9110 section 10.2.3)."""
    assert parse_retry_after(value, NOW) == seconds


@given(st.text(max_size=60))
def test_no_header_raises(value: str) -> None:
    """Hostile input is as good as none."""
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or seconds >= 0
    assert parse_http_date(None) is None
