"""Sphinx extension: the reference shows names as users write them, and each field with its type.

- `flip.sites` and the other namespaces are documented under these names, not as private classes.
- A reference to where a class is defined (`flip_async.models.sites.Site`) leads to where users
  import it from (`flip_async.models.Site`).
- A field of an `Attributes:` section gets its type and its default from the class.
- What the library's own parts tell each other (`is_busy`) is left out.
"""

import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator
from enum import Enum
from functools import cache

import attrs
import msgspec
from _names import namespaces, private_paths, public
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode
from sphinx.util.typing import stringify_annotation

# What one part of the library asks of another, or httpx of an auth.
INTERNALS = {
    "async_auth_flow",
    "identity",
    "is_busy",
    "is_idle",
    "may_repeat",
    "pause_s",
    "send_signed",
    "sync_auth_flow",
    "trouble",
}
# Made by the library alone, so how to make them is no promise.
NEVER_MADE = {"CommandLedger", "Inbox", "Outbox", "Pages", "TelemetryUploader", "TokenStore"}
# They take what `FlipClient` takes, and say so.
AS_FLIP_CLIENT = {"AggregatorClient", "ProductionClient", "SandboxClient", "UtilityClient"}
# Types that stand in signatures and have no entry of their own: where they are explained.
ELSEWHERE = {
    "BearerAuth": ("reference/auth", "the-auth-classes"),
    "CallOptions": ("reference/clients", "what-every-method-takes"),
    "ClientOptions": ("reference/clients", "the-clients"),
    "Clock": ("reference/emulator", "clocks"),
    "CommandHandler": ("reference/webhooks", "handling-them"),
    "EnrollmentHandler": ("reference/webhooks", "handling-them"),
    "GridHandler": ("reference/webhooks", "handling-them"),
    "Httpx2Client": ("reference/engines", "httpx2"),
    "Instant": ("reference/emulator", "clocks"),
    "PageIterator": ("reference/clients", "lists"),
    "Secret": ("reference/auth", "tokens"),
    "SettingsHandler": ("reference/webhooks", "handling-them"),
    "Timer": ("reference/emulator", "clocks"),
    "UnknownHandler": ("reference/webhooks", "handling-them"),
    "UnsetType": ("reference/models", "what-is-not-given"),
}


_PARAM_SPECS = {
    "[~P]": "P",
    "*args: ~typing.~P": "*args: P.args",
    "**options: ~typing.~P": "**options: P.kwargs",
}


