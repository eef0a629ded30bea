"""Whether a webhook is Flip's: Standard Webhooks, held against its reference implementation."""

import base64
import binascii
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from flip_async import errors
from flip_async.webhooks import CommandEvent, SigningKeys, sign, verify
from tests.support.webhooks import DATA, OTHER_SECRET

VECTOR: dict[str, Any] = json.loads((DATA / "webhook-signature.json").read_text())
BODY = VECTOR["body"].encode()
HEADERS: dict[str, str] = VECTOR["headers"]
KEY = VECTOR["signing_key"]
SENT_AT = int(HEADERS["Webhook-Timestamp"])
UNKNOWN = b'{"event_type":"x","event_object":1}'


def test_the_documented_webhook_is_flips() -> None:
    event = verify(BODY, HEADERS, KEY, now=SENT_AT)

    assert isinstance(event, CommandEvent)
    assert event.webhook_id == "msg_2Yx7Kq1vD0"
    assert event.event_object.device_id == "inv-77301"


def test_signing_gives_the_documented_headers() -> None:
    moment = datetime.fromtimestamp(SENT_AT, UTC)

    for timestamp in (SENT_AT, SENT_AT + 0.9, moment):
        headers = sign(BODY, KEY, webhook_id="msg_2Yx7Kq1vD0", timestamp=timestamp)
        assert headers == HEADERS


def test_without_a_time_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    headers = sign(UNKNOWN, KEY, webhook_id="a", timestamp=now)

    assert verify(UNKNOWN, headers, KEY).event_type == "x"
    with pytest.raises(errors.WebhookTooOldError):
        verify(BODY, HEADERS, KEY)


@pytest.mark.parametrize("secret", [KEY, KEY.removeprefix("whsec_"), KEY.rstrip("="), f" {KEY}\n"])
def test_a_key_may_stand_with_or_without_its_prefix_and_padding(secret: str) -> None:
    assert verify(BODY, HEADERS, secret, now=SENT_AT)


@pytest.mark.parametrize("body", [bytearray(BODY), memoryview(BODY)])
def test_a_body_may_be_any_kind_of_bytes(body: bytes) -> None:
    assert verify(body, HEADERS, KEY, now=SENT_AT).body == BODY


# Time


@pytest.mark.parametrize("age_s", [-300, -299, 0, 299, 300])
def test_a_webhook_within_the_tolerance_is_taken_on_both_sides(age_s: int) -> None:
    assert verify(BODY, HEADERS, KEY, now=SENT_AT + age_s)


def test_a_webhook_from_too_long_ago_is_refused() -> None:
    with pytest.raises(errors.WebhookTooOldError, match="301 s ago") as caught:
        verify(BODY, HEADERS, KEY, now=SENT_AT + 301)

    assert caught.value.age_s == 301


def test_a_webhook_from_the_future_is_refused() -> None:
    with pytest.raises(errors.WebhookTooNewError, match="301 s in the future") as caught:
        verify(BODY, HEADERS, KEY, now=SENT_AT - 301)

    assert caught.value.age_s == -301


def test_the_tolerance_can_be_set_but_not_be_left_out() -> None:
    assert verify(BODY, HEADERS, KEY, tolerance_s=600, now=SENT_AT + 600)
    with pytest.raises(errors.WebhookTooOldError):
        verify(BODY, HEADERS, KEY, tolerance_s=0, now=SENT_AT + 1)
    for wrong in (float("inf"), float("nan"), -1, None, True, "300"):
        with pytest.raises(errors.InvalidArgumentError, match="tolerance_s"):
            verify(BODY, HEADERS, KEY, tolerance_s=wrong, now=SENT_AT)  # type: ignore[arg-type]


def test_the_age_of_a_stranger_is_not_told() -> None:
    """The signature is looked at first: an error of time tells that the key is right."""
    with pytest.raises(errors.WebhookSignatureError):
        verify(BODY, HEADERS, OTHER_SECRET, now=SENT_AT + 9999)


# Keys


def test_while_a_key_is_replaced_the_old_and_the_new_one_count() -> None:
    for keys in ([OTHER_SECRET, KEY], (KEY, OTHER_SECRET), f"{OTHER_SECRET} {KEY}"):
        assert verify(BODY, HEADERS, keys, now=SENT_AT)


