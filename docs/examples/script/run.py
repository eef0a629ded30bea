"""Play it through on this machine: a local Flip, and the script twice. No account, no network."""

import asyncio
import os
import sys
from pathlib import Path

from flip_async.emulator import Emulator

HERE = Path(__file__).parent


async def main() -> None:
    """Run it, and run it again."""
    async with Emulator() as flip_local:
        for _ in range(2):
            print("$ python commission.py homes.csv")
            program = await asyncio.create_subprocess_exec(
                sys.executable, "commission.py", "homes.csv",
                cwd=HERE, env=os.environ | flip_local.variables(),
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            printed, _ = await program.communicate()
            first, *rest = printed.decode().splitlines()
            # Homes are commissioned at once, so that their order is luck.
            print(first, *sorted(rest), f"exit code {program.returncode}", sep="\n")


if __name__ == "__main__":
    asyncio.run(main())
