"""What answers requests: templates, pydantic, resolvers, JSON."""

from __future__ import annotations

import dataclasses
import json
import pickle
from typing import Any

from mako.template import Template
from pydantic import BaseModel, ConfigDict, TypeAdapter
from sqlalchemy import select
from sqlalchemy.orm import joinedload, selectinload

from perfkit.loading import Kind
from tests.loading.fresh.judge import finds, quiet
from tests.loading.fresh.shop import Customer, Line, Order, Product

LAZY = Kind.LAZY_LOAD


class FromAttributes(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class ProductOut(FromAttributes):
    name: str


class LineOut(FromAttributes):
    quantity: int
    product: ProductOut


class CustomerOut(FromAttributes):
    name: str


class OrderOut(FromAttributes):
    number: str
    customer: CustomerOut
    lines: list[LineOut]


FULL = (joinedload(Order.customer), selectinload(Order.lines).joinedload(Line.product))


@finds(LAZY, "Order.customer")
@finds(LAZY, "Order.lines")
@finds(LAZY, "Order.lines.product")
def response_model(session):
    return [OrderOut.model_validate(order) for order in session.scalars(select(Order))]


@finds(LAZY, "Order.customer")
@finds(LAZY, "Order.lines")
@finds(LAZY, "Order.lines.product")
def response_adapter(session):
    orders = session.scalars(select(Order)).all()
    return TypeAdapter(list[OrderOut]).dump_json(TypeAdapter(list[OrderOut]).validate_python(orders))


@quiet
def response_model_eager(session):
    return [OrderOut.model_validate(order) for order in session.scalars(select(Order).options(*FULL))]


@quiet
def response_model_of_one(session):
    order = session.get_one(Order, 2, options=[selectinload(Order.lines).joinedload(Line.product)])
    return OrderOut.model_validate(order)


PAGE = """
% for order in orders:
<li>${order.number}: ${order.customer.name}
  % for shipment in order.shipments:
  <em>${shipment.carrier}</em>
  % endfor
</li>
% endfor
"""


@finds(LAZY, "Order.customer")
@finds(LAZY, "Order.shipments")
def template(session):
    return Template(PAGE, default_filters=["h"]).render(orders=session.scalars(select(Order)).all())


@quiet
def template_eager(session):
    options = (selectinload(Order.customer), selectinload(Order.shipments))
    return Template(PAGE, default_filters=["h"]).render(orders=session.scalars(select(Order).options(*options)).all())


RESOLVERS = {
    ("Order", "customer"): lambda order: order.customer,
    ("Order", "lines"): lambda order: order.lines,
    ("Line", "product"): lambda line: line.product,
    ("Product", "category"): lambda product: product.category,
}


def resolve(value: Any, selection: dict[str, Any]) -> Any:
    """The selected fields of a value, as a GraphQL executor walks them."""
    if isinstance(value, list):
        return [resolve(each, selection) for each in value]
    if not selection:
        return value
    return {
        name: resolve(RESOLVERS.get((type(value).__name__, name), lambda v, n=name: getattr(v, n))(value), inner)
        for name, inner in selection.items()
    }


@finds(LAZY, "Order.lines")
@finds(LAZY, "Order.lines.product")
@finds(LAZY, "Order.lines.product.category")
def graphql(session):
    selection = {"number": {}, "lines": {"product": {"name": {}, "category": {"name": {}}}}}
    return resolve(list(session.scalars(select(Order).order_by(Order.id))), selection)


@quiet
def graphql_of_one_path(session):
    return resolve(session.get(Order, 1), {"number": {}, "customer": {"name": {}, "city": {"name": {}}}})


@dataclasses.dataclass
class OrderView:
    number: str
    customer: str
    carriers: list[str]

    @classmethod
    def of(cls, order: Order) -> OrderView:
        return cls(order.number, order.customer.name, [each.carrier for each in order.shipments])


@finds(LAZY, "Order.customer")
@finds(LAZY, "Order.shipments")
def dataclass_views(session):
    return [dataclasses.asdict(OrderView.of(order)) for order in session.scalars(select(Order))]


@quiet
def dataclass_views_eager(session):
    options = (joinedload(Order.customer), selectinload(Order.shipments))
    return [dataclasses.asdict(OrderView.of(order)) for order in session.scalars(select(Order).options(*options))]


def as_json(value: Any) -> Any:
    """For `json.dumps`."""
    return {"name": value.name, "reviews": [review.stars for review in value.reviews]}


@finds(LAZY, "Product.reviews")
def json_default(session):
    return json.dumps(session.scalars(select(Product)).all(), default=as_json)


@quiet
def json_default_eager(session):
    return json.dumps(session.scalars(select(Product).options(selectinload(Product.reviews))).all(), default=as_json)


@quiet
def pickled(session):
    return pickle.dumps(session.scalars(select(Customer).options(selectinload(Customer.city))).all())


@quiet
def by_getattr(session):
    rows = session.scalars(select(Order).options(joinedload(Order.customer)))
    return [[getattr(getattr(row, "customer"), column) for column in ("name", "email")] for row in rows]  # noqa: B009


@quiet
def dumped_by_mapper(session):
    customers = session.scalars(select(Customer).options(selectinload(Customer.profile))).all()
    return [
        {key: getattr(customer, key) for key, _ in customer.__mapper__.relationships.items() if key == "profile"}
        for customer in customers
    ]
