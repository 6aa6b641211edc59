"""Whether anything may have changed what a connection reads, from the connection's own point of view.

Told are statements of every kind that are not known to read only, the end of the transaction, and the way back to a
savepoint. A SELECT of a function that perfkit does not know may write, and one that locks rows reads what others have
committed meanwhile.
Listeners stand on the one connection, so that no other pays for them; they go with it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, event
from sqlalchemy.sql.compiler import Compiled

from perfkit.sqla.functions import VOLATILE, is_known
from perfkit.sqla.naming import named_in
from perfkit.sqla.statements import writes_of

_ENDS = ("commit", "rollback", "rollback_savepoint", "commit_twophase", "rollback_twophase")
_reads_only: WeakKeyDictionary[Compiled, bool] = WeakKeyDictionary()


def tell_of_writes(connection: Connection, told: Callable[[], None]) -> None:
    """Call the method `told` before each statement of `connection` that may write, and after its transaction.

    Its object is not kept alive.
    """
    method = weakref.WeakMethod(told)

    def tell(*_: Any) -> None:
        if (call := method()) is not None:
            call()

    def before_cursor_execute(
        connection: Connection, cursor: Any, sql: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        if not reads_only(context.compiled, sql):
            tell()

    event.listen(connection, "before_cursor_execute", before_cursor_execute)
    for name in _ENDS:
        event.listen(connection, name, _TAKING[name](tell))


_TAKING: dict[str, Callable[[Callable[..., None]], Any]] = {
    "commit": lambda tell: lambda connection: tell(),
    "rollback": lambda tell: lambda connection: tell(),
    "rollback_savepoint": lambda tell: lambda connection, name, context: tell(),
    "commit_twophase": lambda tell: lambda connection, xid, is_prepared: tell(),
    "rollback_twophase": lambda tell: lambda connection, xid, is_prepared: tell(),
}


def reads_only(compiled: Compiled | None, sql: str) -> bool:
    """Whether the statement is known to leave everything as it is."""
    if compiled is None:
        return _has_no_effect(compiled, sql)
    known = _reads_only.get(compiled)
    if known is None:
        known = _reads_only[compiled] = _has_no_effect(compiled, sql)
    return known


def _has_no_effect(compiled: Compiled | None, sql: str) -> bool:
    if writes_of(compiled, sql):
        return False
    named = named_in(sql)
    return not named.locks and all(is_known(name) and name not in VOLATILE for name in named.functions)
