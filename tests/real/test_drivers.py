"""The same promises with psycopg and asyncpg, awaited and in a greenlet, on Redis and Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from perfkit import Cache, Policy
from perfkit.cache import Reason
from tests.real.conftest import Base, Bin


class Async:
    """One async process of a service."""

    def __init__(self, engine: AsyncEngine, cache: Cache) -> None:
        self.engine, self.cache, self.loads = engine, cache, 0

        @cache.query(tags="bins#{bin_id}")
        async def name_of(session: AsyncSession, bin_id: int) -> str | None:
            self.loads += 1
            return (await session.execute(select(Bin.name).where(Bin.id == bin_id))).scalar_one_or_none()

        @cache.query(tags="bins#{bin_id}")
        def name_in_greenlet(session: Session, bin_id: int) -> str | None:
            self.loads += 1
            return session.execute(select(Bin.name).where(Bin.id == bin_id)).scalar_one_or_none()

        self.name_of, self.name_in_greenlet = name_of, name_in_greenlet

    async def read(self, way: str) -> str | None:
        async with AsyncSession(self.engine) as session:
            if way == "awaited":
                return await self.name_of(session, 1)
            return await session.run_sync(self.name_in_greenlet, 1)

    async def write(self, name: str) -> None:
        async with AsyncSession(self.engine) as session:
            await session.merge(Bin(id=1, name=name))
            await session.commit()


@pytest.fixture(params=["psycopg", "asyncpg"])
async def shop(request: pytest.FixtureRequest, pg_url: str, redis_url: str) -> AsyncIterator[Async]:
    engine = create_async_engine(pg_url.replace("postgresql:", f"postgresql+{request.param}:"))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    cache = Cache("drivers", Policy())
    shop = Async(engine, cache)
    cache.connect(redis_url, timeout_s=30)  # a busy machine is not a server that is down
    cache.watch(engine, Base.metadata)
    yield shop
    await cache.aclose()
    await engine.dispose()


@pytest.mark.parametrize("way", ["awaited", "greenlet"])
async def test_a_commit_is_seen_by_the_next_read(shop: Async, way: str) -> None:
    """Hit, write, miss, hit."""
    await shop.write("old")
    assert [await shop.read(way), await shop.read(way)] == ["old", "old"]
    await shop.write("new")

    assert [await shop.read(way), await shop.read(way)] == ["new", "new"]
    assert shop.loads == 2
    assert shop.cache.stats().marked_commits == 2


@pytest.mark.parametrize("way", ["awaited", "greenlet"])
async def test_a_hundred_tasks_on_a_cold_key_make_one_load(shop: Async, way: str) -> None:
    """Each with a session of its own, more than the pool has connections."""
    await shop.write("old")

    names = await asyncio.gather(*(shop.read(way) for _ in range(100)))

    assert names == ["old"] * 100
    assert shop.loads == 1


async def test_own_writes_are_read_from_the_database(shop: Async) -> None:
    """Nothing uncommitted is kept."""
    await shop.write("old")
    async with AsyncSession(shop.engine) as session:
        await session.execute(update(Bin).where(Bin.id == 1).values(name="draft"))
        assert await shop.name_of(session, 1) == "draft"
        await session.rollback()

    assert await shop.read("awaited") == "old"
    assert shop.cache.stats().bypasses == {Reason.OWN_WRITES: 1}


async def test_a_cancelled_call_leaves_connections_usable(shop: Async) -> None:
    """Half an answer on a connection must never be another call's answer."""
    await shop.write("old")
    await shop.read("awaited")

    for steps in range(12):
        task = asyncio.create_task(shop.read("awaited"))
        for _ in range(steps):
            await asyncio.wait([task], timeout=0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await shop.read("awaited") == "old"


async def test_two_phase_commits_are_seen(shop: Async, pg_url: str, redis_url: str) -> None:
    """Where the server allows them."""
    from sqlalchemy import create_engine, text

    engine = create_engine(pg_url.replace("postgresql:", "postgresql+psycopg:"))
    shop.cache.watch(engine)
    await shop.write("old")
    await shop.read("awaited")
    with engine.connect() as connection:
        allowed: Any = connection.execute(text("SHOW max_prepared_transactions")).scalar_one()
        connection.rollback()
        if int(allowed):
            transaction = connection.begin_twophase()
            connection.execute(update(Bin).where(Bin.id == 1).values(name="new"))
            transaction.prepare()
            assert await shop.read("awaited") == "old"
            transaction.commit()
    engine.dispose()
    if not int(allowed):
        pytest.skip("max_prepared_transactions is 0")
    assert await shop.read("awaited") == "new"


class Labelled(DeclarativeBase):
    pass


class Label(Labelled):
    __tablename__ = "labels"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str]


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_a_uuid_that_a_driver_has_loaded_is_a_key_and_names_a_row(driver: str, pg_url: str) -> None:
    """Asyncpg loads a subclass of its own: there was no key of it, and who wrote by it was taken to write anywhere."""
    engine = create_async_engine(pg_url.replace("postgresql:", f"postgresql+{driver}:"))
    async with engine.begin() as connection:
        await connection.run_sync(Labelled.metadata.create_all)
    cache = Cache("labels")
    cache.connect("memory://")
    cache.watch(engine, Labelled.metadata)

    @cache.query()
    async def name_of(session: AsyncSession, label_id: UUID) -> str:
        return (await session.get_one(Label, label_id)).name

    async def called(label_id: UUID) -> str:
        async with AsyncSession(engine) as session:
            return await name_of(session, label_id)

    async with AsyncSession(engine) as session:
        session.add_all([Label(name="glass"), Label(name="paper")])
        await session.commit()
    async with AsyncSession(engine, expire_on_commit=False) as session:
        glass, paper = await session.scalars(select(Label).order_by(Label.name))
        assert [await called(UUID(str(glass.id))), await called(glass.id)] == ["glass", "glass"]
        paper.name = "card"
        await session.commit()
        assert await called(glass.id) == "glass"
        assert (cache.stats().fills, cache.stats().hits) == (1, 2)
        glass.name = "bottle"
        await session.commit()
        assert await called(glass.id) == "bottle"

    await cache.aclose()
    await engine.dispose()
