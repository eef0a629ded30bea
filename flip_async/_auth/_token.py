"""A token, and how the answer of a token endpoint becomes one."""

import json
import math
import re
from collections.abc import Mapping
from typing import Final, Self

import attrs

from flip_async._checks import check_mapping, check_number, check_text, is_bearer
from flip_async._secret import Secret, shape
from flip_async.errors import InvalidArgumentError, TokenResponseError

LONGEST_LIFETIME_S: Final = 30 * 24 * 3600.0
_FIELDS: Final = ("access_token", "token_type", "expires_in", "scope")
_DIGITS: Final = re.compile(r"[0-9]+", re.ASCII)


def _as_secret(value: str | Secret) -> Secret:
    secret: object = Secret(value) if isinstance(value, str) else value
    if not isinstance(secret, Secret) or not is_bearer(secret.reveal()):
        raise InvalidArgumentError(
            f"is a non-empty text of visible ASCII, not {shape(value)}", field="access_token"
        )
    return secret


def _is_number(_: object, field: "attrs.Attribute[float]", value: object) -> None:
    if value != math.inf:  # the life of an API key
        check_number(value, field=field.name)


def _is_text_or_none(_: object, field: "attrs.Attribute[str | None]", value: object) -> None:
    if value is not None:
        check_text(value, field=field.name)


@attrs.frozen(kw_only=True)
class Token:
    """An access token with its life time. It never shows its value in a `repr`.

    Attributes:
        access_token: The token; given as a text, `access_token.reveal()` gives it back.
        issued_at: Unix time in seconds from which its life is counted: the moment
            before the token request was sent.
        lifetime_s: How long it lives, in seconds; `math.inf` for an API key.
        scope: What it may be used for, if the server says so.
    """

    access_token: Secret = attrs.field(converter=_as_secret)
    issued_at: float = attrs.field(validator=_is_number)
    lifetime_s: float = attrs.field(validator=_is_number)
    scope: str | None = attrs.field(default=None, validator=_is_text_or_none)

    @property
    def expires_at(self) -> float:
        """Unix time in seconds at which its life is over."""
        return self.issued_at + self.lifetime_s

    def authorization(self) -> str:
        """The value of the `Authorization` header.

        Source:
            RFC 6750 section 2.1.
        """
        return f"Bearer {self.access_token.reveal()}"

    def to_dict(self) -> dict[str, str | float | None]:
        """What a `TokenStore` writes down; `json.dumps` takes it.

        The access token is in it in plain: whoever reads it may use it. Encrypt it, or keep it
        where only this program can read.
        """
        return {
            "access_token": self.access_token.reveal(),
            "issued_at": self.issued_at,
            "lifetime_s": self.lifetime_s,
            "scope": self.scope,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> Self:
        """Read what `to_dict` gave.

        Args:
            document: The mapping; names that are not known are passed over.

        Returns:
            The token.

        Raises:
            InvalidArgumentError: A part is missing, or cannot be what it is.
        """
        check_mapping(document, field="document")
        access_token, scope = document.get("access_token"), document.get("scope")
        if not isinstance(access_token, str | Secret):
            raise InvalidArgumentError(f"is a str, not {shape(access_token)}", field="access_token")
        return cls(
            access_token=access_token,
            issued_at=check_number(document.get("issued_at"), field="issued_at"),
            lifetime_s=check_number(document.get("lifetime_s"), field="lifetime_s", above=0),
            scope=scope if isinstance(scope, str) else None,
        )


def parse_token_response(
    content: bytes, *, issued_at: float, default_lifetime_s: float
) -> Token | TokenResponseError:
    """Read the answer of the token endpoint.

    Args:
        content: The body.
        issued_at: Unix time in seconds, before the request was sent.
        default_lifetime_s: Life time where the answer tells none.

    Returns:
        The token, or why the answer is none that can be used. That is not raised here, where
        a traceback would show the token in its locals.

    Source:
        RFC 6749 section 5.1. A missing `token_type` is read as `Bearer`, the only
        type that Flip has.
    """
    document = _parse_object(content)
    if isinstance(document, TokenResponseError):
        return document
    access_token = document.get("access_token")
    if not isinstance(access_token, str) or not is_bearer(access_token):
        return _odd("access_token", access_token, "a non-empty string of visible ASCII", document)
    token_type = document.get("token_type")
    if token_type is not None and not _is_bearer_type(token_type):
        return _odd("token_type", token_type, "Bearer", document)
    lifetime_s = _lifetime_s(document, default_lifetime_s)
    if isinstance(lifetime_s, TokenResponseError):
        return lifetime_s
    scope = document.get("scope")
    return Token(
        access_token=Secret(access_token),
        issued_at=issued_at,
        lifetime_s=lifetime_s,
        scope=scope if isinstance(scope, str) else None,
    )


def _parse_object(content: bytes) -> dict[str, object] | TokenResponseError:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return TokenResponseError(f"the token endpoint's answer is not JSON ({len(content)} bytes)")
    if not isinstance(document, dict):
        return TokenResponseError(
            f"the token endpoint's answer is not a JSON object but {shape(document)}"
        )
    return document


def _is_bearer_type(token_type: object) -> bool:
    return isinstance(token_type, str) and token_type.lower() == "bearer"


def _lifetime_s(document: dict[str, object], default_s: float) -> float | TokenResponseError:
    value = document.get("expires_in")
    if value is None:
        return default_s
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        # Python refuses to read thousands of digits; more than ten are beyond any life time.
        digits = value.lstrip("0")
        value = int(digits or "0") if len(digits) <= 10 else math.ceil(LONGEST_LIFETIME_S)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _odd("expires_in", value, "a number of seconds", document)
    if value > LONGEST_LIFETIME_S and value != math.inf:
        return LONGEST_LIFETIME_S
    if not (0 < value < math.inf):  # false for a NaN too
        return _odd("expires_in", value, "finite and above zero", document)
    return float(value)


def _odd(
    field: str, value: object, allowed: str, document: dict[str, object]
) -> TokenResponseError:
    # Only names that we know: a host that is odd enough may use the token as a name.
    shapes = ", ".join(f"{name}: {shape(document[name])}" for name in _FIELDS if name in document)
    return TokenResponseError(
        f"the token endpoint's answer has {field}: {shape(value)}, not {allowed} "
        f"(the answer's shape: {{{shapes}}})"
    )
