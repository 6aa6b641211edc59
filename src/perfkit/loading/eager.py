"""Verdicts on eager loads: those that nobody read, and joined collections that multiply each other's rows.

An eager load is for nothing if it found something for several objects, and no attribute on its path was used in the
window, of any of them, by whatever way: template, serializer, pickle, or by assigning to it, which compares with what
was there. What loaded nothing, or for one object, is none.
A query that fills a relationship from a join of its own (`contains_eager`) joins anyway, and is left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy.orm import Mapper

from perfkit.loading import fixes
from perfkit.loading.findings import Finding, Kind
from perfkit.loading.said import Said
from perfkit.loading.shapes import entity_of, sample_of
from perfkit.sqla.executions import Did
from perfkit.sqla.private import columns_of
from perfkit.sqla.reading import ANY
from perfkit.sqla.stacks import names_dicts
from perfkit.sqla.variables import line_of
from perfkit.trace.records import Load, Path, Query, Trace, path_of

MULTIPLIED = 3  # rows for each object of the query, before it is worth a word


def eager_findings(trace: Trace, min_parents: int) -> Iterator[Finding]:
    """Unused eager loads, and cartesian products."""
    for root in trace.queries:
        if root.did is Did.TOP and root.joined:
            yield from _cartesian(root)
    yield from _unused(trace, min_parents)


def _unused(trace: Trace, min_parents: int) -> Iterator[Finding]:
    loads: defaultdict[Query, dict[Path, list[Load]]] = defaultdict(dict)
    for load in trace.loads:
        if load.query.did is Did.EAGER and load.root is not None and load.root.did is Did.TOP:
            loads[load.root].setdefault(load.path, []).append(load)
    for root in trace.queries:
        if root.did is not Did.TOP or (root.rows or 0) < min_parents:
            continue
        if names_dicts(root.stack):
            continue  # what is read of an object's own dictionary is not noticed
        unread: list[Path] = []
        for each in _eagerly(root, loads.get(root, {})):
            if any(each.path[: len(outer)] == outer for outer in unread):
                continue  # of an outer one that was not read either
            owners = [load.query for load in loads.get(root, {}).get(each.path[:-1], [])]
            if not _is_read(each.path, [root, *owners, *each.joined_by], trace):
                unread.append(each.path)
                if _found_something(each) and _parents(root) >= min_parents:
                    yield _for_nothing(root, each)


class _Eager(NamedTuple):
    """A path, and what loaded it: statements of its own, or the joins of others, which are the root's or on the way."""

    path: Path
    loads: Sequence[Load] = ()
    joined_by: Sequence[Query] = ()


def _eagerly(root: Query, loads: dict[Path, list[Load]]) -> list[_Eager]:
    """The shortest paths first."""
    joined: defaultdict[Path, list[Query]] = defaultdict(list)
    for before, query in [((), root), *((path, each.query) for path, several in loads.items() for each in several)]:
        for parts in query.joined:
            joined[(*before, *path_of(parts))].append(query)
    found = [
        *(_Eager(path, own) for path, own in loads.items()),
        *(_Eager(path, (), by) for path, by in joined.items()),
    ]
    return sorted(found, key=lambda each: len(each.path))


def _is_read(path: Path, owners: Sequence[Query], trace: Trace) -> bool:
    names = [trace.read.get(owner, frozenset()) for owner in owners]
    return any(path[-1].name in each or ANY in each for each in names)


def _found_something(eager: _Eager) -> bool:
    if any(load.query.rows is None or load.query.rows > 0 for load in eager.loads):
        return True
    target = eager.path[-1].owner.relationships[eager.path[-1].name].mapper
    return any(_joined_something(query, target) for query in eager.joined_by)


def _joined_something(query: Query, target: Mapper[Any]) -> bool:
    places = [place for name, place in _keys_of(query, target) if name != _root_name(query)]
    return any(row[place] is not None for row in query.kept or () for place in places)


def _parents(root: Query) -> int:
    """How many objects the query loaded itself."""
    if not root.joined:
        return root.rows or 0
    mapper = entity_of(root)
    places = [] if mapper is None else [place for name, place in _keys_of(root, mapper) if name == _root_name(root)]
    return len({tuple(row[place] for place in places) for row in root.kept or ()})


