"""Collections of entities from the cache that are not SQLAlchemy's own list: filled as by a load, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, keyfunc_mapping, mapped_column, relationship, selectinload
from sqlalchemy.orm.collections import collection

from perfkit import Cache, Policy


class Base(DeclarativeBase):
    pass


class Bag:
    """One that can only be filled and emptied; SQLAlchemy is told how to look into it."""

    def __init__(self) -> None:
        self.inside: list[Any] = []

    @collection.appender
    def put(self, member: Any) -> None:
        self.inside.append(member)

    @collection.remover
    def take(self, member: Any) -> None:
        self.inside.remove(member)

    @collection.iterator
    def each(self) -> Iterator[Any]:
        return iter(self.inside)


def named_by_badge(truck: Truck) -> str:
    return truck.badge.text


class Depot(Base):
    __tablename__ = "depots"
    id: Mapped[int] = mapped_column(primary_key=True)
    bag: Mapped[Bag] = relationship("Truck", collection_class=Bag, viewonly=True)
    by_badge: Mapped[dict[str, Truck]] = relationship(
        collection_class=keyfunc_mapping(lambda truck: named_by_badge(truck)), viewonly=True
    )


class Truck(Base):
    __tablename__ = "trucks"
    id: Mapped[int] = mapped_column(primary_key=True)
    depot_id: Mapped[int] = mapped_column(ForeignKey("depots.id"))
    badge: Mapped[Badge] = relationship()


class Badge(Base):
    __tablename__ = "badges"
    id: Mapped[int] = mapped_column(primary_key=True)
    truck_id: Mapped[int] = mapped_column(ForeignKey("trucks.id"))
    text: Mapped[str]


@pytest.fixture
def engine(tmp_path: Any) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'collections.db'}")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Depot(id=1))
        session.flush()
        session.add_all([Truck(id=n, depot_id=1, badge=Badge(id=n, text=f"badge {n}")) for n in (1, 2)])
        session.commit()
    yield engine
    engine.dispose()


@pytest.fixture
def cache(engine: Engine) -> Iterator[Cache]:
    cache = Cache("collections", Policy(ttl=60))
    cache.connect()
    cache.watch(engine, Base.metadata)
    yield cache
    cache.close()


def by_badge(session: Session) -> Depot:
    return session.scalars(select(Depot).options(selectinload(Depot.by_badge).selectinload(Truck.badge))).one()


def test_a_collection_of_somebodys_own_is_looked_into_as_sqlalchemy_does(engine, cache):
    """By the iterator that its class names, whatever else it can do."""

    @cache.query
    def depot(session: Session) -> Depot:
        return session.scalars(select(Depot).options(selectinload(Depot.bag))).one()

    for _ in range(2):
        with Session(engine) as session:
            assert [truck.id for truck in depot(session).bag.inside] == [1, 2]
    assert cache.stats().hits == 1


def test_members_lead_on_before_a_collection_is_keyed_by_that(engine, cache):
    """Without SQL, as ever."""
    depot = cache.query(by_badge)
    with Session(engine) as session:
        depot(session)
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda connection, cursor, sql, *rest: sent.append(sql))
    with Session(engine) as session:
        assert {text: truck.id for text, truck in depot(session).by_badge.items()} == {"badge 1": 1, "badge 2": 2}
    assert sent == []


def test_a_collection_that_cannot_be_filled_is_loaded_and_not_left_empty(engine, cache, monkeypatch):
    """The database answers, and the session's entity has what it says."""
    depot = cache.query(by_badge)
    with Session(engine) as session:
        depot(session)
    plain, failed = named_by_badge, []

    def fails_once(truck: Truck) -> str:
        if not failed:
            failed.append(truck)
            raise LookupError("no badge")
        return plain(truck)

    monkeypatch.setitem(globals(), "named_by_badge", fails_once)
    with Session(engine) as session:
        assert sorted(depot(session).by_badge) == ["badge 1", "badge 2"]
    assert failed


def test_a_collection_is_made_once(engine, cache):
    """Who listens to new collections hears of it once, as when it is loaded."""
    depot = cache.query(by_badge)
    with Session(engine) as session:
        depot(session)
    made: list[Any] = []

    def listen(entity: Any, made_now: Any, adapter: Any) -> None:
        made.append(made_now)

    event.listen(Depot.by_badge, "init_collection", listen)
    try:
        with Session(engine) as session:
            assert made == [depot(session).by_badge]
    finally:
        event.remove(Depot.by_badge, "init_collection", listen)
