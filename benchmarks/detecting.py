"""What a detector costs a query, against none, queryspy and pytest-queryguard.

One call is a request: a hundred queries in a window, or one list whose two hundred parents load a relation each. All
detectors look at each statement and its line; reading what was found is measured apart, since it happens once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import pytest_queryguard
import queryspy
from sqlalchemy import Engine, ForeignKey, create_engine, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from benchmarks.rounds import Contender, Figure, measure, show
from perfkit.loading import detect
from tools import services

QUERIES, PARENTS = 100, 200


class Base(DeclarativeBase):
    """The benchmark's models."""


class Owner(Base):
    """Whom one parent belongs to."""

    __tablename__ = "detecting_owners"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Thing(Base):
    """One of many parents."""

    __tablename__ = "detecting_things"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("detecting_owners.id"))
    owner: Mapped[Owner] = relationship()


Watch = Callable[[], AbstractContextManager[Any]]
WATCHES: dict[str, Watch] = {
    "no detector": nullcontext,
    "perfkit detect": detect,
    "queryspy": queryspy.record,
    "pytest-queryguard": pytest_queryguard.record_queries,
}


def run(*, quick: bool) -> dict[str, Any]:
    """Print and return the tables of each database."""
    rounds = 3 if quick else 40
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        up = stack.enter_context(services.running())
        urls = {"SQLite": "sqlite://"}
        if up.postgres_url is not None:
            urls["PostgreSQL"] = up.postgres_url.replace("postgresql:", "postgresql+psycopg:")
        else:
            print("No PostgreSQL to be had: only SQLite is measured.", file=sys.stderr)
        for name, url in urls.items():
            engine = create_engine(url)
            _fill(engine)
            for title, work in _works(engine).items():
                found[f"{name}: {title}"] = show(f"{title}, {name}", _compare(work, rounds))
            Base.metadata.drop_all(engine)
            engine.dispose()
    return found


def _fill(engine: Engine) -> None:
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.execute(insert(Owner), [{"id": n, "name": "x"} for n in range(1, PARENTS + 1)])
        session.execute(insert(Thing), [{"id": n, "owner_id": n} for n in range(1, PARENTS + 1)])
        session.commit()


def _works(engine: Engine) -> dict[str, tuple[Callable[[], Any], int]]:
    owners = Owner.__table__

    def points() -> None:
        with Session(engine) as session:
            for number in range(1, QUERIES + 1):
                session.scalars(select(Owner).where(Owner.id == number)).one()

    def core() -> None:
        with engine.connect() as connection:
            for number in range(1, QUERIES + 1):
                connection.execute(select(owners).where(owners.c.id == number)).one()

    def lazy() -> None:
        with Session(engine) as session:
            for thing in session.scalars(select(Thing)).all():
                assert thing.owner.name

    return {
        f"{QUERIES} queries by key of the ORM": (points, 3),
        f"{QUERIES} queries by key of Core": (core, 3),
        f"{PARENTS} lazy loads": (lazy, 1),
    }


def _compare(work: tuple[Callable[[], Any], int], rounds: int) -> list[Figure]:
    run_it, calls = work

    def watched(watch: Watch) -> Callable[[], None]:
        def once() -> None:
            with watch():
                run_it()

        return once

    def read() -> None:
        with detect() as window:
            run_it()
        assert window.findings

    contenders = [
        Contender(name=name, floor="no detector", once=watched(watch), calls=calls) for name, watch in WATCHES.items()
    ]
    contenders.append(Contender(name="perfkit detect, findings read", floor="no detector", once=read, calls=calls))
    return measure(contenders, rounds=rounds)
