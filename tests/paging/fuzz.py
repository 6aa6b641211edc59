"""Random statements on every way through their pages: `python -m tests.paging.fuzz 2400` pages as many.

They are of the kinds of kinds.py and share themselves out over SQLite, psycopg, asyncpg and PyMySQL, as far as there
are servers. The last argument is where seeds begin.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence

from sqlalchemy import NullPool, create_engine, make_url
from sqlalchemy.exc import SAWarning
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from tests.paging.harbour import Base, fill_harbour
from tests.paging.judging import judge
from tests.paging.kinds import case_of
from tools import services
from tools.services import Service, Up


def main(count: int, first: int) -> int:
    """How many of `count` cases fail."""
    warnings.simplefilter("ignore", SAWarning)
    with services.running() as up:
        databases = [("sqlite", "sqlite://")]
        if up.postgres_url:
            databases += [("psycopg", up.postgres_url), ("asyncpg", up.postgres_url)]
        if isinstance(answer := up.ask(Service.MARIADB), Up):
            databases.append(("pymysql", answer.url))
        failed = 0
        for place, (driver, address) in enumerate(databases):
            seeds = range(first + place, first + count, len(databases))
            began = time.perf_counter()
            wrong = _run(driver, address, seeds)
            print(f"{driver}: {len(seeds)} cases, {wrong} fail, {time.perf_counter() - began:.0f} s", flush=True)  # noqa: T201
            failed += wrong
    return failed


def _run(driver: str, address: str, seeds: Sequence[int]) -> int:
    """How many fail on one driver, in tables of its own."""
    url = make_url(address)
    if driver == "sqlite":
        filling = url
    else:
        system = "mariadb" if driver == "pymysql" else "postgresql"
        filling = url.set(drivername=f"{system}+{'pymysql' if driver == 'pymysql' else 'psycopg'}")
        url = url.set(drivername=f"{system}+{driver}")
    engine = create_engine(filling)
    try:
        with engine.begin() as connection:
            if driver == "pymysql":  # else two names that differ in their case are one
                connection.exec_driver_sql(f"ALTER DATABASE {filling.database} COLLATE utf8mb4_bin")
        Base.metadata.drop_all(engine)
        Base.metadata.create_all(engine)
        with Session(engine) as session, session.begin():
            fill_harbour(session)
        work = _judging(seeds)
        if driver == "asyncpg":
            return asyncio.run(_awaited(url.render_as_string(hide_password=False), work))
        with Session(engine) as session:
            return work(session)
    finally:
        Base.metadata.drop_all(engine)
        engine.dispose()


def _judging(seeds: Sequence[int]) -> Callable[[Session], int]:
    def work(session: Session) -> int:
        failed = 0
        dialect = session.get_bind().dialect.name
        for seed in seeds:
            case = case_of(seed, dialect)
            try:
                judge(session, case, random.Random(seed))
            except Exception:  # noqa: BLE001 - whatever it is, it is told, and the next one is judged
                session.rollback()
                failed += 1
                print(case.name, traceback.format_exc(limit=-2), flush=True)  # noqa: T201
        return failed

    return work


async def _awaited(url: str, work: Callable[[Session], int]) -> int:
    engine = create_async_engine(url, poolclass=NullPool)
    async with AsyncSession(engine) as session:
        failed = await session.run_sync(work)
    await engine.dispose()
    return failed


if __name__ == "__main__":
    arguments = [int(each) for each in sys.argv[1:]]
    raise SystemExit(bool(main(*(arguments + [2_400, 0][len(arguments) :]))))
