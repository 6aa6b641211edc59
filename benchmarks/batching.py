"""Lazy loads: auto-batching where it is installed and off, and where it is on, against SQLAlchemy alone.

The floors: the same code before a hook was put anywhere. A session of a request is part of each call, so that what a
block and a first batch cost is in it. The same with a loader option says what SQLAlchemy takes where all is known
beforehand: nothing that reads later can be quicker.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sqlalchemy import Engine, ForeignKey, StaticPool, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload, undefer

from benchmarks.rounds import Contender, measure, show
from perfkit.loading import autobatch, batch
from tools import services

PARENTS = 200
CHILDREN = 4  # of each
POINTS = 200  # statements of one call that is idle


class Base(DeclarativeBase):
    """The benchmark's models."""


class Customer(Base):
    """A parent."""

    __tablename__ = "loading_customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    bins: Mapped[list[Bin]] = relationship(back_populates="customer")


class Bin(Base):
    """Four of each."""

    __tablename__ = "loading_bins"
    id: Mapped[int] = mapped_column(primary_key=True)
    kilos: Mapped[int]
    note: Mapped[str] = mapped_column(deferred=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("loading_customers.id"), index=True)
    customer: Mapped[Customer] = relationship(back_populates="bins")


def run(*, quick: bool) -> dict[str, Any]:
    """Print and return a table per database."""
    rounds = 3 if quick else 21
    found: dict[str, Any] = {}
    with services.running() as up:
        urls = {"SQLite in memory": "sqlite://"}
        if up.postgres_url is None:
            print("No PostgreSQL to be had: only SQLite is measured.", file=sys.stderr)
        else:
            urls["PostgreSQL"] = up.postgres_url.replace("postgresql:", "postgresql+psycopg:")
        for name, url in urls.items():
            engine = create_engine(url, **({"poolclass": StaticPool} if url == "sqlite://" else {}))
            _fill(engine)
            found[name] = show(f"Lazy loads, {name}", measure(_contenders(engine), rounds=rounds))
            Base.metadata.drop_all(engine)
            engine.dispose()
        batch.uninstall()
    return found


def _fill(engine: Engine) -> None:
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for number in range(PARENTS):
            bins = [Bin(kilos=each, note=f"note {each}") for each in range(CHILDREN)]
            session.add(Customer(name=f"customer {number}", bins=bins))
        session.commit()


def _points(session: Session) -> Any:
    return [session.scalars(select(Bin).where(Bin.id == number)).one() for number in range(1, POINTS + 1)]


BINS = select(Bin).where(Bin.id % CHILDREN == 0).order_by(Bin.id)
CUSTOMERS = select(Customer).order_by(Customer.id)


def _to_one(session: Session, *options: Any) -> Any:
    return [each.customer.name for each in session.scalars(BINS.options(*options))]


def _to_many(session: Session, *options: Any) -> Any:
    return [len(each.bins) for each in session.scalars(CUSTOMERS.options(*options))]


def _deferred(session: Session, *options: Any) -> Any:
    return [each.note for each in session.scalars(BINS.options(*options))]


def _with(read: Callable[..., Any], option: Any) -> Callable[[Session], Any]:
    return lambda session: read(session, option)


def _contenders(engine: Engine) -> list[Contender]:
    def call(read: Callable[[Session], Any], block: Callable[[], AbstractContextManager[Any]]) -> Callable[[], Any]:
        def once() -> Any:
            with Session(engine) as session, block():
                return read(session)

        return once

    def without_hooks(read: Callable[[Session], Any]) -> Callable[[], Any]:
        plain = call(read, nullcontext)

        def once() -> Any:
            batch.uninstall()
            return plain()

        return once

    def idle(read: Callable[[Session], Any]) -> Callable[[], Any]:
        plain = call(read, nullcontext)

        def once() -> Any:
            batch.install()
            return plain()

        return once

    statements = f"{POINTS} statements"
    loops = {
        f"{PARENTS} bins and their customers": (_to_one, selectinload(Bin.customer)),
        f"{PARENTS} customers and their bins": (_to_many, selectinload(Customer.bins)),
        f"{PARENTS} bins and a deferred column": (_deferred, undefer(Bin.note)),
    }
    made = [
        Contender(name=statements, floor=statements, once=without_hooks(_points), calls=1),
        Contender(name=f"{statements}, installed and off", floor=statements, once=idle(_points), calls=1),
    ]
    for name, (read, option) in loops.items():
        made += [
            Contender(name=name, floor=name, once=call(read, nullcontext), calls=1),
            Contender(name=f"{name}, autobatch", floor=name, once=call(read, autobatch), calls=1),
            Contender(name=f"{name}, by an option", floor=name, once=call(_with(read, option), nullcontext), calls=1),
        ]
    return made
