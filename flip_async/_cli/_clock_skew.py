"""How far this machine's clock is from Flip's."""

import time
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from flip_async._cli._checkup import Finding, fine, skipped, warning

_ALLOWED_S: Final = 30.0


def skew_of(response: httpx.Response | None) -> Finding:
    """Compare the `Date` of an answer that has just come with the time here."""
    if response is None:
        return skipped("clock", "no answer came whose time could be compared")
    try:
        theirs = parsedate_to_datetime(response.headers["Date"]).timestamp()
    except (KeyError, ValueError):
        return skipped("clock", "the answer has no Date to compare this machine's clock with")
    # A Date has whole seconds, and was written somewhere within the exchange.
    skew_s = time.time() - response.elapsed.total_seconds() / 2 - (theirs + 0.5)
    how_far = f"{abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} Flip's"
    if abs(skew_s) <= _ALLOWED_S:
        return fine("clock", f"within {_ALLOWED_S:g} s of Flip's")
    return warning(
        "clock",
        f"this machine's clock is {how_far}",
        "set it by NTP; webhooks are refused at 300 s, and times in telemetry are wrong already",
    )
