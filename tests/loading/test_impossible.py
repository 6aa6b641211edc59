"""Under asyncio a lazy load that cannot be awaited says what to write, also where nothing but a window is open."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import create_engine, event, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import defaultload, joinedload, selectinload

from perfkit.errors import CannotLoadLazily
from perfkit.loading import LearnedProfiles, autobatch, detect
from perfkit.sqla.private import result_of
from tests.batching.models import Bin, Customer, fill

NAMES = {"Bin": Bin, "Customer": Customer, "defaultload": defaultload, "selectinload": selectinload}


@pytest.fixture
async def engine(tmp_path) -> AsyncIterator[AsyncEngine]:
    sync = create_engine(f"sqlite:///{tmp_path}/impossible.sqlite3")
    fill(sync)
    sync.dispose()
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/impossible.sqlite3")
    yield engine
    await engine.dispose()


async def test_a_window_alone_names_the_path_the_siblings_and_the_fix(engine):
    """Of a relation and of columns; what can be awaited goes on."""
    async with AsyncSession(engine) as session:
        with detect():
            customers = (await session.scalars(select(Customer).order_by(Customer.id))).all()
            with pytest.raises(CannotLoadLazily) as relation:
                _ = customers[0].tags
            with pytest.raises(CannotLoadLazily, match=r"Customer\.note.*undefer"):
                _ = customers[0].note
            assert await customers[0].awaitable_attrs.tags
            assert await session.run_sync(lambda _: customers[1].note)

    assert (relation.value.path, relation.value.siblings) == ("Customer.tags", len(customers) - 1)
    assert relation.value.fix == ".options(selectinload(Customer.tags))"


@pytest.mark.parametrize("load", [joinedload, selectinload], ids=lambda each: each.__name__)
async def test_what_a_statement_loads_on_the_way_stays_as_it_is(engine, load):
    """SQLAlchemy refuses two options for one relation, so the fix can be pasted as it is."""
    statement = select(Bin).where(Bin.customer_id.is_not(None)).options(load(Bin.customer))
    async with AsyncSession(engine) as session:
        with detect():
            first = (await session.scalars(statement)).first()
            with pytest.raises(CannotLoadLazily) as refused:
                _ = first.customer.tags
            session.expunge_all()
            mended = (
                await session.scalars(eval(f"statement{refused.value.fix}", NAMES | {"statement": statement}))
            ).first()

            assert mended.customer.tags is not None

    assert refused.value.fix == ".options(defaultload(Bin.customer).selectinload(Customer.tags))"


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # of the driver, as without perfkit
async def test_listeners_are_asked_first_and_may_answer(engine):
    """One that does nothing, such as a filter for what is deleted, changes nothing of the error."""
    async with AsyncSession(engine) as session:
        with detect():
            bins = (await session.scalars(select(Bin).where(Bin.customer_id == 1).order_by(Bin.id))).all()
            customer = await session.get(Customer, 2)
            answers = [None, result_of(["entity"], None, [True], [(customer,)])]
            event.listen(session.sync_session, "do_orm_execute", lambda execution: answers.pop(0))
            with pytest.raises(CannotLoadLazily, match=r"Bin\.customer"):
                _ = bins[0].customer
            gc.collect()
            assert bins[0].customer is customer


async def test_it_is_the_same_inside_of_autobatch_and_around_it(engine):
    """Whoever hears of it first."""
    async with AsyncSession(engine) as session:
        with detect(), autobatch():
            bins = (await session.scalars(select(Bin).where(Bin.customer_id.is_not(None)))).all()
            with pytest.raises(CannotLoadLazily):
                _ = bins[0].customer
        with autobatch(), detect(), pytest.raises(CannotLoadLazily):
            _ = bins[0].customer


async def test_what_was_impossible_is_learned_all_the_same(engine, tmp_path):
    """A window must not hide it from learned profiles."""
    learned = LearnedProfiles(tmp_path / "learned.json")
    learned.watch()
    async with AsyncSession(engine) as session:
        with detect():
            bins = (await session.scalars(select(Bin).where(Bin.customer_id.is_not(None)))).all()
            with pytest.raises(CannotLoadLazily):
                _ = bins[0].customer
    learned.close()

    assert '"failed": 1' in (tmp_path / "learned.json").read_text()
