"""What users can import is what a reviewer has seen."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import perfkit
from tools.surface import COMMITTED, misplaced, surface


def test_the_surface_is_the_committed_one():
    """After a change that is meant: `python -m tools.surface --write`, and the diff goes to the reviewer."""
    assert surface(perfkit) == COMMITTED.read_text().splitlines()


def test_public_objects_report_the_path_by_which_they_are_imported():
    """Tracebacks, pickles and documentation name it; where the source lives is our affair."""
    assert misplaced(perfkit) == []


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A small package with one room, public names of every kind, and one that reports its file."""
    files = {
        "__init__": "from shop.till import Till\n__all__ = ['Till']",
        "till/__init__": (
            "from shop.till.drawer import Till, Coin, total, LIMIT\n"
            "from shop.till import notes\n"
            "Number = int | None\n"
            "__all__ = ['Till', 'Coin', 'total', 'LIMIT', 'Number', 'notes']\n"
            "Till.__module__ = Coin.__module__ = __name__\n"
        ),
        "till/notes": "__all__ = ['count']\nasync def count(of: str, *, at_most: int = 3) -> int: return 0\n",
        "till/drawer": (
            "from enum import Enum\n"
            "LIMIT = 5\n"
            "def total(coins: 'list[int]', /) -> 'int': return 0\n"
            "class Coin(Enum):\n    ONE = 1\n"
            "class Till:\n"
            "    name: str\n"
            "    def __init__(self, name: str = 'front') -> None: ...\n"
            "    def _count(self): ...\n"
            "    async def open(self, by: 'str | None' = None) -> bool: return True\n"
            "    @classmethod\n    def empty(cls) -> 'Till': ...\n"
            "    @property\n    def amount(self) -> int: return 0\n"
        ),
    }
    for name, text in files.items():
        path = tmp_path / f"shop/{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__("shop")
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        del sys.modules[name]


def test_every_kind_of_public_name_is_listed(shop):
    """Private members and files behind a door are not; what a door passes on is named once more."""
    assert set(surface(shop)) == {
        "shop.till.Coin is a class(Enum)",
        "shop.till.Coin.ONE = 1",
        "shop.till.LIMIT: int",
        "shop.till.Number: type alias",
        "shop.till.notes: module",
        "shop.till.notes.count async (of: str, *, at_most: int = 3) -> int",
        "shop.till.total(coins: list[int], /) -> int",
        "shop.Till is shop.till.Till",
        "shop.till.Till is a class()",
        "shop.till.Till(self, name: str = 'front') -> None",
        "shop.till.Till.amount: property -> int",
        "shop.till.Till.empty(cls) -> Till classmethod",
        "shop.till.Till.name: str",
        "shop.till.Till.open async (self, by: str | None = None) -> bool",
    }


def test_an_object_that_reports_its_file_is_seen(shop):
    """`total` was left behind by its door."""
    assert misplaced(shop) == ["shop.till.total says it is from shop.till.drawer"]
