"""Sphinx configuration."""

import runpy
import sys
from pathlib import Path

from flip_async import __version__

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for the extension beside this file

project = "flip_async"
author = "The flip_async authors"
copyright = "2026, the flip_async authors"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "_reference",
    "_llms",
]
exclude_patterns = ["_build"]
default_role = "code"
html_theme = "furo"
html_title = f"flip_async {release}"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
maximum_signature_line_length = 88
python_use_unqualified_type_names = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_attr_annotations = False  # docs/_reference.py gives each attribute its type
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = False  # an entry for each attribute, that can be linked to
napoleon_custom_sections = ["Source"]

# Links to other projects, without a network: docs/_inventories.py writes the files.
intersphinx_mapping = {
    name: (other.url, f"_inventories/{name}.inv")
    for name, other in runpy.run_path(str(HERE / "_inventories.py"))["PROJECTS"].items()
}
nitpicky = True
nitpick_ignore = [
    # Of extras: their documentation has no address for these that stays.
    ("py:class", "Redis"),
    ("py:class", "RedisCluster"),
    ("py:class", "fastapi.applications.FastAPI"),
    ("py:class", "fastapi.params.Depends"),
    ("py:class", "fastapi.routing.APIRouter"),
    ("py:class", "httpx2.AsyncClient"),
    ("py:class", "httpx2.Auth"),
    ("py:class", "redis.asyncio.client.Redis"),
    ("py:class", "redis.asyncio.cluster.RedisCluster"),
    ("py:class", "starlette.requests.HTTPConnection"),
    ("py:class", "starlette.requests.Request"),
    ("py:class", "starlette.responses.Response"),
]
nitpick_ignore_regex = [
    (r"py:(class|obj)", r"(flip_async\.[\w.]+\.)?[A-Z](\.k?w?args)?"),  # a type variable
]
