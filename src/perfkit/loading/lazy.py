"""Verdicts on attributes that were loaded for one object at a time: relationships, and columns.

One object alone is never an N+1: its attribute has to be loaded by some statement. So loads are counted within the
query that loaded their parents; two lists that have one load each are two times one. What was loaded in a loop, one
object a query, is put together again if both lines, that of the query and that of the access, are the same.

A walk along a list, `node.parent.parent`, has a path of its own at each step, and so one parent at each. A loop or a
recursion over a tree has the same line at each step; its steps are one finding, if there are siblings at one of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy.orm import Mapper

from perfkit.loading import fixes
from perfkit.loading.findings import Finding, Kind
from perfkit.loading.said import Said
from perfkit.loading.shapes import entity_of, is_select_by_key, sample_of, shape_of, wasted
from perfkit.sqla.executions import Did
from perfkit.sqla.stacks import touched_name
from perfkit.trace.records import Load, Path, Query, Step, Trace, path_of

WRITING = frozenset(
    {"delete", "delete_all", "flush", "commit", "merge", "merge_all", "expunge", "refresh", "rollback", "__exit__"}
)
"""Functions of a session that load what they need by themselves, object by object, for the sake of a write."""


class _Place(NamedTuple):
    """Equal for loads that are one finding: by the line of the parents' query, and what is loaded."""

    line: Hashable
    path: Path
    leaf: str
    did: Did


@dataclass
class _Loads:
    """Loads of one path, from queries of one place."""

    path: Path
    leaf: str
    loads: list[Load] = field(default_factory=list)
    recursive: bool = False

    @property
    def parents(self) -> int:
        return len({load.parent for load in self.loads})


def lazy_findings(trace: Trace, min_parents: int) -> Iterator[Finding]:
    """N+1s of relationships and of columns."""
    already = _eager_paths(trace)
    for loads in _put_together(_counted(trace), min_parents):
        if loads.loads[0].query.did is Did.LAZY:
            yield _of_relationship(loads, already)
        else:
            yield _of_columns(loads, already, trace)


def _counted(trace: Trace) -> Iterator[Load]:
    for load in trace.loads:
        stack = load.query.stack
        if load.query.did is Did.EAGER or stack is None or stack.in_flush or stack.entry in WRITING:
            continue
        if load.root is not None and load.root.did is Did.REFRESH:
            continue
        yield load


def _put_together(loads: Iterable[Load], min_parents: int) -> Iterator[_Loads]:
    places: dict[_Place, _Loads] = {}
    for load in loads:
        leaf = "" if load.query.did is Did.LAZY else _leaf(load)
        place = _Place(_line_of(load), load.path, leaf, load.query.did)
        places.setdefault(place, _Loads(load.path, leaf)).loads.append(load)
    _merge_recursions(places)
    for each in places.values():
        if each.loads and _is_many(each, min_parents):
            yield each


def _line_of(load: Load) -> Hashable:
    """Equal for loads of one request whose parents' queries come from one line, whoever called its function."""
    if load.root is None:
        stack = load.query.stack
        is_new = isinstance(load.group, tuple) and load.group[0] == "new"
        return (load.group, stack.collapsed) if is_new and stack is not None else load.group
    stack = load.root.stack
    return (shape_of(load.root), None if stack is None else stack.innermost, load.query.unit)


def _is_many(loads: _Loads, min_parents: int) -> bool:
    if loads.parents < min_parents:
        return False
    inside: defaultdict[Hashable, set[Hashable]] = defaultdict(set)
    along: defaultdict[Hashable, set[tuple[Hashable, int]]] = defaultdict(set)
    for load in loads.loads:
        stack = load.query.stack
        inside[load.group, load.path].add(load.parent)
        if load.root is not None and stack is not None:
            outer = None if load.root.stack is None else load.root.stack.collapsed
            along[outer, stack.collapsed, load.path].add((load.parent, id(load.root)))
    if max(map(len, inside.values())) >= min_parents:
        return True
    return any(len({parent for parent, _ in each}) >= min_parents for each in along.values())


def _merge_recursions(places: dict[_Place, _Loads]) -> None:
    """Steps of one recursion, or of one loop that goes down a tree, become the first of them."""
    merged: dict[_Place, _Loads] = {}
    for place, each in sorted(places.items(), key=lambda item: len(item[0].path)):
        path = place.path
        if len(path) < 2 or path[-1] != path[-2]:
            continue
        before = place._replace(path=path[:-1])
        outer = merged.get(before) or places.get(before)
        if outer is not None and outer is not each and _lines(outer) & _lines(each):
            outer.loads += each.loads
            outer.recursive = True
            each.loads = []
            merged[place] = outer


def _lines(loads: _Loads) -> set[Hashable]:
    """Where the attribute is touched. Whole stacks differ: what goes down from `max(map(depth, …))` has more frames."""
    return {load.query.stack.innermost for load in loads.loads if load.query.stack is not None}


def _eager_paths(trace: Trace) -> dict[Query, set[Path]]:
    """For each root the paths that it loads eagerly itself."""
    found: defaultdict[Query, set[Path]] = defaultdict(set)
    for load in trace.loads:
        if load.query.did is Did.EAGER and load.root is not None:
            found[load.root].add(load.path)
    for query in trace.queries:
        for path in query.joined:
            found[query].add(path_of(path))
        found[query].update(Said(query, ()).eager)
    return found


