"""Entities from the cache: those of the caller's session, as a load would have made them, and without SQL."""

from __future__ import annotations

import enum
import gc
import sqlite3
import struct
import subprocess
import sys
import threading
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import JSON, ForeignKey, ForeignKeyConstraint, Numeric, Row, create_engine, event, func, select, text
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.ext.mutable import MutableDict, MutableList
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    Session,
    WriteOnlyMapped,
    attribute_keyed_dict,
    column_property,
    composite,
    defer,
    joinedload,
    lazyload,
    load_only,
    make_transient_to_detached,
    mapped_column,
    object_session,
    query_expression,
    reconstructor,
    relationship,
    scoped_session,
    selectinload,
    sessionmaker,
    undefer,
    with_expression,
    with_loader_criteria,
)
from sqlalchemy.orm.attributes import set_committed_value

from perfkit import Cache, Policy
from perfkit.cache import MemoryStore, Reason, only
from perfkit.codec import Codec, Graph
from perfkit.errors import NotCached, Unpackable, Unreadable
from perfkit.sqla import entities
from perfkit.sqla.private import placing
from tests.cache.test_dependencies import Counting


class Base(DeclarativeBase):
    pass


class Kind(enum.Enum):
    GLASS = "glass"
    PAPER = "paper"


@dataclass
class Point:
    x: float
    y: float


class Depot(Base):
    __tablename__ = "depots"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    settings: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON), default=dict)
    labels: Mapped[list[str]] = mapped_column(MutableList.as_mutable(JSON), default=list)
    trucks: Mapped[list[Truck]] = relationship(back_populates="depot", order_by="Truck.id")
    by_plate: Mapped[dict[str, Truck]] = relationship(
        collection_class=attribute_keyed_dict("plate"), viewonly=True, order_by="Truck.id"
    )
    as_set: Mapped[set[Truck]] = relationship(collection_class=set, viewonly=True)
    dynamic: DynamicMapped[Truck] = relationship(viewonly=True)
    written: WriteOnlyMapped[Truck] = relationship(viewonly=True)


class Truck(Base):
    __tablename__ = "trucks"
    __mapper_args__ = {"polymorphic_on": "type", "polymorphic_identity": "truck"}  # noqa: RUF012
    id: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str]
    plate: Mapped[str] = mapped_column()
    kind: Mapped[Kind]
    token: Mapped[UUID]
    bought: Mapped[date]
    seen_at: Mapped[datetime]
    price: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    notes: Mapped[str | None] = mapped_column(deferred=True)
    x: Mapped[float] = mapped_column()
    y: Mapped[float]
    version: Mapped[int] = mapped_column(default=1)
    depot_id: Mapped[int | None] = mapped_column(ForeignKey("depots.id"))
    follows_id: Mapped[int | None] = mapped_column(ForeignKey("trucks.id"))
    place: Mapped[Point] = composite("x", "y")
    upper: Mapped[str] = column_property(func.upper(plate))
    distance: Mapped[float | None] = query_expression()
    depot: Mapped[Depot | None] = relationship(back_populates="trucks")
    follows: Mapped[Truck | None] = relationship(remote_side=lambda: Truck.id, back_populates="followers")
    followers: Mapped[list[Truck]] = relationship(back_populates="follows", order_by="Truck.id")
    trips: Mapped[list[Trip]] = relationship(order_by="Trip.number")

    @reconstructor
    def reconstruct(self) -> None:
        self._seen = f"{self.plate} with {len(self.__dict__.get('trips', ()))} trips"


class Tipper(Truck):
    __mapper_args__ = {"polymorphic_identity": "tipper"}  # noqa: RUF012
    angle: Mapped[int | None]


class Crane(Truck):
    __tablename__ = "cranes"
    __mapper_args__ = {"polymorphic_identity": "crane"}  # noqa: RUF012
    id: Mapped[int] = mapped_column(ForeignKey("trucks.id"), primary_key=True)
    reach: Mapped[float]


