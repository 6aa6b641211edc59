"""Pages by number: the same rows in the same order, up to where they cost too much."""

from __future__ import annotations

import pytest
from sqlalchemy import event, select
from sqlalchemy.orm import Session, contains_eager, joinedload

from perfkit.errors import OffsetTooDeep, PagingDeclarationError
from perfkit.paging import NumberedPage, Total, cached, capped, estimated, exact, offset
from tests.paging.cases import cases
from tests.paging.conftest import Within
from tests.paging.models import Item, Owner, Tag
from tests.paging.walks import whole

CASES = dict(cases())


@pytest.mark.parametrize("name", CASES)
def test_numbered_pages_are_the_rows_of_a_statement(name, within_sqlite):
    """Of every kind of statement."""
    numbered(within_sqlite, name)


@pytest.mark.parametrize("name", ["mixed", "null", "joined", "nested", "outer", "group", "window", "union", "wp"])
def test_numbered_pages_are_the_rows_on_each_database(name, within):
    numbered(within, name)


def numbered(within: Within, name: str) -> None:
    def check(session: Session) -> None:
        statement = CASES[name]
        expected, items, number = whole(session, statement), [], 1
        while True:
            page = offset(session, statement, size=7, number=number)
            items += page.items
            assert page.has_next == (len(items) < len(expected))
            assert page.has_previous == (number > 1)
            if not page.has_next:
                break
            number += 1
        assert items == expected
        assert offset(session, statement, size=7, number=number + 1).items == []

    within(check)


def test_rows_that_are_skipped_are_read_as_keys_only(within_sqlite):
    """Entities are joined to the keys of the page."""

    def check(session):
        asked = []
        event.listen(session.get_bind(), "before_cursor_execute", lambda *told: asked.append(told[2]))
        page = offset(session, select(Item).options(joinedload(Item.tags)).order_by(Item.rank), size=5, number=3)
        assert len(page.items) == 5
        inner = asked[0].split("FROM (")[1].split(")")[0]
        assert "items.note" not in inner
        assert "OFFSET" in inner

    within_sqlite(check)


def test_related_objects_from_the_statements_own_joins_stay(within_sqlite):
    """`contains_eager` needs the joined columns, so that statement keeps its form."""

    def check(session):
        statement = select(Item).join(Item.owner).options(contains_eager(Item.owner)).order_by(Item.rank)
        page = offset(session, statement, size=5, number=2)
        assert all("owner" in vars(item) for item in page.items)

    within_sqlite(check)


def test_what_would_cost_too_much_is_refused(within_sqlite):
    """With the number that it would have skipped, and where to go instead."""

    def check(session):
        with pytest.raises(OffsetTooDeep, match="keyset") as refused:
            offset(session, select(Item), size=50, number=202)
        assert (refused.value.offset, refused.value.max_offset) == (10_050, 10_000)
        assert offset(session, select(Item), size=50, number=202, max_offset=20_000).items == []
        for number in (0, -1, True, 1.0, "1", None):
            with pytest.raises(PagingDeclarationError, match="first page is 1"):
                offset(session, select(Item), size=50, number=number)

    within_sqlite(check)


def test_counts_say_which_kind_they_are(within):
    """Collections that are joined for loading count nothing."""

    def check(session):
        items = select(Item).options(joinedload(Item.tags)).order_by(Item.rank)
        assert exact(session, items) == Total(60)
        assert exact(session, select(Item).join(Item.tags)) == Total(180)
        assert exact(session, select(Item.rank).distinct()) == Total(4)
        assert exact(session, select(Item.id, Owner.id).join(Item.owner).where(Item.rank > 9)) == Total(0)
        assert capped(10)(session, items) == Total(10, "at_least")
        assert capped(60)(session, items) == Total(60)
        assert capped(100)(session, items.where(Item.id < 8)) == Total(7)
        assert estimated(1000)(session, items) == Total(60)
        assert cached(lambda: 7)(session, items) == Total(7, "cached")
        page = offset(session, items, size=50, count=exact)
        assert (page.total, page.pages) == (Total(60), 2)

    within(check)


def test_an_estimate_is_what_the_planner_expects(shops):
    """PostgreSQL alone is asked; filters with values are part of the question."""
    from tests.paging.conftest import within_on

    def check(session):
        session.connection().exec_driver_sql("ANALYZE tags")
        found = estimated(10)(session, select(Tag).where(Tag.label != "p").order_by(Tag.label))
        assert found.kind == "estimate"
        assert abs(found.value - exact(session, select(Tag).where(Tag.label != "p")).value) < 40

    within_on(shops("psycopg"), is_async=False)(check)
    within_on(shops("asyncpg"), is_async=True)(check)


def test_a_cap_below_one_is_refused():
    with pytest.raises(PagingDeclarationError):
        capped(0)


def test_a_page_is_a_value(within_sqlite):
    def check(session):
        page = offset(session, select(Owner.id).order_by(Owner.id), size=2)
        assert page == NumberedPage(items=[1, 2], number=1, size=2, has_next=True)

    within_sqlite(check)