def _of_relationship(loads: _Loads, already: dict[Query, set[Path]]) -> Finding:
    first, path = loads.loads[0], loads.path
    known = already.get(first.root, set()) if first.root is not None else set()
    asked = None if first.root is None else entity_of(first.root)
    said = Said(first.root, path)
    roots = {id(load.root) for load in loads.loads}
    if len(roots) > 1 and first.root is not None and (by_key := is_select_by_key(first.root)) is not None:
        fix = by_key + fixes.eager(path, known, recursive=loads.recursive, asked=asked)
    elif said.word(path) in ("lazyload", "immediateload"):
        fix = said.replaced(path, "selectinload")
    else:
        fix = fixes.eager(path, known, recursive=loads.recursive, asked=asked, root=said.alias)
    return _finding(Kind.LAZY_LOAD, loads, fixes.dotted(path), fixes.of_an_alias(fix, said.alias, path))


def _leaf(load: Load) -> str:
    """The column's name, if the query that loaded the parents left it out; empty if it was loaded and expired."""
    names, mapper = load.names, load.entity
    if names is None or mapper is None or {prop.key for prop in _key_of(mapper)} & names:
        return ""
    if load.root is not None and not load.path and not _left_out(load.root, mapper, names):
        return ""
    if load.root is None and not all(_is_deferred(mapper, name) for name in names):
        return ""
    stack = load.query.stack
    touched = None if stack is None else touched_name(stack, names)
    return touched if touched in names else min(names)


def _key_of(mapper: Mapper[Any]) -> list[Any]:
    return [mapper.get_property_by_column(column) for column in mapper.primary_key]


def _is_deferred(mapper: Mapper[Any], name: str) -> bool:
    return bool(getattr(mapper.attrs.get(name), "deferred", False))


def _left_out(root: Query, mapper: Mapper[Any], names: frozenset[str]) -> bool:
    prop: Any = mapper.attrs.get(min(names))
    columns = [each.name for each in getattr(prop, "columns", ()) if getattr(each, "name", None)]
    return not any(f".{name}" in root.sql or f'."{name}"' in root.sql for name in columns)


def _of_columns(loads: _Loads, already: dict[Query, set[Path]], trace: Trace) -> Finding:
    first = loads.loads[0]
    mapper = first.entity
    assert mapper is not None
    known = already.get(first.root, set()) if first.root is not None else set()
    name = mapper.class_.__name__
    detail = ""
    if not loads.leaf:
        path, key = fixes.dotted(loads.path, mapper), _key_of(mapper)[0].key
        since = -1 if first.root is None else first.root.order
        if any(each.did is Did.COMMIT and since < each.order < first.query.order for each in trace.queries):
            fix = "Session(engine, expire_on_commit=False)"
            detail = "expired by the commit, and loaded anew when touched"
        elif (
            first.root is None and first.names is not None and not {each.key for each in _key_of(mapper)} & first.names
        ):
            fix = '__mapper_args__ = {"eager_defaults": True}'
            detail = "values that the database made at the flush, and that nobody asked it for"
        else:
            fix = f"session.scalars(select({name}).where({name}.{key}.in_(ids))).all()"
            detail = "expired, and loaded anew when touched: load them in one go before the loop"
    else:
        path = fixes.dotted(loads.path, mapper, loads.leaf)
        names = sorted(first.names or {loads.leaf})
        base = _base_that_was_asked(first, mapper)
        if base is not None:
            fix = fixes.with_subclass(loads.path, known, base, mapper)
            detail = f"columns of the subclass {name}, for each object of {base.class_.__name__}"
        else:
            whole = (*loads.path, Step(mapper, loads.leaf))
            said = Said(first.root, whole)
            if said.word(whole) == "defer":
                fix = said.replaced(whole, "")
            else:
                fix = fixes.undeferred(loads.path, known, mapper, names, root=said.alias)
            fix = fixes.of_an_alias(fix, said.alias, whole)
    return _finding(Kind.COLUMN_LOAD, loads, path, fix, detail)


def _base_that_was_asked(load: Load, mapper: Mapper[Any]) -> Mapper[Any] | None:
    """The class of the query, if the columns are those of a subclass, with or without a table of its own."""
    if mapper.inherits is None or load.names is None or _is_deferred(mapper, min(load.names)):
        return None
    if mapper.local_table is mapper.inherits.local_table:
        return None if min(load.names) in mapper.base_mapper.attrs else mapper.base_mapper
    prop: Any = mapper.attrs.get(min(load.names))
    if any(getattr(each, "table", None) is not mapper.local_table for each in getattr(prop, "columns", ())):
        return None
    return mapper.base_mapper


def _finding(kind: Kind, loads: _Loads, path: str, fix: str, detail: str = "") -> Finding:
    first = loads.loads[0]
    queries = [load.query for load in loads.loads]
    origin = None if first.root is None or first.root.stack is None else first.root.stack.origin
    return Finding(
        kind=kind,
        path=path,
        parents=loads.parents,
        statements=len(queries),
        wasted_ms=wasted(queries),
        origin=origin,
        site=None if first.query.stack is None else first.query.stack.origin,
        sql=sample_of(first.query),
        fix=fix,
        detail=detail,
    )