class Trip(Base):
    __tablename__ = "trips"
    truck_id: Mapped[int] = mapped_column(ForeignKey("trucks.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    kg: Mapped[float]
    weighings: Mapped[list[Weighing]] = relationship(order_by="Weighing.id")


class Weighing(Base):
    __tablename__ = "weighings"
    __table_args__ = (ForeignKeyConstraint(["truck_id", "trip"], ["trips.truck_id", "trips.number"]),)
    id: Mapped[int] = mapped_column(primary_key=True)
    truck_id: Mapped[int]
    trip: Mapped[int]
    kg: Mapped[Decimal] = mapped_column(Numeric(8, 3))


class Counted(Base):
    """With a version that each flush looks at."""

    __tablename__ = "counted"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


@dataclass
class Page:
    items: list[Truck]
    total: int
    first: Truck | None = None


class Fleet:
    """A database, a cache, and how many statements were run."""

    def __init__(self, path: Any, store: MemoryStore | None = None) -> None:
        self.engine = create_engine(f"sqlite:///{path}")
        Base.metadata.create_all(self.engine)
        self.statements: list[str] = []
        event.listen(self.engine, "before_cursor_execute", self._count)
        self.cache = Cache("fleet", Policy(ttl=60))
        self.cache.connect(store or "memory://")
        self.cache.watch(self.engine, Base.metadata)
        with Session(self.engine) as session:
            self._fill(session)

    def _count(self, connection: Any, cursor: Any, sql: str, *rest: Any) -> None:
        self.statements.append(sql)

    @staticmethod
    def _fill(session: Session) -> None:
        north, south = Depot(id=1, name="north", settings={"open": 7}, labels=["a"]), Depot(id=2, name="south")
        session.add_all([north, south])
        for number in range(1, 7):
            common: dict[str, Any] = {
                "id": number,
                "plate": f"ABC-{number}",
                "kind": Kind.GLASS if number % 2 else Kind.PAPER,
                "token": UUID(int=number),
                "bought": date(2020, 1, number),
                "seen_at": datetime(2026, 1, 2, 3, 4, number, 567, tzinfo=UTC).replace(tzinfo=None),
                "price": Decimal("1000.50") * number,
                "notes": f"note {number}",
                "x": 1.0 * number,
                "y": 2.5,
                "depot_id": (1, 2, None)[number % 3],
                "follows_id": number - 1 or None,
            }
            truck = (
                Tipper(angle=30, **common)
                if number % 3 == 1
                else Crane(reach=12.5, **common)
                if number % 3 == 2
                else Truck(**common)
            )
            session.add(truck)
        session.flush()
        for number in range(1, 4):
            session.add_all([Trip(truck_id=number, number=each, kg=each * 10.0) for each in (1, 2)])
        session.flush()
        for number in range(1, 7):
            session.add(Weighing(id=number, truck_id=(number + 1) // 2, trip=1, kg=Decimal("7.125")))
        session.add(Counted(id=1, name="one", version=1))
        session.commit()

    @contextmanager
    def session(self, **options: Any) -> Iterator[Session]:
        with Session(self.engine, **options) as session:
            yield session

    @contextmanager
    def silently(self) -> Iterator[None]:
        """No statement may be run inside."""
        before = len(self.statements)
        yield
        assert self.statements[before:] == []

    def cached(self, statement: Any, **options: Any) -> Callable[[Session], list[Any]]:
        """A cached function that gives the entities of a statement, filled."""

        @self.cache.query(entities=True, version=str(uuid4()), **options)
        def found(session: Session) -> Any:
            return session.scalars(statement()).unique().all()

        with self.session() as session:
            found(session)
        assert self.cache.stats().unkept == {}
        return found

    def close(self) -> None:
        self.cache.close()
        self.engine.dispose()


@pytest.fixture(params=["memory", "served"])
def fleet(request, tmp_path) -> Iterator[Fleet]:
    """Held in this process, or asked for as of a server."""
    fleet = Fleet(tmp_path / "fleet.db", None if request.param == "memory" else Counting())
    yield fleet
    fleet.close()


def everything() -> Any:
    """Trucks with all that can be loaded beside them."""
    return (
        select(Truck)
        .order_by(Truck.id)
        .options(
            joinedload(Truck.depot).selectinload(Depot.trucks),
            joinedload(Truck.depot).selectinload(Depot.by_plate),
            joinedload(Truck.depot).selectinload(Depot.as_set),
            selectinload(Truck.follows),
            selectinload(Truck.followers),
            selectinload(Truck.trips).selectinload(Trip.weighings),
            undefer(Truck.notes),
            with_expression(Truck.distance, Truck.x * 2),
        )
    )


# ---- what comes back


def test_a_hit_gives_entities_of_the_callers_session_without_sql(fleet):
    """All of them, and everything that was loaded with them."""
    trucks = fleet.cached(everything)

    with fleet.session() as session, fleet.silently():
        found = trucks(session)
        first, second, third = found[:3]
        assert [truck.id for truck in found] == [1, 2, 3, 4, 5, 6]
        assert [type(truck) for truck in found] == [Tipper, Crane, Truck] * 2
        assert all(truck in session for truck in found)
        assert (first.plate, first.kind, first.token, first.bought) == (
            "ABC-1",
            Kind.GLASS,
            UUID(int=1),
            date(2020, 1, 1),
        )
        assert first.seen_at == datetime(2026, 1, 2, 3, 4, 1, 567)  # noqa: DTZ001
        assert str(first.price) == "1000.50"
        assert first.notes == "note 1"
        assert first.upper == "ABC-1"
        assert first.distance == 2.0
        assert first.place == Point(1.0, 2.5)
        assert first._seen == "ABC-1 with 2 trips"
        assert second.follows is first
        assert first.followers == [second]
        assert second.depot is None
        assert first.depot is found[3].depot
        assert first.depot.trucks == [first, found[3]]
        assert first.depot.by_plate == {"ABC-1": first, "ABC-4": found[3]}
        assert first.depot.as_set == {first, found[3]}
        assert [trip.kg for trip in third.trips] == [10.0, 20.0]
        assert [weighing.kg for weighing in third.trips[0].weighings] == [Decimal("7.125")] * 2
        assert not session.dirty
        assert not session.new
        assert fleet.engine.pool.checkedout() == 0
    assert fleet.cache.stats().hits == 1


def test_what_was_not_loaded_is_loaded_when_it_is_asked_for(fleet):
    """By one statement each, as of any entity."""
    trucks = fleet.cached(lambda: select(Truck).where(Truck.id == 5).options(load_only(Truck.plate)))

    with fleet.session() as session:
        with fleet.silently():
            (crane,) = trucks(session)
            assert crane.plate == "ABC-5"
            assert sa_inspect(crane).unloaded >= {"price", "notes", "depot", "trips", "reach"}
        before = len(fleet.statements)
        assert crane.reach == 12.5
        assert crane.price == Decimal("5002.50")
        assert "version" in crane.__dict__
        assert "notes" not in crane.__dict__
        assert crane.depot is None or crane.depot.name
        assert crane.notes == "note 5"
        assert len(fleet.statements) > before


@pytest.mark.parametrize(
    ("result", "check"),
    [
        (lambda s: s.get(Truck, 1), lambda v, s: v.plate == "ABC-1" and v in s),
        (lambda s: s.get(Truck, 99), lambda v, s: v is None),
        (lambda s: (s.get(Truck, 1), 7), lambda v, s: v[0] in s and v[1] == 7),
        (lambda s: {"a": [s.get(Truck, 1)], 2: s.get(Truck, 2)}, lambda v, s: v["a"][0] in s and v[2].id == 2),
        (lambda s: {s.get(Truck, 1), s.get(Truck, 2)}, lambda v, s: {t.id for t in v} == {1, 2}),
        (lambda s: [s.get(Truck, 1)] * 3, lambda v, s: len(v) == 3 and v[0] is v[2]),
        (lambda s: list(s.scalars(select(Truck).where(Truck.id > 99))), lambda v, s: v == []),
        (lambda s: [s.get(Truck, 1), None, "x", s.get(Depot, 1)], lambda v, s: v[1:3] == [None, "x"] and v[3] in s),
        (
            lambda s: Page([s.get(Truck, 1)], 1, s.get(Truck, 1)),
            lambda v, s: type(v) is Page and v.items[0] is v.first and v.first in s,
        ),
        (
            lambda s: s.execute(select(Truck, func.count(Trip.number)).join(Truck.trips).group_by(Truck.id)).all(),
            lambda v, s: [(type(r), r.Truck.id, r[1]) for r in v] == [(Row, n, 2) for n in (1, 2, 3)] and v[0][0] in s,
        ),
        (
            lambda s: s.execute(select(Truck, Depot).join(Depot).order_by(Truck.id)).all(),
            lambda v, s: all(row.Truck in s and row.Depot in s for row in v) and len(v) == 4,
        ),
    ],
)
def test_entities_stand_anywhere_in_a_result(fleet, result, check):
    """Alone, in rows, in pages; the same one is the same one."""

    @fleet.cache.query(entities=True, version=str(uuid4()))
    def found(session: Session) -> list[Page]:
        return result(session)

    with fleet.session() as session:
        assert check(found(session), session)
    with fleet.session() as session, fleet.silently():
        value = found(session)
        assert check(value, session)
    assert fleet.cache.stats().hits == 1


def test_the_annotation_asks_for_entities(fleet):
    """So that most functions need no option."""

    @fleet.cache.query()
    def page(session: Session) -> Page:
        return Page([session.get_one(Truck, 2)], 1)

    for _ in range(2):
        with fleet.session() as session:
            found = page(session).items[0]
            assert found in session
            assert isinstance(found, Crane)
    assert fleet.cache.stats().hits == 1


async def _twice(engine: Any, work: Callable[[AsyncSession], Any]) -> list[Any]:
    found = []
    for _ in range(2):
        async with AsyncSession(engine) as session:
            found.append(await work(session))
    return found


def test_async_functions_have_them_too(tmp_path):
    """And what is not loaded can be awaited."""
    import asyncio

    fleet = Fleet(tmp_path / "fleet.db")
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/fleet.db")
    fleet.cache.watch(engine)

    @fleet.cache.query()
    async def trucks(session: AsyncSession, kind: Kind) -> list[Truck]:
        return list(await session.scalars(select(Truck).where(Truck.kind == kind).options(selectinload(Truck.trips))))

    async def work(session: AsyncSession) -> Any:
        found = await trucks(session, Kind.GLASS)
        assert all(truck in session for truck in found)
        depot = await session.run_sync(lambda _: found[0].depot)
        return [(truck.id, len(truck.trips)) for truck in found], depot.name

    async def run() -> list[Any]:
        found = await _twice(engine, work)
        await engine.dispose()
        return found

    first, second = asyncio.run(run())
    assert first == second == ([(1, 2), (3, 2), (5, 0)], "south")
    assert fleet.cache.stats().hits == 1
    fleet.close()


def test_a_scoped_session_is_the_session(fleet):
    """The one of this thread."""
    scoped = scoped_session(sessionmaker(fleet.engine))

    @fleet.cache.query()
    def truck(session: scoped_session[Session]) -> Truck:
        return session.get_one(Truck, 1)

    truck(scoped)
    scoped.remove()
    with fleet.silently():
        found = truck(scoped)
        assert object_session(found) is scoped()
    scoped.remove()


def test_without_one_session_the_function_is_called(fleet):
    """Entities have to live somewhere."""

    @fleet.cache.query()
    def of_two(one: Session, other: Session) -> list[Truck]:
        return [one.get_one(Truck, 1), other.get_one(Truck, 1)]

    with fleet.session() as one, fleet.session() as other:
        first, second = of_two(one, other)
        assert first is not second
    assert fleet.cache.stats().bypasses == {Reason.NO_SESSION: 1}


# ---- what the session holds


def test_an_entity_that_the_session_holds_is_the_one(fleet):
    """As it is there; what it has not loaded is added."""
    trucks = fleet.cached(lambda: select(Truck).where(Truck.id == 1).options(selectinload(Truck.trips)))

    with fleet.session() as session:
        held = session.scalars(select(Truck).where(Truck.id == 1).options(load_only(Truck.plate))).one()
        held.__dict__["plate"] = "as it was read"
        with fleet.silently():
            (found,) = trucks(session)
            assert found is held
            assert found.plate == "as it was read"
            assert found.price == Decimal("1000.50")
            assert [trip.number for trip in found.trips] == [1, 2]
            assert not session.dirty


def test_relations_that_the_session_has_loaded_stay(fleet):
    """They may have been changed there."""
    trucks = fleet.cached(lambda: select(Truck).options(selectinload(Truck.trips), selectinload(Truck.depot)))
    with fleet.session() as session:
        held = session.get_one(Truck, 1)
        set_committed_value(held, "trips", [])
        set_committed_value(held, "depot", None)
        found = trucks(session)
        assert found[0] is held
        assert (held.trips, held.depot) == ([], None)
        assert len(found[1].trips) == 2


def test_an_expired_entity_has_its_values_again(fleet):
    """After a commit, without a statement."""
    trucks = fleet.cached(lambda: select(Truck).where(Truck.id == 1))
    depots = fleet.cached(lambda: select(Depot).where(Depot.id == 1))

    with fleet.session() as session:
        truck, depot = trucks(session)[0], depots(session)[0]
        session.commit()
        assert "plate" not in truck.__dict__
        with fleet.silently():
            assert trucks(session) == [truck]
            assert truck.plate == "ABC-1"
            assert depots(session) == [depot]
            assert depot.settings == {"open": 7}
        depot.settings["open"] = 8
        assert session.dirty


def test_what_the_function_put_beside_the_columns_is_that_of_each_call(fleet):
    """Also where the session holds the entity with what another call has put there, or the same one before a change."""

    @fleet.cache.query(entities=True)
    def ranked(session: Session, factor: int) -> Any:
        found = session.scalars(select(Depot).order_by(Depot.id)).all()
        trucks = session.scalar(select(func.count(Truck.id)))
        for each in found:
            each.rank = each.id * factor + trucks * 100
        return found

    for factor in (1, 2):
        with fleet.session() as session:
            ranked(session, factor)
    with fleet.session() as session:
        held = session.scalars(select(Depot)).all()
        for factor, ranks in ((1, [601, 602]), (2, [602, 604]), (1, [601, 602])):
            assert [each.rank for each in ranked(session, factor)] == ranks
        session.commit()
        with fleet.session() as other:
            other.delete(other.get_one(Truck, 6))
            other.commit()
        with fleet.session() as other:
            ranked(other, 1)
        assert [each.rank for each in ranked(session, 1)] == [501, 502]
        assert [each.rank for each in held] == [501, 502]


@pytest.mark.parametrize("expires", [None, ["plate", "x", "depot"]], ids=["all", "some"])
def test_an_entity_that_had_expired_counts_as_loaded(fleet, expires):
    """As after a load: nothing that it has is still waited for."""

    def statement() -> Any:
        return select(Truck).order_by(Truck.id).options(selectinload(Truck.depot))

    trucks = fleet.cached(statement)
    found = []
    for read in (trucks, lambda session: session.scalars(statement()).all()):
        with fleet.session() as session:
            held = session.get_one(Truck, 1)
            session.expire(held, expires)
            session.rollback() if expires is None else None
            assert read(session)[0] is held
            state = sa_inspect(held)
            found.append((sorted(state.expired_attributes), sorted(state.unloaded), state.expired, state.modified))
            session.expire(held, ["price"])
            assert held.price == Decimal("1000.50")
            with fleet.silently():
                assert held.depot.name == "south"
                assert held.place == Point(1.0, 2.5)
    assert found[0] == found[1]


def test_a_rollback_ends_what_a_hit_gave_as_what_a_load_gave(fleet):
    """No transaction had begun, so that nothing expired, and the session gave the old values for ever after."""
    trucks = fleet.cached(lambda: select(Truck).where(Truck.id == 1))

    with fleet.session() as session:
        (truck,) = trucks(session)
        assert fleet.cache.stats().hits == 1
        with fleet.session() as other:
            other.get_one(Truck, 1).plate = "NEW-1"
            other.commit()
        session.rollback()

        assert truck.plate == "NEW-1"
        assert trucks(session)[0].plate == "NEW-1"


def test_pending_changes_are_asked_of_the_database(fleet):
    """Never overwritten, never hidden."""
    trucks = fleet.cached(lambda: select(Truck).order_by(Truck.id))

    with fleet.session() as session:
        trucks(session)[0].plate = "mine"
        found = trucks(session)
        assert found[0].plate == "mine"
        assert session.scalar(select(Truck.plate).where(Truck.id == 1)) == "mine"
        session.rollback()
        assert found[0].plate == "ABC-1"
    with fleet.session() as session:
        session.delete(trucks(session)[5])
        assert len(trucks(session)) == 5
    assert fleet.cache.stats().bypasses == {Reason.OWN_WRITES: 2}


def test_a_load_that_was_given_a_held_entity_is_not_kept(fleet):
    """It may be as it was long ago."""

    @fleet.cache.query()
    def truck(session: Session) -> Truck:
        return session.get_one(Truck, 1)

    with fleet.session() as session:
        held = session.get(Truck, 1)
        assert truck(session) is held
    assert fleet.cache.stats().unkept == {Reason.IDENTITY_MAP: 1}


def test_what_cannot_be_put_together_is_loaded_instead(fleet, monkeypatch):
    """And kept in its place, for sync and for async functions."""
    import asyncio

    trucks = fleet.cached(lambda: select(Truck).where(Truck.id == 1))
    engine = create_async_engine(str(fleet.engine.url).replace("sqlite:", "sqlite+aiosqlite:"))
    fleet.cache.watch(engine)

    @fleet.cache.query()
    async def later(session: AsyncSession) -> list[Truck]:
        return list(await session.scalars(select(Truck).where(Truck.id == 1)))

    async def ask() -> str:
        async with AsyncSession(engine) as session:
            return (await later(session))[0].plate

    def refuse(*_: object) -> None:
        raise Unreadable("another class in its place")

    async def run() -> None:
        assert await ask() == "ABC-1"
        monkeypatch.setattr(Graph, "into", refuse)
        assert await ask() == "ABC-1"
        await engine.dispose()

    asyncio.run(run())
    with fleet.session() as session:
        assert trucks(session)[0].plate == "ABC-1"
    stats = fleet.cache.stats()
    assert (stats.hits, stats.fills) == (2, 4)


def test_an_entity_of_another_class_is_not_put_in_its_place(fleet):
    """A row that has changed its class while the session held it."""
    trucks = fleet.cached(lambda: select(Truck).where(Truck.id == 1))
    with fleet.session() as session:
        key = sa_inspect(trucks(session)[0]).key
    with fleet.session() as session:
        other = Depot(id=1, name="x")
        make_transient_to_detached(other)
        sa_inspect(other).key = key
        session.add(other)
        graph = fleet.cache._declared[0].codec.unpack(packed_of(fleet, trucks))
        with pytest.raises(Unreadable, match="holds a Depot"):
            graph.into(session)


def packed_of(fleet: Fleet, function: Any) -> bytes:
    """The bytes of what a cached function gives."""
    with fleet.session() as session:
        return fleet.cache._declared[0].codec.pack(function(session))


def test_callers_who_wait_for_one_load_have_entities_of_their_own(fleet):
    """Made of what the leader kept."""
    begun, go_on = threading.Event(), threading.Event()
    loads: list[int] = []

    @fleet.cache.query()
    def trucks(session: Session) -> list[Truck]:
        loads.append(1)
        found = list(session.scalars(select(Truck)))
        begun.set()
        assert go_on.wait(10)
        return found

    def ask() -> None:
        with fleet.session() as session:
            assert all(truck in session for truck in trucks(session))

    go_on.set()
    ask()  # what it reads is known from here on, so that callers may share a load
    with fleet.engine.begin() as connection:
        connection.execute(text("UPDATE trucks SET plate = 'X' WHERE id = 1"))
    begun.clear()
    go_on.clear()
    waiting = threading.Semaphore(0)
    flights = fleet.cache._runtime._flights
    real = flights._follow

    async def follow(*args: Any) -> Any:
        waiting.release()
        return await real(*args)

    flights._follow = follow
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(ask)]
        assert begun.wait(10)
        asked += [pool.submit(ask) for _ in range(2)]
        assert waiting.acquire(timeout=10)
        assert waiting.acquire(timeout=10)
        go_on.set()
        for each in asked:
            each.result(10)
    assert (len(loads), fleet.cache.stats().shared) == (2, 2)


# ---- they are entities


def test_a_change_to_one_is_saved(fleet):
    """And the next call sees it."""
    trucks = fleet.cached(everything)
    with fleet.session() as session:
        truck = trucks(session)[2]
        truck.plate = "NEW-1"
        truck.depot.settings["open"] = 9
        truck.depot.labels.append("b")
        truck.trips.append(Trip(truck_id=3, number=3, kg=5))
        session.delete(truck.trips[0].weighings[0])
        session.commit()

    with fleet.session() as session:
        truck = trucks(session)[2]
        assert truck.plate == "NEW-1"
        assert (truck.depot.settings, truck.depot.labels) == ({"open": 9}, ["a", "b"])
        assert [trip.number for trip in truck.trips] == [1, 2, 3]
        assert len(truck.trips[0].weighings) == 1


def test_a_version_is_looked_at_when_one_is_saved(fleet):
    """It came with the rest."""
    counted = fleet.cached(lambda: select(Counted))
    with fleet.session() as session:
        found = counted(session)[0]
        found.name = "two"
        session.commit()
        assert found.version == 2


def test_two_sessions_have_nothing_in_common(fleet):
    """Not an entity, not a list, not a dict in a column."""
    depots = fleet.cached(lambda: select(Depot).where(Depot.id == 1).options(selectinload(Depot.trucks)))
    with fleet.session() as one, fleet.session() as other:
        mine, its = depots(one)[0], depots(other)[0]
        assert mine is not its
        mine.settings["open"] = 1
        mine.trucks.clear()
        assert its.settings == {"open": 7}
        assert len(its.trucks) == 2
        one.rollback()


def test_those_whom_nobody_holds_are_let_go(fleet):
    """The identity map is as weak as ever."""
    trucks = fleet.cached(everything)
    with fleet.session() as session:
        trucks(session)
        gc.collect()
        assert len(session.identity_map) == 0


def test_listeners_hear_of_loads(fleet):
    """Once for each that is new in the session."""
    trucks = fleet.cached(lambda: select(Truck).where(Truck.id < 3))
    loaded: list[int] = []
    persistent: list[int] = []
    event.listen(Truck, "load", lambda truck, _: loaded.append(truck.id), propagate=True)
    with fleet.session() as session:
        event.listen(session, "loaded_as_persistent", lambda _, truck: persistent.append(truck.id))
        trucks(session)
        kept = trucks(session)
        assert len(kept) == 2
    assert sorted(loaded) == sorted(persistent)
    assert set(loaded) == {1, 2}


# ---- what cannot be


def test_an_entity_that_was_not_asked_for_is_refused(fleet):
    """With what to say."""

    @fleet.cache.query()
    def page(session: Session) -> Any:
        return {"trucks": [session.get(Truck, 1)]}

    with fleet.session() as session, pytest.raises(Unpackable, match=r"result\['trucks'\]\[0\].*entities=True"):
        page(session)


@pytest.mark.parametrize("has_entities", [False, True])
@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        (lambda depot: {"all": depot.dynamic}, r"result\['all'\].*Depot\.dynamic"),
        (lambda depot: depot.written, r"result.*Depot\.written"),
        (lambda depot: [depot.trucks], r"result\[0\].*Depot\.trucks"),
    ],
)
def test_a_relation_that_is_not_loaded_is_named(fleet, chosen, name, has_entities):
    """A value that would be loaded later is none."""

    @fleet.cache.query(entities=has_entities)
    def value(session: Session) -> Any:
        return chosen(session.get_one(Depot, 1))

    with fleet.session() as session, pytest.raises(Unpackable, match=name):
        value(session)


def test_an_entity_that_is_not_stored_is_refused(fleet):
    """It is nobody's."""

    @fleet.cache.query(tags="trucks")
    def new(session: Session) -> Truck:
        session.scalar(select(func.count()).select_from(Truck))
        return Truck(plate="new")

    with fleet.session() as session, pytest.raises(Unpackable, match=r"result, of type .*Truck.* stored"):
        new(session)


def test_entities_that_are_filled_anew_are_not_kept(fleet):
    """What the session held before would be as old after a hit as it was."""

    @fleet.cache.query(entities=True)
    def depots(session: Session) -> Any:
        statement = select(Depot).order_by(Depot.id).execution_options(populate_existing=True)
        return session.scalars(statement).all()

    with fleet.session() as session, fleet.session() as other:
        held = session.get_one(Depot, 1)
        session.rollback()
        assert held.name == "north"
        other.get_one(Depot, 1).name = "east"
        other.commit()
        with fleet.session() as third, pytest.warns(NotCached, match="populate_existing"):
            depots(third)
        assert depots(session)[0].name == "east"
    assert fleet.cache.stats().hits == 0


def test_values_that_are_read_anew_are_kept(fleet):
    """They hold nothing of the session."""

    @fleet.cache.query
    def names(session: Session) -> list[str]:
        return [each.name for each in session.scalars(select(Depot).execution_options(populate_existing=True))]

    for _ in range(2):
        with fleet.session() as session:
            assert sorted(names(session)) == ["north", "south"]
    assert fleet.cache.stats().hits == 1


OF_ONE = with_loader_criteria(Truck, lambda cls: cls.id == 1)


@pytest.mark.parametrize("tags", [(), only(Depot, Truck)], ids=["learned", "given"])
def test_entities_under_criteria_are_not_kept(fleet, tags):
    """What they load later obeys the criteria of their statement, of which nothing would be left after a hit."""

    @fleet.cache.query(entities=True, tags=tags)
    def depots(session: Session) -> Any:
        return session.scalars(select(Depot).where(Depot.id == 2).options(OF_ONE)).all()

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            with fleet.session() as session:
                assert [truck.id for truck in depots(session)[0].trucks] == [1]
    assert fleet.cache.stats().unkept == {Reason.CRITERIA: 2}
    assert [str(each.message).endswith("takes it off them, and a relation's and_() is one, too.") for each in told] == (
        [] if tags else [True]
    )


def test_entities_under_criteria_for_their_own_statement_are_kept(fleet):
    """What they load later is under none."""
    alone = with_loader_criteria(Depot, lambda cls: cls.id == 2, propagate_to_loaders=False)
    depots = fleet.cached(lambda: select(Depot).options(alone))
    with fleet.session() as session:
        assert [depot.id for depot in depots(session)] == [2]
    assert fleet.cache.stats().hits == 1


def test_entities_by_their_keys_under_criteria_are_not_kept(fleet):
    """Which a listener of the session has given them."""

    def filtered(state: Any) -> None:
        if not state.is_relationship_load and not state.is_column_load:
            state.statement = state.statement.options(OF_ONE)

    for _ in range(2):
        with fleet.session() as session, warnings.catch_warnings(action="ignore", category=NotCached):
            event.listen(session, "do_orm_execute", filtered)
            assert [truck.id for truck in fleet.cache.get(session, Depot, 2).trucks] == [1]
        with fleet.session() as session, warnings.catch_warnings(action="ignore", category=NotCached):
            event.listen(session, "do_orm_execute", filtered)
            assert [truck.id for truck in fleet.cache.get_many(session, Depot, [2])[2].trucks] == [1]
    assert fleet.cache.stats().hits == 0


def test_an_entity_that_has_expired_is_refused(fleet):
    """The message says why its values are gone, and not only that they are."""

    @fleet.cache.query(entities=True)
    def trucks(session: Session) -> Any:
        found = session.scalars(select(Truck)).all()
        session.commit()
        return found

    with fleet.session() as session, pytest.raises(Unpackable, match=r"it has expired: its session was committed"):
        trucks(session)


def test_what_somebody_put_beside_the_columns_is_named(fleet):
    """With what can be done about it."""

    @fleet.cache.query(entities=True)
    def trucks(session: Session) -> Any:
        found = session.scalars(select(Truck)).all()
        for each in found:
            each.lock = threading.Lock()
        return found

    with fleet.session() as session, pytest.raises(Unpackable, match=r"its lock is of type lock; that is no column"):
        trucks(session)


def test_an_entity_of_a_shard_is_refused(fleet):
    """Its key alone does not tell it from that of another."""

    @fleet.cache.query()
    def truck(session: Session) -> Truck:
        return session.get_one(Truck, 1, identity_token="north")

    with fleet.session() as session, pytest.raises(Unpackable, match="shard"):
        truck(session)


def test_a_column_that_cannot_be_kept_is_named(fleet):
    """With the entity that has it."""

    @fleet.cache.query()
    def truck(session: Session) -> list[Truck]:
        found = session.get_one(Truck, 1)
        found.helper = object()
        return [found]

    with (
        fleet.session() as session,
        pytest.raises(Unpackable, match=r"result\[0\].*Tipper.*its helper is of type object"),
    ):
        truck(session)


# ---- with all else


def test_every_operation_knows_them(fleet):
    """refresh, peek, explain, drop."""

    @fleet.cache.query()
    def truck(session: Session, truck_id: int) -> Truck | None:
        return session.get(Truck, truck_id)

    with fleet.session() as session:
        assert fleet.cache.refresh(truck, session, 1).plate == "ABC-1"
    with fleet.session() as session, fleet.silently():
        peeked = fleet.cache.peek(truck, session, 1)
        assert peeked.value in session
    with fleet.session() as session:
        assert "valid" in str(fleet.cache.explain(truck, session, 1))
        assert fleet.cache.drop(truck, session, 1)
    warmed = fleet.cache.warm(truck, [{"truck_id": n} for n in (1, 2)], sessions=lambda: Session(fleet.engine))
    assert warmed.loaded == 2
    with fleet.session() as session, fleet.silently():
        assert truck(session, truck_id=2).plate == "ABC-2"


def test_verify_compares_what_they_say(fleet):
    """And not the order of bytes."""
    trucks = fleet.cached(everything, stage="shadow")
    with fleet.session() as session:
        trucks(session)
    stats = fleet.cache.stats()
    assert (stats.verified, stats.violations) == (1, 0)
    raw = fleet.engine.raw_connection()
    raw.cursor().execute("UPDATE trips SET kg = 99 WHERE truck_id = 3 AND number = 2")
    raw.commit()
    raw.close()
    with fleet.session() as session:
        trucks(session)
    assert fleet.cache.stats().violations == 1


def test_a_commit_elsewhere_is_seen(fleet):
    """By way of any of the tables that were read."""
    trucks = fleet.cached(everything)
    for sql, check in (
        ("UPDATE depots SET name = 'east' WHERE id = 1", lambda found: found[2].depot.name == "east"),
        ("UPDATE weighings SET kg = 1 WHERE id = 1", lambda found: found[0].trips[0].weighings[0].kg == 1),
        ("UPDATE cranes SET reach = 1 WHERE id = 2", lambda found: found[1].reach == 1),
    ):
        with fleet.engine.begin() as connection:
            connection.execute(text(sql))
        with fleet.session() as session:
            assert check(trucks(session)) or not check(trucks(session))
            session.expire_all()
        with fleet.session() as session:
            assert check(trucks(session)), sql


def test_another_layout_is_not_read():
    """A class with other columns, or no class at all."""
    codec, plain = Codec(entities=True), Codec()
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Counted(id=1, name="x", version=1))
        session.commit()
        raw = codec.pack([session.get_one(Counted, 1)])
    assert isinstance(codec.unpack(raw), Graph)
    with pytest.raises(Unreadable):
        plain.unpack(raw)
    for start in range(len(raw)):
        for change in (1, 128, 255):
            changed = raw[:start] + bytes([raw[start] ^ change]) + raw[start + 1 :]
            with Session(engine) as session:
                try:
                    graph = codec.unpack(changed)
                    if isinstance(graph, Graph):
                        graph.into(session)
                except Unreadable:
                    pass
    engine.dispose()


