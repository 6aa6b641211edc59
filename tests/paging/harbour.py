"""A harbour: classes mapped in all the ways that SQLAlchemy knows, few rows of each, with ties and NULLs."""

from __future__ import annotations

import random
import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Computed,
    Dialect,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Uuid,
    func,
    select,
    type_coerce,
)
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    composite,
    deferred,
    mapped_column,
    relationship,
    synonym,
)
from sqlalchemy.types import TypeDecorator

NAMING = {"ix": "ix_%(column_0_label)s"}


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)


class Halved(TypeDecorator[float]):
    """In Python half of what the database has."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else int(value * 2)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else value / 2


class Upper(TypeDecorator[str]):
    """Read and bound through functions of the database."""

    impl = String(20)
    cache_ok = True

    def bind_expression(self, bindvalue: Any) -> Any:
        return func.lower(type_coerce(bindvalue, String()))

    def column_expression(self, column: Any) -> Any:
        return func.upper(column)


class Point:
    """Two columns as one attribute."""

    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y

    def __composite_values__(self) -> tuple[int, int]:
        return self.x, self.y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and (self.x, self.y) == (other.x, other.y)

    __hash__ = None  # type: ignore[assignment]


class Port(Base):
    __tablename__ = "ports"
    code: Mapped[str] = mapped_column(String(20), primary_key=True)
    country: Mapped[str] = mapped_column(String(20))
    depth: Mapped[int | None]
    ships: Mapped[list[Ship]] = relationship(back_populates="home", order_by="Ship.number")


class Ship(Base):
    """Names that are keywords, have spaces, signs and letters of both cases, or are not those of the attributes."""

    __tablename__ = "Ships"
    number: Mapped[uuid.UUID] = mapped_column("ship number", Uuid, primary_key=True)
    order: Mapped[int]
    select: Mapped[int | None] = mapped_column("SELECT")
    share: Mapped[int | None] = mapped_column("share%")
    name: Mapped[str] = mapped_column("fullName", String(20))
    halved: Mapped[float | None] = mapped_column(Halved)
    upper: Mapped[str] = mapped_column(Upper)
    x: Mapped[int]
    y: Mapped[int]
    place: Mapped[Point] = composite(Point, "x", "y")
    log: Mapped[str | None] = deferred(mapped_column(String(20)))
    twice: Mapped[int] = mapped_column(Integer, Computed("x * 2", persisted=True))
    built: Mapped[datetime | None]
    code: Mapped[str | None] = mapped_column(ForeignKey("ports.code"))
    captain: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("Ships.ship number"))
    home: Mapped[Port | None] = relationship(back_populates="ships")
    leader: Mapped[Ship | None] = relationship(remote_side="Ship.number")
    crates: Mapped[list[Crate]] = relationship(order_by="Crate.place", lazy="selectin")
    title = synonym("name")

    @hybrid_property
    def reach(self) -> int:
        return self.x + self.y

    @hybrid_property
    def mark(self) -> Any:
        return self.log or "-"

    @mark.inplace.expression
    @classmethod
    def _mark(cls) -> Any:
        return func.coalesce(cls.log, "-")


class Crate(Base):
    """Its key is of three columns, and not in their order."""

    __tablename__ = "crates"
    place: Mapped[int] = mapped_column(primary_key=True)
    ship: Mapped[uuid.UUID] = mapped_column(ForeignKey("Ships.ship number"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(5), primary_key=True)
    weight: Mapped[int | None]


Ship.cargo = column_property(
    select(func.count(Crate.place)).where(Crate.ship == Ship.number).correlate_except(Crate).scalar_subquery()
)
Ship.label = column_property(Ship.name + "-" + Ship.upper)


class Crane(Base):
    """Concrete inheritance: each class has its table and all of its columns."""

    __tablename__ = "cranes"
    id: Mapped[int] = mapped_column(primary_key=True)
    lift: Mapped[int | None]


class BigCrane(Crane):
    __tablename__ = "big_cranes"
    id: Mapped[int] = mapped_column(primary_key=True)
    lift: Mapped[int | None]
    rail: Mapped[str] = mapped_column(String(5))
    __mapper_args__ = {"concrete": True}  # noqa: RUF012


class Worker(Base):
    """Joined inheritance of three steps; a single one in the middle."""

    __tablename__ = "workers"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    name: Mapped[str] = mapped_column(String(20))
    grade: Mapped[int | None]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "worker"}  # noqa: RUF012


class Driver(Worker):
    __tablename__ = "drivers"
    worker_id: Mapped[int] = mapped_column(ForeignKey("workers.id"), primary_key=True)
    licence: Mapped[str | None] = mapped_column(String(5))
    __mapper_args__ = {"polymorphic_identity": "driver"}  # noqa: RUF012


class Racer(Driver):
    __tablename__ = "racers"
    driver_id: Mapped[int] = mapped_column(ForeignKey("drivers.worker_id"), primary_key=True)
    wins: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "racer"}  # noqa: RUF012


class Clerk(Worker):
    desk: Mapped[int | None] = mapped_column(nullable=True)
    __mapper_args__ = {"polymorphic_identity": "clerk"}  # noqa: RUF012


class ShipAndPort(Base):
    """A class mapped to a join."""

    __table__ = Ship.__table__.join(Port.__table__, Ship.__table__.c.code == Port.__table__.c.code)
    __mapper_args__ = {"exclude_properties": ["captain"]}  # noqa: RUF012
    code = column_property(Ship.__table__.c.code, Port.__table__.c.code)


class Heavy(Base):
    """A class mapped to a SELECT."""

    __table__ = select(Crate.ship, func.sum(Crate.weight).label("total")).group_by(Crate.ship).subquery("heavy")
    __mapper_args__ = {"primary_key": [__table__.c.ship]}  # noqa: RUF012


def fill_harbour(session: Session, *, ships: int = 17, seed: int = 11) -> None:
    """Some of everything."""
    chance = random.Random(seed)
    session.add_all(Port(code=f"p{n}", country="fin" if n % 2 else "swe", depth=[None, 9, 9][n % 3]) for n in range(5))
    session.flush()
    made: list[Ship] = []
    for number in range(ships):
        ship = Ship(
            number=uuid.UUID(int=chance.getrandbits(128), version=4),
            order=chance.randrange(3),
            select=chance.choice([None, 1, 2]),
            share=chance.choice([None, 10, 20]),
            name=chance.choice(["Aino", "aino", "Ähtäri", "b c", "B%s"]),
            halved=chance.choice([None, 0.5, 1.5, 2.0]),
            upper=chance.choice(["ab", "AB", "c"]),
            place=Point(chance.randrange(2), chance.randrange(3)),
            log=chance.choice([None, "", "x"]),
            built=chance.choice([None, datetime(2020, 1, 1, 0, 0, 0, 7), datetime(2020, 1, 1)]),  # noqa: DTZ001
            code=chance.choice([None, "p1", "p2", "p3"]),
            captain=None if number % 3 == 0 else chance.choice(made).number,
        )
        session.add(ship)
        session.flush()
        made.append(ship)
        for place in range(chance.randrange(4)):
            session.add(
                Crate(place=place, ship=ship.number, kind=chance.choice("ab"), weight=chance.choice([None, 1, 2]))
            )
    for number in range(1, 12):
        session.add(Crane(lift=chance.choice([None, 1, 2])))
        session.add(BigCrane(lift=chance.choice([None, 1, 2]), rail=chance.choice("ab")))
        name = chance.choice(["o", "p"])
        grade = chance.choice([None, 1, 2])
        kinds: list[Any] = [
            lambda name=name, grade=grade: Worker(name=name, grade=grade),
            lambda name=name, grade=grade: Driver(name=name, grade=grade, licence=chance.choice([None, "c", "d"])),
            lambda name=name, grade=grade: Racer(name=name, grade=grade, licence="r", wins=chance.choice([None, 3])),
            lambda name=name, grade=grade: Clerk(name=name, grade=grade, desk=chance.choice([None, 4])),
        ]
        session.add(kinds[number % 4]())
    session.flush()
