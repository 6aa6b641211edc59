"""What holds for a statement as a whole holds for its pages and for its totals: criteria, a map of schemas, no locks.

A filter of tenants is often no WHERE: `with_loader_criteria` puts it on statements, or on all that a session executes.
"""

from __future__ import annotations

import pytest
from sqlalchemy import StaticPool, create_engine, event, func, insert, select, union_all
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, with_loader_criteria

from perfkit.errors import PagingDeclarationError
from perfkit.paging import Total, capped, carried, estimated, exact, export, keyset, offset
from tests.paging.conftest import within_on
from tests.paging.models import Item

OF_ONE = with_loader_criteria(Item, Item.rank == 1)
NUMBERED = func.row_number().over(order_by=Item.id).label("number")
STATEMENTS = {
    "entities": select(Item),
    "columns": select(Item.id, Item.rank),
    "entities and a window": select(Item, NUMBERED),
    "columns and a window": select(Item.rank, NUMBERED),
    "union": union_all(select(Item.rank), select(Item.rank)),
    "distinct": select(Item.rank).distinct(),
    "groups": select(Item.rank, func.count()).group_by(Item.rank),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_loader_criteria_of_a_statement_hold_for_its_pages_and_totals(name, within):
    statement = STATEMENTS[name].options(OF_ONE)

    def check(session):
        rows = len(session.execute(statement).all())
        assert 0 < rows < len(session.execute(STATEMENTS[name]).all())
        assert len(keyset(session, statement, size=1000)) == rows
        assert len(offset(session, statement, size=1000).items) == rows
        assert sum(map(len, export(session, statement, chunk=3))) == rows
        for count in (exact, capped(1000), estimated(10**9)):
            assert count(session, statement).value == rows

    within(check)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_an_estimate_is_under_the_criteria_of_statement_and_session(shops, driver):
    """Or it would tell one tenant how many rows all of them have."""

    def check(session):
        session.connection().exec_driver_sql("ANALYZE items")
        of_all, of_one = (estimated(1)(session, each).value for each in (select(Item), select(Item).options(OF_ONE)))
        assert of_one < of_all

        @event.listens_for(session, "do_orm_execute")
        def only_one(state):
            if state.is_select:
                state.statement = state.statement.options(OF_ONE)

        assert estimated(1)(session, select(Item)).value == of_one

    within_on(shops(driver), is_async=driver == "asyncpg")(check)


@pytest.mark.parametrize("options", [{"stream_results": True}, {"yield_per": 5}])
def test_a_statement_that_is_streamed_is_estimated(shops, options):
    """PostgreSQL has no server-side cursor of an EXPLAIN."""

    def check(session):
        assert estimated(1)(session, select(Item).execution_options(**options)).kind == "estimate"

    within_on(shops("psycopg"), is_async=False)(check)


def test_an_estimate_finds_the_database_of_its_tables(shops):
    """Also where a session has one for each table."""

    def check(session):
        with Session(binds={Item.__table__: session.get_bind()}) as other:
            assert estimated(1)(other, select(Item.id)).value > 0
            assert estimated(1)(other, select(Item)).value > 0

    within_on(shops("psycopg"), is_async=False)(check)


class Base(DeclarativeBase):
    pass


class Stop(Base):
    __tablename__ = "stops"
    id: Mapped[int] = mapped_column(primary_key=True)


def test_a_total_is_of_the_schema_that_the_statement_is_for():
    engine = create_engine("sqlite://", poolclass=StaticPool)
    of_tenant = {None: "tenant"}
    with engine.begin() as connection:
        connection.exec_driver_sql("ATTACH ':memory:' AS tenant")
        Base.metadata.create_all(connection)
        Base.metadata.create_all(connection.execution_options(schema_translate_map=of_tenant))
        connection.execute(insert(Stop), [{"id": 1}, {"id": 2}])
    with Session(engine) as session:
        statement = select(Stop).execution_options(schema_translate_map=of_tenant)
        for count in (exact, capped(10), estimated()):
            assert count(session, statement).value == len(keyset(session, statement, size=10)) == 2
        once = carried(exact)
        cursor = keyset(session, statement, size=1, count=once).next
        assert keyset(session, statement, size=1, count=once, after=cursor).total.value == 2
        assert keyset(session, select(Stop), size=1, count=once, after=cursor).total == Total(0)
    engine.dispose()


def test_counting_locks_no_rows(within):
    """A page that is read FOR UPDATE locks itself, and not all that is counted."""

    def check(session):
        asked: list[str] = []
        event.listen(session.get_bind(), "before_cursor_execute", lambda *told: asked.append(told[2]))
        statement = select(Item).with_for_update()
        assert exact(session, statement) == exact(session, select(Item))
        capped(10)(session, statement)
        assert len(asked) == 3
        assert not any("FOR UPDATE" in each for each in asked)

    within(check)


@pytest.mark.parametrize("most", [0, -1])
def test_a_bound_below_one_is_refused_where_it_is_declared(most):
    """Not by the first page, and not by some databases only."""
    for count in (capped, estimated):
        with pytest.raises(PagingDeclarationError, match="1 or more"):
            count(most)
