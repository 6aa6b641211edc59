"""Programs that are as they should be, or that cannot be otherwise."""

from __future__ import annotations

import itertools
import threading
import time

from sqlalchemy import event, exc, func, insert, inspect, select, text, update
from sqlalchemy.orm import Session, joinedload, selectinload

from tests.loading.cases import registry
from tests.loading.models import (
    Bin,
    Customer,
    Job,
    Node,
    Organization,
    Route,
    Setting,
)

CASES, finds, quiet = registry()
IDS = [2, 4, 6]
bins = Bin.__table__


@quiet
def one_object(session, fix):
    return session.get(Bin, 1).customer.organization.name


@quiet
def the_first_of_a_list(session, fix):
    return session.scalars(select(Bin)).all()[0].customer.name


@quiet
def one_collection_of_one_object(session, fix):
    return [one.name for one in session.get(Customer, 1).bins]


@quiet
def loaded_with_selectin(session, fix):
    return [len(customer.bins) for customer in session.scalars(select(Customer).options(selectinload(Customer.bins)))]


@quiet
def loaded_with_joined(session, fix):
    return [one.customer.name for one in session.scalars(select(Bin).options(joinedload(Bin.customer)))]


@quiet
def selectin_in_several_chunks(session, fix):
    session.execute(insert(Customer), [{"id": n, "name": "x"} for n in range(1000, 2200)])
    statement = select(Customer).where(Customer.id >= 1000).options(selectinload(Customer.bins))
    found = sum(len(customer.bins) for customer in session.scalars(statement)), session.scalars(statement).first()
    session.rollback()
    return found


@quiet
def held_by_the_session(session, fix):
    customers = session.scalars(select(Customer)).all()
    return [one.customer.name for one in session.scalars(select(Bin))], customers


@quiet
def a_null_foreign_key(session, fix):
    session.execute(insert(Customer), [{"id": n, "name": "x"} for n in range(3000, 3003)])
    found = [c.organization for c in session.scalars(select(Customer).where(Customer.id >= 3000))]
    session.rollback()
    return found


@quiet
def one_customer_of_all(session, fix):
    return [one.customer.name for one in session.scalars(select(Bin).where(Bin.customer_id == 1))]


@quiet
def two_lists_with_one_load_each(session, fix):
    first = session.scalars(select(Bin).where(Bin.id < 3)).all()
    second = session.scalars(select(Bin).where(Bin.id > 10)).all()
    return first[0].customer.name, second[0].customer.name


@quiet
def two_objects_got_at_two_lines(session, fix):
    one = session.get(Customer, 1)
    other = session.get(Customer, 5)
    return one.name, other.name


def _by_number(session, number):
    return session.scalars(select(Customer).where(Customer.id == number)).one()


@quiet
def one_helper_at_two_lines(session, fix):
    buyer = _by_number(session, 1)
    seller = _by_number(session, 2)
    payer = _by_number(session, 3)
    return buyer.name, seller.name, payer.name


@quiet
def one_lazy_helper_at_two_lines(session, fix):
    def organization(customer):
        return customer.organization.name

    one = session.get(Customer, 1)
    other = session.get(Customer, 5)
    return organization(one), organization(other)


@quiet
def pages_by_offset(session, fix):
    found, page = [], 0
    while rows := session.scalars(select(Bin).order_by(Bin.id).limit(5).offset(page * 5)).all():
        found += [one.name for one in rows]
        page += 1
    return found


@quiet
def pages_by_position(session, fix):
    found, last = [], 0
    while rows := session.scalars(select(Bin).where(Bin.id > last).order_by(Bin.id).limit(5)).all():
        found += [one.name for one in rows]
        last = rows[-1].id
    return found


@quiet
def pages_of_one_customer(session, fix):
    return [session.scalars(select(Bin).where(Bin.customer_id == 1).limit(1).offset(n)).all() for n in range(3)]


@quiet
def pages_by_text(session, fix):
    return [session.execute(text(f"SELECT id FROM bins ORDER BY id LIMIT 5 OFFSET {n}")).all() for n in (0, 5, 10)]


@quiet
def pages_by_text_and_binds(session, fix):
    statement = text("SELECT id FROM bins WHERE id > :after ORDER BY id LIMIT 5")
    return [session.execute(statement, {"after": n}).all() for n in (0, 5, 10)]


