"""What an execution of a session is for, and who else is told of it.

loading_of          _sa_orm_load_options, its _lazy_loaded_from, ._refresh_state, ._is_user_refresh
else: public names only; column loads are top queries
loaded_by           Select._compile_options           else: None; what is loaded has no path
refresh_of          load_options._refresh_state, ._is_user_refresh,
compile_options._only_load_props  else: None; columns are not batched
is_legacy_query     load_options._legacy_uniquing         else: True; statements are not cached
has_listeners_left,
listeners_left      ORMExecuteState._remaining_events     else: True; statements are not cached, nor loads batched
listeners_of,
listeners_behind    Session.dispatch.do_orm_execute   else: one is taken to be there, and nobody behind
part_listeners      _ListenerCollection.listeners     else: False; sessions with listeners are not batched
"""

from __future__ import annotations

from collections import deque
from typing import Any

from sqlalchemy.orm import InstanceState, ORMExecuteState, Session


def loading_of(orm: ORMExecuteState) -> tuple[Any, Any, bool]:
    """Of a SELECT: whose relationship is touched, or whose columns are read, and if by the user's wish."""
    loads: Any = orm.execution_options.get("_sa_orm_load_options")
    if loads is None:
        return None, None, False
    try:
        return loads._lazy_loaded_from, loads._refresh_state, loads._is_user_refresh  # noqa: SLF001
    except AttributeError:
        return None, None, False


def loaded_by(orm: ORMExecuteState) -> tuple[frozenset[str] | None, Any]:
    """Of a SELECT that SQLAlchemy makes itself: which columns it is for, if not all, and along which path it loads."""
    compiles: Any = getattr(orm.statement, "_compile_options", None)
    try:
        return compiles._only_load_props, compiles._current_path  # noqa: SLF001
    except AttributeError:
        return None, None


def loads_subclass(orm: ORMExecuteState) -> bool:
    """Whether a SELECT is that of `selectin_polymorphic`, for what only some of another query's objects have.

    It is sent as if the application had asked; its one parameter has a name that SQLAlchemy made.
    """
    parameters = orm.parameters
    return parameters is not None and "primary_keys" in parameters and len(parameters) == 1


def refresh_of(execution: ORMExecuteState) -> tuple[InstanceState[Any], frozenset[str]] | None:
    """Whose columns a column load is for, and their names; None where somebody has called `refresh()`."""
    state = getattr(execution.load_options, "_refresh_state", None)
    names = getattr(getattr(execution.statement, "_compile_options", None), "_only_load_props", None)
    if state is None or not names or getattr(execution.load_options, "_is_user_refresh", True):
        return None
    return state, frozenset(names)


def is_legacy_query(state: ORMExecuteState) -> bool:
    """Whether a `Query` executes it, which looks into its result for more than rows."""
    return bool(getattr(state.load_options, "_legacy_uniquing", True))


def has_listeners_left(state: ORMExecuteState) -> bool:
    """Whether others who listen to `do_orm_execute` are still to be told of this one, and may change it."""
    left: Any = getattr(state, "_remaining_events", None)
    return left is None or bool(left())


def listeners_left(state: ORMExecuteState) -> list[Any]:
    """Who is still to be told of this one."""
    left: Any = getattr(state, "_remaining_events", None)
    return [None] if left is None else list(left())


def listeners_of(session: Session) -> list[Any]:
    """Who listens to `do_orm_execute`."""
    return list(getattr(session.dispatch, "do_orm_execute", (None,)))


def listeners_behind(session: Session, listener: Any) -> list[Any]:
    """Who of them is told after `listener`."""
    told = listeners_of(session)
    return told[told.index(listener) + 1 :] if listener in told else []


def part_listeners(session: Session) -> bool:
    """Let those who go through its listeners to `do_orm_execute` go on through them, though one is added now."""
    collection: Any = getattr(session.dispatch, "do_orm_execute", None)
    listeners = getattr(collection, "listeners", None)
    if listeners:
        if not isinstance(listeners, deque):
            return False
        collection.listeners = deque(listeners)
    return True
