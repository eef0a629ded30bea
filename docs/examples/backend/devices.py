"""What the batteries do; here you would speak to your inverters."""

from flip_async.commands import CommandFailed
from flip_async.models import Command, CommandStatus

OFFLINE = {"inv-offline"}


async def on_command(command: Command) -> None:
    """Do it, and return: then Flip is told `OK`."""
    if command.status != CommandStatus.OK:  # canceled, or the home has left the event
        print(f"{command.device_id}: forget {command.id}", flush=True)
    elif command.device_id in OFFLINE:
        raise CommandFailed("FAILED_OFFLINE", "No contact for 40 minutes")
    else:
        mode, for_s = command.battery_commands.mode, command.duration_s
        how_long = "until the next command" if for_s is None else f"for {for_s:.0f} s"
        print(f"{command.device_id}: {mode} {how_long}", flush=True)
