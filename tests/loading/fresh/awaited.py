"""The same with an AsyncSession."""

from __future__ import annotations

import asyncio

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, selectinload

from perfkit.loading import Kind
from tests.loading.fresh.judge import finds, quiet
from tests.loading.fresh.shop import Customer, Line, Order, Product


@finds(Kind.LOOPED_FETCH, "Product")
async def a_basket(session: AsyncSession):
    return [(await session.get(Product, id_)).price for id_ in (1, 2, 3)]


@finds(Kind.LAZY_LOAD, "Order.customer")
async def in_run_sync(session: AsyncSession):
    def names(session: Session):
        return [order.customer.name for order in session.scalars(select(Order))]

    return await session.run_sync(names)


@finds(Kind.LAZY_LOAD, "Order.lines")
async def objects_of_an_earlier_statement(session: AsyncSession):
    orders = (await session.scalars(select(Order))).all()

    def load(_session):
        return [len(order.lines) for order in orders]

    return await session.run_sync(load)


@finds(Kind.COUNT_IN_LOOP, "Order", "Order.customer_id")
async def counted(session: AsyncSession):
    counts = {}
    async for customer in await session.stream_scalars(select(Customer.id)):
        counts[customer] = customer
    for customer in counts:
        counts[customer] = await session.scalar(select(func.count(Order.id)).where(Order.customer_id == customer))
    return counts


@finds(Kind.REPEATED, "Line", "Line.order_id")
async def in_a_service(session: AsyncSession):
    async def lines_of(order_id):
        return (await session.scalars(select(Line).where(Line.order_id == order_id))).all()

    return [await lines_of(id_) for id_ in (1, 2, 3)]


@finds(Kind.REPEATED)
async def text_in_a_task(session: AsyncSession):
    async def name(id_):
        return await session.scalar(text("SELECT name FROM customers WHERE id = :id"), {"id": id_})

    return [await asyncio.create_task(name(id_)) for id_ in (1, 2, 3)]


@quiet
async def eager(session: AsyncSession):
    result = await session.stream_scalars(select(Order).options(selectinload(Order.lines)))
    return [len(order.lines) async for order in result]


@quiet
async def two_different(session: AsyncSession):
    first = await session.get(Product, 1)
    second = await session.get(Product, 2)
    return first, second


@quiet
async def paged(session: AsyncSession):
    return [(await session.scalars(select(Order).order_by(Order.id).limit(3).offset(at))).all() for at in (0, 3, 6)]


@quiet
async def refreshed_one(session: AsyncSession):
    order = await session.get_one(Order, 1)
    await session.refresh(order, ["customer"])
    return order.customer.name
