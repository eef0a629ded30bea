"""A string that does not show itself."""

import base64
import contextlib
import hashlib
import hmac
import json
import re
from typing import Final, NoReturn, final
from urllib.parse import quote, quote_plus

SHORTEST_SCRUBBED: Final = 4  # anything shorter occurs in ordinary words


@final
class Secret:
    """Holds a key, a client secret or a token, and gives it to `reveal()` alone.

    A generated `repr` prints whatever it finds, a log takes any object and a
    debugger shows locals; all of them see `Secret('***')`. It is not pickled,
    since a pickle is a file that somebody else may read.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Give the value itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> "Secret":
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: make the client or the auth where it is used")


def scrub(text: str, *secrets: Secret) -> str:
    """Cut secrets out of a text that somebody else wrote and that may echo them.

    In every form that a request had them in, or that a server may make of them. Scrub before
    you cut: half a secret is found by nobody.
    """
    for secret in secrets:
        if len(secret.reveal()) >= SHORTEST_SCRUBBED:
            for form in _forms(secret.reveal()):
                text = text.replace(form, "***")
    return text


def _forms(value: str) -> list[str]:
    """A secret as it is, form-encoded, as a URL, HTML or JSON has it, in base64; longest first."""
    quoted = {quote(value, safe=""), quote_plus(value)}
    escaped = value.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    forms = {value, escaped, json.dumps(value)[1:-1], *quoted}
    forms |= {re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), text) for text in quoted}
    forms.add(base64.b64encode(value.encode()).decode().rstrip("="))
    return sorted(forms, key=len, reverse=True)


def secrets_of(authorization: str) -> tuple[Secret, ...]:
    """What is secret in the value of an `Authorization` header: also what Basic hides."""
    scheme, _, value = authorization.partition(" ")
    found = [Secret(value or scheme)]
    if scheme.lower() == "basic":
        with contextlib.suppress(ValueError):
            pair = base64.b64decode(value, validate=True).decode()
            found.append(Secret(pair.partition(":")[2]))
    return tuple(found)


def digest(secret: Secret) -> str:
    """What tells one secret from another in a store, and tells nobody the secret."""
    key = b"flip_async identity of a credential"
    return hashlib.blake2b(secret.reveal().encode(), key=key, digest_size=16).hexdigest()


def shape(value: object) -> str:
    """Describe a value without showing it: `str of 12 characters`, `int`, `dict with 2 keys`."""
    match value:
        case None:
            return "None"
        case Secret():
            return "a secret"
        case str() | bytes():
            unit = "characters" if isinstance(value, str) else "bytes"
            return f"{type(value).__name__} of {len(value)} {unit}"
        case list() | tuple() | set() | frozenset():
            return f"{type(value).__name__} of {len(value)} items"
        case dict():
            return f"dict with {len(value)} keys"
        case _:
            return type(value).__name__
