"""Programs whose relationships are loaded for one object at a time."""

from __future__ import annotations

import json
from contextlib import contextmanager
from operator import attrgetter
from string import Template
from types import SimpleNamespace

from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.orm import (
    contains_eager,
    joinedload,
    selectinload,
    subqueryload,
)

from perfkit.loading import Kind
from tests.loading.cases import registry
from tests.loading.models import (
    Bin,
    Contract,
    Customer,
    Depot,
    Dock,
    Driver,
    Employee,
    Manager,
    Node,
    Organization,
    Profile,
    Route,
    Team,
)

CASES, finds, quiet = registry()
LAZY = Kind.LAZY_LOAD


@finds(LAZY, "Customer.organization")
def a_for_loop(session, fix):
    for customer in session.scalars(fix(select(Customer))):
        customer.organization.name


@finds(LAZY, "Bin.customer")
def a_comprehension(session, fix):
    return [one.customer.name for one in session.scalars(fix(select(Bin)))]


@finds(LAZY, "Bin.customer")
def a_generator(session, fix):
    return sum(len(one.customer.name) for one in session.scalars(fix(select(Bin))).all())


@finds(LAZY, "Bin.customer")
def a_dictionary(session, fix):
    return {one.id: one.customer.name for one in session.scalars(fix(select(Bin)))}


@finds(LAZY, "Bin.customer")
def sorting_by_a_relation(session, fix):
    return sorted(session.scalars(fix(select(Bin))).all(), key=lambda one: one.customer.name)


@finds(LAZY, "Bin.customer")
def sorting_by_attrgetter(session, fix):
    return sorted(session.scalars(fix(select(Bin))).all(), key=attrgetter("customer.name"))


@finds(LAZY, "Bin.customer")
def filtering_in_python(session, fix):
    return list(filter(lambda one: one.customer.name == "c1", session.scalars(fix(select(Bin))).all()))


@finds(LAZY, "Bin.customer")
def any_of_them(session, fix):
    return any(one.customer.name == "nobody" for one in session.scalars(fix(select(Bin))).all())


@finds(LAZY, "Customer.bins")
def the_length_of_a_collection(session, fix):
    return [len(customer.bins) for customer in session.scalars(fix(select(Customer)))]


@finds(LAZY, "Customer.bins")
def nested_loops(session, fix):
    return [one.name for customer in session.scalars(fix(select(Customer))) for one in customer.bins]


@finds(LAZY, "Customer.bins.routes")
def three_nested_loops(session, fix):
    for customer in session.scalars(fix(select(Customer))).all():
        for one in customer.bins:
            for route in one.routes:
                route.name


@finds(LAZY, "Bin.customer.organization")
def a_chain_of_many_to_one(session, fix):
    return [one.customer.organization.name for one in session.scalars(fix(select(Bin))).all()]


@finds(LAZY, "Organization.customers.bins")
def a_chain_of_collections(session, fix):
    for organization in session.scalars(fix(select(Organization))).all():
        sum(len(customer.bins) for customer in organization.customers)


@finds(LAZY, "Bin.routes")
def many_to_many(session, fix):
    return [[route.name for route in one.routes] for one in session.scalars(fix(select(Bin)))]


@finds(LAZY, "Bin.routes")
def an_association_proxy(session, fix):
    return [list(one.route_names) for one in session.scalars(fix(select(Bin)))]


@finds(LAZY, "Customer.profile")
def one_to_one(session, fix):
    return [customer.profile.language for customer in session.scalars(fix(select(Customer)))]


@finds(LAZY, "Customer.organization")
def a_property_of_the_model(session, fix):
    return [customer.organization_name for customer in session.scalars(fix(select(Customer)))]


@finds(LAZY, "Customer.bins")
def a_method_of_the_model(session, fix):
    return [customer.total_bins() for customer in session.scalars(fix(select(Customer)))]


@finds(LAZY, "Bin.customer")
def a_hybrid(session, fix):
    return [one.owner for one in session.scalars(fix(select(Bin)))]


