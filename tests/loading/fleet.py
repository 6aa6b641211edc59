"""Models with every kind of relationship that profiles know, and a database of them that counts its statements."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Column, ForeignKey, Table, create_engine, event
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    WriteOnlyMapped,
    composite,
    mapped_column,
    relationship,
    synonym,
)
from sqlalchemy.pool import StaticPool


class Base(DeclarativeBase): ...


bin_tags = Table(
    "bin_tags",
    Base.metadata,
    Column("bin_id", ForeignKey("bins.id"), primary_key=True),
    Column("tag_id", ForeignKey("tags.id"), primary_key=True),
)


class Place(NamedTuple):
    lon: int
    lat: int


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Organization(Base):
    __tablename__ = "organizations"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    city: Mapped[str] = mapped_column(default="Turku")
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    created_by: Mapped[User | None] = relationship()
    customers: Mapped[list[Customer]] = relationship(back_populates="organization")


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    organization_id: Mapped[int] = mapped_column(ForeignKey("organizations.id"))
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    organization: Mapped[Organization] = relationship(back_populates="customers")
    created_by: Mapped[User | None] = relationship()
    bins: Mapped[list[Bin]] = relationship(back_populates="customer", order_by="Bin.id")


class Tag(Base):
    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Bin(Base):
    __tablename__ = "bins"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    kind: Mapped[str]
    lon: Mapped[int] = mapped_column(default=24)
    lat: Mapped[int] = mapped_column(default=60)
    version: Mapped[int] = mapped_column(default=1)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    place: Mapped[Place] = composite("lon", "lat")
    label: Mapped[str] = synonym("name")
    customer: Mapped[Customer] = relationship(back_populates="bins")
    created_by: Mapped[User | None] = relationship(lazy="joined")
    collections: Mapped[list[Collection]] = relationship(back_populates="bin", order_by="Collection.id")
    readings: WriteOnlyMapped[Reading] = relationship()
    tags: Mapped[list[Tag]] = relationship(secondary=bin_tags, order_by="Tag.id")
    __mapper_args__ = {
        "polymorphic_on": "kind",
        "polymorphic_identity": "plain",
        "version_id_col": version,
    }

    @hybrid_property
    def shouted(self) -> str:
        return self.name.upper()


class GlassBin(Bin):
    __tablename__ = "glass_bins"
    id: Mapped[int] = mapped_column(ForeignKey("bins.id"), primary_key=True)
    colour: Mapped[str] = mapped_column(default="green")
    melter_id: Mapped[int | None] = mapped_column(ForeignKey("organizations.id"))
    melter: Mapped[Organization | None] = relationship()
    __mapper_args__ = {"polymorphic_identity": "glass"}


class Collection(Base):
    __tablename__ = "collections"
    id: Mapped[int] = mapped_column(primary_key=True)
    bin_id: Mapped[int] = mapped_column(ForeignKey("bins.id"))
    weight_g: Mapped[int] = mapped_column(default=100)
    note: Mapped[str] = mapped_column(default="")
    bin: Mapped[Bin] = relationship(back_populates="collections")


class Reading(Base):
    __tablename__ = "readings"
    id: Mapped[int] = mapped_column(primary_key=True)
    bin_id: Mapped[int] = mapped_column(ForeignKey("bins.id"))


class Fleet:
    """A database of `bins` bins, each at a customer of its own, every second one for glass."""

    def __init__(self, bins: int = 6) -> None:
        self.engine = create_engine("sqlite://", poolclass=StaticPool)
        Base.metadata.create_all(self.engine)
        with Session(self.engine) as session:
            users = [User(name=f"user {number}") for number in range(3)]
            tags = [Tag(name="full"), Tag(name="broken")]
            session.add_all([*users, *tags])
            for number in range(bins):
                organization = Organization(name=f"organization {number}", created_by=users[number % 3])
                customer = Customer(name=f"customer {number}", organization=organization, created_by=users[1])
                extra: dict[str, Any] = {"melter": organization} if number % 2 else {}
                made = (GlassBin if number % 2 else Bin)(
                    name=f"bin {number}", customer=customer, created_by=users[2], tags=tags[: number % 3], **extra
                )
                made.collections = [Collection(), Collection()]
                session.add(made)
            session.commit()
        self.statements: list[str] = []
        event.listen(self.engine, "before_cursor_execute", self._note)

    def session(self) -> Session:
        """A new one; statements are counted from now on."""
        self.statements.clear()
        return Session(self.engine)

    @property
    def count(self) -> int:
        return len(self.statements)

    def close(self) -> None:
        self.engine.dispose()

    def _note(self, *given: Any) -> None:
        self.statements.append(given[2])
