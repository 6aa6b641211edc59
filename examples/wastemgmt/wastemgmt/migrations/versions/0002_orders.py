"""An index for each order in which lists are paged; those of PostgreSQL are made while the service goes on writing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ORDERS = {
    "users": (("full_name", "id"), ("organization_id", "full_name", "id")),
    "customers": (("name", "id"), ("organization_id", "name", "id")),
    "bins": (("fill_percent", "id"), ("last_collected_at", "id")),
    "routes": (("name", "id"), ("organization_id", "name", "id"), ("length_m", "id")),
    "collections": (("collected_at", "id"), ("bin_id", "collected_at", "id"), ("route_id", "collected_at", "id")),
}
# what lists are filtered by leads an index of theirs now
REPLACED = {
    "users": ("organization_id",),
    "customers": ("organization_id",),
    "routes": ("organization_id",),
    "collections": ("bin_id", "route_id", "collected_at"),
}


def upgrade() -> None:
    with _beside_writers() as options:
        for table, orders in ORDERS.items():
            for columns in orders:
                name = _name(table, columns)
                op.drop_index(name, table, if_exists=True, **options)  # what a run that broke off has left, not valid
                op.create_index(name, table, _in_their_ways(table, columns), **options)
        for table, replaced in REPLACED.items():
            for column in replaced:
                op.drop_index(_name(table, (column,)), table, **options)


def downgrade() -> None:
    with _beside_writers() as options:
        for table, replaced in REPLACED.items():
            for column in replaced:
                op.create_index(_name(table, (column,)), table, [column], **options)
        for table, orders in ORDERS.items():
            for columns in orders:
                op.drop_index(_name(table, columns), table, **options)


@contextmanager
def _beside_writers() -> Iterator[dict[str, Any]]:
    """CONCURRENTLY, which works in no transaction."""
    with op.get_context().autocommit_block():
        yield {"postgresql_concurrently": True}


def _name(table: str, columns: tuple[str, ...]) -> str:
    return f"ix_{table}_{'_'.join(columns)}"


def _in_their_ways(table: str, columns: tuple[str, ...]) -> list[Any]:
    """A bin that was never collected waits longest. SQLite sorts NULLs first as it is."""
    if table == "bins" and columns[0] == "last_collected_at" and op.get_bind().dialect.name == "postgresql":
        return [sa.text("last_collected_at NULLS FIRST"), "id"]
    return list(columns)