def _for_nothing(root: Query, eager: _Eager) -> Finding:
    path = eager.path
    said = Said(root, path)
    *outer, unread = said.steps(path, "selectinload" if eager.loads else "joinedload")
    kept, gone = (f".options({'.'.join(outer)})", f".{unread}") if outer else ("", f".options({unread})")
    prop = path[-1].owner.relationships[path[-1].name]
    is_default = prop.lazy in ("joined", "selectin", "subquery", "immediate", False)
    fix = (
        f'.options({".".join(_left_lazy(path, said.alias))})  # or lazy="select" in the model'
        if is_default
        else f"select({fixes.root_of(path, said.alias)}){kept}  # without {gone}"
    )
    queries = [load.query for load in eager.loads]
    return Finding(
        kind=Kind.UNUSED_EAGER,
        path=fixes.dotted(path),
        parents=_parents(root),
        statements=len(queries) or 1,
        wasted_ms=sum(query.ms for query in queries),
        origin=None if root.stack is None else root.stack.origin,
        site=None if root.stack is None else root.stack.origin,
        sql=sample_of([*queries, *eager.joined_by, root][0]),
        fix=fixes.of_an_alias(fix, said.alias, path),
        confidence=0.7,
        detail="read by nobody while the window was open",
    )


def _left_lazy(path: Path, alias: str | None) -> Iterator[str]:
    for place in range(len(path)):
        name = "lazyload" if place == len(path) - 1 else "defaultload"
        yield f"{name}({fixes.attribute_of(path, place, alias)})"


def _root_name(root: Query) -> str:
    columns = [each for each in columns_of(root.compiled) if each is not None]
    return columns[0][0] if columns else ""


def _keys_of(root: Query, mapper: Mapper[Any]) -> list[tuple[str, int]]:
    """Where the rows have the primary keys of a class: the name of each alias, and a place."""
    names = {column.name for column in mapper.primary_key}
    table = mapper.primary_key[0].table
    return [
        (each[0], place)
        for place, each in enumerate(columns_of(root.compiled))
        if each is not None and each[1].name in names and any(base.table is table for base in each[1].base_columns)
    ]


def _cartesian(root: Query) -> Iterator[Finding]:
    """Two or more collections, joined beside each other, of which each repeats the rows of the others."""
    rows = root.kept or []
    mapper = entity_of(root)
    beside = _collections_beside(root)
    if mapper is None or len(beside) < 2 or len(getattr(root.statement, "column_descriptions", ())) > 1:
        return  # of several entities, every combination was asked for
    own = [place for name, place in _keys_of(root, mapper) if name == _root_name(root)]
    keys = _places_of(root, [path[-1].owner.relationships[path[-1].name].mapper for path in beside])
    if not own or len(keys) < 2:
        return
    members: defaultdict[tuple[Any, ...], list[set[Any]]] = defaultdict(lambda: [set() for _ in keys])
    for row in rows:
        for place, found in zip(keys, members[tuple(row[each] for each in own)], strict=True):
            if row[place] is not None:
                found.add(row[place])
    grown = sum(sum(map(len, each)) for each in members.values())
    if len(rows) <= MULTIPLIED * len(members) or len(rows) <= grown:
        return
    fix = _separately(root, beside)
    yield Finding(
        kind=Kind.CARTESIAN,
        path=fixes.dotted(beside[0]),
        parents=len(members),
        statements=1,
        wasted_ms=root.ms * (1 - grown / len(rows)),
        origin=None if root.stack is None else root.stack.origin,
        site=None if root.stack is None else root.stack.origin,
        sql=sample_of(root),
        fix=fix,
        detail=f"{len(rows)} rows for {len(members)} objects: {' × '.join(path[-1].name for path in beside)}",
    )


def _separately(root: Query, beside: Sequence[Path]) -> str:
    """The statement with a statement of its own for each collection; SQLAlchemy refuses a second option for a path."""
    said = Said(root, beside[0])
    options = ", ".join(fixes.eager(path, root=said.alias)[len(".options(") : -1] for path in beside)
    joined = [path for path in beside if any(said.word(path[: end + 1]) for end in range(len(path)))]
    fix = f".options({options})"
    if joined:
        replaced = ", ".join(".".join(said.steps(path, "joinedload")) for path in joined)
        line = None if root.stack is None else line_of(root.stack, "joinedload", joined[0][-1].name)
        fix = fixes.instead(beside[0], fix, replaced, root=said.alias, line=line)
    return fixes.of_an_alias(fix, said.alias, beside[0])


def _collections_beside(root: Query) -> list[Path]:
    """Joined collections of which none lies on the way to another."""
    paths = [path_of(path) for path in root.joined]
    collections = [path for path in paths if path[-1].owner.relationships[path[-1].name].uselist]
    return [
        path for path in collections
        if not any(other != path and other[: len(path)] == path for other in collections)
    ]  # fmt: skip


def _places_of(root: Query, mappers: Sequence[Mapper[Any]]) -> list[int]:
    """For each class a place of its primary key that is no other's; those of the root are not looked at."""
    taken: set[int] = set()
    found: list[int] = []
    for mapper in mappers:
        place = next((p for name, p in _keys_of(root, mapper) if name != _root_name(root) and p not in taken), None)
        if place is not None:
            taken.add(place)
            found.append(place)
    return found