def test_one_good_signature_among_several_is_enough() -> None:
    headers = sign(BODY, [OTHER_SECRET, KEY], webhook_id="a", timestamp=SENT_AT)
    assert len(headers["Webhook-Signature"].split(" ")) == 2

    for key in (OTHER_SECRET, KEY):
        assert verify(BODY, headers, key, now=SENT_AT)
    headers["Webhook-Signature"] = "v2,abc v1a,def " + headers["Webhook-Signature"] + " junk"
    assert verify(BODY, headers, KEY, now=SENT_AT)


@pytest.mark.parametrize(
    "secret",
    ["", "  ", "whsec_", "whsec_not!base64", "whsec_é", [], [""], ["whsec_AQID", 5], 5, None, b"x"],
)
def test_what_is_no_key_is_refused_and_not_shown(secret: Any) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        verify(BODY, HEADERS, secret, now=SENT_AT)

    assert "not!base64" not in f"{caught.value}{caught.value!r}"
    assert caught.value.__context__ is None


@pytest.mark.parametrize("size", [1, 3, 13])
def test_a_key_that_can_be_guessed_is_refused(size: int) -> None:
    key = "whsec_" + base64.b64encode(b"k" * size).decode()

    with pytest.raises(errors.ConfigurationError, match=f"of {size} bytes, which a stranger"):
        SigningKeys.of(key)
    assert SigningKeys.of("whsec_" + base64.b64encode(b"k" * 14).decode())


def test_digests_tell_which_keys_are_the_same_and_nothing_more() -> None:
    old, both = SigningKeys.of(KEY).digests, SigningKeys.of([OTHER_SECRET, KEY]).digests

    assert old < both
    assert len(both) == 2
    assert KEY.removeprefix("whsec_") not in str(both)


def test_keys_do_not_show_themselves() -> None:
    keys = SigningKeys.of(KEY)

    assert "AQID" not in repr(keys)
    assert repr(base64.b64decode(KEY.removeprefix("whsec_"))) not in repr(keys)
    assert verify(BODY, HEADERS, keys, now=SENT_AT)


# Headers


def test_names_of_headers_may_have_any_case() -> None:
    assert verify(BODY, {name.lower(): v for name, v in HEADERS.items()}, KEY, now=SENT_AT)
    assert verify(BODY, {name.upper(): v for name, v in HEADERS.items()}, KEY, now=SENT_AT)


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("value", [None, ""])
def test_a_header_that_is_not_there_is_named(name: str, value: str | None) -> None:
    headers = {key: one for key, one in HEADERS.items() if key != name}
    if value is not None:
        headers[name] = value

    with pytest.raises(errors.MissingWebhookHeaderError, match=name) as caught:
        verify(BODY, headers, KEY, now=SENT_AT)
    assert caught.value.header == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Webhook-Id", "a b"),
        ("Webhook-Id", "ä"),
        ("Webhook-Id", "a\n"),
        ("Webhook-Id", "a" * 257),
        ("Webhook-Timestamp", "soon"),
        ("Webhook-Timestamp", "1752588132.5"),
        ("Webhook-Timestamp", " 1752588132"),
        ("Webhook-Timestamp", "01752588132"),
        ("Webhook-Timestamp", "1_752_588_132"),
        ("Webhook-Timestamp", "-1"),
        ("Webhook-Timestamp", "inf"),
        ("Webhook-Timestamp", "9" * 400),
        ("Webhook-Timestamp", "".join(chr(0xFF10 + int(digit)) for digit in "1752588132")),
        ("Webhook-Signature", "al9T4pynWj2d"),
        ("Webhook-Signature", "v2,abc"),
        ("Webhook-Signature", "v1,"),
        ("Webhook-Signature", "v1"),
        ("Webhook-Signature", "  "),
    ],
)
def test_a_header_that_cannot_be_read_is_named_and_not_shown(name: str, value: str) -> None:
    with pytest.raises(errors.MalformedWebhookHeaderError, match=name) as caught:
        verify(BODY, HEADERS | {name: value}, KEY, now=SENT_AT)

    assert caught.value.header == name
    assert len(str(caught.value)) < 120


