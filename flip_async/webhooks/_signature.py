"""Signatures after Standard Webhooks: told the time, they decide and do nothing else."""

import base64
import contextlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple, NoReturn, final

from flip_async._checks import check_number, check_text, conceal_all, refuse
from flip_async._secret import Secret, shape
from flip_async.errors import (
    ConfigurationError,
    InvalidArgumentError,
    MalformedWebhookHeaderError,
    MissingWebhookHeaderError,
    WebhookSignatureError,
    WebhookTooNewError,
    WebhookTooOldError,
)

ID: Final = "Webhook-Id"
TIMESTAMP: Final = "Webhook-Timestamp"
SIGNATURE: Final = "Webhook-Signature"
TOLERANCE_S: Final = 300.0

_PREFIX: Final = "whsec_"
_DIGESTED: Final = b"the inbox of flip_async"
_SHORTEST_KEY: Final = 14
"""Bytes: 112 bits, the least that NIST SP 800-131A lets a key for HMAC have. Standard Webhooks asks
for 24 to 64; what Flip gives is not documented."""
_ID: Final = re.compile(r"[!-~]{1,256}", re.ASCII)  # what any store and any log can hold
_SECONDS: Final = re.compile(r"0|[1-9][0-9]{0,10}", re.ASCII)


class Signed(NamedTuple):
    """What a webhook's headers say, once its signature is found good.

    Attributes:
        webhook_id: Flip's id of the delivery; the same when it is repeated.
        sent_at: When it was signed, as Unix time in whole seconds.
    """

    webhook_id: str
    sent_at: int


