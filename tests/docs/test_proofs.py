"""Every test that the documentation names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"\btest_\w+")


def test_the_tests_that_pages_name_exist() -> None:
    """A promise whose proof was renamed has none. A name that ends with `_` is the beginning of one.

    What a page defines itself, as an example of a test, is there.
    """
    files = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "examples").rglob("test_*.py")]
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    there = {file.stem for file in files}
    for file in (*files, *pages):
        there.update(re.findall(r"def (test_\w+)", file.read_text()))

    named = {
        (page.name, name) for page in pages if "_build" not in page.parts for name in NAMED.findall(page.read_text())
    }

    assert len(named) > 50
    lost = {
        (page, name)
        for page, name in named
        if name not in there and not (name.endswith("_") and any(each.startswith(name) for each in there))
    }
    assert lost == set()