def setup(app: Sphinx) -> dict[str, object]:
    """Called by Sphinx."""
    _make_namespaces()
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _with_types, priority=900)  # after napoleon
    app.connect("autodoc-skip-member", _skipped)
    app.connect("object-description-transform", _as_written)
    app.connect("missing-reference", _public_reference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _make_namespaces() -> None:
    """Modules that exist in the documentation alone, with a class for each namespace."""
    made: dict[str, type] = {}
    for full, thing in namespaces():
        assert isinstance(thing, type)
        module, _, path = full.partition(".")
        doc = {"__doc__": thing.__doc__, "__module__": module, "__qualname__": path}
        made[full] = type(path.rpartition(".")[2], (thing,), doc)
        parent = made.get(full.rpartition(".")[0])
        if parent is None:
            parent = sys.modules.setdefault(module, types.ModuleType(module))  # type: ignore[assignment]
        setattr(parent, path.rpartition(".")[2], made[full])


def _is_namespace(name: str) -> bool:
    return name.startswith(("flip.", "utility."))


def _signature(
    app: Sphinx, what: str, name: str, thing: object, *others: object
) -> tuple[str, str | None] | None:
    _, arguments, gives = others
    if isinstance(arguments, str) and "~P" in arguments:
        # A ParamSpec, which Sphinx writes in a form that it cannot read.
        for given, wanted in _PARAM_SPECS.items():
            arguments = arguments.replace(given, wanted)
        return arguments, str(gives)
    if what not in {"class", "exception"} or not isinstance(thing, type):
        return None
    is_hidden = (
        _is_namespace(name)
        or thing.__name__ in NEVER_MADE | AS_FLIP_CLIENT
        or name.startswith("flip_async.errors.")
        or _is_told_by_its_fields(thing)
    )
    return ("", None) if is_hidden else None


def _is_told_by_its_fields(thing: type) -> bool:
    doc = inspect.getdoc(thing) or ""
    is_data = attrs.has(thing) or issubclass(thing, Enum | tuple)
    return is_data and "Args:" not in doc


def _skipped(
    app: Sphinx, what: str, name: str, thing: object, skip: bool, *_: object
) -> bool | None:
    if name in INTERNALS or (isinstance(thing, type) and what == "class"):
        return True
    return None


def _with_types(app: Sphinx, what: str, name: str, thing: object, *others: object) -> None:
    _, lines = others  # the options of the directive, and the docstring
    if not isinstance(thing, type) or not isinstance(lines, list):
        return
    hints = _hints(thing)
    for index in reversed(range(len(lines))):
        if lines[index].startswith(".. attribute:: "):
            field = lines[index].removeprefix(".. attribute:: ")
            lines[index + 1 : index + 1] = list(_options(thing, field, hints))


def _hints(thing: type) -> dict[str, object]:
    found: dict[str, object] = {}
    for base in reversed(thing.__mro__):
        if base.__module__.startswith("flip_async"):
            found.update(typing.get_type_hints(base))
            for name, member in vars(base).items():
                getter = getattr(member, "fget", None)
                if getter is not None:
                    found[name] = typing.get_type_hints(getter).get("return")
    return found


def _options(thing: type, field: str, hints: dict[str, object]) -> Iterator[str]:
    if issubclass(thing, Enum):
        yield f"   :value: {thing[field].value!r}"
        return
    hint = hints.get(field)
    if typing.get_origin(hint) in {typing.Final, typing.ClassVar}:
        hint = typing.get_args(hint)[0] if typing.get_args(hint) else None
    if hint is not None and hint is not typing.Final:
        yield f"   :type: {stringify_annotation(hint, mode='smart')}"
    default = _default(thing, field)
    if default is not inspect.Parameter.empty:
        yield f"   :value: {_written(default)}"


def _default(thing: type, field: str) -> object:
    if attrs.has(thing):
        found = {entry.name: entry.default for entry in attrs.fields(thing)}
        default = found.get(field, attrs.NOTHING)
        is_there = default is not attrs.NOTHING and not isinstance(default, attrs.Factory)  # type: ignore[arg-type]
        return default if is_there else inspect.Parameter.empty
    return getattr(thing, "_field_defaults", {}).get(field, inspect.Parameter.empty)


def _written(default: object) -> str:
    if default is msgspec.UNSET:
        return "UNSET"
    if isinstance(default, Enum):
        return f"{type(default).__name__}.{default.name}"
    return repr(default)


def _as_written(app: Sphinx, domain: str, kind: str, content: nodes.Element) -> None:
    """`flip.sites.list(…)` in full, where Sphinx would print `class sites` and `list(…)`."""
    if domain != "py" or content.parent is None:
        return
    for signature in content.parent.children:
        if not isinstance(signature, addnodes.desc_signature):
            continue
        if signature.get("module") in {"flip", "utility"}:
            _rename(signature, is_class=kind == "class")


def _rename(signature: addnodes.desc_signature, *, is_class: bool) -> None:
    full = f"{signature['module']}.{signature['fullname']}"
    # One site's calls are below what `flip.site(site_id)` gives.
    shown = re.sub(r"^flip\.site\b", "flip.site(site_id)", full)
    before, _, last = shown.rpartition(".")
    prefixes = [*signature.findall(addnodes.desc_addname)]
    if is_class:
        prefixes += signature.findall(addnodes.desc_annotation)
    for node in prefixes:
        node.parent.remove(node)
    (name,) = signature.findall(addnodes.desc_name)
    name.parent.insert(name.parent.index(name), addnodes.desc_addname("", f"{before}."))
    name.clear()
    name.append(nodes.Text(last))


def _public_reference(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.TextElement
) -> nodes.Node | None:
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].removeprefix("~")
    name = target.rpartition(".")[2]
    if name in ELSEWHERE and target in {name, *_own_path(target)}:
        page, anchor = ELSEWHERE[name]
        return make_refnode(app.builder, node["refdoc"], page, anchor, content)
    domain = env.get_domain("py")
    for full in _candidates(target):
        if full in domain.objects:  # type: ignore[attr-defined]
            entry = domain.objects[full]  # type: ignore[attr-defined]
            return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content)
    return None


def _own_path(target: str) -> Iterator[str]:
    if target.startswith(("flip_async.", "msgspec.")):
        yield target


def _candidates(target: str) -> Iterator[str]:
    path = _paths().get(target)
    if path is not None:
        yield path
    elif "." not in target:  # an annotation in quotes, or the name of an error in `Raises:`
        yield from _by_last_name().get(target, [])


@cache
def _paths() -> dict[str, str]:
    return private_paths()


@cache
def _by_last_name() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for full, thing in [*public(), *namespaces()]:
        name = thing.__name__ if isinstance(thing, type) else full.rpartition(".")[2]
        found.setdefault(name, []).append(full)
    return found
