"""What cannot be paged without losing rows is refused, with what is missing."""

from __future__ import annotations

import pytest
from sqlalchemy import JSON, cast, delete, func, literal, select, tablesample, text, union_all
from sqlalchemy.orm import Bundle, Session, aliased, contains_eager

from perfkit.errors import NotUniqueOrder, PagingDeclarationError
from perfkit.paging import keyset
from tests.paging.conftest import within_on
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


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (select(Item).order_by(func.random()), "another value each time"),
        (select(Item.id).order_by(text("3")), "ORDER BY 3"),
        (select(Item.rank).distinct().order_by(Item.name), "DISTINCT"),
        (select(text("*")).select_from(Item), "which columns"),
        (select(), "which columns"),
        (select(tablesample(Item.__table__, func.bernoulli(50))), "seed="),
        (select(aliased(Item, tablesample(Item, 50))), "seed="),
        (select(Bundle("of", Item.rank), func.row_number().over(order_by=Item.id)), "Bundle 'of'"),
        (select(Owner).join(Owner.items).options(contains_eager(Owner.items)), "Owner.items"),
    ],
)
def test_what_would_lose_rows_is_refused(within_sqlite, statement, says):
    """Each was paged once, and was wrong."""
    assert says in str(refusal(within_sqlite, statement))


def test_a_key_that_is_too_long_for_a_cursor_is_refused_when_the_cursor_is_made(within_sqlite):
    """The page can be read; a cursor that would be refused is not handed out."""

    def check(session):
        page = keyset(session, select(Item).order_by(literal("z" * 70_000) + Item.name), size=5)
        assert len(page.items) == 5
        with pytest.raises(PagingDeclarationError, match="order by something shorter"):
            page.cursor(0)

    within_sqlite(check)


def test_json_has_no_order_on_postgresql(shops):
    """It is not an order of text, either."""

    def check(session):
        with pytest.raises(PagingDeclarationError, match="jsonb"):
            keyset(session, select(Item.id).order_by(cast(Item.note, JSON)), size=5)

    within_on(shops("psycopg"), is_async=False)(check)


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
            assert len(page._edges.places) == width, str(statement)

    within_sqlite(check)
