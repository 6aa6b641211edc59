"""Raw executions → records: which query loaded the object whose attribute is touched, and along which path.

Every object knows the number of the run that loaded it last, every execution a number drawn before its own run. Inside
one session runs do not overlap, so an object was loaded by the last execution whose number is smaller. That of a
refresh leads on to the one before it. Objects from before the window have a run that no execution of it has, and are
still told apart by it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

from perfkit.sqla.executions import Did, Execution
from perfkit.sqla.reading import ANY, EARLIER
from perfkit.trace.records import Load, Path, Query, Step, Trace, path_of


def trace_of(executions: Sequence[Execution], reads: frozenset[tuple[str, int | None]]) -> Trace:
    """The records of these executions."""
    return _Recorder(executions).trace(reads)


class _Source(NamedTuple):
    """Where an object is from: equal groups are of one query; its root if that is known, and the path from there."""

    group: Hashable
    root: Execution | None
    path: Path


class _Recorder:
    """Owns what is known of each execution while records are made."""

    def __init__(self, executions: Sequence[Execution]) -> None:
        self._executions = executions
        self._queries = {id(each): _query(each, order) for order, each in enumerate(executions)}
        self._sources: dict[int, _Source] = {}
        by_session: defaultdict[int, list[Execution]] = defaultdict(list)
        for each in executions:
            if each.number:
                by_session[each.session].append(each)
        for several in by_session.values():
            several.sort(key=lambda each: each.number)
        self._runs = {session: ([each.number for each in several], several) for session, several in by_session.items()}

    def trace(self, reads: frozenset[tuple[str, int | None]]) -> Trace:
        loads = [load for each in self._executions if (load := self._load(each)) is not None]
        return Trace(queries=tuple(self._queries.values()), loads=tuple(loads), read=self._read(reads))

    def _read(self, reads: Iterable[tuple[str, int | None]]) -> dict[Query, frozenset[str]]:
        """Of which queries' objects each name was read; where that is doubtful, of all that it may be."""
        found: defaultdict[Query, set[str]] = defaultdict(set)
        unknown = max((run or 0 for name, run in reads if name == EARLIER), default=0)
        for query in self._queries.values():
            if query.run < unknown:
                found[query].add(ANY)
        for name, run in reads:
            for session in self._runs:
                at = None if run is None else self._before(session, run)
                while at is not None:
                    found[self._queries[id(at)]].add(name)
                    earlier = at.runid if at.did in (Did.COLUMNS, Did.REFRESH) else None
                    at = None if earlier is None else self._before(session, earlier)
        return {query: frozenset(names) for query, names in found.items()}

    def _load(self, execution: Execution) -> Load | None:
        if execution.did not in (Did.LAZY, Did.COLUMNS, Did.EAGER):
            return None
        source = self._source(execution)
        if execution.did is Did.EAGER and not source.path:
            return None  # columns of a subclass
        state = execution.state
        return Load(
            query=self._queries[id(execution)],
            path=source.path,
            parent=None if state is None else state.key or id(state),
            group=source.group,
            root=None if source.root is None else self._queries.get(id(source.root)),
            of=None if execution.parent is None else self._queries.get(id(execution.parent)),
            names=execution.names,
            entity=None if state is None else state.mapper,
        )

    def _source(self, execution: Execution) -> _Source:
        """Where the objects are from for which it loads something, and the path to what it loads."""
        known = self._sources.get(id(execution))
        if known is None:
            known = self._sources[id(execution)] = self._find(execution)
        return known

    def _find(self, execution: Execution) -> _Source:
        match execution.did:
            case Did.LAZY:
                parents = self._loaded_by(execution)
                key = execution.path.path[-1].key
                return parents._replace(path=(*parents.path, Step(execution.state.mapper, key)))
            case Did.COLUMNS:
                return self._loaded_by(execution)
            case Did.EAGER | Did.BATCH if execution.parent is not None:
                return self._along(execution.parent, execution.path)
            case Did.EAGER if (before := self._before(execution.session, execution.number)) is not None:
                # columns of a subclass: SQLAlchemy does not say whose, and asks for them at once
                return self._source(before)._replace(path=_path(execution.path))
            case _:
                return _Source(("query", id(execution)), execution, ())

    def _loaded_by(self, execution: Execution) -> _Source:
        """Where the object is from whose attribute this loads."""
        path = _path(execution.load_path)
        if execution.runid is None:
            return _Source(("new", execution.session), None, path)
        before = self._before(execution.session, execution.runid)
        if before is None or before is execution:
            return _Source(("run", execution.session, execution.runid), None, path)
        if before.did is Did.COLUMNS and before.state is execution.state:
            return self._source(before)
        return self._along(before, execution.load_path)

    def _along(self, before: Execution, registry: Any) -> _Source:
        """What is loaded along a path of SQLAlchemy's, which begins where the query before began its own."""
        source, path = self._source(before), _path(registry)
        begun = _path(before.path) if before.did in (Did.LAZY, Did.EAGER, Did.BATCH) else ()
        if path[: len(begun)] == begun:
            return source._replace(path=(*source.path, *path[len(begun) :]))
        return source._replace(path=path)

    def _before(self, session: int, run: int) -> Execution | None:
        numbers, executions = self._runs.get(session, ([], []))
        place = bisect_left(numbers, run) - 1
        return executions[place] if place >= 0 else None


def _query(execution: Execution, order: int) -> Query:
    return Query(
        order=order,
        run=execution.number,
        did=execution.did,
        session=execution.session,
        statement=getattr(execution.compiled, "statement", None),
        compiled=execution.compiled,
        parameters=execution.parameters,
        sql=execution.sql,
        dialect=execution.dialect,
        ms=execution.ms,
        rows=execution.rows,
        first=execution.first,
        joined=execution.joined,
        kept=execution.kept,
        stack=execution.stack,
        unit=execution.unit,
    )


def _path(registry: Any) -> Path:
    return () if registry is None else path_of(registry.path)
