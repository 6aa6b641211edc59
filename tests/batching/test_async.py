"""AsyncSession: what can be awaited is batched, and what cannot says what to write."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import create_engine, event, select
from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import lazyload

from perfkit.errors import CannotLoadLazily
from perfkit.loading import autobatch
from tests.batching.models import Bin, Customer, GlassBin, PaperBin, fill


@pytest.fixture(params=["sqlite", "asyncpg", "psycopg"])
async def async_engine(request, tmp_path) -> AsyncIterator[object]:
    if request.param == "sqlite":
        url = f"sqlite+aiosqlite:///{tmp_path}/async.sqlite3"
        sync = create_engine(f"sqlite:///{tmp_path}/async.sqlite3")
    else:
        pg_url = request.getfixturevalue("pg_url")
        url = pg_url.replace("postgresql:", f"postgresql+{request.param}:")
        sync = create_engine(pg_url.replace("postgresql:", "postgresql+psycopg:"))
    fill(sync)
    sync.dispose()
    engine = create_async_engine(url)
    yield engine
    await engine.dispose()


@pytest.fixture
def sent(async_engine) -> list[str]:
    statements: list[str] = []
    event.listen(async_engine.sync_engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    return statements


async def test_awaitable_attrs_and_run_sync_batch(async_engine, sent):
    """By the same hooks."""
    async with AsyncSession(async_engine) as session:
        with autobatch():
            customers = (await session.scalars(select(Customer).order_by(Customer.id))).all()
            sent.clear()
            first = [len(await each.awaitable_attrs.tags) for each in customers]
            second = await session.run_sync(lambda _: [len(each.bins) for each in customers])

    assert (sum(first), sum(second)) == (19, 22)
    assert len(sent) == 2


async def test_a_decorated_coroutine_function_is_a_block(async_engine, sent):
    """Each call of it."""

    @autobatch()
    async def tags() -> int:
        async with AsyncSession(async_engine) as session:
            customers = (await session.scalars(select(Customer))).all()
            return sum([len(await each.awaitable_attrs.tags) for each in customers])

    assert await tags() == 19
    assert len(sent) == 2


async def test_where_nothing_can_be_awaited_the_error_says_what_to_write(async_engine, sent):
    """Also after a sibling was loaded, whose batch holds the answer: it would depend on who came first."""
    async with AsyncSession(async_engine) as session:
        with autobatch():
            bins = (await session.scalars(select(Bin).where(Bin.customer_id.is_not(None)).order_by(Bin.id))).all()
            sent.clear()
            with pytest.raises(CannotLoadLazily) as caught:
                _ = bins[0].customer
            assert sent == []
            assert (caught.value.path, caught.value.siblings) == ("Bin.customer", 21)
            assert caught.value.fix == ".options(selectinload(Bin.customer))"
            await bins[0].awaitable_attrs.customer
            for cls in (GlassBin, PaperBin):
                other = next(each for each in bins[1:] if type(each) is cls and each.customer_id != bins[0].customer_id)
                with pytest.raises(MissingGreenlet, match=r"Bin\.customer.*20 others"):
                    _ = other.customer


async def test_the_path_begins_where_the_statement_did(async_engine):
    """As far as loader options let it be known."""
    async with AsyncSession(async_engine) as session:
        with autobatch():
            options = lazyload(Bin.customer).lazyload(Customer.organization)
            found = await session.scalars(select(Bin).where(Bin.customer_id == 2).options(options).order_by(Bin.id))
            customer = await found.all()[0].awaitable_attrs.customer
            with pytest.raises(CannotLoadLazily) as caught:
                _ = customer.organization

    assert caught.value.path == "Bin.customer.organization"
    assert caught.value.fix == ".options(defaultload(Bin.customer).selectinload(Customer.organization))"


async def test_columns_say_so_too(async_engine):
    """Deferred ones, and what a commit has expired."""
    async with AsyncSession(async_engine) as session:
        with autobatch():
            customers = (await session.scalars(select(Customer).order_by(Customer.id))).all()
            with pytest.raises(CannotLoadLazily, match=r"Customer\.note.*8 others") as deferred:
                _ = customers[0].note
            assert deferred.value.fix == ".options(undefer(Customer.note))"
            await session.commit()
            with pytest.raises(CannotLoadLazily, match="expire_on_commit=False") as expired:
                _ = customers[0].name
            assert expired.value.fix == "await session.refresh(customer)"
