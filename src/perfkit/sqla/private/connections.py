"""Connections and engines: whether statements commit by themselves, and which engine it is.

is_told_to_autocommit   Connection._is_autocommit_isolation   else: execution options only; an engine-wide
AUTOCOMMIT is then read from the connection
engine_isolation    Dialect._on_connect_isolation_level       else: None; the isolation level of
create_engine() is then not noticed
root_engine         OptionEngine._proxied             else: the engine itself; watch the one of create_engine()
"""

from __future__ import annotations

from sqlalchemy import Connection, Dialect, Engine


def is_autocommit(connection: Connection) -> bool:
    """True when each statement on `connection` commits by itself, whether SQLAlchemy has been told so or not."""
    return is_told_to_autocommit(connection) or _driver_commits(connection)


def is_told_to_autocommit(connection: Connection) -> bool:
    """True when SQLAlchemy knows that each statement commits by itself."""
    probe = getattr(connection, "_is_autocommit_isolation", None)
    if probe is not None:
        return bool(probe())
    return connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"


def _driver_commits(connection: Connection) -> bool:
    """Whether `connect_args` have told the driver alone: `autocommit=True`, or `isolation_level=None` in SQLite."""
    if connection.dialect.name == "sqlite":
        raw = connection.connection.driver_connection
        by_itself = getattr(raw, "isolation_level", "") is None or getattr(raw, "autocommit", None) is True
        # a BEGIN of one's own, as SQLAlchemy's manual has it, makes a transaction
        return by_itself and not getattr(raw, "in_transaction", False)
    adapter = connection.connection.dbapi_connection
    if connection.dialect.name == "postgresql":
        return getattr(adapter, "autocommit", False) is True
    asked = getattr(adapter, "get_autocommit", None)
    return callable(asked) and asked() is True


def engine_isolation(dialect: Dialect) -> str | None:
    """The isolation level that `create_engine(isolation_level=…)` asked for, if it did."""
    return getattr(dialect, "_on_connect_isolation_level", None)


def root_engine(engine: Engine) -> Engine:
    """The engine of `create_engine()` from which `execution_options` made this one; most often itself.

    Events of the root fire for all that were made of it, and not the other way round.
    """
    root: Engine = engine
    while (parent := getattr(root, "_proxied", None)) is not None:
        root = parent
    return root
