"""A string that does not show itself."""

import hmac
from typing import Final, NoReturn, final

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
    """Cut secrets out of a text that somebody else wrote and that may echo them."""
    for secret in secrets:
        value = secret.reveal()
        if len(value) >= SHORTEST_SCRUBBED:
            text = text.replace(value, "***")
    return text


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
