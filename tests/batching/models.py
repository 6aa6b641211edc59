"""One model of each kind that loads differently."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Engine, ForeignKey, ForeignKeyConstraint, Table, and_, func, insert, select
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    WriteOnlyMapped,
    attribute_keyed_dict,
    column_property,
    mapped_column,
    relationship,
)


class Base(AsyncAttrs, DeclarativeBase):
    """The models of these tests."""


customer_tags = Table(
    "customer_tags",
    Base.metadata,
    Column("customer_id", ForeignKey("customers.id", ondelete="CASCADE"), primary_key=True),
    Column("tag_id", ForeignKey("tags.id", ondelete="CASCADE"), primary_key=True),
)


class Tag(Base):
    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    customers: Mapped[list[Customer]] = relationship(
        secondary=customer_tags, back_populates="tags", order_by="Customer.id"
    )


class Organization(Base):
    __tablename__ = "organizations"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(unique=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("organizations.id"))
    parent: Mapped[Organization | None] = relationship(remote_side="Organization.id", back_populates="children")
    children: Mapped[list[Organization]] = relationship(back_populates="parent", order_by="Organization.id")
    customers: Mapped[list[Customer]] = relationship(back_populates="organization", order_by="Customer.id")
    contracts: Mapped[list[Contract]] = relationship(order_by="Contract.id", back_populates="organization")


class Contract(Base):
    """Joined by a code and not by a primary key."""

    __tablename__ = "contracts"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(ForeignKey("organizations.code"))
    organization: Mapped[Organization] = relationship(back_populates="contracts", lazy="joined")
    terms: Mapped[list[Term]] = relationship(order_by="Term.id", lazy="selectin")


class Term(Base):
    __tablename__ = "terms"
    id: Mapped[int] = mapped_column(primary_key=True)
    contract_id: Mapped[int] = mapped_column(ForeignKey("contracts.id"))
    text: Mapped[str]


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    note: Mapped[str] = mapped_column(default="-", deferred=True)
    memo: Mapped[str] = mapped_column(default="-", deferred=True, deferred_group="texts")
    terms: Mapped[str] = mapped_column(default="-", deferred=True, deferred_group="texts")
    organization_id: Mapped[int | None] = mapped_column(ForeignKey("organizations.id"))
    organization: Mapped[Organization | None] = relationship(back_populates="customers")
    bins: Mapped[list[Bin]] = relationship(
        back_populates="customer", order_by="Bin.id", foreign_keys="Bin.customer_id", cascade="all, delete-orphan"
    )
    heavy: Mapped[list[Bin]] = relationship(
        primaryjoin="and_(Customer.id == foreign(Bin.customer_id), Bin.kilos >= 50)",
        viewonly=True,
        order_by="Bin.kilos.desc(), Bin.id",
    )
    tags: Mapped[list[Tag]] = relationship(secondary=customer_tags, back_populates="customers", order_by="Tag.id")
    settings: Mapped[dict[str, Setting]] = relationship(
        collection_class=attribute_keyed_dict("name"), cascade="all, delete-orphan", back_populates="customer"
    )
    labels: Mapped[set[Label]] = relationship(cascade="all, delete-orphan")
    refused: Mapped[list[Label]] = relationship(lazy="raise", viewonly=True)
    refused_sql: Mapped[Organization | None] = relationship(lazy="raise_on_sql", viewonly=True)
    dynamic: DynamicMapped[Label] = relationship(lazy="dynamic", viewonly=True)
    written: WriteOnlyMapped[Label] = relationship(lazy="write_only", viewonly=True)
    left_alone: Mapped[list[Label]] = relationship(
        viewonly=True, order_by="Label.id", info={"perfkit": {"autobatch": False}}
    )


class Setting(Base):
    __tablename__ = "settings"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    name: Mapped[str]
    customer: Mapped[Customer] = relationship(back_populates="settings")


class Label(Base):
    __tablename__ = "labels"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    text: Mapped[str]


class Bin(Base):
    __tablename__ = "bins"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "bin"}  # noqa: RUF012
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    kilos: Mapped[int] = mapped_column(default=10)
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    customer: Mapped[Customer | None] = relationship(back_populates="bins", foreign_keys=[customer_id])
    visits: Mapped[list[Visit]] = relationship(order_by="Visit.number", back_populates="bin")
    sensor: Mapped[Sensor | None] = relationship(back_populates="bin", uselist=False)
    places: Mapped[list[Place]] = relationship(order_by="Place.route_id", back_populates="bin")


class GlassBin(Bin):
    """In a table of its own."""

    __tablename__ = "glass_bins"
    __mapper_args__ = {"polymorphic_identity": "glass"}  # noqa: RUF012
    id: Mapped[int] = mapped_column(ForeignKey("bins.id"), primary_key=True)
    colour: Mapped[str] = mapped_column(default="green")
    maker_id: Mapped[int | None] = mapped_column(ForeignKey("organizations.id"))
    maker: Mapped[Organization | None] = relationship()
    pieces: Mapped[list[Piece]] = relationship(order_by="Piece.id")


class PaperBin(Bin):
    """In the table of all."""

    __mapper_args__ = {"polymorphic_identity": "paper"}  # noqa: RUF012
    reader_id: Mapped[int | None] = mapped_column(ForeignKey("tags.id"))
    reader: Mapped[Tag | None] = relationship()


class Piece(Base):
    __tablename__ = "pieces"
    id: Mapped[int] = mapped_column(primary_key=True)
    glass_id: Mapped[int] = mapped_column(ForeignKey("glass_bins.id"))


class Sensor(Base):
    __tablename__ = "sensors"
    id: Mapped[int] = mapped_column(primary_key=True)
    bin_id: Mapped[int] = mapped_column(ForeignKey("bins.id"))
    bin: Mapped[Bin] = relationship(back_populates="sensor")


class Visit(Base):
    """With a key of two columns."""

    __tablename__ = "visits"
    bin_id: Mapped[int] = mapped_column(ForeignKey("bins.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    kilos: Mapped[int] = mapped_column(default=1)
    bin: Mapped[Bin] = relationship(back_populates="visits")
    weighings: Mapped[list[Weighing]] = relationship(order_by="Weighing.id", back_populates="visit")


class Weighing(Base):
    __tablename__ = "weighings"
    __table_args__ = (ForeignKeyConstraint(["bin_id", "number"], ["visits.bin_id", "visits.number"]),)
    id: Mapped[int] = mapped_column(primary_key=True)
    bin_id: Mapped[int]
    number: Mapped[int]
    visit: Mapped[Visit] = relationship(back_populates="weighings")


class Route(Base):
    __tablename__ = "routes"
    id: Mapped[int] = mapped_column(primary_key=True)
    places: Mapped[list[Place]] = relationship(order_by="Place.bin_id", back_populates="route")


class Place(Base):
    """An association with a value of its own."""

    __tablename__ = "places"
    route_id: Mapped[int] = mapped_column(ForeignKey("routes.id"), primary_key=True)
    bin_id: Mapped[int] = mapped_column(ForeignKey("bins.id"), primary_key=True)
    position: Mapped[int]
    route: Mapped[Route] = relationship(back_populates="places")
    bin: Mapped[Bin] = relationship(back_populates="places")


class Depot(Base):
    __tablename__ = "depots"
    id: Mapped[int] = mapped_column(primary_key=True)
    tag_id: Mapped[int | None] = mapped_column(ForeignKey("tags.id"))
    tag: Mapped[Tag | None] = relationship()


class BigDepot(Depot):
    """Concrete: nothing is shared with the table of its base."""

    __tablename__ = "big_depots"
    __mapper_args__ = {"concrete": True}  # noqa: RUF012
    id: Mapped[int] = mapped_column(primary_key=True)
    tag_id: Mapped[int | None] = mapped_column(ForeignKey("tags.id"))
    size: Mapped[int]
    tag: Mapped[Tag | None] = relationship()


Customer.bin_count = column_property(
    select(func.count(Bin.id)).where(Bin.customer_id == Customer.id).correlate_except(Bin).scalar_subquery(),
    deferred=True,
)
Customer.total = column_property(
    select(func.coalesce(func.sum(Bin.kilos), 0))
    .where(and_(Bin.customer_id == Customer.id))
    .correlate_except(Bin)
    .scalar_subquery()
)


def rows() -> list[tuple[Any, list[dict[str, Any]]]]:
    """What a new database holds: tables in the order of their foreign keys, and rows."""
    tables = Base.metadata.tables
    bins = [
        {
            "id": number,
            "kind": ("bin", "glass", "paper")[number % 3],
            "kilos": (number * 13) % 90,
            "customer_id": None if number % 9 == 8 else number % 7 + 1,
            "reader_id": number % 4 + 1 if number % 3 == 2 and number % 5 else None,
        }
        for number in range(1, 25)
    ]
    glass = [each["id"] for each in bins if each["kind"] == "glass"]
    return [
        (tables["tags"], [{"id": n, "name": f"tag {n}"} for n in range(1, 7)]),
        (
            tables["organizations"],
            [{"id": n, "code": f"O{n}", "parent_id": None if n < 3 else n // 2} for n in range(1, 8)],
        ),
        (tables["contracts"], [{"id": n, "code": f"O{n % 5 + 1}"} for n in range(1, 11)]),
        (tables["terms"], [{"id": n, "contract_id": n % 9 + 1, "text": f"term {n}"} for n in range(1, 20)]),
        (
            tables["customers"],
            [
                {
                    "id": n,
                    "name": f"customer {n}",
                    "note": f"note {n}",
                    "memo": f"memo {n}",
                    "terms": f"terms {n}",
                    "organization_id": None if n == 5 else n % 4 + 1,
                }
                for n in range(1, 10)
            ],
        ),
        (tables["customer_tags"], [{"customer_id": n % 8 + 1, "tag_id": n // 8 * 2 + n % 2 + 1} for n in range(1, 20)]),
        (tables["settings"], [{"id": n, "customer_id": n % 8 + 1, "name": f"s{n % 5}{n}"} for n in range(1, 18)]),
        (tables["labels"], [{"id": n, "customer_id": n % 7 + 1, "text": f"label {n}"} for n in range(1, 16)]),
        (tables["bins"], bins),
        (
            tables["glass_bins"],
            [{"id": n, "colour": f"colour {n}", "maker_id": n % 5 + 1 if n % 2 else None} for n in glass],
        ),
        (tables["pieces"], [{"id": n, "glass_id": glass[n % len(glass)]} for n in range(1, 12)]),
        (tables["sensors"], [{"id": n, "bin_id": n} for n in range(1, 20, 2)]),
        (tables["visits"], [{"bin_id": n % 12 + 1, "number": n // 12 + 1, "kilos": n} for n in range(40)]),
        (
            tables["weighings"],
            [{"id": n + 1, "bin_id": n % 12 + 1, "number": n // 12 + 1} for n in range(30)],
        ),
        (tables["routes"], [{"id": n} for n in range(1, 5)]),
        (
            tables["places"],
            [{"route_id": n % 4 + 1, "bin_id": n % 11 + 1, "position": n} for n in range(22)],
        ),
        (tables["depots"], [{"id": n, "tag_id": n % 5 + 1 if n != 3 else None} for n in range(1, 7)]),
        (tables["big_depots"], [{"id": n, "tag_id": n % 4 + 1, "size": n} for n in range(1, 7)]),
    ]


def fill(engine: Engine) -> None:
    """Make the tables and their rows."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for table, each in rows():
            connection.execute(insert(table), each)
