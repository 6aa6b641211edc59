"""A small city of two organizations, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from perfkit.loading import set_strictness
from wastemgmt import migrate
from wastemgmt.app import create_app
from wastemgmt.database import Database
from wastemgmt.models import Bin, Collection, Customer, Organization, Route, RouteStop, User
from wastemgmt.settings import Settings

NEWEST = datetime(2026, 6, 30, 10, tzinfo=UTC)


@pytest.fixture(autouse=True)
def nothing_is_lazy() -> Iterator[None]:
    """What a profile leaves out fails the test that touches it."""
    before = set_strictness("raise")
    yield
    set_strictness(before)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite, to make copies of; test_migrations.py is about the migrations themselves."""
    file = tmp_path_factory.mktemp("migrated") / "wastemgmt.sqlite3"
    asyncio.run(migrate.upgrade(f"sqlite:///{file}"))
    return file


@pytest.fixture(scope="session")
def migrated_url(pg_databases: Callable[[], str]) -> str:
    """The same of PostgreSQL."""
    url = pg_databases()
    asyncio.run(migrate.upgrade(url))
    return url


@pytest.fixture(params=["sqlite", "psycopg", "asyncpg"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a migrated, empty database."""
    if request.param == "sqlite":
        copy = shutil.copy(request.getfixturevalue("migrated_file"), tmp_path)
        yield Settings(database_url=f"sqlite:///{copy}")
        return
    server = request.getfixturevalue("pg_server")
    url = server.create(request.getfixturevalue("migrated_url"))
    yield Settings(database_url=url.replace("postgresql:", f"postgresql+{request.param}:"))
    server.drop(url)


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    """With the small city in it, and the cache connected."""
    database = Database(settings)
    async with database.writing() as session:
        await fill(session)
    yield database
    await database.aclose()


@asynccontextmanager
async def service(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service with these settings."""
    app = create_app(settings)
    # what the service answers when it fails is looked at, too
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        yield client


@pytest.fixture
def serving() -> Callable[[Settings], AbstractAsyncContextManager[httpx.AsyncClient]]:
    """For tests that need more than one service."""
    return service


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The service over the small city."""
    async with service(settings) as client:
        async with client._transport.app.state.database.writing() as session:
            await fill(session)
        yield client


async def fill(session) -> None:
    """Two organizations with one customer each, three bins, two routes, and collections on one of them."""
    for key, name in ((1, "North"), (2, "South")):
        session.add(Organization(id=key, name=name, city="Helsinki"))
    await session.flush()
    for key in (1, 2):
        session.add(User(id=key, organization_id=key, email=f"{key}@x", full_name=f"User {key}", role="driver"))
    await session.flush()
    for key, category in ((1, "café"), (2, "hotel")):
        session.add(
            Customer(
                id=key,
                organization_id=key,
                account_manager_id=key,
                name=f"Customer {key}",
                category=category,
                city="Helsinki",
                location=f"SRID=4326;POINT(24.94{key} 60.17)",
            )
        )
    await session.flush()
    for key, customer, kind, fill_percent in ((1, 1, "glass", 95), (2, 1, "paper", 10), (3, 2, "glass", 40)):
        session.add(
            Bin(
                id=key,
                customer_id=customer,
                bin_type=kind,
                capacity_l=240,
                fill_percent=fill_percent,
                last_collected_at=NEWEST if key == 1 else None,
                location="SRID=4326;POINT(24.941 60.17)",
            )
        )
    for key, north in ((1, 60.17), (2, 60.19)):
        session.add(
            Route(
                id=key,
                organization_id=key,
                driver_id=key,
                name=f"Route {key}",
                status="active",
                weekday=key,
                length_m=1000.0 * key,
                path=f"SRID=4326;LINESTRING(24.94 {north}, 24.95 {north})",
            )
        )
    await session.flush()
    session.add_all([RouteStop(route_id=1, bin_id=1, position=1), RouteStop(route_id=1, bin_id=2, position=2)])
    for days, grams in ((0, 5000), (10, 7000), (40, 11000)):
        session.add(
            Collection(
                bin_id=1,
                route_id=1,
                collected_at=NEWEST - timedelta(days=days),
                fill_before_percent=80,
                weight_g=grams,
            )
        )
    await session.flush()
    if session.bind.dialect.name == "postgresql":
        from sqlalchemy import text

        for table in ("organizations", "users", "customers", "bins", "routes"):
            await session.execute(text(f"SELECT setval('{table}_id_seq', 100)"))
