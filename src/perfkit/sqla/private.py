"""Every name of SQLAlchemy that is not public and that perfkit uses: probed, with what happens without it.

    is_autocommit       Connection._is_autocommit_isolation   else: execution options only; an engine-wide
                                                              AUTOCOMMIT is then read from the connection
    engine_isolation    Dialect._on_connect_isolation_level       else: None; the isolation level of
                                                              create_engine() is then not noticed
    root_engine         OptionEngine._proxied             else: the engine itself; watch the one of create_engine()
    await_in_greenlet   sqlalchemy.util.await_                else: await_only, its name before 2.1
    mapped_classes      orm.mapper._all_registries        else: none are found; declare `cache_tags` in Table.info
    in_greenlet         sqlalchemy.util.concurrency           else: False; sync code under `run_sync` blocks

`tests/facts/test_sqlalchemy.py` says of each that it still does what we think.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Dialect, Engine, util
from sqlalchemy.orm import Mapper, Session

try:
    from sqlalchemy.util.concurrency import in_greenlet as _in_greenlet
except ImportError:  # pragma: no cover - a SQLAlchemy that has moved it
    _in_greenlet = None  # type: ignore[assignment]

T = TypeVar("T")

_await: Any = getattr(util, "await_", None) or getattr(util, "await_only", None)


def in_greenlet() -> bool:
    """True under `AsyncSession.run_sync` and inside the events of an async engine."""
    return _in_greenlet is not None and _in_greenlet()


def await_in_greenlet(awaitable: Awaitable[T]) -> T:
    """Wait for `awaitable` from sync code that an async engine is running."""
    answer: T = _await(awaitable)
    return answer


def is_autocommit(connection: Connection) -> bool:
    """True when each statement on `connection` commits by itself."""
    probe = getattr(connection, "_is_autocommit_isolation", None)
    if probe is not None:
        return bool(probe())
    return connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"


def engine_isolation(dialect: Dialect) -> str | None:
    """The isolation level that `create_engine(isolation_level=…)` asked for, if it did."""
    return getattr(dialect, "_on_connect_isolation_level", None)


def mapped_classes() -> list[type]:
    """Every class that a declarative base or registry of this process has mapped."""
    registries = getattr(sys.modules[Mapper.__module__], "_all_registries", None)
    if registries is None:
        return []
    return [mapper.class_ for registry in registries() for mapper in registry.mappers]


@contextmanager
def noticing_held(session: Session, held: Callable[[], None]) -> Iterator[None]:
    """Call `held` when the session hands out an entity, without SQL or over a row, that it has now."""
    identity_map = session.identity_map
    if not identity_map:
        yield
        return
    before = frozenset(identity_map.keys())
    outer = identity_map.get
    is_nested = "get" in vars(identity_map)

    def get(key: Any, default: Any = None) -> Any:
        if key in before:
            held()
        return outer(key, default)

    identity_map.get = get  # type: ignore[method-assign]
    try:
        yield
    finally:
        if is_nested:
            identity_map.get = outer  # type: ignore[method-assign]
        else:
            del identity_map.get


def root_engine(engine: Engine) -> Engine:
    """The engine of `create_engine()` from which `execution_options` made this one; most often itself.

    Events of the root fire for all that were made of it, and not the other way round.
    """
    root: Engine = engine
    while (parent := getattr(root, "_proxied", None)) is not None:
        root = parent
    return root
