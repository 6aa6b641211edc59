"""Programs of both kinds, thought of after the rules were written."""

from __future__ import annotations

from sqlalchemy import bindparam, create_engine, func, insert, lambda_stmt, or_, select, text, tuple_, update
from sqlalchemy.orm import (
    aliased,
    contains_eager,
    immediateload,
    joinedload,
    lazyload,
    raiseload,
    scoped_session,
    selectin_polymorphic,
    selectinload,
    sessionmaker,
    with_loader_criteria,
    with_parent,
    with_polymorphic,
)

from perfkit.loading import Kind
from tests.loading.cases import Paste, registry
from tests.loading.models import (
    Bin,
    Customer,
    Dock,
    Driver,
    Employee,
    Job,
    Manager,
    Setting,
    Team,
)

CASES, finds, quiet = registry()
LAZY, FETCH, REPEATED, COUNT = Kind.LAZY_LOAD, Kind.LOOPED_FETCH, Kind.REPEATED, Kind.COUNT_IN_LOOP
UNUSED, COLUMN = Kind.UNUSED_EAGER, Kind.COLUMN_LOAD
IDS = [2, 4, 6]
bins = Bin.__table__
BUYER = aliased(Customer)


@finds(LAZY, "Customer.organization")
def inserted_and_returned(session, fix):
    values = [{"id": 5000 + n, "name": "x", "organization_id": n} for n in (1, 2, 3)]
    found = [c.organization.name for c in session.scalars(fix(insert(Customer).returning(Customer)), values)]
    session.rollback()
    return found


@finds(LAZY, "Bin.customer")
def an_alias(session, fix):
    other = aliased(Bin)
    return [one.customer.name for one in session.scalars(fix(select(other), other=other))]


@finds(LAZY, "Bin.customer")
def one_of_two_aliases(session, fix):
    other, another = aliased(Bin), aliased(Bin)
    statement = select(another).join(other, other.id == another.id)
    return [one.customer.name for one in session.scalars(fix(statement, another=another))]


@finds(LAZY, "Customer.bins")
def an_alias_of_the_module(session, fix):
    return [len(one.bins) for one in session.scalars(fix(select(BUYER), BUYER=BUYER))]


@finds(LAZY, "Bin.customer")
def an_alias_that_has_no_name(session, fix):
    statement = select(aliased(Bin))
    (described,) = statement.column_descriptions
    return [one.customer.name for one in session.scalars(fix(statement, alias=described["entity"]))]


@finds(COLUMN, "Bin.note")
def a_deferred_column_of_an_alias(session, fix):
    other = aliased(Bin)
    return [one.note for one in session.scalars(fix(select(other), other=other))]


@finds(UNUSED, "Bin.customer", Paste.INSTEAD)
def an_unused_join_to_an_alias(session, fix):
    other = aliased(Bin)
    return [one.name for one in session.scalars(fix(select(other).options(joinedload(other.customer)), other=other))]


@finds(LAZY, "Bin.customer.organization", Paste.INSTEAD)
def loaded_lazily_at_the_end_of_a_path(session, fix):
    statement = select(Bin).options(selectinload(Bin.customer).lazyload(Customer.organization))
    return [one.customer.organization.name for one in session.scalars(fix(statement)) if one.customer]


@finds(COLUMN, "Bin.customer.name", Paste.INSTEAD)
def a_column_left_out_at_the_end_of_a_path(session, fix):
    statement = select(Bin).options(joinedload(Bin.customer).defer(Customer.name))
    return [one.customer.name for one in session.scalars(fix(statement)) if one.customer]


@finds(LAZY, "Bin.customer")
def entities_from_text(session, fix):
    statement = select(Bin).from_statement(text("SELECT id, name, customer_id FROM bins ORDER BY id"))
    return [one.customer.name for one in session.scalars(fix(statement))]


@finds(LAZY, "Bin.customer")
def loaded_lazily_on_purpose(session, fix):
    return [one.customer.name for one in session.scalars(fix(select(Bin).options(lazyload(Bin.customer))))]


@finds(LAZY, "Bin.customer", Paste.INSTEAD)
def loaded_at_once_and_one_by_one(session, fix):
    return [one.customer.name for one in session.scalars(fix(select(Bin).options(immediateload(Bin.customer))))]


