"""PostGIS's functions on EWKB bytes, in Python: what `lite` registers with SQLite.

A geometry is little-endian extended WKB with its SRID, as PostGIS sends it. NULL in, NULL out. Distances and lengths
are metres on the ellipsoid, as PostGIS answers for geography; there is no planar distance here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from perfkit.errors import GeometryError, MissingExtra
from perfkit.spatial.geodesic import Place, metres_between, reach

try:
    import shapely
    from shapely.geometry.base import BaseGeometry

    from perfkit.spatial.nearest import Figure, distance_m, length_m
except ImportError as missing:
    raise MissingExtra("perfkit.spatial.lite", package="shapely", extra="geo") from missing

Function = Callable[..., Any]
Blob = bytes

EARTH = 4326
SRIDS_WITH_METRES = (EARTH, 0)  # PostGIS takes an unknown SRID for this one too

_EWKT = re.compile(r"\s*(?:SRID\s*=\s*(\d+)\s*;)?(.*)", re.DOTALL | re.IGNORECASE)
_POINT = struct.Struct("<BIIdd")
_POINT_WITH_SRID = 0x20000001
_WHOLE_NUMBER = re.compile(r"\.0(?=[,\]])")  # GEOS writes 60.0, PostGIS 60
_SPACE_BEFORE_COORDINATES = re.compile(r"(?<![ ][ZM])(?<!ZM) \(")


def _from_text(text: str, srid: int | None = None) -> Blob:
    """WKT or EWKT as a geometry; `srid` where the text names none."""
    found = _EWKT.fullmatch(text)
    named, wkt = found.groups() if found else (None, text)
    try:
        shape = shapely.from_wkt(wkt)
    except shapely.errors.ShapelyError as trouble:
        raise GeometryError(f"{_short(text)} is no WKT: {trouble}") from trouble
    return _blob(shape, int(named) if named else srid or 0)


def _from_binary(data: Blob | str, srid: int | None = None) -> Blob:
    """WKB or EWKB, or its hexadecimal, as a geometry."""
    try:
        shape = shapely.from_wkb(data)
    except shapely.errors.ShapelyError as trouble:
        raise GeometryError(f"{len(data)} bytes are no WKB: {trouble}") from trouble
    return _blob(shape, srid if srid is not None else int(shapely.get_srid(shape)))


def _blob(shape: BaseGeometry, srid: int) -> Blob:
    placed = shapely.set_srid(shape, srid)
    blob: Blob = shapely.to_wkb(placed, include_srid=srid != 0, byte_order=1, flavor="extended")
    return blob


@lru_cache(maxsize=2048)
def figure_of(blob: Blob) -> Figure:
    """The shape of a stored geometry, kept because a query measures the same ones again and again."""
    try:
        return Figure(shapely.from_wkb(blob))
    except (shapely.errors.ShapelyError, TypeError) as trouble:
        raise GeometryError(f"a geometry was expected, found {_short(blob)}: {trouble}") from trouble


def _shape(blob: Blob) -> BaseGeometry:
    return figure_of(blob).shape


def _srid(blob: Blob) -> int:
    return int(shapely.get_srid(_shape(blob)))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}…"


def _as_text(blob: Blob) -> str:
    wkt = shapely.to_wkt(_shape(blob), rounding_precision=15, trim=True)
    return _SPACE_BEFORE_COORDINATES.sub("(", wkt).replace(", ", ",")


def _as_ewkt(blob: Blob) -> str:
    srid = _srid(blob)
    return f"SRID={srid};{_as_text(blob)}" if srid else _as_text(blob)


def _as_binary(blob: Blob) -> Blob:
    plain: Blob = shapely.to_wkb(_shape(blob), include_srid=False, byte_order=1, flavor="iso")
    return plain


def _as_geojson(blob: Blob, digits: int = 9) -> str:
    shape = _shape(blob)
    rounded = shapely.transform(shape, lambda degrees: degrees.round(digits), include_z=bool(shape.has_z))
    return _WHOLE_NUMBER.sub("", str(shapely.to_geojson(rounded)))


def _point(x: float, y: float, srid: int = 0) -> Blob:
    return _blob(shapely.Point(x, y), srid)


def place_of(blob: Blob) -> Place | None:
    """Where a point is, without making a shape of it; None for anything else."""
    if type(blob) is bytes and len(blob) == _POINT.size:
        order, kind, srid, lon, lat = _POINT.unpack(blob)
        if order == 1 and kind == _POINT_WITH_SRID and srid in SRIDS_WITH_METRES and lon == lon:
            return _on_earth(Place(lon, lat), "a point")
    return None


def _on_earth(place: Place, what: str) -> Place:
    if not (-90.0 <= place.lat <= 90.0 and -360.0 <= place.lon <= 360.0):
        raise GeometryError(f"{what} at longitude {place.lon}, latitude {place.lat} is not on Earth: are they swapped?")
    return place


def metres(one: Blob, other: Blob) -> float | None:
    """The distance between two geometries; None if one of them is empty."""
    here, there = place_of(one), place_of(other)
    if here is not None and there is not None:
        return metres_between(here, there)
    return distance_m(_with_metres(one), _with_metres(other))


def _with_metres(blob: Blob) -> Figure:
    figure, srid = figure_of(blob), _srid(blob)
    if srid not in SRIDS_WITH_METRES:
        raise GeometryError(f"metres need longitude and latitude (SRID {EARTH}); this geometry has SRID {srid}")
    for lon, lat in shapely.get_coordinates(shapely.envelope(figure.shape)).tolist():
        _on_earth(Place(lon, lat), f"a {figure.shape.geom_type}")
    return figure


def _near(one: Blob, other: Blob, limit: float) -> bool | None:
    if limit < 0:
        raise GeometryError(f"a distance of {limit} metres: it cannot be negative")
    found = metres(one, other)
    return None if found is None else found <= limit


def _length(blob: Blob) -> float:
    return length_m(_with_metres(blob).shape)


def _reach(side: str) -> Function:
    """One side of the bounds within which everything near a geometry must lie."""

    def bound(blob: Blob, limit: float) -> float | None:
        if limit < 0:
            raise GeometryError(f"a distance of {limit} metres: it cannot be negative")
        shape = _with_metres(blob).shape
        if shape.is_empty:
            return None
        west, south, east, north = map(float, shape.bounds)
        corners = [reach(Place(lon, lat), limit) for lon in (west, east) for lat in (south, north)]
        sides: list[float] = [getattr(box, side) for box in corners]
        return min(sides) if side in ("west", "south") else max(sides)

    return bound


def _bound(number: int) -> Function:
    def bound(blob: Blob) -> float | None:
        shape = _shape(blob)
        return None if shape.is_empty else float(shape.bounds[number])

    return bound


def _coordinate(name: str) -> Function:
    def coordinate(blob: Blob) -> float | None:
        place = place_of(blob)
        if place is not None:
            return place.lon if name == "x" else place.lat
        shape = _shape(blob)
        if shape.geom_type != "Point":
            raise GeometryError(f"ST_{name.upper()} needs a point, found a {shape.geom_type}")
        return None if shape.is_empty else float(getattr(shape, name))

    return coordinate


def _relation(test: Function) -> Function:
    def relation(one: Blob, other: Blob) -> bool:
        if _srid(one) != _srid(other):
            raise GeometryError(f"two geometries with SRIDs {_srid(one)} and {_srid(other)}: give both the same")
        return bool(test(_shape(one), _shape(other)))

    return relation


def _made_of(make: Function) -> Function:
    """A function from shape to shape, which keeps the SRID."""
    return lambda blob: None if (made := make(_shape(blob))) is None else _blob(made, _srid(blob))


def _envelope(shape: BaseGeometry) -> BaseGeometry:
    flat: BaseGeometry = shapely.envelope(shape)
    return _box(*shape.bounds) if flat.geom_type == "Polygon" else flat


def _box(west: float, south: float, east: float, north: float) -> BaseGeometry:
    """A rectangle, its corners in PostGIS's order."""
    return shapely.Polygon([(west, south), (west, north), (east, north), (east, south)])