def _links(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers)


@pytest.mark.parametrize(
    "change",
    [
        lambda trucks, depots: trucks[4].__setitem__(0, _links(1)),  # a truck's depot is a truck
        lambda trucks, depots: trucks[4].__setitem__(0, _links(3)),
        lambda trucks, depots: trucks[4].__setitem__(0, _links(2**32 - 1)),
        lambda trucks, depots: trucks[4].__setitem__(0, b""),
        lambda trucks, depots: trucks[4].__setitem__(0, _links(2, 2)),
        lambda trucks, depots: trucks[4].__setitem__(0, b"\0\0\2"),
        lambda trucks, depots: trucks[4].__setitem__(0, [2]),
        lambda trucks, depots: trucks[4].__setitem__(0, [_links(1), _links(2)]),
        lambda trucks, depots: trucks[4].pop(),
        lambda trucks, depots: trucks.__setitem__(0, b"12345678"),
        lambda trucks, depots: trucks[1].__setitem__(0, "__class__"),
        lambda trucks, depots: trucks[1].__setitem__(0, "_sa_instance_state"),
        lambda trucks, depots: trucks[1].__setitem__(0, "reconstruct"),
        lambda trucks, depots: trucks[1].__setitem__(0, trucks[1][1]),
        lambda trucks, depots: trucks[1].pop(),
        lambda trucks, depots: trucks[2].__setitem__(0, "nothing"),
        lambda trucks, depots: trucks[2].__setitem__(0, "trips"),
        lambda trucks, depots: trucks[3].pop(),
        lambda trucks, depots: next(cells for _, cells in trucks[3] if type(cells) is list).append(5),
        lambda trucks, depots: next(each for each in trucks[3] if type(each[1]) is list).__setitem__(1, "x"),
        lambda trucks, depots: trucks[3][0].__setitem__(0, 99),
        lambda trucks, depots: trucks.__setitem__(3, [[code, cells * 2] for code, cells in trucks[3]]),
        lambda trucks, depots: depots.__setitem__(3, [[code, cells[:0]] for code, cells in depots[3]]),
    ],
)
def test_a_forged_graph_is_not_read(fleet, change):
    """Classes, attributes, numbers and links are looked at before anything is made of them."""
    codec = Codec([Kind], entities=True)
    with fleet.session() as session:
        raw = codec.pack(list(session.scalars(select(Truck).where(Truck.id == 1).options(selectinload(Truck.depot)))))
    batches, order, root = msgpack.unpackb(raw[1:])
    trucks, depots = batches
    assert trucks[2] == ["depot"]
    assert order == b""
    assert isinstance(codec.unpack(raw[:1] + msgpack.packb([batches, order, root])), Graph)
    with pytest.raises(Unreadable):
        codec.unpack(raw[:1] + msgpack.packb([batches, _links(3), root]))
    change(trucks, depots)
    with pytest.raises(Unreadable):
        codec.unpack(raw[:1] + msgpack.packb([batches, order, root]))


