"""Verdicts on statements that were run again and again: fetched one by one, counted one by one, asked twice.

Executions are compared that have one structure and come from one place: the same instruction in every frame of the
application, with the frames of a recursion counted once. The same helper called from two lines is two places. What
varies decides: only values that a column equals make a loop that one statement could replace. Pages, ranges and chunks
of a list are loops that are meant; so are walks, in which every step asks for what the step before has found, be it one
or a level of them. What several requests ask is compared within each of them. Of tasks, who has started them is not
seen: those that one request gathers are a loop from three on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from itertools import pairwise
from math import inf
from typing import Any

from sqlalchemy import Column

from perfkit.loading import fixes
from perfkit.loading.findings import Finding, Kind
from perfkit.loading.lists import for_a_list
from perfkit.loading.shapes import entity_of, given, is_by_key, is_read, sample_of, shape_of, table_of, text_of, wasted
from perfkit.sqla.binds import Given
from perfkit.sqla.executions import Did
from perfkit.sqla.stacks import is_of_a_task, takes_one, waits_between
from perfkit.sqla.wording import Role, is_aggregate
from perfkit.trace.records import Query, Trace

MIN_DUPLICATES = 3
MIN_TASKS = 3  # `gather(load(1), load(2))` is written by hand, and no loop; what gathers more is taken for one
CHUNK = 20  # a list of so many values is no longer one parent's

Values = tuple[tuple[str, Given], ...]


def loop_findings(trace: Trace, min_parents: int) -> Iterator[Finding]:
    """What one statement could have asked for, or nobody need have asked for again."""
    places: defaultdict[Hashable, list[Query]] = defaultdict(list)
    for query in trace.queries:
        stack = query.stack
        if query.did not in (Did.TOP, Did.CORE) or stack is None or stack.in_flush or not is_read(query):
            continue
        places[shape_of(query), stack.collapsed, query.unit].append(query)
    for queries in places.values():
        if len(queries) < min_parents:
            continue
        values = [given(query) for query in queries]
        varying = _varying(values)
        if not varying:
            yield from _duplicates(queries, trace)
        elif _is_loop(queries, values, varying, min_parents) and not _is_unit_of_work(queries, trace):
            yield _loop(queries, values, varying)


def _varying(values: Sequence[dict[str, Given]]) -> list[str]:
    """The names of values that are not the same in all executions."""
    names = dict.fromkeys(name for each in values for name in each)
    return [name for name in names if len({_hashable(each.get(name)) for each in values}) > 1]


def _hashable(given: Given | None) -> Hashable:
    return None if given is None else (type(given.value).__name__, given.value)


def _is_loop(
    queries: Sequence[Query], values: Sequence[dict[str, Given]], varying: Sequence[str], min_parents: int
) -> bool:
    roles = {each[name].role for each in values for name in varying if name in each}
    if not roles <= {Role.EQUAL, Role.MEMBER}:
        return False
    if Role.MEMBER in roles and _is_chunked([each[name].value for each in values for name in varying if name in each
                                             and each[name].role is Role.MEMBER]):  # fmt: skip
        return False
    at_once: defaultdict[int, set[Hashable]] = defaultdict(set)
    for query, each in zip(queries, values, strict=True):
        at_once[id(query.stack)].add(tuple(_hashable(each.get(name)) for name in varying))
    if max(map(len, at_once.values())) < min_parents:
        return False  # a recursion that asks once at each depth
    if len(queries) < MIN_TASKS and _are_of_tasks(queries):
        return False
    asked = [_only(each, varying) for each in values]
    return not _is_walk(queries, asked) and not _is_walk_by_levels(queries, asked)


def _are_of_tasks(queries: Sequence[Query]) -> bool:
    """Whether each ran in a task and a session of its own, and nobody knows whether one line has started them."""
    sessions = {query.session for query in queries}
    return len(sessions) == len(queries) and all(
        query.stack is not None and is_of_a_task(query.stack) for query in queries
    )


def _only(each: dict[str, Given], names: Sequence[str]) -> list[Given]:
    return [each[name] for name in names if name in each]


def _is_chunked(lists: Sequence[Any]) -> bool:
    """Whether these are pieces of one long list: long ones, or all of one length but the last, with nothing twice."""
    lists = [each if isinstance(each, tuple) else (each,) for each in lists]
    if max(map(len, lists)) >= CHUNK:
        return True
    first = len(lists[0])
    members = [value for each in lists for value in each]
    is_even = all(len(each) == first for each in lists[:-1]) and len(lists[-1]) <= first
    return first > 1 and is_even and len(set(map(repr, members))) == len(members)


def _is_walk(queries: Sequence[Query], values: Sequence[Sequence[Given]]) -> bool:
    """Whether every step asks for a value that the row of the step before has, always in the same column."""
    if any(len(each) != 1 for each in values) or any(query.rows is None or query.rows > 1 for query in queries):
        return False
    column = values[0][0].column
    rows = [query.first for query in queries]
    steps = [(row, each[0].value) for row, each in zip(rows, values[1:], strict=False)]
    if not steps or any(row is None for row, _ in steps):
        return False
    width = min(len(row) for row, _ in steps)
    same = [place for place in range(width) if all(_same(row[place], value) for row, value in steps)]
    if not same:
        return False
    leads_back = isinstance(column, Column) and any(
        key.references(column) for key in getattr(column.table, "columns", ()) if isinstance(key, Column)
    )
    return leads_back or (len(steps) > 1 and not isinstance(column, Column))


def _is_walk_by_levels(queries: Sequence[Query], values: Sequence[Sequence[Given]]) -> bool:
    """Whether every step asks for a list that the step before has found, as who goes down a tree level by level does.

    Of what was found, the first row and the number of rows are known: it must be in the next list, by one column for
    all steps. No step asks for what was asked before.
    """
    if any(len(each) != 1 or not isinstance(each[0].value, tuple) for each in values):
        return False
    lists: list[tuple[Any, ...]] = [each[0].value for each in values]
    asked = [value for each in lists for value in each]
    if len(set(map(repr, asked))) < len(asked) or max(map(len, lists)) < 2:
        return False
    steps = [(query.first, query.rows or 0, after) for query, after in zip(queries, lists[1:], strict=False)]
    if any(row is None or len(after) > rows for row, rows, after in steps):
        return False
    width = min(len(row) for row, _, _ in steps)
    return any(all(any(_same(row[place], each) for each in after) for row, _, after in steps) for place in range(width))


def _same(cell: Any, value: Any) -> bool:
    return cell is not None and (cell == value or str(cell) == str(value).strip("'"))


def _is_unit_of_work(queries: Sequence[Query], trace: Trace) -> bool:
    """Whether each was asked in a session of its own, and most of those wrote: a job for each, and meant so.

    Not all of them have to: a job may find that nothing is left to do.
    """
    sessions = [query.session for query in queries if query.session]
    if len(set(sessions)) < len(queries):
        return False
    writes = [query.order for query in trace.queries if query.did is Did.WRITE]
    orders = [query.order for query in queries]
    wrote = [any(begin < write < end for write in writes) for begin, end in pairwise([*orders, inf])]
    return sum(wrote) * 2 >= len(wrote)


def _loop(queries: Sequence[Query], values: Sequence[dict[str, Given]], varying: Sequence[str]) -> Finding:
    first = queries[0]
    mapper = entity_of(first)
    counts = is_aggregate(text_of(first))
    columns = list(dict.fromkeys(each.column for each in _only(values[0], varying)))
    if counts:
        kind = Kind.COUNT_IN_LOOP
    elif mapper is not None and "EXISTS" not in text_of(first).upper().partition("FROM")[0] and _fetches_one(first):
        kind = Kind.LOOPED_FETCH
    else:
        kind = Kind.REPEATED
    path = mapper.class_.__name__ if mapper is not None else table_of(first)
    parents = len({tuple(_hashable(each.get(name)) for name in varying) for each in values})
    return _finding(kind, queries, path, parents, for_a_list(first, columns, varying, counts=counts))


def _fetches_one(query: Query) -> bool:
    mapper = entity_of(query)
    by_key = mapper is not None and is_by_key(query, mapper)
    return by_key or (query.stack is not None and takes_one(query.stack))


def _duplicates(queries: Sequence[Query], trace: Trace) -> Iterator[Finding]:
    """Equal questions that nothing can have changed the answer of: no write to the table, no new transaction."""
    first = queries[0]
    if len(queries) < MIN_DUPLICATES or first.stack is None or waits_between(first.stack):
        return
    alike: list[Query] = []
    longest: list[Query] = []
    for query in queries:
        if alike and (query.session != alike[-1].session or _changed(alike[-1], query, trace)):
            alike = []
        alike.append(query)
        longest = max(longest, alike, key=len) if len(alike) < len(longest) else list(alike)
    if len(longest) < MIN_DUPLICATES:
        return
    mapper = entity_of(first)
    path = mapper.class_.__name__ if mapper is not None else table_of(first)
    origin = first.stack.origin
    fix = fixes.cached(origin.function if origin is not None else "", path)
    yield _finding(Kind.DUPLICATE, longest, path, 1, fix)


def _changed(before: Query, after: Query, trace: Trace) -> bool:
    table = table_of(after)
    return any(
        query.did is Did.ROLLBACK or (query.did is Did.WRITE and table in text_of(query))
        for query in trace.queries[before.order + 1 : after.order]
    )


def _finding(kind: Kind, queries: Sequence[Query], path: str, parents: int, fix: str) -> Finding:
    first = queries[0]
    site = None if first.stack is None else first.stack.origin
    return Finding(
        kind=kind,
        path=path,
        parents=parents,
        statements=len(queries),
        wasted_ms=wasted(queries),
        origin=None,
        site=site,
        sql=sample_of(first),
        fix=fix,
    )
