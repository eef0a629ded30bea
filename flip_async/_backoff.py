"""How long to wait before the next try."""

import email.utils
import re
from collections.abc import Mapping
from datetime import UTC
from typing import Final

import attrs

_LARGEST_EXPONENT: Final = 60  # 2.0**60 s is beyond any cap; keeps a long outage from overflowing
_DELTA_SECONDS: Final = re.compile(r"[0-9]{1,12}", re.ASCII)


@attrs.frozen(kw_only=True)
class Backoff:
    """Exponential back-off with full jitter.

    Attributes:
        base_s: Upper end of the first pause, in seconds.
        cap_s: Upper end of every pause, in seconds.

    Source:
        M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    base_s: float = 0.5
    cap_s: float = 30.0

    def delay_s(self, attempt: int, luck: float) -> float:
        """The pause after a failed attempt.

        Args:
            attempt: Number of the attempt that failed, from 1.
            luck: A number from 0 up to 1.

        Returns:
            Seconds, from 0 to `cap_s`.
        """
        exponent = min(attempt - 1, _LARGEST_EXPONENT)
        return luck * min(self.cap_s, self.base_s * 2.0**exponent)

    def patient_delay_s(self, attempt: int, luck: float) -> float:
        """As `delay_s`, and at least half of it: for whoever needs time to recover."""
        return self.delay_s(attempt, 0.5 + luck / 2)


def doubled(previous_s: float | None, *, first_s: float, cap_s: float) -> float:
    """The next length of a while that grows each time it was not enough."""
    return first_s if previous_s is None else min(previous_s * 2, cap_s)


def parse_retry_after(value: str | None, wall_now_s: float) -> float | None:
    """Read a `Retry-After` header.

    Args:
        value: Whole seconds (`"120"`) or an HTTP date; `None` where the header is absent.
        wall_now_s: Unix time in seconds, for the date form.

    Returns:
        Seconds to wait, at least 0; `None` where the header is absent or cannot be read.

    Source:
        RFC 9110 section 10.2.3.
    """
    if value is None:
        return None
    text = value.strip()
    if _DELTA_SECONDS.fullmatch(text):
        return float(text)
    at = parse_http_date(text)
    return None if at is None else max(0.0, at - wall_now_s)


def retry_after_of(headers: Mapping[str, str], wall_now_s: float) -> float | None:
    """What an answer asks to wait, in seconds, if it does.

    A date is measured against the answer's own `Date`: both stand on the server's clock, which
    may differ from ours.
    """
    value = headers.get("Retry-After")
    if value is None:
        return None
    answered_at = parse_http_date(headers.get("Date"))
    return parse_retry_after(value, wall_now_s if answered_at is None else answered_at)


def parse_http_date(value: str | None) -> float | None:
    """Read an HTTP date as Unix time in seconds; `None` where it cannot be read."""
    if value is None:
        return None
    try:
        moment = email.utils.parsedate_to_datetime(value)
        if moment.tzinfo is None:  # an HTTP date is in GMT, whatever it says
            moment = moment.replace(tzinfo=UTC)
        return moment.timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
