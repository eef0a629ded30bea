"""`python -m flip_async`, the same as `flip`."""

import sys
from typing import Final

from flip_async._version import __version__

_EXTRAS: Final = ("cyclopts", "rich", "fastapi", "pydantic", "starlette", "uvicorn")


def main() -> int:
    """Run the command line; without its extras, say which ones to install."""
    if sys.argv[1:] == ["--version"]:  # a bug report needs it where nothing else works
        print(__version__)  # noqa: T201
        return 0
    try:
        from flip_async._cli import run

        return run()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRAS:
            raise
        print(  # noqa: T201
            f"flip needs {missing}: pip install 'flip-async[cli,emulator,fastapi]'", file=sys.stderr
        )
        return 2


if __name__ == "__main__":
    sys.exit(main())
