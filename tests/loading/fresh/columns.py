"""Columns that come later, one object at a time; joins that multiply; what is loaded for nothing."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import (
    contains_eager,
    defer,
    immediateload,
    joinedload,
    load_only,
    selectinload,
    subqueryload,
    undefer,
    undefer_group,
)

from perfkit.loading import Kind
from tests.loading.fresh.judge import finds, quiet
from tests.loading.fresh.shop import CardPayment, Customer, Line, Order, Payment, Product, Supplier

COLUMN = Kind.COLUMN_LOAD


@finds(COLUMN, "Customer.bio")
def biographies(session):
    return [customer.bio for customer in session.scalars(select(Customer))]


@quiet
def biographies_undeferred(session):
    return [customer.bio for customer in session.scalars(select(Customer).options(undefer(Customer.bio)))]


@finds(COLUMN, "Customer.email")
def more_than_was_asked_for(session):
    statement = select(Customer).options(load_only(Customer.name))
    return [f"{customer.name} <{customer.email}>" for customer in session.scalars(statement)]


@finds(COLUMN, "Product.description")
def deferred_by_option(session):
    products = session.scalars(select(Product).options(defer(Product.description))).all()
    return max(products, key=lambda product: len(product.description)).name


@finds(COLUMN, "Order.lines.product.description")
def deferred_at_the_end_of_a_path(session):
    option = selectinload(Order.lines).selectinload(Line.product).defer(Product.description)
    orders = session.scalars(select(Order).options(option)).all()
    return {line.product.description for order in orders for line in order.lines}


@finds(COLUMN, "Customer.photo", "Customer.banner", "Customer")
def media(session):
    return [(customer.photo, customer.banner) for customer in session.scalars(select(Customer))]


@quiet
def media_undeferred(session):
    customers = session.scalars(select(Customer).options(undefer_group("media")))
    return [(customer.photo, customer.banner) for customer in customers]


@finds(COLUMN, "Customer.review_count")
def deferred_property(session):
    return sum(customer.review_count for customer in session.scalars(select(Customer)))


@finds(COLUMN, "CardPayment.last_digits", "Payment.last_digits", "Payment", "CardPayment")
def columns_of_a_subclass(session):
    payments = session.scalars(select(Payment)).all()
    return [payment.last_digits for payment in payments if isinstance(payment, CardPayment)]


def _paid(session):
    orders = session.scalars(select(Order).where(Order.status == "new")).all()
    for order in orders:
        order.status = "paid"
    return orders


def _paid_and_kept(session):
    session.expire_on_commit = False
    orders = _paid(session)
    session.commit()
    return [order.number for order in orders]


@finds(COLUMN, "Order", "Order.number", paste=False, fixed=_paid_and_kept, says="expire_on_commit=False")
def after_a_commit(session):
    orders = _paid(session)
    session.commit()
    return [order.number for order in orders]


@finds(COLUMN, "Customer", "Customer.name", paste=False)
def after_expire_all(session):
    customers = session.scalars(select(Customer)).all()
    session.expire_all()
    return [customer.name for customer in customers]


@finds(COLUMN, "Product", "Product.name", paste=False)
def after_a_rollback(session):
    products = session.scalars(select(Product)).all()
    session.rollback()
    return sorted(product.name for product in products)


@quiet
def one_after_a_commit(session):
    order = session.get_one(Order, 1)
    order.status = "paid"
    session.commit()
    return order.number, order.customer.name


@quiet
def refresh_of_one(session):
    customer = session.get_one(Customer, 1)
    session.refresh(customer)
    session.refresh(customer, ["bio"])
    return customer.bio


@finds(
    Kind.CARTESIAN,
    *("Order", "Order.lines", "Order.shipments"),
    fixed=lambda session: _lines_and_shipments(session, selectinload),
    says="selectinload(Order.lines), selectinload(Order.shipments)",
    paste=False,
)
def lines_times_shipments(session):
    return _lines_and_shipments(session, joinedload)


def _lines_and_shipments(session, load):
    options = (load(Order.lines), load(Order.shipments))
    orders = session.scalars(select(Order).options(*options)).unique().all()
    return [(len(order.lines), len(order.shipments)) for order in orders]


@finds(
    Kind.CARTESIAN,
    *("Product", "Product.reviews", "Product.images", "Product.labels"),
    fixed=lambda session: _everything_of_products(session, selectinload),
    says=["selectinload(Product.labels)", "selectinload(Product.reviews)", "selectinload(Product.images)"],
    paste=False,
)
def three_collections(session):
    return _everything_of_products(session, joinedload)


def _everything_of_products(session, load):
    options = (load(Product.reviews), load(Product.images), load(Product.labels))
    products = session.execute(select(Product).options(*options)).unique().scalars().all()
    return [(len(each.reviews), len(each.images), len(each.labels)) for each in products]


@finds(
    Kind.CARTESIAN,
    *("Customer", "Customer.orders", "Customer.labels", "Customer.orders.lines"),
    fixed=lambda session: _orders_and_labels(
        session, selectinload(Customer.orders).selectinload(Order.lines), selectinload(Customer.labels)
    ),
    says=["selectinload(Customer.orders).selectinload(Order.lines)", "selectinload(Customer.labels)"],
    paste=False,
)
def nested_times_labels(session):
    return _orders_and_labels(session, joinedload(Customer.orders).joinedload(Order.lines), joinedload(Customer.labels))


def _orders_and_labels(session, *options):
    customers = session.query(Customer).options(*options).all()
    return [(len(c.labels), sum(len(order.lines) for order in c.orders)) for c in customers]


@quiet
def one_joined_collection(session):
    orders = session.scalars(select(Order).options(joinedload(Order.lines))).unique()
    return [len(order.lines) for order in orders]


@quiet
def joined_down_one_chain(session):
    option = joinedload(Customer.orders).joinedload(Order.lines).joinedload(Line.product)
    customers = session.scalars(select(Customer).options(option)).unique()
    return {line.product.name for customer in customers for order in customer.orders for line in order.lines}


UNUSED = Kind.UNUSED_EAGER


def _numbers(session, *options):
    return [order.number for order in session.scalars(select(Order).options(*options)).unique()]


@finds(UNUSED, "Order.customer", fixed=_numbers, paste=False)
def customers_for_nothing(session):
    return _numbers(session, selectinload(Order.customer))


@finds(UNUSED, "Order.lines", fixed=_numbers, paste=False)
def lines_for_nothing(session):
    return _numbers(session, joinedload(Order.lines))


@finds(UNUSED, "Order.shipments", fixed=_numbers, paste=False)
def shipments_for_nothing(session):
    return _numbers(session, subqueryload(Order.shipments))


@finds(Kind.LAZY_LOAD, "Order.payments", fixed=_numbers, says="in place of", paste=False)
def payments_for_nothing(session):
    return _numbers(session, immediateload(Order.payments))


def _quantities(session, option):
    return [line.quantity for order in session.scalars(select(Order).options(option)) for line in order.lines]


@finds(
    UNUSED, "Order.lines.product", fixed=lambda session: _quantities(session, selectinload(Order.lines)), paste=False
)
def products_for_nothing(session):
    return _quantities(session, selectinload(Order.lines).joinedload(Line.product))


@finds(UNUSED, "Supplier.city")
def eager_by_the_mapping(session):
    return [supplier.name for supplier in session.scalars(select(Supplier))]


@quiet
def contains_eager_for_nothing(session):
    statement = select(Order).join(Order.customer).where(Customer.name.like("customer%"))
    return [order.number for order in session.scalars(statement.options(contains_eager(Order.customer)))]


@quiet
def few_of_many_are_read(session):
    orders = session.scalars(select(Order).options(selectinload(Order.customer))).all()
    return [order.customer.name for order in orders if order.number == "N7"]


@quiet
def nobody_was_there(session):
    nobody = select(Customer).where(Customer.name == "nobody").options(selectinload(Customer.orders))
    return [customer.orders for customer in session.scalars(nobody)]


@quiet
def some_have_none(session):
    statement = select(Customer).where(Customer.id < 3).options(selectinload(Customer.orders).selectinload(Order.lines))
    return [[len(order.lines) for order in customer.orders] for customer in session.scalars(statement)]
