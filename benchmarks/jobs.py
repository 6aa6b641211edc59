"""A table of jobs for benchmarks/paging.py, with an index for each of its orderings, and where a page is how deep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, NullPool, create_engine, make_url, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from perfkit.paging.cursor import Position


class Base(DeclarativeBase):
    """The benchmark's model."""


class Job(Base):
    """20 to a `created`, four of `status`, 30 % without a `priority`."""

    __tablename__ = "paging_jobs"
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[int]
    created: Mapped[int]
    priority: Mapped[int | None]
    active: Mapped[bool]
    name: Mapped[str]


ORDERINGS: dict[str, tuple[Any, ...]] = {
    "created, id": (Job.created, Job.id),
    "created DESC, id": (Job.created.desc(), Job.id),
    "status, created, id": (Job.status, Job.created, Job.id),
    "status, created DESC, id": (Job.status, Job.created.desc(), Job.id),
    "priority, id": (Job.priority, Job.id),
    "priority DESC, id": (Job.priority.desc(), Job.id),
    "priority DESC NULLS LAST, id": (Job.priority.desc().nulls_last(), Job.id),
    "active, id": (Job.active, Job.id),
}
_FILL = (
    "INSERT INTO paging_jobs SELECT i, i % 4, i / 20, CASE WHEN i % 10 > 2 THEN i % 1000 END, i % 2 = 0, "
    "'n' || i % 977 FROM generate_series(1, {}) i"
)


@contextmanager
def filled(url: str, rows: int) -> Iterator[Engine]:
    """An engine whose database has the table, with so many rows; it is dropped at the end."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    try:
        with engine.begin() as connection:
            connection.execute(text(_FILL.format(rows)))
            for columns in ORDERINGS:
                connection.exec_driver_sql(f"CREATE INDEX ON paging_jobs ({columns})")
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE paging_jobs")
        engine.dispose()
        pooled = create_engine(engine.url, connect_args={"options": "-c max_parallel_workers_per_gather=0"})
        yield pooled
        pooled.dispose()
    finally:
        Base.metadata.drop_all(engine)
        engine.dispose()


def ordered(name: str) -> Any:
    """The jobs in an ordering."""
    return select(Job).order_by(*ORDERINGS[name])


def position_at(session: Session, name: str, depth: int) -> Position:
    """The keys of the row that has `depth` rows before it."""
    names = [part.split()[0] for part in name.split(", ")]
    keys = select(*(getattr(Job, each) for each in names)).order_by(*ORDERINGS[name])
    return Position(tuple(session.execute(keys.offset(depth).limit(1)).one()))
