"""What is a promise, and what it costs to import."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import flip_async
from flip_async import errors

ROOT = Path(__file__).parents[2]
PUBLIC = [
    "flip_async",
    "flip_async.errors",
    "flip_async.models",
    "flip_async.telemetry",
    "flip_async.commands",
    "flip_async.webhooks",
    "flip_async.emulator",
    "flip_async.fastapi",
    "flip_async.httpx2",
    "flip_async.redis",
    "flip_async.aiohttp",
    "flip_async.testing",
]

DOCUMENTED = {
    "PRODUCTION", "SANDBOX", "UNSET", "ApiKeyAuth", "ClientCredentialsAuth", "Environment",
    "FlipClient", "MemoryTokenStore", "Pages", "ProductionClient", "RefreshEvent", "Retries",
    "RetryEvent", "SandboxClient", "SiteTokenAuth", "Token", "TokenStore", "errors", "__version__",
    "AggregatorClient", "UtilityClient", "run_worker", "FileTokenStore",
}  # fmt: skip


def test_the_public_names_are_the_documented_ones() -> None:
    assert set(flip_async.__all__) == DOCUMENTED
    assert flip_async.__all__ == sorted(
        flip_async.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )
    for name in flip_async.__all__:
        assert hasattr(flip_async, name)


@pytest.mark.parametrize("name", PUBLIC[2:])
def test_what_a_module_lists_is_there(name: str) -> None:
    module = importlib.import_module(name)

    assert all(hasattr(module, entry) for entry in module.__all__)


def public_objects() -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name in PUBLIC:
        module = importlib.import_module(name)
        entries = getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_")])
        found += [
            (f"{name}.{entry}", getattr(module, entry))
            for entry in entries
            if getattr(getattr(module, entry), "__module__", "").startswith("flip_async")
        ]
    return found


@pytest.mark.parametrize(
    ("name", "thing"), public_objects(), ids=lambda x: x if isinstance(x, str) else ""
)
def test_everything_public_says_what_it_does(name: str, thing: object) -> None:
    assert thing.__doc__, name
    if isinstance(thing, type):
        for entry, member in vars(thing).items():
            if not entry.startswith("_") and (callable(member) or isinstance(member, property)):
                assert member.__doc__, f"{name}.{entry}"


def test_every_error_is_in_the_drawing_of_its_module() -> None:
    """The tree in the docstring is the tree of the classes."""
    classes = [
        thing
        for thing in vars(errors).values()
        if isinstance(thing, type) and issubclass(thing, errors.FlipError)
    ]

    drawn = re.findall(r"(?:^|─ )(\w+Error)\b", errors.__doc__ or "", re.MULTILINE)

    assert sorted(drawn) == sorted(found.__name__ for found in classes)


def imported_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_is_light() -> None:
    """No extra, no adapter, no model of a namespace that is not touched."""
    modules = imported_by("import flip_async") - imported_by("import httpx")

    for heavy in (
        "starlette", "uvicorn", "rich", "cyclopts", "fastapi", "flip_async.emulator",
        "flip_async._cli", "flip_async._resources.sites", "flip_async.models.telemetry",
        "flip_async.models.sites", "pydantic", "sqlite3", "pyarrow", "flip_async.telemetry",
        "flip_async.webhooks", "flip_async.fastapi", "flip_async.redis", "redis",
        "cryptography", "filelock", "flip_async.httpx2", "httpx2", "httpcore2",
    ):  # fmt: skip
        assert heavy not in modules


def test_what_stays_in_memory_loads_no_database() -> None:
    # Not sqlite3 itself: where coverage is measured, coverage has loaded it.
    for statement in (
        "from flip_async.telemetry import MemoryOutbox",
        "from flip_async.commands import CommandProcessor",
    ):
        modules = imported_by(statement)

        assert not {
            "flip_async.telemetry._sqlite", "flip_async.webhooks._sqlite", "flip_async._sqlite._file",
            "fastapi", "pydantic",
        } & modules  # fmt: skip


def test_without_redis_py_all_else_is_there_and_its_own_module_says_what_to_install() -> None:
    code = """
import sys
sys.modules["redis"] = None
import flip_async, flip_async.commands, flip_async.emulator, flip_async.fastapi
import flip_async.telemetry, flip_async.webhooks
for name in flip_async.__all__:
    getattr(flip_async, name)
try:
    import flip_async.redis
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "flip_async.redis needs redis-py: pip install 'flip-async[redis]'\n"


def test_no_module_is_imported_from_the_top() -> None:
    """Inside, a name comes from the module that defines it; the rim sees what a user sees."""
    for path in (ROOT / "flip_async").rglob("*.py"):
        if path.relative_to(ROOT / "flip_async").parts[0] in {
            "emulator",
            "_cli",
            "__init__.py",
            "fastapi",
            "redis",
            "testing",
        }:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "flip_async":
                assert [alias.name for alias in node.names] == ["errors"], path


def test_every_module_can_be_imported_alone() -> None:
    for module in pkgutil.walk_packages(flip_async.__path__, "flip_async."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
