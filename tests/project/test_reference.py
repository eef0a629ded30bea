"""The reference is whole: each public name is on a page, and says all that a user has to know."""

import enum
import inspect
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from flip_async import FlipClient, TokenStore
from flip_async.commands import CommandLedger
from flip_async.models._base import RULE
from flip_async.telemetry import Outbox
from flip_async.webhooks import Inbox

DOCS = Path(__file__).parents[2] / "docs"
NAMES = runpy.run_path(str(DOCS / "_names.py"))
PUBLIC = [*NAMES["public"](), *NAMES["namespaces"]()]
SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises|Source):")
ENTRY = re.compile(r" {4}(\*{0,2}\w+): ?(.*)")
DIRECTIVE = re.compile(r"^ *(?:\.\. [\w:]+::)? *([\w.]+)$", re.MULTILINE)
# A first line that names what is given needs no section that says so again.
GIVES = re.compile(r"(All|An?|Each|Every|How|Its|One|The|What|When|Whether|Which|Who) ")

UNITS = {
    "_bytes": "byte",
    "_months": "month",
    "_percentage": "0 to 100",
    "_s": "second",
    "_w": "watt",
    "_wh": "watt-hour",
}
# What httpx asks of an auth, and what one part of the library asks of another.
NO_PROMISE = {
    "async_auth_flow",
    "handle_async_request",
    "may_repeat",
    "pause_s",
    "send_signed",
    "sync_auth_flow",
}
# Made by the library alone.
NEVER_MADE = {"Pages", "TelemetryUploader"}
# What keeps things for others promises what its protocol does, and a client takes what
# `FlipClient` takes: the docstrings say so.
AS_DOCUMENTED_BY = {
    "Client": FlipClient,
    "CommandLedger": CommandLedger,
    "Inbox": Inbox,
    "Outbox": Outbox,
    "TokenStore": TokenStore,
}


def sections(doc: str | None) -> dict[str, list[str]]:
    """The indented lines of a docstring's sections."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in inspect.cleandoc(doc or "").splitlines():
        heading = SECTION.fullmatch(line)
        if heading is not None:
            lines = found.setdefault(heading[1], [])
        elif line.startswith(" "):
            lines.append(line)
        elif line:
            lines = []
    return found


def entries(doc: str | None) -> dict[str, str]:
    """What a docstring says about each argument or field."""
    found: dict[str, str] = {}
    told = sections(doc)
    for line in [*told.get("Args", []), *told.get("Attributes", [])]:
        entry = ENTRY.fullmatch(line)
        if entry is not None:
            name = entry[1].lstrip("*")
            found[name] = entry[2]
        elif found:
            found[name] += f" {line.strip()}"
    return found


def without_unit(name: str, text: str) -> bool:
    units = [unit for suffix, unit in UNITS.items() if name.endswith(suffix)]
    return bool(units) and units[0] not in text.lower()


def missing(full: str, names: list[str], told: dict[str, str]) -> Iterator[str]:
    for name in names:
        if not told.get(name):
            yield f"{full}: {name} is not documented"
        elif without_unit(name, told[name]):
            yield f"{full}: {name} has no unit"


def parameters(function: object) -> list[str]:
    assert callable(function)
    return [name for name in inspect.signature(function).parameters if name not in {"self", "cls"}]


def of_function(full: str, function: object, docs: list[str | None]) -> Iterator[str]:
    told: dict[str, str] = {}
    for doc in docs:
        told |= {name: text for name, text in entries(doc).items() if name not in told}
    yield from missing(full, parameters(function), told)
    assert callable(function)
    gives = inspect.signature(function).return_annotation
    says = any(
        {"Returns", "Yields"} & sections(doc).keys() or GIVES.match(doc or "") for doc in docs
    )
    if gives not in {None, "None"} and not says:
        yield f"{full}: what it returns is not documented"


def of_members(full: str, thing: type) -> Iterator[str]:
    for base in thing.__mro__:
        if not base.__module__.startswith("flip_async"):
            continue
        for name, member in vars(base).items():
            if name.startswith("_") or name in NO_PROMISE:
                continue
            function = getattr(member, "__func__", member)
            docs = [getattr(vars(other).get(name), "__doc__", None) for other in ours(thing)]
            if inspect.isfunction(function):
                yield from of_function(f"{full}.{name}", function, [function.__doc__, *docs])
            elif isinstance(member, property) or hasattr(member, "func"):
                doc = " ".join(found for found in docs if found)
                if not doc or without_unit(name, doc):
                    yield f"{full}.{name}: has no unit, or no docstring"


def ours(thing: type) -> list[type]:
    """Its classes, and those that document it too."""
    found = list(thing.__mro__)
    for ending, other in AS_DOCUMENTED_BY.items():
        if thing.__name__.endswith(ending):
            found += other.__mro__
    return [base for base in dict.fromkeys(found) if base.__module__.startswith("flip_async")]


def is_made_by_users(thing: type) -> bool:
    makes = [base for base in thing.__mro__ if "__init__" in vars(base)]
    is_protocol = getattr(thing, "_is_protocol", False)
    return (
        makes[0].__module__.startswith("flip_async")
        and thing.__name__ not in NEVER_MADE
        and not is_protocol
    )


def of_class(full: str, thing: type) -> Iterator[str]:
    told: dict[str, str] = {}
    for base in reversed(ours(thing)):
        told |= entries(base.__doc__)
    if issubclass(thing, enum.Enum):
        yield from missing(full, list(thing.__members__), told)
    elif attrs.has(thing):
        told = entries(thing.__doc__)  # its own: nobody looks up what a base has
        fields = [field for field in attrs.fields(thing) if not field.name.startswith("_")]
        yield from missing(full, [field.name for field in fields], told)
        for field in fields:
            is_required = RULE in field.metadata and field.default is attrs.NOTHING
            if is_required and "required" not in told.get(field.name, ""):
                yield f"{full}: {field.name} is required, and does not say so"
    elif hasattr(thing, "_fields"):
        yield from missing(full, list(thing._fields), told)
    elif is_made_by_users(thing):
        yield from missing(full, parameters(thing.__init__), told)  # type: ignore[misc]
    yield from of_members(full, thing)


@pytest.mark.parametrize(("full", "thing"), PUBLIC, ids=[name for name, _ in PUBLIC])
def test_each_parameter_field_return_and_unit_is_documented(full: str, thing: object) -> None:
    if isinstance(thing, type) and thing.__module__.startswith("flip_async"):
        problems = list(of_class(full, thing))
    elif inspect.isfunction(thing):
        problems = list(of_function(full, thing, [thing.__doc__]))
    else:
        problems = []  # a constant or a type alias: its page says what it is

    assert not problems, "\n".join(problems)


def test_each_public_name_is_on_a_page_of_the_reference() -> None:
    shown = {
        name
        for page in (DOCS / "reference").glob("*.md")
        for name in DIRECTIVE.findall(page.read_text(encoding="utf-8"))
    }

    assert {name for name, _ in PUBLIC} - shown == set()


def test_the_inventories_of_other_projects_are_what_their_list_says() -> None:
    """`python docs/_inventories.py` writes them."""
    inventories = runpy.run_path(str(DOCS / "_inventories.py"))

    for path, content in inventories["made"]().items():
        assert path.read_bytes() == content, path.name