@finds(UNUSED, "Customer.bins.routes", Paste.INSTEAD)
def an_unused_join_at_the_end_of_a_path(session, fix):
    statement = select(Customer).options(selectinload(Customer.bins).joinedload(Bin.routes))
    return [len(customer.bins) for customer in session.scalars(fix(statement))]


@quiet
def a_used_join_at_the_end_of_a_path(session, fix):
    statement = select(Customer).options(selectinload(Customer.bins).joinedload(Bin.routes))
    return [len(one.routes) for customer in session.scalars(statement) for one in customer.bins]


@quiet
def subclasses_a_page_at_a_time(session, fix):
    statement = select(Employee).options(selectin_polymorphic(Employee, [Manager])).order_by(Employee.name)
    pages = [session.scalars(statement.limit(4).offset(at)).all() for at in (0, 4, 8)]
    return [getattr(one, "budget", 0) for page in pages for one in page]


@quiet
def what_subclasses_have(session, fix):
    statement = select(Employee).options(selectin_polymorphic(Employee, [Manager]), selectinload(Manager.car))
    return [one.car.plate for one in session.scalars(statement) if isinstance(one, Manager)]


@quiet
def what_subclasses_have_along_a_path(session, fix):
    further = (selectin_polymorphic(Employee, [Manager]), selectinload(Manager.car))
    teams = session.scalars(select(Team).options(selectinload(Team.members).options(*further)))
    return [one.car.plate for team in teams for one in team.members if isinstance(one, Manager)]


@finds(LAZY, "Customer.bins")
def adding_to_each_collection(session, fix):
    for customer in session.scalars(fix(select(Customer))).all():
        customer.bins.append(Bin(id=6000 + customer.id, name="x"))
    session.rollback()


@finds(FETCH, "Bin", Paste.COMPILES)
def the_latest_of_each(session, fix):
    statement = select(Bin).order_by(Bin.id.desc()).limit(1)
    return [session.scalars(statement.where(Bin.customer_id == number)).first() for number in IDS]


@finds(LAZY, "Bin.customer.organization")
def lazy_behind_lazy_on_purpose(session, fix):
    statement = select(Bin).options(selectinload(Bin.customer).load_only(Customer.organization_id))
    return [one.customer.organization.name for one in session.scalars(fix(statement))]


@finds(LAZY, "Bin.customer")
def with_criteria(session, fix):
    statement = select(Bin).options(with_loader_criteria(Bin, Bin.id > 2))
    return [one.customer.name for one in session.scalars(fix(statement))]


@finds(LAZY, "Bin.customer")
def in_a_scoped_session(session, fix):
    scope = scoped_session(sessionmaker(session.get_bind()))
    found = [one.customer.name for one in scope.scalars(fix(select(Bin)))]
    scope.remove()
    return found


@finds(LAZY, "Bin.customer")
def populated_anew(session, fix):
    session.scalars(select(Bin)).all()
    statement = fix(select(Bin)).execution_options(populate_existing=True)
    return [one.customer.name for one in session.scalars(statement)]


@finds(LAZY, "Customer.bins")
def two_requests_for_two_lists(session, fix):
    def handler(organization):
        statement = fix(select(Customer).where(Customer.organization_id == organization))
        return [len(customer.bins) for customer in session.scalars(statement)]

    return handler(1), handler(2)


@finds(LAZY, "Manager.car", Paste.COMPILES)
def with_polymorphic_entities(session, fix):
    everyone = with_polymorphic(Employee, [Manager])
    return [each.car.plate for each in session.scalars(select(everyone)) if isinstance(each, Manager)]


@finds(LAZY, "Bin.customer")
def a_subquery_of_keys(session, fix):
    keys = select(Bin.id).where(Bin.id > 4).scalar_subquery()
    return [one.customer.name for one in session.scalars(fix(select(Bin).where(Bin.id.in_(keys))))]


@finds(LAZY, "Bin.customer")
def a_partition_at_a_time(session, fix):
    for part in session.scalars(fix(select(Bin))).partitions(5):
        [one.customer.name for one in part]


@finds(LAZY, "Customer.profile")
def one_to_one_that_may_be_missing(session, fix):
    return [bool(customer.profile) for customer in session.scalars(fix(select(Customer)))]


@finds(LAZY, "Customer.bins")
def bool_of_a_collection(session, fix):
    return [customer for customer in session.scalars(fix(select(Customer))).all() if customer.bins]


