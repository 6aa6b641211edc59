"""Awaited, pages are the same."""

from __future__ import annotations

import pytest
from sqlalchemy import NullPool, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import joinedload

from perfkit.paging import akeyset, aoffset, exact, keyset
from tests.paging.models import Item

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
