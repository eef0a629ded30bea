"""What there is to run: `nox` alone runs all that a change must pass; see `nox --list`."""

import os
from pathlib import Path

import nox
from packaging.requirements import Requirement

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
PROJECT = nox.project.load_toml("pyproject.toml")

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "types", "tests", "lowest", "docs", "package"]
nox.options.reuse_existing_virtualenvs = True
# A Python that is not there is passed over, and nox says so; in CI too.
nox.options.error_on_missing_interpreters = False


def install(
    session: nox.Session, *groups: str, project: bool = True, pins: list[str] | None = None
) -> None:
    """Install the project with its extras and dependency groups, which an older pip cannot read."""
    wanted = nox.project.dependency_groups(PROJECT, *groups) if groups else ()
    itself = (
        ["-e", ".[aiohttp,cli,emulator,fastapi,files,httpx2,otel,parquet,redis]"] if project else []
    )
    session.install("--quiet", *itself, *wanted, *(pins or []))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The tests, with coverage, in parallel and in random order."""
    install(session, "test")
    run_pytest(session, "--cov", "--cov-report=term-missing:skip-covered")


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """The tests with the lowest dependencies that are allowed."""
    install(session, "test", pins=lowest_versions())
    run_pytest(session)


@nox.session
def httpx2_alias(session: nox.Session) -> None:
    """The unit and exchange tests where `import httpx` is `import httpx2`."""
    install(session, "test")
    run_pytest(session, "-p", "tests.alias_httpx", "tests/unit", "tests/exchange")


def run_pytest(session: nox.Session, *arguments: str) -> None:
    """Run pytest; what is given behind `--` goes to it too."""
    session.run("pytest", "-n", "auto", *arguments, *session.posargs)


def lowest_versions() -> list[str]:
    """Each runtime dependency pinned to its lower bound."""
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = [*PROJECT["project"]["dependencies"], *(one for extra in extras for one in extra)]
    pins = []
    for text in wanted:
        requirement = Requirement(text)
        bounds = [spec.version for spec in requirement.specifier if spec.operator == ">="]
        pins.append(f"{requirement.name}=={bounds[0]}")
    return pins


@nox.session(python=False)
def fix(session: nox.Session) -> None:
    """Format, and mend what ruff can mend."""
    session.run("ruff", "format", external=True)
    session.run("ruff", "check", "--fix", external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Form, style, and which module may import which."""
    install(session, "lint")
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy in strict mode, pyright, and whether the public interface is fully typed."""
    install(session, "types", "test")
    session.run("mypy")
    session.run("mypy", "tests/typing/api.py")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "flip_async", "--ignoreexternal")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    install(session, "docs")
    session.run(
        "sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html"
    )
    session.log(f"open {Path('docs/_build/html/index.html')}")


@nox.session
def package(session: nox.Session) -> None:
    """Wheel and sdist: built, checked, and each used in an environment that has nothing else."""
    session.install("--quiet", "build>=1.2", "twine>=6")
    folder = Path(session.create_tmp())
    session.run("python", "-m", "build", "--outdir", str(folder), silent=True)
    built = sorted(folder.glob("flip_async-*"))[-2:]
    session.run("twine", "check", "--strict", *map(str, built))
    for path in built:
        clean = folder / f"env-{path.suffix[1:]}"
        session.run("python", "-m", "venv", "--clear", str(clean), silent=True)
        python = str(clean / ("Scripts" if os.name == "nt" else "bin") / "python")
        session.run(python, "-m", "pip", "install", "--quiet", str(path), external=True)
        session.run(python, "-I", "-c", SMOKE, external=True)


SMOKE = """
import asyncio, importlib.metadata, importlib.resources
import flip_async

assert flip_async.__version__ == importlib.metadata.version("flip-async")
assert importlib.resources.files(flip_async).joinpath("py.typed").is_file()

async def main():
    try:
        async with flip_async.SandboxClient(api_key="fl_your_api_key") as flip:
            await flip.site("").get()
    except flip_async.errors.InvalidArgumentError:
        print("works without extras:", flip_async.__version__)

asyncio.run(main())
"""


@nox.session
def fleet(session: nox.Session) -> None:
    """What many processes share, on a real Redis: tests, then figures; `-- quick` for few of each.

    Without `redis-server` or `valkey-server` on the path it fails, where `tests` passes over.
    """
    install(session, "test")
    session.run("pytest", "-n", "auto", "tests/fleet", env={"REDIS_IS_NEEDED": "1"})
    is_quick = "quick" in session.posargs
    for name, quick in (
        ("fleet_tokens", ["quick"]),
        ("fleet_webhooks", ["--webhooks", "500"]),
        ("fleet_points", ["100000"]),
        ("bench_outboxes", []),
        ("bench_inboxes", []),
    ):
        session.run("python", "-m", f"tests.benchmarks.{name}", *(quick if is_quick else []))


@nox.session
def bench(session: nox.Session) -> None:
    """Figures, never limits: ratios from one run; `-- --json FILE` keeps them, names choose."""
    install(session, "test", "bench")
    session.run("python", "-m", "tests.benchmarks", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """A million points of telemetry through an emulator that misbehaves."""
    install(session, "test")
    session.run("python", "-m", "tests.benchmarks.soak_telemetry", *session.posargs)


@nox.session
def tutorial(session: nox.Session) -> None:
    """The tutorial, where nothing is installed but what it says."""
    session.install("--quiet", ".[cli,emulator,fastapi]")
    session.run("python", "-m", "tests.support.walkthrough", "docs/tutorial/backend.md")


@nox.session
@nox.parametrize("name", ["backend", "script", "worker"])
def example(session: nox.Session, name: str) -> None:
    """An example, where nothing is installed but what it needs."""
    folder = Path("docs/examples") / name
    for line in (folder / "requirements.txt").read_text().splitlines():
        wanted = line.partition("#")[0].strip().replace("flip-async", ".")
        session.install("--quiet", wanted)
    session.chdir(folder)
    session.run("python", "run.py")
    if name == "backend":
        session.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider")


@nox.session
def demo(session: nox.Session) -> None:
    """The demo."""
    install(session)
    session.run("flip", "demo", env={"TERM": os.environ.get("TERM", "dumb")})
