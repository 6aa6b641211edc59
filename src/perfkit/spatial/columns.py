"""What stands beside a geometry column in SQLite: a check, an R*Tree, a line in `geometry_columns`.

GeoAlchemy2 asks for each of them by a function of SpatiaLite, inside a SELECT, around CREATE and DROP TABLE; its
Alembic helpers use a few more. Here they are, under SpatiaLite's names and with its names for tables and triggers:

    geometry_columns            table, column, kind, dimension, SRID, is there an index; reflection reads it
    idx_<table>_<column>        the R*Tree: rowid and bounds
    ggi_… ggu_…                 refuse a geometry of another kind or SRID
    gii_… giu_… gid_…           keep the R*Tree
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from perfkit.errors import SpatialError

KINDS = (
    "GEOMETRY",
    "POINT",
    "LINESTRING",
    "POLYGON",
    "MULTIPOINT",
    "MULTILINESTRING",
    "MULTIPOLYGON",
    "GEOMETRYCOLLECTION",
)
DIMENSIONS: Mapping[str, tuple[int, int]] = {"XY": (2, 0), "XYZ": (3, 1000), "XYM": (3, 2000), "XYZM": (4, 3000)}
"""How many coordinates, and what is added to the number of the kind."""


class Columns:
    """The geometry columns of the database behind one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.calls: Mapping[str, tuple[int, Callable[..., int | None]]] = {
            "AddGeometryColumn": (-1, self.add),
            "RecoverGeometryColumn": (5, self.declare),
            "DiscardGeometryColumn": (2, self.forget),
            "CreateSpatialIndex": (2, self.index),
            "CheckSpatialIndex": (2, self.is_indexed),
            "DisableSpatialIndex": (2, self.stop_indexing),
            "RenameTable": (3, self.rename_table),
            "DropTable": (2, self.drop_table),
        }

    def add(self, table: str, column: str, srid: int, kind: str, dimension: str | int = 2, not_null: int = 0) -> int:
        """Add a geometry column to a table that is there."""
        if not_null:
            advice = "add it nullable, fill it, then check it yourself"
            raise SpatialError(f"{table}.{column}: SQLite cannot add a column that is NOT NULL; {advice}.")
        self._run(f"ALTER TABLE {_name(table)} ADD COLUMN {_name(column)} GEOMETRY")
        spelt = dimension if isinstance(dimension, str) else {2: "XY", 3: "XYZ", 4: "XYZM"}[dimension]
        return self.declare(table, column, srid, kind, spelt)

    def declare(self, table: str, column: str, srid: int, kind: str, dimension: str) -> int:
        """Let a column that is there take geometries of one kind and SRID, and nothing else."""
        base = kind.upper().removesuffix("M").removesuffix("Z")
        if base not in KINDS or dimension not in DIMENSIONS:
            raise SpatialError(f"{table}.{column}: there is no geometry {kind!r} with dimension {dimension!r}.")
        width, thousands = DIMENSIONS[dimension]
        self._run(
            "CREATE TABLE IF NOT EXISTS geometry_columns (f_table_name TEXT NOT NULL, f_geometry_column TEXT NOT NULL, "
            "geometry_type INTEGER NOT NULL, coord_dimension INTEGER NOT NULL, srid INTEGER NOT NULL, "
            "spatial_index_enabled INTEGER NOT NULL, PRIMARY KEY (f_table_name, f_geometry_column))"
        )
        row = (table, column, thousands + KINDS.index(base), width, srid)
        self._run("INSERT OR REPLACE INTO geometry_columns VALUES (?, ?, ?, ?, ?, 0)", row)
        message = _text(f"{table}.{column} takes {kind} with SRID {srid} only")
        wrong = f"NOT perfkit_fits(new.{_name(column)}, {_text(kind)}, {int(srid)})"
        check = f"SELECT RAISE(ABORT, {message}) WHERE {wrong};"
        self._trigger("ggi", "BEFORE INSERT", table, column, check)
        self._trigger("ggu", f"BEFORE UPDATE OF {_name(column)}", table, column, check)
        return 1

    def forget(self, table: str, column: str) -> int:
        """Let a column take anything again; it keeps its data."""
        self._drop_triggers(("ggi", "ggu"), table, column)
        if self._knows_columns():
            where = "f_table_name = ? AND f_geometry_column = ?"
            self._run(f"DELETE FROM geometry_columns WHERE {where}", (table, column))  # noqa: S608 - `where` stands above
        return 1

    def index(self, table: str, column: str) -> int:
        """Keep an R*Tree of the bounds of a column, beginning with the rows that are there."""
        tree, place = _name(f"idx_{table}_{column}"), _name(column)

        def bounds(row: str) -> str:
            sides = ", ".join(f"{side}({row}{place})" for side in ("ST_XMin", "ST_XMax", "ST_YMin", "ST_YMax"))
            return f"SELECT {row}rowid, {sides}"

        # NULL and empty geometries have no bounds and are found by nobody
        add = f"INSERT INTO {tree} {bounds('new.')} WHERE ST_XMin(new.{place}) IS NOT NULL;"
        remove = f"DELETE FROM {tree} WHERE pkid = old.rowid;"  # noqa: S608 - of names quoted by _name, as all below
        rows = f"{bounds('')} FROM {_name(table)} WHERE ST_XMin({place}) IS NOT NULL"
        self._run(f"CREATE VIRTUAL TABLE IF NOT EXISTS {tree} USING rtree(pkid, xmin, xmax, ymin, ymax)")
        self._run(f"DELETE FROM {tree}")  # noqa: S608
        self._run(f"INSERT INTO {tree} {rows}")
        self._trigger("gii", "AFTER INSERT", table, column, add)
        self._trigger("giu", "AFTER UPDATE", table, column, remove + add)
        self._trigger("gid", "AFTER DELETE", table, column, remove)
        self._note_index(table, column, present=True)
        return 1

    def is_indexed(self, table: str, column: str) -> int | None:
        """1 if there is an R*Tree, else NULL."""
        return 1 if self._exists(f"idx_{table}_{column}") else None

    def stop_indexing(self, table: str, column: str) -> int:
        """Stop keeping the R*Tree; GeoAlchemy2 drops its table itself."""
        self._drop_triggers(("gii", "giu", "gid"), table, column)
        self._note_index(table, column, present=False)
        return 1

    def rename_table(self, _schema: None, old: str, new: str) -> int:
        """Rename a table and what stands beside its geometry columns."""
        columns = self._columns_of(old)
        indexed = [column for column, *_ in columns if self.is_indexed(old, column)]
        self._clear(old, columns)
        self._run(f"ALTER TABLE {_name(old)} RENAME TO {_name(new)}")
        for column, kind, dimension, srid in columns:
            self.declare(new, column, srid, kind, dimension)
        for column in indexed:
            self.index(new, column)
        return 1

    def drop_table(self, _schema: None, table: str) -> int:
        """Drop a table and what stands beside its geometry columns."""
        self._clear(table, self._columns_of(table))
        self._run(f"DROP TABLE {_name(table)}")
        return 1

    def _clear(self, table: str, columns: list[tuple[str, str, str, int]]) -> None:
        for column, *_ in columns:
            self.stop_indexing(table, column)
            self.forget(table, column)
            self._run(f"DROP TABLE IF EXISTS {_name(f'idx_{table}_{column}')}")

    def _columns_of(self, table: str) -> list[tuple[str, str, str, int]]:
        """Column, kind, dimension and SRID of each geometry column of `table`."""
        if not self._knows_columns():
            return []
        spelt = {thousands: name for name, (_, thousands) in DIMENSIONS.items()}
        rows = self._connection.execute(
            "SELECT f_geometry_column, geometry_type, srid FROM geometry_columns WHERE f_table_name = ?", (table,)
        )
        found = rows.fetchall()
        return [(column, KINDS[kind % 1000], spelt[kind // 1000 * 1000], srid) for column, kind, srid in found]

    def _knows_columns(self) -> bool:
        return self._exists("geometry_columns")

    def _exists(self, table: str) -> bool:
        found = self._connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,))
        return found.fetchone() is not None

    def _note_index(self, table: str, column: str, *, present: bool) -> None:
        if self._knows_columns():
            change = "UPDATE geometry_columns SET spatial_index_enabled = ?"
            self._run(f"{change} WHERE f_table_name = ? AND f_geometry_column = ?", (int(present), table, column))

    def _trigger(self, kind: str, when: str, table: str, column: str, body: str) -> None:
        self._drop_triggers((kind,), table, column)
        name = _name(f"{kind}_{table}_{column}")
        self._run(f"CREATE TRIGGER {name} {when} ON {_name(table)} BEGIN {body} END")

    def _drop_triggers(self, kinds: tuple[str, ...], table: str, column: str) -> None:
        for kind in kinds:
            self._run(f"DROP TRIGGER IF EXISTS {_name(f'{kind}_{table}_{column}')}")

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> None:
        self._connection.execute(statement, values).close()


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