def _end(number: int) -> Function:
    return _made_of(lambda line: shapely.get_point(line, number))


def fits(blob: Blob, kind: str, srid: int) -> bool:
    """May a column declared as Geometry(kind, srid) hold this?"""
    shape = _shape(blob)
    wanted = kind.upper().removesuffix("M").removesuffix("Z")
    return wanted in ("GEOMETRY", shape.geom_type.upper()) and srid in (-1, 0, _srid(blob))


FUNCTIONS: Mapping[tuple[str, int], Function] = {
    ("ST_GeomFromEWKT", 1): _from_text,
    ("ST_GeomFromText", 1): _from_text,
    ("ST_GeomFromText", 2): _from_text,
    ("ST_GeomFromEWKB", 1): _from_binary,
    ("ST_GeomFromEWKB", 2): _from_binary,
    ("ST_GeomFromWKB", 1): _from_binary,
    ("ST_GeomFromWKB", 2): _from_binary,
    ("ST_AsEWKB", 1): lambda blob: blob,
    ("ST_AsBinary", 1): _as_binary,
    ("ST_AsText", 1): _as_text,
    ("ST_AsEWKT", 1): _as_ewkt,
    ("ST_AsGeoJSON", 1): _as_geojson,
    ("ST_AsGeoJSON", 2): _as_geojson,
    ("ST_Point", 2): _point,
    ("ST_Point", 3): _point,
    ("ST_MakePoint", 2): _point,
    ("ST_MakeEnvelope", 4): lambda *bounds: _blob(_box(*bounds), 0),
    ("ST_MakeEnvelope", 5): lambda *bounds: _blob(_box(*bounds[:4]), bounds[4]),
    ("ST_SetSRID", 2): lambda blob, srid: _blob(_shape(blob), srid),
    ("ST_SRID", 1): _srid,
    ("ST_GeometryType", 1): lambda blob: f"ST_{_shape(blob).geom_type}",
    ("ST_IsEmpty", 1): lambda blob: _shape(blob).is_empty,
    ("ST_NPoints", 1): lambda blob: int(shapely.get_num_coordinates(_shape(blob))),
    ("ST_StartPoint", 1): _end(0),
    ("ST_EndPoint", 1): _end(-1),
    ("ST_Envelope", 1): _made_of(_envelope),
    ("ST_X", 1): _coordinate("x"),
    ("ST_Y", 1): _coordinate("y"),
    ("ST_XMin", 1): _bound(0),
    ("ST_YMin", 1): _bound(1),
    ("ST_XMax", 1): _bound(2),
    ("ST_YMax", 1): _bound(3),
    ("ST_Intersects", 2): _relation(shapely.intersects),
    ("ST_Disjoint", 2): _relation(shapely.disjoint),
    ("ST_Contains", 2): _relation(shapely.contains),
    ("ST_Within", 2): _relation(shapely.within),
    ("ST_Covers", 2): _relation(shapely.covers),
    ("ST_CoveredBy", 2): _relation(shapely.covered_by),
    ("ST_Touches", 2): _relation(shapely.touches),
    ("ST_Crosses", 2): _relation(shapely.crosses),
    ("ST_Overlaps", 2): _relation(shapely.overlaps),
    ("ST_Equals", 2): _relation(shapely.equals),
    ("ST_Distance", 2): metres,
    ("ST_DWithin", 3): _near,
    ("ST_Length", 1): _length,
    ("perfkit_reach_west", 2): _reach("west"),
    ("perfkit_reach_south", 2): _reach("south"),
    ("perfkit_reach_east", 2): _reach("east"),
    ("perfkit_reach_north", 2): _reach("north"),
    ("perfkit_fits", 3): fits,
}
"""By name and number of arguments."""

SPATIALITE_NAMES: Mapping[str, str] = {
    "GeomFromEWKT": "ST_GeomFromEWKT",
    "GeomFromText": "ST_GeomFromText",
    "GeomFromEWKB": "ST_GeomFromEWKB",
    "GeomFromWKB": "ST_GeomFromWKB",
    "AsEWKB": "ST_AsEWKB",
    "AsBinary": "ST_AsBinary",
    "AsText": "ST_AsText",
    "AsEWKT": "ST_AsEWKT",
    "AsGeoJSON": "ST_AsGeoJSON",
}
"""What GeoAlchemy2 calls some of them on SQLite, as SpatiaLite does."""
