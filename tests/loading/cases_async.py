"""Programs on an AsyncSession: what they await is found as what others call."""

from __future__ import annotations

import asyncio

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from perfkit.loading import Kind
from tests.loading.cases import Paste, registry
from tests.loading.models import Bin, Customer, Node, Setting

CASES, finds, quiet = registry()
IDS = [2, 4, 6]


@finds(Kind.LAZY_LOAD, "Bin.customer")
async def awaitable_attributes(session, fix):
    for one in (await session.scalars(fix(select(Bin)))).all():
        await one.awaitable_attrs.customer


@finds(Kind.LAZY_LOAD, "Bin.customer.organization")
async def a_chain_of_awaitable_attributes(session, fix):
    for one in (await session.scalars(fix(select(Bin)))).all():
        customer = await one.awaitable_attrs.customer
        await customer.awaitable_attrs.organization


@finds(Kind.LAZY_LOAD, "Customer.bins")
async def lazy_loads_in_run_sync(session, fix):
    def work(inner):
        return [len(customer.bins) for customer in inner.scalars(fix(select(Customer)))]

    return await session.run_sync(work)


@finds(Kind.LOOPED_FETCH, "Customer", Paste.STATEMENT)
async def get_awaited_in_a_loop(session, fix):
    return IDS, [(await session.get(Customer, number)).id for number in IDS]


@finds(Kind.LOOPED_FETCH, "Customer", Paste.STATEMENT)
async def scalar_one_awaited_in_a_loop(session, fix):
    found = []
    for number in IDS:
        result = await session.execute(select(Customer).where(Customer.id == number))
        found.append(result.scalar_one().id)
    return IDS, found


@finds(Kind.LOOPED_FETCH, "Customer", Paste.STATEMENT)
async def gathered_in_sessions_of_their_own(session, fix):
    async def fetch(number):
        async with AsyncSession(session.bind) as own:
            return (await own.get(Customer, number)).id

    return IDS, await asyncio.gather(*(fetch(number) for number in IDS))


@finds(Kind.REPEATED, "Bin", Paste.STATEMENT)
async def where_foreign_key_awaited(session, fix):
    found = []
    for number in IDS:
        found += [one.id for one in (await session.scalars(select(Bin).where(Bin.customer_id == number))).all()]
    return IDS, found


@finds(Kind.REPEATED, "bins", Paste.STATEMENT)
async def text_awaited_in_a_loop(session, fix):
    found = []
    for number in IDS:
        found += (await session.scalars(text(f"SELECT id FROM bins WHERE customer_id = {number}"))).all()
    return IDS, found


@finds(Kind.REPEATED, "bins", Paste.STATEMENT)
async def sql_for_the_driver_awaited(session, fix):
    found = []
    async with session.bind.connect() as connection:
        for number in IDS:
            rows = await connection.exec_driver_sql("SELECT id FROM bins WHERE customer_id = ?", (number,))
            found += [row.id for row in rows]
    return IDS, found


@finds(Kind.REPEATED, "bins", Paste.STATEMENT)
async def core_awaited(session, fix):
    bins, found = Bin.__table__, []
    async with session.bind.connect() as connection:
        for number in IDS:
            found += (await connection.scalars(select(bins.c.id).where(bins.c.customer_id == number))).all()
    return IDS, found


@finds(Kind.COUNT_IN_LOOP, "Bin", Paste.STATEMENT)
async def counting_awaited(session, fix):
    statement = select(func.count()).select_from(Bin)
    return IDS, [await session.scalar(statement.where(Bin.customer_id == number)) for number in IDS]


@finds(Kind.DUPLICATE, "Setting", Paste.DECORATOR)
async def a_setting_awaited_in_a_loop(session, fix):
    return [await session.scalar(select(Setting.value).where(Setting.key == "currency")) for _ in IDS]


@finds(Kind.COLUMN_LOAD, "Bin.note")
async def deferred_columns_awaited(session, fix):
    return [await one.awaitable_attrs.note for one in (await session.scalars(fix(select(Bin)))).all()]


@finds(Kind.LAZY_LOAD, "Bin.customer")
async def streamed(session, fix):
    def names(bins):
        return [one.customer.name for one in bins]

    bins = [one async for one in await session.stream_scalars(fix(select(Bin)))]
    return await session.run_sync(lambda _: names(bins))


@quiet
async def one_awaitable_attribute(session, fix):
    one = await session.get(Bin, 1)
    return (await one.awaitable_attrs.customer).name


@quiet
async def loaded_with_selectin_awaited(session, fix):
    customers = (await session.scalars(select(Customer).options(selectinload(Customer.bins)))).all()
    return [len(customer.bins) for customer in customers]


@quiet
async def up_a_chain_awaited(session, fix):
    node = await session.get(Node, 105)
    while (parent := await node.awaitable_attrs.parent) is not None:
        node = parent
    return node.name


@quiet
async def pages_awaited(session, fix):
    return [(await session.scalars(select(Bin).order_by(Bin.id).limit(5).offset(n))).all() for n in (0, 5, 10)]


@quiet
async def polling_awaited(session, fix):
    for _ in range(4):
        await session.scalar(select(Setting.value).where(Setting.key == "currency"))
        await asyncio.sleep(0)


@quiet
async def different_statements_gathered(session, fix):
    async def count(model):
        async with AsyncSession(session.bind) as own:
            return await own.scalar(select(func.count()).select_from(model))

    return await asyncio.gather(*(count(model) for model in (Bin, Customer, Node)))


@quiet
async def two_gathered_by_hand(session, fix):
    async def fetch(number):
        async with AsyncSession(session.bind) as own:
            return (await own.get(Customer, number)).id

    return await asyncio.gather(fetch(IDS[0]), fetch(IDS[1]))


@finds(Kind.LOOPED_FETCH, "Customer", Paste.STATEMENT)
async def two_awaited_in_sessions_of_their_own(session, fix):
    async def fetch(number):
        async with AsyncSession(session.bind) as own:
            return (await own.get(Customer, number)).id

    return IDS[:2], [await fetch(number) for number in IDS[:2]]


@finds(Kind.LOOPED_FETCH, "Customer", Paste.STATEMENT)
async def a_group_of_tasks(session, fix):
    async def fetch(number):
        async with AsyncSession(session.bind) as own:
            return (await own.get(Customer, number)).id

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(fetch(number)) for number in IDS]
    return IDS, [task.result() for task in tasks]
