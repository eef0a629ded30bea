"""Files that a subcommand is given, or standard input."""

import sys
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from flip_async._cli._operation import UsageError

InputFile = Annotated[str, Parameter(allow_leading_hyphen=True)]
"""A path, or `-` for standard input."""

_LARGEST: Final = 64 * 1024 * 1024


def read_input(name: str) -> bytes:
    """What is in a file, or comes by standard input.

    Raises:
        UsageError: It cannot be read, or has nothing in it, or too much.
    """
    try:
        if name == "-":
            content = sys.stdin.buffer.read(_LARGEST + 1)
        else:
            with Path(name).open("rb") as file:
                content = file.read(_LARGEST + 1)
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror or error}") from None
    if not content.strip():
        raise UsageError(f"{name} is empty")
    if len(content) > _LARGEST:
        raise UsageError(f"{name} is larger than {_LARGEST // 1024 // 1024} MiB")
    return content
