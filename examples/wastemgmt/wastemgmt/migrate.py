"""Bring a database to the newest schema, or back: Alembic, without its ini file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from wastemgmt.database import make_engine

HERE = Path(__file__).parent / "migrations"


async def upgrade(url: str, revision: str = "head") -> None:
    """Run the migrations up to `revision`."""
    await _run(url, lambda config: command.upgrade(config, revision))


async def downgrade(url: str, revision: str = "base") -> None:
    """Undo the migrations down to `revision`; `base` leaves nothing."""
    await _run(url, lambda config: command.downgrade(config, revision))


async def _run(url: str, act: Callable[[Config], None]) -> None:
    engine = make_engine(url)
    config = Config()
    config.set_main_option("script_location", str(HERE))

    def on(connection: Connection) -> None:
        config.attributes["connection"] = connection
        act(config)

    try:
        # not in a transaction of ours: migrations begin their own, or do without
        async with engine.connect() as connection:
            await connection.run_sync(on)
    finally:
        await engine.dispose()
