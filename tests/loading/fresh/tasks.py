"""Services on asyncio: repositories, streams, awaited attributes, groups of tasks, and endpoints of FastAPI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from httpx import ASGITransport, AsyncClient
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import defer, joinedload, selectinload

from perfkit.errors import CannotLoadLazily
from perfkit.loading import Kind
from perfkit.testing.clients import requests_apart
from tests.loading.fresh.judge import finds, quiet
from tests.loading.fresh.shop import Category, Customer, Line, Order, Product, Review


class Orders:
    """A repository, as many write it."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def by_id(self, id_: int) -> Order | None:
        return (await self.session.execute(select(Order).where(Order.id == id_))).scalar_one_or_none()

    async def of_customer(self, customer: Customer) -> list[Order]:
        return list(await self.session.scalars(select(Order).where(Order.customer_id == customer.id)))

    async def count_lines(self, order: Order) -> int | None:
        return await self.session.scalar(select(func.count()).select_from(Line).where(Line.order_id == order.id))


# ---- one by one


@finds(Kind.LAZY_LOAD, "Order.customer")
async def awaited_attributes(session: AsyncSession):
    return [(await order.awaitable_attrs.customer).name for order in await session.scalars(select(Order))]


@finds(Kind.LAZY_LOAD, "Customer.orders")
@finds(Kind.LAZY_LOAD, "Customer.orders.lines")
async def two_levels_of_awaited_attributes(session: AsyncSession):
    pieces = 0
    for customer in (await session.scalars(select(Customer))).all():
        for order in await customer.awaitable_attrs.orders:
            pieces += len(await order.awaitable_attrs.lines)
    return pieces


@finds(Kind.LAZY_LOAD, "Order.lines.product")
async def awaited_below_an_eager_load(session: AsyncSession):
    orders = (await session.scalars(select(Order).options(selectinload(Order.lines)))).all()
    return [(await line.awaitable_attrs.product).name for order in orders for line in order.lines]


@finds(Kind.COLUMN_LOAD, "Customer.bio")
async def deferred_columns(session: AsyncSession):
    async def card(customer: Customer) -> str:
        return f"{customer.name}: {await customer.awaitable_attrs.bio}"

    return [await card(customer) for customer in await session.scalars(select(Customer).limit(4))]


@finds(Kind.COLUMN_LOAD, "Product.description")
async def columns_that_the_statement_left_out(session: AsyncSession):
    products = (await session.scalars(select(Product).options(defer(Product.description)))).all()
    return await session.run_sync(lambda _: [product.description for product in products])


@finds(Kind.COLUMN_LOAD, "Order", says="expire_on_commit=False")
async def read_again_after_a_commit(session: AsyncSession):
    orders = (await session.scalars(select(Order).limit(5))).all()
    await session.execute(update(Order).where(Order.id == 12).values(status="paid"))
    await session.commit()
    return [await order.awaitable_attrs.status for order in orders]


@finds(Kind.LOOPED_FETCH, "Order")
async def a_repository_asked_for_each(session: AsyncSession):
    orders = Orders(session)
    return [await orders.by_id(id_) for id_ in (3, 5, 7)]


@finds(Kind.REPEATED, "Order", "Order.customer_id")
async def a_repository_asked_for_those_of_each(session: AsyncSession):
    customers = (await session.scalars(select(Customer).where(Customer.id < 4))).all()
    return {customer.id: await Orders(session).of_customer(customer) for customer in customers}


@finds(Kind.COUNT_IN_LOOP, "Line", "Line.order_id")
async def a_repository_that_counts(session: AsyncSession):
    orders, counts = Orders(session), []
    async for order in await session.stream_scalars(select(Order).limit(4)):
        counts.append(order)
    return [await orders.count_lines(order) for order in counts]


@finds(Kind.LAZY_LOAD, "Order.customer")
async def a_stream_that_awaits_for_each(session: AsyncSession):
    names = []
    async for order in await session.stream_scalars(select(Order)):
        customer = await order.awaitable_attrs.customer
        names.append(customer.name)
    return names


@finds(Kind.LAZY_LOAD, "Product.category")
async def an_async_generator(session: AsyncSession):
    async def labels() -> AsyncIterator[str]:
        for product in (await session.scalars(select(Product))).all():
            yield (await product.awaitable_attrs.category).name

    return [label async for label in labels()]


@finds(Kind.REPEATED, "Review", "Review.product_id")
async def gathered_after_a_list(session: AsyncSession):
    factory = async_sessionmaker(session.bind)

    async def stars(product_id: int) -> int:
        async with factory() as own:
            return sum(await own.scalars(select(Review.stars).where(Review.product_id == product_id)))

    ids = (await session.scalars(select(Product.id).limit(5))).all()
    return await asyncio.gather(*map(stars, ids))


@finds(Kind.LOOPED_FETCH, "Customer")
async def tasks_behind_a_semaphore(session: AsyncSession):
    factory, at_once = async_sessionmaker(session.bind), asyncio.Semaphore(2)

    async def fetch(id_: int) -> str:
        async with at_once, factory() as own:
            return (await own.get_one(Customer, id_)).name

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(fetch(id_)) for id_ in range(1, 5)]
    return [task.result() for task in tasks]