@quiet
def pages_for_the_driver(session, fix):
    connection = session.connection()
    return [connection.exec_driver_sql("SELECT id FROM bins LIMIT ? OFFSET ?", (5, n)).all() for n in (0, 5, 10)]


@quiet
def windows_of_numbers(session, fix):
    return [session.scalars(select(Bin).where(Bin.id.between(n, n + 3))).all() for n in (1, 5, 9)]


@quiet
def windows_of_numbers_by_text(session, fix):
    return [session.execute(text(f"SELECT id FROM bins WHERE id BETWEEN {n} AND {n + 3}")).all() for n in (1, 5, 9)]


@quiet
def searching_by_pattern(session, fix):
    return [session.scalars(select(Bin).where(Bin.name.like(f"{word}%"))).all() for word in ("a", "b", "c")]


@quiet
def a_list_in_chunks(session, fix):
    numbers = list(range(1, 13))
    chunks = [numbers[n : n + 5] for n in range(0, 12, 5)]
    return [session.scalars(select(Bin).where(Bin.id.in_(chunk))).all() for chunk in chunks]


@quiet
def a_list_in_large_chunks(session, fix):
    numbers = list(range(1, 90))
    return [session.scalars(select(Bin).where(Bin.id.in_(numbers[n : n + 30]))).all() for n in (0, 30, 60)]


@quiet
def a_list_in_chunks_by_core(session, fix):
    chunks = [[1, 2, 3], [4, 5, 6], [7]]
    return [session.connection().execute(select(bins.c.name).where(bins.c.id.in_(chunk))).all() for chunk in chunks]


@quiet
def a_list_in_chunks_by_text(session, fix):
    chunks = ["1, 2, 3", "4, 5, 6", "7, 8"]
    return [session.execute(text(f"SELECT name FROM bins WHERE id IN ({chunk})")).all() for chunk in chunks]


@quiet
def up_a_chain(session, fix):
    node = session.get(Node, 105)
    while node is not None:
        name, node = node.name, node.parent
    return name


@quiet
def up_a_chain_in_one_line(session, fix):
    return session.get(Node, 105).parent.parent.parent.parent.name


@quiet
def up_a_chain_by_recursion(session, fix):
    def depth(node):
        return 0 if node.parent is None else 1 + depth(node.parent)

    return depth(session.get(Node, 105))


@quiet
def down_a_chain(session, fix):
    node, names = session.get(Node, 100), []
    while node.children:
        node = node.children[0]
        names.append(node.name)
    return names


@quiet
def up_a_chain_by_get(session, fix):
    node = session.get(Node, 105)
    while node.parent_id is not None:
        node = session.get(Node, node.parent_id)
    return node.name


@quiet
def up_a_chain_by_select(session, fix):
    number, names = 105, []
    while number is not None:
        node = session.scalars(select(Node).where(Node.id == number)).one()
        names.append(node.name)
        number = node.parent_id
    return names


@quiet
def up_a_chain_by_a_recursive_get(session, fix):
    def root(number):
        node = session.get(Node, number)
        return node if node.parent_id is None else root(node.parent_id)

    return root(105).name


@quiet
def up_a_chain_by_core(session, fix):
    nodes, number = Node.__table__, 105
    while number is not None:
        number = session.connection().scalar(select(nodes.c.parent_id).where(nodes.c.id == number))


@quiet
def up_a_chain_by_text(session, fix):
    number = 105
    while number is not None:
        number = session.scalar(text("SELECT parent_id FROM nodes WHERE id = :id"), {"id": number})


@quiet
def locked_one_by_one(session, fix):
    for number in IDS:
        session.scalars(select(Job).where(Job.id == number).with_for_update()).one()


@quiet
def got_with_a_lock(session, fix):
    return [session.get(Job, number, with_for_update=True) for number in IDS]


@quiet
def the_catalog(session, fix):
    return [inspect(session.get_bind()).get_columns(table) for table in ("bins", "customers", "routes")]


@quiet
def the_catalog_by_hand(session, fix):
    statement = text("SELECT sql FROM sqlite_master WHERE name = :name")
    return [session.scalar(statement, {"name": name}) for name in ("bins", "customers", "routes")]


