"""A webhook in a file: headers and body, as they came."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs
import httpx

from flip_async import errors
from flip_async._cli._files import read_input
from flip_async._cli._operation import UsageError
from flip_async.webhooks import SigningKeys

_REQUEST_LINE: Final = re.compile(r"[A-Z]+ \S+( HTTP/[0-9.]+)?")
_END_OF_HEADERS: Final = re.compile(rb"\r?\n\r?\n")
_SECRET: Final = "FLIP_WEBHOOK_SECRET"


@attrs.frozen
class Recorded:
    """A webhook as it came, or its body alone.

    Attributes:
        headers: Its headers; none where the file has the body alone.
        body: Its body, byte for byte.
    """

    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def read(cls, name: str) -> "Recorded":
        """Read a file, or standard input.

        Raises:
            UsageError: It has something else in it.
        """
        content = read_input(name)
        if content.lstrip()[:1] in {b"{", b"["}:
            return cls(httpx.Headers(), content)
        head, body = _END_OF_HEADERS.split(content, maxsplit=1) if _has_end(content) else (b"", b"")
        if not body.strip():
            raise UsageError(f"{name} has no body: it is headers, an empty line, and the body")
        return cls(httpx.Headers(_headers(name, head.decode("latin-1"))), body)

    def with_headers(self, lines: tuple[str, ...]) -> "Recorded":
        """The same with headers of the command line, which win over those of the file.

        Raises:
            UsageError: One of them is none.
        """
        headers = httpx.Headers(dict(self.headers))
        for name, value in _headers("--header", "\n".join(lines)):
            headers[name] = value
        return attrs.evolve(self, headers=headers)

    def written(self) -> bytes:
        """It as `read` takes it."""
        head = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        return head.encode("latin-1", "replace") + b"\r\n" + self.body


def _has_end(content: bytes) -> bool:
    return _END_OF_HEADERS.search(content) is not None


def _headers(where: str, head: str) -> list[tuple[str, str]]:
    lines = [line for line in head.splitlines() if line.strip()]
    if lines and ":" not in lines[0].split(" ")[0] and _REQUEST_LINE.fullmatch(lines[0]):
        del lines[0]
    found = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise UsageError(f"{where}: a header is NAME: VALUE, and this is none: {line[:40]!r}")
        found.append((name.strip(), value.strip()))
    return found


def signing_keys() -> SigningKeys:
    """The key of `FLIP_WEBHOOK_SECRET`, or of the file that the same with `_FILE` names.

    Raises:
        UsageError: Neither is set, or both are, or the file cannot be read.
        ConfigurationError: It is no signing key; no error shows it.
    """
    path = os.environ.get(f"{_SECRET}_FILE", "").strip()
    if path and os.environ.get(_SECRET):
        raise UsageError(f"two signing keys given, {_SECRET} and {_SECRET}_FILE: keep one of them")
    if path:
        try:
            return SigningKeys.of(Path(path).read_text(encoding="utf-8"), f"{_SECRET}_FILE")
        except (OSError, UnicodeDecodeError) as error:
            reason = type(error).__name__
        raise UsageError(f"{_SECRET}_FILE: its file cannot be read ({reason})")
    if not os.environ.get(_SECRET, "").strip():
        raise UsageError(
            f"no signing key: set {_SECRET} (whsec_..., from Flip's developer console), or "
            f"{_SECRET}_FILE"
        )
    return SigningKeys.of(os.environ[_SECRET], _SECRET)


def reason_of(error: errors.WebhookError) -> str:
    """Why a webhook is refused, in a line."""
    return f"{type(error).__name__}: {error}"
