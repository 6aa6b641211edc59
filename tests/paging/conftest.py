"""The shop of tests/paging/models.py on every database, filled once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, make_url
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from tests.paging.cases_more import Extra, fill_more
from tests.paging.models import Base, fill, plain, things

DRIVERS = {
    "sqlite": "sqlite",
    "psycopg": "postgresql+psycopg",
    "asyncpg": "postgresql+asyncpg",
    "pymysql": "mariadb+pymysql",
}

Within = Callable[[Callable[[Session], Any]], Any]
"""Calls a function with a session and gives what it gives; on asyncpg, it is called by `run_sync`."""


@pytest.fixture(scope="session")
def shops(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The URL of a filled shop, by driver."""
    urls: dict[str, str] = {}

    def url(driver: str) -> str:
        database = "postgresql" if driver in ("psycopg", "asyncpg") else driver
        if database not in urls:
            if database == "sqlite":
                made = f"sqlite:///{tmp_path_factory.mktemp('shop')}/shop.sqlite3"
            else:
                made = request.getfixturevalue("pg_databases" if database == "postgresql" else "mariadb_databases")()
            filling = {"asyncpg": "postgresql+psycopg"}.get(driver, DRIVERS[driver])
            engine = create_engine(make_url(made).set(drivername=filling), poolclass=NullPool)
            if database == "pymysql":
                with engine.begin() as connection:
                    connection.exec_driver_sql("ALTER DATABASE CHARACTER SET utf8mb4")
            Base.metadata.create_all(engine)
            plain.create_all(engine)
            Extra.metadata.create_all(engine)
            with Session(engine) as session, session.begin():
                fill(session)
                fill_more(session)
                session.add_all(things(random.Random(5)))
            engine.dispose()
            urls[database] = made
        return make_url(urls[database]).set(drivername=DRIVERS[driver]).render_as_string(hide_password=False)

    return url


@pytest.fixture(params=list(DRIVERS))
def within(request: pytest.FixtureRequest, shops: Callable[[str], str]) -> Within:
    """A session of the shop, on each database and driver; what a test writes is rolled back."""
    return within_on(shops(request.param), is_async=request.param == "asyncpg")


@pytest.fixture
def within_sqlite(shops: Callable[[str], str]) -> Within:
    """A session of the shop on SQLite."""
    return within_on(shops("sqlite"), is_async=False)


def within_on(url: str, *, is_async: bool) -> Within:
    """`Within` for a database."""

    def call(function: Callable[[Session], Any]) -> Any:
        if is_async:
            return asyncio.run(_awaited(url, function))
        engine = create_engine(url, poolclass=NullPool)
        try:
            with Session(engine) as session:
                return function(session)
        finally:
            engine.dispose()

    return call


async def _awaited(url: str, function: Callable[[Session], Any]) -> Any:
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with AsyncSession(engine) as session:
            return await session.run_sync(function)
    finally:
        await engine.dispose()
