"""All figures in one run: python -m tests.benchmarks [--json FILE] [NAME …].

Names are those of the files, without `bench_`; the figures of a Redis are with `nox -s fleet`.
Figures, never limits: machines are shared, and a figure without its machine says little.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import flip_async

FOLDER = Path(__file__).parent
NEEDS_REDIS = {"inboxes", "outboxes"}
PACKAGES = ("httpx", "httpcore", "anyio", "httpx2", "aiohttp", "Authlib", "msgspec")


def names() -> list[str]:
    found = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))
    return [name for name in found if name not in NEEDS_REDIS]


def machine() -> dict[str, object]:
    return {
        "flip_async": flip_async.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        **{name: version(name) for name in PACKAGES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    found = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return found[0] if found else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures, and prints tables.")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("names", nargs="*", choices=[*names(), []], help="which; all by default")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures"
        figures.touch()
        for name in given.names or names():
            subprocess.run(
                [sys.executable, "-m", f"tests.benchmarks.bench_{name}"],
                check=True,
                env=os.environ | {"BENCH_FIGURES": str(figures)},
            )
        tables = [json.loads(line) for line in figures.read_text(encoding="utf-8").splitlines()]
    if given.json:
        document = {"machine": machine(), "tables": tables}
        given.json.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
