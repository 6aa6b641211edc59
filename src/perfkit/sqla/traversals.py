"""The door of traversals: an ORM select is about to run, and a relationship of what it loaded is touched.

Whoever watches is asked before each query of a session, and may add loader options to it. It answers with a token of
its own, and gets that back with each lazy load of an object that the query has loaded, itself or by further loads,
together with the path from the query's entity: `("customer", "bins[]", "tags[]")`, collections with brackets.

Every object knows the run that loaded it last, and every query draws a number before it runs: an object is of the last
query of its session with a smaller one. A query costs a walk over the frames and a number, a lazy load a search among
the numbers; what is loaded eagerly costs nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import ORMExecuteState, RelationshipProperty, Session

from perfkit.sqla.executions import AUTOBATCH
from perfkit.sqla.origin import Stack, stack_here
from perfkit.sqla.private import in_greenlet, loaded_by, loading_of, roots_of, run_number

OPTION = "perfkit_traversal"
MAX_QUERIES = 1_000  # of one session; objects of older ones are not told any more

Path = tuple[str, ...]


class Watcher(Protocol):
    """Who wants to know."""

    def started(
        self, statement: Any, entity: Any, stack: Stack, is_async: Callable[[], bool]
    ) -> tuple[Any, Sequence[Any]]:
        """A token for this query and entity, a class or an alias, and options to add. No token: it is left alone."""
        ...

    def touched(self, token: Any, path: Path, *, fails: bool) -> None:
        """A lazy load along `path`; `fails` if it cannot work, as code of asyncio has touched it."""
        ...


def watch_traversals(sessions: Any, watcher: Watcher) -> Callable[[], None]:
    """Tell `watcher` of the queries of `sessions`, a session class or factory; returns what ends it."""
    door = _Door(watcher)
    # before others: who answers a statement from elsewhere is asked afterwards, for the statement that results
    event.listen(sessions, "do_orm_execute", door.on_execute, insert=True)
    return lambda: event.remove(sessions, "do_orm_execute", door.on_execute)


class _Source(NamedTuple):
    """Of whom objects are: a token for each root, and how the path goes on from `prefix`.

    `base` is where the paths of the objects themselves begin. None: they have all been gone already.
    """

    tokens: tuple[tuple[Any, Any], ...]
    prefix: Path = ()
    base: tuple[Any, ...] | None = ()

    def of(self, state: Any) -> tuple[Any, Path] | None:
        """The token of an object, and the path to it."""
        if self.base is None:
            return self.tokens[0][1], self.prefix
        parts = tuple(state.load_path.path)
        if self.base and parts[: len(self.base)] == self.base:
            parts = parts[len(self.base) - 1 :]
        # without a path there is the object's own class, as after populate_existing
        at = parts[0] if parts else state.mapper
        found = [each for each in self.tokens if each[0] is None or at.mapper.isa(each[0].mapper)]
        # an alias is that of the statement which was compiled first: equal ones are told apart by their kind only
        found.sort(key=lambda each: each[0] is not None and each[0].is_mapper != at.is_mapper)
        return (found[0][1], (*self.prefix, *_names(parts))) if found else None


class _Queries:
    """The queries of one session: numbers that grow, and whose the objects are that ran after them."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._sources: list[_Source] = []

    def note(self, source: _Source) -> None:
        if len(self._numbers) >= MAX_QUERIES:
            del self._numbers[: MAX_QUERIES // 2], self._sources[: MAX_QUERIES // 2]
        self._numbers.append(run_number())
        self._sources.append(source)

    def of(self, state: Any) -> tuple[Any, Path] | None:
        if state.runid is None:
            return None
        place = bisect_left(self._numbers, state.runid) - 1
        return self._sources[place].of(state) if place >= 0 else None


_NOBODY = _Source(())


class _Door:
    """What one watcher is told. Owns what is known of each session."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._sessions: WeakKeyDictionary[Session, _Queries] = WeakKeyDictionary()

    def on_execute(self, orm: ORMExecuteState) -> None:
        if not orm.is_select or AUTOBATCH in orm.execution_options:
            return
        queries = self._sessions.get(orm.session)
        if queries is None:
            queries = self._sessions[orm.session] = _Queries()
        source = self._source(orm, queries)
        queries.note(source)
        orm.update_execution_options(**{OPTION: source})

    def _source(self, orm: ORMExecuteState, queries: _Queries) -> _Source:
        lazy, refreshed, _ = loading_of(orm)
        if lazy is not None:
            _, path = loaded_by(orm)
            return self._touched(orm, queries.of(lazy), () if path is None else tuple(path.path))
        if refreshed is not None:
            known = queries.of(refreshed)
            return _NOBODY if known is None else _Source(((None, known[0]),), known[1], None)
        outer = orm.execution_options.get(OPTION)
        if outer is not None and (orm.is_relationship_load or loaded_by(orm)[1]):
            source: _Source = outer
            return source
        return self._started(orm)

    def _touched(self, orm: ORMExecuteState, known: tuple[Any, Path] | None, parts: tuple[Any, ...]) -> _Source:
        steps = _names(parts[-2:])
        if known is None or not steps:
            return _NOBODY
        token, path = known[0], (*known[1], *steps)
        self._watcher.touched(token, path, fails=not in_greenlet() and _is_async(orm))
        # with options, what is loaded now has its path from the first root on; its last step ends at a mapper
        return _Source(((None, token),), path, (*parts, parts[-1].entity))

    def _started(self, orm: ORMExecuteState) -> _Source:
        statement: Any = orm.statement
        roots = roots_of(statement) if orm.is_orm_statement else ()
        if not roots:
            return _NOBODY
        stack = stack_here()
        tokens: list[tuple[Any, Any]] = []
        for root in roots:
            token, options = self._watcher.started(statement, root.entity, stack, lambda: _is_async(orm))
            if token is not None:
                tokens.append((root, token))
            if options:
                orm.statement = statement = statement.options(*options)
        return _Source(tuple(tokens))


def _names(parts: Sequence[Any]) -> tuple[str, ...]:
    return tuple(_with_brackets(parts))


def _with_brackets(parts: Sequence[Any]) -> Iterator[str]:
    for each in parts:
        if isinstance(each, RelationshipProperty):
            yield f"{each.key}[]" if each.uselist else each.key


def _is_async(orm: ORMExecuteState) -> bool:
    with suppress(SQLAlchemyError):
        return bool(orm.session.get_bind(**orm.bind_arguments).dialect.is_async)
    return False
