"""A shop with five bins of five customers, and what a handler does with them: an N+1, or none."""

from __future__ import annotations

from sqlalchemy import ForeignKey, StaticPool, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload


class Base(DeclarativeBase): ...


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)


class Bin(Base):
    __tablename__ = "bins"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    customer: Mapped[Customer] = relationship()


def filled_engine():
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Bin(id=number, customer=Customer(id=number)) for number in range(1, 6)])
        session.commit()
    return engine


def one_by_one(engine) -> list[int]:
    with Session(engine) as session:
        return [each.customer.id for each in session.scalars(select(Bin))]


def together(engine) -> list[int]:
    with Session(engine) as session:
        return [each.customer.id for each in session.scalars(select(Bin).options(selectinload(Bin.customer)))]
