"""How a token is written down where others may look: as JSON, encrypted where there are keys."""

import hashlib
import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NoReturn

from flip_async._auth._token import Token
from flip_async._checks import check_text, refuse
from flip_async._secret import Secret
from flip_async.errors import ConfigurationError, FlipError, InvalidArgumentError

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

logger: Final = logging.getLogger("flip_async.auth")
_FIELD: Final = "encryption_keys"

EncryptionKey = str | bytes
"""What `cryptography.fernet.Fernet.generate_key()` gives."""


def conceal_keys(keys: object) -> object:
    """Wrap keys where they enter, so that no frame of ours shows them [B10]."""
    if isinstance(keys, str | bytes):
        keys = (keys,)
    return tuple(map(_concealed, keys)) if isinstance(keys, list | tuple) else keys


def _concealed(key: object) -> object:
    if isinstance(key, bytes):
        key = key.decode("latin-1")
    return Secret(key) if isinstance(key, str) else key


class TokenWriter:
    """Writes tokens down, and reads them; what it cannot read is no token.

    What is written has the name of its place in it, so that a value which was moved elsewhere is
    refused. The time is not in it: that is the store's, which knows whose clock counts.

    What changes: whether it was said already that something cannot be used.

    Args:
        keys: Fernet keys, concealed: the first writes, all read; none, and it writes in plain.
        extra: The extra that brings `cryptography`.

    Raises:
        ConfigurationError: `cryptography` is missing.
        InvalidArgumentError: A key is none; it is not shown.
    """

    def __init__(self, keys: object, *, extra: str) -> None:
        secrets = _secrets_in(keys)
        self._fernet: Final = _fernet_of(secrets, extra) if secrets else None
        self._was_said = False

    @property
    def encrypts(self) -> bool:
        """Whether whoever reads the store sees no token."""
        return self._fernet is not None

    def write(self, name: str, token: Token) -> bytes:
        """Write down all but the time.

        Args:
            name: Of its place.
            token: What to write.
        """
        document = {"key": name, **token.to_dict()}
        del document["issued_at"]
        text = json.dumps(document).encode()
        return text if self._fernet is None else self._fernet.encrypt(text)

    def read(self, name: str, text: bytes, *, issued_at: float) -> Token | None:
        """Read what `write` gave; `None`, and once a warning, where it is of no use.

        Args:
            name: Of the place where it was found.
            text: What was found.
            issued_at: When the token's life began, on our wall clock.
        """
        found = self._read(name, text, issued_at)
        if isinstance(found, Token):
            return found
        self.cannot_use(found)
        return None

    def cannot_use(self, reason: str) -> None:
        """Say it once: whoever waits looks four times a second."""
        if not self._was_said:
            self._was_said = True
            logger.warning("what the token store has is not used: %s", reason)

    def _read(self, name: str, text: bytes, issued_at: float) -> Token | str:
        """The token, or why there is none."""
        document = self._document(text)
        if isinstance(document, str):
            return document
        if document.get("key") != name:
            return "it was written for another key"
        try:
            return Token.from_dict({**document, "issued_at": issued_at})
        except FlipError:
            return "it is no token"

    def _document(self, text: bytes) -> Mapping[str, object] | str:
        if self._fernet is not None:
            opened = _opened(self._fernet, text)
            if opened is None:
                return "it cannot be decrypted with these keys"
            text = opened
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            return "it cannot be read (is it encrypted, and this store has no keys?)"
        return document if isinstance(document, dict) else "it is no token"


def _opened(fernet: "MultiFernet", text: bytes) -> bytes | None:
    from cryptography.fernet import InvalidToken

    try:
        return fernet.decrypt(text)
    except InvalidToken:
        return None


def _secrets_in(keys: object) -> list[Secret]:
    if not isinstance(keys, tuple):
        refuse(_FIELD, "a sequence of Fernet keys", keys)
    secrets = [key for key in keys if isinstance(key, Secret)]
    if len(secrets) != len(keys):
        raise InvalidArgumentError("is made of texts or bytes", field=_FIELD)
    return secrets


def _fernet_of(secrets: list[Secret], extra: str) -> "MultiFernet":
    try:
        from cryptography.fernet import Fernet, MultiFernet
    except ImportError:
        _refuse_without_cryptography(extra)
    made = []
    for secret in secrets:
        try:
            made.append(Fernet(secret.reveal()))
        except ValueError:
            continue  # told below: this error would hold the key
    if len(made) < len(secrets):
        raise InvalidArgumentError(
            "has a key that is none: it is 32 bytes in URL-safe base64, as "
            "cryptography.fernet.Fernet.generate_key() gives them",
            field=_FIELD,
        )
    return MultiFernet(made)


def _refuse_without_cryptography(extra: str) -> NoReturn:
    raise ConfigurationError(
        f"{_FIELD} needs cryptography: pip install 'flip-async[{extra}]'"
    ) from None


def name_of(key: str) -> str:
    """The place of a key's token; nothing of a client, a scope or a site can be read in it [F3].

    Raises:
        InvalidArgumentError: The key is no text.
    """
    return hashlib.sha256(check_text(key, field="key").encode()).hexdigest()
