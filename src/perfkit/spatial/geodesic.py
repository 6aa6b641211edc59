"""Metres on the WGS84 ellipsoid.

Between two points: the inverse formula of T. Vincenty, "Direct and inverse solutions of geodesics on the ellipsoid with
application of nested equations", Survey Review 23 (1975), equations 13 to 19. PostGIS solves the same problem after
Karney; they agree to 0.1 mm (tests/spatial/test_postgis_agrees.py). Between nearly opposite points the iteration does
not settle; there the answer is a great circle's on the mean sphere, at most 0.6 % off.

From a point to a line: the nearest point is looked for along great circles, as PostGIS's geography does, and the
distance to it is then the ellipsoid's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

EQUATOR_M = 6_378_137.0
FLATTENING = 1 / 298.257223563
POLE_M = EQUATOR_M * (1 - FLATTENING)
MEAN_M = (2 * EQUATOR_M + POLE_M) / 3

_SETTLED = 1e-12  # radians of longitude: 6 µm on the equator
_ROUNDS = 50  # two points a degree from opposite settle within 20

_SLACK = 1e-9  # degrees, 0.1 mm: SQLite's R*Tree does not round numbers below 1e-38 outwards
_SHORTEST_DEGREE_M = 110_574.0  # of latitude, at the equator
_DEGREE_OF_LONGITUDE_M = 111_319.0  # at the equator; elsewhere times the cosine of the latitude, or a little more


class Place(NamedTuple):
    """A point on Earth in degrees."""

    lon: float
    lat: float


@dataclass(frozen=True, slots=True)
class Box:
    """Bounds in degrees; `west` is never east of `east`."""

    west: float
    south: float
    east: float
    north: float


def metres_between(one: Place, other: Place) -> float:
    """The length of the shortest way between two points along the surface.

    >>> round(metres_between(Place(24.9414, 60.1719), Place(24.6559, 60.2055)))
    16276
    """
    if one == other:
        return 0.0
    # names as in the paper: U reduced latitude, λ difference in longitude on the auxiliary sphere, σ angular distance,
    # α azimuth of the geodesic at the equator, σm half-way point
    difference = math.radians(other.lon - one.lon)
    sin_u1, cos_u1 = _reduced(one.lat)
    sin_u2, cos_u2 = _reduced(other.lat)
    lam = difference
    for _ in range(_ROUNDS):
        sin_lam, cos_lam = math.sin(lam), math.cos(lam)
        sin_sigma = math.hypot(cos_u2 * sin_lam, cos_u1 * sin_u2 - sin_u1 * cos_u2 * cos_lam)
        if sin_sigma == 0.0:
            break  # the same place under two longitudes, or exactly opposite places
        cos_sigma = sin_u1 * sin_u2 + cos_u1 * cos_u2 * cos_lam
        sigma = math.atan2(sin_sigma, cos_sigma)
        sin_alpha = cos_u1 * cos_u2 * sin_lam / sin_sigma
        cos2_alpha = 1.0 - sin_alpha * sin_alpha
        cos_2m = cos_sigma - 2.0 * sin_u1 * sin_u2 / cos2_alpha if cos2_alpha > 0.0 else 0.0
        c = FLATTENING / 16.0 * cos2_alpha * (4.0 + FLATTENING * (4.0 - 3.0 * cos2_alpha))
        bend = sigma + c * sin_sigma * (cos_2m + c * cos_sigma * (2.0 * cos_2m * cos_2m - 1.0))
        last, lam = lam, difference + (1.0 - c) * FLATTENING * sin_alpha * bend
        if abs(lam - last) < _SETTLED:
            return _along(sigma, sin_sigma, cos_sigma, cos2_alpha, cos_2m)
    return MEAN_M * _angle_between(one, other)


def _reduced(lat: float) -> tuple[float, float]:
    """Sine and cosine of the reduced latitude."""
    reduced = math.atan((1.0 - FLATTENING) * math.tan(math.radians(lat)))
    return math.sin(reduced), math.cos(reduced)


def _along(sigma: float, sin_sigma: float, cos_sigma: float, cos2_alpha: float, cos_2m: float) -> float:
    """Equations 3, 4, 6 and 19: an angle on the auxiliary sphere as metres on the ellipsoid."""
    u2 = cos2_alpha * (EQUATOR_M**2 - POLE_M**2) / POLE_M**2
    a = 1.0 + u2 / 16384.0 * (4096.0 + u2 * (u2 * (320.0 - 175.0 * u2) - 768.0))
    b = u2 / 1024.0 * (256.0 + u2 * (u2 * (74.0 - 47.0 * u2) - 128.0))
    last = b / 6.0 * cos_2m * (4.0 * sin_sigma * sin_sigma - 3.0) * (4.0 * cos_2m * cos_2m - 3.0)
    delta = b * sin_sigma * (cos_2m + b / 4.0 * (cos_sigma * (2.0 * cos_2m * cos_2m - 1.0) - last))
    return POLE_M * a * (sigma - delta)


def _angle_between(one: Place, other: Place) -> float:
    """The angle at the centre of a sphere, by the haversine formula."""
    lat1, lat2 = math.radians(one.lat), math.radians(other.lat)
    half_lon = math.sin(math.radians(other.lon - one.lon) / 2.0)
    haversine = math.sin((lat2 - lat1) / 2.0) ** 2 + math.cos(lat1) * math.cos(lat2) * half_lon**2
    return 2.0 * math.asin(min(1.0, math.sqrt(haversine)))


def reach(centre: Place, metres: float) -> Box:
    """Bounds that hold every point within `metres` of `centre`, and some more.

    Across the 180th meridian or around a pole they go all the way round.

        >>> reach(Place(24.94, 60.17), 1000.0)
        Box(west=24.92..., south=60.16..., east=24.95..., north=60.17...)
    """
    up = metres / _SHORTEST_DEGREE_M + _SLACK
    south, north = centre.lat - up, centre.lat + up
    highest = max(-south, north)
    if highest >= 90.0:
        return Box(-180.0, max(south, -90.0), 180.0, min(north, 90.0))
    # widest where it is nearest to a pole
    sideways = metres / (_DEGREE_OF_LONGITUDE_M * math.cos(math.radians(highest))) + _SLACK
    west, east = centre.lon - sideways, centre.lon + sideways
    if west < -180.0 or east > 180.0:
        west, east = -180.0, 180.0
    return Box(west, south, east, north)