def test_a_header_that_is_there_twice_and_differs_is_refused() -> None:
    """Which of them somebody else looks at is not for us to guess."""
    with pytest.raises(errors.MalformedWebhookHeaderError, match="twice"):
        verify(BODY, HEADERS | {"webhook-id": "other"}, KEY, now=SENT_AT)
    assert verify(BODY, HEADERS | {"webhook-id": HEADERS["Webhook-Id"]}, KEY, now=SENT_AT)


@pytest.mark.parametrize(
    "signature",
    [
        "v1,bad base64",
        "v1,é",
        "v1,\ud800",
        "v1,AAAA",
        HEADERS["Webhook-Signature"].rstrip("="),
        HEADERS["Webhook-Signature"].lower(),
        "v1,AAAA  v1,BBBB",
    ],
)
def test_a_signature_that_is_none_fits_nothing(signature: str) -> None:
    with pytest.raises(errors.WebhookSignatureError):
        verify(BODY, HEADERS | {"Webhook-Signature": signature}, KEY, now=SENT_AT)


@pytest.mark.parametrize(
    "change", [{"Webhook-Id": "msg_other"}, {"Webhook-Timestamp": str(SENT_AT + 1)}]
)
def test_what_was_signed_cannot_be_changed(change: dict[str, str]) -> None:
    with pytest.raises(errors.WebhookSignatureError):
        verify(BODY, HEADERS | change, KEY, now=SENT_AT)
    with pytest.raises(errors.WebhookSignatureError):
        verify(BODY + b" ", HEADERS, KEY, now=SENT_AT)


def test_the_parts_of_what_is_signed_cannot_be_shifted() -> None:
    """An id with a dot in it would give the same text with another time and body."""
    headers = sign(BODY, KEY, webhook_id=f"msg.{SENT_AT}", timestamp=SENT_AT + 1)
    shifted = headers | {"Webhook-Id": "msg", "Webhook-Timestamp": str(SENT_AT)}

    with pytest.raises(errors.WebhookBodyError):
        verify(b"%d.%b" % (SENT_AT + 1, BODY), shifted, KEY, now=SENT_AT)


# Arguments of our users


@pytest.mark.parametrize("body", ["{}", None, {"a": 1}])
def test_a_body_that_was_decoded_is_refused(body: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="body"):
        verify(body, HEADERS, KEY, now=SENT_AT)


@pytest.mark.parametrize("headers", [None, [], {b"webhook-id": b"a"}, {"Webhook-Id": 5}])
def test_headers_of_another_kind_are_refused(headers: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="headers"):
        verify(BODY, headers, KEY, now=SENT_AT)


@pytest.mark.parametrize("now", [datetime(2025, 1, 1), "1752588132", True, float("nan"), 2e12])
def test_a_time_that_is_none_is_refused(now: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="now"):
        verify(BODY, HEADERS, KEY, now=now)
    with pytest.raises(errors.InvalidArgumentError, match="timestamp"):
        sign(BODY, KEY, webhook_id="a", timestamp=now)


@pytest.mark.parametrize("webhook_id", ["", "a b", "ä", 5, "a\n"])
def test_an_id_that_no_header_holds_is_not_signed(webhook_id: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="webhook_id"):
        sign(BODY, KEY, webhook_id=webhook_id, timestamp=1)
    with pytest.raises(errors.InvalidArgumentError, match="timestamp"):
        sign(BODY, KEY, webhook_id="a", timestamp=-1)


# The reference implementation

keys = st.binary(min_size=14, max_size=64).map(lambda key: base64.b64encode(key).decode())
bodies = st.one_of(st.binary(max_size=200), st.text(max_size=100).map(lambda text: text.encode()))
# Not at the edges: both read the clock, one after the other.
ages = st.integers(-400, 400).filter(lambda age_s: abs(abs(age_s) - 300) > 20)
ids = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


