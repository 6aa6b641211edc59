"""Every block of Python in the README and in the documentation runs; those of one page share their names."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    if "_build" not in page.parts and "```python" in page.read_text()
)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_on_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever pastes it gets what the page says: its assertions are the documentation's."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    module = ModuleType(f"page_{page.stem.replace('-', '_')}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # pydantic looks for what a model's module has
    names = vars(module)

    for found in BLOCK.finditer(text):
        line = text[: found.start()].count("\n") + 1
        exec(compile("\n" * line + found[1], str(page), "exec", dont_inherit=True), names)  # noqa: S102

    if (engine := names.get("engine")) is not None:
        engine.dispose()


def test_there_are_pages_with_code() -> None:
    """A test of nothing would always pass."""
    assert ROOT / "README.md" in PAGES