@finds(LAZY, "Team.members")
def a_collection_of_a_base_class(session, fix):
    return [sum(isinstance(m, Driver) for m in team.members) for team in session.scalars(fix(select(Team)))]


@finds(FETCH, "Customer", Paste.STATEMENT)
def executed_with_parameters(session, fix):
    statement = select(Customer).where(Customer.id == bindparam("number"))
    return IDS, [session.execute(statement, {"number": number}).scalar_one().id for number in IDS]


@finds(REPEATED, "Bin", Paste.STATEMENT)
def a_lambda_statement(session, fix):
    found = []
    for number in IDS:
        statement = lambda_stmt(lambda: select(Bin).where(Bin.customer_id == number))  # noqa: B023 - at once
        found += [one.id for one in session.scalars(statement)]
    return IDS, found


@finds(REPEATED, "Bin", Paste.STATEMENT)
def by_the_parent_itself(session, fix):
    held = session.scalars(select(Customer).where(Customer.id.in_(IDS))).all()
    return IDS, [one.id for customer in held for one in session.scalars(select(Bin).where(Bin.customer == customer))]


@finds(REPEATED, "Bin", Paste.STATEMENT)
def with_the_parent(session, fix):
    held = session.scalars(select(Customer).where(Customer.id.in_(IDS))).all()
    found = [session.scalars(select(Bin).where(with_parent(customer, Customer.bins))).all() for customer in held]
    return IDS, [one.id for several in found for one in several]


@finds(REPEATED, "Bin", Paste.COMPILES)
def through_a_join(session, fix):
    statement = select(Bin).join(Bin.customer)
    return [session.scalars(statement.where(Customer.organization_id == number)).all() for number in (1, 2, 3)]


@finds(COUNT, "Bin", Paste.COMPILES)
def counting_through_a_join(session, fix):
    statement = select(func.count(Bin.id)).join(Bin.customer)
    return [session.scalar(statement.where(Customer.organization_id == number)) for number in (1, 2, 3)]


@finds(FETCH, "Customer", Paste.STATEMENT)
def the_legacy_scalar(session, fix):
    return IDS, [session.query(Customer.name).filter(Customer.id == number).scalar() for number in IDS]


@finds(REPEATED, "bins", Paste.STATEMENT)
def a_connection_for_each(session, fix):
    engine, found = session.get_bind(), []
    for number in IDS:
        with engine.connect() as connection:
            found += connection.scalars(select(bins.c.id).where(bins.c.customer_id == number)).all()
    return IDS, found


@finds(REPEATED, "Dock", Paste.COMPILES)
def by_two_columns(session, fix):
    return [session.scalars(select(Dock).where(Dock.city == "Turku", Dock.number == n)).all() for n in (1, 2, 3)]


@finds(FETCH, "Setting", Paste.STATEMENT)
def get_or_create(session, fix):
    keys = ["currency", "colour", "size"]
    for key in keys:
        if session.scalars(select(Setting).where(Setting.key == key)).first() is None:
            session.add(Setting(key=key, value="new"))
            session.flush()
    session.rollback()
    return keys, []


@finds(LAZY, "Bin.customer")
def loaded_by_one_function_and_rendered_by_recursion(session, fix):
    def render(ahead):
        return "" if not ahead else ahead[0].customer.name + render(ahead[1:])

    return render(session.scalars(fix(select(Bin))).all())


@finds(Kind.COLUMN_LOAD, "Bin.note")
def a_column_by_getattr(session, fix):
    return [[getattr(one, name) for name in ("name", "note")] for one in session.scalars(fix(select(Bin)))]


@finds(Kind.COLUMN_LOAD, "Bin.customer.name")
def columns_left_out_behind_a_relation(session, fix):
    statement = select(Bin).options(joinedload(Bin.customer).load_only(Customer.id))
    return [one.customer.name for one in session.scalars(fix(statement))]


@quiet
def two_levels_of_selectin(session, fix):
    statement = select(Customer).options(selectinload(Customer.bins).selectinload(Bin.routes))
    return [len(one.routes) for customer in session.scalars(statement) for one in customer.bins]


@quiet
def selectin_behind_joined(session, fix):
    statement = select(Bin).options(joinedload(Bin.customer).selectinload(Customer.contracts))
    return [len(one.customer.contracts) for one in session.scalars(statement)]


