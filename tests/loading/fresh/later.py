"""What came to mind after two rounds: jobs, threads, copies, hand-made trees."""

from __future__ import annotations

import contextvars
import copy
import uuid
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import exists, func, select, text
from sqlalchemy.orm import Session, joinedload, selectinload

from perfkit.loading import Kind
from tests.loading.fresh.judge import finds, quiet
from tests.loading.fresh.shop import (
    Category,
    Customer,
    Event,
    Label,
    Line,
    Order,
    Payment,
    Product,
    Shipment,
    Task,
    Van,
    Vehicle,
)

LAZY, FETCH, REPEATED, COLUMN = Kind.LAZY_LOAD, Kind.LOOPED_FETCH, Kind.REPEATED, Kind.COLUMN_LOAD


@finds(REPEATED, "Line", "Line.order_id")
@finds(REPEATED, "Shipment", "Shipment.order_id")
def two_statements_for_each(session):
    return [
        (
            session.scalars(select(Line).where(Line.order_id == id_)).all(),
            session.scalars(select(Shipment).where(Shipment.order_id == id_)).all(),
        )
        for id_ in (1, 2, 3)
    ]


@finds(FETCH, "Product")
def threads_that_carry_the_context(session):
    def work(id_):
        with Session(engine) as own:
            return own.get(Product, id_).name

    engine = session.get_bind()
    with ThreadPoolExecutor(1) as pool:
        return [pool.submit(contextvars.copy_context().run, work, id_).result() for id_ in (1, 2, 3)]


@finds(REPEATED, "Category", "Category.parent_id")
def a_tree_by_hand(session):
    def below(id_):
        children = session.scalars(select(Category).where(Category.parent_id == id_)).all()
        return {child.name: below(child.id) for child in children}

    return below(1)


@finds(REPEATED, "Label", "Label.text")
def checked_before_they_are_added(session):
    for name in ("a", "b", "c"):
        if not session.scalar(select(exists().where(Label.text == name))):
            session.add(Label(text=name))


@finds(REPEATED, "products")
def with_a_comment_of_its_own(session):
    return [
        session.execute(text(f"SELECT name FROM products WHERE id = :id /* {uuid.uuid4()} */"), {"id": id_}).scalar()
        for id_ in (1, 2, 3)
    ]


@finds(COLUMN, "Order", "Order.status", paste=False, says="expire_on_commit=False")
def a_commit_for_each(session):
    for order in session.scalars(select(Order)).all():
        order.status = order.status.upper()
        session.commit()


@finds((FETCH, REPEATED), "Order", "Order.customer_id")
def the_latest_of_each(session):
    latest = select(Order).order_by(Order.id.desc()).limit(1)
    return [session.scalars(latest.where(Order.customer_id == id_)).first() for id_ in (1, 2, 3)]


@finds(FETCH, "Product")
def by_kind_of_thing(session):
    found = []
    for kind, id_ in (("product", 1), ("product", 2), ("customer", 1)):
        match kind:
            case "product":
                found.append(session.get(Product, id_))
            case "customer":
                found.append(session.get(Customer, id_))
    return found


@finds(LAZY, "Customer.orders")
@finds(LAZY, "Customer.orders.lines")
@finds(LAZY, "Customer.orders.lines.product")
def dictionaries_in_dictionaries(session):
    return {
        customer.name: {order.number: [line.product.name for line in order.lines] for order in customer.orders}
        for customer in session.scalars(select(Customer).limit(3))
    }


@quiet
def one_helper_for_all_classes(session):
    return [session.get(entity, 1) for entity in (Order, Customer, Product)]


@quiet
def the_next_number(session):
    for name in ("a", "b", "c"):
        session.add(Label(id=session.scalar(select(func.max(Label.id))) + 1, text=name))
        session.flush()


@quiet
def foreign_keys_are_columns(session):
    return [order.customer_id for order in session.scalars(select(Order))]


@quiet
def one_biography(session):
    return session.scalars(select(Customer)).all()[2].bio


@quiet
def refreshed_and_locked(session):
    for order in session.scalars(select(Order)).all():
        session.refresh(order, with_for_update=True)


@quiet
def a_commit_for_each_without_expiry(session):
    session.expire_on_commit = False
    a_commit_for_each(session)


@quiet
def chunks_as_text(session):
    ids = [str(id_) for id_ in range(1, 61)]
    chunks = [", ".join(ids[at : at + 20]) for at in (0, 20, 40)]
    return [session.execute(text(f"SELECT * FROM events WHERE id IN ({chunk})")).all() for chunk in chunks]


@quiet
def until_none_is_left(session):
    while (task := session.scalars(select(Task).order_by(Task.id).limit(1)).first()) is not None:
        session.delete(task)
        session.flush()


@quiet
def pages_of_one_customer(session):
    events = select(Event).where(Event.customer_id == 1).order_by(Event.id)
    return [session.scalars(events.limit(1).offset(at)).all() for at in (0, 1, 2)]


@quiet
def whether_it_is_among_them(session):
    label = session.get(Label, 1)
    customers = session.scalars(select(Customer).options(selectinload(Customer.labels)))
    return [label in customer.labels for customer in customers]


@quiet
def appended_to_what_is_loaded(session):
    for order in session.scalars(select(Order).options(selectinload(Order.shipments))):
        order.shipments.append(Shipment(carrier="by hand"))
    session.flush()


@quiet
def deleted_with_all_that_hangs_on_it(session):
    options = (selectinload(Order.lines).selectinload(Line.discounts), joinedload(Order.shipments))
    for order in session.scalars(select(Order).options(*options, selectinload(Order.payments))).unique().all():
        session.delete(order)
    session.flush()


@quiet
def read_after_the_session(session):
    orders = session.scalars(select(Order).options(joinedload(Order.customer))).all()
    session.expunge_all()
    return [order.customer.name for order in orders]


@quiet
def read_of_copies(session):
    orders = session.scalars(select(Order).options(joinedload(Order.customer)))
    return [copy.copy(order).customer.name for order in orders]


@quiet
def level_by_level(session):
    """Each step asks for the list that the step before has found."""
    level = session.scalars(select(Category.id).where(Category.parent_id.is_(None))).all()
    levels = []
    while level:
        levels.append(level)
        level = session.scalars(select(Category.id).where(Category.parent_id.in_(level))).all()
    return levels


@finds(REPEATED, "Category")
def lists_of_several_parents(session):
    """Which look like levels, and do not come from each other."""
    lists = ((1,), (2, 4), (3,))
    return [session.scalars(select(Category.name).where(Category.parent_id.in_(ids))).all() for ids in lists]


@finds(LAZY, "Category.children", says="recursion_depth=-1")
def depth_of_a_tree(session):
    """A recursion that goes through a generator has other frames further in, and is one finding."""

    def depth(category):
        return 1 + max((depth(child) for child in category.children), default=0)

    return [depth(each) for each in session.scalars(select(Category).where(Category.parent_id.is_(None)))]


@finds(COLUMN, "CardPayment.last_digits")
def asked_by_getattr(session):
    """Of the columns that one load brings, the one that is named."""
    return [getattr(each, "last_digits", None) for each in session.scalars(select(Payment))]


@finds(LAZY, "Van.home", also=[(COLUMN, "Van.home_id")])
@finds(COLUMN, "Van.home_id", says="selectin_polymorphic(Vehicle, [Van])")
def columns_of_a_subclass_in_the_same_table(session):
    """The base's query leaves them out, and `undefer` does not bring them."""
    return [each.home.name for each in session.scalars(select(Vehicle)) if isinstance(each, Van)]
