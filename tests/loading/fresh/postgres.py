"""What only PostgreSQL has."""

from __future__ import annotations

from sqlalchemy import func, literal_column, select, text
from sqlalchemy.dialects.postgresql import array

from perfkit.loading import Kind
from tests.loading.fresh.judge import finds, quiet
from tests.loading.fresh.shop import Customer, Order, Product, Task


@finds(Kind.LAZY_LOAD, "Order.customer")
def who_ordered(session):
    return [order.customer.name for order in session.scalars(select(Order))]


@finds(Kind.REPEATED)
def driver_sql(session):
    connection = session.connection()
    return [connection.exec_driver_sql("SELECT name FROM products WHERE id = %s", (n,)).scalar() for n in (1, 2, 3)]


@finds(Kind.REPEATED)
def literals_with_casts(session):
    return [session.execute(text(f"SELECT * FROM orders WHERE number = 'N{n}'\\:\\:text")).all() for n in (1, 2, 3)]


@finds(Kind.LOOPED_FETCH, "Customer")
def gotten(session):
    return [session.get(Customer, id_) for id_ in (1, 2, 3)]


@quiet
def numbers_of_a_sequence(session):
    session.execute(text("CREATE SEQUENCE IF NOT EXISTS invoice_numbers"))
    return [session.scalar(select(func.nextval("invoice_numbers"))) for _ in range(4)]


@quiet
def advisory_locks(session):
    for id_ in (1, 2, 3):
        session.execute(select(func.pg_advisory_xact_lock(id_)))


@quiet
def a_queue(session):
    for _ in range(3):
        task = session.scalars(
            select(Task).where(Task.state == "open").limit(1).with_for_update(skip_locked=True)
        ).first()
        task.state = "done"
        session.flush()


@quiet
def by_an_array(session):
    return session.scalars(select(Product).where(Product.id == func.any(array([1, 2, 3])))).all()


@quiet
def locked_by_text(session):
    return [session.execute(text(f"SELECT * FROM tasks WHERE id = {id_} FOR UPDATE")).all() for id_ in (1, 2, 3)]


@quiet
def clock(session):
    return [session.scalar(select(literal_column("clock_timestamp()"))) for _ in range(3)]
