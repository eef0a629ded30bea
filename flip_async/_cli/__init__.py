"""The command line: a file a subcommand."""

import sys
from typing import Final

from cyclopts import App, CycloptsError

from flip_async._cli import _demo, _emulator
from flip_async._cli._telemetry import telemetry
from flip_async._version import __version__

app: Final = App(
    name="flip",
    help="Tools around the Flip OEM API.",
    version=__version__,
    result_action="return_value",
)
app.command(_demo.demo)
app.command(_emulator.emulator)
app.command(telemetry)


def run() -> int:
    """Run the subcommand that `sys.argv` names.

    Returns:
        The exit code.
    """
    try:
        code = app(exit_on_error=False)
    except CycloptsError:  # it has been printed
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return code if isinstance(code, int) else 0
