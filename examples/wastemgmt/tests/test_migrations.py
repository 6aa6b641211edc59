"""Migrations and models say the same, on both databases, and can be undone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect

from wastemgmt import migrate
from wastemgmt.database import make_engine
from wastemgmt.models import Base


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/wastemgmt.sqlite3"
    found: str = request.getfixturevalue("pg_url")
    return found


@pytest.mark.filterwarnings("ignore:autogenerate skipping:UserWarning")  # SQLite cannot reflect expressions
async def test_migrations_make_what_the_models_declare(url: str) -> None:
    """Alembic finds nothing left to do."""
    await migrate.upgrade(url)

    assert await looking_at(url, differences) == []


async def test_migrations_can_be_undone(url: str) -> None:
    """No table of ours stays, and they can be made again."""
    await migrate.upgrade(url)
    await migrate.downgrade(url)

    assert await looking_at(url, own_tables) == set()

    await migrate.upgrade(url)
    assert await looking_at(url, own_tables) == set(Base.metadata.tables)


async def looking_at(url: str, look: Any) -> Any:
    engine = make_engine(url)
    async with engine.connect() as connection:
        seen = await connection.run_sync(look)
    await engine.dispose()
    return seen


def differences(connection: Connection) -> list[Any]:
    def ours(thing: Any, name: str | None, kind: str, reflected: bool, other: Any) -> bool:
        table = name if kind == "table" else getattr(getattr(thing, "table", None), "name", None)
        # what SQLite cannot reflect, an index on an expression, and the R*Trees that stand for idx_…; and NULLS FIRST,
        # which it does without
        others = ("idx_", "ix_routes_path_geography", "ix_bins_last_collected_at_id")
        hidden = kind == "index" and str(name).startswith(others)
        return table in Base.metadata.tables and not (hidden and connection.dialect.name == "sqlite")

    context = MigrationContext.configure(connection, opts={"include_object": ours, "compare_server_default": False})
    return list(compare_metadata(context, Base.metadata))


def own_tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names()) & set(Base.metadata.tables)
