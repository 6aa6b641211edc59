"""Repositories and reports that ask for one value at a time, and those that do not."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache, partial
from itertools import pairwise

from sqlalchemy import and_, case, exists, func, lambda_stmt, or_, select, text
from sqlalchemy.orm import Session, aliased, with_parent

from perfkit.loading import Kind
from tests.loading.fresh.judge import finds, quiet
from tests.loading.fresh.shop import (
    Category,
    City,
    Country,
    Customer,
    Event,
    Label,
    Line,
    Order,
    Product,
    Review,
    Stock,
    Task,
)
from tests.loading.fresh.texts import logged

FETCH = Kind.LOOPED_FETCH
ONE = (Kind.LOOPED_FETCH, Kind.REPEATED)
REPEATED = Kind.REPEATED
COUNT = Kind.COUNT_IN_LOOP
ASKED = (Kind.COUNT_IN_LOOP, Kind.REPEATED)
DUPLICATE = Kind.DUPLICATE


class Products:
    """A repository."""

    def __init__(self, session):
        self.session = session

    def by_id(self, id_):
        return self.session.get(Product, id_)

    @logged
    def by_name(self, name):
        return self.session.scalars(select(Product).where(Product.name == name)).one_or_none()


@finds(FETCH, "Product")
def a_basket(session):
    basket = {1: 2, 4: 1, 7: 3}
    total = 0
    for product_id, quantity in basket.items():
        product = session.get(Product, product_id)
        total += product.price * quantity
    return total


@finds(FETCH, "Product")
def by_a_repository(session):
    products = Products(session)
    return [products.by_id(id_).name for id_ in (1, 2, 3)]


@finds(FETCH, "Product")
def mapped_over_ids(session):
    return list(map(Products(session).by_id, (5, 6, 7)))


@finds(ONE, "Product", "Product.name")
def by_a_decorated_method(session):
    products = Products(session)
    return [products.by_name(f"product {i}") for i in range(1, 5)]


@finds(FETCH, "Line")
def by_composite_keys(session):
    return [session.get_one(Line, key).quantity for key in [(1, 1), (2, 3), (4, 2)]]


@finds(ONE, "Customer", "Customer.email")
def first_by_email(session):
    found = []
    for email in ("c1@shop.example", "c3@shop.example", "x@shop.example"):
        customer = session.scalars(select(Customer).where(Customer.email == email)).first()
        if customer is not None:
            found.append(customer)
    return found


@finds(ONE, "Product.price", "Product", "Product.id")
def prices_one_by_one(session):
    return sum(session.scalar(select(Product.price).where(Product.id == id_)) for id_ in range(1, 6))


@finds(ONE, "Order", "Order.number")
def old_style_one(session):
    return [session.query(Order).filter_by(number=number).one().status for number in ("N1", "N2", "N3")]


@finds(FETCH, "Order")
def old_style_first(session):
    return [session.query(Order).filter(Order.id == id_).first().status for id_ in (4, 5, 6)]


@finds(FETCH, "Order")
@finds(Kind.LAZY_LOAD, "Order.customer")
def fetched_and_walked(session):
    names = []
    for id_ in (1, 2, 3, 4):
        order = session.get(Order, id_)
        names.append(order.customer.name)
    return names


@finds(FETCH, "Customer")
def behind_a_small_cache(session):
    @lru_cache
    def customer(id_):
        return session.get(Customer, id_)

    return [customer(id_).name for id_ in (1, 2, 1, 3, 2, 1)]


@finds(ONE, "Product", "Product.id")
def a_session_for_each_read(session):
    names = []
    for id_ in (1, 2, 3, 4):
        with Session(session.get_bind()) as own:
            names.append(own.scalars(select(Product).where(Product.id == id_)).one().name)
    return names


@finds(REPEATED, "Order", "Order.customer_id")
def orders_of_each(session):
    result = {}
    for customer in session.scalars(select(Customer)):
        result[customer.name] = session.scalars(select(Order).where(Order.customer_id == customer.id)).all()
    return result


@finds(REPEATED, "Order", "Order.customer_id")
def compared_with_an_object(session):
    customers = session.scalars(select(Customer)).all()
    return [session.scalars(select(Order).where(Order.customer == each)).all() for each in customers]


@finds(REPEATED, "Order", "Order.customer_id")
def by_with_parent(session):
    customers = session.scalars(select(Customer)).all()
    return [session.scalars(select(Order).where(with_parent(each, Customer.orders))).all() for each in customers]


@finds(REPEATED, "Event", "Customer.events", "Event.customer_id")
def write_only_reads(session):
    customers = session.scalars(select(Customer)).all()
    return [[event.kind for event in session.scalars(each.events.select())] for each in customers]


@finds(REPEATED, "Note", "Customer.notes", "Note.customer_id")
def dynamic_reads(session):
    return [[note.text for note in each.notes] for each in session.scalars(select(Customer)).all()]


@finds(REPEATED, "products", "products.id", "Product", "Product.id")
def core_tables(session):
    products = Product.__table__
    names = []
    for id_ in (1, 3, 5):
        names.append(session.connection().execute(select(products.c.name).where(products.c.id == id_)).scalar_one())
    return names


@finds(REPEATED)
def sql_text(session):
    statement = text("SELECT name FROM suppliers WHERE id = :id")
    return [session.execute(statement, {"id": id_}).scalar() for id_ in (1, 2, 3)]


@finds(REPEATED)
def driver_sql(session):
    connection = session.connection()
    return [connection.exec_driver_sql("SELECT name FROM cities WHERE id = ?", (id_,)).scalar() for id_ in (1, 2, 3)]


@finds(REPEATED)
def driver_sql_with_literals(session):
    connection = session.connection()
    result = []
    for id_ in (1, 2, 3):
        result += connection.exec_driver_sql(f"SELECT number FROM orders WHERE customer_id = {id_}").scalars()
    return result


@finds(REPEATED)
def text_with_quoted_literals(session):
    found = []
    for name in ("customer 1", "o''hara", "customer 2"):
        found.extend(session.execute(text(f"SELECT id FROM customers WHERE name = '{name}'")))
    return found


@finds(REPEATED, "Line", "Line.order_id", "Order.number", "Order")
def joined_and_compared(session):
    lines = []
    for number in ("N1", "N4", "N9"):
        lines += session.scalars(select(Line).join(Line.order).where(Order.number == number, Order.status != "lost"))
    return lines


@finds(REPEATED, "Review", "Review.product_id")
def in_closures(session):
    def reviews(product_id):
        return lambda: session.scalars(select(Review).where(Review.product_id == product_id)).all()

    return [load() for load in [reviews(1), reviews(2), reviews(3)]]


@finds(REPEATED, "Review", "Review.product_id")
def by_lambda_statements(session):
    found = []
    for product_id in (1, 2, 3):
        statement = lambda_stmt(lambda: select(Review))
        statement += lambda s: s.where(Review.product_id == product_id)  # noqa: B023
        found += session.scalars(statement)
    return found


@finds(REPEATED, "Stock", "Stock.product_id")
def in_a_pipeline(session):
    ids = (product.id for product in session.scalars(select(Product)).all())
    stocks = (session.scalars(select(Stock).where(Stock.product_id == id_)).all() for id_ in ids)
    return [sum(stock.amount for stock in each) for each in stocks]


@finds(REPEATED)
def a_connection_for_each_read(session):
    engine = session.get_bind()
    rows = []
    for id_ in (1, 2, 3):
        with engine.connect() as connection:
            rows.append(connection.execute(text("SELECT text FROM labels WHERE id = :id"), {"id": id_}).one())
    return rows


@finds(REPEATED, "Order", "Order.customer_id", says="Order.placed_on >= datetime.date(2026, 2, 1)")
def equal_and_since(session):
    since = dt.date(2026, 2, 1)
    query = session.query(Order).filter(Order.placed_on >= since)
    return [query.filter(Order.customer_id == id_).order_by(Order.id).all() for id_ in (1, 2, 3)]


@finds(REPEATED, "Product", "Product.id")
def short_lists_of_each(session):
    wanted = {"a": [1, 2], "b": [2, 3, 4], "c": [1, 5]}
    return {
        name: [product.name for product in session.scalars(select(Product).where(Product.id.in_(ids)))]
        for name, ids in wanted.items()
    }


@finds(COUNT, "Order", "Order.customer_id")
def orders_counted(session):
    counts = {}
    for customer in session.scalars(select(Customer)):
        counts[customer.id] = session.scalar(
            select(func.count()).select_from(Order).where(Order.customer_id == customer.id)
        )
    return counts


@finds(COUNT, "Line", "Line.order_id")
def quantities_summed(session):
    ids = session.scalars(select(Order.id)).all()
    return [session.scalar(select(func.sum(Line.quantity)).where(Line.order_id == id_)) for id_ in ids]


@finds(COUNT)
def counted_by_text(session):
    statement = text("select count(*) from reviews where product_id = :p")
    return [session.scalar(statement, {"p": id_}) for id_ in (1, 2, 3)]


@finds(COUNT, "Review", "Review.product_id", "Review.author_id")
def counted_in_the_old_style(session):
    return [session.query(Review).filter(Review.author_id == id_).count() for id_ in (1, 2, 3)]


@finds(COUNT, "Order", "Order.customer_id")
def latest_of_each(session):
    return [session.scalar(select(func.max(Order.placed_on)).where(Order.customer_id == id_)) for id_ in (1, 2, 3)]


@finds(ASKED, "Order", "Order.customer_id")
def has_ordered(session):
    return [
        customer.name
        for customer in session.scalars(select(Customer)).all()
        if session.scalar(select(exists().where(Order.customer_id == customer.id)))
    ]


@finds(ASKED, "Review", "Review.author_id")
def has_reviewed(session):
    flags = []
    for id_ in (1, 2, 5, 6):
        query = session.query(Review).filter(Review.author_id == id_)
        flags.append(session.query(query.exists()).scalar())
    return flags


@finds((*ASKED, FETCH), "Event", "Event.customer_id")
def exists_by_id_and_limit(session):
    return [session.scalar(select(Event.id).where(Event.customer_id == id_).limit(1)) is not None for id_ in (1, 2, 3)]


def vat(session):
    """The same for every line."""
    return session.scalar(select(Country.name).where(Country.code == "FI"))


@finds(DUPLICATE, "Country", "Country.name", "Country.code")
def the_same_for_each(session):
    return [(order.number, vat(session)) for order in session.scalars(select(Order)).all()]


@finds(DUPLICATE)
def settings_by_text(session):
    return [session.execute(text("SELECT count(*) FROM countries")).scalar() for _ in range(4)]


@finds(DUPLICATE, "labels", "Label")
def everything_again_and_again(session):
    label = Label.__table__
    found = []
    for name in ("a", "b", "c", "d"):
        known = {row.text for row in session.connection().execute(select(label))}
        if name not in known:
            found.append(name)
    return found


# And what is as it should be.


@quiet
def pages_by_offset(session):
    found, page = [], 0
    while rows := session.scalars(select(Order).order_by(Order.id).limit(3).offset(page * 3)).all():
        found += rows
        page += 1
    return found


@quiet
def pages_by_keyset(session):
    last, found = 0, []
    while rows := session.scalars(select(Order).where(Order.id > last).order_by(Order.id).limit(4)).all():
        found += rows
        last = rows[-1].id
    return found


@quiet
def pages_of_text(session):
    return [session.execute(text(f"SELECT * FROM orders ORDER BY id LIMIT 3 OFFSET {o}")).all() for o in (0, 3, 6)]


@quiet
def chunks_of_twenty_five(session):
    ids = list(range(1, 101))
    found = []
    for start in range(0, len(ids), 25):
        found += session.scalars(select(Event).where(Event.id.in_(ids[start : start + 25])))
    return found


@quiet
def pieces_of_one_list(session):
    ids = list(range(1, 13))
    return [session.scalars(select(Order).where(Order.id.in_(ids[at : at + 4]))).all() for at in (0, 4, 8)]


@quiet
def same_helper_for_three_reasons(session):
    products = Products(session)
    cheap = products.by_id(1)
    usual = products.by_id(2)
    dear = products.by_id(3)
    return cheap.price, usual.price, dear.price


@quiet
def buyer_and_seller(session):
    def named(name):
        return session.scalars(select(Customer).where(Customer.name == name)).one()

    return {"buyer": named("customer 1"), "seller": named("customer 2")}


@quiet
def different_tables(session):
    return {
        entity.__name__: session.scalar(select(func.count()).select_from(entity))
        for entity in (Order, Customer, Product, Review)
    }


@quiet
def different_columns(session):
    return [
        session.scalars(select(Customer).where(getattr(Customer, column) == value)).all()
        for column, value in [("name", "customer 1"), ("email", "c1@shop.example"), ("city_id", 1)]
    ]


@quiet
def one_for_all(session):
    counts = session.execute(select(Order.customer_id, func.count()).group_by(Order.customer_id))
    return dict(counts.all())


@quiet
def by_in(session):
    products = session.scalars(select(Product).where(Product.id.in_([1, 2, 3])))
    return {product.id: product.name for product in products}


@quiet
def twice_is_no_habit(session):
    return vat(session), [vat(session) for _ in range(1)]


@quiet
def months(session):
    starts = [dt.date(2026, month, 1) for month in range(1, 6)]
    return [
        session.scalars(select(Order).where(Order.placed_on >= start, Order.placed_on < end)).all()
        for start, end in pairwise(starts)
    ]


@quiet
def months_counted(session):
    count = partial(select, func.count(Order.id))
    days = [dt.date(2026, month, 1) for month in range(1, 5)]
    return [session.scalar(count().where(Order.placed_on.between(day, day + dt.timedelta(days=27)))) for day in days]


@quiet
def as_one_types(session):
    return [
        session.scalars(select(Product).where(Product.name.like(f"{typed}%"))).all() for typed in ("p", "pr", "pro")
    ]


@quiet
def pings(session):
    return [session.execute(text("SELECT 1")).scalar() for _ in range(4)]


@quiet
def pragmas(session):
    connection = session.connection()
    return [
        connection.exec_driver_sql(f"PRAGMA table_info({table})").all() for table in ("orders", "products", "labels")
    ]


# Those that were written after the first run.


@finds(COUNT, "Order", "Order.customer_id", says="Order.status == 'paid'")
def paid_orders_counted(session):
    paid = select(func.count(Order.id)).where(Order.status == "paid")
    return [session.scalar(paid.where(Order.customer_id == id_)) for id_ in (1, 2, 3)]


@finds(
    COUNT,
    "Line",
    "Line.quantity",
    "Order.customer_id",
    "Order",
    says=".where(Order.customer_id.in_(ids), Order.status.in_(['new', 'paid']))",
)
def sold_to_each(session):
    sold = select(func.sum(Line.quantity)).join(Line.order).where(Order.status.in_(["new", "paid"]))
    return [session.scalar(sold.where(Order.customer_id == id_)) for id_ in (1, 2, 3)]


@finds(COUNT, "Order", "Order.status")
def by_status(session):
    return {
        status: session.scalar(select(func.count()).select_from(Order).where(Order.status == status))
        for status in ("new", "paid", "late")
    }


@finds(ASKED, "Order", "Order.customer_id", says="Order.status == 'late'")
def is_late_with_any(session):
    late = exists().where(Order.status == "late")
    return [session.scalar(select(late.where(Order.customer_id == id_))) for id_ in (1, 2, 3)]


@finds(REPEATED, "Order", "Order.placed_on")
def day_by_day(session):
    days = [dt.date(2026, 1, 4) + dt.timedelta(days=4 * number) for number in range(3)]
    return {day: session.scalars(select(Order).where(Order.placed_on == day)).all() for day in days}


@finds(REPEATED, "Product", "Product.id")
def lists_of_one(session):
    return [session.scalars(select(Product).where(Product.id.in_([id_]))).all() for id_ in (1, 2, 3)]


@finds(REPEATED, "Order", "Order.customer_id", says="isouter=True")
def with_an_outer_join(session):
    statement = select(Order).join(Customer, Order.customer_id == Customer.id, isouter=True)
    return [session.scalars(statement.where(Order.customer_id == id_)).all() for id_ in (1, 2, 3)]


@finds(REPEATED, "Order", "Order.customer_id", says="and what else the statement has")
def among_the_dearest(session):
    other = aliased(Line)
    statement = select(Order).join(other, other.order_id == Order.id).where(other.quantity > 3)
    return [session.scalars(statement.where(Order.customer_id == id_)).all() for id_ in (1, 2, 3)]


@quiet
def up_by_get(session):
    names, id_ = [], 8
    while id_ is not None:
        category = session.get(Category, id_)
        names.append(category.name)
        id_ = category.parent_id
    return names


@quiet
def pages_by_two_columns(session):
    day, id_, found = dt.date(2026, 1, 1), 0, []
    while rows := session.scalars(
        select(Order)
        .where(or_(Order.placed_on > day, and_(Order.placed_on == day, Order.id > id_)))
        .order_by(Order.placed_on, Order.id)
        .limit(4)
    ).all():
        found += rows
        day, id_ = rows[-1].placed_on, rows[-1].id
    return found


@quiet
def polled_by_refresh(session):
    task = session.get_one(Task, 1)
    for _ in range(4):
        session.refresh(task)
    for _ in range(4):
        session.expire(task)
        if task.state == "done":
            break
    return task


@finds(COUNT, "Order", "Order.customer_id", says="func.count(Order.status.distinct())")
def kinds_of_orders(session):
    kinds = select(func.count(Order.status.distinct()))
    return [session.scalar(kinds.where(Order.customer_id == id_)) for id_ in (1, 2, 3)]


@finds(
    *(COUNT, "Line", "Line.quantity", "Order"),
    says=["func.coalesce(func.sum(Line.quantity * Product.price), 0)", "func.max(Line.quantity)"],
)
def turnover_of_each(session):
    turnover = select(func.coalesce(func.sum(Line.quantity * Product.price), 0), func.max(Line.quantity))
    joined = turnover.select_from(Line).join(Line.product).where(Product.price > 1)
    return [session.execute(joined.where(Line.order_id == id_)).one() for id_ in (1, 2, 3)]


@finds((REPEATED, FETCH), "Customer", "Customer.email", says="func.lower(Customer.email).in_(ids)")
def by_email_in_any_case(session):
    emails = ["C1@shop.example", "C2@shop.example", "C3@shop.example"]
    by_email = [select(Customer).where(func.lower(Customer.email) == email.lower()) for email in emails]
    return [session.scalars(statement).first() for statement in by_email]


@finds(REPEATED, "Product", "Label", says="Product.price < 5")
def products_with_each_label(session):
    cheap = select(Product).where(Product.price < 5)
    return [session.scalars(cheap.where(Product.labels.any(Label.id == id_))).all() for id_ in (1, 2, 3)]


@finds(REPEATED, "Order", says="Order.status == 'paid'")
def orders_by_country(session):
    paid = select(Order).join(Order.customer).join(Customer.city).where(Order.status == "paid")
    return [session.scalars(paid.where(City.country_id == id_)).all() for id_ in (1, 2)]


@finds(COUNT, "Review", "Review.product_id", says="Review.stars > 2")
def good_reviews_in_the_old_style(session):
    good = session.query(Review).filter(Review.stars > 2)
    return [good.filter(Review.product_id == id_).count() for id_ in (1, 2, 3)]


@finds(COUNT, "Order", says="and what else the statement has")
def late_orders_by_case(session):
    late = select(func.sum(case((Order.status == "late", 1), else_=0)))
    return [session.scalar(late.where(Order.customer_id == id_)) for id_ in (1, 2, 3)]