@pytest.mark.parametrize(
    "change",
    [
        lambda depots: depots[4].__setitem__(0, [_links(1), _links(1)]),  # a depot among its trucks
        lambda depots: depots[4].__setitem__(0, [_links(1), _links(0)]),
        lambda depots: depots[4].__setitem__(0, [_links(2), _links(2)]),
        lambda depots: depots[4].__setitem__(0, [_links(0, 1), _links(2)]),
        lambda depots: depots[4].__setitem__(0, [_links(1), _links(2, 3)]),
        lambda depots: depots[4].__setitem__(0, [_links(1), _links(99)]),
        lambda depots: depots[4].__setitem__(0, [_links(1)]),
        lambda depots: depots[4].__setitem__(0, _links(2)),
    ],
)
def test_a_forged_collection_is_not_read(fleet, change):
    """It has as many members as it says, and they are there, of its relation's class."""
    codec = Codec([Kind], entities=True)
    with fleet.session() as session:
        depot = session.scalars(select(Depot).options(selectinload(Depot.trucks)).limit(1)).one()
        assert len(depot.trucks) > 1
        raw = codec.pack(depot)
    batches, order, root = msgpack.unpackb(raw[1:])
    assert isinstance(codec.unpack(raw[:1] + msgpack.packb([batches, order, root])), Graph)
    change(batches[0])
    with pytest.raises(Unreadable):
        codec.unpack(raw[:1] + msgpack.packb([batches, order, root]))


