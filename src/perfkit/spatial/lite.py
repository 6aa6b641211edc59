"""GeoAlchemy2's Geometry on the SQLite that comes with Python, with no extension to load.

    engine = create_async_engine("sqlite+aiosqlite:///waste.db")
    lite.install(engine)

Every connection then knows PostGIS's functions (functions.py) and the calls that GeoAlchemy2 makes around CREATE and
DROP TABLE (columns.py). Such a file can be read with any SQLite, and be written only with these functions at hand.

Enough for a demo and for tests: distances are PostGIS's to a millimetre, two points take about 5 µs; there are no
operators (`&&`, `<->`) and no other SRID than the one a geometry came with.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial, wraps
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from perfkit.errors import GeometryError, SpatialError
from perfkit.spatial.columns import Columns
from perfkit.spatial.functions import FUNCTIONS, SPATIALITE_NAMES

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_installed: WeakSet[Engine] = WeakSet()
_RAISED_IN_PYTHON = "user-defined function raised exception"


def install(engine: Engine | AsyncEngine) -> None:
    """Make every new connection of `engine` spatial; a second time changes nothing.

    Costs about 0.2 ms for each new connection. Call it before the first one is made: connections that the pool
    already holds stay as they are.

    Raises:
        SpatialError: the engine is not SQLite's.
        MissingExtra: shapely is not installed; raised where this module is imported.
    """
    sync = engine if isinstance(engine, Engine) else engine.sync_engine
    if sync.dialect.name != "sqlite":
        raise SpatialError(
            f"lite.install() is for SQLite; this engine speaks {sync.dialect.name}, which PostGIS can serve."
        )
    # not event.contains(): it goes by the engine's id, which a new engine may have taken over from one that is gone
    if sync not in _installed:
        _installed.add(sync)
        event.listen(sync, "do_connect", _with_factory)
        event.listen(sync, "handle_error", _say_what_happened)


class _Trouble:
    """The last exception of a function on one connection, of which sqlite3 tells no more than that there was one."""

    def __init__(self) -> None:
        self.last: Exception | None = None


def _with_factory(dialect: Any, record: Any, args: Any, options: dict[str, Any]) -> None:
    """Let sqlite3, in whichever thread it is called, make connections that know our functions."""
    trouble = record.info["perfkit.spatial"] = _Trouble()
    options["factory"] = partial(_connect, options.get("factory", sqlite3.Connection), trouble)


def _connect(
    make: Callable[..., sqlite3.Connection], trouble: _Trouble, /, *args: Any, **options: Any
) -> sqlite3.Connection:
    options.pop("factory", None)  # sqlite3 hands on the one it was given, which is this function
    connection = make(*args, **options)
    _register(connection, trouble)
    return connection


def _register(connection: sqlite3.Connection, trouble: _Trouble) -> None:
    for (name, width), function in FUNCTIONS.items():
        guarded = _null_in_null_out(_noting(trouble, function))
        connection.create_function(name, width, guarded, deterministic=True)
        for other, ours in SPATIALITE_NAMES.items():
            if ours == name:
                connection.create_function(other, width, guarded, deterministic=True)
    for name, (width, call) in Columns(connection).calls.items():
        connection.create_function(name, width, _noting(trouble, call))


def _noting(trouble: _Trouble, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def noting(*args: Any) -> Any:
        try:
            return function(*args)
        except Exception as why:
            trouble.last = why
            raise

    return noting


def _null_in_null_out(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: None if None in args else function(*args)


def _say_what_happened(context: ExceptionContext) -> None:
    """Raise what a function raised in place of SQLite's sentence that one did."""
    if context.connection is None or _RAISED_IN_PYTHON not in str(context.original_exception):
        return
    trouble = context.connection.info.get("perfkit.spatial")
    if trouble is not None and trouble.last is not None:
        why, trouble.last = trouble.last, None
        if isinstance(why, SpatialError):
            raise why from context.original_exception
        raise GeometryError(f"{type(why).__name__}: {why}") from context.original_exception