@final
class SigningKeys:
    """One key or several: while a key is replaced, the old and the new one count.

    They show themselves to nobody, and are not pickled, as a `Secret`.

    Args:
        keys: The keys, decoded; `of` reads them from their texts.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        self._keys: Final = keys

    def __reduce__(self) -> NoReturn:
        raise TypeError("signing keys are not pickled: read them where they are used")

    @classmethod
    def of(
        cls, secret: "str | Sequence[str] | SigningKeys", field: str = "secret"
    ) -> "SigningKeys":
        """Read keys.

        Args:
            secret: `whsec_` and base64; several in a list, or separated by white space.
            field: What to call it in an error.

        Returns:
            The keys.

        Raises:
            ConfigurationError: There is none, or one is not base64. No error shows it.
        """
        if isinstance(secret, SigningKeys):
            return secret
        secret = conceal_all(secret)  # type: ignore[assignment]  # no frame shows it from here on
        secrets = _all_secrets(secret, field)
        if not secrets:
            raise ConfigurationError(f"{field} is empty: it is the signing key, whsec_...")
        return cls(tuple(_key_of(one, field) for one in secrets))

    @property
    def digests(self) -> frozenset[str]:
        """One digest for each key, keyed by it; tells which keys are the same, and nothing more."""
        return frozenset(hmac.digest(key, _DIGESTED, "sha256").hex()[:32] for key in self._keys)

    def signatures(self, webhook_id: str, sent_at: str, body: bytes) -> list[bytes]:
        """What each key makes of a webhook, as base64.

        Args:
            webhook_id: Flip's id of the delivery.
            sent_at: Unix time in whole seconds, as a text.
            body: The body, in bytes.
        """
        signed = b"%b.%b.%b" % (webhook_id.encode("ascii"), sent_at.encode("ascii"), body)
        return [base64.b64encode(hmac.digest(key, signed, "sha256")) for key in self._keys]


def _all_secrets(concealed: object, field: str) -> list[Secret]:
    several = (concealed,) if isinstance(concealed, Secret) else concealed
    if not isinstance(several, tuple):
        raise ConfigurationError(f"{field} is a str or a list of them, not {shape(several)}")
    for one in several:
        if not isinstance(one, Secret):
            raise ConfigurationError(f"{field} has {shape(one)} in it, and keys are texts")
    return [Secret(part) for one in several for part in one.reveal().split()]


def _key_of(secret: Secret, field: str) -> bytes:
    key = _decoded(secret)
    if not key:
        raise ConfigurationError(
            f"{field} ({shape(secret.reveal())}) is no signing key: it is whsec_ and base64, from "
            "Flip's developer console"
        )
    if len(key) < _SHORTEST_KEY:
        raise ConfigurationError(
            f"{field} is a signing key of {len(key)} bytes, which a stranger can guess: at least "
            f"{_SHORTEST_KEY} are needed; was it cut off when it was copied?"
        )
    return key


def _decoded(secret: Secret) -> bytes:
    encoded = secret.reveal().removeprefix(_PREFIX)
    with contextlib.suppress(ValueError):  # told by the caller: this error would hold the text
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    return b""


def check_signature(
    body: bytes,
    headers: Mapping[str, str],
    keys: SigningKeys,
    *,
    tolerance_s: float,
    now_s: float,
) -> Signed:
    """Find out whether a webhook was signed with one of our keys, just now.

    The time is looked at last: a webhook that is signed well but refused for its age tells
    that a clock is wrong, or that somebody plays back what Flip once sent.

    Args:
        body: The body as it came, byte for byte.
        headers: The headers; their names may have any case.
        keys: Our keys.
        tolerance_s: How far its time may be from ours, in seconds.
        now_s: Unix time in seconds.

    Returns:
        What the headers say.

    Raises:
        MissingWebhookHeaderError: A header is not there.
        MalformedWebhookHeaderError: A header cannot be read.
        WebhookSignatureError: No signature is ours.
        WebhookTooOldError: It was signed too long ago.
        WebhookTooNewError: It was signed in the future.

    Source:
        Standard Webhooks specification, "Verifying webhook authenticity"; the API's
        reference, section 19.
    """
    webhook_id, sent_at, signature = (_header(headers, name) for name in (ID, TIMESTAMP, SIGNATURE))
    if not _ID.fullmatch(webhook_id):
        raise MalformedWebhookHeaderError(
            f"({shape(webhook_id)}) is no id of printable ASCII, up to 256 characters", header=ID
        )
    if not _SECONDS.fullmatch(sent_at):
        raise MalformedWebhookHeaderError(
            f"({shape(sent_at)}) is no Unix time in whole seconds", header=TIMESTAMP
        )
    given = _signatures_in(signature)
    fits = False
    for ours in keys.signatures(webhook_id, sent_at, body):
        for theirs in given:  # all of them, whichever fits: the time taken tells nothing
            fits |= hmac.compare_digest(ours, theirs)
    if not fits:
        raise WebhookSignatureError(
            "no signature fits this body: is it the body as it came, and is the signing key the "
            "one of this webhook?"
        )
    _check_age(now_s - int(sent_at), tolerance_s)
    return Signed(webhook_id, int(sent_at))


def _header(headers: Mapping[str, str], name: str) -> str:
    wanted, found = name.lower(), ""
    for key, value in headers.items():
        if not isinstance(key, str):
            raise InvalidArgumentError(f"has {shape(key)} as a name, not a str", field="headers")
        if key.lower() != wanted:
            continue
        if not isinstance(value, str):
            refuse(f"headers[{key!r}]", "a str", value)
        if found and value != found:
            raise MalformedWebhookHeaderError("is there twice, and differs", header=name)
        found = value
    if not found:
        raise MissingWebhookHeaderError("is not there", header=name)
    return found


def _signatures_in(header: str) -> list[bytes]:
    """Those of version 1, which is all that we know; others may stand beside them."""
    parts = [part.partition(",") for part in header.split(" ")]
    # Compared as text: base64 that is none fits nothing, and needs no error of its own.
    found = [text.encode("utf-8", "replace") for version, _, text in parts if version == "v1"]
    if not any(found):
        raise MalformedWebhookHeaderError(
            f"({shape(header)}) has no signature of version 1, v1,<base64>", header=SIGNATURE
        )
    return found


def _check_age(age_s: float, tolerance_s: float) -> None:
    if age_s > tolerance_s:
        raise WebhookTooOldError(
            f"signed {age_s:.0f} s ago, and no more than {tolerance_s:g} s are allowed: it is "
            "played back, or this machine's clock is ahead",
            age_s=age_s,
        )
    if age_s < -tolerance_s:
        raise WebhookTooNewError(
            f"signed {-age_s:.0f} s in the future, and no more than {tolerance_s:g} s are "
            "allowed: this machine's clock is behind",
            age_s=age_s,
        )


def sign(
    body: bytes,
    secret: str | Sequence[str] | SigningKeys,
    *,
    webhook_id: str,
    timestamp: float | datetime,
) -> dict[str, str]:
    """Sign a body as Flip does, for tests.

    Args:
        body: The body, byte for byte.
        secret: The signing key, `whsec_...`; with several there are several signatures.
        webhook_id: Id of the delivery.
        timestamp: When it is sent: Unix time in seconds, of which whole ones count, or a
            moment with a time zone.

    Returns:
        The three headers.

    Raises:
        ConfigurationError: The key is none.
        InvalidArgumentError: The id or the time cannot be in a header.

    Source:
        Standard Webhooks specification, "Signature scheme".
    """
    secret = conceal_all(secret)  # type: ignore[assignment]  # no frame shows it
    keys = SigningKeys.of(secret)
    body = as_bytes(body)
    if not _ID.fullmatch(check_text(webhook_id, field="webhook_id")):
        raise InvalidArgumentError("is printable ASCII, up to 256 characters", field="webhook_id")
    sent_at = str(int(as_unix_s(timestamp, field="timestamp")))
    if not _SECONDS.fullmatch(sent_at):
        raise InvalidArgumentError("is a moment after 1970", field="timestamp")
    signatures = keys.signatures(webhook_id, sent_at, body)
    return {
        ID: webhook_id,
        TIMESTAMP: sent_at,
        SIGNATURE: " ".join(f"v1,{one.decode('ascii')}" for one in signatures),
    }


def as_bytes(body: object) -> bytes:
    """The body, where it was not decoded: what was signed are its bytes."""
    if isinstance(body, bytes):
        return body
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    return refuse(
        "body",
        "the body as it came, in bytes (what was decoded and encoded again may differ from what "
        "was signed)",
        body,
    )


def check_tolerance(value: object) -> None:
    """Refuse what is no finite number of seconds, at least 0: without an end, old ones pass."""
    check_number(value, field="tolerance_s", at_least=0, unit=" of seconds")


def as_unix_s(moment: object, *, field: str) -> float:
    """A moment as Unix time in seconds."""
    if isinstance(moment, datetime):
        if moment.utcoffset() is None:
            raise InvalidArgumentError("has no time zone: give it one", field=field)
        return moment.timestamp()
    seconds = check_number(moment, field=field, unit=" of seconds since 1970, or a datetime")
    if abs(seconds) >= 1e12:
        raise InvalidArgumentError("is in seconds, not in milliseconds", field=field)
    return seconds
