"""Write what intersphinx needs to link to other projects: run it after a change to the lists.

    python docs/_inventories.py

The documentation is built without a network, and not every project has an inventory of its
own (httpx has none). So the names that our signatures and pages have stand here, with the place
of each in that project's public documentation; a test compares the files with what this writes.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "_inventories"


class Project(NamedTuple):
    """A project that we link to.

    Attributes:
        url: Where its documentation is.
        names: By role and page, separated by spaces; `$` stands for the name in an address.
        aliases: Names that Python gives where the documentation has another one.
    """

    url: str
    names: dict[tuple[str, str], str]
    aliases: dict[str, tuple[str, str]]


PROJECTS = {
    "python": Project(
        url="https://docs.python.org/3",
        names={
            ("class", "library/asyncio-task.html#$"): "asyncio.Task",
            ("class", "library/collections.abc.html#$"): (
                "collections.abc.AsyncGenerator collections.abc.AsyncIterator "
                "collections.abc.Awaitable collections.abc.Callable collections.abc.Collection "
                "collections.abc.Coroutine collections.abc.Generator collections.abc.Iterable "
                "collections.abc.Iterator collections.abc.Mapping collections.abc.MutableMapping "
                "collections.abc.Sequence "
                "collections.abc.Set"
            ),
            ("class", "library/contextlib.html#$"): "contextlib.AbstractAsyncContextManager",
            ("class", "library/datetime.html#$"): "datetime.datetime datetime.timedelta",
            ("class", "library/decimal.html#$"): "decimal.Decimal",
            ("class", "library/enum.html#$"): "enum.Enum",
            ("class", "library/os.html#$"): "os.PathLike",
            ("class", "library/pathlib.html#$"): "pathlib.Path",
            ("class", "library/ssl.html#$"): "ssl.SSLContext",
            ("exception", "library/exceptions.html#$"): (
                "Exception OSError RuntimeError TimeoutError TypeError ValueError"
            ),
            ("data", "library/typing.html#$"): "typing.Any",
        },
        aliases={"asyncio.locks.Event": ("class", "library/asyncio-sync.html#asyncio.Event")},
    ),
    "httpx": Project(
        url="https://www.python-httpx.org",
        names={},
        aliases={
            "httpx.AsyncBaseTransport": ("class", "advanced/transports/#custom-transports"),
            "httpx.AsyncClient": ("class", "api/#asyncclient"),
            "httpx.Auth": ("class", "advanced/authentication/#custom-authentication-schemes"),
            "httpx.Proxy": ("class", "advanced/proxies/"),
            "httpx.Request": ("class", "api/#request"),
            "httpx.Response": ("class", "api/#response"),
            "httpx.Timeout": ("class", "advanced/timeouts/"),
        },
    ),
    "attrs": Project(
        url="https://www.attrs.org/en/stable",
        names={("function", "api.html#$"): "attrs.asdict attrs.evolve attrs.fields"},
        aliases={},
    ),
    "anyio": Project(
        url="https://anyio.readthedocs.io/en/stable",
        names={
            ("class", "api.html#$"): "anyio.CancelScope",
            ("function", "api.html#$"): "anyio.fail_after anyio.move_on_after",
        },
        aliases={},
    ),
}


def entries(project: Project) -> Iterator[str]:
    """The lines of an inventory: name, role, priority, address, and that it is shown as it is."""
    for (role, page), names in project.names.items():
        for name in names.split():
            yield f"{name} py:{role} 1 {page} -"
    for name, (role, page) in project.aliases.items():
        yield f"{name} py:{role} 1 {page} -"


def made() -> dict[Path, bytes]:
    """Each file, and what is in it: version 2 of Sphinx's format."""
    found = {}
    for name, project in PROJECTS.items():
        head = f"# Sphinx inventory version 2\n# Project: {name}\n# Version: \n"
        head += "# The remainder of this file is compressed using zlib.\n"
        body = "".join(f"{line}\n" for line in sorted(entries(project)))
        found[FOLDER / f"{name}.inv"] = head.encode() + zlib.compress(body.encode(), 9)
    return found


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path, content in made().items():
        path.write_bytes(content)
        print(path)
