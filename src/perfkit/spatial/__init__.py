"""Distances in metres that use an index, on PostGIS and on SQLite.

    >>> from sqlalchemy import column, select, table
    >>> customers = table("customers", column("name"), column("location"))
    >>> centre = point(24.9414, 60.1719)
    >>> nearby = select(customers.c.name).where(within(customers.c.location, centre, 300))

`perfkit.spatial.lite` makes a plain SQLite answer PostGIS's functions; it is imported by itself, as it needs shapely.
"""

from perfkit.spatial.geodesic import Place
from perfkit.spatial.within import distance_m, geography, length_m, point, within

__all__ = ["Place", "distance_m", "geography", "length_m", "point", "within"]

for _public in (Place, distance_m, geography, length_m, point, within):
    _public.__module__ = __name__
