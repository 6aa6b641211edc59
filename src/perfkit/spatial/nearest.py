"""Distances and lengths of shapes, in metres: what PostGIS answers for geography.

Every shape is taken as the arcs of great circles between its vertices. They differ from straight lines on a map by
metres: an edge of 10 km along a parallel of Helsinki bulges by 3.4 m. A point is an arc of no length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from perfkit.spatial.geodesic import Place, metres_between

_OF_PARTS = ("MultiPoint", "MultiLineString", "MultiPolygon", "GeometryCollection")

Vectors = np.ndarray[tuple[int, int], np.dtype[np.float64]]


class Arcs(NamedTuple):
    """Edges on a sphere of radius 1, one per row, with the planes that a foot on the edge must lie between."""

    starts: Vectors
    ends: Vectors
    normals: Vectors
    after_start: Vectors
    before_end: Vectors


@dataclass(frozen=True)
class Figure:
    """A shape, and what its distances are measured from."""

    shape: BaseGeometry

    @cached_property
    def vertices(self) -> Vectors:
        """In degrees."""
        return np.asarray(shapely.get_coordinates(self.shape))

    @cached_property
    def arcs(self) -> Arcs:
        """Its edges."""
        return _arcs(self.shape)

    @cached_property
    def surfaces(self) -> list[Arcs]:
        """The edges of each of its polygons."""
        return [_arcs(polygon) for polygon in _polygons(self.shape)]


def distance_m(one: Figure, other: Figure) -> float | None:
    """The distance between the nearest points of two shapes; None if one of them is empty."""
    if one.shape.is_empty or other.shape.is_empty:
        return None
    sides = [(one, other), (other, one)]
    alone = [(here, there) for here, there in sides if len(here.vertices) == 1]
    if any(_is_inside(here, there) for here, there in sides) or (not alone and _crosses(one.arcs, other.arcs)):
        return 0.0
    # the ends of arcs are looked at too, so a single point need not be measured from the other side again
    # PostGIS rounds to ten nanometres too
    return round(min(_from_vertices(here, there) for here, there in alone[:1] or sides), 8)


def length_m(shape: BaseGeometry) -> float:
    """The length of the lines in `shape`; points and surfaces have none."""
    if shape.geom_type in ("Point", "MultiPoint", "Polygon", "MultiPolygon"):
        return 0.0
    if shape.geom_type in _OF_PARTS:
        return sum(map(length_m, shapely.get_parts(shape).tolist()))
    vertices = [Place(lon, lat) for lon, lat in shapely.get_coordinates(shape).tolist()]
    return sum(metres_between(one, other) for one, other in pairwise(vertices))


def _from_vertices(one: Figure, other: Figure) -> float:
    """The distance from that vertex of `one` which is nearest to `other`."""
    vertices = zip(one.vertices, _unit(one.vertices), strict=True)
    return min(_from_vertex(vertex, vector, other.arcs) for vertex, vector in vertices)


def _from_vertex(vertex: Any, vector: Any, arcs: Arcs) -> float:
    """To the foot of the perpendicular where it falls on an arc, else to the nearest end."""
    ends = np.concatenate([arcs.starts, arcs.ends])
    to_ends = np.square(ends - vector).sum(axis=1)
    nearest, chord = ends[int(np.argmin(to_ends))], to_ends.min()
    height = arcs.normals @ vector  # nan for an arc of no length, which compares as outside
    on_arc = (arcs.after_start @ vector >= 0) & (arcs.before_end @ vector >= 0)
    # the square of the chord, as for the ends, without the difference of two numbers near 1
    to_feet = np.where(on_arc, 2 * height**2 / (1 + np.sqrt(np.maximum(0, 1 - height**2))), np.inf)
    if to_feet.min() < chord:
        arc = int(np.argmin(to_feet))
        nearest = vector - height[arc] * arcs.normals[arc]
    return metres_between(Place(*vertex.tolist()), _place(nearest))


def _crosses(one: Arcs, other: Arcs) -> bool:
    """True if an arc of one passes through an arc of the other; touching is left to measuring."""
    return bool(_crossings(one, other).any())


def _crossings(one: Arcs, other: Arcs) -> Any:
    """Which arcs of `one`, row by row, cross which of `other`.

    Two arcs cross if the ends of each lie on both sides of the plane of the other, and not across the globe.
    """
    ours = (one.starts @ other.normals.T >= 0) != (one.ends @ other.normals.T >= 0)
    theirs = (one.normals @ other.starts.T >= 0) != (one.normals @ other.ends.T >= 0)
    return ours & theirs & ((one.starts + one.ends) @ (other.starts + other.ends).T > 0)


def _is_inside(one: Figure, other: Figure) -> bool:
    """True if the first vertex of a part of `one` lies in a polygon of `other`.

    Seen from inside, a way out to somewhere outside crosses the edges an odd number of times.
    """
    if not other.surfaces:
        return False
    west, south, east, north = map(float, other.shape.bounds)
    outside = (west - (east - west) / 3 - 0.1, (south + north) / 2 + 0.0123)
    parts = [part for part in shapely.get_parts(one.shape).tolist() if not part.is_empty]
    for part in parts:
        ways = _arcs(shapely.LineString([tuple(shapely.get_coordinates(part)[0].tolist()), outside]))
        if any(np.count_nonzero(_crossings(ways, surface)) % 2 for surface in other.surfaces):
            return True
    return False


def _polygons(shape: BaseGeometry) -> Iterator[BaseGeometry]:
    if shape.geom_type == "Polygon" and not shape.is_empty:
        yield shape
    elif shape.geom_type in _OF_PARTS:
        for part in shapely.get_parts(shape).tolist():
            yield from _polygons(part)


def _arcs(shape: BaseGeometry) -> Arcs:
    starts, ends = (_unit(np.concatenate(side)) for side in zip(*_edges(shape), strict=True))
    normals = np.cross(starts, ends)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.divide(normals, lengths, out=np.full_like(normals, np.nan), where=lengths > 0)
    return Arcs(starts, ends, normals, np.cross(normals, starts), np.cross(ends, normals))


def _edges(shape: BaseGeometry) -> Iterator[tuple[Vectors, Vectors]]:
    """Where the edges of `shape` start and where they end, in degrees."""
    if shape.geom_type in _OF_PARTS or shape.geom_type == "Polygon":
        parts = shapely.get_rings(shape) if shape.geom_type == "Polygon" else shapely.get_parts(shape)
        for part in parts.tolist():
            yield from _edges(part)
    elif not shape.is_empty:
        vertices = shapely.get_coordinates(shape)
        yield (vertices, vertices) if len(vertices) == 1 else (vertices[:-1], vertices[1:])


def _unit(degrees: Vectors) -> Vectors:
    """Vectors of length 1 from the centre of a sphere."""
    lon, lat = np.radians(degrees).T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def _place(vector: Any) -> Place:
    x, y, z = vector.tolist()
    return Place(float(np.degrees(np.arctan2(y, x))), float(np.degrees(np.arctan2(z, np.hypot(x, y)))))
