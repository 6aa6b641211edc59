"""Random rows with ties and NULLs, random orderings, pages of any size: always the rows of the statement."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, NullPool, create_engine, delete, func, insert, make_url, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from perfkit.paging import keyset
from tests.paging.walks import agrees


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "random_rows"
    id: Mapped[int] = mapped_column(primary_key=True)
    a: Mapped[int]
    b: Mapped[int | None]
    c: Mapped[str | None]
    d: Mapped[bool]


COLUMNS = {"a": Row.a, "b": Row.b, "c": Row.c, "d": Row.d, "sum": Row.a + Row.b, "pick": func.coalesce(Row.b, 1)}

rows = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.none() | st.integers(0, 2),
        st.none() | st.sampled_from(["", "x", "y"]),
        st.booleans(),
    ),
    max_size=14,
)
orderings = st.lists(
    st.tuples(st.sampled_from(sorted(COLUMNS)), st.booleans(), st.sampled_from([None, True, False])),
    max_size=4,
    unique_by=lambda term: term[0],
)
calm = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> Any:
    """A database with an empty table."""
    if request.param == "sqlite":
        engine = create_engine("sqlite://")
    else:
        url = request.getfixturevalue("pg_databases")()
        engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def filled(engine: Engine, given_rows: list[Any]) -> Session:
    session = Session(engine)
    session.execute(delete(Row))
    if given_rows:
        session.execute(
            insert(Row),
            [dict(zip("abcd", row, strict=True), id=number * 3) for number, row in enumerate(given_rows, 1)],
        )
    return session


def ordered(terms: list[tuple[str, bool, bool | None]]) -> Any:
    statement = select(Row)
    for name, descending, nulls_first in terms:
        column = COLUMNS[name].desc() if descending else COLUMNS[name].asc()
        if nulls_first is not None:
            column = column.nulls_first() if nulls_first else column.nulls_last()
        statement = statement.order_by(column)
    return statement


@calm
@given(given_rows=rows, terms=orderings)
def test_pages_are_the_rows_of_the_statement(engine, given_rows, terms):
    """The database sorts by the same keys unpaged, with the primary key behind them."""
    with filled(engine, given_rows) as session:
        statement = ordered(terms)
        expected = list(session.scalars(statement.order_by(Row.id)))

        agrees(session, statement, expected=expected, sizes=(1, 2, 3))


@calm
@given(given_rows=rows.filter(len), terms=orderings, size=st.integers(1, 5), choices=st.data())
def test_no_survivor_is_lost_or_repeated(engine, given_rows, terms, size, choices):
    """Rows come and go between pages; every row that was there all the time is seen once, in order."""
    with filled(engine, given_rows) as session:
        statement = ordered(terms)
        before = list(session.scalars(select(Row.id)))
        survivors, seen, cursor, made = set(before), [], None, 0
        backward = choices.draw(st.booleans())
        while True:
            if backward:
                page = keyset(session, statement, size=size, last=cursor is None, before=cursor)
                seen = [row.id for row in page.items] + seen
                cursor = page.previous
            else:
                page = keyset(session, statement, size=size, after=cursor)
                seen += [row.id for row in page.items]
                cursor = page.next
            if cursor is None:
                break
            gone = choices.draw(st.lists(st.sampled_from(before), max_size=3))
            survivors.difference_update(gone)
            session.execute(delete(Row).where(Row.id.in_(gone)))
            if made < 5 and choices.draw(st.booleans()):
                made += 1
                values = choices.draw(rows.filter(len))[0]
                session.execute(insert(Row), [dict(zip("abcd", values, strict=True), id=1000 + made)])
            session.expire_all()

        assert len(seen) == len(set(seen))
        assert survivors <= set(seen)
        order = list(session.scalars(ordered(terms).with_only_columns(Row.id).order_by(Row.id)))
        assert [each for each in seen if each in survivors] == [each for each in order if each in survivors]


@calm
@given(given_rows=rows, terms=orderings, size=st.integers(1, 4), turns=st.lists(st.booleans(), max_size=14))
def test_zig_zag(engine, given_rows, terms, size, turns):
    """Any walk by `next` and `previous` shows the windows of the whole; the flags say where it ends."""
    with filled(engine, given_rows) as session:
        statement = ordered(terms)
        whole = list(session.scalars(statement.order_by(Row.id)))
        page, start = keyset(session, statement, size=size), 0
        for forward in turns:
            end = start + len(page)
            assert page.items == whole[start:end]
            assert page.has_previous == (start > 0)
            assert page.has_next == (end < len(whole))
            if forward and page.next is not None:
                page, start = keyset(session, statement, size=size, after=page.next), end
            elif not forward and page.previous is not None:
                page = keyset(session, statement, size=size, before=page.previous)
                start -= len(page)
