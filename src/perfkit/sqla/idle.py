"""How long the database lets a transaction sit idle, which bounds when a COMMIT can still arrive.

A process that is stopped between its mark and its COMMIT, and goes on after the mark's deadline, would commit unmarked.
The database itself can rule that out: it ends a transaction that has been idle for longer than its own limit.

    PostgreSQL    idle_in_transaction_session_timeout, milliseconds
    MariaDB       idle_transaction_timeout, seconds
    SQLite        has none, and no process beside this one to be late for
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import Engine, event

_INFO = "perfkit.idle_limit"


class Limit(NamedTuple):
    """The setting of one kind of database."""

    name: str
    ask: str
    set: str
    unit_ms: int


LIMITS = {
    "postgresql": Limit(
        "idle_in_transaction_session_timeout",
        "SELECT setting FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'",
        "SET idle_in_transaction_session_timeout = {}",
        1,
    ),
    "mariadb": Limit(
        "idle_transaction_timeout",
        "SELECT @@SESSION.idle_transaction_timeout",
        "SET SESSION idle_transaction_timeout = {}",
        1000,
    ),
}

Tell = Callable[[str, int], None]


def bound_idle(engine: Engine, *, limit_ms: int | None, tell: Tell) -> Callable[[], None]:
    """Set the limit on each connection of `engine`; or, for None, `tell` its name and milliseconds (0: none), once.

    Connections that were open before get it when they are checked out the next time; each costs one round trip, once.
    Returns the function that stops this. Does nothing on databases that have no such limit.
    """
    limit = LIMITS.get("mariadb" if getattr(engine.dialect, "is_mariadb", False) else engine.dialect.name)
    if limit is None:
        return lambda: None
    told: list[bool] = []

    def on_checkout(dbapi_connection: Any, record: Any, proxy: Any) -> None:
        if limit_ms is None:
            if not told:
                told.append(True)
                tell(limit.name, _asked(dbapi_connection, limit))
        elif record.info.get(_INFO, limit_ms + 1) > limit_ms:  # of two caches, the shorter limit is for both
            _run(dbapi_connection, limit.set.format(-(-limit_ms // limit.unit_ms)))
            record.info[_INFO] = limit_ms

    event.listen(engine, "checkout", on_checkout)
    return lambda: event.remove(engine, "checkout", on_checkout)


def _asked(dbapi_connection: Any, limit: Limit) -> int:
    cursor = dbapi_connection.cursor()
    cursor.execute(limit.ask)
    row = cursor.fetchone()
    cursor.close()
    dbapi_connection.rollback()
    return int(row[0]) * limit.unit_ms if row else 0


def _run(dbapi_connection: Any, statement: str) -> None:
    cursor = dbapi_connection.cursor()
    cursor.execute(statement)
    cursor.close()
    dbapi_connection.commit()  # rolled back, PostgreSQL would forget it
