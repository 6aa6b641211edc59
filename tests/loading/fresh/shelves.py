"""What the shop holds, and databases that hold it."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from sqlalchemy import Engine, StaticPool, create_engine
from sqlalchemy.orm import Session

from tests.loading.fresh import shop as s

CATEGORY_PARENTS = {1: None, 2: None, 3: 1, 4: 1, 5: 2, 6: 3, 7: 3, 8: 4}


def fill(session: Session) -> None:
    """Six customers with two orders each, eight products, and all that hangs on them."""
    session.add_all(
        s.Country(id=i, code=c, name=n) for i, (c, n) in enumerate([("FI", "Finland"), ("SE", "Sweden")], 1)
    )
    session.add_all(s.City(id=i, name=f"city {i}", country_id=1 + i % 2) for i in range(1, 5))
    session.add_all(s.Label(id=i, text=f"label {i}") for i in range(1, 6))
    session.add_all(s.Bank(id=i, name=f"bank {i}") for i in range(1, 4))
    session.add_all(s.Warehouse(id=i, name=f"warehouse {i}") for i in range(1, 4))
    session.add_all(s.Category(id=i, name=f"category {i}", parent_id=up) for i, up in CATEGORY_PARENTS.items())
    session.add_all(s.Supplier(id=i, name=f"supplier {i}", city_id=i) for i in range(1, 5))
    session.flush()
    for i in range(1, 7):
        customer = s.Customer(
            id=i, name=f"customer {i}", email=f"c{i}@shop.example", city_id=1 + i % 4, bio="b", photo="p", banner="n"
        )
        customer.labels = [session.get_one(s.Label, 1 + (i + j) % 5) for j in range(3)]
        session.add(customer)
        session.add(s.Profile(customer_id=i, theme="dark", customer=customer))
    session.flush()
    for i in range(1, 9):
        product = s.Product(id=i, name=f"product {i}", price=i, description="d", category_id=i, supplier_id=1 + i % 4)
        product.labels = [session.get_one(s.Label, 1 + (i + j) % 5) for j in range(3)]
        session.add(product)
        session.flush()
        session.add_all(s.Image(product_id=i, side=side, url=f"/{i}/{side}") for side in ("front", "back", "top"))
        session.add_all(s.Stock(product_id=i, warehouse_id=w, amount=w) for w in range(1, 4))
        session.add_all(s.Review(product_id=i, author_id=a, stars=a % 5) for a in range(1, 5))
    for i in range(1, 13):
        session.add(
            s.Order(
                id=i,
                number=f"N{i}",
                status=("new", "paid", "late")[i % 3],
                placed_on=dt.date(2026, 1 + i % 4, i),
                customer_id=1 + i % 6,
            )
        )
        session.flush()
        session.add_all(s.Line(order_id=i, position=p, product_id=1 + (i + p) % 8, quantity=p) for p in range(1, 5))
        session.flush()
        session.add_all(s.Discount(order_id=i, position=p, percent=p) for p in (1, 2))
        session.add_all(s.Shipment(order_id=i, carrier=f"carrier {n}") for n in range(4))
        session.add(s.Payment(order_id=i, amount=1))
        session.add(s.CardPayment(order_id=i, amount=2, last_digits=f"{i:04}", bank_id=1 + i % 3))
    for i in range(1, 7):
        session.add_all(s.Event(customer_id=i, kind=kind) for kind in ("login", "logout"))
        session.add_all(s.Note(customer_id=i, text="n") for _ in range(2))
        session.add(s.Van(plate=f"V{i}", home_id=1 + i % 3))
        session.add(s.Vehicle(plate=f"B{i}"))
    for i in range(6, 0, -1):
        session.add(s.Task(id=i, title=f"task {i}", state="open", next_id=i + 1 if i < 6 else None))
        session.flush()
    session.commit()


@cache
def _template() -> sqlite3.Connection:
    """The shop in memory, made once, to be copied for each program."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    s.Base.metadata.create_all(engine)
    with Session(engine) as session:
        fill(session)
    return connection


@contextmanager
def in_memory() -> Iterator[Engine]:
    """A database of one's own."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    _template().backup(connection)
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    yield engine
    connection.close()


def copy_to(path: Path) -> None:
    """The shop as a file, for drivers that open their own connections."""
    with sqlite3.connect(path) as connection:
        _template().backup(connection)
    connection.close()
