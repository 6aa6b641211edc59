"""Services that walk along relationships, one object at a time."""

from __future__ import annotations

import csv
import datetime as dt
import io
from functools import reduce
from itertools import groupby, pairwise
from operator import attrgetter

from sqlalchemy import insert, select, text
from sqlalchemy.orm import aliased, joinedload, selectinload, subqueryload

from perfkit.loading import Kind
from tests.loading.fresh.judge import finds
from tests.loading.fresh.shop import Category, Customer, Discount, Line, Order, Payment, Product, Stock, Task, Van
from tests.loading.fresh.texts import address_of, label_of

LAZY = Kind.LAZY_LOAD


@finds(LAZY, "Order.customer")
def who_ordered(session):
    return [order.customer.name for order in session.scalars(select(Order).order_by(Order.id))]


@finds(LAZY, "Customer.orders")
def orders_by_customer(session):
    return {customer.name: len(customer.orders) for customer in session.scalars(select(Customer))}


@finds(LAZY, "Order.lines")
def pieces_sold(session):
    paid = session.scalars(select(Order).where(Order.status == "paid"))
    return sum(line.quantity for order in paid for line in order.lines)


@finds(LAZY, "Order.customer")
@finds(LAZY, "Order.customer.city")
@finds(LAZY, "Order.customer.city.country")
def where_orders_go(session):
    destinations = set()
    for order in session.scalars(select(Order)).all():
        destinations.add(order.customer.city.country.code)
    return destinations


@finds(LAZY, "Order.shipments")
def drain_a_queue(session):
    queue = list(session.scalars(select(Order).where(Order.status == "new")))
    carriers = []
    while queue:
        order = queue.pop()
        carriers.extend(each.carrier for each in order.shipments)
    return carriers


@finds(LAZY, "Order.customer")
def names_by_map(session):
    return list(map(attrgetter("customer.name"), session.scalars(select(Order)).all()))


@finds(LAZY, "Review.author")
def sorted_by_author(session):
    from tests.loading.fresh.shop import Review

    return sorted(session.scalars(select(Review)), key=lambda review: review.author.name)


@finds(LAZY, "Customer.profile")
def has_dark_theme(session):
    return any(c.profile.theme == "light" for c in session.scalars(select(Customer)).all())


@finds(LAZY, "Product.labels")
def label_sheet(session):
    sheet = "{product.name}: {product.labels}"
    return [sheet.format(product=product) for product in session.scalars(select(Product))]


@finds(LAZY, "Product.stocks")
@finds(LAZY, "Product.stocks.warehouse")
def where_it_is_stored(session):
    return {product.name: list(product.warehouse_names) for product in session.scalars(select(Product))}


@finds(LAZY, "Order.lines")
@finds(LAZY, "Order.lines.product")
def totals_in_python(session):
    return [order.total for order in session.scalars(select(Order))]


@finds(
    *(LAZY, "Category.children"),
    also=[(LAZY, "Category.children.children"), (LAZY, "Category.children.children.children")],
)
def print_the_tree(session):
    def lines_of(category, depth=0):
        yield "  " * depth + category.name
        for child in category.children:
            yield from lines_of(child, depth + 1)

    roots = session.scalars(select(Category).where(Category.parent_id.is_(None))).all()
    return "\n".join(line for root in roots for line in lines_of(root))


@finds(LAZY, "CardPayment.bank", "Payment.bank")
@finds(Kind.COLUMN_LOAD, "", "CardPayment.bank_id", "Payment.bank_id", "CardPayment", "Payment")
def banks_of_payments(session):
    banks = []
    for payment in session.scalars(select(Payment)):
        if payment.kind == "card":
            banks.append(payment.bank.name)
    return banks


@finds(LAZY, "Van.home")
def homes_of_vans(session):
    return [van.home.name for van in session.scalars(select(Van))]


@finds(LAZY, "Order.large_lines")
def large_orders(session):
    return [order.number for order in session.scalars(select(Order)) if order.large_lines]


@finds(LAZY, "Discount.line")
def discounted_lines(session):
    return [each.line.quantity for each in session.scalars(select(Discount))]


@finds(LAZY, "Line.discounts")
def discounts_of_lines(session):
    lines = session.scalars(select(Line).where(Line.order_id < 3)).all()
    return [[each.percent for each in line.discounts] for line in lines]


@finds(LAZY, "Product.images")
def front_pages(session):
    return [product.images["front"].url for product in session.scalars(select(Product))]


@finds(LAZY, "Order.lines")
def rows_rather_than_scalars(session):
    rows = session.execute(select(Order, Customer.name).join(Order.customer)).all()
    return [(name, len(order.lines)) for order, name in rows]


@finds(LAZY, "Order.customer")
def joined_but_not_loaded(session):
    statement = select(Order).join(Order.customer).where(Customer.name != "nobody").order_by(Customer.name)
    return [f"{order.number} {order.customer.name}" for order in session.scalars(statement)]


@finds(LAZY, "Order.customer")
def in_the_old_style(session):
    return [order.customer.email for order in session.query(Order).filter_by(status="late").all()]


@finds(LAZY, "Order.lines.product")
def one_order_in_full(session):
    order = session.get(Order, 3)
    return [(line.quantity, line.product.name) for line in order.lines]


@finds(LAZY, "Customer.orders.lines")
def history_of_a_customer(session):
    customer = session.scalars(select(Customer).where(Customer.email == "c2@shop.example")).one()
    return sum(len(order.lines) for order in customer.orders)


@finds(LAZY, "Order.lines.product")
def lines_were_thought_of(session):
    orders = session.scalars(select(Order).options(selectinload(Order.lines)))
    return {line.product.name for order in orders for line in order.lines}