def theirs(body: bytes, headers: dict[str, str], key: str) -> bool | None:
    """The reference's verdict; `None` where it raises something else than its own error."""
    try:
        Webhook(key).verify(body, headers, json_parse=False)
    except WebhookVerificationError:
        return False
    except (ValueError, TypeError, binascii.Error):
        return None
    return True


def ours(body: bytes, headers: dict[str, str], key: str) -> bool:
    try:
        verify(body, headers, key)
    except errors.WebhookBodyError:
        return True  # the signature was good
    except errors.WebhookError:
        return False
    return True


def utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


@settings(max_examples=2000)
@given(key=keys, body=bodies, webhook_id=ids, age_s=ages)
def test_what_either_signs_the_other_takes(
    key: str, body: bytes, webhook_id: str, age_s: int
) -> None:
    now = datetime.now(UTC).timestamp() - age_s
    headers = sign(body, key, webhook_id=webhook_id, timestamp=now)

    verdict = theirs(body, headers, key)

    assert ours(body, headers, key) is (abs(age_s) < 300)
    if utf8(body):
        assert verdict is ours(body, headers, key)
        moment = datetime.fromtimestamp(int(now), UTC)
        assert Webhook(key).sign(webhook_id, moment, body.decode()) == headers["Webhook-Signature"]
    else:
        assert verdict is None


mutations = st.lists(
    st.tuples(
        st.sampled_from(["replace", "insert", "delete"]),
        st.integers(0, 60),
        st.sampled_from("abz019+/=, .v1-_\n"),
    ),
    max_size=3,
)


def mutated(text: str, changes: list[tuple[str, int, str]]) -> str:
    for kind, at, character in changes:
        place = at % (len(text) + 1)
        tail = text[place:] if kind == "insert" else text[place + 1 :]
        text = text[:place] + ("" if kind == "delete" else character) + tail
    return text


def spoils_base64(header: str) -> bool:
    """Whether the reference reads a signature that is not written as base64 is."""
    for part in header.split(" "):
        _, _, text = part.partition(",")
        with_any_case = base64.b64decode(text + "==")
        if base64.b64encode(with_any_case).decode() != text:
            return True
    return False


@settings(max_examples=3000)
@given(
    key=keys,
    body=bodies.filter(utf8),
    webhook_id=ids,
    name=st.sampled_from([*HEADERS, "body", "key"]),
    changes=mutations,
)
def test_both_agree_on_webhooks_that_were_tampered_with(
    key: str, body: bytes, webhook_id: str, name: str, changes: list[tuple[str, int, str]]
) -> None:
    now = datetime.now(UTC).timestamp()
    headers = sign(body, key, webhook_id=webhook_id, timestamp=now)
    if name == "body":
        body = mutated(body.decode(), changes).encode()
    elif name == "key":
        key = base64.b64encode(b"x" + base64.b64decode(key)).decode()
    else:
        headers[name] = mutated(headers[name], changes)

    mine, verdict = ours(body, headers, key), theirs(body, headers, key)

    if mine:
        # Where it raises something else, it meets what it cannot read before the good one.
        assert verdict in {True, None}
    elif verdict:
        # It takes what we call malformed: a time with a fraction, base64 with junk in it.
        stamp = headers["Webhook-Timestamp"]
        is_odd_time = not stamp.isdigit() or str(int(stamp)) != stamp
        is_odd_id = not all("!" <= one <= "~" for one in headers["Webhook-Id"])
        assert is_odd_time or is_odd_id or spoils_base64(headers["Webhook-Signature"])


junk = st.one_of(st.text(max_size=60), st.text("v1,= abc0123456789", max_size=60))


@settings(max_examples=2000)
@given(
    body=st.one_of(st.just(BODY), st.binary(max_size=300)),
    headers=st.dictionaries(
        st.one_of(st.sampled_from([*HEADERS, *(name.lower() for name in HEADERS)]), junk),
        st.one_of(junk, st.sampled_from(list(HEADERS.values()))),
        max_size=6,
    ),
)
def test_whatever_comes_the_error_is_a_webhook_error(body: bytes, headers: dict[str, str]) -> None:
    try:
        verify(body, headers, KEY, now=SENT_AT)
    except errors.WebhookError as error:
        assert str(error)