@finds(Kind.LOOPED_FETCH, "Product")
async def workers_of_a_queue(session: AsyncSession):
    queue: asyncio.Queue[int] = asyncio.Queue()
    for id_ in range(1, 7):
        queue.put_nowait(id_)
    found = []

    async def work() -> None:
        async with AsyncSession(session.bind) as own:
            while not queue.empty():
                found.append((await own.get_one(Product, queue.get_nowait())).name)

    await work()
    return found


@finds(Kind.DUPLICATE, "Category", paste=False)
async def the_same_tree_for_each(session: AsyncSession):
    async def roots() -> int:
        return len((await session.scalars(select(Category).where(Category.parent_id.is_(None)))).all())

    return [await roots() for _ in range(3)]


@finds(Kind.REPEATED)
async def text_on_a_connection(session: AsyncSession):
    connection = await session.connection()
    statement = text("SELECT count(*) > 0 FROM order_lines WHERE order_id = :id AND quantity > 2")
    return [(await connection.execute(statement, {"id": id_})).scalar() for id_ in (1, 2, 3)]


@finds(Kind.UNUSED_EAGER, "Order.lines", paste=False)
async def loaded_and_not_read(session: AsyncSession):
    orders = await session.scalars(select(Order).options(selectinload(Order.lines)))
    return [order.number for order in orders]


@finds(Kind.CARTESIAN, "Order.lines", "Order.shipments", paste=False)
async def two_collections_joined(session: AsyncSession):
    both = (joinedload(Order.lines), joinedload(Order.payments), joinedload(Order.shipments))
    result = await session.scalars(select(Order).options(*both))
    return [(len(order.lines), len(order.payments), len(order.shipments)) for order in result.unique()]


@finds(Kind.LAZY_LOAD, "Order.customer")
async def in_an_endpoint(session: AsyncSession):
    return await answers(session, "/orders")


@finds(Kind.LOOPED_FETCH, "Product")
async def in_a_dependency(session: AsyncSession):
    return await answers(session, "/basket?ids=1,2,3")


# ---- as it should be


@quiet
async def awaited_but_loaded(session: AsyncSession):
    orders = await session.scalars(select(Order).options(joinedload(Order.customer)))
    return [(await order.awaitable_attrs.customer).name for order in orders]


@quiet
async def one_object_and_its_collection(session: AsyncSession):
    order = await session.get_one(Order, 1)
    return len(await order.awaitable_attrs.lines), (await order.awaitable_attrs.customer).name


@quiet
async def refreshed_with_names(session: AsyncSession):
    order = await session.get_one(Order, 1)
    await session.refresh(order, ["lines", "shipments"])
    return len(order.lines) + len(order.shipments)


@quiet
async def three_things_at_once(session: AsyncSession):
    factory = async_sessionmaker(session.bind)

    async def ask(statement):
        async with factory() as own:
            return (await own.scalars(statement)).all()

    return await asyncio.gather(ask(select(Order)), ask(select(Customer)), ask(select(Product)))


@quiet
async def a_stream_in_partitions(session: AsyncSession):
    statement = select(Order).options(selectinload(Order.lines)).execution_options(yield_per=3)
    result = await session.stream_scalars(statement)
    return [len(order.lines) async for part in result.partitions() for order in part]


@quiet
async def up_a_tree(session: AsyncSession):
    category, path = await session.get_one(Category, 8), []
    while category is not None:
        path.append(category.name)
        category = await category.awaitable_attrs.parent
    return path


@quiet
async def impossible_once(session: AsyncSession):
    orders = (await session.scalars(select(Order))).all()
    try:
        return orders[0].customer
    except CannotLoadLazily as wrong:
        return wrong.fix


@quiet
async def one_job_a_transaction(session: AsyncSession):
    factory = async_sessionmaker(session.bind)
    for id_ in (1, 2, 3):
        async with factory.begin() as own:
            order = await own.get_one(Order, id_)
            order.status = "done"


@quiet
async def endpoints_asked_in_a_loop(session: AsyncSession):
    return [await answers(session, f"/orders/{id_}") for id_ in (1, 2, 3)]


# ---- the endpoints


async def answers(session: AsyncSession, path: str) -> object:
    """What the service says."""
    transport = ASGITransport(app=service(async_sessionmaker(session.bind)))
    with requests_apart():
        async with AsyncClient(transport=transport, base_url="http://shop.example") as client:
            return (await client.get(path)).raise_for_status().json()


async def a_session(request: Request) -> AsyncIterator[AsyncSession]:
    """One for each request."""
    async with request.app.state.factory() as session:
        yield session


Asked = Annotated[AsyncSession, Depends(a_session)]


async def basket(ids: str, session: Asked) -> list[Product]:
    """What `ids=1,2,3` names."""
    return [await session.get_one(Product, int(id_)) for id_ in ids.split(",")]


async def list_orders(session: Asked) -> list[str]:
    return [(await order.awaitable_attrs.customer).name for order in await session.scalars(select(Order))]


async def one_order(order_id: int, session: Asked) -> str:
    return (await session.get_one(Order, order_id)).number


async def price(products: Annotated[list[Product], Depends(basket)]) -> int:
    return sum(product.price for product in products)


def service(factory: async_sessionmaker[AsyncSession]) -> FastAPI:
    """Orders and baskets."""
    app = FastAPI()
    app.state.factory = factory
    app.get("/orders")(list_orders)
    app.get("/orders/{order_id}")(one_order)
    app.get("/basket")(price)
    return app
