"""Whatever the statement, its pages are what it gives unpaged, each row once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session

from perfkit.sqla.asked import asked_of
from tests.paging.cases import cases
from tests.paging.cases_more import more_cases
from tests.paging.conftest import Within
from tests.paging.models import TYPES, Item, Thing
from tests.paging.walks import agrees, whole

CASES = dict(cases())
MORE = [name for name, _ in more_cases("postgresql")]
ON_MARIADB_NOT_EVEN_UNPAGED = {"explicit NULLS"}


@pytest.mark.parametrize("name", CASES)
def test_the_pages_of_a_statement_are_its_rows(name: str, within: Within) -> None:
    """Forward, backward, past the end and back, in pages of any size."""

    def check(session: Session) -> None:
        statement = CASES[name]
        expected = whole(session, statement)
        if not (name in ON_MARIADB_NOT_EVEN_UNPAGED and session.get_bind().dialect.name in ("mysql", "mariadb")):
            assert Counter(map(repr, expected)) == Counter(map(repr, unpaged(session, statement)))
        agrees(session, statement, expected=expected)

    within(check)


@pytest.mark.filterwarnings("ignore:SELECT statement has a cartesian product")
@pytest.mark.parametrize("name", MORE)
def test_the_pages_of_rarer_statements_are_their_rows(name: str, within: Within) -> None:
    """Where the database knows them at all."""

    def check(session: Session) -> None:
        found = dict(more_cases(session.get_bind().dialect.name))
        if name not in found:
            pytest.skip("another database's")
        if name == "lazyjoined" and session.get_bind().dialect.name in ("mysql", "mariadb"):
            pytest.skip("it has no NULLS LAST")
        expected = whole(session, found[name])
        assert Counter(map(repr, expected)) == Counter(map(repr, unpaged(session, found[name])))
        agrees(session, found[name], expected=expected)

    within(check)


@pytest.mark.parametrize("descending", [False, True], ids=["asc", "desc"])
@pytest.mark.parametrize("name", TYPES)
def test_values_of_every_type_come_back_exactly(name: str, descending: bool, within: Within) -> None:
    """As keys with ties and NULLs; a value that is off by its last bit repeats or loses the row."""
    column = getattr(Thing, name)
    statement = select(Thing).order_by(column.desc() if descending else column)

    def check(session: Session) -> None:
        expected = whole(session, statement)
        assert [getattr(each, name) for each in expected] == [
            getattr(each, name) for each in session.scalars(statement)
        ]
        agrees(session, statement, expected=expected, sizes=(1, 3))

    within(check)


def unpaged(session: Session, statement: Any) -> list[Any]:
    """What SQLAlchemy gives by itself."""
    try:
        rows = list(session.execute(statement).all())
    except InvalidRequestError:  # joined eager loads of collections
        rows = list(session.execute(statement).unique().all())
    return [row[0] if len(row) == 1 else row for row in rows]


@pytest.mark.parametrize(
    ("statement", "added"),
    [
        (select(Item.id, Item.name).order_by(Item.name), 0),
        (select(Item.name, Item.rank.label("id"), Item.id.label("r")).order_by("r"), 0),
        (select(Item.id, Item.price).order_by(Item.price), 1),
        (select(Item.name).order_by(Item.rank), 2),
        (select(Item).order_by(Item.rank), 2),
    ],
)
def test_keys_that_are_selected_as_they_are_are_not_read_twice(statement, added: int, within: Within) -> None:
    """Whole numbers and text; a number with a scale may be rounded on its way."""

    def check(session: Session) -> None:
        with asked_of(session.connection()) as asked:
            expected = whole(session, statement)
        assert asked[0][0].count("AS perfkit_key") == added
        agrees(session, statement, expected=expected, sizes=(7,))

    within(check)
