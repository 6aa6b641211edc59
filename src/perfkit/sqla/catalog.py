"""What a database's own catalog says: which relations are no plain tables, which are kin, which functions there are.

Asked once per engine, at the first connection that is checked out after `watch`, and again after DDL. Where it cannot
be asked, the metadata is taken at its word.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import Engine, event

_POSTGRESQL = """
    SELECT c.relname, CASE c.relpersistence WHEN 't' THEN 't' ELSE c.relkind::text END, c.relrowsecurity, p.relname
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
    LEFT JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
"""
_ASK = {
    "postgresql": _POSTGRESQL,
    "sqlite": (
        # an R*Tree has its rows to itself; that of a geometry is read beside its table
        "SELECT name, CASE WHEN sql LIKE 'CREATE VIRTUAL%' AND sql NOT LIKE '%USING rtree%' THEN 'virtual'"
        " ELSE type END, 0, NULL"
        " FROM sqlite_master WHERE type IN ('table', 'view')"
    ),
    "mysql": "SELECT table_name, table_type, 0, NULL FROM information_schema.tables WHERE table_schema = DATABASE()",
    "mariadb": "SELECT table_name, table_type, 0, NULL FROM information_schema.tables WHERE table_schema = DATABASE()",
}
# of the owner's own, and such as may read tables
_ASK_FUNCTIONS = {
    "postgresql": """
        SELECT p.proname
        FROM pg_catalog.pg_proc p
        JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND p.provolatile <> 'i'
        AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_depend d
            WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
        )
    """,
    "mysql": "SELECT routine_name FROM information_schema.routines WHERE routine_type = 'FUNCTION'",
    "mariadb": "SELECT routine_name FROM information_schema.routines WHERE routine_type = 'FUNCTION'",
}
SECURED = "a table with row security"
TEMPORARY = "a temporary table, which each session has to itself"
_WHY = {
    "virtual": "a virtual table",
    "v": "a view",
    "view": "a view",
    "VIEW": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "t": TEMPORARY,
    "TEMPORARY": TEMPORARY,
    "SYSTEM VIEW": "a system view",
}


class Relations(NamedTuple):
    """`hiding`: relations that read more than their own rows, and what they are. `kin`: partitions and parents.

    `functions`: those that somebody has made in this database, in upper case.
    """

    tables: frozenset[str] = frozenset()
    hiding: dict[str, str] = {}  # noqa: RUF012 - never changed
    kin: dict[str, frozenset[str]] = {}  # noqa: RUF012 - never changed
    functions: frozenset[str] = frozenset()


NOTHING_KNOWN = Relations()


class Catalog:
    """The relations of one engine's database, as far as they were asked for."""

    def __init__(self, engine: Engine) -> None:
        self.relations = NOTHING_KNOWN
        self._is_current = False
        self._ask = _ASK.get(engine.dialect.name)
        self._engine = engine
        if self._ask is not None:
            event.listen(engine, "checkout", self._on_checkout)

    def forget(self) -> None:
        """Something may have changed: ask again at the next occasion."""
        self._is_current = False

    def close(self) -> None:
        if self._ask is not None:
            event.remove(self._engine, "checkout", self._on_checkout)

    def _on_checkout(self, dbapi_connection: Any, record: Any, proxy: Any) -> None:
        if self._is_current:
            return
        self._is_current = True
        try:
            found = relations_in(_rows(dbapi_connection, self._ask or ""))
            functions = _ASK_FUNCTIONS.get(self._engine.dialect.name)
            if functions is not None:
                made = frozenset(str(name).upper() for (name,) in _rows(dbapi_connection, functions))
                found = found._replace(functions=made)
            self.relations = found
        except Exception:  # noqa: BLE001 - each driver has its own; a user's connection must not fail for this
            self.relations = NOTHING_KNOWN


def relations_in(rows: Iterable[tuple[Any, ...]]) -> Relations:
    """Rows of name, kind, row security, parent, put in order."""
    tables: set[str] = set()
    hiding: dict[str, str] = {}
    near: dict[str, set[str]] = {}
    for name, kind, is_secured, parent in rows:
        why = _WHY.get(str(kind)) or (SECURED if is_secured else None)
        if why is None:
            tables.add(name)
        else:
            hiding[name] = why
        if parent is not None:
            near.setdefault(name, set()).add(parent)
            near.setdefault(parent, set()).add(name)
    for name in tables & hiding.keys():
        if hiding[name] == TEMPORARY:
            del hiding[name]  # made by one session in front of the table that all others see
    return Relations(frozenset(tables), hiding, {name: frozenset(_family(name, near) - {name}) for name in near})


def _family(name: str, near: dict[str, set[str]]) -> set[str]:
    found, ahead = {name}, [name]
    while ahead:
        for other in near.get(ahead.pop(), ()):
            if other not in found:
                found.add(other)
                ahead.append(other)
    return found


def _rows(dbapi_connection: Any, ask: str) -> list[tuple[Any, ...]]:
    cursor = dbapi_connection.cursor()
    try:
        cursor.execute(ask)
        return [tuple(row) for row in cursor.fetchall()]
    finally:
        cursor.close()
        dbapi_connection.rollback()
