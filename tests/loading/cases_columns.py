"""Programs whose columns are loaded one object at a time, and programs that load eagerly for nothing or too much."""

from __future__ import annotations

import pickle

from sqlalchemy import select
from sqlalchemy.orm import aliased, defer, joinedload, load_only, selectinload, subqueryload, undefer

from perfkit.loading import Kind
from tests.loading.cases import Paste, registry
from tests.loading.models import Bin, Customer, Depot, Employee, Job, Manager, Organization, Route, Team

CASES, finds, quiet = registry()
COLUMN, UNUSED, CARTESIAN = Kind.COLUMN_LOAD, Kind.UNUSED_EAGER, Kind.CARTESIAN


@finds(COLUMN, "Bin.note")
def a_deferred_column(session, fix):
    return [one.note for one in session.scalars(fix(select(Bin)))]


@finds(COLUMN, "Bin.plan")
def a_group_of_deferred_columns(session, fix):
    return [(one.plan, one.photo) for one in session.scalars(fix(select(Bin)))]


@finds(COLUMN, "Customer.name")
def what_load_only_left_out(session, fix):
    return [each.name for each in session.scalars(fix(select(Customer).options(load_only(Customer.id))))]


@finds(COLUMN, "Customer.name")
def deferred_by_the_query(session, fix):
    return [each.name for each in session.scalars(fix(select(Customer).options(defer(Customer.name))))]


@finds(COLUMN, "Customer.bins.note")
def a_deferred_column_behind_a_collection(session, fix):
    for customer in session.scalars(fix(select(Customer).options(selectinload(Customer.bins)))):
        [one.note for one in customer.bins]


@finds(COLUMN, "Bin.label")
def a_deferred_expression(session, fix):
    return [one.label for one in session.scalars(fix(select(Bin).options(defer(Bin.label))))]


@finds(COLUMN, "Manager.budget")
def columns_of_a_joined_subclass(session, fix):
    return [each.budget for each in session.scalars(fix(select(Employee))) if isinstance(each, Manager)]


@finds(COLUMN, "Team.members.budget")
def columns_of_a_subclass_in_a_collection(session, fix):
    for team in session.scalars(fix(select(Team).options(selectinload(Team.members)))):
        [each.budget for each in team.members if isinstance(each, Manager)]


@finds(COLUMN, "Customer", Paste.SESSION)
def expired_by_a_commit(session, fix):
    customers = session.scalars(select(Customer)).all()
    session.commit()
    return [customer.name for customer in customers]


@finds(COLUMN, "Job", Paste.SESSION)
def a_commit_after_adding(session, fix):
    jobs = [Job(id=100 + number) for number in range(3)]
    session.add_all(jobs)
    session.commit()
    found = [job.status for job in jobs]
    for job in jobs:
        session.delete(job)
    session.commit()
    return found


@finds(COLUMN, "Customer", Paste.RELOAD)
def expired_by_hand(session, fix):
    customers = session.scalars(select(Customer)).all()
    session.expire_all()
    held = fix.reload(session, [1, 2, 3, 4, 5, 6])
    return [customer.name for customer in customers], held


@finds(UNUSED, "Customer.bins", Paste.INSTEAD)
def an_unused_collection(session, fix):
    return [customer.name for customer in session.scalars(fix(select(Customer).options(selectinload(Customer.bins))))]


@finds(UNUSED, "Bin.customer", Paste.INSTEAD)
def an_unused_join(session, fix):
    return [one.name for one in session.scalars(fix(select(Bin).options(joinedload(Bin.customer))))]


@finds(UNUSED, "Customer.bins", Paste.INSTEAD)
def an_unused_joined_collection(session, fix):
    statement = fix(select(Customer).options(joinedload(Customer.bins)))
    return [customer.name for customer in session.scalars(statement).unique()]


@finds(UNUSED, "Customer.bins", Paste.INSTEAD)
def an_unused_subquery(session, fix):
    return [customer.name for customer in session.scalars(fix(select(Customer).options(subqueryload(Customer.bins))))]


@finds(UNUSED, "Depot.gates")
def unused_by_default(session, fix):
    return [depot.city for depot in session.scalars(fix(select(Depot)))]


@finds(UNUSED, "Customer.bins.routes", Paste.INSTEAD)
def an_unused_end_of_a_path(session, fix):
    statement = select(Customer).options(selectinload(Customer.bins).selectinload(Bin.routes))
    return [len(customer.bins) for customer in session.scalars(fix(statement))]


