"""The tables, on PostGIS and on SQLite with perfkit.spatial.lite."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from geoalchemy2 import Geometry

from wastemgmt.models.base import UtcTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = ("organizations", "users", "customers", "bins", "routes", "route_stops", "collections")
KEYS = {
    "users": ("organization_id",),
    "customers": ("organization_id", "account_manager_id"),
    "bins": ("customer_id",),
    "routes": ("organization_id", "driver_id"),
    "route_stops": ("bin_id",),
    "collections": ("bin_id", "route_id", "driver_id", "collected_at"),
}
AUDIT = ("created_by_id", "updated_by_id")


def upgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    if postgresql:
        op.execute("CREATE EXTENSION IF NOT EXISTS postgis")
    op.create_table(
        "organizations",
        _id(),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("city", sa.String(100), nullable=False),
        *_kept(),
        # PostgreSQL wants the users first, who want the organizations first
        *(() if postgresql else _audit_keys("organizations")),
        sa.UniqueConstraint("name", name="uq_organizations_name"),
    )
    op.create_table(
        "users",
        _id(),
        _reference("users", "organization_id", "organizations"),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("full_name", sa.String(200), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("is_active", sa.Boolean, server_default="1", nullable=False),
        *_kept(),
        *_audit_keys("users"),
        sa.UniqueConstraint("email", name="uq_users_email"),
    )
    if postgresql:
        for column in AUDIT:
            op.create_foreign_key(f"fk_organizations_{column}_users", "organizations", "users", [column], ["id"])
    op.create_table(
        "customers",
        _id(),
        _reference("customers", "organization_id", "organizations"),
        _reference("customers", "account_manager_id", "users", nullable=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("category", sa.String(50), nullable=False),
        sa.Column("street", sa.String(200)),
        sa.Column("house_number", sa.String(50)),
        sa.Column("postcode", sa.String(20)),
        sa.Column("city", sa.String(100), nullable=False),
        sa.Column("location", Geometry("POINT", srid=4326), nullable=False),
        *_kept(),
        *_audit_keys("customers"),
    )
    op.create_table(
        "bins",
        _id(),
        _reference("bins", "customer_id", "customers"),
        sa.Column("bin_type", sa.String(20), nullable=False),
        sa.Column("capacity_l", sa.Integer, nullable=False),
        sa.Column("fill_percent", sa.Integer, server_default="0", nullable=False),
        sa.Column("status", sa.String(20), server_default="active", nullable=False),
        sa.Column("location", Geometry("POINT", srid=4326), nullable=False),
        sa.Column("last_collected_at", UtcTime),
        *_kept(),
        *_audit_keys("bins"),
    )
    op.create_table(
        "routes",
        _id(),
        _reference("routes", "organization_id", "organizations"),
        _reference("routes", "driver_id", "users", nullable=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("status", sa.String(20), server_default="planned", nullable=False),
        sa.Column("weekday", sa.Integer, nullable=False),
        sa.Column("length_m", sa.Double, server_default="0", nullable=False),
        sa.Column("path", Geometry("LINESTRING", srid=4326), nullable=False),
        *_kept(),
        *_audit_keys("routes"),
    )
    op.create_table(
        "route_stops",
        _id(),
        _reference("route_stops", "route_id", "routes"),
        _reference("route_stops", "bin_id", "bins"),
        sa.Column("position", sa.Integer, nullable=False),
        *_kept(),
        *_audit_keys("route_stops"),
        sa.UniqueConstraint("route_id", "position", name="uq_route_stops_route_id_position"),
    )
    op.create_table(
        "collections",
        _id(),
        _reference("collections", "bin_id", "bins"),
        _reference("collections", "route_id", "routes"),
        _reference("collections", "driver_id", "users", nullable=True),
        sa.Column("collected_at", UtcTime, nullable=False),
        sa.Column("fill_before_percent", sa.Integer, nullable=False),
        sa.Column("weight_g", sa.Integer, nullable=False),
        sa.Column("status", sa.String(20), server_default="collected", nullable=False),
        sa.Column("created_at", UtcTime, server_default=sa.func.now(), nullable=False),
    )
    for table, columns in KEYS.items():
        for column in columns:
            op.create_index(f"ix_{table}_{column}", table, [column])
    if postgresql:
        op.execute("CREATE INDEX ix_routes_path_geography ON routes USING gist (CAST(path AS geography))")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for column in AUDIT:
            op.drop_constraint(f"fk_organizations_{column}_users", "organizations")
    for table in reversed(TABLES):
        op.drop_table(table)


def _id() -> sa.Column[Any]:
    return sa.Column("id", sa.Integer, primary_key=True)


def _reference(table: str, column: str, to: str, *, nullable: bool = False) -> sa.Column[Any]:
    key = sa.ForeignKey(f"{to}.id", name=f"fk_{table}_{column}_{to}")
    return sa.Column(column, sa.Integer, key, nullable=nullable)


def _kept() -> list[sa.Column[Any]]:
    return [
        sa.Column("created_at", UtcTime, server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", UtcTime, server_default=sa.func.now(), nullable=False),
        *(sa.Column(column, sa.Integer) for column in AUDIT),
        sa.Column("deleted_at", UtcTime),
        sa.Column("version", sa.Integer, server_default="1", nullable=False),
    ]


def _audit_keys(table: str) -> list[sa.ForeignKeyConstraint]:
    return [sa.ForeignKeyConstraint([column], ["users.id"], name=f"fk_{table}_{column}_users") for column in AUDIT]
