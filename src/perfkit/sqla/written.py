"""Whether anything may have changed what a connection reads, from the connection's own point of view.

Told are statements of every kind that are not known to read only, the end of the transaction, and the way back to a
savepoint. A SELECT of a function that perfkit does not know may write, and one that locks rows reads what others have
committed meanwhile.
Listeners stand on the engine, once: to put six of them on each connection takes a sixth of a millisecond.
A connection that nobody asks about costs a look into a dictionary per statement.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, WeakMethod, WeakSet

from sqlalchemy import Connection, Engine, event
from sqlalchemy.sql.compiler import Compiled

from perfkit.sqla.functions import VOLATILE, is_known
from perfkit.sqla.naming import named_in
from perfkit.sqla.private import root_engine
from perfkit.sqla.statements import writes_of

_reads_only: WeakKeyDictionary[Compiled, bool] = WeakKeyDictionary()
_told: WeakKeyDictionary[Connection, list[WeakMethod[Callable[[], None]]]] = WeakKeyDictionary()
_engines: WeakSet[Engine] = WeakSet()


def tell_of_writes(connection: Connection, told: Callable[[], None]) -> None:
    """Call the method `told` before each statement of `connection` that may write, and after its transaction.

    Its object is not kept alive. Twice is the same as once.
    """
    engine = root_engine(connection.engine)
    if engine not in _engines:
        _engines.add(engine)
        for name, listener in _LISTENERS.items():
            event.listen(engine, name, listener)
    methods = _told.setdefault(connection, [])
    if (method := weakref.WeakMethod(told)) not in methods:
        methods[:] = [*(each for each in methods if each() is not None), method]


def tell_nobody() -> None:
    """Take the listeners off, and forget who was to be told."""
    for engine in list(_engines):
        for name, listener in _LISTENERS.items():
            event.remove(engine, name, listener)
    _engines.clear()
    _told.clear()


def _tell(connection: Connection, *_: Any) -> None:
    for method in _told.get(connection, ()):
        if (call := method()) is not None:
            call()


def _before_cursor_execute(
    connection: Connection, cursor: Any, sql: str, parameters: Any, context: Any, executemany: bool
) -> None:
    if connection in _told and not reads_only(context.compiled, sql, connection.dialect.name):
        _tell(connection)


def _on_end(connection: Connection) -> None:
    _tell(connection)


def _on_way_back(connection: Connection, name: str, context: Any) -> None:
    _tell(connection)


def _on_end_of_two_phases(connection: Connection, xid: Any, is_prepared: bool) -> None:
    _tell(connection)


_LISTENERS: dict[str, Callable[..., None]] = {
    "before_cursor_execute": _before_cursor_execute,
    "commit": _on_end,
    "rollback": _on_end,
    "rollback_savepoint": _on_way_back,
    "commit_twophase": _on_end_of_two_phases,
    "rollback_twophase": _on_end_of_two_phases,
}


def reads_only(compiled: Compiled | None, sql: str, dialect: str) -> bool:
    """Whether the statement is known to leave everything as it is."""
    if compiled is None:
        return _has_no_effect(compiled, sql, dialect)
    known = _reads_only.get(compiled)
    if known is None:
        known = _reads_only[compiled] = _has_no_effect(compiled, sql, dialect)
    return known


def _has_no_effect(compiled: Compiled | None, sql: str, dialect: str) -> bool:
    if writes_of(compiled, sql, dialect):
        return False
    named = named_in(sql)
    return not named.locks and all(is_known(name) and name not in VOLATILE for name in named.functions)
