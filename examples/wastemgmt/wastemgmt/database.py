"""The database: an engine, and sessions that read or write.

A `WriteSession` can be used wherever a `ReadSession` is asked for, and not the other way round: a function that
says `ReadSession` cannot be the reason for a commit. One commit per request, at the end of `writing()`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NewType

from sqlalchemy import URL, event, make_url, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from perfkit.paging import Cursors
from perfkit.spatial import lite
from wastemgmt.models import Base
from wastemgmt.models.base import Audited
from wastemgmt.perf import cache
from wastemgmt.settings import Settings

ReadSession = NewType("ReadSession", AsyncSession)
WriteSession = NewType("WriteSession", ReadSession)

DRIVERS = {"postgresql": "postgresql+psycopg", "sqlite": "sqlite+aiosqlite"}


class ReadOnly(RuntimeError):
    """A session that was opened for reading was about to write."""


class Database:
    """The engine of one process, and the cache connected to it. Close it with `aclose`."""

    def __init__(self, settings: Settings) -> None:
        self.engine = make_engine(
            settings.database_url, echo=settings.echo, pool_size=settings.pool_size, max_overflow=settings.max_overflow
        )
        self._cursors = Cursors(settings.cursor_secrets or None)
        self._cached = settings.cache_enabled
        if self._cached:
            cache.connect(settings.cache_url)
            cache.watch(self.engine, Base.metadata)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[ReadSession]:
        """A session for queries. Nothing is committed; a flush raises `ReadOnly`."""
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            session.info.update(read_only=True, cursors=self._cursors)
            yield ReadSession(session)

    @asynccontextmanager
    async def writing(self, user_id: int | None = None) -> AsyncIterator[WriteSession]:
        """A session that commits once, at the end; rolls back on any error. `user_id` goes into the audit columns."""
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            session.info["user_id"] = user_id
            yield WriteSession(ReadSession(session))
            await session.commit()

    async def ping(self) -> None:
        """Returns when the database answers."""
        async with self.engine.connect() as connection:
            await connection.execute(select(1))

    async def ping_cache(self) -> bool:
        """True when the cache's store answers; False when there is no cache.

        Raises:
            StoreDown: it does not answer.
        """
        if self._cached:
            await cache.aping()
        return self._cached

    async def aclose(self) -> None:
        """Give back every connection."""
        if self._cached:
            await cache.aclose()
        await self.engine.dispose()


def cursors_of(session: ReadSession) -> Cursors:
    """What reads and writes the cursors of pages that `session` reads."""
    cursors: Cursors = session.info["cursors"]
    return cursors


def make_engine(url: str | URL, **options: Any) -> AsyncEngine:
    """An engine for `url`, with the driver this service uses where the URL names none."""
    parsed = make_url(url)
    parsed = parsed.set(drivername=DRIVERS.get(parsed.drivername, parsed.drivername))
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(parsed, **options)
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine.sync_engine, "connect", _set_up_sqlite)
        lite.install(engine)
    return engine


def _set_up_sqlite(dbapi_connection: Any, _: Any) -> None:
    cursor = dbapi_connection.cursor()
    for pragma in ("journal_mode=WAL", "foreign_keys=ON", "busy_timeout=10000", "synchronous=NORMAL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


@event.listens_for(Session, "before_flush")
def _fill_audit_columns(session: Session, *_: Any) -> None:
    if session.info.get("read_only"):
        raise ReadOnly("this session was opened with reading(); use writing() to change something")
    user_id = session.info.get("user_id")
    if user_id is None:
        return
    for thing in session.new:
        if isinstance(thing, Audited):
            thing.created_by_id = thing.updated_by_id = user_id
    for thing in session.dirty:
        if isinstance(thing, Audited) and session.is_modified(thing):
            thing.updated_by_id = user_id