@finds(CARTESIAN, "Customer.bins", Paste.INSTEAD)
def two_joined_collections(session, fix):
    statement = fix(select(Customer).options(joinedload(Customer.bins), joinedload(Customer.contracts)))
    return [(len(customer.bins), len(customer.contracts)) for customer in session.scalars(statement).unique()]


@finds(CARTESIAN, "Customer.bins", Paste.INSTEAD)
def two_collections_joined_to_an_alias(session, fix):
    other = aliased(Customer)
    statement = fix(select(other).options(joinedload(other.bins), joinedload(other.contracts)), other=other)
    return [(len(customer.bins), len(customer.contracts)) for customer in session.scalars(statement).unique()]


@finds(CARTESIAN, "Organization.customers.bins", Paste.INSTEAD)
def two_joined_collections_below_a_third(session, fix):
    statement = select(Organization).options(
        joinedload(Organization.customers).joinedload(Customer.bins),
        joinedload(Organization.customers).joinedload(Customer.contracts),
    )
    for organization in session.scalars(fix(statement)).unique():
        [(len(customer.bins), len(customer.contracts)) for customer in organization.customers]


@quiet
def a_deferred_column_of_one_object(session, fix):
    return session.get(Bin, 1).note


@quiet
def an_undeferred_column(session, fix):
    return [one.note for one in session.scalars(select(Bin).options(undefer(Bin.note)))]


@quiet
def one_object_after_a_commit(session, fix):
    customers = session.scalars(select(Customer)).all()
    session.commit()
    return customers[0].name


@quiet
def refreshing_what_was_added(session, fix):
    for number in range(3):
        job = Job(id=200 + number)
        session.add(job)
        session.commit()
        session.refresh(job)
        job.status
        session.delete(job)
        session.commit()


@quiet
def refreshing_each(session, fix):
    for customer in session.scalars(select(Customer)).all():
        session.refresh(customer)


@quiet
def a_default_of_the_database_of_one_object(session, fix):
    job = Job(id=300)
    session.add(job)
    session.flush()
    job.made
    session.rollback()


@quiet
def an_eager_load_that_is_read_once(session, fix):
    customers = session.scalars(select(Customer).options(selectinload(Customer.bins))).all()
    return len(customers[3].bins)


@quiet
def an_eager_load_of_one_object(session, fix):
    return session.get(Customer, 1, options=[selectinload(Customer.bins), joinedload(Customer.organization)]).name


@quiet
def an_eager_load_that_finds_nothing(session, fix):
    for job in session.scalars(select(Job)).all():
        job.status
    return [n.name for n in session.scalars(select(Route).where(Route.id > 90).options(selectinload(Route.bins)))]


@quiet
def eager_collections_that_are_empty(session, fix):
    session.query(Bin).filter(Bin.customer_id == 1).update({"customer_id": None})
    statement = select(Customer).where(Customer.id.in_([1])).options(selectinload(Customer.bins))
    found = [customer.name for customer in session.scalars(statement)]
    session.rollback()
    return found


@quiet
def an_eager_load_that_is_pickled(session, fix):
    customers = session.scalars(select(Customer).options(selectinload(Customer.bins))).all()
    return pickle.dumps(customers)


@quiet
def an_eager_load_that_is_compared(session, fix):
    first, *others = session.scalars(select(Bin).options(joinedload(Bin.customer))).all()
    return [one for one in others if one.customer == first.customer]


@quiet
def an_eager_load_read_by_name(session, fix):
    return [getattr(one, "customer").name for one in session.scalars(select(Bin).options(joinedload(Bin.customer)))]  # noqa: B009


@quiet
def an_eager_load_read_after_a_refresh(session, fix):
    customers = session.scalars(select(Customer).options(selectinload(Customer.organization))).all()
    session.refresh(customers[0])
    return customers[0].organization


@quiet
def two_small_joined_collections(session, fix):
    statement = (
        select(Customer).where(Customer.id == 1).options(joinedload(Customer.bins), joinedload(Customer.profile))
    )
    return [(len(each.bins), each.profile) for each in session.scalars(statement).unique()]


@quiet
def one_joined_collection(session, fix):
    statement = select(Customer).options(joinedload(Customer.contracts))
    return [len(customer.contracts) for customer in session.scalars(statement).unique()]


@quiet
def joined_collections_in_one_line(session, fix):
    statement = select(Organization).options(joinedload(Organization.customers).joinedload(Customer.bins))
    return [len(each.bins) for one in session.scalars(statement).unique() for each in one.customers]
