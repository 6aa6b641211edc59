"""A session like another: for work that goes on when the one who asked for it has left."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.pool import AssertionPool, SingletonThreadPool, StaticPool

_OURS = "perfkit."
_SINGLE = (SingletonThreadPool, StaticPool, AssertionPool)


def spare_of(session: Any) -> Session | AsyncSession | None:
    """A new session of the same class on the same engine, with the same `info`; None if there can be none.

    There can be none of a session that is bound to a connection or to several engines, of a `scoped_session`, of a
    class that is made in another way, of a connection, and of an engine whose pool has no second connection to the same
    database: SQLite in memory. Who takes it closes it.
    """
    if isinstance(session, AsyncSession):
        if not isinstance(session.bind, AsyncEngine) or session.binds or _is_single(session.bind.sync_engine):
            return None
        options: dict[str, Any] = {"bind": session.bind, "sync_session_class": type(session.sync_session)}
    elif isinstance(session, Session):
        if not isinstance(session.bind, Engine) or session.binds or _is_single(session.bind):
            return None
        options = {"bind": session.bind}
    else:
        return None
    try:
        spare = type(session)(**options)
    except TypeError:
        return None
    if spare.bind is not session.bind:
        return None
    spare.info.update({key: value for key, value in session.info.items() if not str(key).startswith(_OURS)})
    return cast(Session | AsyncSession, spare)


def _is_single(engine: Engine) -> bool:
    return isinstance(engine.pool, _SINGLE)
