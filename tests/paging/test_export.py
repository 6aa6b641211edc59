"""An export is every row once, in order, however often it is interrupted and whoever does the parts."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, text, union_all
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import selectinload

from perfkit.errors import InvalidCursor, NotUniqueOrder, PagingDeclarationError
from perfkit.paging import Cursors, Progress, aexport, export, split
from tests.paging.models import Item, Owner, Tag, Thing
from tests.paging.walks import whole

BY_PRICE = select(Item).options(selectinload(Item.tags)).order_by(Item.price.desc(), Item.rank)


def test_an_export_is_every_row_in_order(within):
    def check(session):
        chunks = [page.items for page in export(session, BY_PRICE, chunk=25)]
        assert [len(chunk) for chunk in chunks] == [25, 25, 10]
        assert [item for chunk in chunks for item in chunk] == whole(session, BY_PRICE)

    within(check)


def test_an_export_goes_on_from_any_chunk(within_sqlite):
    """With the cursor of the last chunk that was finished, in another process that has the secrets."""
    secrets = ["a secret of more than 16 bytes"]

    def check(session):
        everything = whole(session, BY_PRICE)
        told: list[Progress] = []
        for page in export(session, BY_PRICE, chunk=7, cursors=Cursors(secrets), progress=told.append):
            if len(told) == 3:
                break
            assert page.items
        assert told[-1].items == 21
        rest = list(export(session, BY_PRICE, chunk=11, after=told[-1].resume, cursors=Cursors(secrets)))
        assert [item for page in rest for item in page.items] == everything[21:]
        with pytest.raises(InvalidCursor):
            next(export(session, BY_PRICE, after=told[-1].resume))

    within_sqlite(check)


def test_an_export_of_nothing_is_one_empty_chunk(within_sqlite):
    def check(session):
        told = []
        pages = list(export(session, BY_PRICE.where(Item.id > 999), progress=told.append))
        assert [page.items for page in pages] == [[]]
        assert told == [Progress(1, 0, None)]

    within_sqlite(check)


def test_entities_of_earlier_chunks_are_let_go(within_sqlite):
    """Memory is that of a chunk or two."""

    def check(session):
        held = [len(session.identity_map) for page in export(session, select(Item), chunk=10) if page.items]
        assert max(held) <= 20

    within_sqlite(check)


async def test_an_export_is_the_same_awaited(shops):
    engine = create_async_engine(shops("sqlite").replace("sqlite:", "sqlite+aiosqlite:"))
    async with AsyncSession(engine) as session:
        seen = [item.id async for page in aexport(session, BY_PRICE, chunk=25) for item in page.items]
        expected = [item.id for item in await session.run_sync(whole, BY_PRICE)]
    await engine.dispose()

    assert seen == expected


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 60, 500])
def test_parts_have_all_rows_and_none_twice(within_sqlite, parts):
    """Whatever the statement filters and joins."""

    def check(session):
        for statement in (
            select(Item),
            select(Item.id).where(Item.rank > 1).order_by(Item.name),
            select(Item.id).join(Item.tags),
        ):
            pieces = split(session, statement, parts)
            assert len(pieces) <= parts
            found = [item for piece in pieces for page in export(session, piece, chunk=9) for item in page.items]
            assert sorted(map(str, found)) == sorted(map(str, whole(session, statement)))

    within_sqlite(check)


def test_what_cannot_be_cut_is_refused(within_sqlite):
    def check(session):
        assert len(split(session, select(Owner).where(Owner.id > 99), 4)) == 1
        for parts in (0, -1, True, 2.5):
            with pytest.raises(PagingDeclarationError, match="1 or more"):
                split(session, select(Item), parts)
        with pytest.raises(PagingDeclarationError, match="primary key"):
            split(session, select(Thing), 2)

    within_sqlite(check)


@pytest.mark.parametrize(
    ("statement", "with_what"),
    [
        (select(Item.rank, func.count()).group_by(Item.rank), "groups"),
        (select(func.count(Tag.label)), "groups"),
        (select(Item.rank).distinct(), "DISTINCT"),
        (select(Item, func.row_number().over(order_by=Item.id)), "window"),
        (select(Item).limit(5), "LIMIT"),
        (select(Item, Owner).join(Owner, full=True), "FULL JOIN"),
        (union_all(select(Item.id), select(Owner.id)), "more than one SELECT"),
        (text("SELECT 1"), "more than one SELECT"),
    ],
)
def test_what_parts_would_change_is_refused(within_sqlite, statement, with_what):
    """A group would be in two parts, a row without a partner in none."""

    def check(session):
        with pytest.raises(PagingDeclarationError, match=with_what):
            split(session, statement, 3)

    within_sqlite(check)


def test_an_export_believes_that_an_order_is_unique_if_it_is_told(within_sqlite):
    """As the error says that asks for it."""
    inner = select((Item.id * 2).label("double")).subquery()
    statement = select(inner).order_by(inner.c.double)

    def check(session):
        with pytest.raises(NotUniqueOrder, match="add a unique column of the subquery, or pass assume_unique=True"):
            next(export(session, statement))
        assert sum(map(len, export(session, statement, chunk=7, assume_unique=True))) == 60

    within_sqlite(check)


def test_parts_lock_their_rows_and_not_each_others(within):
    """As workers that take their share of a queue."""

    def check(session):
        pieces = split(session, select(Item).with_for_update(skip_locked=True), 3)
        assert sum(len(session.scalars(piece).all()) for piece in pieces) == 60

    within(check)


@pytest.mark.parametrize("chunk", [0, -1, True, 2.5, "5", None])
def test_a_chunk_below_one_is_refused(within_sqlite, chunk):
    """In words of the export."""

    def check(session):
        with pytest.raises(PagingDeclarationError, match="chunk="):
            next(export(session, BY_PRICE, chunk=chunk))

    within_sqlite(check)
