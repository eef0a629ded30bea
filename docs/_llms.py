"""The documentation for assistants: `llms.txt`, and `llms-full.txt`, Markdown, with all of it.

As an extension of Sphinx (`extensions += ["_llms"]`) it writes both beside the pages of an HTML
build; by hand,

    python docs/_llms.py FOLDER

does the same. Pages come in the order of `index.md`; what autodoc would put into a page is put
there from the same docstrings, and an example brings its files.
"""

import functools
import importlib
import inspect
import re
import runpy
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

DOCS = Path(__file__).parent
SHORT, FULL = "llms.txt", "llms-full.txt"
SUMMARY = "The asyncio-native Python SDK for the Flip OEM API."
NOTES = (
    "Import from `flip_async` and its public modules; a name that begins with `_` is no promise.",
    "Everything is `async`: a client is used as `async with SandboxClient() as flip`.",
    "Numbers carry their unit in the name (`_w`, `_wh`, `_s`, `_percentage`); times have a zone.",
    "To try code without an account or a network, use `flip_async.emulator.Emulator`.",
)
CODE = {".py": "python", ".ini": "ini", ".service": "ini", ".yaml": "yaml", ".csv": "text"}

TOCTREE = re.compile(r"^```\{toctree\}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CAPTION = re.compile(r"^:caption: (.*)$", re.MULTILINE)
COMMENT = re.compile(r"^<!--.*?-->\n", re.MULTILINE | re.DOTALL)
IMAGE = re.compile(r"^```\{image\} \S+\n:alt: ([^\n]*)\n(?::[^\n]*\n)*```$", re.MULTILINE)
ADMONITION = re.compile(r"^(```|:::)\{(\w+)\}\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
REST = re.compile(r"^```\{eval-rst\}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DIRECTIVE = re.compile(
    r"^(?:```\{auto\w+\} (?P<myst>[\w.]+)$|\.\. auto\w+:: (?P<rest>[\w.]+)$)"
    r"(?P<options>(?:\n[ ]*:[^\n]*)*)(?:\n```$)?",
    re.MULTILINE,
)
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)")
MEMBERS = re.compile(r":members:[ ]*([^\n]*)")


class Section(NamedTuple):
    """A caption of the sidebar, and the pages below it."""

    caption: str
    pages: list[Path]


def sections() -> list[Section]:
    """The pages in order."""
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    found = []
    for body in TOCTREE.findall(index):
        caption = CAPTION.search(body)
        pages = [page for name in names_in(body) for page in with_those_below(DOCS / f"{name}.md")]
        found.append(Section(caption[1] if caption else "Pages", pages))
    return found


def names_in(toctree: str) -> list[str]:
    return [line for line in toctree.splitlines() if line and not line.startswith(":")]


def with_those_below(page: Path) -> Iterator[Path]:
    """A page, and the pages of its own table."""
    yield page
    for body in TOCTREE.findall(page.read_text(encoding="utf-8")):
        for name in names_in(body):
            yield from with_those_below(page.parent / f"{name}.md")


# llms.txt


def title_of(text: str) -> str:
    """The first heading."""
    found = re.search(r"^# (.*)$", text, re.MULTILINE)
    return found[1] if found else "Untitled"


def first_sentence(text: str) -> str:
    """The first line of prose: a sentence a line is the rule here."""
    for line in COMMENT.sub("", text).splitlines():
        if re.match(r"[^\W\d]|[`*]", line) and not line.startswith("```"):
            return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line)
    return ""


def short() -> str:
    """`llms.txt`, after llmstxt.org: what there is, with a line about each."""
    lines = ["# flip_async", "", f"> {SUMMARY}", "", *(f"- {note}" for note in NOTES), ""]
    for section in sections():
        lines += [f"## {section.caption}", ""]
        for page in section.pages:
            text = page.read_text(encoding="utf-8")
            # Sphinx serves the source of each page too, which is what an assistant wants.
            link = f"_sources/{page.relative_to(DOCS).as_posix()}.txt"
            about = first_sentence(text)
            lines.append(f"- [{title_of(text)}]({link})" + (f": {about}" if about else ""))
        lines.append("")
    lines += ["## Optional", "", f"- [All of it in one file]({FULL})", ""]
    return "\n".join(lines)


# llms-full.txt


