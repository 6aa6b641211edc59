"""Awaited, pages are the same."""

from __future__ import annotations

import pytest
from sqlalchemy import NullPool, func, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import joinedload

from perfkit.errors import InvalidCursor
from perfkit.paging import akeyset, aoffset, exact, keyset
from tests.paging.conftest import within_on
from tests.paging.models import TYPES, Item, Thing

STATEMENT = select(Item).options(joinedload(Item.tags)).order_by(Item.price.desc(), Item.rank)


@pytest.mark.parametrize("driver", ["sqlite", "asyncpg"])
async def test_an_async_session_reads_the_same_pages(shops, driver):
    """By cursor, from the end, and by number."""
    engine = create_async_engine(shops(driver).replace("sqlite:", "sqlite+aiosqlite:"), poolclass=NullPool)
    async with AsyncSession(engine) as session:
        whole = (await session.run_sync(keyset, STATEMENT, size=1000)).items
        first = await akeyset(session, STATEMENT, size=25, count=exact)
        second = await akeyset(session, STATEMENT, size=25, after=first.next)
        end = await akeyset(session, STATEMENT, size=10, last=True)
        numbered = await aoffset(session, STATEMENT, size=25, number=2)

        assert first.items + second.items + end.items == whole
        assert first.total.value == len(whole)
        assert numbered.items == second.items
    await engine.dispose()


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("drivers", [("psycopg", "asyncpg"), ("asyncpg", "psycopg")])
def test_a_cursor_of_one_driver_is_good_for_another(shops, name, drivers):
    """A service may have both: a worker that is not awaited, and pages that are."""
    statement = select(Thing.id).order_by(getattr(Thing, name))
    make, use = (within_on(shops(driver), is_async=driver == "asyncpg") for driver in drivers)

    first = make(lambda session: keyset(session, statement, size=5))
    assert [
        str(each) for each in use(lambda session: keyset(session, statement, size=100, after=first.next).items)
    ] == [str(each) for each in make(lambda session: keyset(session, statement, size=100, after=first.next).items)]


def test_a_cursor_of_another_driver_is_refused_where_its_values_are_others(shops):
    """SQLAlchemy knows no type of age(), and what each driver makes of it is nothing for the other."""
    statement = select(Thing.id).order_by(func.age(Thing.moment).desc())
    of_psycopg, of_asyncpg = (within_on(shops(name), is_async=name == "asyncpg") for name in ("psycopg", "asyncpg"))

    for make, use in ((of_psycopg, of_asyncpg), (of_asyncpg, of_psycopg)):
        first = make(lambda session: keyset(session, statement, size=5))
        with pytest.raises(InvalidCursor):
            use(lambda session, after=first.next: keyset(session, statement, size=5, after=after))
