"""Geometries: GeoAlchemy2's elements as the database sent them, shapely's as extended WKB.

GEOS reads nested collections by calling itself and has no limit: 200,000 headers in 1.8 MB end the process with a
segmentation fault (GEOS 3.14). So the headers of a collection are walked here before shapely sees them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from msgpack import ExtType

from perfkit.codec.scalars import SHAPE, WKB_ELEMENT, WKT_ELEMENT, Reader, Unfit, Writer, ext
from perfkit.errors import MissingExtra

try:
    import shapely
    from geoalchemy2.elements import WKBElement, WKTElement
    from shapely.geometry.base import BaseGeometry
except ImportError as missing:
    package = (missing.name or "shapely").partition(".")[0]
    raise MissingExtra("packing a geometry", package=package, extra="geo") from missing

MAX_NESTING = 16
"""How deep collections may stand in each other; a map needs two."""

_ELEMENT = struct.Struct(">iB")  # srid, and how to read the rest
_NOT_SAID, _PLAIN, _EXTENDED, _TEXT = 0, 1, 2, 4
_KINDS = {None: _NOT_SAID, False: _PLAIN, True: _EXTENDED}
_EXTENDS: Mapping[int, bool | None] = {_NOT_SAID: None, _PLAIN: False, _EXTENDED: True}
_RING, _OPEN = b"r", b"o"


def _write_wkb(value: WKBElement) -> ExtType:
    data = value.data
    if type(data) is str:  # SpatiaLite's habit: hexadecimal
        return ext((WKB_ELEMENT, _ELEMENT.pack(value.srid, _KINDS[value.extended] | _TEXT) + data.encode()))
    if type(data) is bytes:
        return ext((WKB_ELEMENT, _ELEMENT.pack(value.srid, _KINDS[value.extended]) + data))
    raise Unfit(f"its data is a {type(data).__name__}; WKBElement(bytes(element.data), element.srid) can be kept")


def _read_wkb(data: bytes) -> WKBElement:
    srid, kind = _ELEMENT.unpack_from(data)
    rest = data[_ELEMENT.size :]
    made = WKBElement.__new__(WKBElement)
    made.srid, made.extended = srid, _EXTENDS[kind & ~_TEXT]
    made.data = rest.decode("ascii") if kind & _TEXT else rest
    return made


def _write_wkt(value: WKTElement) -> ExtType:
    return ext((WKT_ELEMENT, _ELEMENT.pack(value.srid, _KINDS[value.extended]) + value.data.encode()))


def _read_wkt(data: bytes) -> WKTElement:
    srid, kind = _ELEMENT.unpack_from(data)
    made = WKTElement.__new__(WKTElement)
    made.srid, made.extended, made.data = srid, _EXTENDS[kind], data[_ELEMENT.size :].decode()
    return made


def _write_shape(value: BaseGeometry) -> ExtType:
    # WKB has no word for a ring that stands alone
    mark = _RING if value.geom_type == "LinearRing" else _OPEN
    data = mark + shapely.to_wkb(value, include_srid=True, byte_order=1, flavor="extended")
    try:
        _walk(data, 1, 0)
    except ValueError as unreadable:
        raise Unfit(f"it has {unreadable}") from None
    return ext((SHAPE, data))


def _read_shape(data: bytes) -> BaseGeometry:
    _walk(data, 1, 0)
    shape: BaseGeometry = shapely.from_wkb(data[1:])
    if data[:1] == _RING:
        return shapely.set_srid(shapely.LinearRing(shape.coords), shapely.get_srid(shape))
    return shape


def _walk(data: bytes, at: int, depth: int) -> int:
    """The end of the geometry that starts at `at`.

    Raises:
        ValueError: collections deeper than `MAX_NESTING`, or no such kind of geometry.
        struct.error: the bytes end before the geometry does.
    """
    if depth > MAX_NESTING:
        raise ValueError(f"collections more than {MAX_NESTING} deep")
    order = "<" if data[at] else ">"
    (kind,) = struct.unpack_from(f"{order}I", data, at + 1)
    at += 9 if kind & 0x20000000 else 5
    point_bytes = 8 * (2 + bool(kind & 0x80000000) + bool(kind & 0x40000000))
    kind &= 0x0FFFFFFF
    if kind == 1:
        return at + point_bytes
    (count,) = struct.unpack_from(f"{order}I", data, at)
    at += 4
    if kind == 2:
        return at + int(count) * point_bytes
    if kind == 3:
        for _ in range(count):
            (points,) = struct.unpack_from(f"{order}I", data, at)
            at += 4 + points * point_bytes
        return at
    if 4 <= kind <= 7:
        for _ in range(count):
            at = _walk(data, at, depth + 1)
        return at
    raise ValueError(f"no kind of geometry has the number {kind}")


SHAPES = (
    shapely.Point,
    shapely.LineString,
    shapely.LinearRing,
    shapely.Polygon,
    shapely.MultiPoint,
    shapely.MultiLineString,
    shapely.MultiPolygon,
    shapely.GeometryCollection,
)

WRITERS: Mapping[type, Writer] = {WKBElement: _write_wkb, WKTElement: _write_wkt, **dict.fromkeys(SHAPES, _write_shape)}
READERS: Mapping[int, Reader] = {WKB_ELEMENT: _read_wkb, WKT_ELEMENT: _read_wkt, SHAPE: _read_shape}
