"""Which way imports may point inside perfkit, as data and as a check of the source.

    python -m tools.rooms        every broken rule, as path:line: what and why

A room is a folder or a file directly under src/perfkit. It may import from the floors below its own
and from itself; rooms on one floor are sisters and never meet, except through a parameter. Imports
inside functions and under TYPE_CHECKING count: a name that is needed to understand a file is a
dependency, whenever it is loaded. Rooms that nobody lives in yet have their floor already.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "perfkit"
SOURCE = Path(__file__).resolve().parents[1] / "src"

FLOORS = (
    {"errors", "clock", "files", "forks", "histogram"},
    {"counters"},
    {"sqla"},
    {"waiting", "wire", "codec"},
    {"trace"},
    {"cache", "loading", "paging", "indexes", "spatial", "pool"},
    {"relay", "monitor"},
    {"testing"},
    {"integrations", "cli"},
    {"__main__"},
)
FRONT_DOOR = ""  # perfkit/__init__.py stands above all of them

# Who may know that there are clients, loops and threads.
RESERVED = frozenset({"redis", "asyncio", "threading"})
MAY_WAIT = (
    *(
        "forks",
        "waiting",
        "wire",
        "cache.arrears",
        "cache.background",
        "cache.flights",
        "cache.near",
        "cache.warm",
        "relay.run",
    ),
    *("integrations", "cli"),
)

# The one folder that may name what SQLAlchemy does not promise to keep.
MAY_PRY = "sqla.private"


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement's target: a module, and the name taken out of it if there is one."""

    line: int
    module: str
    name: str | None = None

    @property
    def path(self) -> str:
        """Dotted, with the name last."""
        return self.module if self.name is None else f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class Broken:
    """A rule that a file breaks."""

    module: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.text}"


def broken_rules(sources: Mapping[str, str]) -> list[Broken]:
    """What is wrong with `sources`, module name to text; a package is named by its folder."""
    imports = {module: sorted(_imports(text), key=lambda one: one.line) for module, text in sources.items()}
    found: list[Broken] = []
    for module, all_of_it in imports.items():
        for one in all_of_it:
            found += [Broken(module, one.line, text) for text in _wrong_with(module, one, sources)]
    return sorted({*found, *_circles(imports, sources)})


def read(folder: Path = SOURCE) -> dict[str, str]:
    """Every module under `folder`, by dotted name."""
    paths = {path: path.relative_to(folder).with_suffix("").parts for path in sorted(folder.rglob("*.py"))}
    return {".".join(parts).removesuffix(".__init__"): path.read_text() for path, parts in paths.items()}


def _imports(text: str) -> Iterator[Import]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            yield from (Import(node.lineno, source, alias.name) for alias in node.names)


def _wrong_with(module: str, one: Import, sources: Mapping[str, str]) -> Iterator[str]:
    here = module.removeprefix(PACKAGE).removeprefix(".")
    if (target := _file_of(one, sources)) is not None:
        yield from _wrong_direction(here, target.removeprefix(PACKAGE).removeprefix("."))
    if one.module.startswith("."):
        yield f"imports {one.path} by a relative name: write all of it"
    top, *below = one.path.split(".")
    if top in RESERVED and not _is_one_of(here, MAY_WAIT):
        yield f"imports {top}, which is for {', '.join(MAY_WAIT)} only"
    if top == "sqlalchemy" and not _is_one_of(here, (MAY_PRY,)) and any(_is_private(part) for part in below):
        yield f"imports {one.path}, which SQLAlchemy does not promise to keep: ask {MAY_PRY}"


def _wrong_direction(here: str, there: str) -> Iterator[str]:
    ours, theirs = _room(here), _room(there)
    if ours in {theirs, FRONT_DOOR}:
        return
    if theirs == FRONT_DOOR:
        yield f"{ours} imports the front door, which imports {ours}"
    elif homeless := {ours, theirs} - set().union(*FLOORS):
        yield f"{' and '.join(sorted(homeless))} has no floor: give it one in tools/rooms.py"
    elif _floor(theirs) >= _floor(ours):
        relation = "its sister" if _floor(theirs) == _floor(ours) else "above it"
        yield f"{ours} imports {theirs}, which is {relation}"


def _circles(imports: Mapping[str, Iterable[Import]], sources: Mapping[str, str]) -> Iterator[Broken]:
    """One per import that leads back to where it stands, over however many files."""
    edges = {module: _targets(module, all_of_it, sources) for module, all_of_it in imports.items()}
    for module, targets in edges.items():
        for target, line in targets.items():
            if way := _way(edges, target, module):
                yield Broken(module, line, f"circle: {' → '.join([module, *way])}")


def _targets(module: str, imports: Iterable[Import], sources: Mapping[str, str]) -> dict[str, int]:
    """The files that `module` reads, with a line on which it does."""
    found = ((_file_of(one, sources), one.line) for one in imports)
    return {target: line for target, line in found if target is not None and target != module}


def _way(edges: Mapping[str, Iterable[str]], start: str, end: str) -> list[str]:
    """The shortest way along imports from `start` to `end`, both included; empty if there is none."""
    ways, seen = [[start]], {start}
    while ways:
        way = ways.pop(0)
        if way[-1] == end:
            return way
        ahead = [module for module in edges[way[-1]] if module not in seen]
        seen.update(ahead)
        ways += [[*way, module] for module in ahead]
    return []


def _file_of(one: Import, sources: Mapping[str, str]) -> str | None:
    """The file of ours that an import reads: the name may itself be one."""
    return next((path for path in (one.path, one.module) if path in sources), None)


def _room(name: str) -> str:
    return name.partition(".")[0]


def _floor(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def _is_one_of(name: str, allowed: Iterable[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in allowed)


def _is_private(part: str) -> bool:
    return part.startswith("_") and not part.startswith("__")


if __name__ == "__main__":
    found = broken_rules(read())
    print(*found, sep="\n", end="\n" if found else "")
    raise SystemExit(bool(found))
