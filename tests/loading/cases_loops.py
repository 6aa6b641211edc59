"""Programs that run a statement again and again: fetched, counted or asked one by one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from sqlalchemy import exists, func, select, text
from sqlalchemy.orm import Session, selectinload

from perfkit.loading import Kind
from tests.loading.cases import Paste, registry
from tests.loading.models import Alarm, Bin, Contract, Customer, Depot, Node, Reading, Setting

CASES, finds, quiet = registry()
FETCH, REPEATED, COUNT, TWICE = Kind.LOOPED_FETCH, Kind.REPEATED, Kind.COUNT_IN_LOOP, Kind.DUPLICATE
IDS = [2, 4, 6]
bins, customers, contracts = Bin.__table__, Customer.__table__, Contract.__table__


@finds(FETCH, "Customer", Paste.STATEMENT)
def get_in_a_loop(session, fix):
    return IDS, [session.get(Customer, number).id for number in IDS]


@finds(FETCH, "Customer", Paste.STATEMENT)
def get_one_in_a_comprehension(session, fix):
    return IDS, {number: session.get_one(Customer, number) for number in IDS}.keys()


@finds(FETCH, "Customer", Paste.STATEMENT)
def a_get_in_a_helper_in_a_loop(session, fix):
    def name_of(number):
        return session.get(Customer, number).name

    return IDS, [int(name_of(number)[1:]) for number in IDS]


@finds(FETCH, "Customer", Paste.STATEMENT)
def scalar_by_key(session, fix):
    return IDS, [session.scalar(select(Customer).where(Customer.id == number)).id for number in IDS]


@finds(FETCH, "Customer", Paste.STATEMENT)
def a_column_by_key(session, fix):
    return IDS, [session.scalar(select(Customer.name).where(Customer.id == number)) for number in IDS]


@finds(FETCH, "Customer", Paste.STATEMENT)
def scalars_one(session, fix):
    return IDS, [session.scalars(select(Customer).where(Customer.id == number)).one().id for number in IDS]


@finds(FETCH, "Customer", Paste.STATEMENT)
def by_a_name(session, fix):
    names = ["c1", "c2", "c3"]
    return names, [session.execute(select(Customer).where(Customer.name == name)).scalar_one().id for name in names]


@finds(FETCH, "Alarm", Paste.STATEMENT)
def the_first_by_foreign_key(session, fix):
    return IDS, [session.scalars(select(Alarm).where(Alarm.bin_id == number)).first().id for number in IDS]


@finds(FETCH, "Alarm", Paste.STATEMENT)
def one_or_none_by_foreign_key(session, fix):
    found = []
    for number in IDS:
        result = session.execute(select(Alarm).where(Alarm.bin_id == number))
        alarm = result.scalar_one_or_none()
        found.append(alarm.id)
    return IDS, found


@finds(FETCH, "Customer", Paste.STATEMENT)
def the_legacy_get(session, fix):
    return IDS, [session.query(Customer).filter(Customer.id == number).one().id for number in IDS]


@finds(FETCH, "Customer", Paste.STATEMENT)
def the_legacy_first(session, fix):
    return IDS, [session.query(Customer).filter_by(id=number).first().id for number in IDS]


@finds(FETCH, "Customer", Paste.STATEMENT)
def merging_each(session, fix):
    return IDS, [session.merge(Customer(id=number, name=f"c{number}")).id for number in IDS]


@finds(FETCH, "Depot", Paste.COMPILES)
def get_by_two_columns(session, fix):
    return [len(session.get(Depot, ("Turku", number)).gates) for number in (1, 2, 3)]


@finds(FETCH, "Customer", Paste.STATEMENT)
def a_fetch_for_each_row(session, fix):
    found = [session.get(Customer, one.customer_id) for one in session.scalars(select(Bin))]
    return range(1, 7), [customer.id for customer in found]


@finds(FETCH, "Customer", Paste.STATEMENT)
def a_while_loop(session, fix):
    ahead = [*IDS]
    found = []
    while ahead:
        number = ahead.pop()
        found.append(session.get(Customer, number).id)
    return IDS, found


@finds(FETCH, "Customer", Paste.STATEMENT)
def changing_each(session, fix):
    for number in IDS:
        session.get(Customer, number).name = "changed"
    session.rollback()
    return IDS, IDS


@finds(FETCH, "Customer", Paste.STATEMENT)
def get_with_an_eager_option(session, fix):
    options = [selectinload(Customer.bins)]
    return IDS, [session.get(Customer, number, options=options).bins and number for number in IDS]


@finds(Kind.LAZY_LOAD, "Customer.organization", Paste.STATEMENT)
def lazy_loads_of_objects_got_in_a_loop(session, fix):
    return IDS, [session.get(Customer, number).organization and number for number in IDS]


@finds(FETCH, "Customer", Paste.STATEMENT)
def in_threads_that_carry_the_context(session, fix):
    engine = session.get_bind().execution_options()

    def name_of(number):
        with Session(engine) as own:
            return own.get(Customer, number).id

    with ThreadPoolExecutor(1) as pool:
        return IDS, [pool.submit(copy_context().run, name_of, number).result() for number in IDS]


@finds(REPEATED, "Bin", Paste.STATEMENT)
def where_foreign_key(session, fix):
    found = [session.scalars(select(Bin).where(Bin.customer_id == number)).all() for number in IDS]
    return IDS, [one.id for several in found for one in several]


@finds(REPEATED, "Bin", Paste.STATEMENT)
def the_legacy_filter(session, fix):
    found = [session.query(Bin).filter(Bin.customer_id == number).all() for number in IDS]
    return IDS, [one.id for several in found for one in several]


@finds(REPEATED, "Bin", Paste.STATEMENT)
def a_constant_range_beside_it(session, fix):
    found = [session.scalars(select(Bin).where(Bin.customer_id == n, Bin.id > 0)).all() for n in IDS]
    return IDS, [one.id for several in found for one in several]


@finds(REPEATED, "Bin", Paste.STATEMENT)
def a_short_list_for_each_parent(session, fix):
    wanted = [[1, 2, 3], [3, 5], [7]]
    found = [session.scalars(select(Bin).where(Bin.id.in_(several))).all() for several in wanted]
    return [1, 2, 3, 5, 7], [one.id for several in found for one in several]


@finds(REPEATED, "Reading", Paste.STATEMENT)
def a_write_only_collection(session, fix):
    held = session.scalars(select(Bin).where(Bin.id.in_(IDS))).all()
    found = [session.scalars(one.readings.select()).all() for one in held]
    return IDS, [reading.id for several in found for reading in several]


@finds(REPEATED, "Alarm", Paste.STATEMENT)
def a_dynamic_collection(session, fix):
    held = session.scalars(select(Bin).where(Bin.id.in_(IDS))).all()
    return IDS, [alarm.id for one in held for alarm in one.alarms.all()]


@finds(REPEATED, "bins", Paste.STATEMENT)
def core_in_a_session(session, fix):
    return IDS, [row.id for n in IDS for row in session.execute(select(bins).where(bins.c.customer_id == n))]


@finds(REPEATED, "bins", Paste.STATEMENT)
def core_on_a_connection(session, fix):
    with session.get_bind().connect() as connection:
        return IDS, [row.id for n in IDS for row in connection.execute(select(bins).where(bins.c.customer_id == n))]


@finds(REPEATED, "customers", Paste.STATEMENT)
def a_core_column(session, fix):
    with session.get_bind().connect() as connection:
        found = [connection.scalar(select(customers.c.name).where(customers.c.id == number)) for number in IDS]
    return IDS, found


@finds(REPEATED, "bins", Paste.STATEMENT)
def text_with_a_bind(session, fix):
    statement = text("SELECT id FROM bins WHERE customer_id = :customer")
    return IDS, [row.id for n in IDS for row in session.execute(statement, {"customer": n})]


@finds(REPEATED, "bins", Paste.STATEMENT)
def text_with_literals(session, fix):
    return IDS, [row.id for n in IDS for row in session.execute(text(f"SELECT id FROM bins WHERE customer_id = {n}"))]


@finds(REPEATED, "customers", Paste.STATEMENT)
def text_with_words(session, fix):
    names = ["c1", "c2", "c3"]
    found = [session.scalar(text(f"SELECT id FROM customers WHERE name = '{name}'")) for name in names]
    return names, found


@finds(REPEATED, "bins", Paste.STATEMENT)
def sql_for_the_driver(session, fix):
    with session.get_bind().connect() as connection:
        found = [
            row.id for n in IDS for row in connection.exec_driver_sql("SELECT id FROM bins WHERE customer_id = ?", (n,))
        ]
    return IDS, found


@finds(REPEATED, "Alarm", Paste.COMPILES)
def exists_in_a_loop(session, fix):
    return [session.scalar(select(exists().where(Alarm.bin_id == number))) for number in IDS]


@finds(COUNT, "Bin", Paste.STATEMENT)
def counting_each(session, fix):
    statement = select(func.count()).select_from(Bin)
    return IDS, [session.scalar(statement.where(Bin.customer_id == number)) for number in IDS]


@finds(COUNT, "Bin", Paste.STATEMENT)
def counting_a_column_of_each(session, fix):
    found = [session.execute(select(func.count(Bin.id)).where(Bin.customer_id == n)).scalar_one() for n in IDS]
    return IDS, found


@finds(COUNT, "Bin", Paste.STATEMENT)
def the_legacy_count(session, fix):
    return IDS, [session.query(Bin).filter(Bin.customer_id == number).count() for number in IDS]


@finds(COUNT, "Reading", Paste.STATEMENT)
def the_sum_of_each(session, fix):
    return IDS, [session.scalar(select(func.sum(Reading.value)).where(Reading.bin_id == number)) for number in IDS]


@finds(COUNT, "Reading", Paste.STATEMENT)
def a_count_in_a_property(session, fix):
    held = session.scalars(select(Bin).where(Bin.id.in_(IDS))).all()
    return IDS, [one.readings_count for one in held]


@finds(COUNT, "Alarm", Paste.STATEMENT)
def counting_a_dynamic_collection(session, fix):
    return IDS, [one.alarms.count() for one in session.scalars(select(Bin).where(Bin.id.in_(IDS)))]


@finds(COUNT, "bins", Paste.STATEMENT)
def counting_by_text(session, fix):
    statement = text("SELECT count(*) FROM bins WHERE customer_id = :customer")
    return IDS, [session.scalar(statement, {"customer": number}) for number in IDS]


@finds(COUNT, "bins", Paste.STATEMENT)
def counting_by_core(session, fix):
    statement = select(func.count()).select_from(bins)
    with session.get_bind().connect() as connection:
        return IDS, [connection.scalar(statement.where(bins.c.customer_id == number)) for number in IDS]


@finds(TWICE, "Setting", Paste.DECORATOR)
def a_setting_in_a_loop(session, fix):
    def currency():
        return session.scalar(select(Setting.value).where(Setting.key == "currency"))

    return [f"{number} {currency()}" for number in IDS]


@finds(TWICE, "settings", Paste.DECORATOR)
def a_setting_by_text_in_a_loop(session, fix):
    return [session.scalar(text("SELECT value FROM settings WHERE key = 'currency'")) for _ in IDS]


@finds(TWICE, "Bin", Paste.DECORATOR)
def a_whole_list_in_a_loop(session, fix):
    return [len(session.scalars(select(Bin)).all()) for _ in IDS]


@finds(REPEATED, "Node", Paste.STATEMENT)
def levels_of_a_tree_one_parent_at_a_time(session, fix):
    level = [2, 3, 4]
    return level, [n.id for parent in level for n in session.scalars(select(Node).where(Node.parent_id == parent))]
