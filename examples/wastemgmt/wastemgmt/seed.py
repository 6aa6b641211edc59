"""Fill an empty database with one city or with many: `wastemgmt seed --scale 10`.

One city is in memory at a time, whatever the scale. PostgreSQL takes the rows by COPY, SQLite by executemany; what was
begun is committed at the end or not at all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy import inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from wastemgmt.city import COLUMNS_OF, Ids, Line, Place, Table, rows_of
from wastemgmt.database import make_engine
from wastemgmt.settings import Settings

Told = Callable[[int, int], None]
"""Called with how many cities are done, and of how many."""

CHUNK = 20_000
COLLECTED_AT = COLUMNS_OF["collections"].index("collected_at")


class CannotSeed(RuntimeError):
    """The database is not one to be seeded; the message says what to do."""


@dataclass(frozen=True, slots=True)
class SeedReport:
    """What was made."""

    rows: dict[str, int]
    seconds: float
    newest_collection: datetime


async def seed(engine: AsyncEngine, *, scale: int = 1, reset: bool = False, progress: Told | None = None) -> SeedReport:
    """Make `scale` cities in a migrated database that is empty, or that `reset` makes so.

    Raises:
        CannotSeed: the tables are missing, or have rows.
    """
    if not 1 <= scale <= 1000:
        raise CannotSeed(f"--scale {scale}: must be between 1 and 1000.")
    began = time.perf_counter()
    counts = dict.fromkeys(COLUMNS_OF, 0)
    ids, newest = Ids(), datetime.min.replace(tzinfo=UTC)
    async with engine.begin() as connection:
        await _prepare(connection, reset=reset)
        write = await _writer(connection)
        for number in range(scale):
            for table in rows_of(number, ids):
                await write(table)
                counts[table.name] += len(table.rows)
                if table.name == "collections":
                    newest = max(newest, *(row[COLLECTED_AT] for row in table.rows))
            if progress is not None:
                progress(number + 1, scale)
        if engine.dialect.name == "postgresql":
            for name in COLUMNS_OF:
                await connection.execute(text(f"SELECT setval('{name}_id_seq', max(id)) FROM {name}"))  # noqa: S608
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("ANALYZE"))
    return SeedReport(counts, time.perf_counter() - began, newest)


async def _prepare(connection: AsyncConnection, *, reset: bool) -> None:
    there = set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))
    if missing := sorted(set(COLUMNS_OF) - there):
        raise CannotSeed(f"there is no table {', '.join(missing)}: run `wastemgmt migrate` first.")
    if reset and connection.dialect.name == "postgresql":
        await connection.execute(text(f"TRUNCATE {', '.join(COLUMNS_OF)}"))
    for name in reversed(COLUMNS_OF):
        if reset:
            await connection.execute(text(f"DELETE FROM {name}"))  # noqa: S608 - names from our own list
        elif (await connection.execute(text(f"SELECT 1 FROM {name} LIMIT 1"))).first() is not None:  # noqa: S608
            raise CannotSeed(
                f"table {name} has rows: seed an empty database, or say --reset to delete everything in it."
            )


async def _writer(connection: AsyncConnection) -> Callable[[Table], Any]:
    if connection.dialect.name == "sqlite":
        return lambda table: _insert(connection, table)
    driver = (await connection.get_raw_connection()).driver_connection
    if connection.dialect.driver == "asyncpg":
        return lambda table: _copy_asyncpg(driver, table)
    return lambda table: _copy_psycopg(driver, table)


async def _insert(connection: AsyncConnection, table: Table) -> None:
    marks = ", ".join("?" * len(table.columns))
    statement = f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({marks})"  # noqa: S608
    for chunk in _chunks(table.rows):
        values = [tuple([_PLAIN[type(value)](value) for value in row]) for row in chunk]
        await connection.exec_driver_sql(statement, values)


async def _copy_psycopg(driver: Any, table: Table) -> None:
    async with driver.cursor() as cursor:
        columns = ", ".join(table.columns)
        async with cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy:
            for chunk in _chunks(table.rows):
                await copy.write(_lines(chunk))


async def _copy_asyncpg(driver: Any, table: Table) -> None:
    async def source() -> Any:
        for chunk in _chunks(table.rows):
            yield _lines(chunk)

    await driver.copy_to_table(table.name, source=source(), columns=table.columns, format="text")


def _chunks(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]


def _lines(rows: Sequence[Any]) -> bytes:
    """Rows in PostgreSQL's text format."""
    return "".join(["\t".join([_TEXT[type(value)](value) for value in row]) + "\n" for row in rows]).encode()


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


_TEXT: dict[type, Callable[[Any], str]] = {
    int: str,
    float: repr,
    str: _escaped,
    bool: lambda value: "t" if value else "f",
    datetime: datetime.isoformat,
    Place: lambda place: place.ewkb().hex(),
    Line: lambda line: line.ewkb().hex(),
    type(None): lambda _: "\\N",
}
_PLAIN: dict[type, Callable[[Any], Any]] = {
    **dict.fromkeys((int, float, str, bool, type(None)), lambda value: value),
    datetime: lambda value: value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),  # as SQLAlchemy writes it
    Place: Place.ewkb,
    Line: Line.ewkb,
}


def seed_command(scale: int = 1, reset: bool = False) -> None:
    """Seed the database of the settings, with a progress bar on a terminal.

    Raises:
        CannotSeed: see `seed`.
    """
    engine = make_engine(Settings().database_url)
    console = Console()
    columns = (TextColumn("seeding"), BarColumn(), MofNCompleteColumn(), TextColumn("cities"), TimeRemainingColumn())

    async def run() -> SeedReport:
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task("", total=scale)

            def tell(done: int, of: int) -> None:
                bar.update(task, completed=done)
                if not console.is_terminal:
                    typer.echo(f"seeded {done} of {of} cities")

            try:
                return await seed(engine, scale=scale, reset=reset, progress=tell)
            finally:
                await engine.dispose()

    report = asyncio.run(run())
    made = ", ".join(f"{count:,} {name}" for name, count in report.rows.items())
    typer.echo(f"{made} in {report.seconds:.1f} s")
