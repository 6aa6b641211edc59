"""A mail-order shop: one of every shape that a relationship or a column can have."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Column, ForeignKey, ForeignKeyConstraint, Table, func, select
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.ext.hybrid import hybrid_property
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


class Base(AsyncAttrs, DeclarativeBase): ...


customer_labels = Table(
    "customer_labels",
    Base.metadata,
    Column("customer_id", ForeignKey("customers.id"), primary_key=True),
    Column("label_id", ForeignKey("labels.id"), primary_key=True),
)
product_labels = Table(
    "product_labels",
    Base.metadata,
    Column("product_id", ForeignKey("products.id"), primary_key=True),
    Column("label_id", ForeignKey("labels.id"), primary_key=True),
)


class Country(Base):
    __tablename__ = "countries"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str]
    name: Mapped[str]


class City(Base):
    __tablename__ = "cities"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    country_id: Mapped[int] = mapped_column(ForeignKey("countries.id"))
    country: Mapped[Country] = relationship()


class Label(Base):
    __tablename__ = "labels"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str]
    city_id: Mapped[int | None] = mapped_column(ForeignKey("cities.id"))
    bio: Mapped[str] = mapped_column(deferred=True)
    photo: Mapped[str] = mapped_column(deferred=True, deferred_group="media")
    banner: Mapped[str] = mapped_column(deferred=True, deferred_group="media")
    city: Mapped[City | None] = relationship()
    orders: Mapped[list[Order]] = relationship(back_populates="customer", order_by="Order.id")
    profile: Mapped[Profile | None] = relationship(back_populates="customer", uselist=False)
    labels: Mapped[list[Label]] = relationship(secondary=customer_labels)
    events: WriteOnlyMapped[Event] = relationship(order_by="Event.id", passive_deletes=True)
    notes: DynamicMapped[Note] = relationship(order_by="Note.id")


class Profile(Base):
    __tablename__ = "profiles"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), unique=True)
    theme: Mapped[str]
    customer: Mapped[Customer] = relationship(back_populates="profile")


class Event(Base):
    __tablename__ = "events"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    kind: Mapped[str]


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    text: Mapped[str]


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[str]
    status: Mapped[str]
    placed_on: Mapped[dt.date]
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    customer: Mapped[Customer] = relationship(back_populates="orders")
    lines: Mapped[list[Line]] = relationship(
        back_populates="order", order_by="Line.position", cascade="all, delete-orphan"
    )
    shipments: Mapped[list[Shipment]] = relationship(order_by="Shipment.id", cascade="all, delete-orphan")
    payments: Mapped[list[Payment]] = relationship(order_by="Payment.id", cascade="all, delete-orphan")
    large_lines: Mapped[list[Line]] = relationship(
        primaryjoin="and_(Order.id == Line.order_id, Line.quantity > 2)", viewonly=True
    )

    @hybrid_property
    def total(self) -> int:
        return sum(line.quantity * line.product.price for line in self.lines)

    @total.inplace.expression
    @classmethod
    def _total(cls):
        return (
            select(func.sum(Line.quantity * Product.price))
            .join(Product, Product.id == Line.product_id)
            .where(Line.order_id == cls.id)
            .scalar_subquery()
        )

    @property
    def billed_to(self) -> str:
        return self.customer.name.upper()

    def __str__(self) -> str:
        return f"order {self.number} of {self.customer.name}"


class Line(Base):
    __tablename__ = "order_lines"
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    quantity: Mapped[int]
    order: Mapped[Order] = relationship(back_populates="lines")
    product: Mapped[Product] = relationship()
    discounts: Mapped[list[Discount]] = relationship(back_populates="line", cascade="all, delete-orphan")


class Discount(Base):
    __tablename__ = "discounts"
    __table_args__ = (ForeignKeyConstraint(["order_id", "position"], ["order_lines.order_id", "order_lines.position"]),)
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int]
    position: Mapped[int]
    percent: Mapped[int]
    line: Mapped[Line] = relationship(back_populates="discounts")


class Shipment(Base):
    __tablename__ = "shipments"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    carrier: Mapped[str]


class Bank(Base):
    __tablename__ = "banks"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Payment(Base):
    __tablename__ = "payments"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    amount: Mapped[int]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "cash"}


class CardPayment(Payment):
    __tablename__ = "card_payments"
    id: Mapped[int] = mapped_column(ForeignKey("payments.id"), primary_key=True)
    last_digits: Mapped[str]
    bank_id: Mapped[int] = mapped_column(ForeignKey("banks.id"))
    bank: Mapped[Bank] = relationship()
    __mapper_args__ = {"polymorphic_identity": "card"}


class Category(Base):
    __tablename__ = "categories"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("categories.id"))
    parent: Mapped[Category | None] = relationship(remote_side="Category.id", back_populates="children")
    children: Mapped[list[Category]] = relationship(back_populates="parent", order_by="Category.id")


class Supplier(Base):
    __tablename__ = "suppliers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    city_id: Mapped[int] = mapped_column(ForeignKey("cities.id"))
    city: Mapped[City] = relationship(lazy="selectin")


class Product(Base):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[int]
    description: Mapped[str]
    category_id: Mapped[int] = mapped_column(ForeignKey("categories.id"))
    supplier_id: Mapped[int] = mapped_column(ForeignKey("suppliers.id"))
    category: Mapped[Category] = relationship()
    supplier: Mapped[Supplier] = relationship()
    labels: Mapped[list[Label]] = relationship(secondary=product_labels)
    reviews: Mapped[list[Review]] = relationship(back_populates="product", order_by="Review.id")
    images: Mapped[dict[str, Image]] = relationship(collection_class=attribute_keyed_dict("side"))
    stocks: Mapped[list[Stock]] = relationship(back_populates="product")
    warehouse_names: AssociationProxy[list[str]] = association_proxy("stocks", "warehouse_name")


class Review(Base):
    __tablename__ = "reviews"
    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    author_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    stars: Mapped[int]
    product: Mapped[Product] = relationship(back_populates="reviews")
    author: Mapped[Customer] = relationship()


class Image(Base):
    __tablename__ = "images"
    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    side: Mapped[str]
    url: Mapped[str]


class Warehouse(Base):
    __tablename__ = "warehouses"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Stock(Base):
    __tablename__ = "stocks"
    warehouse_id: Mapped[int] = mapped_column(ForeignKey("warehouses.id"), primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"), primary_key=True)
    amount: Mapped[int]
    warehouse: Mapped[Warehouse] = relationship()
    product: Mapped[Product] = relationship(back_populates="stocks")

    @property
    def warehouse_name(self) -> str:
        return self.warehouse.name


class Vehicle(Base):
    __tablename__ = "vehicles"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    plate: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}


class Van(Vehicle):
    home_id: Mapped[int | None] = mapped_column(ForeignKey("warehouses.id"))
    home: Mapped[Warehouse | None] = relationship()
    __mapper_args__ = {"polymorphic_identity": "van"}


class Task(Base):
    __tablename__ = "tasks"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    state: Mapped[str]
    next_id: Mapped[int | None] = mapped_column(ForeignKey("tasks.id"))
    next: Mapped[Task | None] = relationship(remote_side="Task.id")


Customer.review_count = column_property(
    select(func.count(Review.id)).where(Review.author_id == Customer.id).correlate_except(Review).scalar_subquery(),
    deferred=True,
)
