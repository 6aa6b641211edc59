"""The door of executions: every statement that code in a context runs, noted when it has run.

A note is raw: references to what SQLAlchemy has anyway, and one number. It is read when its window closes, or never.
For a statement of a Session, the note begins in `do_orm_execute`, travels to the cursor as an execution option, and
has the number by which `trace.recorder` finds out which query loaded an object. Statements of Core begin at the cursor.

Proof of what is relied on: tests/facts/test_loading.py. What it costs: `python -m benchmarks detecting`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from time import perf_counter
from typing import Any

from sqlalchemy import Connection, Engine, Result, event
from sqlalchemy.orm import Mapper, ORMExecuteState, Session

from perfkit.sqla.origin import Stack, stack_here
from perfkit.sqla.private import count_rows, joined_paths, loaded_by, loading_of, loads_subclass, run_number
from perfkit.sqla.reading import is_tracked, note_whole, track

OPTION = "perfkit_execution"
AUTOBATCH = "perfkit_autobatch"
MAX_KEPT = 5_000  # rows of one statement with joined eager loads; more tell nothing new

IN_ORM, IN_CORE = 1, 5  # frames of SQLAlchemy from its event to what the application called, at the least

Take = Callable[["Execution"], None]
BeforeLoad = Callable[[ORMExecuteState], Result[Any] | None]


class Did(Enum):
    """What an execution was for."""

    TOP = "a query of a Session"
    LAZY = "a relationship of one object, when it was touched"
    EAGER = "a relationship, or a subclass's columns, of all objects of another query"
    COLUMNS = "columns of one object, when they were touched"
    REFRESH = "an object that the application wants to have anew"
    BATCH = "a relationship of several objects, by auto-batching"
    CORE = "a statement without a Session, or SQL text"
    WRITE = "an INSERT, UPDATE or DELETE"
    COMMIT = "a COMMIT"
    ROLLBACK = "a ROLLBACK"


class Execution:
    """One statement that has run, as raw as it came. Owned by the thread that runs it until it is taken.

    What is not set is left to the class: half of it never is.
    """

    number = 0
    session = 0
    state: Any = None  # the InstanceState whose attribute is loaded
    runid: int | None = None  # by which query `state` was loaded before this
    load_path: Any = None  # along which relationships it was loaded before this
    path: Any = None  # along which relationships this loads
    names: frozenset[str] | None = None  # columns, if not all
    parent: Execution | None = None  # whose objects this loads something for
    stack: Stack | None = None
    began = 0.0
    compiled: Any = None
    parameters: Any = None
    sql = ""
    dialect = ""
    ms = 0.0
    rows: int | None = 0  # as far as they were fetched; None if nobody counted
    first: Any = None  # the first row, as the driver gave it
    joined: tuple[tuple[Any, ...], ...] = ()  # paths that joined eager loading fills
    keeps = 0  # rows that are still to be kept
    kept: list[Any] | None = None
    unit: object = None  # in which `apart` it ran

    def __init__(self, did: Did) -> None:
        self.did = did


# an attribute of an Enum takes 0.1 µs to read
_BATCH, _COLUMNS, _COMMIT, _CORE, _EAGER, _LAZY, _REFRESH, _ROLLBACK, _TOP, _WRITE = (
    Did.BATCH,
    Did.COLUMNS,
    Did.COMMIT,
    Did.CORE,
    Did.EAGER,
    Did.LAZY,
    Did.REFRESH,
    Did.ROLLBACK,
    Did.TOP,
    Did.WRITE,
)

_ELSEWHERE = (
    "A window was closed in another context than it was opened in, and has seen nothing of what ran in this one. "
    "Open it where the statements run: in the function itself, not in a dependency or a fixture that a thread runs."
)

_takers: ContextVar[tuple[Take, ...]] = ContextVar("perfkit_executions", default=())
_before_load: ContextVar[BeforeLoad | None] = ContextVar("perfkit_before_load", default=None)
_users: set[object] = set()


@contextmanager
def noting(take: Take, before_load: BeforeLoad | None = None) -> Iterator[None]:
    """Hand `take` the executions of this context, of tasks that it starts, and of none of its other threads.

    Several may end in any order: each takes away what is its own. `before_load` is asked before each lazy load, of a
    relationship or of columns, and may answer it or raise; the last one that somebody gave stays for the context.
    """
    _takers.set((*_takers.get(), take))
    if before_load is not None:
        _before_load.set(before_load)
    try:
        yield
    finally:
        before = _takers.get()
        _takers.set(tuple(each for each in before if each is not take))
        if take not in before:
            warnings.warn(_ELSEWHERE, RuntimeWarning, stacklevel=2)


@contextmanager
def apart() -> Iterator[None]:
    """Inside, executions are of a unit of their own, such as a request: a loop around it is not theirs.

    Who notes executions already is told the innermost unit. Costs nothing where nobody notes any.
    """
    takers = _takers.get()
    if not takers:
        yield
        return
    unit = object()

    def mark(execution: Execution) -> None:
        if execution.unit is None:
            execution.unit = unit

    before = _takers.set((mark, *takers))
    try:
        yield
    finally:
        _takers.reset(before)


def open_door() -> Callable[[], None]:
    """Begin to see executions of all engines and sessions. Returns the function that ends it; the last one ends it."""
    user = object()
    if not _users:
        for target, name, listener in _LISTENERS:
            # before others: who answers a statement from a cache is asked afterwards, and may still do so
            options = {"retval": True} if listener is _before else {}
            event.listen(target, name, listener, insert=True, **options)
    _users.add(user)

    def close() -> None:
        if user in _users:
            _users.remove(user)
            if not _users:
                for target, name, listener in _LISTENERS:
                    event.remove(target, name, listener)

    return close


def _on_orm(orm: ORMExecuteState) -> Result[Any] | None:
    if not _takers.get():
        return None
    statement: Any = orm.statement
    if not statement.is_select:
        if orm.is_insert or orm.is_update or orm.is_delete:
            _note_write(orm)
        return None
    options = orm.execution_options
    lazy, refreshed, by_user = loading_of(orm)
    parent = options.get(OPTION)
    if AUTOBATCH in options:
        did = _BATCH
    elif lazy is not None:
        did = _LAZY
    elif refreshed is not None:
        did = _REFRESH if by_user else _COLUMNS
    elif parent is not None or loads_subclass(orm):
        did = _EAGER
    else:
        did = _TOP if orm.is_orm_statement else _CORE
    noted = Execution(did)
    noted.number = run_number()
    noted.session = orm.session.hash_key
    noted.stack = stack_here(skip=IN_ORM)
    state = lazy if lazy is not None else refreshed
    if state is not None:
        noted.state, noted.runid, noted.load_path = state, state.runid, state.load_path
        noted.names, noted.path = loaded_by(orm)
    elif parent is not None:
        noted.parent, (_, noted.path) = parent, loaded_by(orm)
        if noted.path is not None:
            track(getattr(noted.path, "prop", None))
    elif did is _EAGER:
        _, noted.path = loaded_by(orm)
    orm.update_execution_options(**{OPTION: noted})
    if (did is _LAZY or did is _COLUMNS) and (before_load := _before_load.get()) is not None:
        return before_load(orm)
    return None


def _note_write(orm: ORMExecuteState) -> None:
    """INSERT … RETURNING and the like load objects, too."""
    noted = Execution(_WRITE)
    noted.number = run_number()
    noted.session = orm.session.hash_key
    noted.stack = stack_here(3)
    orm.update_execution_options(**{OPTION: noted})


def _before(connection: Connection, cursor: Any, sql: str, parameters: Any, context: Any, many: bool) -> Any:
    """Gives back what it got: SQLAlchemy would wrap it in another function to do so."""
    if not _takers.get() or context is None:
        return sql, parameters
    noted = context.execution_options.get(OPTION)
    if noted is None or noted.dialect:
        is_write = context.isinsert or context.isupdate or context.isdelete or many
        noted = Execution(_WRITE if is_write else _CORE)
        noted.session = -id(connection.engine)
        noted.stack = stack_here(skip=IN_CORE)
    context.perfkit_noted = noted
    noted.began = perf_counter()
    return sql, parameters


def _after(connection: Connection, cursor: Any, sql: str, parameters: Any, context: Any, many: bool) -> None:
    noted = getattr(context, "perfkit_noted", None)
    takers = _takers.get()
    if noted is None or not takers:
        return
    noted.ms = (perf_counter() - noted.began) * 1000
    context.perfkit_noted = None
    compiled = noted.compiled = context.compiled
    noted.sql = sql
    noted.dialect = connection.dialect.name
    did = noted.did
    if did is not _WRITE:
        noted.parameters = parameters if compiled is None else context.compiled_parameters
        if did is not _CORE:
            joined = joined_paths(compiled)
            if joined:
                noted.joined = joined
                noted.keeps = MAX_KEPT
                for path in joined:
                    track(path[-1])
        count_rows(context, noted)
    for take in takers:
        take(noted)


def _on_commit(connection: Connection) -> None:
    _mark(_COMMIT)


def _on_rollback(connection: Connection) -> None:
    _mark(_ROLLBACK)


def _mark(did: Did) -> None:
    for take in _takers.get():
        take(Execution(did))


def _on_pickle(instance: Any, state: dict[str, Any]) -> None:
    if is_tracked():
        note_whole(instance)


def _on_delete(session: Session, instance: Any) -> None:
    if is_tracked():
        note_whole(instance)


_LISTENERS: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
    (Session, "do_orm_execute", _on_orm),
    (Engine, "before_cursor_execute", _before),
    (Engine, "after_cursor_execute", _after),
    (Engine, "commit", _on_commit),
    (Engine, "rollback", _on_rollback),
    (Mapper, "pickle", _on_pickle),
    (Session, "persistent_to_deleted", _on_delete),
)
