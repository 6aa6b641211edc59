"""Programs as they should be, loaded at once or meant to be one by one; and two that look like it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import event, func, insert, inspect, select, tuple_, update
from sqlalchemy.orm import (
    Session,
    aliased,
    contains_eager,
    immediateload,
    joinedload,
    lazyload,
    raiseload,
    selectin_polymorphic,
    selectinload,
    subqueryload,
    with_loader_criteria,
    with_polymorphic,
)

from perfkit.loading import Kind
from tests.loading.fresh.judge import finds, quiet
from tests.loading.fresh.shop import (
    CardPayment,
    Category,
    City,
    Customer,
    Event,
    Label,
    Line,
    Order,
    Payment,
    Product,
    Review,
    Shipment,
    Stock,
    Task,
)


def batched(values, size):
    """As itertools has it from Python 3.12."""
    values = list(values)
    for at in range(0, len(values), size):
        yield values[at : at + size]


@quiet
def one_page_of_one_order(session):
    order = session.get_one(Order, 1)
    return order.customer.city.country.name, [line.quantity for line in order.lines], len(order.shipments)


@quiet
def a_linked_list(session):
    task = session.get(Task, 1)
    titles = []
    while task is not None:
        titles.append(task.title)
        task = task.next
    return titles


@quiet
def a_linked_list_by_hand(session):
    titles, next_id = [], 1
    while next_id is not None:
        title, next_id = session.execute(select(Task.title, Task.next_id).where(Task.id == next_id)).one()
        titles.append(title)
    return titles


@quiet
def up_to_the_root(session):
    category = session.scalars(select(Category).where(Category.name == "category 8")).one()
    path = [category.name]
    while category.parent:
        category = category.parent
        path.append(category.name)
    return path


@quiet
def locked_one_by_one(session):
    for id_ in (1, 2, 3):
        product = session.get(Product, id_, with_for_update=True)
        product.price += 1
    session.flush()


@quiet
def catalog(session):
    inspector = inspect(session.connection())
    return {name: [each["name"] for each in inspector.get_columns(name)] for name in inspector.get_table_names()}


@quiet
def selectin(session):
    statement = select(Order).options(
        selectinload(Order.lines).selectinload(Line.product), selectinload(Order.customer)
    )
    return [(o.customer.name, [line.product.name for line in o.lines]) for o in session.scalars(statement)]


@quiet
def joined(session):
    statement = select(Order).options(joinedload(Order.customer).joinedload(Customer.city))
    return [order.customer.city.name for order in session.scalars(statement)]


@quiet
def by_subquery(session):
    statement = select(Customer).options(subqueryload(Customer.orders).subqueryload(Order.shipments))
    return sum(len(order.shipments) for customer in session.scalars(statement) for order in customer.orders)


@finds(Kind.LAZY_LOAD, "Order.customer", paste=False, fixed=joined, says="in place of")
def immediately(session):
    """It sends one statement for each customer, and says so in its documentation."""
    return [order.customer.name for order in session.scalars(select(Order).options(immediateload(Order.customer)))]


@quiet
def immediately_for_one(session):
    return (
        session.scalars(select(Order).where(Order.id == 1).options(immediateload(Order.customer))).one().customer.name
    )


@quiet
def contained(session):
    statement = select(Order).join(Order.customer).options(contains_eager(Order.customer)).order_by(Customer.name)
    return [(order.customer.name, order.number) for order in session.scalars(statement)]


@quiet
def contained_and_filtered(session):
    statement = select(Order).join(Order.lines).where(Line.quantity > 2).options(contains_eager(Order.lines))
    return [[line.quantity for line in order.lines] for order in session.scalars(statement).unique()]


@quiet
def raising(session):
    return [order.number for order in session.scalars(select(Order).options(raiseload("*")))]


@quiet
def lazily_declared_and_left(session):
    return [order.number for order in session.scalars(select(Order).options(lazyload(Order.customer)))]


@quiet
def joined_to_filter(session):
    statement = select(Order).join(Order.customer).where(Customer.city_id == 2)
    return [order.number for order in session.scalars(statement)]


@quiet
def inserted_one_by_one(session):
    for number in range(5):
        session.execute(insert(Label).values(text=f"new {number}"))


@quiet
def added_and_flushed_one_by_one(session):
    labels = []
    for number in range(4):
        label = Label(text=f"new {number}")
        session.add(label)
        session.flush()
        labels.append(label.id)
    return labels


@quiet
def updated_one_by_one(session):
    for id_, price in {1: 3, 2: 4, 3: 5}.items():
        session.execute(update(Product).where(Product.id == id_).values(price=price))


@quiet
def updated_in_bulk(session):
    session.execute(update(Product), [{"id": id_, "price": 1} for id_ in (1, 2, 3)])
    session.execute(insert(Label), [{"text": f"t{number}"} for number in range(50)])


@quiet
def returned_in_chunks(session):
    made = []
    for chunk in batched(range(40), 20):
        statement = insert(Label).returning(Label.id)
        made += session.scalars(statement, [{"text": str(number)} for number in chunk])
    return made


@quiet
def savepoints(session):
    for number in range(3):
        with session.begin_nested():
            session.add(Label(text=f"in savepoint {number}"))
    session.commit()


@quiet
def held_already(session):
    customers = session.scalars(select(Customer)).all()
    return len(customers), [order.customer.name for order in session.scalars(select(Order))]


@quiet
def gotten_from_the_map(session):
    held = session.scalars(select(Product)).all()
    return [session.get(Product, id_).name for id_ in range(1, 9)], held


@quiet
def all_of_one_customer(session):
    orders = session.scalars(select(Order).where(Order.customer_id == 2)).all()
    return [order.customer.name for order in orders]


@quiet
def nulls(session):
    session.execute(update(Customer).values(city_id=None))
    return [customer.city for customer in session.scalars(select(Customer))]


@quiet
def retries(session):
    for attempt in range(4):
        task = session.scalars(select(Task).where(Task.state == "done")).first()
        if task is not None or attempt == 3:
            return task
        time.sleep(0.001)
    return None


@quiet
def polled_with_writes(session):
    done = []
    while (
        task := session.scalars(select(Task).where(Task.state == "open").order_by(Task.id).limit(1)).first()
    ) and len(done) < 5:
        task.state = "done"
        session.flush()
        done.append(task.id)
    return done


@quiet
def counted_before_and_after(session):
    counts = []
    for number in range(3):
        counts.append(session.scalar(select(func.count()).select_from(Label)))
        session.add(Label(text=f"x{number}"))
        session.flush()
    return counts


@quiet
def one_element(session):
    orders = session.scalars(select(Order).where(Order.id == 4)).all()
    return [(order.customer.name, [line.product.name for line in order.lines[:1]]) for order in orders]


@quiet
def one_element_at_each_of_three_places(session):
    first = session.scalars(select(Order).where(Order.id == 1)).all()
    second = session.scalars(select(Order).where(Order.id == 2)).all()
    return [order.customer.name for order in first], [order.customer.name for order in second]


@quiet
def first_of_many(session):
    orders = session.scalars(select(Order).order_by(Order.id)).all()
    return len(orders), orders[0].customer.name, orders[0].lines[0].quantity


@quiet
def stopped_early(session):
    generator = (order.customer.name for order in session.scalars(select(Order)).all())
    return next(generator)


@quiet
def streamed(session):
    statement = select(Order).options(selectinload(Order.lines)).execution_options(yield_per=4)
    return sum(len(order.lines) for order in session.scalars(statement))


@quiet
def by_hybrid_expression(session):
    return session.execute(select(Order.number, Order.total).where(Order.total > 3)).all()


@quiet
def hooks_of_a_flush(session):
    def check(session, _context, _instances):
        for each in session.new:
            session.scalar(select(func.count()).select_from(Review).where(Review.product_id == each.product_id))

    event.listen(session, "before_flush", check)
    session.add_all(Review(product_id=id_, author_id=1, stars=5) for id_ in (1, 2, 3))
    session.flush()


@quiet
def deleted_with_cascades(session):
    for order in session.scalars(select(Order).where(Order.id < 4)).all():
        session.delete(order)
    session.flush()


def _merged_into_what_is_held(session):
    held = session.scalars(select(Product).where(Product.id.in_([1, 2, 3]))).all()
    merged(session)
    return held


@finds(Kind.LOOPED_FETCH, "Product", fixed=_merged_into_what_is_held)
def merged(session):
    for id_ in (1, 2, 3):
        session.merge(Product(id=id_, price=9))
    session.flush()


@quiet
def of_every_class(session):
    every = with_polymorphic(Payment, [CardPayment])
    return [getattr(payment, "last_digits", None) for payment in session.scalars(select(every))]


@quiet
def of_every_class_by_selectin(session):
    statement = select(Payment).options(selectin_polymorphic(Payment, [CardPayment]), selectinload(CardPayment.bank))
    return [payment.bank.name for payment in session.scalars(statement) if isinstance(payment, CardPayment)]


@quiet
def write_only_writes(session):
    for customer in session.scalars(select(Customer)).all():
        customer.events.add(Event(kind="visit"))
    session.flush()


@quiet
def viewonly_eager(session):
    orders = session.scalars(select(Order).options(selectinload(Order.large_lines)))
    return [order.number for order in orders if order.large_lines]


@quiet
def compared_with_itself(session):
    other = aliased(Order)
    statement = select(Order, other).join(other, other.customer_id == Order.customer_id).where(Order.id < other.id)
    return [(left.number, right.number) for left, right in session.execute(statement)]


@quiet
def recursive(session):
    roots = select(Category.id, Category.name).where(Category.parent_id.is_(None)).cte(recursive=True)
    tree = roots.union_all(select(Category.id, Category.name).join(roots, Category.parent_id == roots.c.id))
    return session.execute(select(tree)).all()


@quiet
def pairs_in_chunks(session):
    pairs = [(order, position) for order in range(1, 13) for position in range(1, 5)]
    return [
        session.scalars(select(Line).where(tuple_(Line.order_id, Line.position).in_(chunk))).all()
        for chunk in batched(pairs, 24)
    ]


@quiet
def with_criteria(session):
    statement = select(Order).options(selectinload(Order.lines), with_loader_criteria(Line, Line.quantity > 1))
    return [len(order.lines) for order in session.scalars(statement)]


@quiet
def many_chunks_of_selectin(session):
    session.execute(insert(Shipment), [{"order_id": 1 + n % 12, "carrier": "c"} for n in range(1200)])
    session.execute(insert(City), [{"id": n, "name": f"c{n}", "country_id": 1} for n in range(10, 1200)])
    cities = session.scalars(select(City).options(selectinload(City.country))).all()
    orders = session.scalars(select(Order).options(selectinload(Order.shipments))).all()
    return len([city.country for city in cities]), sum(len(order.shipments) for order in orders)


@quiet
def in_threads(session):
    def work(id_):
        with Session(engine) as own:
            names.append(own.get(Product, id_).name)

    engine, names = session.get_bind(), []
    for id_ in (1, 2, 3):
        thread = threading.Thread(target=work, args=(id_,))
        thread.start()
        thread.join()
    return names


@quiet
def a_job_for_each(session):
    engine = session.get_bind()
    for id_ in (1, 2, 3):
        with Session(engine) as own, own.begin():
            order = own.get_one(Order, id_)
            order.status = "paid"


@quiet
def twins(session):
    left = session.scalars(select(Order).where(Order.status == "new")).first()
    right = session.scalars(select(Order).where(Order.status == "paid")).first()
    return left.customer.name, right.customer.name


@quiet
def appended_to(session):
    customer = session.get_one(Customer, 1)
    for number in range(3):
        customer.orders.append(Order(number=f"X{number}", status="new", placed_on=func.current_date()))
    session.flush()


@quiet
def populated_again(session):
    statement = select(Customer).options(selectinload(Customer.orders))
    session.scalars(select(Customer)).all()
    customers = session.scalars(statement.execution_options(populate_existing=True)).all()
    return [len(customer.orders) for customer in customers]


@quiet
def subclasses_page_by_page(session):
    statement = (
        select(Payment).options(selectin_polymorphic(Payment, [CardPayment])).order_by(Payment.amount, Payment.id)
    )
    pages = [session.scalars(statement.limit(5).offset(at)).all() for at in (0, 5, 10, 15, 20)]
    return [getattr(payment, "last_digits", "") for page in pages for payment in page]


@quiet
def banks_at_the_end_of_a_path(session):
    further = (selectin_polymorphic(Payment, [CardPayment]), selectinload(CardPayment.bank))
    orders = session.scalars(select(Order).options(selectinload(Order.payments).options(*further)))
    return {payment.bank.name for order in orders for payment in order.payments if payment.kind == "card"}


@quiet
def by_a_proxy(session):
    products = session.scalars(select(Product).options(selectinload(Product.stocks).joinedload(Stock.warehouse)))
    return [list(product.warehouse_names) for product in products]


@quiet
def only_whether_there_are_any(session):
    orders = session.scalars(select(Order).options(selectinload(Order.shipments), joinedload(Order.payments)))
    return [bool(order.shipments) and len(order.payments) > 1 for order in orders.unique()]


@quiet
def read_in_threads(session):
    orders = session.scalars(select(Order).options(selectinload(Order.customer))).all()
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda order: order.customer.name, orders))


@quiet
def jobs_of_which_some_write(session):
    engine = session.get_bind()
    for id_ in range(1, 7):
        with Session(engine) as own, own.begin():
            order = own.get_one(Order, id_)
            if order.status != "paid":
                order.status = "paid"
