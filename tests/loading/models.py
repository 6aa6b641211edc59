"""What the corpus loads: bins, customers and routes, a tree, a family of classes, and keys of two columns."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, ForeignKeyConstraint, Table, func, insert, select
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    Session,
    WriteOnlyMapped,
    column_property,
    mapped_column,
    relationship,
)


class Base(AsyncAttrs, DeclarativeBase):
    pass


bin_routes = Table(
    "bin_routes",
    Base.metadata,
    Column("bin_id", ForeignKey("bins.id", ondelete="CASCADE"), primary_key=True),
    Column("route_id", ForeignKey("routes.id"), primary_key=True),
)


class Organization(Base):
    __tablename__ = "organizations"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    customers: Mapped[list[Customer]] = relationship(back_populates="organization")


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    organization_id: Mapped[int | None] = mapped_column(ForeignKey("organizations.id"))
    organization: Mapped[Organization | None] = relationship(back_populates="customers")
    bins: Mapped[list[Bin]] = relationship(back_populates="customer", order_by="Bin.id", cascade="all, delete-orphan")
    contracts: Mapped[list[Contract]] = relationship(back_populates="customer", cascade="all, delete-orphan")
    profile: Mapped[Profile | None] = relationship(back_populates="customer", cascade="all, delete-orphan")

    @property
    def organization_name(self) -> str:
        return self.organization.name if self.organization else ""

    def total_bins(self) -> int:
        return len(self.bins)


class Profile(Base):
    __tablename__ = "profiles"
    id: Mapped[int] = mapped_column(primary_key=True)
    language: Mapped[str]
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    customer: Mapped[Customer] = relationship(back_populates="profile")


class Contract(Base):
    __tablename__ = "contracts"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[str]
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    customer: Mapped[Customer] = relationship(back_populates="contracts")


class Bin(Base):
    __tablename__ = "bins"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    note: Mapped[str] = mapped_column(deferred=True, default="n")
    photo: Mapped[str] = mapped_column(deferred=True, deferred_group="big", default="p")
    plan: Mapped[str] = mapped_column(deferred=True, deferred_group="big", default="q")
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    customer: Mapped[Customer | None] = relationship(back_populates="bins")
    routes: Mapped[list[Route]] = relationship(secondary=bin_routes, back_populates="bins")
    readings: WriteOnlyMapped[Reading] = relationship(passive_deletes=True)
    alarms: DynamicMapped[Alarm] = relationship(passive_deletes=True)
    route_names: AssociationProxy[list[str]] = association_proxy("routes", "name")

    @hybrid_property
    def owner(self) -> str:
        return self.customer.name

    @property
    def readings_count(self) -> int:
        session = Session.object_session(self)
        return session.scalar(select(func.count()).select_from(Reading).where(Reading.bin_id == self.id))


Bin.label = column_property(func.upper(Bin.name))


class Route(Base):
    __tablename__ = "routes"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    bins: Mapped[list[Bin]] = relationship(secondary=bin_routes, back_populates="routes")


class Reading(Base):
    __tablename__ = "readings"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]
    bin_id: Mapped[int] = mapped_column(ForeignKey("bins.id", ondelete="CASCADE"))


class Alarm(Base):
    __tablename__ = "alarms"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    bin_id: Mapped[int] = mapped_column(ForeignKey("bins.id", ondelete="CASCADE"))


class Setting(Base):
    __tablename__ = "settings"
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Job(Base):
    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(default="new")
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id", ondelete="SET NULL"))
    made: Mapped[str] = mapped_column(server_default="today")


class Node(Base):
    __tablename__ = "nodes"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("nodes.id"))
    parent: Mapped[Node | None] = relationship(back_populates="children", remote_side="Node.id")
    children: Mapped[list[Node]] = relationship(back_populates="parent", order_by="Node.id")


class Team(Base):
    __tablename__ = "teams"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    members: Mapped[list[Employee]] = relationship(back_populates="team")


class Car(Base):
    __tablename__ = "cars"
    id: Mapped[int] = mapped_column(primary_key=True)
    plate: Mapped[str]


class Employee(Base):
    __tablename__ = "employees"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    kind: Mapped[str]
    team_id: Mapped[int | None] = mapped_column(ForeignKey("teams.id"))
    team: Mapped[Team | None] = relationship(back_populates="members")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "employee"}


class Manager(Employee):
    __tablename__ = "managers"
    id: Mapped[int] = mapped_column(ForeignKey("employees.id"), primary_key=True)
    budget: Mapped[int]
    car_id: Mapped[int | None] = mapped_column(ForeignKey("cars.id"))
    car: Mapped[Car | None] = relationship()
    __mapper_args__ = {"polymorphic_identity": "manager"}


class Driver(Employee):
    licence: Mapped[str | None]
    truck_id: Mapped[int | None] = mapped_column(ForeignKey("cars.id"))
    truck: Mapped[Car | None] = relationship()
    __mapper_args__ = {"polymorphic_identity": "driver"}


class Depot(Base):
    __tablename__ = "depots"
    city: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    docks: Mapped[list[Dock]] = relationship(back_populates="depot")
    gates: Mapped[list[Gate]] = relationship(lazy="selectin")


class Dock(Base):
    __tablename__ = "docks"
    id: Mapped[int] = mapped_column(primary_key=True)
    city: Mapped[str]
    number: Mapped[int]
    depot: Mapped[Depot] = relationship(back_populates="docks")
    __table_args__ = (ForeignKeyConstraint(["city", "number"], ["depots.city", "depots.number"]),)


class Gate(Base):
    __tablename__ = "gates"
    id: Mapped[int] = mapped_column(primary_key=True)
    city: Mapped[str]
    number: Mapped[int]
    __table_args__ = (ForeignKeyConstraint(["city", "number"], ["depots.city", "depots.number"]),)


def fill(session: Session) -> None:
    """The rows, in an order that foreign keys allow."""
    found = _rows()
    for table in Base.metadata.sorted_tables:
        session.add_all(row for row in found if row.__table__ is table)
        session.flush()
    session.execute(insert(bin_routes), [{"bin_id": n, "route_id": 1 + n % 3} for n in range(1, 13)])
    session.commit()


def _rows() -> list[Base]:
    """Three organizations with two customers each; two bins, three contracts and a profile for each customer."""
    found: list[Base] = [Setting(key="currency", value="EUR")]
    for number in range(1, 4):
        found.append(Route(id=number, name=f"r{number}"))
        found.append(Organization(id=number, name=f"o{number}"))
        found.append(Depot(city="Turku", number=number))
        found += [Dock(id=number * 2 + k, city="Turku", number=number) for k in range(2)]
        found += [Gate(id=number * 2 + k, city="Turku", number=number) for k in range(2)]
        found.append(Team(id=number, name=f"t{number}"))
        found.append(Car(id=number, plate=f"p{number}"))
        found.append(Manager(id=number, name=f"m{number}", budget=number, team_id=number, car_id=number))
        found.append(Driver(id=number + 10, name=f"d{number}", licence="C", team_id=number, truck_id=number))
    for number in range(1, 7):
        found.append(Customer(id=number, name=f"c{number}", organization_id=7 - (number + 7) // 2))
        found.append(Profile(id=number, language="fi", customer_id=number))
        found += [Contract(id=number * 10 + k, number=f"k{k}", customer_id=number) for k in range(3)]
        found.append(Job(id=number, customer_id=number))
    for number in range(1, 13):
        owner = (number + 1) // 2
        found.append(Bin(id=number, name=f"b{number}", customer_id=owner))
        found += [Reading(id=number * 10 + k, value=k, bin_id=number) for k in range(2)]
        found.append(Alarm(id=number, text="full", bin_id=number))
    found.append(Node(id=1, name="root"))
    found += [Node(id=number, name=f"n{number}", parent_id=1) for number in (2, 3, 4)]
    found += [Node(id=number * 10 + k, name="leaf", parent_id=number) for number in (2, 3, 4) for k in (1, 2)]
    found += [
        Node(id=100 + number, name="chain", parent_id=None if number == 0 else 99 + number) for number in range(6)
    ]
    return found
