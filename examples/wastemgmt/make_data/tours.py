"""Who is visited when, and along which streets.

Four haulers share the city from west to east; each has three tours on each weekday, for neighbours. A tour visits
the nearest customer next and drives the shortest way between two; no optimum, and much like what people do.
The tours are kept rather than planned at each seeding: planning takes longer than all the rest of it.
"""

from __future__ import annotations

import heapq
import math
from typing import Any

from make_data.extract import City

HAULERS, WEEKDAYS, TOURS_A_DAY = 4, 5, 3
METRES_PER_DEGREE = 111_195.0


def plan(city: City) -> list[dict[str, Any]]:
    """One tour after another: hauler, weekday, customers in the order of their visit, street nodes, length."""
    streets = Streets(city)
    doors = [streets.nearest(lon, lat) for *_, lon, lat in city.businesses]
    tours = []
    west_to_east = sorted(range(len(doors)), key=lambda i: (city.businesses[i][-2], i))
    for hauler in range(HAULERS):
        own = _share(west_to_east, hauler, HAULERS)
        south_to_north = sorted(own, key=lambda i: (city.businesses[i][-1], i))
        for tour in range(WEEKDAYS * TOURS_A_DAY):
            customers = _share(south_to_north, tour, WEEKDAYS * TOURS_A_DAY)
            order, path, metres = streets.tour(customers, doors)
            tours.append(
                {
                    "hauler": hauler,
                    "weekday": tour % WEEKDAYS,
                    "customers": order,
                    "path": path,
                    "length_m": round(metres, 1),
                }
            )
    return tours


def _share(things: list[int], part: int, parts: int) -> list[int]:
    return things[len(things) * part // parts : len(things) * (part + 1) // parts]


class Streets:
    """The streets as a graph; both directions are open to a waste truck."""

    def __init__(self, city: City) -> None:
        self._nodes = city.nodes
        self._beside: list[list[tuple[int, float]]] = [[] for _ in city.nodes]
        for a, b in city.edges:
            metres = _metres(city.nodes[a], city.nodes[b])
            self._beside[a].append((b, metres))
            self._beside[b].append((a, metres))

    def nearest(self, lon: float, lat: float) -> int:
        """The node nearest to a door."""
        return min(range(len(self._nodes)), key=lambda node: (_metres(self._nodes[node], (lon, lat)), node))

    def tour(self, customers: list[int], doors: list[int]) -> tuple[list[int], list[int], float]:
        """The customers in the order of their visit, the nodes on the way, and its length."""
        left = customers[1:]
        order, path, metres = [customers[0]], [doors[customers[0]]], 0.0
        while left:
            reached, before = self._ways_from(path[-1])
            following = min(left, key=lambda customer: (reached[doors[customer]], customer))
            left.remove(following)
            order.append(following)
            metres += reached[doors[following]]
            path += _way(before, doors[following])
        return order, path, metres

    def _ways_from(self, start: int) -> tuple[dict[int, float], dict[int, int]]:
        """Dijkstra: metres to each node, and the node before it."""
        reached, before = {start: 0.0}, {}
        ahead = [(0.0, start)]
        while ahead:
            metres, here = heapq.heappop(ahead)
            if metres > reached[here]:
                continue
            for there, more in self._beside[here]:
                if metres + more < reached.get(there, math.inf):
                    reached[there], before[there] = metres + more, here
                    heapq.heappush(ahead, (metres + more, there))
        return reached, before


def _way(before: dict[int, int], to: int) -> list[int]:
    way: list[int] = []
    while to in before:
        way.append(to)
        to = before[to]
    return way[::-1]


def _metres(one: tuple[float, float], other: tuple[float, float]) -> float:
    east = (one[0] - other[0]) * math.cos(math.radians(one[1]))
    return math.hypot(east, one[1] - other[1]) * METRES_PER_DEGREE
