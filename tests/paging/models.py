"""What pages are made of in the tests: a shop with ties, NULLs, keys of every kind, and a family of classes."""

from __future__ import annotations

import enum
import random
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from sqlalchemy import (
    CHAR,
    REAL,
    BigInteger,
    Column,
    DateTime,
    Enum,
    Float,
    ForeignKey,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Time,
    Uuid,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Shade(enum.Enum):
    """In an order that is not that of the letters."""

    red = "r"
    green = "g"
    blue = "b"


class Owner(Base):
    __tablename__ = "owners"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    items: Mapped[list[Item]] = relationship(back_populates="owner", order_by="Item.id")


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    rank: Mapped[int]
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    active: Mapped[bool]
    note: Mapped[str | None] = mapped_column(String(20))
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("owners.id"))
    owner: Mapped[Owner | None] = relationship(back_populates="items")
    tags: Mapped[list[Tag]] = relationship(order_by="Tag.label")


class Tag(Base):
    __tablename__ = "tags"
    item_id: Mapped[int] = mapped_column(ForeignKey("items.id"), primary_key=True)
    label: Mapped[str] = mapped_column(String(20), primary_key=True)
    weight: Mapped[int | None]


class Mark(Base):
    """An entity of one column."""

    __tablename__ = "marks"
    number: Mapped[int] = mapped_column(primary_key=True)


class Pet(Base):
    __tablename__ = "pets"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    name: Mapped[str] = mapped_column(String(20))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "pet"}  # noqa: RUF012


class Cat(Pet):
    __tablename__ = "cats"
    id: Mapped[int] = mapped_column(ForeignKey("pets.id"), primary_key=True)
    lives: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "cat"}  # noqa: RUF012


class Thing(Base):
    """A column of each type."""

    __tablename__ = "things"
    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    real: Mapped[float | None] = mapped_column(REAL)
    single: Mapped[float | None] = mapped_column(Float)
    double: Mapped[float | None] = mapped_column(Float(53))
    fixed: Mapped[str | None] = mapped_column(CHAR(8))
    text: Mapped[str | None] = mapped_column(String(60))
    big: Mapped[int | None] = mapped_column(BigInteger)
    exact: Mapped[Decimal | None] = mapped_column(Numeric(20, 6))
    day: Mapped[date | None]
    moment: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    clock: Mapped[time | None] = mapped_column(Time)
    span: Mapped[timedelta | None] = mapped_column(Interval)
    shade: Mapped[Shade | None] = mapped_column(Enum(Shade))
    raw: Mapped[bytes | None] = mapped_column(LargeBinary(20))
    code: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    flag: Mapped[bool | None]


plain = MetaData()
log = Table("log", plain, Column("level", Integer), Column("line", String(20)))
TYPES = [column.key for column in Thing.__table__.columns if column.key != "id"]
HOSTILE = ["", "a", "\r", "\\\n", "~", "x\ty", "ä€𝄞", "'\"%s:%(x)s", "\x01", " lead", "trail "]


def fill(session: Session, *, items: int = 60, seed: int = 7) -> None:
    """Some of everything."""
    chance = random.Random(seed)
    session.add_all(Owner(id=number, name=f"o{number % 3}") for number in range(1, 6))
    session.flush()
    for number in range(1, items + 1):
        item = Item(
            id=number,
            name=chance.choice("abc") + str(number % 4),
            rank=chance.randrange(4),
            price=chance.choice([None, Decimal("1.10"), Decimal("2.50"), Decimal(7)]),
            active=chance.random() < 0.5,
            note=chance.choice([None, None, "x", "y"]),
            owner_id=chance.choice([None, 1, 2, 3, 4]),
        )
        item.tags = [Tag(label=label, weight=chance.choice([None, 1, 2])) for label in chance.sample("pqrst", 3)]
        session.add(item)
    session.add_all(Mark(number=number) for number in range(1, 10))
    for number in range(1, 16):
        session.add(Cat(name=f"c{number % 4}", lives=chance.choice([None, 7, 9])) if number % 2 else Pet(name="p"))
    session.flush()


def things(chance: random.Random) -> list[Thing]:
    """Rows of types, with ties and NULLs."""
    start = datetime(2024, 3, 30, 23, 59, 59, 999_990, tzinfo=UTC)
    return [
        Thing(
            id=uuid.UUID(int=chance.getrandbits(128), version=4),
            real=chance.choice([None, 0.1, 0.2, 1e-7, 3.3333333, 16_777_216.0, -0.1, 1e30]),
            single=chance.choice([None, 0.1, 0.7, 12345.678, 16_777_217.0]),
            double=chance.choice([None, 0.1, 0.1 + 1e-16, 1e300, -5e-324, 1 / 3]),
            fixed=chance.choice([None, "a", "ab", "B"]),
            text=chance.choice([None, *HOSTILE]),
            big=chance.choice([None, 2**63 - 1, -(2**63), 2**53 + 1, 2**53, 0]),
            exact=chance.choice([None, Decimal("0.000001"), Decimal("12345678901234.123456"), Decimal(-1)]),
            day=chance.choice([None, date(1, 1, 1), date(2024, 2, 29), date(9999, 12, 31)]),
            moment=chance.choice([None, start + timedelta(microseconds=chance.randrange(5))]),
            clock=chance.choice([None, time(0), time(23, 59, 59), time(12, 30, 15)]),
            span=chance.choice([None, timedelta(0), timedelta(days=31, microseconds=1), timedelta(hours=5)]),
            shade=chance.choice([None, *Shade]),
            raw=chance.choice([None, b"", b"\0", b"\xff\0'"]),
            code=chance.choice([None, uuid.UUID(int=1, version=4), uuid.UUID(int=2**127, version=4)]),
            flag=chance.choice([None, True, False]),
        )
        for _ in range(40)
    ]