@pytest.mark.parametrize("root", [None, True, 7, 1.5, "x", [], {}, b"", b"\x04"], ids=repr)
def test_a_graph_without_a_value_is_not_read(fleet, root):
    """It is refused before anything is made, and by no other exception."""
    codec = Codec([Kind], entities=True)
    with fleet.session() as session:
        raw = codec.pack(list(session.scalars(select(Truck))))
    batches, order, _ = msgpack.unpackb(raw[1:])

    with pytest.raises(Unreadable):
        codec.unpack(raw[:1] + msgpack.packb([batches, order, root]))


def test_graphs_in_each_other_are_not_read(fleet):
    """A column that was packed may be all that an entry has room for: each level would hold it once more."""
    codec = Codec(entities=True)
    with fleet.session() as session:
        raw = codec.pack(session.get_one(Depot, 1))
    ((stamp, columns, *rest),), order, root = msgpack.unpackb(raw[1:])
    relations, _, links = rest
    nested = b"\0" * 100_000
    for _ in range(100):
        batch = [stamp, columns, relations, [[1, nested]], links]
        nested = raw[:1] + msgpack.packb([[batch], order, root])
    tracemalloc.start()

    with pytest.raises(Unreadable):
        codec.unpack(nested)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * len(nested)


def spoilt_by_an_extra(session: Session) -> Truck:
    truck = session.get_one(Truck, 6)
    truck.__dict__["rank"] = "other"
    return truck


