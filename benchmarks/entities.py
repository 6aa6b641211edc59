"""Entities with two levels of relations: from Redis into the caller's session, beside the database and other ways.

Routes with their stops and the bins of these, as selectinload brings them. Each call is a request's: a session of its
own, all attributes of all entities there at the end. The peers keep pickles, as dogpile.cache's example for SQLAlchemy
and Flask-Caching do.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import msgpack
import redis
from sqlalchemy import Engine, ForeignKey, Numeric, create_engine, insert, select
from sqlalchemy.engine.result import FrozenResult
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload
from sqlalchemy.orm.loading import merge_frozen_result

from benchmarks.rounds import Contender, Figure, measure
from perfkit import Cache

STOPS = 4
DATABASE, FLOOR = "database", "GET + unpackb"


class Base(DeclarativeBase):
    """The benchmark's models."""


class Bin(Base):
    """A bin."""

    __tablename__ = "entity_bins"
    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]
    litres: Mapped[float]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    emptied_at: Mapped[datetime]


class Route(Base):
    """A route."""

    __tablename__ = "entity_routes"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    city: Mapped[str]
    planned_at: Mapped[datetime]
    stops: Mapped[list[Stop]] = relationship(order_by="Stop.id")


class Stop(Base):
    """A stop of a route."""

    __tablename__ = "entity_stops"
    id: Mapped[int] = mapped_column(primary_key=True)
    route_id: Mapped[int] = mapped_column(ForeignKey(Route.id), index=True)
    bin_id: Mapped[int] = mapped_column(ForeignKey(Bin.id))
    minutes: Mapped[int]
    bin: Mapped[Bin] = relationship()


def fill(engine: Engine, routes: int) -> None:
    """Make the tables anew, with so many routes."""
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    now = datetime(2026, 1, 2, 3, 4, 5, 678)  # noqa: DTZ001
    stops = routes * STOPS
    with Session(engine) as session:
        session.execute(
            insert(Bin),
            [
                {"id": n, "label": f"bin {n}", "litres": 240.5, "price": Decimal("12.50"), "emptied_at": now}
                for n in range(1, stops + 1)
            ],
        )
        session.execute(
            insert(Route),
            [{"id": n, "name": f"route {n}", "city": "Helsinki", "planned_at": now} for n in range(1, routes + 1)],
        )
        session.execute(
            insert(Stop),
            [{"id": n, "route_id": (n - 1) // STOPS + 1, "bin_id": n, "minutes": n % 60} for n in range(1, stops + 1)],
        )
        session.commit()


def query(count: int) -> Any:
    """`count` entities: a ninth of them routes."""
    routes = max(1, count // (1 + 2 * STOPS))
    return select(Route).order_by(Route.id).limit(routes).options(selectinload(Route.stops).selectinload(Stop.bin))


def entities_into_a_session(database: str, url: str, rounds: int) -> dict[int, list[Figure]]:
    """One table for 50 and one for 1,000 entities."""
    engine = create_engine(database)
    fill(engine, 120)
    cache = Cache("entities")

    @cache.query(tags=[Route, Stop, Bin])
    def cached(session: Session, count: int) -> list[Route]:
        return list(session.scalars(query(count)))

    cache.connect(url)
    cache.watch(engine, Base.metadata)
    try:
        with redis.Redis.from_url(url) as client:
            return {count: _measured(engine, client, cached, count, rounds) for count in (50, 1_000)}
    finally:
        cache.close()
        Base.metadata.drop_all(engine)
        engine.dispose()


def _measured(
    engine: Engine, client: redis.Redis, cached: Callable[[Session, int], list[Route]], count: int, rounds: int
) -> list[Figure]:
    def loaded(session: Session) -> Sequence[Route]:
        return session.scalars(query(count)).all()

    with Session(engine) as session:
        routes = loaded(session)
        client.set("pickles", pickle.dumps(list(routes)))
        client.set("values", cast(bytes, msgpack.packb(_values(routes), datetime=True)))
        frozen: FrozenResult[Any] = session.execute(query(count)).freeze()
        client.set("frozen", pickle.dumps(frozen))
        cached(session, count)
    for _ in range(3):
        with Session(engine) as session:
            cached(session, count)

    def in_session(work: Callable[[Session], Any]) -> Callable[[], Any]:
        def once() -> Any:
            with Session(engine) as session:
                return work(session)

        return once

    def read(name: str) -> bytes:
        return cast(bytes, client.get(name))

    def thawed(session: Session) -> Any:
        kept = pickle.loads(read("frozen"))  # noqa: S301
        merge: Callable[..., Any] = merge_frozen_result
        return merge(session, query(count), kept, load=False)().scalars().all()

    calls = 40 if count < 100 else 4
    ways: list[tuple[str, str, Callable[[], Any]]] = [
        (DATABASE, DATABASE, in_session(loaded)),
        (FLOOR, FLOOR, lambda: msgpack.unpackb(read("values"), timestamp=3)),
        ("perfkit", DATABASE, in_session(lambda session: cached(session, count))),
        ("perfkit, by GET", FLOOR, in_session(lambda session: cached(session, count))),
        ("pickles, detached", DATABASE, lambda: pickle.loads(read("pickles"))),  # noqa: S301
        ("FrozenResult, pickled", DATABASE, in_session(thawed)),
    ]
    contenders = [Contender(name=name, floor=floor, once=once, calls=calls) for name, floor, once in ways]
    return measure(contenders, rounds=rounds)


def _values(routes: Sequence[Route]) -> list[Any]:
    """The same as plain values, as one would keep them by hand."""

    def of(entity: Any) -> dict[str, Any]:
        return {name: plain(value) for name, value in vars(entity).items() if not name.startswith("_")}

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return list(map(plain, value))
        if isinstance(value, Base):
            return of(value)
        if isinstance(value, datetime):
            return value.replace(tzinfo=UTC)
        return str(value) if isinstance(value, Decimal) else value

    return list(map(of, routes))