@quiet
def the_catalog_of_geometries(session, fix):
    for name in ("geometry_columns", "spatial_ref_sys"):
        session.execute(text(f"CREATE TEMPORARY TABLE IF NOT EXISTS {name} (name TEXT)"))
    by_column = text("SELECT * FROM geometry_columns WHERE name = :name")
    by_srid = text("SELECT * FROM spatial_ref_sys WHERE name = :name")
    return [session.execute(each, {"name": name}).all() for each in (by_column, by_srid) for name in "abc"]


@quiet
def pragmas(session, fix):
    return [session.execute(text(f"PRAGMA table_info({name})")).all() for name in ("bins", "customers", "routes")]


@quiet
def adding_many(session, fix):
    for number in range(5):
        session.add(Job(id=500 + number))
        session.flush()
    session.rollback()


@quiet
def adding_many_with_relations(session, fix):
    session.add_all(
        Customer(id=4000 + n, name="new", bins=[Bin(id=4000 + 2 * n, name="x"), Bin(id=4001 + 2 * n, name="y")])
        for n in range(3)
    )
    session.flush()
    session.rollback()


@quiet
def updating_one_by_one(session, fix):
    for number in IDS:
        session.execute(update(Job).where(Job.id == number).values(status="done"))
    session.rollback()


@quiet
def bulk_inserts(session, fix):
    session.execute(insert(Job), [{"id": 600 + n} for n in range(4)])
    session.rollback()


@quiet
def deleting_with_cascades(session, fix):
    for customer in session.scalars(select(Customer).where(Customer.id < 4)).all():
        session.delete(customer)
    session.flush()
    session.rollback()


@quiet
def deleting_one_with_cascades(session, fix):
    session.delete(session.get(Customer, 1))
    session.flush()
    session.rollback()


@quiet
def nullifying_on_delete(session, fix):
    for organization in session.scalars(select(Organization)).all():
        session.delete(organization)
    session.flush()
    session.rollback()


@quiet
def savepoints(session, fix):
    for number in range(3):
        with session.begin_nested():
            session.add(Job(id=700 + number))
    session.query(Job).filter(Job.id >= 700).delete()
    session.commit()


@quiet
def a_hook_at_each_insert(session, fix):
    def look(mapper, connection, job):
        connection.execute(select(Customer.__table__.c.name).where(Customer.__table__.c.id == job.customer_id)).all()

    event.listen(Job, "before_insert", look)
    session.add_all([Job(id=800 + number, customer_id=number) for number in (1, 2, 3)])
    session.flush()
    event.remove(Job, "before_insert", look)
    session.rollback()


@quiet
def a_hook_before_a_flush(session, fix):
    def look(session, context, instances):
        for job in session.new:
            session.scalars(select(Customer.name).where(Customer.id == job.customer_id)).all()

    event.listen(session, "before_flush", look)
    session.add_all([Job(id=800 + number, customer_id=number) for number in (1, 2, 3)])
    session.flush()
    session.rollback()


@quiet
def a_retry(session, fix):
    for attempt in range(4):
        job = session.scalars(select(Job).where(Job.id == 1)).one()
        job.status = f"try {attempt}"
        session.rollback()


@quiet
def a_retry_with_sessions(session, fix):
    for _ in range(4):
        with Session(session.get_bind()) as own:
            own.scalars(select(Job).where(Job.id == 1)).one()
            own.rollback()


@quiet
def polling(session, fix):
    for _ in range(4):
        if session.scalar(select(Job.status).where(Job.id == 1)) == "done":
            break
        time.sleep(0)


@quiet
def asking_again_after_each_write(session, fix):
    for number in range(4):
        session.execute(update(Job).where(Job.id == 1).values(status=str(number)))
        session.scalar(select(func.count()).select_from(Job).where(Job.status == "new"))
    session.rollback()


@quiet
def a_queue(session, fix):
    for _ in range(4):
        job = session.scalars(select(Job).where(Job.status == "new").limit(1)).first()
        job.status = "done"
        session.flush()
    session.rollback()


@quiet
def twice_the_same(session, fix):
    return [session.scalar(select(Setting.value).where(Setting.key == "currency")) for _ in range(2)]


@quiet
def different_statements_in_a_loop(session, fix):
    return [session.scalar(select(func.count()).select_from(model)) for model in (Bin, Customer, Route, Job)]


