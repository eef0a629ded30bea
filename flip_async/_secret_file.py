"""Credentials in files, as Docker and Kubernetes mount them [F11]."""

import stat
from pathlib import Path
from typing import Final, final

from flip_async._secret import Secret, digest, shape
from flip_async.errors import ConfigurationError

_MOST: Final = 64 * 1024
"""Bytes; a credential is none of that size, and a log file would be."""


@final
class SecretFile:
    """The file that a variable names.

    It is opened anew by its name each time: Kubernetes replaces a mounted file by another one. As
    a callable it gives what is in it, which is called in a thread.

    Args:
        variable: The variable, for the words of an error.
        path: What it holds, which may be the secret itself by mistake.

    Attributes:
        first: What was in it at the start.

    Raises:
        ConfigurationError: The file cannot be read, or holds no text.
    """

    def __init__(self, variable: str, path: Secret) -> None:
        self.variable: Final = variable
        self._path: Final = path
        self.first: Final = self._at_start()

    @property
    def identity(self) -> str:
        """Tells its first credential from others, and tells nobody what it is."""
        return digest(self.first)

    @property
    def field(self) -> str:
        """What to call it in an error."""
        return f"{self.variable} ({_shown(self._path)})"

    def _at_start(self) -> Secret:
        # A pipe would hold whoever makes a client for ever; later a thread reads.
        if _is_something_else(self._path):
            raise ConfigurationError(f"{self.field}: it is no file")
        return self.read()

    def read(self) -> Secret:
        """What is in it now, stripped; this blocks.

        Raises:
            ConfigurationError: It cannot be read, or holds no text.
        """
        found = _read(self._path)
        if isinstance(found, str):
            raise ConfigurationError(f"{self.field}: {found}")
        return found

    def __call__(self) -> str:
        return self.read().reveal()

    def __repr__(self) -> str:
        return f"<the file of {self.variable}>"


def _is_something_else(path: Secret) -> bool:
    try:
        mode = Path(path.reveal()).stat().st_mode
    except (OSError, ValueError):
        return False  # reading it tells why
    return not stat.S_ISREG(mode)


def _shown(path: Secret) -> str:
    """A path for an error, unless it may be a secret that was put in the wrong variable."""
    if Path(path.reveal()).is_absolute() or path.reveal().startswith("."):
        return path.reveal()
    return f"{shape(path.reveal())}, which is no absolute path: is it the secret itself?"


def _read(path: Secret) -> Secret | str:
    """What is in a file, or what is wrong with it."""
    try:
        with Path(path.reveal()).open("rb") as file:
            content = file.read(_MOST + 1)
    except (OSError, ValueError) as error:  # a name with a null in it is a ValueError
        return f"it cannot be read ({type(error).__name__})"
    if len(content) > _MOST:
        return f"it has more than {_MOST:,} bytes, and is no credential"
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return f"it is no text in UTF-8 ({shape(content)})"
    return Secret(text) if text else f"it is empty ({shape(content)})"