def full() -> str:
    """All pages one after the other."""
    index = DOCS / "index.md"
    parts = [prepared(index).rstrip()]
    for section in sections():
        parts += [f"<!-- {section.caption} -->", *(whole(page) for page in section.pages)]
    return "\n\n".join(parts) + "\n"


def whole(page: Path) -> str:
    """A page, and the files of the example that it is the README of."""
    parts = [f"<!-- {page.relative_to(DOCS).as_posix()} -->", prepared(page).strip()]
    if page.name == "README.md":
        parts += files_of(page.parent)
    return "\n\n".join(parts)


def files_of(folder: Path) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        if path.suffix in CODE:
            name = path.relative_to(DOCS).as_posix()
            yield f"`{name}`:\n\n```{CODE[path.suffix]}\n{path.read_text(encoding='utf-8')}```"


def prepared(page: Path) -> str:
    """A page as plain Markdown: no directives, no comments, links from the root of the docs."""
    text = COMMENT.sub("", page.read_text(encoding="utf-8"))
    text = IMAGE.sub(r"(Picture: \1.)", TOCTREE.sub("", text))
    text = REST.sub(lambda found: found[1].rstrip(), text)
    text = DIRECTIVE.sub(lambda found: documented(found["myst"] or found["rest"], found), text)
    text = ADMONITION.sub(lambda found: quoted(found[2].title(), found[3]), text)
    return LINK.sub(lambda found: "](" + from_root(page, found[1]), text)


def quoted(kind: str, text: str) -> str:
    """A warning, or whatever else stands in a box."""
    return "\n".join(f"> {line}".rstrip() for line in [f"**{kind}**", "", *text.splitlines()])


def from_root(page: Path, target: str) -> str:
    path = (page.parent / target).resolve()
    return path.relative_to(DOCS).as_posix() if path.is_relative_to(DOCS) else target


# What autodoc would say


def documented(name: str, found: Mapping[str, str] | re.Match[str]) -> str:
    """A class with its members, a function, or a module, from its docstring."""
    try:
        thing = resolve(name)
    except (ImportError, AttributeError):
        return f"`{name}`"
    members = MEMBERS.search(found["options"] or "")
    inherited = ":inherited-members:" in (found["options"] or "")
    parts = [heading(name, thing), inspect.getdoc(thing) or ""]
    if members is not None and isinstance(thing, type):
        wanted = re.split(r",\s*", members[1].strip()) if members[1].strip() else None
        parts += members_of(name, thing, wanted, inherited=inherited)
    return "\n\n".join(part for part in parts if part) + "\n"


def resolve(name: str) -> Any:
    """Import a thing by its dotted name."""
    names = runpy.run_path(str(DOCS / "_names.py"))
    for full, thing in names["namespaces"]():
        if name == full or name.startswith(f"{full}."):
            rest = name.removeprefix(full).strip(".")
            return functools.reduce(getattr, rest.split(".") if rest else [], thing)
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            thing: Any = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        return functools.reduce(getattr, parts[length:], thing)
    raise ImportError(name)


def members_of(
    name: str, owner: type, wanted: list[str] | None, *, inherited: bool
) -> Iterator[str]:
    for entry, member in inspect.getmembers(owner):
        is_own = inherited or entry in vars(owner)
        is_wanted = entry in wanted if wanted is not None else is_own and not entry.startswith("_")
        text = inspect.getdoc(member)
        if is_wanted and text and (callable(member) or isinstance(member, property)):
            yield f"{heading(f'{name}.{entry}', member)}\n\n{text}"


def heading(name: str, thing: Any) -> str:
    """Its name and what it takes."""
    if not callable(thing):
        return f"**`{name}`**"
    try:
        signature = str(inspect.signature(thing))
    except (ValueError, TypeError):
        return f"**`{name}`**"
    # As users import them; a default that is an object shows where it lies in memory.
    signature = re.sub(r"flip_async\.(?:_\w+\.)+|<[^<>]* at 0x[0-9a-f]+>", "", signature)
    return f"**`{name}{signature}`**"


# Writing


def write(folder: Path) -> None:
    """Write both files."""
    (folder / SHORT).write_text(short(), encoding="utf-8")
    (folder / FULL).write_text(full(), encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""

    def finish(app: Any, error: Exception | None) -> None:
        if error is None and app.builder.format == "html":
            write(Path(app.outdir))

    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    write(Path(sys.argv[1]))
