"""Pages cost the same at any depth where there is an index for them, and where there is none, a test can tell."""

from __future__ import annotations

import pytest
from sqlalchemy import NullPool, create_engine, make_url, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from perfkit.errors import NotSeekable, PagingDeclarationError
from perfkit.paging import assert_seekable, explain_page, suggest_index
from perfkit.paging.cursor import Position
from perfkit.paging.explain import MAX_BUFFERS, MAX_FILTERED, cost_of
from perfkit.paging.kept import planned

ROWS = 60_000


class Base(DeclarativeBase):
    pass


class Job(Base):
    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[int]
    created: Mapped[int]
    priority: Mapped[int | None]
    active: Mapped[bool]
    org: Mapped[int]
    deleted: Mapped[int | None]
    name: Mapped[str]


INDEXES = (
    "created, id",
    "created DESC, id",
    "status, created, id",
    "status, created DESC, id",
    "priority, id",
    "priority DESC, id",
    "priority DESC NULLS LAST, id",
    "active, id",
)
ORDERINGS = {
    "ties": (Job.created, Job.id),
    "mixed": (Job.created.desc(), Job.id),
    "few values first": (Job.status, Job.created, Job.id),
    "few values first, mixed": (Job.status, Job.created.desc(), Job.id),
    "nullable": (Job.priority, Job.id),
    "nullable, descending": (Job.priority.desc(), Job.id),
    "NULLs last": (Job.priority.desc().nulls_last(), Job.id),
    "boolean": (Job.active, Job.id),
}


@pytest.fixture(scope="module")
def engine(pg_databases):
    engine = create_engine(make_url(pg_databases()).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO jobs SELECT i, i % 4, i / 20, CASE WHEN i % 10 > 2 THEN i % 1000 END, i % 2 = 0, i % 50, "
                f"NULL, 'n' || i % 977 FROM generate_series(1, {ROWS}) i"
            )
        )
        for columns in INDEXES:
            connection.exec_driver_sql(f"CREATE INDEX ON jobs ({columns})")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE jobs")
    yield engine
    engine.dispose()


@pytest.mark.parametrize("name", ORDERINGS)
def test_the_deepest_page_reads_little_more_than_itself(engine, name):
    """All orderings of the measurements: mixed, nullable, led by few values or a boolean."""
    with Session(engine) as session:
        assert_seekable(session, select(Job).order_by(*ORDERINGS[name]))


@pytest.mark.parametrize("name", ["nullable", "nullable, descending", "NULLs last"])
@pytest.mark.parametrize("number", [1_000, 5_000, 15_000])
def test_a_page_within_the_nulls_reads_little_more_than_itself(engine, name, number):
    """Also where few rows are before it, so that the primary key looks good to a planner."""
    with Session(engine) as session:
        session.execute(text("SET LOCAL random_page_cost = 40"))  # as a table looks that is larger than this one
        made = planned(session, select(Job).order_by(*ORDERINGS[name]))
        id_ = session.scalars(select(Job.id).where(Job.priority.is_(None)).order_by(Job.id).offset(number)).first()
        for backward in (False, True):
            cost = cost_of(session, made, Position((None, id_)), 50, backward=backward)
            assert cost.buffers <= MAX_BUFFERS
            assert cost.filtered <= MAX_FILTERED
            assert not cost.sorted


def test_a_page_without_an_index_is_found_out(engine):
    """With the index that is missing, which then serves it."""
    statement = select(Job).where(Job.org == 7, Job.deleted.is_(None)).order_by(Job.name.desc())
    advice = "CREATE INDEX CONCURRENTLY ix_jobs_org_name_id ON jobs (org, name DESC, id) WHERE deleted IS NULL"
    with Session(engine) as session:
        with pytest.raises(NotSeekable) as found:
            assert_seekable(session, statement)
        assert found.value.advice == advice
        assert found.value.filtered > 400

    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(advice)
        connection.exec_driver_sql("ANALYZE jobs")
    with Session(engine) as session:
        assert_seekable(session, statement)


def test_an_index_that_serves_the_far_end_alone_is_found_out(engine):
    """The last pages are read from one with NULLs last, and the first would sort all rows to begin with NULLs."""
    with Session(engine) as session:
        statement = select(Job).order_by(Job.priority.nulls_first(), Job.id)
        assert explain_page(session, statement).buffers <= MAX_BUFFERS
        with pytest.raises(NotSeekable) as found:
            assert_seekable(session, statement)
        assert found.value.advice is not None
        assert "NULLS FIRST" in found.value.advice


def test_the_index_for_an_ordering_has_its_directions(engine):
    """One direction needs none; several tables have no index in common."""
    with Session(engine) as session:
        assert suggest_index(session, select(Job).order_by(Job.created.desc(), Job.id.desc())) == (
            "CREATE INDEX CONCURRENTLY ix_jobs_created_id ON jobs (created, id)"
        )
        assert suggest_index(session, select(Job).order_by(Job.priority.nulls_first())) == (
            "CREATE INDEX CONCURRENTLY ix_jobs_priority_id ON jobs (priority NULLS FIRST, id)"
        )
        assert suggest_index(session, select(Job).order_by(Job.created + 1)) is None
        statement = select(Job).order_by(Job.priority.desc().nulls_last(), Job.id.desc())
        assert suggest_index(session, statement) == (
            "CREATE INDEX CONCURRENTLY ix_jobs_priority_id ON jobs (priority DESC NULLS LAST, id DESC)"
        )


def test_an_empty_table_costs_nothing(engine):
    with Session(engine) as session:
        cost = explain_page(session, select(Job).where(Job.id < 0).order_by(Job.created))
        assert (cost.statements, cost.filtered) == (1, 0)


def test_other_databases_are_not_asked():
    with Session(create_engine("sqlite://")) as session, pytest.raises(PagingDeclarationError, match="PostgreSQL"):
        explain_page(session, select(Job))


def test_columns_without_nulls_need_no_direction_on_any_database():
    """On SQLite they were said to be DESC, because it sorts NULLs the other way round."""
    with Session(create_engine("sqlite://")) as session:
        assert suggest_index(session, select(Job).order_by(Job.created.desc(), Job.id.desc())) == (
            "CREATE INDEX CONCURRENTLY ix_jobs_created_id ON jobs (created, id)"
        )