def spoilt_by_a_class(session: Session) -> Truck:
    truck = Truck(id=6)
    make_transient_to_detached(truck)
    session.add(truck)
    return truck


@pytest.mark.parametrize("spoil", [spoilt_by_an_extra, spoilt_by_a_class])
def test_what_cannot_be_put_together_leaves_nothing_behind(tmp_path, spoil):
    """What the function then loads is loaded whole: nobody had been told of entities that were begun."""
    fleet = Fleet(tmp_path / "fleet.db", Counting())

    @fleet.cache.query(entities=True)
    def trucks(session: Session) -> list[Truck]:
        found = list(session.scalars(everything()).unique())
        for truck in found:
            truck.__dict__["rank"] = "mine"
        return found

    with fleet.session() as session:
        if spoil is spoilt_by_a_class:
            session.execute(text("UPDATE trucks SET type = 'crane' WHERE id = 6"))
            session.execute(text("INSERT INTO cranes (id, reach) VALUES (6, 1.5)"))
            session.commit()
        trucks(session)
    with fleet.session() as session:
        loaded: list[Any] = []
        event.listen(session, "loaded_as_persistent", lambda session, entity: loaded.append(entity))
        held = spoil(session)
        found = trucks(session)
        assert found[5] is held
        assert all(hasattr(truck, "_seen") for truck in found[:5])
        assert all(any(each is truck for each in loaded) for truck in found[:5])
    fleet.close()