@quiet
def different_columns_in_a_loop(session, fix):
    return [session.scalars(select(column)).first() for column in (Bin.name, Customer.name, Route.name)]


@quiet
def one_count_for_all(session, fix):
    return session.execute(select(Bin.customer_id, func.count()).group_by(Bin.customer_id)).all()


@quiet
def all_by_a_list(session, fix):
    return {customer.id: customer for customer in session.scalars(select(Customer).where(Customer.id.in_(IDS)))}


@quiet
def held_by_get(session, fix):
    held = session.scalars(select(Customer)).all()
    return [session.get(Customer, number).name for number in IDS], held


@quiet
def a_job_at_a_time_in_sessions_of_their_own(session, fix):
    for number in IDS:
        with Session(session.get_bind()) as own:
            own.get(Job, number).status = "done"
            own.flush()
            own.rollback()


@quiet
def eager_for_the_sake_of_cascades(session, fix):
    statement = select(Customer).options(selectinload(Customer.bins), joinedload(Customer.contracts))
    for customer in session.scalars(statement.where(Customer.id > 4)).unique().all():
        session.delete(customer)
    session.flush()
    session.rollback()


@quiet
def jobs_of_which_one_has_nothing_to_do(session, fix):
    for number in IDS:
        with Session(session.get_bind()) as own:
            job = own.get(Job, number)
            if number != IDS[0]:
                job.status = "done"
            own.flush()
            own.rollback()


@quiet
def a_thread_without_the_context(session, fix):
    engine = session.get_bind().execution_options()

    def work():
        with Session(engine) as own:
            [one.customer.name for one in own.scalars(select(Bin))]

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@quiet
def new_objects_with_relations(session, fix):
    customers = [Customer(id=4100, name="new", organization_id=1)]
    session.add_all(customers)
    session.flush()
    found = [customer.organization.name for customer in customers]
    session.rollback()
    return found


@quiet
def a_statement_that_fails(session, fix):
    for number in range(4):
        with session.begin_nested() as savepoint:
            try:
                session.execute(text("SELECT nothing FROM nowhere WHERE id = :id"), {"id": number})
            except exc.OperationalError:
                savepoint.rollback()


@quiet
def two_sessions(session, fix):
    with Session(session.get_bind()) as one, Session(session.get_bind()) as other:
        first = one.scalars(select(Bin).where(Bin.id == 1)).one()
        second = other.scalars(select(Bin).where(Bin.id == 3)).one()
        return first.customer.name, second.customer.name


@quiet
def adding_to_a_collection_of_one(session, fix):
    customer = session.get(Customer, 1)
    customer.bins.append(Bin(id=4200, name="z"))
    session.flush()
    session.rollback()


@quiet
def setting_a_relation_of_each(session, fix):
    organization = session.get(Organization, 1)
    for customer in session.scalars(select(Customer)).all():
        customer.organization = organization
    session.flush()
    session.rollback()


@quiet
def by_days(session, fix):
    days = list(itertools.pairwise([0, 5, 10, 20]))
    return [session.scalar(select(func.count()).where(Bin.id >= begin, Bin.id < end)) for begin, end in days]


@quiet
def raw_cursors(session, fix):
    cursor = session.connection().connection.cursor()
    for number in IDS:
        cursor.execute("SELECT name FROM bins WHERE id = ?", (number,))
        cursor.fetchall()


@quiet
def collections_that_are_assigned(session, fix):
    """What was there is compared, and would be loaded for each if it were not there."""
    route = session.get(Route, 1)
    for one in session.scalars(select(Bin).options(selectinload(Bin.routes))).all():
        one.routes = [route]
    session.rollback()


@quiet
def a_parent_that_is_assigned_and_one_that_is_deleted(session, fix):
    """As of a foreign key; an attribute that is deleted was asked for, too."""
    other = session.get(Customer, 1)
    for one in session.scalars(select(Bin).options(joinedload(Bin.customer))).all():
        one.customer = other
    session.rollback()
    for customer in session.scalars(select(Customer).options(selectinload(Customer.profile))).all():
        if "profile" in inspect(customer).dict and inspect(customer).dict["profile"] is not None:
            del customer.profile
    session.rollback()
