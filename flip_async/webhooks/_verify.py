"""`verify`: from a request of somebody to an event of Flip's."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from flip_async._checks import check_mapping, check_number, conceal_all
from flip_async._clock import SystemClock
from flip_async.webhooks._events import AnyEvent, read_event
from flip_async.webhooks._signature import (
    TOLERANCE_S,
    SigningKeys,
    as_bytes,
    as_unix_s,
    check_signature,
)


def verify(
    body: bytes,
    headers: Mapping[str, str],
    secret: str | Sequence[str] | SigningKeys,
    *,
    tolerance_s: float = TOLERANCE_S,
    now: float | datetime | None = None,
) -> AnyEvent:
    """Make sure that a webhook is Flip's, and read it.

    Args:
        body: The body as it came, byte for byte.
        headers: The headers of the request; their names may have any case.
        secret: The signing key, `whsec_...`; several, in a list, while it is replaced.
        tolerance_s: How far its time may be from ours, either way, in seconds.
        now: The present time, for tests: Unix time in seconds, or a moment with a zone.

    Returns:
        The event; an `UnknownEvent` where its type is newer than this version.

    Raises:
        WebhookError: It is not Flip's, is of another time, or cannot be read; each way to
            fail has a class of its own.
        ConfigurationError: The key is none.
        InvalidArgumentError: The body is no bytes, or another argument cannot be what it is.

    Source:
        Standard Webhooks specification; https://docs.flip.energy/webhooks
    """
    secret = conceal_all(secret)  # type: ignore[assignment]  # no frame shows it
    check_tolerance(tolerance_s)
    keys = SigningKeys.of(secret)
    content = as_bytes(body)
    check_mapping(headers, field="headers")
    now_s = SystemClock().wall() if now is None else as_unix_s(now, field="now")
    signed = check_signature(content, headers, keys, tolerance_s=tolerance_s, now_s=now_s)
    return read_event(signed, content)


def check_tolerance(value: object) -> None:
    """Refuse what is no finite number of seconds, at least 0: without an end, old ones pass."""
    check_number(value, field="tolerance_s", at_least=0, unit=" of seconds")