def test_a_listener_that_raises_leaves_nothing_behind(fleet):
    """Neither new entities, nor relations of held ones that lead to such."""
    codec = Codec([Kind], entities=True)
    with fleet.session() as session:
        raw = codec.pack(list(session.scalars(everything()).unique()))

    def refuse(truck: Truck, context: Any) -> None:
        raise RuntimeError("not this one")

    with fleet.session() as session:
        held = session.get_one(Depot, 1)
        event.listen(Truck, "load", refuse, propagate=True)
        try:
            with pytest.raises(Unreadable, match="not this one"):
                codec.unpack(raw).into(session)
        finally:
            event.remove(Truck, "load", refuse)
        assert list(session.identity_map.values()) == [held]
        assert "trucks" in sa_inspect(held).unloaded
        assert [truck._seen for truck in held.trucks] == ["ABC-3 with 0 trips", "ABC-6 with 0 trips"]


@pytest.mark.parametrize(("name", "forged"), [("settings", "wrong"), ("labels", 7), ("id", [1])])
def test_a_forged_value_that_none_can_be_put_together_with_is_a_miss(fleet, name, forged):
    """A mutable column takes what its type can be made of, and a key has a hash: nothing else is raised of others."""
    codec = Codec([Kind], entities=True)
    with fleet.session() as session:
        raw = codec.pack(session.get_one(Depot, 1))
    ((stamp, columns, relations, values, links),), order, root = msgpack.unpackb(raw[1:])
    values[columns.index(name)] = [0, [forged]]
    graph = codec.unpack(raw[:1] + msgpack.packb([[[stamp, columns, relations, values, links]], order, root]))

    with fleet.session() as session:
        with pytest.raises(Unreadable):
            graph.into(session)
        assert not session.identity_map
    if name == "id":
        with pytest.raises(Unreadable):
            graph.plainly()  # entities are compared by their names


def test_a_kept_result_that_cannot_be_compared_is_not_what_the_database_says(fleet, monkeypatch):
    """Who is asked in shadow gets what the function gives, whatever stands in the store."""
    depots = fleet.cached(lambda: select(Depot), stage="shadow")
    connection = sqlite3.connect(fleet.engine.url.database)
    connection.execute("UPDATE depots SET name = 'changed' WHERE id = 1")
    connection.commit()
    connection.close()

    def plainly(graph: Graph) -> Any:
        raise Unreadable("forged")

    monkeypatch.setattr(Graph, "plainly", plainly)
    with fleet.session() as session:
        assert {depot.name for depot in depots(session)} == {"changed", "south"}
    assert fleet.cache.stats().violations == 1


MANAGED = """
import sys
from sqlalchemy import create_engine, select
from sqlalchemy.ext.instrumentation import InstrumentationManager
from sqlalchemy.orm import Mapped, Session, mapped_column, registry
from perfkit.codec import Codec
from perfkit.errors import Unpackable

mapping = registry()

class Manager(InstrumentationManager):
    pass

@mapping.mapped
class Managed:
    __sa_instrumentation_manager__ = Manager
    __tablename__ = "managed"
    id: Mapped[int] = mapped_column(primary_key=True)

engine = create_engine("sqlite://")
mapping.metadata.create_all(engine)
with Session(engine) as session:
    session.add(Managed(id=1))
    session.commit()
    try:
        Codec(entities=True).pack(session.get_one(Managed, 1))
    except Unpackable as refused:
        print(refused)
"""


