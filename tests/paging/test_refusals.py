"""What cannot be paged without losing rows is refused, with what is missing."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, func, select, text, union_all
from sqlalchemy.orm import Session

from perfkit.errors import NotUniqueOrder, PagingDeclarationError
from perfkit.paging import keyset
from tests.paging.models import Item, Owner, log


def refusal(within, statement, **options) -> PagingDeclarationError:
    """The error that a statement is refused with."""

    def check(session: Session) -> PagingDeclarationError:
        with pytest.raises(PagingDeclarationError) as refused:
            keyset(session, statement, **{"size": 5, **options})
        return refused.value

    return within(check)


def test_a_table_without_a_key_is_named(within_sqlite):
    """Nothing tells two equal lines of a log apart."""
    found = refusal(within_sqlite, select(log.c.line).order_by(log.c.level))

    assert isinstance(found, NotUniqueOrder)
    assert found.keys == ("log.level",)
    assert found.missing == ("a unique column of log",)


def test_a_subquery_that_drops_its_key_is_named(within_sqlite):
    """Its rows may be equal, and the key that tells them apart is inside."""
    names = select(Item.name, Item.rank).subquery("names")

    found = refusal(within_sqlite, select(names.c.name).order_by(names.c.rank))

    assert isinstance(found, NotUniqueOrder)
    assert found.missing == ("a unique column of names",)


def test_whoever_knows_better_is_believed(within_sqlite):
    """`assume_unique` appends nothing."""

    def check(session):
        page = keyset(session, select(log.c.line).order_by(log.c.level), size=5, assume_unique=True)
        assert page.items == []

    within_sqlite(check)


@pytest.mark.parametrize("statement", [select(Item).limit(7), select(Item).offset(3), select(Item).limit(7).offset(0)])
def test_a_limit_of_its_own_is_refused(within_sqlite, statement):
    """It would be lost, or cut a page short."""
    assert "LIMIT" in str(refusal(within_sqlite, statement.order_by(Item.id)))


@pytest.mark.parametrize("size", [0, -1, 1001, 10**9, True, 2.0, "5", None])
def test_a_size_out_of_range_is_refused(within_sqlite, size):
    """Also what Python takes for a number."""
    assert "1 to 1000" in str(refusal(within_sqlite, select(Item), size=size))


def test_a_page_has_one_place(within_sqlite):
    """After and before at once is neither."""
    assert "one of" in str(refusal(within_sqlite, select(Item), after="a", before="b"))
    assert "one of" in str(refusal(within_sqlite, select(Item), after="a", last=True))


@pytest.mark.parametrize("statement", [delete(Item), text("SELECT 1"), Item, "SELECT 1"])
def test_what_is_no_select_is_refused(within_sqlite, statement):
    assert "select()" in str(refusal(within_sqlite, statement))


def test_text_that_is_no_name_is_refused(within_sqlite):
    """What it compares with cannot be known."""
    assert "ORDER BY" in str(refusal(within_sqlite, select(Item).order_by(text("lower(name) || 'x'"))))


def test_a_union_is_ordered_by_what_it_selects(within_sqlite):
    both = union_all(select(Item.name), select(Owner.name)).order_by(func.lower("name"))

    assert "UNION" in str(refusal(within_sqlite, both))


def test_keys_that_are_there_already_are_not_appended(within_sqlite):
    """A unique column, a primary key by way of a join, or a WHERE that leaves one row for each."""

    def check(session):
        for statement, width in (
            (select(Item).order_by(Item.id.desc()), 1),
            (select(Item).order_by(Item.rank), 2),
            (select(Item, Owner).join(Item.owner).order_by(Item.rank), 2),
            (select(Item, Owner).outerjoin(Item.owner).order_by(Owner.name), 2),
            (select(Owner).join(Owner.items).order_by(Owner.id), 2),
            (select(Item).order_by(Item.rank, Item.rank.desc(), Item.id), 2),
        ):
            page = keyset(session, statement, size=1)
            assert len(page._rows[0]) - page._width == width, str(statement)

    within_sqlite(check)