def _as_dict(one):
    return {"name": one.name, "customer": one.customer.name}


@finds(LAZY, "Bin.customer")
def a_helper(session, fix):
    return json.dumps([_as_dict(one) for one in session.scalars(fix(select(Bin)))])


@finds(LAZY, "Bin.customer")
def map_over_a_helper(session, fix):
    return list(map(_as_dict, session.scalars(fix(select(Bin)))))


@finds(LAZY, "Bin.customer.organization")
def a_template_by_getattr(session, fix):
    def resolve(value, path):
        for name in path.split("."):
            value = getattr(value, name)
        return value

    template = Template("$owner")
    for one in session.scalars(fix(select(Bin))).all():
        template.substitute(owner=resolve(one, "customer.organization.name"))


class CustomerOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    name: str


class BinOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    name: str
    customer: CustomerOut


@finds(LAZY, "Bin.customer")
def a_pydantic_model(session, fix):
    return [BinOut.model_validate(one) for one in session.scalars(fix(select(Bin)))]


class CustomerWithBins(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    name: str
    bins: list[CustomerOut]


@finds(LAZY, "Customer.bins")
def a_pydantic_collection(session, fix):
    return [CustomerWithBins.model_validate(customer) for customer in session.scalars(fix(select(Customer)))]


@finds(LAZY, "Node.children")
def a_recursion_over_a_forest(session, fix):
    def count(node):
        return 1 + sum(count(child) for child in node.children)

    return sum(count(node) for node in session.scalars(fix(select(Node).where(Node.parent_id == 1))).all())


@finds(LAZY, "Node.children")
def a_loop_down_a_tree(session, fix):
    level = session.scalars(fix(select(Node).where(Node.parent_id == 1))).all()
    while level:
        level = [child for node in level for child in node.children]


@finds(LAZY, "Node.parent")
def parents_of_leaves(session, fix):
    return [node.parent.name for node in session.scalars(fix(select(Node).where(Node.name == "leaf"))).all()]


@finds(LAZY, "Node.children.children")
def two_steps_down_at_two_places(session, fix):
    for node in session.scalars(fix(select(Node).where(Node.parent_id == 1))).all():
        for child in node.children:
            len(child.children)


@finds(LAZY, "Depot.docks")
def keys_of_two_columns(session, fix):
    return [len(depot.docks) for depot in session.scalars(fix(select(Depot))) if depot.gates]


@finds(LAZY, "Dock.depot")
def many_to_one_by_two_columns(session, fix):
    return [(dock.depot.city, dock.depot.gates) for dock in session.scalars(fix(select(Dock)))]


@finds(LAZY, "Manager.car")
def a_relation_of_a_subclass(session, fix):
    return [each.car.plate for each in session.scalars(fix(select(Manager)))]


@finds(LAZY, "Driver.truck")
def a_relation_of_a_subclass_in_a_query_for_the_base(session, fix):
    return [each.truck.plate for each in session.scalars(fix(select(Employee))) if isinstance(each, Driver)]


@finds(LAZY, "Team.members.truck")
def a_relation_of_a_subclass_in_a_collection(session, fix):
    for team in session.scalars(fix(select(Team).options(selectinload(Team.members)))).all():
        for member in team.members:
            if isinstance(member, Driver):
                member.truck.plate


@finds(LAZY, "Bin.customer.organization")
def lazy_behind_selectin(session, fix):
    return [one.customer.organization.name
            for one in session.scalars(fix(select(Bin).options(selectinload(Bin.customer))))]  # fmt: skip


@finds(LAZY, "Bin.customer.organization")
def lazy_behind_joined(session, fix):
    return [one.customer.organization.name
            for one in session.scalars(fix(select(Bin).options(joinedload(Bin.customer))))]  # fmt: skip


@finds(LAZY, "Customer.bins.routes")
def lazy_behind_subquery(session, fix):
    for customer in session.scalars(fix(select(Customer).options(subqueryload(Customer.bins)))):
        [len(one.routes) for one in customer.bins]


@finds(LAZY, "Bin.customer.organization")
def lazy_behind_contains_eager(session, fix):
    statement = select(Bin).join(Bin.customer).options(contains_eager(Bin.customer))
    return [one.customer.organization.name for one in session.scalars(fix(statement))]


@finds(LAZY, "Customer.organization")
def a_query_for_two_entities(session, fix):
    return [customer.organization.name
            for _, customer in session.execute(fix(select(Bin, Customer).join(Bin.customer)))]  # fmt: skip


@finds(LAZY, "Bin.customer")
def the_legacy_query(session, fix):
    return [one.customer.name for one in fix(session.query(Bin)).filter(Bin.id > 2).all()]


@finds(LAZY, "Bin.customer")
def the_legacy_query_iterated(session, fix):
    for one in fix(session.query(Bin)):
        one.customer.name


@finds(LAZY, "Customer.bins")
def a_first_page(session, fix):
    return [len(customer.bins) for customer in session.scalars(fix(select(Customer)).limit(3).offset(1))]


@finds(LAZY, "Bin.customer")
def without_autoflush(session, fix):
    with session.no_autoflush:
        return [one.customer.name for one in session.scalars(fix(select(Bin)))]


@finds(LAZY, "Bin.customer")
def in_a_savepoint(session, fix):
    with session.begin_nested():
        return [one.customer.name for one in session.scalars(fix(select(Bin)))]


@finds(LAZY, "Bin.customer")
def loaded_here_and_touched_there(session, fix):
    def load():
        return session.scalars(fix(select(Bin))).all()

    def render(bins):
        return ", ".join(one.customer.name for one in bins)

    return render(load())


@finds(LAZY, "Bin.customer")
def behind_a_context_manager(session, fix):
    @contextmanager
    def reading():
        yield session

    with reading() as reader:
        return [one.customer.name for one in reader.scalars(fix(select(Bin)))]


@finds(LAZY, "Customer.contracts")
def a_second_path_beside_an_eager_one(session, fix):
    for customer in session.scalars(fix(select(Customer).options(selectinload(Customer.bins)))):
        len(customer.bins), len(customer.contracts)


@finds(LAZY, "Contract.customer")
def in_two_halves_of_one_list(session, fix):
    contracts = session.scalars(fix(select(Contract).order_by(Contract.id))).all()
    return contracts[0].customer.name, contracts[-1].customer.name


@finds(LAZY, "Bin.customer")
def with_yield_per(session, fix):
    return [one.customer.name for one in session.scalars(fix(select(Bin)).execution_options(yield_per=4))]


@finds(LAZY, "Customer.bins")
def of_one_organization(session, fix):
    statement = select(Customer).join(Customer.organization).where(Organization.name == "o1")
    return [len(customer.bins) for customer in session.scalars(fix(statement))]


@finds(LAZY, "Organization.customers.bins")
def below_one_object(session, fix):
    organization = session.scalars(fix(select(Organization).where(Organization.id == 1))).one()
    return [len(customer.bins) for customer in organization.customers]


@finds(LAZY, "Bin.customer")
def columns_and_an_entity(session, fix):
    return [one.customer.name for one, _ in session.execute(fix(select(Bin, Bin.name)))]


@finds(LAZY, "Route.bins.customer")
def from_many_to_many_on(session, fix):
    route = session.scalars(fix(select(Route).where(Route.id == 1))).one()
    return [one.customer.name for one in route.bins]


@finds(LAZY, "Profile.customer.organization")
def back_over_one_to_one(session, fix):
    return [profile.customer.organization.name for profile in session.scalars(fix(select(Profile)))]


@finds(LAZY, "Bin.customer")
def in_a_class_based_view(session, fix):
    view = SimpleNamespace(rows=lambda: session.scalars(fix(select(Bin))).all())
    return [getattr(getattr(one, "customer"), "name") for one in view.rows()]  # noqa: B009 - as templates do