def test_a_class_that_is_instrumented_otherwise_is_refused_by_name():
    """Its manager may keep states and values anywhere; in a process of its own, for SQLAlchemy changes with it."""
    told = subprocess.run([sys.executable, "-c", MANAGED], check=True, capture_output=True, text=True, timeout=60)

    assert "Managed" in told.stdout
    assert "instrumentation manager of its own: return values" in told.stdout


class Sparse(DeclarativeBase):
    pass


class Visit(Sparse):
    __tablename__ = "visits"
    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[UUID | None]
    on: Mapped[date | None]
    at: Mapped[datetime | None]
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    note: Mapped[str | None]


@pytest.mark.parametrize("empty", [(), (1,), (0, 2), (0, 1, 2)])
def test_columns_may_have_gaps(empty):
    """Of every type that is read in one go: first, in between, or nothing at all."""
    codec = Codec(entities=True)
    full = {"token": UUID(int=5), "on": date(2026, 1, 2), "at": datetime(2026, 1, 2, 3), "price": Decimal("1.20")}  # noqa: DTZ001
    engine = create_engine("sqlite://")
    Sparse.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Visit(id=each, **({} if each in empty else full)) for each in range(3))
        session.commit()
        visits = list(session.scalars(select(Visit).order_by(Visit.id)))
        raw, told = codec.pack(visits), [dict(vars(each), _sa_instance_state=None) for each in visits]
    with Session(engine) as session:
        found = codec.unpack(raw).into(session)
        assert [dict(vars(each), _sa_instance_state=None) for each in found] == told
    engine.dispose()


def test_entities_of_several_extents_stand_where_they_stood(fleet):
    """In a value they may be mixed; bytes have them one extent after another."""
    codec = Codec([Kind], entities=True)
    with fleet.session() as session:
        trucks = list(session.scalars(select(Truck).order_by(Truck.id).limit(3)))
        depots = list(session.scalars(select(Depot).order_by(Depot.id).limit(2)))
        mixed = [trucks[0], depots[0], trucks[1], depots[1], trucks[2], trucks[0]]
        raw = codec.pack({"mixed": mixed, "first": depots[1]})
        told = [(type(each), each.id) for each in mixed]
    with fleet.session() as session:
        found = codec.unpack(raw).into(session)
        assert [(type(each), each.id) for each in found["mixed"]] == told
        assert found["first"] is found["mixed"][3]


# ---- the same as SQLAlchemy itself


def test_without_its_private_names_the_result_is_the_same(fleet, monkeypatch):
    """By what SQLAlchemy promises; only slower, and the session has begun."""

    def statement() -> Any:
        return select(Truck).order_by(Truck.id).options(selectinload(Truck.trips), joinedload(Truck.depot))

    trucks = fleet.cached(statement)
    with fleet.session() as session:
        usual = [_described(truck) for truck in trucks(session)]

    monkeypatch.setattr(placing, "_is_known_how", lambda manager: False)
    monkeypatch.setattr(placing, "_is_known_list", lambda mapper, attribute: False)
    extents = __import__("perfkit.codec.graphs", fromlist=["_extents"])._extents
    extents.clear()
    with fleet.session() as session, fleet.silently():
        found = trucks(session)
        assert [_described(truck) for truck in found] == usual
        assert all(truck in session for truck in found)
        assert not session.dirty
    extents.clear()
    entities._extents.clear()


OPTIONS: list[Any] = [
    joinedload(Truck.depot),
    selectinload(Truck.depot),
    lazyload(Truck.depot),
    selectinload(Truck.depot).selectinload(Depot.trucks),
    selectinload(Truck.depot).joinedload(Depot.by_plate),
    selectinload(Truck.depot).load_only(Depot.name),
    selectinload(Truck.depot).selectinload(Depot.as_set),
    selectinload(Truck.trips),
    joinedload(Truck.trips).selectinload(Trip.weighings),
    selectinload(Truck.follows).selectinload(Truck.follows),
    selectinload(Truck.followers).joinedload(Truck.trips),
    undefer(Truck.notes),
    defer(Truck.price),
    load_only(Truck.plate, Truck.kind),
    with_expression(Truck.distance, Truck.x + 1),
]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, len(OPTIONS) - 1), max_size=4, unique=True),
    st.sampled_from([Truck, Tipper, Crane]),
    st.booleans(),
)
def test_a_hit_is_what_a_load_is(tmp_path_factory, chosen, cls, touches):
    """Whatever is loaded: the same is there, the same is not there, and what is asked for then is the same."""
    fleet = Fleet(tmp_path_factory.mktemp("same") / "fleet.db")
    try:
        statement = select(cls).order_by(cls.id)
        try:
            for each in chosen:
                statement = statement.options(OPTIONS[each])
            with fleet.session() as session:
                list(session.scalars(statement).unique())
        except InvalidRequestError:
            return  # options that contradict each other

        def result(session: Session) -> list[Any]:
            found = list(session.scalars(statement).unique())
            if touches:  # a lazy load on the way
                found[0].depot  # noqa: B018
            return found

        trucks = fleet.cache.query(entities=True)(result)
        with fleet.session() as session:
            trucks(session)
        with fleet.session() as one, fleet.session() as other:
            plain = result(one)
            with fleet.silently():
                hit = trucks(other)
            assert fleet.cache.stats().hits == 1
            assert list(map(_described, hit)) == list(map(_described, plain))
            assert list(map(_asked, hit)) == list(map(_asked, plain))
    finally:
        fleet.close()


def _described(entity: Any, met: frozenset[int] = frozenset()) -> Any:
    """What is loaded of it, and of those to which it leads."""
    state = sa_inspect(entity)
    if id(entity) in met:
        return state.identity
    met |= {id(entity)}
    found: dict[str, Any] = {"": (type(entity).__name__, state.identity, state.key, sorted(state.unloaded))}
    for name, value in sorted(state.dict.items()):
        if name in state.mapper.relationships:
            found[name] = _related(value, lambda each: _described(each, met))
        elif not name.startswith("_"):
            found[name] = (type(value), value)
    return found


def _related(value: Any, of: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return type(value), {key: of(each) for key, each in sorted(value.items())}
    if isinstance(value, set):
        return type(value), sorted(map(of, value), key=repr)
    if isinstance(value, list):
        return type(value), list(map(of, value))
    return None if value is None else of(value)


def _asked(entity: Any) -> Any:
    """Every attribute, loaded now if it was not."""
    mapper = sa_inspect(type(entity))
    # SQLAlchemy 2.1.9 raises IndexError for a query_expression that load_only() leaves out
    columns = {each.key: getattr(entity, each.key) for each in mapper.column_attrs if each.key != "distance"}
    related = {
        name: _related(getattr(entity, name), lambda each: sa_inspect(each).identity)
        for name in ("depot", "follows", "followers", "trips")
    }
    return columns, related, entity.place
