"""Sphinx settings. Every warning is an error: `python3 noxfile.py -s docs`."""

from __future__ import annotations

import re
from importlib.metadata import version as version_of
from itertools import groupby

from sphinx.application import Sphinx

project = "perfkit"
author = "The perfkit developers"
project_copyright = f"2026, {author}"
version = release = version_of("perfkit")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = False  # annotations name classes of packages whose documentation we do not read

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
default_role = "code"  # docstrings say `name`

html_theme = "furo"
html_title = "perfkit"
html_show_sourcelink = False


def setup(app: Sphinx) -> None:
    """Let docstrings be read as they are written."""
    app.connect("autodoc-process-docstring", _keep_tables, priority=400)  # before napoleon turns sections into fields


def _keep_tables(_app: Sphinx, _what: str, _name: str, _thing: object, _options: object, lines: list[str]) -> None:
    paragraphs = [list(block) for _, block in groupby(lines, key=lambda line: bool(line.strip()))]
    lines[:] = [line for paragraph in paragraphs for line in as_it_looks(paragraph)]


def as_it_looks(paragraph: list[str]) -> list[str]:
    """`paragraph`, marked as literal if it is a table or code: all of it indented, or aligned by spaces.

    Alignment counts because Python 3.13 removes the indentation of a table that fills a whole docstring.
    """
    indented = all(line.startswith("    ") for line in paragraph)
    aligned = any(re.search(r"\S {2,}\S", line) for line in paragraph)
    if not (indented or aligned) or paragraph[0].startswith(">>>"):
        return paragraph
    return ["::", "", *(f"    {line}" for line in paragraph)]