@quiet
def selectin_of_a_subclass(session, fix):
    statement = select(Team).options(selectinload(Team.members.of_type(Manager)).selectinload(Manager.car))
    return [m.car for team in session.scalars(statement) for m in team.members if isinstance(m, Manager)]


@quiet
def an_eager_load_read_by_its_dictionary(session, fix):
    return [{**vars(each)} for each in session.scalars(select(Customer).options(selectinload(Customer.bins)))]


@quiet
def contains_eager_as_a_filter(session, fix):
    statement = select(Customer).join(Customer.bins).where(Bin.id > 3).options(contains_eager(Customer.bins))
    return [customer.name for customer in session.scalars(statement).unique()]


@quiet
def three_databases(session, fix):
    engines = [create_engine("sqlite://") for _ in range(3)]
    for engine in engines:
        Job.__table__.create(engine)
        with engine.connect() as connection:
            connection.execute(select(func.count()).select_from(Job.__table__)).all()
        engine.dispose()


@quiet
def the_time(session, fix):
    return [session.scalar(select(func.current_timestamp())) for _ in range(4)]


@quiet
def health_checks(session, fix):
    return [session.scalar(text("SELECT 1")) for _ in range(4)]


@quiet
def updates_that_fetch(session, fix):
    held = session.scalars(select(Job)).all()
    for number in IDS:
        statement = update(Job).where(Job.id == number).values(status="x")
        session.execute(statement, execution_options={"synchronize_session": "fetch"})
    session.rollback()
    return held


@quiet
def pages_by_two_columns(session, fix):
    last, found = ("", 0), []
    statement = select(Bin).order_by(Bin.name, Bin.id).limit(5)
    while rows := session.scalars(statement.where(tuple_(Bin.name, Bin.id) > last)).all():
        found += rows
        last = (rows[-1].name, rows[-1].id)
    return found


@quiet
def pages_by_either_column(session, fix):
    name, number, found = "", 0, []
    while rows := session.scalars(
        select(Bin)
        .where(or_(Bin.name > name, (Bin.name == name) & (Bin.id > number)))
        .order_by(Bin.name, Bin.id)
        .limit(5)
    ).all():
        found += rows
        name, number = rows[-1].name, rows[-1].id
    return found


@quiet
def chunks_of_pairs(session, fix):
    pairs = [("Turku", n) for n in range(1, 5)]
    chunks = [pairs[:2], pairs[2:]]
    return [session.scalars(select(Dock).where(tuple_(Dock.city, Dock.number).in_(chunk))).all() for chunk in chunks]


@quiet
def raised_instead_of_loaded(session, fix):
    return [one.name for one in session.scalars(select(Bin).options(raiseload("*")))]


@quiet
def a_loop_that_ends_at_once(session, fix):
    for number in IDS:
        if session.get(Customer, number) is not None:
            break


@quiet
def the_first_match_of_a_list(session, fix):
    return next(one for one in session.scalars(select(Bin)).all() if one.customer.name == "c1")


@quiet
def subclasses_loaded_with_their_columns(session, fix):
    statement = select(Employee).options(selectin_polymorphic(Employee, [Manager]))
    return [each.budget for each in session.scalars(statement) if isinstance(each, Manager)]


@quiet
def a_collection_and_back(session, fix):
    customers = session.scalars(select(Customer).options(selectinload(Customer.bins))).all()
    return [one.customer.name for customer in customers for one in customer.bins]


@quiet
def joined_with_a_limit(session, fix):
    statement = select(Customer).options(joinedload(Customer.bins)).limit(3)
    return [len(customer.bins) for customer in session.scalars(statement).unique()]


@quiet
def one_object_again_and_again(session, fix):
    customer = session.get(Customer, 1)
    for _ in range(4):
        session.expire(customer)
        customer.name


@quiet
def two_paths_of_one_object(session, fix):
    customer = session.get(Customer, 1)
    return customer.organization, customer.bins, customer.contracts, customer.profile


@quiet
def a_write_for_each_with_returning(session, fix):
    for number in IDS:
        session.execute(update(Job).where(Job.id == number).values(status="x").returning(Job.id)).all()
    session.rollback()


@quiet
def rows_not_entities(session, fix):
    return [row.name for row in session.execute(select(Bin.name, Customer.name).join(Bin.customer))]


@quiet
def a_list_per_kind(session, fix):
    return {
        kind: session.scalars(select(Employee).where(Employee.kind != kind)).all() for kind in ("manager", "x", "y")
    }
