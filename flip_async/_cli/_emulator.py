"""`flip emulator`: a local Flip to point an application at."""

import asyncio
import json
import logging
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import attrs
from cyclopts import Parameter
from rich.console import Console

from flip_async._cli._console import TERMINATED, until_stopped
from flip_async._cli._operation import FINE, USAGE, UsageError, cannot_listen
from flip_async._cli._output import complain
from flip_async.errors import FlipError

if TYPE_CHECKING:  # whoever sends telemetry needs no emulator
    from flip_async.emulator import Emulator


_ANY_SEED: Final = 1


def with_any_seed(arguments: Sequence[str]) -> list[str]:
    """Arguments where --seed has a number; cyclopts knows no option whose value may be left out."""
    if arguments[:1] != ["emulator"]:
        return list(arguments)
    follows = [*arguments[1:], ""]
    return [
        f"--seed={_ANY_SEED}" if one == "--seed" and not after.isdecimal() else one
        for one, after in zip(arguments, follows, strict=True)
    ]


def emulator(
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    token_lifetime_s: float = 3600,
    webhook_url: str | None = None,
    dispatch_every_s: float | None = None,
    credentials: Path | None = None,
    api_key: str | None = None,
    client_id: str | None = None,
    client_secret: str | None = None,
    webhook_secret: str | None = None,
    seed: int | None = None,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Serve a local Flip and print the variables that point an application at it.

    Its credentials are new at each start, unless they are given, kept in a file, or there is a
    seed. Do not give it real ones: other users of the machine see the command line. It ends with
    0 after Ctrl-C, 143 after SIGTERM, 1 where the port is taken, and 2 where it cannot work as it
    is called.

    Parameters
    ----------
    host
        Address to listen on.
    port
        Port to listen on; 0 for a free one.
    token_lifetime_s
        Life of its access tokens, in seconds.
    webhook_url
        Where to deliver webhooks, such as http://127.0.0.1:8000/webhooks/flip.
    dispatch_every_s
        Approve enrollments and call for power every so many seconds.
    credentials
        A file that keeps its credentials over restarts; it is made where there is none.
    api_key
        The API key that it accepts.
    client_id
        Id of its OAuth client.
    client_secret
        Secret of that client.
    webhook_secret
        What its webhooks are signed with, whsec_...
    seed
        Begin with the enrolled site home-1 and its battery-1; credentials that are not given,
        tokens and ids are the same each time, those of the number, which may be left out.
    quiet
        Log neither requests nor failed deliveries.
    """
    from flip_async.emulator import Emulator

    console = Console()
    try:
        known = Credentials.kept_in(credentials)
        flip_local = Emulator(
            host=host,
            port=port,
            token_lifetime_s=token_lifetime_s,
            api_key=api_key or known.api_key,
            client_id=client_id or known.client_id,
            client_secret=client_secret or known.client_secret,
            webhook_secret=webhook_secret or known.webhook_secret,
            seed=seed,
        )
        if credentials is not None:
            Credentials.of(flip_local).keep_in(credentials)
        # As the first process of a container it would not hear SIGTERM by itself.
        return until_stopped(
            lambda: _serve(
                console,
                flip_local,
                webhook_url=webhook_url,
                dispatch_every_s=dispatch_every_s,
                is_seeded=seed is not None,
                is_quiet=quiet,
            )
        )
    except KeyboardInterrupt:
        console.print("stopped")
        return FINE
    except asyncio.CancelledError:
        console.print("stopped by SIGTERM")
        return TERMINATED
    except (UsageError, FlipError) as error:
        complain(f"flip: {error}")
        return USAGE
    except OSError as error:
        return cannot_listen(host, port, error)


@attrs.frozen(kw_only=True)
class Credentials:
    """What the local Flip accepts and signs with, as a file keeps it."""

    api_key: str | None = attrs.field(default=None, repr=False)
    client_id: str | None = None
    client_secret: str | None = attrs.field(default=None, repr=False)
    webhook_secret: str | None = attrs.field(default=None, repr=False)

    @classmethod
    def kept_in(cls, path: Path | None) -> "Credentials":
        """Read a file; one that is not there has none.

        Raises:
            UsageError: It has something else in it; what, no error shows.
        """
        if path is None:
            return cls()
        try:
            document: object = json.loads(path.read_bytes())
        except FileNotFoundError:
            return cls()
        except OSError as error:
            raise UsageError(f"--credentials {path} cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError):
            document = None
        names = {field.name for field in attrs.fields(cls)}
        if (
            not isinstance(document, Mapping)
            or not names >= document.keys()
            or not all(isinstance(value, str) for value in document.values())
        ):
            raise UsageError(
                f"--credentials {path} holds no credentials of a local Flip: it is a JSON object "
                f"with {', '.join(sorted(names))}; delete it for a new one"
            )
        return cls(**document)

    @classmethod
    def of(cls, flip_local: "Emulator") -> "Credentials":
        """Those of an emulator."""
        return cls(**{field.name: getattr(flip_local, field.name) for field in attrs.fields(cls)})

    def keep_in(self, path: Path) -> None:
        """Write them down, where only this user can read them.

        Raises:
            UsageError: They cannot be written.
        """
        try:
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(number, "w", encoding="utf-8") as file:
                json.dump(attrs.asdict(self), file, indent=2)
                file.write("\n")
        except OSError as error:
            raise UsageError(f"--credentials {path} cannot be written: {error.strerror}") from None


def _log_to_standard_error() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logger = logging.getLogger("flip_async.emulator")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


async def _serve(
    console: Console,
    flip_local: "Emulator",
    *,
    webhook_url: str | None,
    dispatch_every_s: float | None,
    is_seeded: bool,
    is_quiet: bool,
) -> int:
    async with flip_local:
        if is_seeded:
            flip_local.enroll_site("home-1", ["battery-1"])
        if not is_quiet:  # from here on it is an application that asks
            _log_to_standard_error()
        if webhook_url is not None:
            flip_local.register_webhook(webhook_url)
        console.print(f"a local Flip listens on {flip_local.api_url}; Ctrl-C stops it\n")
        for name, value in flip_local.variables().items():
            line = f"export {name}={shlex.quote(value)}"
            console.print(line, soft_wrap=True, highlight=False, markup=False)
        sys.stdout.flush()
        if dispatch_every_s is not None:
            await _dispatch_for_ever(console, flip_local, dispatch_every_s)
        await asyncio.Event().wait()
    return FINE


async def _dispatch_for_ever(console: Console, flip_local: "Emulator", every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        flip_local.review_enrollments()
        event_ids = flip_local.dispatch()
        if event_ids:
            console.print(f"dispatched {len(event_ids)} events", highlight=False)
