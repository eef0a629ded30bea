"""The command line: a file a subcommand."""

import contextlib
import os
import sys
from typing import Final

from cyclopts import App, CycloptsError
from rich.console import Console

from flip_async._cli import _commission, _demo, _doctor, _emulator, _token
from flip_async._cli._commands import commands
from flip_async._cli._output import complain
from flip_async._cli._sites import sites
from flip_async._cli._telemetry import telemetry
from flip_async._cli._webhooks import webhooks
from flip_async._version import __version__

_WIDE: Final = 1000
_BROKEN_PIPE: Final = 128 + 13

app: Final = App(
    name="flip",
    help="Tools around the Flip OEM API.",
    version=__version__,
    result_action="return_value",
)
app.command(_doctor.doctor)
app.command(_token.token)
app.command(sites)
app.command(_commission.commission)
app.command(commands)
app.command(telemetry)
app.command(webhooks)
app.command(_emulator.emulator)
app.command(_demo.demo)
app.register_install_completion_command()


def run() -> int:
    """Run the subcommand that `sys.argv` names.

    Returns:
        The exit code.
    """
    _write_anything()
    if not sys.stdout.isatty():
        # Frames are for the eye, and whoever searches needs whole lines.
        app.help_formatter, app.console = "plain", Console(width=_WIDE)
    arguments = _emulator.with_any_seed(sys.argv[1:])
    try:
        code = app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        complain(f"flip: {error}".strip() + " (`flip --help` tells what there is)")
        return 2
    except KeyboardInterrupt:
        complain("stopped")
        return 130
    except BrokenPipeError:  # as in `flip sites list | head`
        # Python flushes at its end, and would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:  # of standard output, such as a full disk
        complain(f"flip: {type(error).__name__}: {error}")
        return 1
    return code if isinstance(code, int) else 0


def _write_anything() -> None:
    """A name that the terminal's encoding does not have must not end a listing."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # somebody has put another one there
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
