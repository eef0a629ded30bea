"""Print what Flip knows of its commands."""

import asyncio

from flip_async import SandboxClient


async def main() -> None:
    """List them."""
    async with SandboxClient() as flip:
        async for command in flip.commands.list():
            print(command.device_id, command.battery_commands.mode, command.device_status)


if __name__ == "__main__":
    asyncio.run(main())
