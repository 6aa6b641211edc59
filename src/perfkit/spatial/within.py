"""SQL constructs whose unit is the metre and which use the index that is there.

On PostGIS a geometry in degrees has to be cast to `geography`, and an index serves only the very cast it was made with.
GeoAlchemy2's `cast(column, Geography)` writes `geography(GEOMETRY,-1)`, which is another one: 20,000 rows were scanned
in 57 to 129 ms where the index takes 0.4 ms. `geography(column)` writes the plain cast, here and in the index:

    Index("ix_bins_geography", geography(Bin.location), postgresql_using="gist").ddl_if(dialect="postgresql")

On SQLite, with `perfkit.spatial.lite`, the R*Tree that GeoAlchemy2 makes beside a column with `spatial_index=True`
gives the candidates, and each is measured.
"""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import Alias, Boolean, Column, ColumnElement, Float, Table, func, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import QueryableAttribute
from sqlalchemy.sql import operators
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType

from perfkit.errors import GeometryError
from perfkit.spatial.geodesic import Place

Located = Place | ColumnElement[Any] | QueryableAttribute[Any]
"""A place, or a column or expression of type Geometry with SRID 4326."""

SRID = 4326


def point(lon: float, lat: float) -> Place:
    """The place at these degrees of WGS84: longitude first, as PostGIS and GeoJSON have it.

        >>> point(24.9414, 60.1719)
        Place(lon=24.9414, lat=60.1719)

    Raises:
        GeometryError: not on Earth; often the two are swapped.
    """
    if not (-180 <= lon <= 180 and -90 <= lat <= 90):
        raise GeometryError(f"point(lon={lon!r}, lat={lat!r}) is not on Earth: degrees, longitude first.")
    return Place(float(lon), float(lat))


def within(located: Located, near: Located, metres: float | ColumnElement[Any]) -> ColumnElement[bool]:
    """True where `located` is at most `metres` from `near`, along the surface of the Earth; NULL where either is NULL.

    Write the column that has the index first. For a line the nearest point of it counts.

        >>> from sqlalchemy import column, table
        >>> from sqlalchemy.dialects import postgresql
        >>> near = within(table("bins", column("location")).c.location, point(24.9, 60.2), 300)
        >>> print(near.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}))
        ST_DWithin(CAST(bins.location AS geography),
                   CAST(ST_SetSRID(ST_MakePoint(24.9, 60.2), 4326) AS geography), 300.0)

    Raises:
        GeometryError: `metres` is negative or no number.
    """
    if isinstance(metres, int | float) and not 0 <= metres < math.inf:
        raise GeometryError(f"within {metres!r} metres: a distance is a number from 0.")
    limit = literal(float(metres), Float) if isinstance(metres, int | float) else metres
    return _Within(_expression(located), _expression(near), limit)


def distance_m(one: Located, other: Located) -> ColumnElement[float]:
    """Metres between the nearest points of two geometries, along the surface of the Earth; NULL where either is NULL.

    Uses no index: order by it what `within` has found.
    """
    return func.ST_Distance(geography(one), geography(other), type_=Float)


def length_m(line: Located) -> ColumnElement[float]:
    """The length of a line in metres, along the surface of the Earth."""
    return func.ST_Length(geography(line), type_=Float)


def geography(located: Located) -> ColumnElement[Any]:
    """`located` as PostGIS's plain `geography`, to query by and to index by; on SQLite as it is."""
    return _Geography(_expression(located))


class _Geography(FunctionElement[Any]):
    inherit_cache = True
    name = "geography"
    type = NullType()


class _Within(FunctionElement[bool]):
    """`ST_DWithin`, with candidates from an R*Tree where the dialect needs to be told."""

    inherit_cache = True
    name = "perfkit_within"
    type = Boolean()

    def operate(self, op: Any, *other: Any, **kwargs: Any) -> Any:
        """`~within(…)` asks for what the index has not: every row is measured, and NULL stays NULL."""
        if op is operators.inv:
            return _Measured(*self.clauses).operate(op)
        return super().operate(op, *other, **kwargs)

    def self_group(self, against: Any = None) -> Any:
        """Itself: SQLAlchemy would write `(…) = 1` for SQLite, and that hides the index."""
        return self


class _Measured(FunctionElement[bool]):
    """`ST_DWithin` of every row."""

    inherit_cache = True
    name = "perfkit_measured"
    type = Boolean()


def _expression(located: Located) -> Any:
    if isinstance(located, Place):
        lon, lat = literal(located.lon, Float), literal(located.lat, Float)
        return func.ST_SetSRID(func.ST_MakePoint(lon, lat), SRID, type_=NullType())
    return located


@compiles(_Geography)
def _geography_postgis(element: _Geography, compiler: SQLCompiler, **kwargs: Any) -> str:
    (located,) = element.clauses
    return f"CAST({compiler.process(located, **kwargs)} AS geography)"


@compiles(_Geography, "sqlite")
def _geography_sqlite(element: _Geography, compiler: SQLCompiler, **kwargs: Any) -> str:
    (located,) = element.clauses
    return compiler.process(located, **kwargs)


@compiles(_Within)
@compiles(_Measured)
@compiles(_Measured, "sqlite")
def _measured(element: FunctionElement[bool], compiler: SQLCompiler, **kwargs: Any) -> str:
    located, near, metres = element.clauses
    return compiler.process(func.ST_DWithin(geography(located), geography(near), metres), **kwargs)


@compiles(_Within, "sqlite")
def _within_sqlite(element: _Within, compiler: SQLCompiler, **kwargs: Any) -> str:
    located, near, metres = element.clauses
    measured = _measured(element, compiler, **kwargs)
    index = _r_tree_of(located)
    if index is None:
        return measured
    name = compiler.process(located, **kwargs)
    rowid = f"{name.rpartition('.')[0]}.rowid" if "." in name else "rowid"
    quoted = compiler.preparer.quote_identifier(index)
    west, south, east, north = (
        compiler.process(reach(near, metres), **kwargs)
        for reach in (
            func.perfkit_reach_west,
            func.perfkit_reach_south,
            func.perfkit_reach_east,
            func.perfkit_reach_north,
        )
    )
    # SQLite reads the tree once, finds the rows by rowid, and only then measures
    bounds = f"xmax >= {west} AND xmin <= {east} AND ymax >= {south} AND ymin <= {north}"
    candidates = f"SELECT pkid FROM {quoted} WHERE {bounds}"  # noqa: S608 - names quoted by the dialect
    return f"({rowid} IN ({candidates}) AND {measured})"


def _r_tree_of(located: ColumnElement[Any]) -> str | None:
    """The name of the R*Tree beside a column of a table or of an alias of one; None if there is none to use."""
    home = getattr(located, "table", None)
    table = home.element if isinstance(home, Alias) else home
    if not isinstance(table, Table) or not getattr(located.type, "spatial_index", False):
        return None
    (column,) = located.base_columns
    return f"idx_{table.name}_{column.name}" if isinstance(column, Column) else None
