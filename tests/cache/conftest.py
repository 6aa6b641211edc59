"""One statement of a behaviour, every combination: three ways to call, three stores."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import ForeignKey, create_engine, func, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from perfkit import Cache, Policy
from tests.conftest import url_of


class Base(DeclarativeBase):
    pass


class Team(Base):
    __tablename__ = "teams"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Bin(Base):
    __tablename__ = "bins"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    kind: Mapped[str] = mapped_column(default="glass")
    team_id: Mapped[int | None] = mapped_column(ForeignKey("teams.id", ondelete="SET NULL"))
    team: Mapped[Team | None] = relationship()


class Kit:
    """A database with two bins, a connected cache, and the same functions sync and async."""

    Base, Bin, Team = Base, Bin, Team

    def __init__(self, cache: Cache, database: Path | str, driver: str = "") -> None:
        self.cache = cache
        self.loads: Counter[str] = Counter()
        self.runner = asyncio.Runner()
        url = f"sqlite:///{database}" if isinstance(database, Path) else database
        self.engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        self.async_engine = create_async_engine(
            url.replace("sqlite:", "sqlite+aiosqlite:").replace("postgresql:", f"postgresql+{driver}:")
        )
        Base.metadata.create_all(self.engine)
        self.write(lambda s: s.add_all([Bin(id=1, name="one"), Bin(id=2, name="two")]))
        self.sync: dict[str, Callable[..., Any]] = {}
        self.suspending: dict[str, Callable[..., Any]] = {}
        self._declare()

    def _declare(self) -> None:
        cache, loads = self.cache, self.loads

        @cache.query(tags="bins#{bin_id}")
        def name_of(session: Session, bin_id: int) -> str | None:
            loads["name_of"] += 1
            return session.execute(select(Bin.name).where(Bin.id == bin_id)).scalar_one_or_none()

        @cache.query(tags=Bin)
        def counts(session: Session, kind: str | None = None) -> dict[str, int]:
            loads["counts"] += 1
            rows = session.execute(select(Bin.kind, func.count()).group_by(Bin.kind))
            return {found: count for found, count in rows if kind in (None, found)}

        @cache.query(tags="bins#{bin_id}")
        async def aname_of(session: AsyncSession, bin_id: int) -> str | None:
            loads["name_of"] += 1
            return (await session.execute(select(Bin.name).where(Bin.id == bin_id))).scalar_one_or_none()

        @cache.query(tags=Bin)
        async def acounts(session: AsyncSession, kind: str | None = None) -> dict[str, int]:
            loads["counts"] += 1
            rows = await session.execute(select(Bin.kind, func.count()).group_by(Bin.kind))
            return {found: count for found, count in rows if kind in (None, found)}

        self.sync = {"name_of": name_of, "counts": counts}
        self.suspending = {"name_of": aname_of, "counts": acounts}

    def watch(self) -> None:
        self.cache.watch(self.engine, Base.metadata, database="test")
        self.cache.watch(self.async_engine, database="test")

    def write(self, change: Callable[[Session], Any]) -> None:
        with Session(self.engine) as session:
            change(session)
            session.commit()

    def rename(self, bin_id: int, name: str) -> None:
        def change(session: Session) -> None:
            found = session.get(Bin, bin_id)
            assert found is not None
            found.name = name

        self.write(change)

    def close(self) -> None:
        async def close() -> None:
            await self.cache.aclose()
            await self.async_engine.dispose()

        self.runner.run(close())
        self.runner.close()
        self.engine.dispose()


@pytest.fixture(params=["memory", "redis", "valkey", "cluster"])
def store_url(request: pytest.FixtureRequest) -> str:
    """Where entries live: this process, Redis, Valkey, a cluster."""
    return "memory://" if request.param == "memory" else url_of(request.param, request)


@pytest.fixture
def kit(store_url: str, tmp_path: Path) -> Iterator[Kit]:
    """Connected and watched, strict."""
    kit = Kit(Cache("test", Policy(ttl=60)), tmp_path / "test.sqlite3")
    kit.cache.connect(store_url, timeout_s=10)  # what a busy machine takes is not what these tests are about
    kit.watch()
    yield kit
    kit.close()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Kit]:
    """In memory, connected and watched: for what does not depend on the store."""
    kit = Kit(Cache("test", Policy(ttl=60)), tmp_path / "test.sqlite3")
    kit.cache.connect()
    kit.watch()
    yield kit
    kit.close()


@pytest.fixture(params=["blocking", "awaited", "greenlet"])
def calling(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Calls a function of a kit, by name, in a session of its own."""

    def blocking(kit: Kit, name: str, *args: Any, **kwargs: Any) -> Any:
        with Session(kit.engine) as session:
            return kit.sync[name](session, *args, **kwargs)

    def awaited(kit: Kit, name: str, *args: Any, **kwargs: Any) -> Any:
        async def call() -> Any:
            async with AsyncSession(kit.async_engine) as session:
                return await kit.suspending[name](session, *args, **kwargs)

        return kit.runner.run(call())

    def greenlet(kit: Kit, name: str, *args: Any, **kwargs: Any) -> Any:
        async def call() -> Any:
            async with AsyncSession(kit.async_engine) as session:
                return await session.run_sync(kit.sync[name], *args, **kwargs)

        return kit.runner.run(call())

    ways: dict[str, Callable[..., Any]] = {"blocking": blocking, "awaited": awaited, "greenlet": greenlet}
    return ways[request.param]