@finds(LAZY, "Order.customer.city")
def customers_were_thought_of(session):
    orders = session.scalars(select(Order).options(joinedload(Order.customer)))
    return [order.customer.city.name for order in orders]


@finds(LAZY, "Customer.orders.shipments")
def orders_were_thought_of(session):
    customers = session.scalars(select(Customer).options(subqueryload(Customer.orders))).all()
    return sum(1 for customer in customers for order in customer.orders for _ in order.shipments)


@finds(LAZY, "Order.customer")
def in_a_stream(session):
    statement = select(Order).execution_options(yield_per=4)
    return [order.customer.name for order in session.scalars(statement)]


@finds(LAZY, "Order.lines")
def in_partitions(session):
    total = 0
    for part in session.scalars(select(Order)).partitions(5):
        total += sum(len(order.lines) for order in part)
    return total


@finds(LAZY, "Customer.city")
def addresses(session):
    return [address_of(customer) for customer in session.scalars(select(Customer))]


@finds(LAZY, "Order.customer")
def by_a_property(session):
    return [order.billed_to for order in session.scalars(select(Order))]


@finds(LAZY, "Order.customer")
def in_a_log_line(session):
    return [f"packed {order}" for order in session.scalars(select(Order).limit(4))]


@finds(LAZY, "Order.payments")
def as_csv(session):
    sheet = io.StringIO()
    writer = csv.writer(sheet)
    for order in session.scalars(select(Order)):
        writer.writerow([order.number, *(payment.amount for payment in order.payments)])
    return sheet.getvalue()


@finds(LAZY, "Order.customer", paste=False, fixed=lambda session: _aliased(session, eager=True))
def under_an_alias(session):
    return _aliased(session, eager=False)


def _aliased(session, *, eager):
    recent = aliased(Order, name="recent")
    statement = select(recent).where(recent.status == "new")
    if eager:
        statement = statement.options(selectinload(recent.customer))
    return [order.customer.name for order in session.scalars(statement)]


@finds(LAZY, "Order.customer")
def from_sql_text(session):
    statement = select(Order).from_statement(text("SELECT * FROM orders WHERE status = 'paid'"))
    return [order.customer.name for order in session.scalars(statement)]


@finds(LAZY, "Order.lines")
def newest_five(session):
    statement = select(Order).order_by(Order.placed_on.desc(), Order.id).limit(5)
    return [(order.number, len(order.lines)) for order in session.scalars(statement)]


@finds(LAZY, "Stock.product")
def grouped(session):
    stocks = session.scalars(select(Stock).where(Stock.warehouse_id == 1)).all()
    return {key: list(items) for key, items in groupby(stocks, key=lambda stock: stock.product.name)}


@finds(LAZY, "Order.shipments")
def reduced(session):
    orders = session.scalars(select(Order)).all()
    return reduce(lambda sum_, order: sum_ + len(order.shipments), orders, 0)


@finds(LAZY, "Product.category")
@finds(LAZY, "Product.supplier", also=[(Kind.UNUSED_EAGER, "Product.supplier.city")])
def two_at_once(session):
    return [(each.category.name, each.supplier.name) for each in session.scalars(select(Product))]


@finds(LAZY, "Product.supplier", also=[(Kind.UNUSED_EAGER, "Product.supplier.city")])
def try_and_except(session):
    names = []
    for product in session.scalars(select(Product)).all():
        try:
            names.append(product.supplier.name)
        except AttributeError:
            names.append("-")
    return names


@finds(LAZY, "Order.lines")
def zipped_pairs(session):
    orders = session.scalars(select(Order).order_by(Order.id)).all()
    return [len(earlier.lines) <= len(later.lines) for earlier, later in pairwise(orders)]


@finds(LAZY, "Task.next")
def every_second_task(session):
    return [task.next.title for task in session.scalars(select(Task).where(Task.id.in_([1, 3, 5])))]


@finds(LAZY, "Customer.labels")
def through_a_registry(session):
    return [label_of(customer) for customer in session.scalars(select(Customer))]


@finds(LAZY, "Order.customer.profile")
@finds(LAZY, "Order.customer")
def two_steps_apart(session):
    customers = []
    for order in session.scalars(select(Order)):
        customers.append(order.customer)
    return [customer.profile.theme for customer in customers]


@finds(LAZY, "Customer.city")
def of_the_second_entity(session):
    rows = session.execute(select(Order, Customer).join(Order.customer))
    return [(order.number, customer.city.name) for order, customer in rows]


@finds(LAZY, "Order.customer")
def page_after_page(session):
    names, page = [], 0
    while orders := session.scalars(select(Order).order_by(Order.id).limit(4).offset(page * 4)).all():
        names += [order.customer.name for order in orders]
        page += 1
    return names


@finds(LAZY, "Order.payments.bank", "Order.payments.CardPayment.bank")
@finds(Kind.COLUMN_LOAD, *("Order.payments.bank_id", "Order.payments", "CardPayment.bank_id"))
def banks_at_the_end_of_a_path(session):
    orders = session.scalars(select(Order).options(selectinload(Order.payments)))
    return {payment.bank.name for order in orders for payment in order.payments if payment.kind == "card"}


@finds(LAZY, "Order.customer", paste=False)
def inserted_and_returned(session):
    values = [
        {"number": f"Y{n}", "status": "new", "placed_on": dt.date(2026, 5, n), "customer_id": n} for n in (1, 2, 3)
    ]
    return [order.customer.name for order in session.scalars(insert(Order).returning(Order), values)]
